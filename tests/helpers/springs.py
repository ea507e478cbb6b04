"""Crystals and molecules of anharmonic springs: smooth, fast, and a pure function of the positions."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes
from ase.neighborlist import neighbor_list


class Springs(Calculator):
    """E = sum over bonds of k/2 (d - d0)^2 + cubic (d - d0)^3, bonds fixed once and for all."""

    implemented_properties: ClassVar[list[str]] = ["energy", "forces"]

    def __init__(self, reference: Atoms, cutoff: float, k: float = 3.0, cubic: float = -3.0) -> None:
        super().__init__(k=k, cubic=cubic)
        i, j, self.shifts = neighbor_list("ijD", reference, cutoff)
        self.shifts = self.shifts - (reference.positions[j] - reference.positions[i])
        self.i, self.j = i, j
        self.lengths = np.linalg.norm(reference.positions[j] - reference.positions[i] + self.shifts, axis=1)
        self.calls = 0

    def calculate(
        self, atoms: Atoms | None = None, properties: Any = ("energy",), system_changes: Any = all_changes
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        self.calls += 1
        k, cubic = self.parameters["k"], self.parameters["cubic"]
        x = self.atoms.positions
        vectors = x[self.j] - x[self.i] + self.shifts
        distances = np.sqrt(np.einsum("ex,ex->e", vectors, vectors))
        stretch = distances - self.lengths
        pull = ((k + 3 * cubic * stretch) * stretch / distances)[:, None] * vectors
        forces = np.zeros_like(x)
        for axis in range(3):
            forces[:, axis] = np.bincount(self.i, pull[:, axis], minlength=len(x))
        # Every bond is in the list twice.
        energy = 0.5 * float(np.sum((0.5 * k + cubic * stretch) * stretch**2))
        self.results = {"energy": energy, "forces": forces}


class Faulty(Springs):
    """Springs that answer with NaN, with an exception or with a huge force from one call on."""

    def __init__(self, reference: Atoms, cutoff: float, *, fault: str, at_call: int) -> None:
        super().__init__(reference, cutoff)
        self.fault, self.at_call = fault, at_call

    def calculate(self, *arguments: Any, **keywords: Any) -> None:
        super().calculate(*arguments, **keywords)
        if self.calls <= self.at_call:
            return
        if self.fault == "nan forces":
            self.results["forces"][2, 1] = np.nan
        elif self.fault == "nan energy":
            self.results["energy"] = np.nan
        elif self.fault == "huge force":
            self.results["forces"][1] += 1e4
        else:
            raise ArithmeticError("the potential gave up")


def copper(size: int = 2, **springs: float) -> Atoms:
    """A rattled fcc crystal of 4 size^3 atoms bound by springs to its nearest neighbors."""
    atoms = bulk("Cu", "fcc", a=3.6, cubic=True) * (size, size, size)
    calculator = Springs(atoms, 3.0, **springs)
    atoms.rattle(0.05, seed=3)
    atoms.calc = calculator
    return atoms


def few_atoms() -> Atoms:
    """Four atoms in a periodic cell: N / (N - 1) is far from one."""
    return copper(1)


def dimer(stretch: float = 0.1) -> Atoms:
    """Two atoms on a harmonic spring of 1 Å, k = 3 eV/Å^2."""
    atoms = Atoms("OH", positions=[[0, 0, 0], [0, 0, 1.0]])
    atoms.calc = Springs(atoms, 1.5, cubic=0.0)
    atoms.positions[1, 2] += stretch
    return atoms
