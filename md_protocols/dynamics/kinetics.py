"""Momenta, kinetic temperature and the degrees of freedom they are counted over."""

from __future__ import annotations

import numpy as np
from ase import Atoms, units
from ase.constraints import FixAtoms
from numpy.typing import NDArray

from mlcalc.ground.errors import Use

from ..errors import ConfigError

Array = NDArray[np.float64]

# Of kinetic energies, so squares: sums of momenta are exact to about 1e-16 of their terms.
_ROUND_OFF, _COLDEST = 1e-20, 1e-15  # share of the energy before; K


class Kinetics:
    """Kinetic energy, temperature and constraints on the momenta of one structure.

    Degrees of freedom: 3 per mobile atom, less the 3 of the center of mass where its momentum is conserved at zero
    (no fixed atoms, `remove_drift`), less the 3 of rotation (2 for two atoms) with `remove_rotation`.  Fixed atoms
    exchange momentum with the rest, so nothing is subtracted beside their own 3.
    """

    def __init__(self, atoms: Atoms, *, remove_drift: bool, remove_rotation: bool) -> None:
        n_atoms = len(atoms)
        fixed = np.unique(np.concatenate([np.empty(0, dtype=int), *(_indices(c, n_atoms) for c in atoms.constraints)]))
        self.fixed = fixed
        self.masses: Array = atoms.get_masses()[:, None]  # (N, 1) u
        self.total_mass = self.masses.sum()
        self.mobile: Array = np.ones((n_atoms, 1))  # (N, 1), 0 for fixed atoms
        self.mobile[fixed] = 0.0
        if remove_rotation and (atoms.pbc.any() or len(fixed)):
            raise ConfigError(
                "remove_rotation needs a free molecule",
                setting="remove_rotation",
                value=True,
                remedies=[
                    Use(
                        "pbc",
                        False,
                        python="set pbc=False and remove constraints",
                        file='make the file say so (extended XYZ: pbc="F F F"), without constraints',
                    ),
                    "leave it out",
                ],
            )
        self.remove_drift = remove_drift and not len(fixed)
        self.remove_rotation = remove_rotation
        rotations = (0, 0, 2)[n_atoms] if n_atoms < 3 else 3
        removed = 3 * self.remove_drift + rotations * remove_rotation
        self.degrees_of_freedom = max(3 * (n_atoms - len(fixed)) - removed, 0)

    def kinetic_energy(self, momenta: Array) -> float:
        """Sum of p^2 / 2m, eV."""
        return 0.5 * float(momenta.ravel().dot((momenta / self.masses).ravel()))

    def temperature(self, kinetic_energy: float) -> float:
        """2 K / (ndof k_B) in K; 0 without degrees of freedom."""
        return 2.0 * kinetic_energy / (self.degrees_of_freedom * units.kB) if self.degrees_of_freedom else 0.0

    def target_energy(self, temperature_K: float) -> float:
        """ndof k_B T / 2, eV."""
        return 0.5 * self.degrees_of_freedom * units.kB * temperature_K

    def without_drift(self, momenta: Array) -> Array:
        """Momenta with the velocity of the center of mass subtracted, if it is to be."""
        if not self.remove_drift:
            return momenta
        rest: Array = momenta - self.masses * (np.add.reduce(momenta, axis=0) / self.total_mass)
        return rest

    def without_rotation(self, positions: Array, momenta: Array) -> Array:
        """Momenta with the rigid rotation about the center of mass subtracted, if it is to be."""
        if not self.remove_rotation:
            return momenta
        arms = positions - (self.masses * positions).sum(axis=0) / self.total_mass
        angular_momentum = np.cross(arms, momenta).sum(axis=0)
        inertia = (self.masses[:, :, None] * _inertia_terms(arms)).sum(axis=0)
        # A linear molecule has no inertia about its axis, and no angular momentum to remove there.
        angular_velocity = np.linalg.pinv(inertia, hermitian=True, rcond=1e-10) @ angular_momentum
        rigid: Array = self.masses * np.cross(angular_velocity, arms)
        return momenta - rigid

    def initial_momenta(self, atoms: Atoms, temperature_K: float | None, rng: np.random.Generator) -> Array:
        """The structure's own momenta if it has any, else a Maxwell-Boltzmann draw scaled to exactly the temperature.

        Drift (and rotation, if asked) are removed, fixed atoms rest; the round-off that this leaves of momenta that
        were nothing else does not count as own.  Without own momenta and temperature: zeros.
        """
        given = np.array(atoms.get_momenta(), dtype=np.float64)
        own = self._constrained(atoms.positions, given)
        if self.kinetic_energy(own) > max(_ROUND_OFF * self.kinetic_energy(given), self.target_energy(_COLDEST)):
            return own
        if temperature_K is None:
            return np.zeros_like(own)
        drawn = np.sqrt(self.masses * units.kB * temperature_K) * rng.standard_normal((len(atoms), 3))
        drawn = self._constrained(atoms.positions, drawn)
        kinetic = self.kinetic_energy(drawn)
        if self.degrees_of_freedom == 0 or kinetic == 0.0:
            return np.zeros_like(drawn)
        scaled: Array = drawn * np.sqrt(self.target_energy(temperature_K) / kinetic)
        return scaled

    def _constrained(self, positions: Array, momenta: Array) -> Array:
        return self.without_rotation(positions, self.without_drift(momenta * self.mobile))


def _indices(constraint: FixAtoms, n_atoms: int) -> NDArray[np.int64]:
    indices: NDArray[np.int64] = np.arange(n_atoms, dtype=np.int64)[constraint.index]
    return indices


def _inertia_terms(arms: Array) -> Array:
    squares = np.einsum("ni,ni->n", arms, arms)[:, None, None] * np.eye(3)
    terms: Array = squares - arms[:, :, None] * arms[:, None, :]
    return terms
