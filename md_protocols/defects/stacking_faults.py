"""The stacking faults of fcc crystals: energies of the intrinsic fault and of the slip that leads to it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units
from numpy.typing import NDArray

from .. import checks, plotting
from ..crystals.kinds import dressed, site_kinds
from ..crystals.perfection import Perfection, offers_stress
from ..crystals.symmetry import symmetry
from ..crystals.vacuum import check_bulk
from ..errors import ConfigError, PhysicsWarning
from ..evaluator import Evaluate, Evaluator
from ..folders.storage import load_arrays, pack_atoms, save_arrays, unpack_atoms
from ..relaxation.outcome import Relaxation
from ..relaxation.relax import relax_many

Array = NDArray[np.float64]
MJ_PER_M2 = 1e-3 * units.J / units.m**2  # in eV/Å^2
_FCC = 225  # space group
_ARRAYS = ("slips", "unrelaxed")
_OPTIONAL = ("relaxed", "converged")
_PLAIN = ("layers", "a", "area", "fmax", "perfect_max_force", "perfect_max_stress_GPa")


@dataclass(frozen=True, eq=False)
class StackingFault:
    """Energies of an fcc crystal whose halves have slipped along <112> on a (111) plane."""

    slips: Array  # (P,) in units of the partial Burgers vector a/6 <112>: 0 is perfect, 1 the intrinsic fault
    unrelaxed: Array  # (P,) eV/Å^2
    relaxed: Array | None  # (P,) eV/Å^2, planes free along their normal; None, as the next, if relaxed=False
    converged: NDArray[np.bool_] | None  # (P,)
    layers: int  # (111) planes in the cell, which holds one fault
    a: float  # Å, lattice parameter
    area: float  # Å^2
    fmax: float  # eV/Å
    perfect_max_force: float  # eV/Å
    perfect_max_stress_GPa: float | None  # noqa: N815 - None where the calculator gives none
    fault: Atoms  # the crystal with the intrinsic fault, as relaxed

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
        flag = "" if self.converged is None or self.converged.all() else " (NOT converged)"
        return (
            f"intrinsic stacking fault: {self.intrinsic / MJ_PER_M2:.2f} mJ/m^2, unstable "
            f"{self.unstable / MJ_PER_M2:.1f} mJ/m^2, {kind}{flag}, {self.layers} planes"
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

    def to_json(self) -> dict[str, Any]:
        """Plain values with units in their names."""
        return {
            "intrinsic_mJ_per_m2": self.intrinsic / MJ_PER_M2,
            "unstable_mJ_per_m2": self.unstable / MJ_PER_M2,
            "slips": self.slips.tolist(),
            "unrelaxed_eV_per_A2": self.unrelaxed.tolist(),
            "relaxed_eV_per_A2": None if self.relaxed is None else self.relaxed.tolist(),
            "converged": None if self.converged is None else self.converged.tolist(),
            "layers": self.layers,
            "a_A": self.a,
            "area_A2": self.area,
            "fmax_eV_per_A": self.fmax,
            "perfect_max_force_eV_per_A": self.perfect_max_force,
            "perfect_max_stress_GPa": self.perfect_max_stress_GPa,
        }

    def save(self, path: str | Path) -> None:
        """Write everything to one .npz file, without pickle."""
        names = [*_ARRAYS, *(name for name in _OPTIONAL if getattr(self, name) is not None)]
        arrays = {name: getattr(self, name) for name in names} | pack_atoms("fault", self.fault)
        save_arrays(path, "stacking_fault", arrays, {name: getattr(self, name) for name in _PLAIN})

    @classmethod
    def load(cls, path: str | Path) -> StackingFault:
        """The energies of a file written by `save`."""
        arrays, info = load_arrays(path, "stacking_fault")
        found: dict[str, Any] = {name: arrays.get(name) for name in (*_ARRAYS, *_OPTIONAL)} | info
        return cls(fault=unpack_atoms("fault", arrays), **found)


def stacking_fault_energy(
    atoms: Atoms,
    *,
    layers: int = 12,
    points: int = 11,
    relaxed: bool = True,
    fmax: float = 1e-3,
    steps: int = 500,
    symprec: float = 1e-3,
    require: bool = False,
    evaluate: Evaluate | None = None,
    progress: bool | None = None,
) -> StackingFault:
    """Energy per area of the intrinsic stacking fault of an fcc element, and along the slip a/6 <112> that makes it.

    atoms: any cell of the perfect, relaxed crystal.  Each structure is a stack of `layers` (111) planes whose third
    cell vector is tilted by the slip, so that a cell holds one fault and no surface (Vitek, Phil. Mag. 18, 773 (1968)).
    points: slips from 0 to 1, evaluated in one batch; the largest energy among them is the unstable fault's.
    relaxed: atoms move along the normal only, in step, in cells of fixed size; what the fault expands is then spread
    over `layers` planes.

    Raises ConfigError (a setting, or a crystal that is not fcc), EvaluationError, NotConvergedError.
    """
    check_bulk(atoms, "a stacking-fault energy")
    layers = checks.whole("layers", layers, at_least=4)
    fmax = checks.number("fmax", fmax, above=0.0, hint=" eV/Å")
    slips = np.linspace(0.0, 1.0, checks.whole("points", points, at_least=3))
    a = _lattice_parameter(atoms, symprec)
    stacks = [_stack(atoms, a, layers, slip) for slip in slips]
    names = ["the perfect crystal", *(f"the slip of {slip:g}" for slip in slips)]
    evaluator = Evaluator(atoms.calc, evaluate)
    perfect, *found = evaluator([atoms.copy(), *stacks], stress=offers_stress(atoms, evaluate), names=names)
    perfection = Perfection.of(perfect, atoms)
    perfection.tell()
    area = float(np.sqrt(3) / 4 * a**2)
    unrelaxed = (np.array([one.energy for one in found]) - found[0].energy) / area
    fields: dict[str, Any] = {"relaxed": None, "converged": None, "fault": stacks[-1]}
    if relaxed:
        starts = [_along_normal(stack, atoms.calc) for stack in stacks]
        ends = relax_many(
            starts, fmax=fmax, steps=steps, require=require, evaluate=evaluate, names=names[1:], progress=progress
        )
        fields = _ends(ends, area)
    result = StackingFault(
        slips=slips,
        unrelaxed=unrelaxed,
        layers=layers,
        a=a,
        area=area,
        fmax=fmax,
        perfect_max_force=perfection.max_force,
        perfect_max_stress_GPa=perfection.max_stress_GPa,
        **fields,
    )
    if result.intrinsic < 0:
        warnings.warn(
            f"the intrinsic stacking fault has an energy of {result.intrinsic / MJ_PER_M2:.3g} mJ/m^2, below zero: fcc "
            "is not the stable stacking of this potential",
            PhysicsWarning,
            stacklevel=2,
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
            f"the crystal is {data.international} ({data.number}) with {primitive} atoms in its primitive cell: "
            "stacking faults are there for fcc elements only, Fm-3m (225) with one atom"
        )
    return float((4 * abs(np.linalg.det(atoms.cell.array)) / len(atoms)) ** (1 / 3))


def _stack(atoms: Atoms, a: float, layers: int, slip: float) -> Atoms:
    """(111) planes along z, one atom each, in an fcc sequence that is broken by the slip at the cell's boundary."""
    first = a / np.sqrt(2) * np.array([1.0, 0.0, 0.0])
    second = a / np.sqrt(2) * np.array([0.5, np.sqrt(3) / 2, 0.0])
    partial = (first + second) / 3  # from a plane's atoms to the hollows where the next plane's are
    step = partial + [0.0, 0.0, a / np.sqrt(3)]
    cell = [first, second, layers * step + slip * partial]
    kinds = np.repeat(site_kinds(atoms)[:1], layers)
    stack = dressed(
        Atoms(numbers=kinds, positions=np.arange(layers)[:, None] * step, cell=cell, pbc=True), kinds, atoms
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
        "converged": np.array([end.converged for end in ends]),
        "fault": ends[-1].atoms,
    }
