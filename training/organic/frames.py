"""Many structures in flat arrays: the one layout of generators, teacher and shards."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.organic.errors import OrganicError

SYMBOLS = {1: "H", 6: "C", 7: "N", 8: "O", 9: "F", 16: "S", 17: "Cl"}

Geometry = tuple[NDArray[np.int64], NDArray[np.float64]]  # numbers (N,), positions (N, 3) Å


@dataclass(frozen=True, eq=False)
class Frames:
    """Structures one after another; those of structure k are atoms first_atom[k] to first_atom[k + 1]."""

    numbers: NDArray[np.int64]  # (A,)
    positions: NDArray[np.float64]  # (A, 3) Å
    first_atom: NDArray[np.int64]  # (F + 1,)

    def __post_init__(self) -> None:
        first, atoms = self.first_atom, len(self.numbers)
        if first.ndim != 1 or len(first) == 0 or first[0] != 0 or first[-1] != atoms or (np.diff(first) < 1).any():
            raise OrganicError(f"first_atom must rise from 0 to the {atoms} atoms, it is {first}")
        if self.positions.shape != (atoms, 3):
            raise OrganicError(f"positions have shape {self.positions.shape}: expected ({atoms}, 3)")

    def __len__(self) -> int:
        return len(self.first_atom) - 1

    def __getitem__(self, index: int) -> Geometry:
        atoms = self.atoms_of(index)
        return self.numbers[atoms], self.positions[atoms]

    def __iter__(self) -> Iterator[Geometry]:
        return (self[k] for k in range(len(self)))

    @property
    def sizes(self) -> NDArray[np.int64]:
        return np.diff(self.first_atom)

    @property
    def owners(self) -> NDArray[np.int64]:
        """(A,) structure of each atom."""
        return np.repeat(np.arange(len(self)), self.sizes)

    def atoms_of(self, index: int) -> slice:
        return slice(int(self.first_atom[index]), int(self.first_atom[index + 1]))

    def at(self, positions: NDArray[np.float64]) -> Frames:
        """The same structures at other positions."""
        return Frames(self.numbers, positions, self.first_atom)

    def choose(self, indices: Sequence[int] | NDArray[np.int64]) -> Frames:
        return join(self[int(k)] for k in indices)


Evaluate = Callable[[Frames], tuple[NDArray[np.float64], NDArray[np.float64]]]  # (F,) eV, (A, 3) eV/Å


def join(geometries: Iterable[Geometry]) -> Frames:
    """Frames of single geometries."""
    all_of_them = list(geometries)
    sizes = [len(numbers) for numbers, _ in all_of_them]
    return Frames(
        np.concatenate([np.zeros(0, dtype=np.int64), *(numbers for numbers, _ in all_of_them)]),
        np.concatenate([np.zeros((0, 3)), *(positions for _, positions in all_of_them)]),
        np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]).astype(np.int64),
    )


def sum_by_frame(frames: Frames, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums of per-atom values (A, ...) over the atoms of each structure, (F, ...)."""
    return np.asarray(np.add.reduceat(values, frames.first_atom[:-1], axis=0))


def max_by_frame(frames: Frames, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Largest of per-atom values (A, ...) over the atoms of each structure, (F, ...)."""
    return np.asarray(np.maximum.reduceat(values, frames.first_atom[:-1], axis=0))
