"""Crystals with a vacancy: sites and hops by symmetry, supercells, and what a defect calculation has to check."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.geometry import find_mic, minkowski_reduce
from numpy.typing import NDArray

from . import checks
from .errors import ConfigError, PhysicsWarning
from .phonons.crystal import supercell_matrix
from .site_kinds import dressed, site_kinds

IMAGE_DISTANCE = 10.0  # Å between a vacancy and its images, below which a warning is due
_HOP_SHELL = 1.25  # hops up to this many times the shortest are listed
_GAP = 5.0  # Å without atoms are vacuum
_SKIN = 3.0  # Å, of a layer of matter beyond the distance of its outermost planes
_PADDING = 10.0  # Å of vacuum on either side along directions without periodicity, for symmetry and stress only

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Site:
    """An atom of the unit cell that can be missing."""

    index: int
    symbol: str
    multiplicity: int  # symmetry-equivalent atoms in the unit cell given
    wyckoff: str  # letter, in the standard setting of the space group
    orbit: int  # index of the first equivalent atom


@dataclass(frozen=True)
class Hop:
    """A jump of a neighboring atom into a vacancy, one of `multiplicity` equivalent ones."""

    neighbor: int  # the atom that jumps, in the unit cell
    vector: tuple[float, float, float]  # Å, from the vacancy to the atom that jumps
    distance: float  # Å
    multiplicity: int


def check_crystal(atoms: Any, purpose: str) -> None:
    """ConfigError for anything but a neutral crystal, layer or wire without constraints."""
    checks.structure(atoms, purpose)
    if not atoms.pbc.any():
        raise ConfigError(
            f"the structure has pbc={atoms.pbc.tolist()}: {purpose} needs a crystal, so set atoms.pbc along the "
            "directions that repeat"
        )
    if atoms.pbc.all():
        checks.crystal(atoms, purpose)
    padded(atoms)
    if atoms.constraints:
        raise ConfigError(
            f"the structure has the constraint {type(atoms.constraints[0]).__name__}, which has no meaning in its "
            "supercells: remove it with atoms.set_constraint()"
        )
    charge = _charge(atoms)
    if abs(charge) > 1e-9:
        raise ConfigError(
            f"the structure has a charge of {charge:g} e: {purpose} is that of neutral cells, without the electrons' "
            "chemical potential and corrections for image charges; remove the charge"
        )


def check_bulk(atoms: Any, purpose: str) -> None:
    """ConfigError for anything but a crystal that is periodic in all directions and fills its cell."""
    checks.crystal(atoms, purpose)
    check_crystal(atoms, purpose)
    if empty := vacuum_names(atoms):
        raise ConfigError(
            f"the cell has vacuum (more than 5 Å without atoms) along {', '.join(empty)}: {purpose} is that of slabs "
            "cut from a crystal, so give the unit cell of the crystal itself"
        )


def check_vacancies(atoms: Any, purpose: str) -> None:
    """`check_crystal`, and ConfigError for charges of atoms, of which a vacancy would take one away."""
    check_crystal(atoms, purpose)
    charged = np.flatnonzero(np.abs(atoms.get_initial_charges()) > 1e-9).tolist()
    if charged:
        raise ConfigError(
            f"{len(charged)} atoms have initial charges ({checks.listed(charged, atoms.get_chemical_symbols())}): "
            f"without one of them the cell would be charged, and {purpose} is that of neutral cells; remove them with "
            "atoms.set_initial_charges()"
        )


def _charge(atoms: Atoms) -> float:
    """Of the cell, e; ConfigError for one that is no number."""
    given = atoms.info.get("charge", 0) or 0
    try:
        return float(given) or float(atoms.get_initial_charges().sum())
    except (TypeError, ValueError):
        raise ConfigError(
            f"atoms.info['charge'] is {given!r}: it must be a number, in e, such as 0 for a neutral cell"
        ) from None


def symmetry(atoms: Atoms, symprec: float) -> Any:
    """spglib's data set for the crystal; directions without periodicity get vacuum first."""
    import spglib

    symprec = checks.number("symprec", symprec, above=0.0, hint=" Å")
    full = padded(atoms)
    crystal: Any = (full.cell.array, full.get_scaled_positions(), site_kinds(atoms))
    try:
        found = spglib.get_symmetry_dataset(crystal, symprec=symprec)
    except Exception:  # spglib raises its own errors since 2.7, and returned None before
        found = None
    if found is None:
        raise ConfigError(
            f"spglib finds no symmetry, not even the trivial one, within symprec={symprec:g} Å: look for atoms on top "
            "of each other, or choose another symprec"
        )
    return found


