"""Meshes of q-points that keep the crystal's symmetry and hold Γ."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .. import checks
from ..errors import ConfigError

if TYPE_CHECKING:
    from phonopy import Phonopy

Array = NDArray[np.float64]


def mesh_numbers(phonon: Phonopy, mesh: Any, *, dimensions: int, length: float) -> tuple[int, int, int]:
    """Numbers of q-points along the reciprocal vectors: given as one or three, or enough for waves of this length (Å).

    Axes that symmetry makes equal get equal numbers; the normal of a slab gets one.
    """
    if mesh is None:
        reciprocal = np.linalg.norm(np.linalg.inv(phonon.primitive.cell).T, axis=1)
        numbers = np.maximum(1, np.rint(length * reciprocal)).astype(int)
        numbers = _equalized(phonon, numbers)
    else:
        numbers = np.array(given_mesh(mesh))
    if dimensions == 2:
        numbers[2] = 1
    return int(numbers[0]), int(numbers[1]), int(numbers[2])


def given_mesh(mesh: Any) -> tuple[int, int, int]:
    """Three numbers of q-points from one or three; ConfigError for anything else."""
    given = np.atleast_1d(np.asarray(mesh))
    if given.dtype.kind not in "iu" or given.shape not in ((1,), (3,)):
        raise ConfigError(f"mesh is {mesh!r}: give a whole number or three of them", setting="mesh", value=mesh)
    a, b, c = (checks.whole("mesh", int(n), at_least=1) for n in np.broadcast_to(given, 3))
    return a, b, c


def _equalized(phonon: Phonopy, numbers: NDArray[Any]) -> NDArray[Any]:
    """The largest of the numbers of axes that operations of the point group mix."""
    mixed = np.any(phonon.primitive_symmetry.pointgroup_operations != 0, axis=0)
    linked = mixed | mixed.T | np.eye(3, dtype=bool)
    for _ in range(2):
        linked = (linked.astype(int) @ linked.astype(int)) > 0
    return np.array([numbers[row].max() for row in linked])


def run_mesh(
    phonon: Phonopy, numbers: tuple[int, int, int], *, symmetry: bool = True, eigenvectors: bool = False
) -> Any:
    """phonopy's mesh around Γ: with .qpoints (M, 3), .weights (M,), .frequencies (M, bands) THz, .eigenvectors."""
    with warnings.catch_warnings():
        # A mesh of the user's own numbers may break the crystal's symmetry; phonopy then takes all of its points.
        warnings.simplefilter("ignore", UserWarning)
        return phonon.run_mesh(
            list(numbers), is_gamma_center=True, is_mesh_symmetry=symmetry, with_eigenvectors=eigenvectors
        )
