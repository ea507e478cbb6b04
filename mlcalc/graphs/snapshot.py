"""The structure a calculator has results for, kept so that comparing with it costs next to nothing."""

from __future__ import annotations

import copy
from typing import Any

from ase import Atoms
from numpy.typing import NDArray

_COMPARED = ("numbers", "positions", "initial_charges", "initial_magmoms")


class Snapshot:
    """Copies of what a structure consists of, made into Atoms only when these are asked for."""

    def __init__(self, atoms: Atoms) -> None:
        self._arrays: dict[str, NDArray[Any]] = {name: values.copy() for name, values in atoms.arrays.items()}
        self._cell, self._pbc = atoms.cell.array.copy(), atoms.pbc.copy()
        self._kind, self._info = type(atoms), dict(atoms.info)
        self._constraints, self._origin = list(atoms.constraints), atoms.get_celldisp().copy()

    def changes(self, atoms: Atoms) -> list[str]:
        """What ASE's check_state looks at and is not exactly the same, by ASE's names."""
        found = [] if _equal(self._cell, atoms.cell.array) else ["cell"]
        if not _equal(self._pbc, atoms.pbc):
            found.append("pbc")
        return found + [name for name in _COMPARED if not _equal(self._arrays.get(name), atoms.arrays.get(name))]

    def atoms(self) -> Atoms:
        """The structure, as a copy of it would have been."""
        atoms = self._kind(cell=self._cell, pbc=self._pbc, info=copy.deepcopy(self._info), celldisp=self._origin)
        atoms.arrays = {name: values.copy() for name, values in self._arrays.items()}
        atoms.constraints = copy.deepcopy(self._constraints)
        return atoms


def _equal(one: NDArray[Any] | None, other: NDArray[Any] | None) -> bool:
    """Whether both are missing, or the same numbers; NaN is never the same."""
    if one is None or other is None:
        return one is other
    return one.shape == other.shape and bool((one == other).all())
