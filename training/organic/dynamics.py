"""Langevin dynamics of many structures in step, each at a temperature of its own."""

from __future__ import annotations

import numpy as np
from ase import units
from numpy.typing import NDArray

from training.organic.frames import Evaluate, Frames, max_by_frame

# Configurations in equilibrium do not depend on masses: equal ones allow four times the time step of hydrogen's.
_MASS = 12.0  # amu
_TIMESTEP = 2.0 * units.fs
_FRICTION = 0.03 / units.fs
_HOPELESS = 100.0  # eV/Å; a structure beyond this has exploded and is held where it is


def sample(
    evaluate: Evaluate,
    frames: Frames,
    temperatures_K: NDArray[np.float64],
    *,
    equilibration: int,
    spacing: int,
    samples: int,
    rng: np.random.Generator,
) -> list[NDArray[np.float64]]:
    """Positions (A, 3) of all structures at `samples` times, `spacing` steps of 2 fs apart, after `equilibration`.

    Method: BAOAB, B. Leimkuhler and C. Matthews, J. Chem. Phys. 138, 174102 (2013); all masses are 12 amu.  Velocities
    begin at twice the temperature, because structures at rest in a minimum give half of it away.
    """
    owners, kT = frames.owners, units.kB * temperatures_K[:, None]
    thermal = np.sqrt(kT / _MASS)[owners]  # (A, 1)
    decay = np.exp(-_FRICTION * _TIMESTEP)
    positions = frames.positions.copy()
    velocities = np.sqrt(2) * thermal * rng.standard_normal(positions.shape)
    forces, _ = _finite(frames, evaluate(frames)[1])
    taken = []
    for step in range(1, equilibration + spacing * (samples - 1) + 1):
        velocities += 0.5 * _TIMESTEP * forces / _MASS
        positions += 0.5 * _TIMESTEP * velocities
        velocities = decay * velocities + np.sqrt(1 - decay**2) * thermal * rng.standard_normal(positions.shape)
        positions += 0.5 * _TIMESTEP * velocities
        forces, exploded = _finite(frames, evaluate(frames.at(positions))[1])
        velocities[exploded] = 0.0
        velocities += 0.5 * _TIMESTEP * forces / _MASS
        if step >= equilibration and (step - equilibration) % spacing == 0:
            taken.append(positions.copy())
    return taken


def _finite(frames: Frames, forces: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The forces, none on structures that have exploded, and which atoms are theirs (A,)."""
    exploded = ~(max_by_frame(frames, np.abs(forces).max(1)) < _HOPELESS)[frames.owners]  # a NaN compares false
    return np.where(exploded[:, None], 0.0, forces), exploded
