"""A crystal of quartic bonds, whose self-consistent harmonic approximation is one number, found without phonopy."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.neighborlist import neighbor_list
from ase.units import _amu, _e, _hbar, kB
from numpy.typing import NDArray

Array = NDArray[np.float64]


class QuarticBonds(Calculator):
    """E = sum over nearest-neighbor bonds, of direction n, of k/2 s^2 + cubic/3 s^3 + g/4 s^4, s = n.(u_j - u_i).

    u are displacements from the sites of a crystal, whatever its supercell: sites are found by rounding.  Such springs
    are linear in u, so averages over normal distributions are those of a normal variable s.
    """

    implemented_properties: ClassVar[list[str]] = ["energy", "forces"]

    def __init__(self, k: float, g: float = 0.0, cubic: float = 0.0, a: float = 3.6) -> None:
        super().__init__(k=k, g=g, cubic=cubic, a=a)
        self.known: Any = (np.empty((0, 3)), ())  # sites, and their bonds

    def calculate(
        self, atoms: Atoms | None = None, properties: Any = ("energy",), system_changes: Any = all_changes
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        k, g, cubic, a = (self.parameters[name] for name in ("k", "g", "cubic", "a"))
        positions = lattice_points(self.atoms.positions, a)
        if not np.array_equal(self.known[0], positions):
            self.known = (positions, bonds(sites_of(self.atoms, a)))
        i, j, n = self.known[1]
        u = self.atoms.positions - positions
        s = np.einsum("ex,ex->e", n, u[j] - u[i])
        slope = k * s + cubic * s**2 + g * s**3
        # Every bond is there from both ends.
        forces = np.stack([np.bincount(i, slope * n[:, x], len(u)) for x in range(3)], axis=1)
        energy = 0.5 * float(np.sum(0.5 * k * s**2 + cubic / 3 * s**3 + g / 4 * s**4))
        self.results = {"energy": energy, "forces": forces}


def sites_of(atoms: Atoms, a: float) -> Atoms:
    """The fcc crystal that the atoms are displaced from."""
    sites = atoms.copy()
    sites.positions = lattice_points(atoms.positions, a)
    return sites


def lattice_points(positions: Array, a: float) -> Array:
    """The nearest points of an fcc lattice, all by rounding: atoms must be near to them."""
    cell = a / 2 * np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]])
    return np.rint(positions @ np.linalg.inv(cell)) @ cell


def bonds(sites: Atoms) -> tuple[NDArray[np.int64], NDArray[np.int64], Array]:
    """Nearest neighbors i, j and directions (E, 3), every bond from both ends."""
    i, j, vectors = neighbor_list("ijD", sites, 2.9)
    return i, j, vectors / np.linalg.norm(vectors, axis=1)[:, None]


def unit_force_constants(sites: Atoms) -> Array:
    """(3N, 3N) eV/Å^2 for k = 1 eV/Å^2."""
    i, j, n = bonds(sites)
    found = np.zeros((len(sites), 3, len(sites), 3))
    for a, b, direction in zip(i, j, n, strict=True):
        block = np.outer(direction, direction)
        found[a, :, a] += block
        found[a, :, b] -= block
    return found.reshape(3 * len(sites), -1)


def bond_variance(sites: Atoms, k: float, kelvin: float, *, classical: bool = False) -> float:
    """<s^2> in Å^2 of the harmonic crystal of bonds k."""
    mass = sites.get_masses()[0]
    values, vectors = np.linalg.eigh(k * unit_force_constants(sites) / mass)
    omega = np.sqrt(values[3:] * _e / _amu * 1e20)  # rad/s; the first three move the whole crystal
    if classical:
        amplitude = kB * kelvin * _e / omega**2
    else:
        amplitude = (
            _hbar / (2 * omega) * (1.0 if kelvin == 0 else 1.0 / np.tanh(_hbar * omega / (2 * kB * kelvin * _e)))
        )
    modes = vectors[:, 3:].reshape(len(sites), 3, -1)
    i, j, n = bonds(sites)
    s = np.einsum("x,xm->m", n[0], modes[j[0]] - modes[i[0]])
    return float(np.sum(s**2 * amplitude) / (mass * _amu) * 1e20)


def self_consistent_bond(sites: Atoms, k: float, g: float, kelvin: float, *, classical: bool = False) -> float:
    """eV/Å^2: k_eff = <V''(s)> = k + 3 g <s^2>, s of the crystal of bonds k_eff; by bisection."""
    low, high = 1e-3, 1e4
    for _ in range(200):
        middle = np.sqrt(low * high)
        if k + 3 * g * bond_variance(sites, middle, kelvin, classical=classical) > middle:
            low = middle
        else:
            high = middle
    return float(low)
