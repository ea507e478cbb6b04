"""Structures as plain arrays, for result files at full precision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

_FIELDS = ("numbers", "positions", "cell", "pbc", "masses")


def pack_atoms(name: str, atoms: Atoms) -> dict[str, NDArray[Any]]:
    """Arrays named `name.numbers`, `name.positions`, ...: without velocities and constraints."""
    values = (atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc, atoms.get_masses())
    return {f"{name}.{field}": np.array(value) for field, value in zip(_FIELDS, values, strict=True)}


def unpack_atoms(name: str, arrays: Mapping[str, NDArray[Any]]) -> Atoms:
    """The structure that `pack_atoms` packed under this name."""
    return Atoms(**{field: arrays[f"{name}.{field}"] for field in _FIELDS})
