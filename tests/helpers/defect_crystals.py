"""Crystals and potentials for tests of vacancies and surfaces, whose energies are known otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.calculators.morse import MorsePotential

from mlcalc.md_protocols.evaluator import Evaluated
from mlcalc.md_protocols.relaxation.relax import relax


def pair_potential() -> LennardJones:
    """Energies are sums over pairs, cut off smoothly at 6.2 Å."""
    return LennardJones(sigma=2.3, epsilon=0.4, rc=6.2, ro=5.0, smooth=True)


def nearest_pairs(epsilon: float = 0.3, r0: float = 2.55) -> MorsePotential:
    """Pairs within 1.3 r0: nearest neighbors in fcc, and an energy of -epsilon for each at r0."""
    return MorsePotential(epsilon=epsilon, r0=r0, rho0=6.0, rcut1=1.1, rcut2=1.3)


@cache
def _relaxed(name: str) -> Atoms:
    gold = bulk("Cu", "fcc", a=3.75, cubic=True)
    gold.symbols[0] = "Au"
    atoms = {"a15": a15(), "copper": bulk("Cu", "fcc", a=3.6, cubic=True), "alloy": gold}[name]
    atoms.calc = pair_potential() if name == "a15" else EMT()
    return relax(atoms, cell=True, fmax=1e-6, smax=1e-8, keep_symmetry=True).atoms


def copper() -> Atoms:
    """The cubic cell of fcc copper at its minimum, with EMT."""
    atoms = _relaxed("copper").copy()
    atoms.calc = EMT()
    return atoms


def alloy() -> Atoms:
    """Cu3Au at its minimum, with EMT: two inequivalent sites, 0 and 1."""
    atoms = _relaxed("alloy").copy()
    atoms.calc = EMT()
    return atoms


def relaxed_a15() -> Atoms:
    """The A15 structure at its minimum, with the pair potential."""
    atoms = _relaxed("a15").copy()
    atoms.calc = pair_potential()
    return atoms


def a15(symbols: str = "Cu8") -> Atoms:
    """Pm-3n with two inequivalent sites: 2a first, then 6c."""
    places = [(0, 0, 0), (0.5, 0.5, 0.5)]
    for axis in range(3):
        for first, second in ((0.25, 0.0), (0.75, 0.0)):
            place = np.array([0.0, 0.0, 0.0])
            place[axis], place[(axis + 1) % 3], place[(axis + 2) % 3] = first, 0.5, second
            places.append(tuple(place))
    return Atoms(symbols, cell=[4.6] * 3, scaled_positions=places, pbc=True)


@dataclass
class InBatches:
    """A calculator that takes lists whole and remembers how long they were; everything else is that of another."""

    calculator: Calculator
    sizes: list[int] = field(default_factory=list)

    @property
    def implemented_properties(self) -> list[str]:
        return list(self.calculator.implemented_properties)

    def evaluate(self, structures: Sequence[Atoms], *, forces: bool, stress: bool) -> list[Evaluated]:
        self.sizes.append(len(structures))
        found = []
        for atoms in structures:
            copy = atoms.copy()
            copy.calc = self.calculator
            energy, pull = copy.get_potential_energy(), copy.get_forces(apply_constraint=False)
            found.append(Evaluated(energy, pull, copy.get_stress() if stress else None))
        return found


class Wells(Calculator):
    """Every atom sits on a harmonic site; next to a vacancy sites are double wells along x, -k/2 u^2 + q/4 u^4.

    At rest no atom feels a force, and each double well lowers the energy by k^2 / (4 q) once symmetry is broken.
    """

    implemented_properties = ["energy", "forces"]  # noqa: RUF012 - as in ASE
    k, q, stiff = 1.0, 5.0, 4.0  # eV/Å^2, eV/Å^4, eV/Å^2

    def __init__(self, perfect: Atoms, wells: int) -> None:
        super().__init__()
        self.perfect, self.wells = perfect.copy(), wells

    def calculate(
        self, atoms: Atoms | None = None, properties: Any = ("energy",), system_changes: Any = all_changes
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        away = self.atoms.positions[:, None] - self.perfect.positions
        away -= np.round(away / self.perfect.cell.lengths()) * self.perfect.cell.lengths()
        u = away[np.arange(len(self.atoms)), np.linalg.norm(away, axis=2).argmin(axis=1)]
        energy = self.stiff / 2 * (u**2).sum()
        forces = -self.stiff * u
        if len(self.atoms) < len(self.perfect):
            x = u[: self.wells, 0]
            energy += (-(self.stiff + self.k) / 2 * x**2 + self.q / 4 * x**4).sum()
            forces[: self.wells, 0] += (self.stiff + self.k) * x - self.q * x**3
        self.results = {"energy": float(energy), "forces": forces}
