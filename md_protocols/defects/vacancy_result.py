"""The formation energies of vacancies, one per inequivalent site."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from .. import plotting
from ..folders.storage import load_arrays, pack_atoms, save_arrays, unpack_atoms

Array = NDArray[np.float64]
_ARRAYS = ("unrelaxed", "chemical_potentials")
_RELAXED = ("relaxed", "converged", "max_forces", "displacements", "relaxation_volumes")
_TUPLES = ("sites", "symbols", "multiplicities", "wyckoffs", "orbits", "potential_sources")
_PLAIN = tuple(
    "n_atoms spacegroup image_distance cell perfect_energy perfect_max_force "
    "perfect_max_stress_GPa fmax rattle seed".split()
)


@dataclass(frozen=True, eq=False)
class VacancyEnergy:
    """Formation energies E(N-1) - E(N) + mu of neutral vacancies, one per site."""

    sites: tuple[int, ...]  # indices in the unit cell
    symbols: tuple[str, ...]
    multiplicities: tuple[int, ...]  # symmetry-equivalent atoms in the unit cell
    wyckoffs: tuple[str, ...]  # letters
    orbits: tuple[int, ...]  # first atom that is equivalent to the site
    unrelaxed: Array  # (S,) eV, all atoms at their perfect places
    relaxed: Array | None  # (S,) eV; None, as the next four, if relaxed=False
    converged: NDArray[np.bool_] | None  # (S,)
    max_forces: Array | None  # (S,) eV/Å, at the end
    displacements: Array | None  # (S,) Å, of the atom that moved farthest from its perfect place
    relaxation_volumes: Array | None  # (S,) Å^3, of the relaxed cell beyond the perfect one; 0 with a fixed cell
    chemical_potentials: Array  # (S,) eV, of the atom removed
    potential_sources: tuple[str, ...]  # "E(N)/N" of the perfect crystal, or "given"
    supercell: NDArray[np.int64]  # (3, 3)
    n_atoms: int  # N, of the perfect supercell
    spacegroup: str
    image_distance: float  # Å, between a vacancy and its nearest image
    cell: str  # "fixed", "isotropic" or "full"
    perfect_energy: float  # eV, E(N)
    perfect_max_force: float  # eV/Å
    perfect_max_stress_GPa: float | None  # noqa: N815 - largest component; None where the calculator gives none
    fmax: float  # eV/Å, what was asked for
    rattle: float  # Å
    seed: int
    structures: tuple[Atoms, ...]  # the supercells with a vacancy, as relaxed

    def labels(self) -> list[str]:
        """The sites as `Cu0 (4a)`: element, index, multiplicity and Wyckoff letter."""
        named = zip(self.symbols, self.sites, self.multiplicities, self.wyckoffs, strict=True)
        return [f"{symbol}{site} ({count}{letter})" for symbol, site, count, letter in named]

    def __str__(self) -> str:
        lines = [
            f"vacancies in {self.spacegroup}, supercells of {self.n_atoms} atoms, {self.image_distance:.2f} Å between "
            f"images, {self.cell} cell"
        ]
        for k, label in enumerate(self.labels()):
            line = f"  {label}: {self.unrelaxed[k]:.4f} eV unrelaxed"
            if self.relaxed is not None and self.converged is not None and self.relaxation_volumes is not None:
                line += f", {self.relaxed[k]:.4f} eV relaxed" + ("" if self.converged[k] else " (NOT converged)")
                if self.cell != "fixed":
                    line += f", relaxation volume {self.relaxation_volumes[k]:.2f} Å^3"
            lines.append(f"{line}; mu = {self.chemical_potentials[k]:.4f} eV ({self.potential_sources[k]})")
        return "\n".join(lines)

    def plot(self, ax: Any = None) -> Any:
        """Axes with the energies of the sites as bars."""
        ax = plotting.axes(ax)
        places = np.arange(len(self.sites))
        width = 0.4 if self.relaxed is not None else 0.6
        bars = [(self.unrelaxed, "unrelaxed", -width / 2 if self.relaxed is not None else 0.0, "C7")]
        if self.relaxed is not None:
            bars.append((self.relaxed, "relaxed", width / 2, "C0"))
        for energies, label, shift, color in bars:
            drawn = ax.bar(places + shift, energies, width, label=label, color=color)
            ax.bar_label(drawn, fmt="%.3f", padding=2)
        ax.axhline(0.0, color="black", linewidth=0.5)
        ax.set_xticks(places, self.labels())
        ax.set_xlim(-1.0, len(places))
        ax.margins(y=0.15)
        ax.set_ylabel("vacancy formation energy (eV)")
        ax.legend(frameon=False)
        return ax

    def to_json(self) -> dict[str, Any]:
        """Plain values with units in their names."""
        found: dict[str, Any] = {name: list(getattr(self, name)) for name in _TUPLES}
        found |= {
            "unrelaxed_eV": self.unrelaxed.tolist(),
            "relaxed_eV": _listed(self.relaxed),
            "converged": _listed(self.converged),
            "max_forces_eV_per_A": _listed(self.max_forces),
            "displacements_A": _listed(self.displacements),
            "relaxation_volumes_A3": _listed(self.relaxation_volumes),
            "chemical_potentials_eV": self.chemical_potentials.tolist(),
            "supercell": self.supercell.tolist(),
            "n_atoms": self.n_atoms,
            "spacegroup": self.spacegroup,
            "image_distance_A": self.image_distance,
            "cell": self.cell,
            "perfect_energy_eV": self.perfect_energy,
            "perfect_max_force_eV_per_A": self.perfect_max_force,
            "perfect_max_stress_GPa": self.perfect_max_stress_GPa,
            "fmax_eV_per_A": self.fmax,
            "rattle_A": self.rattle,
            "seed": self.seed,
        }
        return found

    def save(self, path: str | Path) -> None:
        """Write everything to one .npz file, without pickle."""
        arrays, info = self.packed()
        save_arrays(path, "vacancy_energy", arrays, info)

    @classmethod
    def load(cls, path: str | Path) -> VacancyEnergy:
        """The energies of a file written by `save`; the structures come without calculator."""
        return cls.unpacked(*load_arrays(path, "vacancy_energy"))

    def packed(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Arrays and plain values, as files hold them."""
        arrays = {name: getattr(self, name) for name in (*_ARRAYS, *_RELAXED) if getattr(self, name) is not None}
        arrays["supercell"] = self.supercell
        for k, atoms in enumerate(self.structures):
            arrays |= pack_atoms(f"structure{k}", atoms)
        return arrays, {name: getattr(self, name) for name in (*_TUPLES, *_PLAIN)}

    @classmethod
    def unpacked(cls, arrays: Mapping[str, NDArray[Any]], info: Mapping[str, Any]) -> VacancyEnergy:
        """What `packed` packed."""
        found: dict[str, Any] = {name: arrays.get(name) for name in (*_ARRAYS, *_RELAXED, "supercell")}
        found |= {name: tuple(info[name]) for name in _TUPLES} | {name: info[name] for name in _PLAIN}
        structures = tuple(unpack_atoms(f"structure{k}", arrays) for k in range(len(info["sites"])))
        return cls(**found, structures=structures)


def _listed(values: NDArray[Any] | None) -> list[Any] | None:
    return None if values is None else list(values.tolist())
