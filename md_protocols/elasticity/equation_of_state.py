"""Energy against volume: the curves, their fit, the scan, and the result."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from types import MappingProxyType
from typing import Annotated, Any

import numpy as np
from ase import Atoms
from ase.units import GPa
from numpy.typing import NDArray

from mlcalc.ground.errors import Use
from mlcalc.ground.remedies import NO_CONSTRAINTS, RELAX_FIRST
from mlcalc.ground.warn import warn

from .. import checks, plotting
from ..crystals.vacuum import MIN_VACUUM, MORE, vacuum_names
from ..errors import ConfigError, PhysicsWarning
from ..evaluator import Evaluate, Evaluated, Evaluator, refuse_float32
from ..relaxation.relax import relax_many
from ..results import Arrays, Quantity, Result
from .result import SLAB

Array = NDArray[np.float64]
CURVES = {  # names in ase.eos, and in pictures
    "birch_murnaghan": ("birchmurnaghan", "Birch–Murnaghan"),
    "murnaghan": ("murnaghan", "Murnaghan"),
    "vinet": ("vinet", "Vinet"),
    "birch": ("birch", "Birch"),
    "poirier_tarantola": ("pouriertarantola", "Poirier–Tarantola"),
}
EOS = tuple(CURVES)


@dataclass(frozen=True)
class Fit:
    """A fitted curve."""

    eos: str
    V0: float  # Å^3
    E0: float  # eV
    B0: float  # eV/Å^3
    B0_prime: float

    def energy(self, volumes: Any) -> Array:
        """eV."""
        return np.asarray(self._curve(volumes), dtype=float)

    def pressure(self, volumes: Any) -> Array:
        """eV/Å^3: -dE/dV, exact to rounding by a complex step."""
        step = 1e-20 * self.V0
        return np.asarray(-np.imag(self._curve(np.asarray(volumes) + 1j * step)) / step, dtype=float)

    def _curve(self, volumes: Any) -> Any:
        from ase import eos

        return getattr(eos, CURVES[self.eos][0])(volumes, self.E0, self.B0, self.B0_prime, self.V0)


def fit_energies(volumes: Array, energies: Array, eos: str, n_atoms: int) -> Fit:
    """The curve of least squares through energies (eV) over volumes (Å^3) of a cell.

    Raises ConfigError where it has no minimum within the volumes.
    """
    from ase.eos import EquationOfState

    first, last = float(volumes.min()), float(volumes.max())
    lowest = int(np.argmin(energies))
    end = "smallest" if lowest == np.argmin(volumes) else "largest" if lowest == np.argmax(volumes) else ""
    try:
        if end:
            raise ValueError(f"the energy is lowest at the {end} volume")
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # scipy's doubts about a fit
            # per atom and from the lowest energy, so that scipy's steps do not depend on the size of the cell
            curve = EquationOfState(volumes / n_atoms, (energies - energies.min()) / n_atoms, eos=CURVES[eos][0])
            curve.fit(warn=False)  # where its minimum lies is looked at below
    except (RuntimeError, ValueError, Warning) as error:
        reason = str(error)
    else:
        e0, b0, b0_prime, v0 = (float(value) for value in curve.eos_parameters)
        if first < v0 * n_atoms < last and b0 > 0:
            return Fit(eos, v0 * n_atoms, energies.min() + e0 * n_atoms, b0, b0_prime)
        reason = f"the curve has its minimum at {v0 * n_atoms:.5g} Å^3 and B0 = {b0:.3g} eV/Å^3"
    raise ConfigError(
        f"the energies have no minimum within the volumes from {first:.5g} to {last:.5g} Å^3 ({reason})",
        setting="volume_range",
        remedies=[RELAX_FIRST, Use("volume_range", None, "for a larger one")],
    )


_RESIDUAL_LIMIT = 1e-3  # eV per atom
_DEVIATION_LIMIT = 0.02  # of B0
_WIDEST = 0.5  # of the volume


@dataclass(frozen=True, eq=False, repr=False)
class EquationOfState(Result):
    """E(V) of a crystal and the curve fitted to it; energies and volumes are those of the whole cell."""

    kind = "equation_of_state"

    atoms: Annotated[Atoms, Quantity("the structure given, whose volume was scaled", json=False)]
    volumes: Annotated[Array, Quantity("ascending", "Å^3 per cell", "(V,)")]
    energies: Annotated[Array, Quantity("at these volumes", "eV per cell", "(V,)")]
    pressures_GPa: Annotated[  # noqa: N815 - units as they are written
        Array | None, Quantity("-trace(stress) / 3; None where the calculator has no stress", "GPa", "(V,)")
    ]
    eos: Annotated[str, Quantity("the curve")]
    V0: Annotated[float, Quantity("at the minimum", "Å^3 per cell")]
    E0: Annotated[float, Quantity("at the minimum", "eV per cell")]
    B0_GPa: Annotated[float, Quantity("bulk modulus at the minimum", "GPa")]
    B0_prime: Annotated[float, Quantity("dB/dp at the minimum")]
    residual: Annotated[float, Quantity("root mean square of energies minus curve", "eV per atom")]
    pressure_deviation_GPa: Annotated[  # noqa: N815 - units as they are written
        float | None, Quantity("largest difference of pressures and curve", "GPa")
    ]
    relaxed: Annotated[str, Quantity("what moved at each volume: nothing, ions, or ions and shape")]

    derived = MappingProxyType(
        {
            "n_atoms": Quantity("in the cell"),
            "V0_per_atom": Quantity("V0 per atom", "Å^3"),
            "E0_per_atom": Quantity("E0 per atom", "eV"),
            "scale": Quantity("the lattice constants given times this belong to V0"),
        }
    )

    @classmethod
    def upgraded(cls, arrays: Arrays, info: dict[str, Any]) -> tuple[Arrays, dict[str, Any]]:
        """Files of versions that called the curve `kind`, by ASE's names, and had `pressures`."""
        if "kind" in info:
            name = info.pop("kind")
            info["eos"] = next((eos for eos, (ase_name, _) in CURVES.items() if ase_name == name), name)
        if "pressures" in arrays:
            arrays["pressures_GPa"] = arrays.pop("pressures")
        return arrays, info

    @property
    def n_atoms(self) -> int:
        return len(self.atoms)

    @property
    def V0_per_atom(self) -> float:  # noqa: N802 - as V0
        """Å^3."""
        return self.V0 / len(self.atoms)

    @property
    def E0_per_atom(self) -> float:  # noqa: N802 - as E0
        """eV."""
        return self.E0 / len(self.atoms)

    @property
    def scale(self) -> float:
        """(V0 / V)^(1/3): the lattice constants of `atoms` times this belong to V0 at the shape given."""
        return float((self.V0 / abs(np.linalg.det(self.atoms.cell.array))) ** (1 / 3))

    def energy(self, volumes: Any) -> Array:
        """eV per cell, of the curve at volumes in Å^3 per cell."""
        return self._fit.energy(np.asarray(volumes, dtype=float))

    def pressure_GPa(self, volumes: Any) -> Array:  # noqa: N802 - units as they are written
        """GPa, of the curve at volumes in Å^3 per cell: -dE/dV."""
        return self._fit.pressure(np.asarray(volumes, dtype=float)) / GPa

    @property
    def _fit(self) -> Fit:
        return Fit(self.eos, self.V0, self.E0, self.B0_GPa * GPa, self.B0_prime)

    def __str__(self) -> str:
        n = len(self.atoms)
        deviation = self.pressure_deviation_GPa
        check = "" if deviation is None else f", pressures of the stress within {deviation:.2g} GPa"
        moved = "" if self.relaxed == "nothing" else f", {self.relaxed} relaxed"
        return "\n".join(
            [
                f"equation of state ({self.eos}, {len(self.volumes)} volumes{moved})",
                f"V0   {self.V0:.5f} Å^3 per cell ({self.V0 / n:.5f} per atom), {self.scale:.6f} x the lattice given",
                f"E0   {self.E0:.6f} eV per cell ({self.E0 / n:.6f} per atom)",
                f"B0   {self.B0_GPa:.3f} GPa, B0' {self.B0_prime:.3f}",
                f"fit  within {1e3 * self.residual:.2g} meV/atom (rms){check}",
            ]
        )

    def plot(self, ax: Any = None) -> Any:
        """Axes with the energies per atom above the minimum, and the curve."""
        ax = plotting.axes(ax)
        n = len(self.atoms)
        fine = np.linspace(self.volumes[0], self.volumes[-1], 300)
        ax.plot(fine / n, 1e3 * (self.energy(fine) - self.E0) / n, color="C0", label=CURVES[self.eos][1])
        ax.plot(self.volumes / n, 1e3 * (self.energies - self.E0) / n, "o", color="C1", label="computed")
        ax.axvline(self.V0 / n, ymax=0.3, color="gray", linewidth=0.5)
        ax.set_xlabel("volume (Å$^3$/atom)")
        ax.set_ylabel("energy above the minimum (meV/atom)")
        text = f"$V_0$ = {self.V0 / n:.3f} Å$^3$/atom\n$B_0$ = {self.B0_GPa:.1f} GPa\n$B_0'$ = {self.B0_prime:.2f}"
        ax.text(0.5, 0.95, text, transform=ax.transAxes, ha="center", va="top")
        ax.legend(frameon=False, loc="center", bbox_to_anchor=(0.5, 0.55))
        return ax