def padded(atoms: Atoms) -> Atoms:
    """A copy with vacuum in the directions without periodicity, and periodic in all; ConfigError for a flat cell."""
    crystal = Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    if np.linalg.matrix_rank(atoms.cell.array[atoms.pbc]) < atoms.pbc.sum():
        raise ConfigError(f"the structure is periodic but its cell has no volume: {atoms.cell.array.tolist()}")
    for axis in np.flatnonzero(~atoms.pbc):
        crystal.center(vacuum=_PADDING, axis=int(axis))
    crystal.pbc = True
    return crystal


def vacuum_axes(atoms: Atoms) -> NDArray[np.bool_]:
    """(3,) where the structure has a gap of more than 5 Å between its atoms, or no periodicity."""
    return np.asarray(_gaps(padded(atoms))[0] > _GAP, dtype=bool)


def vacuum_names(atoms: Atoms) -> list[str]:
    """The names of the cell vectors along which there is vacuum."""
    return ["abc"[axis] for axis in np.flatnonzero(vacuum_axes(atoms))]


def dilution(crystal: Atoms) -> float:
    """How many times larger than its matter a cell with vacuum is, periodic in all directions; 1 without vacuum.

    A layer counts with 3 Å more than the distance of its outermost planes of atoms.
    """
    gaps, heights = _gaps(crystal)
    return float(np.where(gaps > _GAP, heights / (heights - gaps + _SKIN), 1.0).prod())


def _gaps(crystal: Atoms) -> tuple[Array, Array]:
    """(3,) Å: the widest gaps between atoms along the normals of the faces, and the heights of the cell."""
    heights = 1 / np.linalg.norm(np.linalg.inv(crystal.cell.array), axis=0)
    scaled = np.sort(crystal.get_scaled_positions(), axis=0)
    return np.diff(np.vstack([scaled, scaled[:1] + 1]), axis=0).max(axis=0) * heights, heights


def with_vacuum(atoms: Atoms) -> Atoms:
    """A copy, periodic in all directions, with vacuum in those without periodicity; its calculator is the same."""
    copy: Atoms = atoms.copy()
    for axis in np.flatnonzero(~atoms.pbc):
        copy.cell[int(axis)] = 0.0  # what stands there need not be normal to the layer
        copy.center(vacuum=_PADDING, axis=int(axis))
    copy.pbc = True
    copy.calc = atoms.calc
    return copy


def inequivalent_sites(atoms: Atoms, data: Any, chosen: Sequence[int] | None) -> list[Site]:
    """One site for each orbit of the space group, or those chosen; ConfigError for an index that is none."""
    orbits = np.asarray(data.crystallographic_orbits)  # equivalent_atoms has less where the cell is not primitive
    if chosen is None:
        indices = sorted({int(np.flatnonzero(orbits == orbit)[0]) for orbit in orbits})
    else:
        indices = _indices(atoms, chosen)
    symbols = atoms.get_chemical_symbols()
    return [
        Site(
            index=k,
            symbol=symbols[k],
            multiplicity=int((orbits == orbits[k]).sum()),
            wyckoff=str(data.wyckoffs[k]),
            orbit=int(np.flatnonzero(orbits == orbits[k])[0]),
        )
        for k in indices
    ]


def _indices(atoms: Atoms, chosen: Any) -> list[int]:
    given = [] if isinstance(chosen, str) or not np.iterable(chosen) else list(chosen)
    if not given:
        raise ConfigError(f"sites is {chosen!r}: give a sequence of indices such as [0], or None for all sites")
    indices = [checks.whole("an index in sites", k, at_least=0) for k in given]
    wrong = [k for k in indices if k >= len(atoms)]
    if wrong:
        raise ConfigError(
            f"sites holds {wrong[0]}, but the unit cell has {len(atoms)} atoms: indices run from 0 to {len(atoms) - 1}"
        )
    if len(set(indices)) < len(indices):
        raise ConfigError(f"sites is {indices}: each index may stand there once")
    return indices


def same_by_symmetry(sites: Sequence[Site]) -> list[tuple[Site, Site]]:
    """Pairs of sites of one orbit, whose energies must agree."""
    first: dict[int, Site] = {}
    return [(first[site.orbit], site) for site in sites if first.setdefault(site.orbit, site) is not site]


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
                "must be 1"
            )
    repeated: Atoms = make_supercell(atoms, matrix)  # with all its arrays: a calculator may read moments or tags
    repeated.arrays.pop("momenta", None)
    repeated.info = dict(atoms.info)
    if len(repeated) < 2:
        raise ConfigError(f"supercell is {supercell!r}: without one atom nothing is left of it; take a larger one")
    return repeated


