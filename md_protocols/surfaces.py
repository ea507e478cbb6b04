"""Surface energies: slabs of several thicknesses, against the bulk and by Fiorentini and Methfessel's fit."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units
from numpy.typing import NDArray

from . import checks, plotting
from .errors import ConfigError, PhysicsWarning
from .evaluations import Evaluate, Evaluator
from .packed_atoms import pack_atoms, unpack_atoms
from .relaxation import Relaxation, relax_many
from .slabs import Plane, equivalent_faces, layer_counts
from .storage import load_arrays, save_arrays
from .vacancy_cells import Perfection, check_crystal, offers_stress

Array = NDArray[np.float64]
J_PER_M2 = units.J / units.m**2  # in eV/Å^2
_THICKNESSES = (15.0, 20.0, 25.0)  # Å
_VACUUM = 8.0  # Å, below which a warning is due
_THIN = 0.01  # change of the energy between the two thickest slabs, beyond which a warning is due
_ARRAYS = ("layers", "n_atoms", "thicknesses", "unrelaxed")
_OPTIONAL = ("relaxed", "converged", "max_forces")
_PLAIN = ("area", "fitted", "fitted_bulk_energy", "bulk_energy", "equivalent_faces", "vacuum", "fmax")
_PERFECT = ("perfect_max_force", "perfect_max_stress_GPa")


@dataclass(frozen=True, eq=False)
class SurfaceEnergy:
    """Energies of a surface from slabs of several thicknesses."""

    miller: tuple[int, int, int]  # of the conventional cell
    layers: NDArray[np.int64]  # (K,) primitive layers in the slab, ascending
    n_atoms: NDArray[np.int64]  # (K,)
    thicknesses: Array  # (K,) Å, layers times their spacing
    area: float  # Å^2, of one face
    unrelaxed: Array  # (K,) eV/Å^2
    relaxed: Array | None  # (K,) eV/Å^2; None, as the next two, if relaxed=False
    converged: NDArray[np.bool_] | None  # (K,)
    max_forces: Array | None  # (K,) eV/Å, at the end
    fitted: float | None  # eV/Å^2, from the line through slab energies; None for a single slab
    fitted_bulk_energy: float | None  # eV per atom, the slope of that line
    bulk_energy: float  # eV per atom, of the perfect crystal
    equivalent_faces: bool  # else the energy is the mean of two different surfaces
    vacuum: float  # Å
    fmax: float  # eV/Å
    perfect_max_force: float  # eV/Å
    perfect_max_stress_GPa: float | None  # noqa: N815 - None where the calculator gives none
    slabs: tuple[Atoms, ...]  # as relaxed

    @property
    def energy(self) -> float:
        """Of the thickest slab, relaxed where it was, eV/Å^2."""
        return float((self.unrelaxed if self.relaxed is None else self.relaxed)[-1])

    @property
    def energy_J_per_m2(self) -> float:  # noqa: N802 - the unit
        return self.energy / J_PER_M2

    def __str__(self) -> str:
        name = "".join(map(str, self.miller))
        kind = "unrelaxed" if self.relaxed is None else "relaxed"
        flag = "" if self.converged is None or self.converged.all() else " (NOT converged)"
        fit = (
            "" if self.fitted is None else f"; from the line through {len(self.layers)} slabs {self.fitted:.5f} eV/Å^2"
        )
        return (
            f"surface ({name}): {self.energy_J_per_m2:.4f} J/m^2 = {self.energy:.5f} eV/Å^2 {kind}{flag}, "
            f"{self.unrelaxed[-1] / J_PER_M2:.4f} J/m^2 unrelaxed, slab of {self.layers[-1]} layers "
            f"({self.thicknesses[-1]:.1f} Å){fit}"
        )

    def plot(self, ax: Any = None) -> Any:
        """Axes with the energy over the thickness of the slab."""
        ax = plotting.axes(ax)
        ax.plot(self.thicknesses, self.unrelaxed / J_PER_M2, "s--", color="C7", label="unrelaxed")
        if self.relaxed is not None:
            ax.plot(self.thicknesses, self.relaxed / J_PER_M2, "o-", color="C0", label="relaxed")
        if self.fitted is not None:
            ax.axhline(self.fitted / J_PER_M2, color="C1", linewidth=0.8, label="line through slab energies")
        ax.set_xlabel("thickness of the slab (Å)")
        ax.set_ylabel(f"energy of the ({''.join(map(str, self.miller))}) surface (J/m²)")
        ax.legend(frameon=False)
        return ax

    def to_json(self) -> dict[str, Any]:
        """Plain values with units in their names."""
        return {
            "miller": list(self.miller),
            "energy_eV_per_A2": self.energy,
            "energy_J_per_m2": self.energy_J_per_m2,
            "layers": self.layers.tolist(),
            "n_atoms": self.n_atoms.tolist(),
            "thicknesses_A": self.thicknesses.tolist(),
            "area_A2": self.area,
            "unrelaxed_eV_per_A2": self.unrelaxed.tolist(),
            "relaxed_eV_per_A2": None if self.relaxed is None else self.relaxed.tolist(),
            "converged": None if self.converged is None else self.converged.tolist(),
            "max_forces_eV_per_A": None if self.max_forces is None else self.max_forces.tolist(),
            "fitted_eV_per_A2": self.fitted,
            "fitted_bulk_energy_eV_per_atom": self.fitted_bulk_energy,
            "bulk_energy_eV_per_atom": self.bulk_energy,
            "equivalent_faces": self.equivalent_faces,
            "vacuum_A": self.vacuum,
            "fmax_eV_per_A": self.fmax,
            "perfect_max_force_eV_per_A": self.perfect_max_force,
            "perfect_max_stress_GPa": self.perfect_max_stress_GPa,
        }

    def save(self, path: str | Path) -> None:
        """Write everything to one .npz file, without pickle."""
        names = [*_ARRAYS, *(name for name in _OPTIONAL if getattr(self, name) is not None)]
        arrays = {name: getattr(self, name) for name in names}
        for k, atoms in enumerate(self.slabs):
            arrays |= pack_atoms(f"slab{k}", atoms)
        info = {name: getattr(self, name) for name in ("miller", *_PLAIN, *_PERFECT)}
        save_arrays(path, "surface_energy", arrays, info)

    @classmethod
    def load(cls, path: str | Path) -> SurfaceEnergy:
        """The energies of a file written by `save`."""
        arrays, info = load_arrays(path, "surface_energy")
        found: dict[str, Any] = {name: arrays.get(name) for name in (*_ARRAYS, *_OPTIONAL)} | info
        found["miller"] = tuple(info["miller"])
        return cls(**found, slabs=tuple(unpack_atoms(f"slab{k}", arrays) for k in range(len(arrays["layers"]))))


def surface_energy(
    atoms: Atoms,
    *,
    miller: Sequence[int] = (1, 1, 1),
    layers: int | Sequence[int] | None = None,
    vacuum: float = 15.0,
    relaxed: bool = True,
    fmax: float = 1e-3,
    steps: int = 500,
    symprec: float = 1e-3,
    require: bool = False,
    evaluate: Evaluate | None = None,
    progress: bool | None = None,
) -> SurfaceEnergy:
    """The energy of an ideal surface per area, gamma = (E_slab - N E_bulk / N_bulk) / (2 A), of 1 x 1 slabs.

    atoms: the unit cell of the perfect, relaxed crystal.  miller: indices of its conventional cell, as spglib chooses
    it; three of them for hexagonal crystals too.
    layers: of the primitive cell, between the lattice planes of the surface; several numbers for several slabs; None
    for slabs of about 15, 20 and 25 Å.  vacuum: between slabs, Å; it must exceed the range of the potential.
    fitted: half the intercept of the line through E_slab(N) (Fiorentini and Methfessel, J. Phys. Condens. Matter 8,
    6525 (1996)), which needs no bulk energy; a slope other than that energy tells of slabs too thin.

    All slabs are evaluated in one batch and relaxed in step, with fixed cells: no reconstruction larger than 1 x 1 is
    found.  A compound needs slabs whose two faces are equivalent; with an element of two different faces the energy is
    their mean, with a PhysicsWarning.  One says also where the crystal is not relaxed, the vacuum is below 8 Å, a
    relaxation ends unconverged, or the two thickest slabs differ by more than 1 %.

    Raises ConfigError (a setting or the structure), EvaluationError, NotConvergedError.
    """
    check_crystal(atoms, "a surface energy")
    checks.crystal(atoms, "a surface energy")
    vacuum = checks.number("vacuum", vacuum, above=0.0, hint=" Å")
    fmax = checks.number("fmax", fmax, above=0.0, hint=" eV/Å")
    plane = Plane.of(atoms, miller, checks.number("symprec", symprec, above=0.0, hint=" Å"))
    counts = layer_counts(layers, plane.spacing, _THICKNESSES)
    slabs = [plane.slab(count, vacuum) for count in counts]
    same = all(equivalent_faces(slab, symprec) for slab in slabs)
    _check_slabs(atoms, plane, same, vacuum)
    names = ["the perfect crystal", *(f"the slab of {count} layers" for count in counts)]
    structures = [atoms.copy(), *slabs]
    bulk, *found = Evaluator(atoms.calc, evaluate)(structures, stress=offers_stress(atoms, evaluate), names=names)
    perfection = Perfection.of(bulk)
    perfection.tell()
    sizes = np.array([len(slab) for slab in slabs])
    area = float(np.linalg.norm(np.cross(slabs[0].cell.array[0], slabs[0].cell.array[1])))
    reference = bulk.energy / len(atoms)
    energies = np.array([one.energy for one in found])
    unrelaxed = (energies - sizes * reference) / (2 * area)
    ends: dict[str, Any] = {"relaxed": None, "converged": None, "max_forces": None, "slabs": tuple(slabs)}
    if relaxed:
        for slab in slabs:
            slab.calc = atoms.calc
        found_ends = relax_many(
            slabs, fmax=fmax, steps=steps, require=require, evaluate=evaluate, names=names[1:], progress=progress
        )
        energies = np.array([end.energy for end in found_ends])
        ends = _ends(found_ends) | {"relaxed": (energies - sizes * reference) / (2 * area)}
    result = SurfaceEnergy(
        miller=plane.miller,
        layers=np.array(counts),
        n_atoms=sizes,
        thicknesses=plane.spacing * np.array(counts),
        area=area,
        unrelaxed=unrelaxed,
        **_line(sizes, energies, area),
        bulk_energy=reference,
        equivalent_faces=same,
        vacuum=vacuum,
        fmax=fmax,
        perfect_max_force=perfection.max_force,
        perfect_max_stress_GPa=perfection.max_stress,
        **ends,
    )
    _tell_thin(result)
    return result


def _ends(ends: Sequence[Relaxation]) -> dict[str, Any]:
    """What relaxations add to the result."""
    return {
        "converged": np.array([end.converged for end in ends]),
        "max_forces": np.array([end.max_force for end in ends]),
        "slabs": tuple(end.atoms for end in ends),
    }


def _line(sizes: NDArray[np.int64], energies: Array, area: float) -> dict[str, Any]:
    """Half the intercept per area, and the slope, of the line through the energies of slabs."""
    if len(sizes) < 2:
        return {"fitted": None, "fitted_bulk_energy": None}
    slope, intercept = np.polyfit(sizes, energies, 1)
    return {"fitted": float(intercept) / (2 * area), "fitted_bulk_energy": float(slope)}


def _check_slabs(atoms: Atoms, plane: Plane, same: bool, vacuum: float) -> None:
    name = "".join(map(str, plane.miller))
    if not same and len(set(atoms.numbers.tolist())) > 1:
        raise ConfigError(
            f"the two faces of the ({name}) slab differ: the energy of a compound's surface is then not defined by the "
            "slab, which may be polar; choose other Miller indices"
        )
    if not same:
        text = f"the two faces of the ({name}) slab differ: the energy is the mean of both"
        warnings.warn(text, PhysicsWarning, stacklevel=3)
    if vacuum < _VACUUM:
        text = f"the vacuum is {vacuum:g} Å, less than {_VACUUM:g} Å: slabs may see each other; take more"
        warnings.warn(text, PhysicsWarning, stacklevel=3)


def _tell_thin(result: SurfaceEnergy) -> None:
    values = result.unrelaxed if result.relaxed is None else result.relaxed
    if len(values) > 1 and abs(values[-1] - values[-2]) > _THIN * abs(values[-1]):
        warnings.warn(
            f"the surface energy still changes from {values[-2] / J_PER_M2:.4f} to {values[-1] / J_PER_M2:.4f} J/m^2 "
            f"between {result.layers[-2]} and {result.layers[-1]} layers: take thicker slabs",
            PhysicsWarning,
            stacklevel=3,
        )
