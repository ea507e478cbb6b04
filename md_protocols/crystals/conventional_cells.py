"""The conventional cell that symmetry gives a crystal, as it lies there: what Miller indices and axes refer to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.geometry import cell_to_cellpar
from numpy.typing import NDArray

from mlcalc.ground.errors import Use

from .symmetry import standardized_cell, symmetry_dataset

KEEP_SYMMETRY = Use(
    "relax",
    True,
    "with its symmetry kept",
    python="relax it first, mlcalc.md_protocols.relax(atoms, cell='full', keep_symmetry=True),",
)
NOISE_SYMPRECS = (1e-3, 1e-2)  # Å: symmetry found only so is there but for noise
_SAME = 0.02  # relative; for planes and axes of cells with noise

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ConventionalCell:
    """A cell by spglib, in the orientation of the structure."""

    cell: Array  # (3, 3) Å, vectors as rows
    axes: Array  # (3, 3) the rotation to x along a, y in the plane of a and b
    rotations: Array  # (G, 3, 3) Cartesian, of the space group's operations, translations of a supercell's included
    spacegroup: str  # Hermann-Mauguin symbol
    symprec: float  # Å

    @classmethod
    def of(cls, atoms: Atoms, symprec: float) -> ConventionalCell | None:
        """Of the elements and positions, whatever the moments; None where spglib finds nothing."""
        found = symmetry_dataset(atoms, symprec, kinds=atoms.numbers)
        cell = standardized_cell(atoms, symprec, to_primitive=False, kinds=atoms.numbers)
        if found is None or cell is None:
            return None
        lattice = atoms.cell.array.T
        rotations = orthogonal(lattice @ np.asarray(found.rotations) @ np.linalg.inv(lattice))
        axes = orthogonal(np.asarray(found.std_rotation_matrix))
        return cls(cell.cell, axes, rotations, str(found.international), symprec)

    def without_noise(self, atoms: Atoms) -> ConventionalCell | None:
        """The cell that the structure would have but for noise, if that is of more symmetry."""
        for symprec in NOISE_SYMPRECS:
            other = ConventionalCell.of(atoms, symprec) if symprec > self.symprec else None
            if other is not None and len(other.rotations) > len(self.rotations):
                return other
        return None

    def normal(self, miller: Any) -> Array:
        """(3,) 1/Å, the reciprocal-lattice vector of a plane."""
        return np.asarray(np.linalg.inv(self.cell) @ np.asarray(miller), dtype=float)

    def same_planes(self, one: Array, other: Array) -> bool:
        """Whether the symmetry takes a plane with this normal into the other, spacing included."""
        away = np.linalg.norm(np.concatenate([self.rotations @ one - other, self.rotations @ one + other]), axis=1)
        return bool(away.min() < _SAME * np.linalg.norm(other))

    def same_axes(self, axes: Array) -> bool:
        """Whether tensors have the same components in these axes as in those of the cell."""
        turned = np.concatenate([self.axes @ self.rotations, -self.axes @ self.rotations])
        return bool(np.abs(turned - axes).max(axis=(1, 2)).min() < _SAME)

    @property
    def lengths(self) -> tuple[float, float, float, float, float, float]:
        """a, b, c (Å) and the angles between b and c, a and c, a and b (degrees)."""
        a, b, c, alpha, beta, gamma = (float(x) for x in cell_to_cellpar(self.cell))
        return a, b, c, alpha, beta, gamma

    def __str__(self) -> str:
        return cell_text(self.spacegroup, self.lengths)


def cell_text(spacegroup: str, lengths: tuple[float, ...]) -> str:
    """The group and the lengths of the cell that differ."""
    different: dict[str, float] = {}
    for name, value in zip("abc", lengths, strict=False):
        if all(abs(value - other) > 1e-3 for other in different.values()):
            different[name] = value
    return f"{spacegroup}, {', '.join(f'{name} {value:.4g}' for name, value in different.items())} Å"


def orthogonal(matrices: Array) -> Array:
    """The nearest rotations: where a cell has a symmetry within a tolerance only, its operations are none."""
    left, _, right = np.linalg.svd(matrices)
    exact: Array = left @ right
    return exact
