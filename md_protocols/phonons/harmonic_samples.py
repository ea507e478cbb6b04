"""Displacements drawn from the thermal distribution of a harmonic crystal, and the force constants of their forces."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from ase.neighborlist import neighbor_list
from numpy.typing import NDArray

from mlcalc.ground.errors import Use

from ..errors import ConfigError
from .force_constants import symfc_recursion
from .meshes import run_mesh
from .thermal import vibrating

if TYPE_CHECKING:
    from phonopy import Phonopy

Array = NDArray[np.float64]
RIGID = 0.01  # THz: modes below it are not displaced; those that move the crystal as a whole are there
_SMALLEST = 1e-4  # Å: forces of smaller displacements are rounding
_LARGEST = 0.5  # of the shortest distance between atoms: beyond it displacements are no vibrations


def drawn_displacements(
    phonon: Phonopy, constants: Array, temperature_K: float, pairs: int, *, seed: int, statistics: str
) -> tuple[Array, int]:
    """(2 pairs, N, 3) Å, u and after all of them -u, and how many modes were too soft to be displaced.

    Each mode s has a normal distribution with <Q_s^2> = hbar/(2 omega_s) coth(hbar omega_s / 2kT), or kT/omega_s^2 for
    "classical" statistics; imaginary modes count with |omega_s|.  Drawn by phonopy (RandomDisplacements), as a function
    of the seed and smooth in the force constants.
    """
    phonon.force_constants = constants
    distribution: Any = statistics
    phonon.init_random_displacements(dist_func=distribution, cutoff_frequency=RIGID)
    half = np.array(phonon.get_random_displacements_at_temperature(temperature_K, pairs, random_seed=seed))
    masses = phonon.supercell.masses
    half -= np.einsum("a,nax->nx", masses, half)[:, None] / masses.sum()
    generator: Any = phonon.random_displacements
    soft = int((~np.asarray(generator.integrated_modes)).sum()) - 3
    return np.concatenate([half, -half]), max(soft, 0)


def require_vibrations(displacements: Array, cell: Atoms) -> float:
    """The largest displacement of an atom, Å; ConfigError where it is no vibration any more."""
    largest = float(np.linalg.norm(displacements, axis=2).max())
    nearest = _shortest_distance(cell)
    if largest < _SMALLEST:
        raise ConfigError(
            f"atoms would be displaced by {largest:.3g} Å at most (limit {_SMALLEST:g}), which leaves nothing to fit "
            "force constants to",
            setting="temperature_K",
            value=largest,
            limit=_SMALLEST,
            remedies=[
                Use("temperature_K", None, python="raise temperature_K"),
                Use("statistics", "quantum", "which has zero-point motion"),
            ],
        )
    if largest > _LARGEST * nearest:
        raise ConfigError(
            f"atoms would be displaced by up to {largest:.3g} Å, the shortest distance is {nearest:.3g} Å: the force "
            "constants have modes too soft for this temperature",
            setting="temperature_K",
            value=largest,
            limit=_LARGEST * nearest,
            remedies=[
                Use("temperature_K", None, python="lower temperature_K"),
                Use("start", None, "stabler phonons, such as those of a lower temperature"),
            ],
        )
    return largest


def _shortest_distance(cell: Atoms) -> float:
    cutoff = 2.0
    while not len(found := neighbor_list("d", cell, cutoff)):
        cutoff *= 1.5
    return float(found.min())


class Fit:
    """Force constants by least squares on F = -Phi u: with the space group, Phi_ij = Phi_ji^T and sum_j Phi_ij = 0.

    By symfc (Seko and Togo, Phys. Rev. B 110, 214302 (2024)).
    """

    @symfc_recursion()
    def __init__(self, phonon: Phonopy) -> None:
        from symfc import Symfc
        from symfc.utils.utils import SymfcAtoms

        cell = phonon.supercell
        self._symfc = Symfc(
            SymfcAtoms(cell=cell.cell, scaled_positions=cell.scaled_positions, numbers=cell.numbers),
            spacegroup_operations=phonon.symmetry.symmetry_operations,
            symprec=phonon.symmetry.tolerance,
        )
        self._symfc.compute_basis_set(orders=[2])
        basis: Any = self._symfc.basis_set[2]
        self.parameters = int(basis.basis_set.shape[1])  # independent force constants

    @symfc_recursion()
    def __call__(self, displacements: Array, forces: Array) -> Array:
        """(N, N, 3, 3) eV/Å^2 from (D, N, 3) Å and eV/Å."""
        self._symfc.displacements = displacements
        self._symfc.forces = forces
        self._symfc.solve(orders=[2], is_compact_fc=False)
        return np.array(self._symfc.force_constants[2], dtype=float, order="C")


def misfit(constants: Array, displacements: Array, forces: Array) -> float:
    """rms(F + Phi u) / rms(F): the share of the forces that is not harmonic (Knoop et al., PRM 4, 083809 (2020))."""
    rest = forces + np.einsum("ijab,djb->dia", constants, displacements, optimize=True)
    scale = float((forces**2).mean())
    return float(np.sqrt((rest**2).mean() / scale)) if scale > 0 else 0.0


def mesh_frequencies(phonon: Phonopy, constants: Array, mesh: tuple[int, int, int]) -> Array:
    """(M, bands) THz; zero for the three modes at Γ that move the crystal as a whole."""
    phonon.force_constants = constants
    found = run_mesh(phonon, mesh)
    frequencies = np.array(found.frequencies)
    return np.where(vibrating(found.qpoints, frequencies), frequencies, 0.0)


def left_out(fit: Fit, displacements: Array, forces: Array, blocks: int) -> list[Array]:
    """Force constants without each block of pairs u, -u in turn, for the jackknife error."""
    pairs = len(displacements) // 2
    found = []
    for block in np.array_split(np.arange(pairs), blocks):
        kept = np.setdiff1d(np.arange(pairs), block)
        rows = np.concatenate([kept, kept + pairs])
        found.append(fit(displacements[rows], forces[rows]))
    return found


def jackknife(values: Array) -> Array:
    """Standard error of a quantity from its values without each block in turn (first axis)."""
    blocks = len(values)
    return np.asarray(np.sqrt((blocks - 1) / blocks * ((values - values.mean(axis=0)) ** 2).sum(axis=0)))


def mean_forces(phonon: Phonopy, forces: Array) -> tuple[float, float]:
    """Largest mean force on an atom of the primitive cell and its standard error, eV/Å, over pairs and translations."""
    pairs = len(forces) // 2
    even = 0.5 * (forces[:pairs] + forces[pairs:])
    where = np.array([phonon.primitive.p2p_map[s] for s in phonon.primitive.s2p_map])
    each = np.array([even[:, where == k].mean(axis=1) for k in range(len(phonon.primitive))])  # (n, pairs, 3)
    worst = int(np.argmax(np.linalg.norm(each.mean(axis=1), axis=1)))
    error = float(np.linalg.norm(each[worst].std(axis=0, ddof=1))) / np.sqrt(pairs)
    return float(np.linalg.norm(each[worst].mean(axis=0))), error
