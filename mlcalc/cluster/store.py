"""Results of many structures in a folder, from which the same call continues.

    evaluation.npz    what is evaluated: a sha256 for each structure, the model file, what was asked for
    results-*.npz     the results of some structures each, floats in full, with their places in the list
    run.lock          while a process is using the folder

Each file is written whole or not at all, so that after a crash there are results or none, never halves.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlcalc.evaluation import Evaluation
from mlcalc.md_protocols.errors import ConfigError, ResultFileError, SimulationError
from mlcalc.md_protocols.folders.identity import differences, versions
from mlcalc.md_protocols.folders.lock import FolderLock
from mlcalc.md_protocols.folders.storage import load_arrays, save_arrays

__all__ = ["ResultStore"]

_RUN, _RUN_KIND, _RESULTS_KIND = "evaluation.npz", "cluster evaluation", "cluster results"
_NUMBERS = {"energy", "electronic_spatial_extent", "scalar"}
_PER_ATOM = {"energies", "forces"}
_FIELDS = tuple(field.name for field in fields(Evaluation))


class ResultStore:
    """The folder of an evaluation; `results` is what was found in it, by place.

    about: JSON values that a continued evaluation must share.  Raises ConfigError for a folder of another evaluation,
    ResultFileError for damaged files, SimulationError where another process uses it or it cannot be written.
    """

    def __init__(self, folder: str | os.PathLike[str], structures: Sequence[Atoms], about: Mapping[str, Any]) -> None:
        self._counts = [len(atoms) for atoms in structures]
        digests = np.array([_digest(atoms) for atoms in structures], dtype=np.uint8).reshape(-1, 32)
        self._lock = FolderLock(Path(folder), files=(_RUN,))
        self.path = self._lock.folder
        try:
            self._run = _name(digests, self._claimed(digests, about))
            self.results = self._found()
        except BaseException:
            self._lock.release()
            raise

    def __enter__(self) -> ResultStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._lock.release()

    def add(self, results: Mapping[int, Evaluation]) -> None:
        """Make these results durable."""
        if not results:
            return
        places = sorted(results)
        arrays = {"places": np.array(places)} | _packed([results[place] for place in places])
        name = f"results-{places[0]:09d}-{hashlib.sha256(arrays['places'].tobytes()).hexdigest()[:12]}.npz"
        self._save(name, _RESULTS_KIND, arrays, {"run": self._run})

    def _claimed(self, digests: NDArray[np.uint8], about: Mapping[str, Any]) -> dict[str, Any]:
        """What the folder says that is evaluated; written there if nothing is."""
        path = self.path / _RUN
        if path.exists():
            arrays, info = load_arrays(path, _RUN_KIND)
            changed = differences(info["about"], dict(about)) + _changed(arrays["digests"], digests)
            if changed:
                raise ConfigError(
                    f"{self.path} holds another evaluation, so it is not continued: {'; '.join(changed)}",
                    setting="output",
                    value=str(self.path),
                    remedies=[
                        "give the same structures in the same order and the same model and settings",
                        "another folder",
                    ],
                )
            return dict(info["about"])  # as it was written, for it names the results
        if any(self.path.glob("results-*.npz")):
            raise ConfigError(
                f"{self.path} holds results but no {_RUN} that says of what: nothing there is overwritten",
                setting="output",
                value=str(self.path),
                remedies=["use another folder", "move these files away"],
            )
        self._save(_RUN, _RUN_KIND, {"digests": digests}, {"about": dict(about), "versions": versions()})
        return dict(about)

    def _found(self) -> dict[int, Evaluation]:
        found: dict[int, Evaluation] = {}
        for path in sorted(self.path.glob("results-*.npz")):
            arrays, info = load_arrays(path, _RESULTS_KIND)
            if info.get("run") != self._run:
                raise ResultFileError(
                    f"{path} holds results of another evaluation than {self.path / _RUN}: it was copied there",
                    remedies=["move it away"],
                )
            places = arrays.pop("places").tolist()
            counts = [self._counts[place] for place in places]
            found |= dict(zip(places, _unpacked(arrays, counts), strict=True))
        return found

    def _save(self, name: str, kind: str, arrays: Mapping[str, NDArray[Any]], info: Mapping[str, Any]) -> None:
        try:
            save_arrays(self.path / name, kind, arrays, info)
        except OSError as error:
            raise SimulationError(
                f"{self.path / name} could not be written: {error.strerror or error}; the results before it are there",
                remedies=["make space and run the same call again"],
            ) from error


def _name(digests: NDArray[np.uint8], about: Mapping[str, Any]) -> str:
    return hashlib.sha256(digests.tobytes() + json.dumps(dict(about), sort_keys=True).encode()).hexdigest()


def _digest(atoms: Atoms) -> list[int]:
    """The sha256 of what a model sees of a structure."""
    parts = (
        atoms.numbers.astype("<i8"),
        atoms.positions.astype("<f8"),
        atoms.cell.array.astype("<f8"),
        atoms.pbc.astype("u1"),
    )
    return list(hashlib.sha256(b"".join(part.tobytes() for part in parts)).digest())


def _changed(stored: NDArray[np.uint8], now: NDArray[np.uint8]) -> list[str]:
    if len(stored) != len(now):
        return [f"{len(stored)} structures in the folder, {len(now)} now"]
    rows = np.flatnonzero((stored != now).any(axis=1))
    return [f"{len(rows)} of {len(now)} structures differ, first structure {rows[0]}"] if len(rows) else []


def _packed(results: Sequence[Evaluation]) -> dict[str, NDArray[Any]]:
    """One array for each quantity there is."""
    arrays = {}
    for name in _FIELDS:
        values = [getattr(result, name) for result in results]
        if values[0] is not None:
            arrays[name] = np.concatenate(values) if name in _PER_ATOM else np.array(values, dtype=float)
    return arrays


def _unpacked(arrays: Mapping[str, NDArray[Any]], counts: Sequence[int]) -> list[Evaluation]:
    ends = np.cumsum(counts)
    columns: dict[str, list[Any]] = {}
    for name, array in arrays.items():
        if len(array) != (ends[-1] if name in _PER_ATOM else len(counts)):
            raise ResultFileError(f"{name} has {len(array)} rows for {len(counts)} structures: the file was edited")
        if name in _PER_ATOM:
            columns[name] = [part.copy() for part in np.split(array, ends[:-1])]
        else:
            columns[name] = array.tolist() if name in _NUMBERS else [row.copy() for row in array]
    return [Evaluation(**{name: column[k] for name, column in columns.items()}) for k in range(len(counts))]
