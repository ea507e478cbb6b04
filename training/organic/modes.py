"""Displacements along normal modes, as wide as heat and zero-point motion make them."""

from __future__ import annotations

import numpy as np
from ase import units
from ase.data import atomic_masses
from numpy.typing import NDArray

from training.organic.frames import Evaluate, Geometry, join

_DISPLACEMENT = 0.01  # Å
_SOFT = 150.0 * units.invcm  # eV; modes below are torsions, for which straight displacements hold only when small
_HBAR = units._hbar * units.J * units.s  # eV times ASE's unit of time


def hessians(evaluate: Evaluate, geometries: list[Geometry]) -> list[NDArray[np.float64]]:
    """Second derivatives (3N, 3N) in eV/Å^2 of each structure, from forward differences of forces."""
    moved: list[Geometry] = []
    for numbers, positions in geometries:
        moved.append((numbers, positions))
        for k in range(positions.size):
            shifted = positions.flatten()
            shifted[k] += _DISPLACEMENT
            moved.append((numbers, shifted.reshape(-1, 3)))
    frames = join(moved)
    _, forces = evaluate(frames)
    found, first = [], 0
    for _, positions in geometries:
        last = first + 1 + positions.size
        block = forces[frames.first_atom[first] : frames.first_atom[last]].reshape(-1, positions.size)
        hessian = (block[0] - block[1:]) / _DISPLACEMENT
        found.append(0.5 * (hessian + hessian.T))
        first = last
    return found


def displaced(
    geometry: Geometry,
    hessian: NDArray[np.float64],
    temperature_K: float,
    rng: np.random.Generator,
    *,
    quantum: bool,
) -> NDArray[np.float64]:
    """Positions (N, 3) drawn from the harmonic distribution at a temperature, classical or with zero-point motion.

    The variance of a mode of frequency w is kT / w^2, or (ħ / 2w) coth(ħw / 2kT); soft modes are taken as of 150 cm^-1.
    """
    numbers, positions = geometry
    root = np.sqrt(np.repeat(atomic_masses[numbers], 3))
    values, vectors = np.linalg.eigh(hessian / np.outer(root, root))
    internal = _without_rigid_motions(numbers, positions, vectors)
    energies = np.maximum(_HBAR * np.sqrt(np.maximum(values, 0.0)), _SOFT)  # ħw, (3N,) eV
    kT = units.kB * temperature_K
    mean_energy = 0.5 * energies / np.tanh(0.5 * energies / kT) if quantum else np.full_like(energies, kT)
    amplitudes = internal * np.sqrt(mean_energy) * _HBAR / energies * rng.standard_normal(len(values))
    return np.asarray(positions + ((vectors @ amplitudes) / root).reshape(-1, 3))


def _without_rigid_motions(
    numbers: NDArray[np.int64], positions: NDArray[np.float64], vectors: NDArray[np.float64]
) -> NDArray[np.float64]:
    """1 for modes that bend or stretch, 0 for those that are mostly a translation or rotation, (3N,)."""
    root = np.sqrt(atomic_masses[numbers])[:, None]
    centered = positions - np.average(positions, axis=0, weights=atomic_masses[numbers])
    rigid = [(root * axis).ravel() for axis in np.eye(3)] + [
        (root * np.cross(axis, centered)).ravel() for axis in np.eye(3)
    ]
    left, sizes, _ = np.linalg.svd(np.array(rigid).T, full_matrices=False)
    basis = left[:, sizes > 1e-4 * sizes[0]]  # linear molecules have five
    return np.asarray(((basis.T @ vectors) ** 2).sum(0) < 0.5, dtype=float)
