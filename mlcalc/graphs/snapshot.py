"""The structure a calculator has results for, kept so that comparing with it costs next to nothing."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

_COMPARED = ("numbers", "positions", "initial_charges", "initial_magmoms")


class Snapshot:
    """Copies of what a structure consists of, made into Atoms only when these are asked for."""

    def __init__(self, atoms: Atoms) -> None:
        self._arrays: dict[str, NDArray[Any]] = dict(
            zip(atoms.arrays, map(np.array, atoms.arrays.values()), strict=True)
        )
        self._cell, self._pbc = atoms.cell.array.copy(), atoms.pbc.copy()
        self._kind, self._info = type(atoms), dict(atoms.info)
        self._constraints, self._origin = list(atoms.constraints), atoms.get_celldisp().copy()

    def changes(self, atoms: Atoms) -> list[str]:
        """What ASE's check_state looks at and is not exactly the same, by ASE's names."""
        found = [] if same_numbers(self._cell, atoms.cell.array) else ["cell"]
        if not same_numbers(self._pbc, atoms.pbc):
            found.append("pbc")
        there = atoms.arrays
        for name in _COMPARED:
            one, other = self._arrays.get(name), there.get(name)
            if not (one is other if one is None or other is None else same_numbers(one, other)):
                found.append(name)
        return found

    def atoms(self) -> Atoms:
        """The structure, as a copy of it would have been."""
        atoms = self._kind(cell=self._cell, pbc=self._pbc, info=copy.deepcopy(self._info), celldisp=self._origin)
        atoms.arrays = {name: values.copy() for name, values in self._arrays.items()}
        atoms.constraints = copy.deepcopy(self._constraints)
        return atoms


def same_numbers(one: NDArray[Any], other: NDArray[Any]) -> bool:
    """Whether two arrays are the same numbers; NaN is never the same.

    Without a call of Python's beside its own, as each step of a run asks this some ten times.
    """
    return one.shape == other.shape and bool(np.logical_and.reduce(one == other, axis=None))
