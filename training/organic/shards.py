"""Labeled frames on disk: one .npz and one .json a shard, and the stores that shards are joined to.

A shard holds F frames of A atoms in all, those of frame k being first_atom[k]:first_atom[k + 1]:

    numbers (A,) uint8, positions (A, 3) float32 Å, forces (A, 3) float32 eV/Å, forces_std (A,) float32 eV/Å,
    energy (F,) float64 eV, first_atom (F + 1,) int64, molecule (F,) int32, kind (F,) uint8

`molecule` and `kind` are places in the lists `molecules` and `kinds` of the .json file beside it.  `energy` is total;
less the `shifts` (eV by element) of the .json file it is small enough for float32.  `forces_std` is how much the four
members of the teacher's ensemble differ.  A store is a folder with the same arrays as .npy files, to be mapped into
memory, and one `manifest.json`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.organic.errors import OrganicError
from training.organic.files import archive, load_arrays, write_atomically
from training.organic.frames import Frames

KINDS = (
    "relaxation", "minimum", "dynamics", "modes", "torsion", "stretch", "rattle", "approach", "selected",
)  # fmt: skip
SPLITS = ("train", "validation", "test")
FORMAT = 1
_TRAINING_SHARDS = 10  # for one of validation and one of test
_DTYPES = {
    "numbers": np.uint8, "positions": np.float32, "forces": np.float32, "forces_std": np.float32,
    "energy": np.float64, "first_atom": np.int64, "molecule": np.int32, "kind": np.uint8,
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Shard:
    """Labeled frames, and what they are frames of."""

    frames: Frames
    energy: NDArray[np.float64]  # (F,) eV
    forces: NDArray[np.float64]  # (A, 3) eV/Å
    forces_std: NDArray[np.float64]  # (A,) eV/Å
    molecule: NDArray[np.int64]  # (F,) places in `molecules`
    kind: NDArray[np.int64]  # (F,) places in KINDS
    molecules: list[dict[str, Any]]  # smiles, keys, split, family

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays of the file."""
        frames = self.frames
        values = {
            "numbers": frames.numbers, "positions": frames.positions, "first_atom": frames.first_atom,
            "forces": self.forces, "forces_std": self.forces_std, "energy": self.energy,
            "molecule": self.molecule, "kind": self.kind,
        }  # fmt: skip
        return {name: np.ascontiguousarray(values[name], dtype=dtype) for name, dtype in _DTYPES.items()}


def shard_path(folder: Path, split: str, number: int) -> Path:
    """The .npz file of a shard; it exists as soon as the shard is whole."""
    return folder / f"{split}-{number:05d}.npz"


def selected_path(folder: Path, selected: Path) -> Path:
    """The .npz file of the shard that a file of selected frames is labeled to, one of the training set."""
    path = folder / f"train-selected-{selected.stem}.npz"
    if path.exists():
        raise OrganicError(f"{path} is there already: give the file of other frames another name than {selected.name}")
    return path


def write_shard(path: Path, shard: Shard, settings: dict[str, Any]) -> None:
    """Write the .json file, then the .npz file, each whole or not at all."""
    manifest = {"format": FORMAT, "kinds": KINDS, **settings, "molecules": shard.molecules}
    write_atomically(path.with_suffix(".json"), json.dumps(manifest, indent=0).encode())
    write_atomically(path, archive(shard.arrays()))


def read_shard(path: Path) -> tuple[Shard, dict[str, Any]]:
    """A shard and its manifest; OrganicError where the two files are not one whole shard of this format."""
    try:
        manifest = json.loads(path.with_suffix(".json").read_text())
        arrays = load_arrays(path, _DTYPES)
    except Exception as error:  # a damaged zip file can raise almost anything
        raise OrganicError(f"{path}: not a whole shard ({error}): delete it, and it is labeled again") from error
    if manifest.get("format") != FORMAT or tuple(manifest["kinds"]) != KINDS:
        raise OrganicError(
            f"{path}: format {manifest.get('format')!r}, kinds {manifest['kinds']}: expected {FORMAT}, {KINDS}"
        )
    shard = Shard(
        Frames(arrays["numbers"].astype(np.int64), arrays["positions"].astype(np.float64), arrays["first_atom"]),
        arrays["energy"],
        arrays["forces"].astype(np.float64),
        arrays["forces_std"].astype(np.float64),
        arrays["molecule"].astype(np.int64),
        arrays["kind"].astype(np.int64),
        manifest["molecules"],
    )
    _check_lengths(path, shard)
    return shard, manifest


def _check_lengths(path: Path, shard: Shard) -> None:
    frames, atoms = len(shard.frames), len(shard.frames.numbers)
    for name, found, expected in (
        ("energy", shard.energy.shape, (frames,)),
        ("forces", shard.forces.shape, (atoms, 3)),
        ("forces_std", shard.forces_std.shape, (atoms,)),
        ("molecule", shard.molecule.shape, (frames,)),
        ("kind", shard.kind.shape, (frames,)),
    ):
        if found != expected:
            raise OrganicError(f"{path}: {name} has shape {found}: {frames} frames of {atoms} atoms need {expected}")
    if not ((shard.molecule >= 0) & (shard.molecule < len(shard.molecules))).all():
        raise OrganicError(
            f"{path}: frames of molecules up to {shard.molecule.max()}, {len(shard.molecules)} are listed"
        )


def shards_of(folder: Path, split: str) -> list[Path]:
    """All whole shards of a split, in order."""
    return sorted(path for path in folder.glob(f"{split}-*.npz") if path.with_suffix(".json").is_file())


def join_shards(paths: Sequence[Path], store: Path) -> int:
    """Make a store of shards; the number of its frames."""
    if not paths:
        raise OrganicError(f"{store}: there are no shards to join")
    parts: dict[str, list[NDArray[Any]]] = {name: [] for name in _DTYPES}
    molecules: list[dict[str, Any]] = []
    shifts: dict[str, float] = {}
    atoms = 0
    for shard, manifest in map(read_shard, paths):
        if shifts and manifest["shifts"] != shifts:
            raise OrganicError(f"{store}: the shards are of teachers with different shifts")
        shifts = manifest["shifts"]
        arrays = shard.arrays()
        arrays["first_atom"] = arrays["first_atom"][:-1] + atoms
        arrays["molecule"] = (arrays["molecule"] + len(molecules)).astype(np.int32)
        for name, array in arrays.items():
            parts[name].append(array)
        molecules += shard.molecules
        atoms += len(shard.frames.numbers)
    parts["first_atom"].append(np.array([atoms], dtype=np.int64))
    store.mkdir(parents=True, exist_ok=True)
    for name, arrays_of_name in parts.items():
        np.save(store / f"{name}.npy", np.concatenate(arrays_of_name), allow_pickle=False)
    manifest = {"format": FORMAT, "kinds": KINDS, "shifts": shifts, "shards": [path.name for path in paths]}
    write_atomically(store / "manifest.json", json.dumps({**manifest, "molecules": molecules}, indent=0).encode())
    return sum(len(part) for part in parts["energy"])


def open_store(store: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """The arrays of a store, mapped into memory, and its manifest."""
    arrays = {name: np.load(store / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in _DTYPES}
    return arrays, json.loads((store / "manifest.json").read_text())


def schedule() -> Iterator[tuple[str, int]]:
    """(split, number) of shards in the order they are labeled: every 10 of training bring one of each other split."""
    for number in count():
        yield "train", number
        if number % _TRAINING_SHARDS == 0:
            yield "validation", number // _TRAINING_SHARDS
            yield "test", number // _TRAINING_SHARDS
