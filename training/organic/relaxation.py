"""Relaxation of many structures in step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from training.organic.frames import Evaluate, Frames, sum_by_frame

_STEP_FIRST, _STEP_LARGEST = 0.1, 0.12  # of time, with atoms of unit mass: stiff bonds allow no more
_LONGEST = 0.12  # Å that an atom moves in one step


def relax(evaluate: Evaluate, frames: Frames, steps: int, keep: Sequence[int]) -> dict[int, NDArray[np.float64]]:
    """Positions (A, 3) after each of the numbers of steps in `keep`, on the way to the nearest minima.

    Method: FIRE, E. Bitzek et al., Phys. Rev. Lett. 97, 170201 (2006), with settings of its own for each structure.
    """
    positions, velocities = frames.positions.copy(), np.zeros_like(frames.positions)
    count = len(frames)
    step, mixing, downhill = np.full(count, _STEP_FIRST), np.full(count, 0.1), np.zeros(count, dtype=int)
    kept, owners = {}, frames.owners
    for number in range(steps + 1):
        if number in keep:
            kept[number] = positions.copy()
        if number == steps:
            break
        _, forces = evaluate(frames.at(positions))
        power = sum_by_frame(frames, (forces * velocities).sum(1))
        uphill = power < 0
        downhill = np.where(uphill, 0, downhill + 1)
        faster = downhill > 5
        step = np.where(uphill, step * 0.5, np.where(faster, np.minimum(step * 1.1, _STEP_LARGEST), step))
        mixing = np.where(uphill, 0.1, np.where(faster, mixing * 0.99, mixing))
        speed = np.sqrt(sum_by_frame(frames, (velocities**2).sum(1)))
        force = np.sqrt(sum_by_frame(frames, (forces**2).sum(1)))
        along = (mixing * speed / np.maximum(force, 1e-12))[owners, None] * forces
        velocities = np.where(uphill[owners, None], 0.0, (1 - mixing[owners, None]) * velocities + along)
        velocities += step[owners, None] * forces
        move = step[owners, None] * velocities
        length = np.linalg.norm(move, axis=1, keepdims=True)
        positions += move * np.minimum(1.0, _LONGEST / np.maximum(length, 1e-12))
    return kept
