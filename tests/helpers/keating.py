"""Keating's model of diamond, whose elastic constants are known in closed form: nothing of this comes from mlcalc."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes
from ase.units import GPa
from matscipy.neighbours import neighbour_list

ALPHA, BETA, LENGTH = 3.0, 0.9, 2.35  # eV/Å^2, eV/Å^2, Å


class Keating(Calculator):
    """E = sum_i 3/(8 r0^2) [alpha/2 sum_j (d_j^2 - r0^2)^2 + beta sum_{j<k} (d_j.d_k + r0^2/3)^2].

    P. N. Keating, Phys. Rev. 145, 637 (1966).
    """

    implemented_properties: ClassVar[list[str]] = ["energy", "forces", "stress"]

    def calculate(
        self, atoms: Atoms | None = None, properties: Any = ("energy",), system_changes: Any = all_changes
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        i, j, vectors = neighbour_list("ijD", self.atoms, 1.25 * LENGTH)
        energy, forces, virial = 0.0, np.zeros_like(self.atoms.positions), np.zeros((3, 3))
        scale = 3 / (8 * LENGTH**2)
        for center in range(len(self.atoms)):
            d, ends = vectors[i == center], j[i == center]
            stretch = (d**2).sum(axis=1) - LENGTH**2
            bend = d @ d.T + LENGTH**2 / 3
            np.fill_diagonal(bend, 0.0)
            energy += scale * (ALPHA / 2 * (stretch**2).sum() + BETA / 2 * (bend**2).sum())
            slope = scale * (2 * ALPHA * stretch[:, None] * d + 2 * BETA * bend @ d)
            np.add.at(forces, ends, -slope)
            forces[center] += slope.sum(axis=0)
            virial += d.T @ slope
        virial /= self.atoms.get_volume()
        self.results = {"energy": energy, "forces": forces, "stress": virial[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]}


def diamond() -> Atoms:
    atoms = bulk("Si", "diamond", a=4 * LENGTH / np.sqrt(3))
    atoms.calc = Keating()
    return atoms


def constants() -> tuple[float, float, float, float]:
    """C11, C12, C44 with relaxed and with clamped ions, GPa (Keating's eqs. for alpha and beta of this form)."""
    unit = np.sqrt(3) / (4 * LENGTH) / GPa
    c11, c12 = (ALPHA + 3 * BETA) * unit, (ALPHA - BETA) * unit
    return c11, c12, 4 * ALPHA * BETA / (ALPHA + BETA) * unit, (ALPHA + BETA) * unit
