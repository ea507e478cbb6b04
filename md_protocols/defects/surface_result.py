"""The energy of a surface."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units
from numpy.typing import NDArray

from .. import plotting
from ..crystals.conventional_cells import cell_text
from ..folders.storage import load_arrays, pack_atoms, save_arrays, unpack_atoms

Array = NDArray[np.float64]
J_PER_M2 = units.J / units.m**2  # in eV/Å^2
_ARRAYS = ("layers", "n_atoms", "thicknesses", "unrelaxed")
_OPTIONAL = ("relaxed", "converged", "max_forces")
_PLAIN = ("area", "fitted", "fitted_bulk_energy", "bulk_energy", "equivalent_faces", "vacuum", "fmax")
_CUT = ("termination", "cut", "left_out", "spacegroup", "cellpar", "spacing")
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
    termination: int = 0  # which of the distinct cuts, the widest gap first
    cut: str = ""  # where that is, in words
    others: tuple[SurfaceEnergy, ...] = ()  # of the other terminations, by their energies
    left_out: tuple[str, ...] = ()  # terminations without an energy, and why
    spacegroup: str = ""  # of the conventional cell that the indices refer to
    cellpar: tuple[float, ...] = ()  # of that cell: a, b, c (Å) and angles (degrees), as in ASE
    spacing: float = 0.0  # Å, between lattice planes

    @property
    def energy(self) -> float:
        """Of the thickest slab, relaxed where it was, eV/Å^2."""
        return float((self.unrelaxed if self.relaxed is None else self.relaxed)[-1])

    @property
    def energy_J_per_m2(self) -> float:  # noqa: N802 - the unit
        return self.energy / J_PER_M2

    def __str__(self) -> str:
        name = f"({''.join(map(str, self.miller))})"
        if self.spacegroup:
            name += f" of {cell_text(self.spacegroup, self.cellpar[:3])}, planes {self.spacing:.3f} Å apart"
        kind = "unrelaxed" if self.relaxed is None else "relaxed"
        flag = "" if self.converged is None or self.converged.all() else " (NOT converged)"
        fit = (
            "" if self.fitted is None else f"; from the line through {len(self.layers)} slabs {self.fitted:.5f} eV/Å^2"
        )
        return (
            f"surface {name}: {self.energy_J_per_m2:.4f} J/m^2 = {self.energy:.5f} eV/Å^2 {kind}{flag}, "
            f"{self.unrelaxed[-1] / J_PER_M2:.4f} J/m^2 unrelaxed, slab of {self.layers[-1]} layers "
            f"({self.thicknesses[-1]:.1f} Å){fit}{self._told_cuts()}"
        )

    def _told_cuts(self) -> str:
        if not self.others and not self.left_out:
            return ""
        lines = [f"\n  termination {self.termination}, {self.cut}" + (": the lowest" if self.others else "")]
        for other in self.others:
            end = "" if other.converged is None or other.converged.all() else " (NOT converged)"
            lines.append(f"  termination {other.termination}, {other.cut}: {other.energy_J_per_m2:.4f} J/m^2{end}")
        return "\n".join([*lines, *(f"  {text}" for text in self.left_out)])

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
            "termination": self.termination,
            "cut": self.cut,
            "others": [other.to_json() for other in self.others],
            "left_out": list(self.left_out),
            "spacegroup": self.spacegroup,
            "conventional_cellpar_A_degrees": list(self.cellpar),
            "plane_spacing_A": self.spacing,
        }

    def save(self, path: str | Path) -> None:
        """Write everything to one .npz file, without pickle."""
        save_arrays(path, "surface_energy", *self._packed())

    def _packed(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        names = [*_ARRAYS, *(name for name in _OPTIONAL if getattr(self, name) is not None)]
        arrays = {name: getattr(self, name) for name in names}
        for k, atoms in enumerate(self.slabs):
            arrays |= pack_atoms(f"slab{k}", atoms)
        info = {name: getattr(self, name) for name in ("miller", *_PLAIN, *_PERFECT, *_CUT)}
        info["others"] = []
        for k, other in enumerate(self.others):
            packed, one = other._packed()
            arrays |= {f"other{k}.{name}": values for name, values in packed.items()}
            info["others"].append(one)
        return arrays, info

    @classmethod
    def load(cls, path: str | Path) -> SurfaceEnergy:
        """The energies of a file written by `save`."""
        return cls._unpacked(*load_arrays(path, "surface_energy"))

    @classmethod
    def _unpacked(cls, arrays: dict[str, NDArray[Any]], info: dict[str, Any]) -> SurfaceEnergy:
        found: dict[str, Any] = {name: arrays.get(name) for name in (*_ARRAYS, *_OPTIONAL)} | info
        found |= {name: tuple(info.get(name, ())) for name in ("miller", "left_out", "cellpar")}
        others = []
        for k, one in enumerate(info.get("others", ())):
            start = f"other{k}."
            mine = {name.removeprefix(start): values for name, values in arrays.items() if name.startswith(start)}
            others.append(cls._unpacked(mine, one))
        found["others"] = tuple(others)
        return cls(**found, slabs=tuple(unpack_atoms(f"slab{k}", arrays) for k in range(len(arrays["layers"]))))
