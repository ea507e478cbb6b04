"""Crystals whose phonons are known in closed form, in cells of any size, and calculators with one fault each."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.neighborlist import neighbor_list
from ase.units import _amu, _e

THZ = np.sqrt(_e * 1e20 / _amu) / (2e12 * np.pi)  # THz: frequency for 1 eV/Å^2 and 1 u
EMT_COPPER = 3.5898255888  # Å, where EMT's stress vanishes


class NearSprings(Calculator):
    """E = sum over pairs within the cutoff of k/2 (d - d0)^2, whatever the cell."""

    implemented_properties: ClassVar[list[str]] = ["energy", "forces"]

    def __init__(self, k: float, d0: float, cutoff: float) -> None:
        super().__init__(k=k, d0=d0, cutoff=cutoff)

    def calculate(
        self, atoms: Atoms | None = None, properties: Any = ("energy",), system_changes: Any = all_changes
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        k, d0, cutoff = (self.parameters[name] for name in ("k", "d0", "cutoff"))
        i, distances, vectors = neighbor_list("idD", self.atoms, cutoff)
        pull = (k * (distances - d0) / distances)[:, None] * vectors
        forces = np.stack([np.bincount(i, pull[:, x], minlength=len(self.atoms)) for x in range(3)], axis=1)
        self.results = {"energy": 0.25 * k * float(np.sum((distances - d0) ** 2)), "forces": forces}


class Tampered(Calculator):
    """EMT whose forces are changed by a function before they are handed out."""

    implemented_properties: ClassVar[list[str]] = ["energy", "forces", "stress"]

    def __init__(self, change: Any) -> None:
        super().__init__()
        self.change, self.emt = change, EMT()

    def calculate(
        self, atoms: Atoms | None = None, properties: Any = ("energy",), system_changes: Any = all_changes
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        copy = self.atoms.copy()
        copy.calc = self.emt
        self.results = {
            "energy": copy.get_potential_energy(),
            "forces": self.change(copy.get_forces()),
            "stress": copy.get_stress(),
        }


def central_frequencies(q: Any, neighbors: Any, k: float, mass: float) -> Any:
    """THz of a crystal of one atom per cell with springs to these neighbors (vectors, Å), for q in 1/Å without 2 pi."""
    directions = neighbors / np.linalg.norm(neighbors, axis=1)[:, None]
    weights = k / mass * (1 - np.cos(2 * np.pi * neighbors @ q))
    values = np.linalg.eigvalsh(np.einsum("n,na,nb->ab", weights, directions, directions))
    return THZ * np.sqrt(np.abs(values))
