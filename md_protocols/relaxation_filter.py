"""The cell and the atoms as one set of coordinates, for optimizers."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from ase import Atoms
from ase.filters import FrechetCellFilter
from numpy.typing import NDArray

Array = NDArray[np.float64]


class CellFilter(FrechetCellFilter):
    """ASE's filter, whose matrix functions take milliseconds, asked once for each structure."""

    _known: dict[str, tuple[bytes, Array]]

    def __init__(self, atoms: Atoms, **settings: Any) -> None:
        self._known = {}
        super().__init__(atoms, **settings)  # type: ignore[no-untyped-call]

    def get_positions(self) -> Array:
        return self._remembered("positions", super().get_positions)

    def get_forces(self, **keywords: Any) -> Array:
        return self._remembered("forces", partial(super().get_forces, **keywords))

    def _remembered(self, name: str, compute: Callable[[], Array]) -> Array:
        key = self.atoms.positions.tobytes() + self.atoms.cell.array.tobytes()
        if name not in self._known or self._known[name][0] != key:
            with warnings.catch_warnings():  # large strains, which the walk minds itself
                warnings.filterwarnings("ignore", "logm result may be inaccurate", RuntimeWarning)
                self._known[name] = key, compute()
        return self._known[name][1].copy()
