"""Energy against volume: the curves, their fit, the scan, and the result."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.units import GPa
from numpy.typing import NDArray

from .. import checks, plotting
from ..crystals.vacuum import vacuum_names
from ..errors import ConfigError, PhysicsWarning
from ..evaluator import Evaluate, Evaluated, Evaluator, refuse_float32
from ..folders.storage import load_arrays, pack_atoms, save_arrays, unpack_atoms
from ..relaxation.relax import relax_many

Array = NDArray[np.float64]
CURVES = {
    "birchmurnaghan": "Birch–Murnaghan",
    "murnaghan": "Murnaghan",
    "vinet": "Vinet",
    "birch": "Birch",
    "pouriertarantola": "Poirier–Tarantola",
}
KINDS = tuple(CURVES)


@dataclass(frozen=True)
class Fit:
    """A fitted curve."""

    kind: str
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

        return getattr(eos, self.kind)(volumes, self.E0, self.B0, self.B0_prime, self.V0)


def fit_energies(volumes: Array, energies: Array, kind: str, n_atoms: int) -> Fit:
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
            curve = EquationOfState(volumes / n_atoms, (energies - energies.min()) / n_atoms, eos=kind)
            curve.fit(warn=False)  # where its minimum lies is looked at below
    except (RuntimeError, ValueError, Warning) as error:
        reason = str(error)
    else:
        e0, b0, b0_prime, v0 = (float(value) for value in curve.eos_parameters)
        if first < v0 * n_atoms < last and b0 > 0:
            return Fit(kind, v0 * n_atoms, energies.min() + e0 * n_atoms, b0, b0_prime)
        reason = f"the curve has its minimum at {v0 * n_atoms:.5g} Å^3 and B0 = {b0:.3g} eV/Å^3"
    raise ConfigError(
        f"the energies have no minimum within the volumes from {first:.5g} to {last:.5g} Å^3 ({reason}): relax the "
        "cell first, mlcalc.md_protocols.relax(atoms, cell=True), or take a larger volume_range"
    )


_ARRAYS = ("volumes", "energies")
_PLAIN = ("kind", "V0", "E0", "B0_GPa", "B0_prime", "residual", "pressure_deviation_GPa", "relaxed")
_LARGEST_RESIDUAL = 1e-3  # eV per atom
_LARGEST_DEVIATION = 0.02  # of B0


@dataclass(frozen=True, eq=False)
class EquationOfState:
    """E(V) of a crystal and the curve fitted to it; energies and volumes are those of the whole cell."""

    atoms: Atoms  # the structure given, whose volume was scaled
    volumes: Array  # (P,) Å^3 per cell, ascending
    energies: Array  # (P,) eV per cell
    pressures: Array | None  # (P,) GPa, -trace(stress) / 3; None where the calculator has no stress
    kind: str  # of the curve
    V0: float  # Å^3 per cell, at the minimum
    E0: float  # eV per cell
    B0_GPa: float  # bulk modulus at the minimum
    B0_prime: float  # dB/dp at the minimum
    residual: float  # eV per atom, root mean square of energies minus curve
    pressure_deviation_GPa: float | None  # noqa: N815 - largest difference of pressures and curve
    relaxed: str  # what moved at each volume: "nothing", "ions", or "ions and shape"

    @property
    def scale(self) -> float:
        """(V0 / V)^(1/3): the lattice constants of `atoms` times this belong to V0 at the shape given."""
        return float((self.V0 / abs(np.linalg.det(self.atoms.cell.array))) ** (1 / 3))

    def energy(self, volumes: Any) -> Array:
        """eV per cell, of the curve at volumes in Å^3 per cell."""
        return self._fit.energy(np.asarray(volumes, dtype=float))

    def pressure(self, volumes: Any) -> Array:
        """GPa, of the curve at volumes in Å^3 per cell: -dE/dV."""
        return self._fit.pressure(np.asarray(volumes, dtype=float)) / GPa

    @property
    def _fit(self) -> Fit:
        return Fit(self.kind, self.V0, self.E0, self.B0_GPa * GPa, self.B0_prime)

    def __str__(self) -> str:
        n = len(self.atoms)
        deviation = self.pressure_deviation_GPa
        check = "" if deviation is None else f", pressures of the stress within {deviation:.2g} GPa"
        moved = "" if self.relaxed == "nothing" else f", {self.relaxed} relaxed"
        return "\n".join(
            [
                f"equation of state ({self.kind}, {len(self.volumes)} volumes{moved})",
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
        ax.plot(fine / n, 1e3 * (self.energy(fine) - self.E0) / n, color="C0", label=CURVES[self.kind])
        ax.plot(self.volumes / n, 1e3 * (self.energies - self.E0) / n, "o", color="C1", label="computed")
        ax.axvline(self.V0 / n, ymax=0.3, color="gray", linewidth=0.5)
        ax.set_xlabel("volume (Å$^3$/atom)")
        ax.set_ylabel("energy above the minimum (meV/atom)")
        text = f"$V_0$ = {self.V0 / n:.3f} Å$^3$/atom\n$B_0$ = {self.B0_GPa:.1f} GPa\n$B_0'$ = {self.B0_prime:.2f}"
        ax.text(0.5, 0.95, text, transform=ax.transAxes, ha="center", va="top")
        ax.legend(frameon=False, loc="center", bbox_to_anchor=(0.5, 0.55))
        return ax

    def to_json(self) -> dict[str, Any]:
        """Plain values with units in their names."""
        return {
            "kind": self.kind,
            "relaxed": self.relaxed,
            "atoms": len(self.atoms),
            "V0_A3_per_cell": self.V0,
            "E0_eV_per_cell": self.E0,
            "V0_A3_per_atom": self.V0 / len(self.atoms),
            "E0_eV_per_atom": self.E0 / len(self.atoms),
            "B0_GPa": self.B0_GPa,
            "B0_prime": self.B0_prime,
            "lattice_scale": self.scale,
            "residual_meV_per_atom": 1e3 * self.residual,
            "pressure_deviation_GPa": self.pressure_deviation_GPa,
            "volumes_A3_per_cell": self.volumes.tolist(),
            "energies_eV_per_cell": self.energies.tolist(),
            "pressures_GPa": None if self.pressures is None else self.pressures.tolist(),
        }

    def save(self, path: str | Path) -> None:
        """Write everything to one .npz file, without pickle."""
        arrays = {name: getattr(self, name) for name in _ARRAYS} | pack_atoms("atoms", self.atoms)
        if self.pressures is not None:
            arrays["pressures"] = self.pressures
        save_arrays(path, "equation_of_state", arrays, {name: getattr(self, name) for name in _PLAIN})

    @classmethod
    def load(cls, path: str | Path) -> EquationOfState:
        """The equation of state of a file written by `save`."""
        arrays, info = load_arrays(path, "equation_of_state")
        info |= {name: arrays[name] for name in _ARRAYS} | {"pressures": arrays.get("pressures")}
        return cls(atoms=unpack_atoms("atoms", arrays), **info)


def equation_of_state(
    atoms: Atoms,
    *,
    volume_range: float = 0.06,
    points: int = 11,
    kind: str = "birchmurnaghan",
    relax_ions: bool = True,
    relax_shape: bool = False,
    fmax: float = 1e-4,
    smax: float = 1e-5,
    steps: int = 500,
    allow_float32: bool = False,
    evaluate: Evaluate | None = None,
    progress: bool | None = None,
) -> EquationOfState:
    """Energies of a crystal at `points` volumes within +-`volume_range` of its own, and the curve through them.

    All volumes are evaluated in one batch, and relaxed in one: the atoms with `relax_ions` (forces below `fmax`, eV/Å),
    with `relax_shape` also the shape of the cell at each volume (shear stress and differences of the normal stresses
    below `smax`, eV/Å^3).  Without it the cell keeps its shape: in crystals that are not cubic B0 is then the modulus
    of that isotropic strain, not -V dp/dV under hydrostatic pressure.

    kind: "birchmurnaghan" (third order; F. Birch, Phys. Rev. 71, 809 (1947)), "murnaghan", "vinet", "birch" or
    "pouriertarantola", in the forms of ase.eos.  The curve's pressures are compared with those of the stress.

    Cells with vacuum, whose volume means nothing, and constraints of atoms that are to relax are refused.

    PhysicsWarning where the curve misses energies by more than 1 meV/atom or pressures by more than 2 % of B0.

    Raises ConfigError (a setting, the structure, or a minimum outside of the volumes), EvaluationError, and
    NotConvergedError for a volume at which the relaxation does not end.
    """
    needs = ("energy", "forces", "stress") if relax_shape else ("energy", "forces")
    checks.crystal(atoms, "an equation of state", needs)
    check_volumes(atoms, relax_ions, relax_shape)
    kind = checks.choice("kind", kind, KINDS)
    width = checks.number("volume_range", volume_range, above=0.0)
    if width > 0.5:
        raise ConfigError(f"volume_range is {width:g}: the share of the volume to each side, choose at most 0.5")
    ratios = np.linspace(1 - width, 1 + width, checks.whole("points", points, at_least=5))
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
    return _result(atoms, structures, results, kind, relaxed)


def check_volumes(atoms: Atoms, relax_ions: bool, relax_shape: bool) -> None:
    """ConfigError for what has no bulk modulus, or would not move as the settings say."""
    checks.crystal(atoms, "an equation of state")
    if empty := vacuum_names(atoms):
        raise ConfigError(
            f"the cell has vacuum (more than 5 Å without atoms) along {', '.join(empty)}: its volume, and with it V0 "
            "and B0, depends on how much; an equation of state is that of a crystal, and a layer has elastic "
            "constants, elastic_constants(..., slab=True)"
        )
    if relax_shape and not relax_ions:
        raise ConfigError(
            "relax_shape=True with relax_ions=False: the atoms of a cell whose shape relaxes go with it; leave one out"
        )
    if atoms.constraints and relax_ions:
        raise ConfigError(
            f"the structure has constraints ({type(atoms.constraints[0]).__name__}), which hold atoms that have to "
            "relax at each volume: remove them with atoms.set_constraint(), or pass relax_ions=False"
        )


def _scaled(atoms: Atoms, ratio: float) -> Atoms:
    scaled: Atoms = atoms.copy()
    scaled.set_cell(atoms.cell.array * ratio ** (1 / 3), scale_atoms=True)
    scaled.calc = atoms.calc
    return scaled


def _result(
    atoms: Atoms, structures: Sequence[Atoms], results: Sequence[Evaluated], kind: str, relaxed: str
) -> EquationOfState:
    volumes = np.array([abs(np.linalg.det(structure.cell.array)) for structure in structures])
    energies = np.array([result.energy for result in results])
    fit = fit_energies(volumes, energies, kind, len(atoms))
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
        pressures=pressures,
        kind=kind,
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
    if found.residual > _LARGEST_RESIDUAL:
        warnings.warn(
            f"the {found.kind} curve misses the energies by {1e3 * found.residual:.3g} meV/atom (rms; limit "
            f"{1e3 * _LARGEST_RESIDUAL:g}): look at the plot, and take a smaller volume_range",
            PhysicsWarning,
            stacklevel=4,
        )
    limit = _LARGEST_DEVIATION * found.B0_GPa
    if found.pressure_deviation_GPa is not None and found.pressure_deviation_GPa > limit:
        warnings.warn(
            f"the pressures of the stress differ from those of the {found.kind} curve by up to "
            f"{found.pressure_deviation_GPa:.3g} GPa (limit {limit:.3g}, 2 % of B0): take a smaller volume_range, or "
            "check the stress of the calculator",
            PhysicsWarning,
            stacklevel=4,
        )
