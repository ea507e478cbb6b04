"""Supercells of crystals, and the distances in them."""

from __future__ import annotations

from typing import Any

import numpy as np
from ase import Atoms
from ase.geometry import find_mic, minkowski_reduce
from numpy.typing import NDArray

from ..errors import ConfigError


def supercell_matrix(supercell: Any) -> NDArray[np.int64]:
    """(3, 3) whole numbers from one number, three, or nine, new vectors as rows; ConfigError for anything else."""
    values = np.asarray(supercell)
    if values.dtype.kind not in "iu" or values.shape not in ((), (3,), (3, 3)):
        raise ConfigError(
            f"supercell is {supercell!r}: give a whole number, three of them, or a 3 x 3 matrix of them",
            setting="supercell",
            value=supercell,
        )
    matrix = np.asarray(np.diag(np.broadcast_to(values, 3)) if values.ndim < 2 else values, dtype=np.int64)
    if round(float(np.linalg.det(matrix))) < 1 or (values.ndim < 2 and values.min() < 1):
        raise ConfigError(
            f"supercell is {supercell!r}: its numbers, or its determinant, must be at least 1",
            setting="supercell",
            value=supercell,
            limit=1,
        )
    return matrix


def perfect_supercell(atoms: Atoms, supercell: Any) -> Atoms:
    """The repeated crystal, without calculator; atom k of it is atom k of the unit cell for k below its size."""
    from ase.build import make_supercell

    matrix = supercell_matrix(supercell)
    supercell = matrix.tolist() if isinstance(supercell, np.ndarray) else supercell  # as errors name it
    for axis in np.flatnonzero(~atoms.pbc):
        unit = np.eye(3, dtype=int)[axis]
        if not (np.array_equal(matrix[axis], unit) and np.array_equal(matrix[:, axis], unit)):
            raise ConfigError(
                f"supercell is {supercell!r}, but the structure is not periodic along {'abc'[axis]}: the number there "
                "must be 1",
                setting="supercell",
                value=supercell,
            )
    repeated: Atoms = make_supercell(atoms, matrix)  # with all its arrays: a calculator may read moments or tags
    repeated.arrays.pop("momenta", None)
    repeated.info = dict(atoms.info)
    if len(repeated) < 2:
        raise ConfigError(
            f"supercell is {supercell!r}, and without one atom nothing is left of it",
            setting="supercell",
            value=supercell,
            remedies=["take a larger one"],
        )
    return repeated


def image_distance(cell: Atoms) -> float:
    """Shortest lattice vector along the periodic directions, Å: how far a vacancy is from its nearest image."""
    reduced, _ = minkowski_reduce(cell.cell.array, cell.pbc)
    return float(np.linalg.norm(reduced[cell.pbc], axis=1).min())


def nearest_neighbor(perfect: Atoms, index: int) -> float:
    """Distance (Å) from the atom to the nearest other one, an image of itself included."""
    others = np.delete(perfect.positions, index, axis=0) - perfect.positions[index]
    return min(float(find_mic(others, perfect.cell, perfect.pbc)[1].min()), image_distance(perfect))