def without(perfect: Atoms, index: int) -> Atoms:
    """The supercell with one atom missing."""
    defective: Atoms = perfect.copy()
    del defective[index]
    return defective


def image_distance(cell: Atoms) -> float:
    """Shortest lattice vector along the periodic directions, Å: how far a vacancy is from its nearest image."""
    reduced, _ = minkowski_reduce(cell.cell.array, cell.pbc)
    return float(np.linalg.norm(reduced[cell.pbc], axis=1).min())


def nearest_neighbor(perfect: Atoms, index: int) -> float:
    """Distance (Å) from the atom to the nearest other one, an image of itself included."""
    others = np.delete(perfect.positions, index, axis=0) - perfect.positions[index]
    return min(float(find_mic(others, perfect.cell, perfect.pbc)[1].min()), image_distance(perfect))


def rattled(defective: Atoms, center: Array, reach: float, amplitude: float, seed: int) -> Atoms:
    """A copy whose atoms within `reach` (Å) of the center are displaced at random, so that no symmetry is left."""
    moved: Atoms = defective.copy()
    near = find_mic(moved.positions - center, moved.cell, moved.pbc)[1] <= reach
    noise = np.random.default_rng(seed).normal(scale=amplitude, size=(len(moved), 3)) if amplitude else 0.0
    moved.positions += near[:, None] * noise
    return moved


def inequivalent_hops(atoms: Atoms, data: Any, site: int, symprec: float) -> list[Hop]:
    """Jumps of neighbors of the site's own element into it, one per orbit of its site symmetry, shortest first.

    All up to 1.25 times the shortest are listed.
    """
    from ase.neighborlist import neighbor_list

    reach = 3.0
    while True:
        i, j, d, D = neighbor_list("ijdD", atoms, reach)
        mine = (i == site) & (atoms.numbers[j] == atoms.numbers[site])
        if mine.any() and d[mine].min() * _HOP_SHELL <= reach:
            break
        reach *= 1.5
    shell = mine & (d <= _HOP_SHELL * d[mine].min())
    order = np.flatnonzero(shell)[np.lexsort((*D[shell].T, np.round(d[shell], 6)))]
    left, found = list(order), []
    rotations = _site_rotations(atoms, data, site, symprec)
    while left:
        images = D[left[0]] @ rotations
        same = [k for k in left if np.linalg.norm(images - D[k], axis=1).min() < 10 * symprec]
        vector = tuple(float(x) for x in D[left[0]])
        found.append(Hop(int(j[left[0]]), (vector[0], vector[1], vector[2]), float(d[left[0]]), len(same)))
        left = [k for k in left if k not in same]
    return found


def _site_rotations(atoms: Atoms, data: Any, site: int, symprec: float) -> Array:
    """(G, 3, 3) matrices that act on Cartesian row vectors from the right: the operations that fix the site."""
    # Of the primitive cell, because a larger one may break the symmetry of the crystal.
    crystal, mapping = padded(atoms), np.asarray(data.mapping_to_primitive)
    first = np.unique(mapping, return_index=True)[1]
    kinds = site_kinds(atoms)[first]
    bare = Atoms(numbers=kinds, positions=crystal.positions[first], cell=data.primitive_lattice, pbc=True)
    primitive = dressed(bare, kinds, atoms)
    data = symmetry(primitive, symprec)
    x, cell = primitive.get_scaled_positions(wrap=False)[mapping[site]], primitive.cell.array
    moved = np.asarray(data.rotations) @ x + np.asarray(data.translations) - x
    fixing = np.linalg.norm((moved - np.round(moved)) @ cell, axis=1) < 10 * symprec
    inverse = np.linalg.inv(cell)
    return np.array([inverse @ rotation.T @ cell for rotation in np.asarray(data.rotations)[fixing]])


def tell_small(distance: float, what: str = "vacancy") -> None:
    """A PhysicsWarning where a defect is close to its images."""
    if distance < IMAGE_DISTANCE:
        warnings.warn(
            f"the {what} is {distance:.3g} Å from its nearest image, less than {IMAGE_DISTANCE:g} Å: their interaction "
            "is part of the energy; take a larger supercell, or extrapolate with vacancy_series",
            PhysicsWarning,
            stacklevel=4,
        )
