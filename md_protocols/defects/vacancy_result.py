"""The formation energies of vacancies, one per inequivalent site."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from .. import plotting
from ..results import Arrays, Quantity, Result, renumbered

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class VacancyEnergy(Result):
    """Formation energies E(N-1) - E(N) + mu of neutral vacancies, one per site."""

    kind = "vacancy_energy"

    sites: Annotated[tuple[int, ...], Quantity("indices in the unit cell")]
    symbols: Annotated[tuple[str, ...], Quantity("elements of the sites")]
    multiplicities: Annotated[tuple[int, ...], Quantity("symmetry-equivalent atoms in the unit cell")]
    wyckoffs: Annotated[tuple[str, ...], Quantity("letters")]
    orbits: Annotated[tuple[int, ...], Quantity("first atom that is equivalent to the site")]
    unrelaxed: Annotated[Array, Quantity("energies with all atoms at their perfect places", "eV", "(S,)")]
    relaxed: Annotated[Array | None, Quantity("energies; None, as the next four, if nothing was relaxed", "eV", "(S,)")]
    each_converged: Annotated[NDArray[np.bool_] | None, Quantity("whether a site's relaxation has", shape="(S,)")]
    max_forces: Annotated[Array | None, Quantity("at the end", "eV/Å", "(S,)")]
    displacements: Annotated[
        Array | None, Quantity("of the atom that moved farthest from its perfect place", "Å", "(S,)")
    ]
    relaxation_volumes: Annotated[
        Array | None, Quantity("of the relaxed cell beyond the perfect one; 0 with a fixed cell", "Å^3", "(S,)")
    ]
    chemical_potentials: Annotated[Array, Quantity("of the atom removed", "eV", "(S,)")]
    potential_sources: Annotated[tuple[str, ...], Quantity("E(N)/N of the perfect crystal, or given")]
    supercell: Annotated[NDArray[np.int64], Quantity("new vectors as rows, in terms of the old", shape="(3, 3)")]
    n_atoms: Annotated[int, Quantity("N, of the perfect supercell")]
    spacegroup: Annotated[str, Quantity("of the crystal")]
    image_distance: Annotated[float, Quantity("between a vacancy and its nearest image", "Å")]
    cell: Annotated[str, Quantity("of the vacancies: fixed, isotropic or full")]
    perfect_energy: Annotated[float, Quantity("E(N)", "eV")]
    perfect_max_force: Annotated[float, Quantity("in the perfect crystal", "eV/Å")]
    perfect_max_stress_GPa: Annotated[  # noqa: N815 - units as they are written
        float | None, Quantity("largest component; None where the calculator gives none", "GPa")
    ]
    fmax: Annotated[float, Quantity("target of the relaxations", "eV/Å")]
    rattle: Annotated[float, Quantity("standard deviation of the displacements at the start", "Å")]
    seed: Annotated[int, Quantity("of the displacements")]
    structures: Annotated[
        tuple[Atoms, ...], Quantity("supercells with a vacancy, as relaxed", shape="(S,)", json=False)
    ]

    derived = MappingProxyType({"converged": Quantity("whether all relaxations have")})

    @classmethod
    def upgraded(cls, arrays: Arrays, info: dict[str, Any]) -> tuple[Arrays, dict[str, Any]]:
        """Files of versions that had `converged` for each site, and counted the structures by their names."""
        if "structures" not in info:
            info["structures"] = renumbered(arrays, "structure", "structures")
            if "converged" in arrays:
                arrays["each_converged"] = arrays.pop("converged")
        return arrays, info

    @property
    def converged(self) -> bool:
        """Whether all relaxations met their criteria."""
        return self.each_converged is None or bool(self.each_converged.all())

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
            if self.relaxed is not None and self.each_converged is not None and self.relaxation_volumes is not None:
                line += f", {self.relaxed[k]:.4f} eV relaxed" + ("" if self.each_converged[k] else " (NOT converged)")
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