def equation_of_state(
    atoms: Atoms,
    *,
    volume_range: float | tuple[float, float] = 0.06,
    n_volumes: int = 11,
    eos: str = "birch_murnaghan",
    relax_ions: bool = True,
    relax_shape: bool = False,
    fmax: float = 1e-4,
    smax: float = 1e-5,
    steps: int = 500,
    allow_float32: bool = False,
    evaluate: Evaluate | None = None,
    progress: bool | None = None,
) -> EquationOfState:
    """Energies of a crystal at `n_volumes` volumes around its own, and the curve through them.

    volume_range: relative changes of the volume, (lowest, highest); one number x stands for (-x, x).
    All volumes are evaluated in one batch, and relaxed in one: the atoms with `relax_ions` (forces below `fmax`, eV/Å),
    with `relax_shape` also the shape of the cell at each volume (shear stress and differences of the normal stresses
    below `smax`, eV/Å^3).  Without it the cell keeps its shape: in crystals that are not cubic B0 is then the modulus
    of that isotropic strain, not -V dp/dV under hydrostatic pressure.

    eos: "birch_murnaghan" (third order; F. Birch, Phys. Rev. 71, 809 (1947)), "murnaghan", "vinet", "birch" or
    "poirier_tarantola", in the forms of ase.eos.  The curve's pressures are compared with those of the stress.

    Cells with vacuum, whose volume means nothing, and constraints of atoms that are to relax are refused.

    PhysicsWarning where the curve misses energies by more than 1 meV/atom or pressures by more than 2 % of B0.

    Raises ConfigError (a setting, the structure, or a minimum outside of the volumes), EvaluationError, and
    NotConvergedError for a volume at which the relaxation does not end.
    """
    needs = ("energy", "forces", "stress") if relax_shape else ("energy", "forces")
    checks.crystal(atoms, "an equation of state", needs)
    check_volumes(atoms, relax_ions, relax_shape)
    eos = checks.choice("eos", eos, EOS)
    ratios = 1.0 + np.linspace(*_range(volume_range), checks.whole("n_volumes", n_volumes, at_least=5))
    evaluator = Evaluator(atoms.calc, evaluate)
    refuse_float32(evaluator, "bulk moduli", allow_float32)
    structures = [_scaled(atoms, ratio) for ratio in ratios]
    names = [f"volume {ratio:.4f} V" for ratio in ratios]
    relaxed = "ions and shape" if relax_shape else "ions" if relax_ions else "nothing"
    if relaxed != "nothing":
        found = relax_many(
            structures,
            fmax=checks.number("fmax", fmax, above=0.0, hint=" eV/Å"),
            cell="shape" if relax_shape else False,
            smax=smax,
            steps=steps,
            require=True,
            evaluate=evaluate,
            names=names,
            progress=progress,
        )
        structures = [relaxation.atoms for relaxation in found]
    stress = "stress" in getattr(atoms.calc, "implemented_properties", ())
    results = evaluator(structures, stress=stress, names=names)
    return _result(atoms, structures, results, eos, relaxed)


