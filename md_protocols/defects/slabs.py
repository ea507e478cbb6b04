"""Slabs of a crystal by Miller indices of its conventional cell, and the places where its planes can be parted."""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlcalc.ground.errors import Use

from .. import checks
from ..crystals.conventional_cells import KEEP_SYMMETRY, ConventionalCell
from ..crystals.kinds import dressed
from ..crystals.symmetry import no_symmetry, standardized_cell, symmetry_operations
from ..errors import ConfigError

_LARGEST_DENOMINATOR = 12  # of Miller indices in the primitive cell: centered cells need 2 or 3
_SEEN = 8.0  # Å: atoms on either side of a cut up to here tell it from others
_RUMPLED = 0.05  # Å: atoms whose heights differ by less are one plane, which is not parted

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Termination:
    """A place where a crystal is parted along a plane: one of those that no symmetry makes the same."""

    height: float  # in units of the spacing of lattice planes
    gap: float  # Å, between the planes of atoms that are parted
    planes: tuple[str, str]  # formulas of those two planes, of a primitive cell

    def __str__(self) -> str:
        return f"cut between planes of {self.planes[0]} and {self.planes[1]}, {self.gap:.3f} Å apart"


@dataclass(frozen=True)
class Plane:
    """A lattice plane of a crystal, and the primitive cell from which its slabs are cut."""

    primitive: Atoms  # with the moments and charges of the crystal
    miller: tuple[int, int, int]  # of the conventional cell
    indices: tuple[int, int, int]  # of the primitive cell
    spacing: float  # Å, between lattice planes: what one more layer adds to a slab
    terminations: tuple[Termination, ...]  # the widest gap first
    conventional: ConventionalCell
    other_setting: str  # what to say where the indices mean another plane in the crystal's own cell

    @classmethod
    def of(cls, atoms: Atoms, miller: Any, symprec: float) -> Plane:
        """The plane with these indices; ConfigError where they are none, or where noise makes them those of another."""
        h = reduced_miller(miller)
        conventional = ConventionalCell.of(atoms, symprec)
        # Indices are those of the chemical cell, and slabs are cut from the magnetic one.
        primitive = standardized_cell(atoms, symprec, to_primitive=True)
        if conventional is None or primitive is None:
            raise no_symmetry(symprec)
        normal = conventional.normal(h)
        _refuse_noise(atoms, conventional, h)
        indices = _smallest_whole(primitive.cell @ normal)
        bare = Atoms(
            numbers=primitive.kinds, cell=primitive.cell, scaled_positions=primitive.scaled_positions, pbc=True
        )
        cell = dressed(bare, primitive.kinds, atoms)
        spacing = 1 / float(np.linalg.norm(np.linalg.inv(primitive.cell) @ indices))
        found = _terminations(cell, np.array(indices), spacing, symprec)
        numbers = (int(h[0]), int(h[1]), int(h[2]))
        return cls(cell, numbers, indices, spacing, found, conventional, _other_setting(atoms, conventional, h))

    def slab(self, n_layers: int, vacuum: float, termination: int = 0) -> Atoms:
        """So many primitive layers with the normal along z and vacuum (Å) above them, periodic in all directions."""
        from ase.build import surface

        crystal = self.primitive.copy()
        normal = np.linalg.inv(crystal.cell.array) @ self.indices
        # ASE cuts where scaled coordinates wrap, so that the cut goes there.
        crystal.positions -= self.terminations[termination].height * self.spacing**2 * normal
        cut: Atoms = surface(crystal, self.indices, n_layers, vacuum=vacuum / 2, periodic=True)
        del cut.arrays["tags"]  # ASE's, the number of the layer
        if "tags" in crystal.arrays:
            cut.set_tags(np.tile(crystal.get_tags(), n_layers))
        return cut


