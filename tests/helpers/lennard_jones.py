"""A smooth pair potential and what its lattice sums say of a crystal: nothing of this comes from mlcalc."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.units import GPa
from matscipy.neighbours import neighbour_list
from scipy.optimize import brentq

EPSILON, SIGMA = 0.05, 2.6  # eV, Å


def pair(r: Any) -> tuple[Any, Any, Any]:
    """phi, phi' and phi'' of 4 eps ((s/r)^12 - (s/r)^6)."""
    a, b = (SIGMA / r) ** 12, (SIGMA / r) ** 6
    return (
        4 * EPSILON * (a - b),
        4 * EPSILON * (6 * b - 12 * a) / r,
        4 * EPSILON * (156 * a - 42 * b) / r**2,
    )


class Pairs(Calculator):
    """Energy, forces and stress of the pair potential, with no shift: no shell may cross the cutoff under strain."""

    implemented_properties: ClassVar[list[str]] = ["energy", "forces", "stress"]

    def __init__(self, cutoff: float) -> None:
        super().__init__()
        self.cutoff = cutoff

    def calculate(
        self, atoms: Atoms | None = None, properties: Any = ("energy",), system_changes: Any = all_changes
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        i, r, vectors = neighbour_list("idD", self.atoms, self.cutoff)
        phi, slope, _ = pair(r)
        pull = (slope / r)[:, None] * vectors
        forces = np.zeros_like(self.atoms.positions)
        np.add.at(forces, i, pull)
        virial = 0.5 * np.einsum("ex,ey->xy", pull, vectors) / self.atoms.get_volume()
        self.results = {
            "energy": 0.5 * phi.sum(),
            "forces": forces,
            "stress": virial[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]],
        }


def shells(atoms: Atoms, cutoff: float) -> np.ndarray:
    """Vectors (K, 3) from an atom of a Bravais lattice to its neighbors, by counting over images."""
    n = np.array(list(np.ndindex(13, 13, 13))) - 6
    vectors = n @ atoms.cell.array
    r = np.linalg.norm(vectors, axis=1)
    return vectors[(r > 0) & (r < cutoff)]


def lattice_constant(build: Any, cutoff_in_a: float, low: float, high: float) -> float:
    """Of the Bravais lattice `build(a)` without pressure: sum of r phi'(r) = 0."""

    def virial(a: float) -> float:
        r = np.linalg.norm(shells(build(a), cutoff_in_a * a), axis=1)
        return float((r * pair(r)[1]).sum())

    return float(brentq(virial, low, high, xtol=1e-13))


def stiffness(atoms: Atoms, cutoff: float) -> np.ndarray:
    """C_ijkl (3, 3, 3, 3) GPa of a stress-free Bravais lattice: 1/2V sum (phi'' - phi'/r) x_i x_j x_k x_l / r^2.

    (Born and Huang, Dynamical Theory of Crystal Lattices, section 11.)
    """
    x = shells(atoms, cutoff)
    r = np.linalg.norm(x, axis=1)
    _, slope, curvature = pair(r)
    weights = (curvature - slope / r) / r**2 / (2 * atoms.get_volume())
    return np.einsum("e,ei,ej,ek,em->ijkm", weights, x, x, x, x) / GPa