def _range(given: Any) -> tuple[float, float]:
    """Lowest and highest relative change of the volume; ConfigError for what is none."""
    pair = (-given, given) if isinstance(given, Real) and not isinstance(given, bool) else given
    values = [] if isinstance(pair, str) or not np.iterable(pair) else list(pair)
    good = len(values) == 2 and all(isinstance(x, Real) and math.isfinite(x) for x in values)
    if not good or not -_WIDEST <= values[0] < values[1] <= _WIDEST:
        raise ConfigError(
            f"volume_range is {given!r}: give the lowest and the highest relative change of the volume, such as "
            f"(-0.06, 0.06), or one number for both, within {_WIDEST:g}",
            setting="volume_range",
            value=given,
            limit=_WIDEST,
        )
    return float(values[0]), float(values[1])


def check_volumes(atoms: Atoms, relax_ions: bool, relax_shape: bool) -> None:
    """ConfigError for what has no bulk modulus, or would not move as the settings say."""
    checks.crystal(atoms, "an equation of state")
    if empty := vacuum_names(atoms):
        raise ConfigError(
            f"the cell has vacuum ({MORE}) along {', '.join(empty)}, and its volume, and with it V0 and B0, depends on "
            "how much: an equation of state is that of a crystal, and a layer has elastic constants",
            limit=MIN_VACUUM,
            remedies=[SLAB],
        )
    if relax_shape and not relax_ions:
        raise ConfigError(
            "relax_shape is True and relax_ions False, but the atoms of a cell whose shape relaxes go with it",
            setting="relax_ions",
            value=False,
            remedies=[Use("relax_ions", True), Use("relax_shape", False)],
        )
    if atoms.constraints and relax_ions:
        raise ConfigError(
            f"the structure has constraints ({type(atoms.constraints[0]).__name__}), which hold atoms that have to "
            "relax at each volume",
            setting="constraints",
            remedies=[NO_CONSTRAINTS, Use("relax_ions", False)],
        )