def _refuse_noise(atoms: Atoms, conventional: ConventionalCell, miller: NDArray[np.int64]) -> None:
    """ConfigError where noise lowers the symmetry, and indices are those of a plane that the crystal would not have."""
    coarse = conventional.without_noise(atoms)
    if coarse is None or coarse.same_planes(conventional.normal(miller), coarse.normal(miller)):
        return
    name = "".join(map(str, miller.tolist()))
    spacings = [1 / np.linalg.norm(found.normal(miller)) for found in (conventional, coarse)]
    raise ConfigError(
        f"noise lowers the crystal's symmetry: within symprec={conventional.symprec:g} Å it is {conventional}, and "
        f"({name}) has planes {spacings[0]:.3f} Å apart; within {coarse.symprec:g} Å it is {coarse}, and ({name}) has "
        f"planes {spacings[1]:.3f} Å apart",
        setting="symprec",
        value=conventional.symprec,
        limit=coarse.symprec,
        remedies=[
            KEEP_SYMMETRY,
            Use("symprec", coarse.symprec, "also where the distortion is real (indices are those of that cell then)"),
        ],
    )


def _other_setting(atoms: Atoms, conventional: ConventionalCell, miller: NDArray[np.int64]) -> str:
    """What to say of indices that mean another plane in the crystal's own cell, where that is conventional as well."""
    own = atoms.cell.array
    if abs(abs(np.linalg.det(own) / np.linalg.det(conventional.cell)) - 1) > 1e-3:
        return ""
    if conventional.same_planes(np.linalg.inv(own) @ miller, conventional.normal(miller)):
        return ""
    there = np.rint(own @ conventional.normal(miller)).astype(int).tolist()
    a, b, c = np.linalg.norm(own, axis=1)
    return (
        f"Miller indices are those of the cell {conventional}, which has other axes than the structure given (a "
        f"{a:.4g}, b {b:.4g}, c {c:.4g} Å): in the axes given, this plane is ({' '.join(map(str, there))})"
    )


def _terminations(cell: Atoms, indices: NDArray[np.int64], spacing: float, symprec: float) -> tuple[Termination, ...]:
    """The distinct cuts between planes of atoms, the widest gap first, whatever the origin of the cell."""
    heights = cell.get_scaled_positions() @ indices % 1.0
    order = np.argsort(heights)
    gaps = (np.roll(heights[order], -1) - heights[order]) % 1.0
    gaps[-1] += len(order) == 1 or float(gaps.sum()) < 0.5  # all atoms in one plane
    wide = np.flatnonzero(gaps * spacing > _RUMPLED)
    wide = wide if len(wide) else np.array([int(np.argmax(gaps))])
    starts = np.r_[wide[-1] + 1 - len(order), wide[:-1] + 1]  # of the planes that end at the gaps
    members = [order[np.arange(first, last + 1) % len(order)] for first, last in zip(starts, wide, strict=True)]
    names = [cell[list(plane)].symbols.get_chemical_formula(empirical=False) for plane in members]
    cuts = (heights[order][wide] + gaps[wide] / 2) % 1.0
    found, bonds = [], _cut_distances(cell, indices, cuts)
    for mine in _orbits(cell, indices, cuts, symprec):
        described = [((*_surroundings(gaps[wide], names, k), bonds[k]), k) for k in mine]
        key, k = min(described)
        first, second = sorted((names[k], names[(k + 1) % len(names)]))
        found.append((key, Termination(float(cuts[k]), float(gaps[wide[k]] * spacing), (first, second))))
    return tuple(termination for _, termination in sorted(found, key=lambda one: one[0]))


def _orbits(cell: Atoms, indices: NDArray[np.int64], cuts: Array, symprec: float) -> list[list[int]]:
    """Which cuts the symmetry of the crystal takes into each other."""
    operations = symmetry_operations(cell, symprec)
    if operations is None:
        raise no_symmetry(symprec)
    left, found = list(range(len(cuts))), []
    while left:
        same = {left[0]}
        for rotation, shift in zip(*operations, strict=True):
            turned = indices @ rotation
            sign = 1 if (turned == indices).all() else -1 if (turned == -indices).all() else 0
            if sign:
                # x' = R x + t has the height h x' = +-h x + h t
                image = (sign * cuts[left[0]] + indices @ shift) % 1.0
                away = np.abs(cuts - image)
                same.add(int(np.argmin(np.minimum(away, 1 - away))))
        found.append(sorted(same))
        left = [k for k in left if k not in same]
    return found


