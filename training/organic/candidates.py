"""Geometries without labels, among which committees choose: one .npz and one .json file, as shards have.

Arrays: numbers (A,) uint8, positions (A, 3) float32 Å, first_atom (F + 1,) int64, molecule (F,) int32, places in the
list `molecules` of the .json file.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.organic.errors import OrganicError
from training.organic.files import archive, load_arrays, write_atomically
from training.organic.frames import Frames


@dataclass(frozen=True, eq=False)
class Candidates:
    """Frames, and what they are frames of."""

    frames: Frames
    molecule: NDArray[np.int64]  # (F,) places in `molecules`
    molecules: list[dict[str, Any]]  # smiles, keys, split, family

    def choose(self, indices: NDArray[np.int64]) -> Candidates:
        """Some of the frames, with the whole list of molecules."""
        return Candidates(self.frames.choose(indices), self.molecule[indices], self.molecules)


def write_candidates(path: Path, candidates: Candidates) -> None:
    """Write the .json file, then the .npz file, each whole or not at all."""
    frames = candidates.frames
    arrays: dict[str, NDArray[Any]] = {
        "numbers": frames.numbers.astype(np.uint8),
        "positions": frames.positions.astype(np.float32),
        "first_atom": frames.first_atom.astype(np.int64),
        "molecule": candidates.molecule.astype(np.int32),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path.with_suffix(".json"), json.dumps({"molecules": candidates.molecules}, indent=0).encode())
    write_atomically(path, archive(arrays))


def read_candidates(path: Path) -> Candidates:
    """The candidates of a file; a shard is read too, without its labels."""
    try:
        molecules = json.loads(path.with_suffix(".json").read_text())["molecules"]
        arrays = load_arrays(path, ("numbers", "positions", "first_atom", "molecule"))
    except Exception as error:  # a damaged zip file can raise almost anything
        raise OrganicError(f"{path}: not a whole file of candidates ({error}): make it again") from error
    frames = Frames(
        arrays["numbers"].astype(np.int64),
        arrays["positions"].astype(np.float64),
        arrays["first_atom"].astype(np.int64),
    )
    molecule = arrays["molecule"].astype(np.int64)
    if molecule.shape != (len(frames),) or not ((molecule >= 0) & (molecule < len(molecules))).all():
        raise OrganicError(f"{path}: {len(frames)} frames of {len(molecules)} molecules, but places {molecule}")
    return Candidates(frames, molecule, molecules)