def _scaled(atoms: Atoms, ratio: float) -> Atoms:
    scaled: Atoms = atoms.copy()
    scaled.set_cell(atoms.cell.array * ratio ** (1 / 3), scale_atoms=True)
    scaled.calc = atoms.calc
    return scaled


def _result(
    atoms: Atoms, structures: Sequence[Atoms], results: Sequence[Evaluated], eos: str, relaxed: str
) -> EquationOfState:
    volumes = np.array([abs(np.linalg.det(structure.cell.array)) for structure in structures])
    energies = np.array([result.energy for result in results])
    fit = fit_energies(volumes, energies, eos, len(atoms))
    pressures = None
    if results[0].stress is not None:
        pressures = np.array([-np.asarray(result.stress)[:3].mean() / GPa for result in results])
    deviation = None if pressures is None else float(np.abs(pressures - fit.pressure(volumes) / GPa).max())
    copy = atoms.copy()
    copy.set_constraint()
    found = EquationOfState(
        atoms=copy,
        volumes=volumes,
        energies=energies,
        pressures_GPa=pressures,
        eos=eos,
        V0=fit.V0,
        E0=fit.E0,
        B0_GPa=fit.B0 / GPa,
        B0_prime=fit.B0_prime,
        residual=float(np.sqrt(np.mean((energies - fit.energy(volumes)) ** 2)) / len(atoms)),
        pressure_deviation_GPa=deviation,
        relaxed=relaxed,
    )
    _warn(found)
    return found


def _warn(found: EquationOfState) -> None:
    narrower = Use("volume_range", None, "for a smaller one")
    if found.residual > _RESIDUAL_LIMIT:
        warn(
            PhysicsWarning(
                f"the {found.eos} curve misses the energies by {1e3 * found.residual:.3g} meV/atom (rms; limit "
                f"{1e3 * _RESIDUAL_LIMIT:g})",
                value=found.residual,
                limit=_RESIDUAL_LIMIT,
                remedies=["look at the plot", narrower],
            )
        )
    limit = _DEVIATION_LIMIT * found.B0_GPa
    if found.pressure_deviation_GPa is not None and found.pressure_deviation_GPa > limit:
        warn(
            PhysicsWarning(
                f"the pressures of the stress differ from those of the {found.eos} curve by up to "
                f"{found.pressure_deviation_GPa:.3g} GPa (limit {limit:.3g}, 2 % of B0)",
                value=found.pressure_deviation_GPa,
                limit=limit,
                remedies=[narrower, "check the stress of the calculator"],
            )
        )
