"""Frames that a committee of students disagrees on, to be labeled next.

Runs where mlcalc is installed; needs neither RDKit nor the teacher.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from training.organic.candidates import Candidates
from training.organic.dynamics import sample
from training.organic.errors import OrganicError
from training.organic.frames import Evaluate, Frames, join, max_by_frame


def student(path: Path, dtype: str = "float32", kernels: str = "auto") -> Evaluate:
    """Energies and forces of a model file, as a function of frames."""
    from mlcalc import MLCalculator

    calculator = MLCalculator(str(path), dtype=dtype, kernels=kernels, min_distance=0.0)

    def evaluate(frames: Frames) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        results = calculator.evaluate([Atoms(numbers, positions) for numbers, positions in frames])
        return np.array([result.energy for result in results]), np.concatenate([result.forces for result in results])

    return evaluate


def disagreement(frames: Frames, forces: NDArray[np.float64]) -> NDArray[np.float64]:
    """(F,) eV/Å: of each frame the largest, over atoms, rms distance of the members' forces from their mean.

    `forces` (K, A, 3) are those of K members; with one member there is nothing to disagree about.
    """
    if forces.ndim != 3 or len(forces) < 2:
        raise OrganicError(f"forces have shape {forces.shape}: those of two or more members, (K, A, 3), are needed")
    apart = forces - forces.mean(0)
    return max_by_frame(frames, np.sqrt((apart**2).sum(-1).mean(0)))


def committee(members: Sequence[Evaluate], frames: Frames) -> NDArray[np.float64]:
    """Disagreement (F,) eV/Å of any number of models."""
    return disagreement(frames, np.stack([member(frames)[1] for member in members]))


def most_disputed(
    scores: NDArray[np.float64],
    molecule: NDArray[np.int64],
    count: int,
    *,
    per_molecule: int,
    lowest: float = 0.0,
    highest: float = np.inf,
) -> NDArray[np.int64]:
    """Up to `count` frames, the most disputed first, no more than `per_molecule` of one molecule.

    Scores not above `lowest` are settled; those above `highest`, or not finite, belong to geometries that fell apart.
    """
    taken: dict[int, int] = {}
    chosen: list[int] = []
    with np.errstate(invalid="ignore"):
        eligible = (scores > lowest) & (scores <= highest)
    for frame in np.argsort(np.where(eligible, -scores, np.inf), kind="stable"):
        if len(chosen) == count or not eligible[frame]:
            break
        if taken.get(int(molecule[frame]), 0) < per_molecule:
            taken[int(molecule[frame])] = taken.get(int(molecule[frame]), 0) + 1
            chosen.append(int(frame))
    return np.array(chosen, dtype=np.int64)


def explored(
    member: Evaluate,
    starts: Candidates,
    temperatures_K: Sequence[float],
    *,
    samples: int,
    seed: int,
    spacing: int = 50,
) -> Candidates:
    """Where dynamics of a student leads from the starts: the frames in which its own mistakes show.

    Each start runs at one of the temperatures; frames are `spacing` steps of 2 fs (masses of 12 amu) apart.
    """
    rng = np.random.default_rng(seed)
    temperatures = rng.choice(np.asarray(temperatures_K, dtype=float), len(starts.frames))
    taken = sample(
        member, starts.frames, temperatures, equilibration=spacing, spacing=spacing, samples=samples, rng=rng
    )
    frames = join(geometry for positions in taken for geometry in starts.frames.at(positions))
    return Candidates(frames, np.tile(starts.molecule, samples), starts.molecules)
