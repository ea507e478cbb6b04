"""Structures as plain arrays, for result files at full precision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

_FIELDS = ("numbers", "positions", "cell", "pbc", "masses")
_OPTIONAL = ("tags", "initial_magmoms", "initial_charges")  # where the structure has them


def pack_atoms(name: str, atoms: Atoms) -> dict[str, NDArray[Any]]:
    """Arrays named `name.numbers`, `name.positions`, ...: with tags, initial magnetic moments and charges.

    Velocities, constraints, `info`, the calculator and any other arrays are not kept.
    """
    values = (atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc, atoms.get_masses())
    packed = {f"{name}.{field}": np.array(value) for field, value in zip(_FIELDS, values, strict=True)}
    return packed | {f"{name}.{field}": atoms.arrays[field].copy() for field in _OPTIONAL if field in atoms.arrays}


def unpack_atoms(name: str, arrays: Mapping[str, NDArray[Any]]) -> Atoms:
    """The structure that `pack_atoms` packed under this name."""
    atoms = Atoms(**{field: arrays[f"{name}.{field}"] for field in _FIELDS})
    for field in _OPTIONAL:
        if f"{name}.{field}" in arrays:
            atoms.set_array(field, arrays[f"{name}.{field}"])
    return atoms