def _surroundings(gaps: Array, names: list[str], k: int) -> tuple[Any, ...]:
    """What sorts cuts, whatever the origin: the gap, the planes at it, and the next gaps outwards."""
    rounded = np.round(gaps, 3).tolist()
    up = [(rounded[(k + n + 1) % len(gaps)], names[(k + n + 1) % len(names)]) for n in range(len(gaps))]
    down = [(rounded[(k - n - 1) % len(gaps)], names[(k - n) % len(names)]) for n in range(len(gaps))]
    return (-rounded[k], *sorted([up, down]))


def _cut_distances(cell: Atoms, indices: NDArray[np.int64], cuts: Array) -> list[tuple[float, ...]]:
    """Distances (Å) between atoms on either side of each cut: what tells cuts apart that part the same planes."""
    from ase.neighborlist import neighbor_list

    if len(cuts) == 1:
        return [()]
    first, vectors, distances = neighbor_list("iDd", cell, _SEEN)
    normal = np.linalg.inv(cell.cell.array) @ indices
    below = (cell.get_scaled_positions() @ indices)[first]
    above = below + vectors @ normal
    times = [np.maximum(np.ceil(above - cut) - np.ceil(below - cut), 0).astype(int) for cut in cuts]
    return [tuple(np.sort(np.round(np.repeat(distances, n), 2)).tolist()) for n in times]


def equivalent_faces(slab: Atoms, symprec: float) -> bool:
    """Whether a symmetry operation exchanges top and bottom, so that both surfaces are the same."""
    found = symmetry_operations(slab, symprec)
    return found is not None and bool((found[0][:, 2, 2] == -1).any())


def reduced_miller(miller: Any) -> NDArray[np.int64]:
    """(3,) the indices without a common divisor; ConfigError for what is no plane."""
    values = np.asarray(miller)
    if values.shape != (3,) or values.dtype.kind not in "iu" or not values.any():
        raise ConfigError(
            f"miller is {miller!r}: give three whole numbers, not all zero, such as (1, 1, 1)",
            setting="miller",
            value=miller,
        )
    return np.asarray(values // gcd(*(int(abs(x)) for x in values)), dtype=np.int64)


def _smallest_whole(values: Array) -> tuple[int, int, int]:
    """Whole numbers without common divisor that are in the same ratios."""
    for factor in range(1, _LARGEST_DENOMINATOR + 1):
        whole = np.round(values * factor).astype(int)
        if np.abs(values * factor - whole).max() < 1e-3 and whole.any():
            whole //= gcd(*(int(abs(x)) for x in whole))
            return int(whole[0]), int(whole[1]), int(whole[2])
    raise ConfigError(
        f"the Miller indices are no lattice plane of the primitive cell ({values.tolist()})",
        setting="miller",
        remedies=[Use("symprec", None, "for a looser one"), "give a crystal that has its symmetry exactly"],
    )


def layer_counts(n_layers: Any, spacing: float, thicknesses: tuple[float, ...]) -> list[int]:
    """The numbers of layers asked for, in order; None means those that reach the thicknesses (Å)."""
    if n_layers is None:
        return sorted({int(np.ceil(thickness / spacing)) for thickness in thicknesses})
    counts = [n_layers] if not np.iterable(n_layers) or isinstance(n_layers, str) else list(n_layers)
    found = sorted(checks.whole("n_layers", count, at_least=1) for count in counts)
    if not found or len(set(found)) < len(found):
        raise ConfigError(
            f"n_layers is {n_layers!r}: give one whole number, or several that differ",
            setting="n_layers",
            value=n_layers,
        )
    return found
