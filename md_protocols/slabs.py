"""Slabs of a crystal by Miller indices of its conventional cell."""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from . import checks
from .errors import ConfigError

_LARGEST_DENOMINATOR = 12  # of Miller indices in the primitive cell: centered cells need 2 or 3

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Plane:
    """A lattice plane of a crystal, and the primitive cell from which its slabs are cut."""

    primitive: Atoms
    miller: tuple[int, int, int]  # of the conventional cell
    indices: tuple[int, int, int]  # of the primitive cell
    spacing: float  # Å, between lattice planes: what one more layer adds to a slab

    @classmethod
    def of(cls, atoms: Atoms, miller: Any, symprec: float) -> Plane:
        """The plane with these indices; ConfigError where they are none."""
        import spglib

        h = _miller(miller)
        crystal = (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers)
        try:
            conventional = spglib.standardize_cell(crystal, to_primitive=False, no_idealize=True, symprec=symprec)
            primitive = spglib.standardize_cell(crystal, to_primitive=True, no_idealize=True, symprec=symprec)
        except Exception:  # spglib raises its own errors since 2.7, and returned None before
            conventional = primitive = None
        if conventional is None or primitive is None:
            raise ConfigError(f"spglib finds no symmetry within symprec={symprec:g} Å: choose another symprec")
        normal = np.linalg.inv(conventional[0]) @ h  # 1/Å, the reciprocal-lattice vector
        indices = _smallest_whole(primitive[0] @ normal)
        cell = Atoms(numbers=primitive[2], cell=primitive[0], scaled_positions=primitive[1], pbc=True)
        spacing = 1 / float(np.linalg.norm(np.linalg.inv(primitive[0]) @ indices))
        return cls(cell, (int(h[0]), int(h[1]), int(h[2])), indices, spacing)

    def slab(self, layers: int, vacuum: float) -> Atoms:
        """So many primitive layers with the normal along z and vacuum (Å) above them, periodic in all directions."""
        from ase.build import surface

        cut: Atoms = surface(self.primitive, self.indices, layers, vacuum=vacuum / 2, periodic=True)
        return cut


def equivalent_faces(slab: Atoms, symprec: float) -> bool:
    """Whether a symmetry operation exchanges top and bottom, so that both surfaces are the same."""
    import spglib

    try:
        found = spglib.get_symmetry((slab.cell.array, slab.get_scaled_positions(), slab.numbers), symprec=symprec)
    except Exception:  # see Plane.of
        found = None
    return found is not None and bool((np.asarray(found["rotations"])[:, 2, 2] == -1).any())


def _miller(miller: Any) -> NDArray[np.int64]:
    values = np.asarray(miller)
    if values.shape != (3,) or values.dtype.kind not in "iu" or not values.any():
        raise ConfigError(f"miller is {miller!r}: give three whole numbers, not all zero, such as (1, 1, 1)")
    return np.asarray(values // gcd(*(int(abs(x)) for x in values)), dtype=np.int64)


def _smallest_whole(values: Array) -> tuple[int, int, int]:
    """Whole numbers without common divisor that are in the same ratios."""
    for factor in range(1, _LARGEST_DENOMINATOR + 1):
        whole = np.round(values * factor).astype(int)
        if np.abs(values * factor - whole).max() < 1e-3 and whole.any():
            whole //= gcd(*(int(abs(x)) for x in whole))
            return int(whole[0]), int(whole[1]), int(whole[2])
    raise ConfigError(
        f"the Miller indices are no lattice plane of the primitive cell ({values.tolist()}): loosen symprec, or give a "
        "crystal that has its symmetry exactly"
    )


def layer_counts(layers: Any, spacing: float, thicknesses: tuple[float, ...]) -> list[int]:
    """The numbers of layers asked for, in order; None means those that reach the thicknesses (Å)."""
    if layers is None:
        return sorted({int(np.ceil(thickness / spacing)) for thickness in thicknesses})
    counts = [layers] if not np.iterable(layers) or isinstance(layers, str) else list(layers)
    found = sorted(checks.whole("layers", count, at_least=1) for count in counts)
    if not found or len(set(found)) < len(found):
        raise ConfigError(f"layers is {layers!r}: give one whole number, or several that differ")
    return found
