"""What is measured: calls that return energies and forces, of the codes compared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Call = Callable[[], tuple[Floats, Floats]]  # energies (S,) eV, forces (N, 3) eV/Å


class Peer(Protocol):
    """A code with a network in it."""

    path: str

    def prepare(self, structures: list[Atoms]) -> tuple[Call, int]:
        """A call that returns energies and forces of the structures, and how many edges they have."""
        ...


def neighborhood(atoms: Atoms, size: int = 12) -> Atoms:
    """The atoms next to the first one of each element, as a cluster: a small structure with all elements."""
    chosen: set[int] = set()
    for symbol in set(atoms.symbols):
        center = atoms.positions[list(atoms.symbols).index(symbol)]
        chosen |= set(np.argsort(np.linalg.norm(atoms.positions - center, axis=1))[:size].tolist())
    return Atoms(atoms.symbols[sorted(chosen)], positions=atoms.positions[sorted(chosen)])
