"""The stacking faults of fcc crystals: energies of the intrinsic fault and of the slip that leads to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any

import numpy as np
from ase import Atoms, units
from numpy.typing import NDArray

from mlcalc.ground.warn import warn

from .. import checks, plotting
from ..crystals.kinds import dressed, site_kinds
from ..crystals.perfection import Perfection, offers_stress
from ..crystals.symmetry import SYMPREC, spacegroup_name, symmetry
from ..crystals.vacuum import check_bulk
from ..errors import ConfigError, PhysicsWarning
from ..evaluator import Evaluate, Evaluator
from ..relaxation.outcome import Relaxation
from ..results import Arrays, Quantity, Result
from .settings import DefectSettings

Array = NDArray[np.float64]
MJ_PER_M2 = 1e-3 * units.J / units.m**2  # in eV/Å^2
_FCC = 225  # space group


@dataclass(frozen=True, eq=False, repr=False)
class StackingFault(Result):
    """Energies of an fcc crystal whose halves have slipped along <112> on a (111) plane."""

    kind = "stacking_fault"

    slips: Annotated[
        Array,
        Quantity("in units of the partial Burgers vector a/6 <112>: 0 perfect, 1 the intrinsic fault", shape="(P,)"),
    ]
    unrelaxed: Annotated[Array, Quantity("energies", "eV/Å^2", "(P,)")]
    relaxed: Annotated[
        Array | None,
        Quantity("with planes free along their normal; None, as the next, if not relaxed", "eV/Å^2", "(P,)"),
    ]
    each_converged: Annotated[NDArray[np.bool_] | None, Quantity("whether a slip's relaxation has", shape="(P,)")]
    n_layers: Annotated[int, Quantity("(111) planes in the cell, which holds one fault")]
    a: Annotated[float, Quantity("lattice parameter", "Å")]
    area: Annotated[float, Quantity("of the fault", "Å^2")]
    fmax: Annotated[float, Quantity("target of the relaxations", "eV/Å")]
    perfect_max_force: Annotated[float, Quantity("in the perfect crystal", "eV/Å")]
    perfect_max_stress_GPa: Annotated[  # noqa: N815 - units as they are written
        float | None, Quantity("largest component; None where the calculator gives none", "GPa")
    ]
    fault: Annotated[Atoms, Quantity("the crystal with the intrinsic fault, as relaxed", json=False)]

    derived = MappingProxyType(
        {
            "intrinsic_mJ_per_m2": Quantity("energy of the intrinsic fault", "mJ/m^2"),
            "unstable_mJ_per_m2": Quantity("largest energy on the way to it", "mJ/m^2"),
            "converged": Quantity("whether all relaxations have"),
        }
    )

    @classmethod
    def upgraded(cls, arrays: Arrays, info: dict[str, Any]) -> tuple[Arrays, dict[str, Any]]:
        """Files of versions that had `layers`, and `converged` for each slip."""
        if "layers" in info:
            info["n_layers"] = info.pop("layers")
            if "converged" in arrays:
                arrays["each_converged"] = arrays.pop("converged")
        return arrays, info

    @property
    def converged(self) -> bool:
        """Whether all relaxations met their criteria."""
        return self.each_converged is None or bool(self.each_converged.all())

    @property
    def intrinsic_mJ_per_m2(self) -> float:  # noqa: N802 - the unit
        """Energy of the intrinsic stacking fault, mJ/m^2."""
        return self.intrinsic / MJ_PER_M2

    @property
    def unstable_mJ_per_m2(self) -> float:  # noqa: N802 - the unit
        """Largest energy on the way to it, mJ/m^2, of the cubic spline through the points."""
        return self.unstable / MJ_PER_M2

    @property
    def energies(self) -> Array:
        """Relaxed where they were, (P,) eV/Å^2."""
        return self.unrelaxed if self.relaxed is None else self.relaxed

    @property
    def intrinsic(self) -> float:
        """Energy of the intrinsic stacking fault, eV/Å^2."""
        return float(self.energies[-1])

    @property
    def unstable(self) -> float:
        """Largest energy on the way to it, eV/Å^2, of the cubic spline through the points."""
        return float(self._curve()[1].max())

    def _curve(self) -> tuple[Array, Array]:
        from scipy.interpolate import CubicSpline

        fine = np.linspace(0.0, 1.0, 401)
        # By symmetry the slope vanishes at both ends.
        return fine, np.asarray(CubicSpline(self.slips, self.energies, bc_type="clamped")(fine))

    def __str__(self) -> str:
        kind = "unrelaxed" if self.relaxed is None else "relaxed"
        flag = "" if self.converged else " (NOT converged)"
        return (
            f"intrinsic stacking fault: {self.intrinsic_mJ_per_m2:.2f} mJ/m^2, unstable "
            f"{self.unstable_mJ_per_m2:.1f} mJ/m^2, {kind}{flag}, {self.n_layers} planes"
        )

    def plot(self, ax: Any = None) -> Any:
        """Axes with the energy over the slip."""
        ax = plotting.axes(ax)
        fine, curve = self._curve()
        ax.plot(fine, curve / MJ_PER_M2, color="C0", linewidth=1)
        ax.plot(self.slips, self.energies / MJ_PER_M2, "o", color="C0")
        ax.set_xlim(0.0, 1.0)
        ax.set_xlabel("slip along ⟨112⟩ (a/√6)")
        ax.set_ylabel("energy of the fault (mJ/m²)")
        return ax


def stacking_fault_energy(
    atoms: Atoms,
    *,
    n_layers: int = 12,
    n_slips: int = 11,
    relaxed: bool = True,
    fmax: float = 1e-3,
    steps: int = 500,
    symprec: float = SYMPREC,
    require: bool = False,
    evaluate: Evaluate | None = None,
    progress: bool | None = None,
) -> StackingFault:
    """Energy per area of the intrinsic stacking fault of an fcc element, and along the slip a/6 <112> that makes it.

    atoms: any cell of the perfect, relaxed crystal.  Each structure is a stack of `n_layers` (111) planes whose third
    cell vector is tilted by the slip, so that a cell holds one fault and no surface (Vitek, Phil. Mag. 18, 773 (1968)).
    n_slips: slips from 0 to 1, evaluated in one batch; the largest energy among them is the unstable fault's.
    relaxed: atoms move along the normal only, in step, in cells of fixed size; what the fault expands is then spread
    over `n_layers` planes.

    Raises ConfigError (a setting, or a crystal that is not fcc), EvaluationError, NotConvergedError.
    """
    check_bulk(atoms, "a stacking-fault energy")
    settings = DefectSettings(fmax=fmax, steps=steps, symprec=symprec, require=require)
    n_layers = checks.whole("n_layers", n_layers, at_least=4)
    slips = np.linspace(0.0, 1.0, checks.whole("n_slips", n_slips, at_least=3))
    a = _lattice_parameter(atoms, symprec)
    stacks = [_stack(atoms, a, n_layers, slip) for slip in slips]
    names = ["the perfect crystal", *(f"the slip of {slip:g}" for slip in slips)]
    evaluator = Evaluator(atoms.calc, evaluate)
    perfect, *found = evaluator([atoms.copy(), *stacks], stress=offers_stress(atoms, evaluate), names=names)
    perfection = Perfection.of(perfect, atoms)
    perfection.tell()
    area = float(np.sqrt(3) / 4 * a**2)
    unrelaxed = (np.array([one.energy for one in found]) - found[0].energy) / area
    fields: dict[str, Any] = {"relaxed": None, "each_converged": None, "fault": stacks[-1]}
    if relaxed:
        starts = [_along_normal(stack, atoms.calc) for stack in stacks]
        ends = settings.relaxed_all(starts, names[1:], evaluate=evaluate, progress=progress)
        fields = _ends(ends, area)
    result = StackingFault(
        slips=slips,
        unrelaxed=unrelaxed,
        n_layers=n_layers,
        a=a,
        area=area,
        fmax=fmax,
        perfect_max_force=perfection.max_force,
        perfect_max_stress_GPa=perfection.max_stress_GPa,
        **fields,
    )
    if result.intrinsic < 0:
        warn(
            PhysicsWarning(
                f"the intrinsic stacking fault has an energy of {result.intrinsic_mJ_per_m2:.3g} mJ/m^2, below zero: "
                "fcc is not the stable stacking of this potential",
                value=result.intrinsic,
                limit=0.0,
            )
        )
    return result


def check_fault(atoms: Atoms, symprec: float) -> None:
    """ConfigError for a crystal that `stacking_fault_energy` would refuse."""
    check_bulk(atoms, "a stacking-fault energy")
    _lattice_parameter(atoms, checks.number("symprec", symprec, above=0.0, hint=" Å"))


def _lattice_parameter(atoms: Atoms, symprec: float) -> float:
    """a of the fcc crystal, Å; ConfigError for any other."""
    data = symmetry(atoms, symprec)
    primitive = len(set(np.asarray(data.mapping_to_primitive).tolist()))
    if data.number != _FCC or primitive != 1:
        raise ConfigError(
            f"the crystal is {spacegroup_name(data)} with {primitive} atoms in its primitive cell: "
            "stacking faults are there for fcc elements only, Fm-3m (225) with one atom",
            setting="symprec",
            value=symprec,
        )
    return float((4 * abs(np.linalg.det(atoms.cell.array)) / len(atoms)) ** (1 / 3))


def _stack(atoms: Atoms, a: float, n_layers: int, slip: float) -> Atoms:
    """(111) planes along z, one atom each, in an fcc sequence that is broken by the slip at the cell's boundary."""
    first = a / np.sqrt(2) * np.array([1.0, 0.0, 0.0])
    second = a / np.sqrt(2) * np.array([0.5, np.sqrt(3) / 2, 0.0])
    partial = (first + second) / 3  # from a plane's atoms to the hollows where the next plane's are
    step = partial + [0.0, 0.0, a / np.sqrt(3)]
    cell = [first, second, n_layers * step + slip * partial]
    kinds = np.repeat(site_kinds(atoms)[:1], n_layers)
    stack = dressed(
        Atoms(numbers=kinds, positions=np.arange(n_layers)[:, None] * step, cell=cell, pbc=True), kinds, atoms
    )
    stack.wrap()
    return stack


def _along_normal(stack: Atoms, calculator: Any) -> Atoms:
    """A copy whose atoms move along z only."""
    from ase.constraints import FixCartesian

    start: Atoms = stack.copy()
    start.set_constraint(FixCartesian(list(range(len(start))), mask=(True, True, False)))
    start.calc = calculator
    return start


def _ends(ends: Sequence[Relaxation], area: float) -> dict[str, Any]:
    energies = np.array([end.energy for end in ends])
    return {
        "relaxed": (energies - energies[0]) / area,
        "each_converged": np.array([end.converged for end in ends]),
        "fault": ends[-1].atoms,
    }
