"""Jumps of neighboring atoms into a vacancy, by symmetry."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from ase import Atoms
from ase.geometry import find_mic
from numpy.typing import NDArray

from mlcalc.ground.errors import Use
from mlcalc.ground.warn import warn

from .. import checks
from ..crystals.kinds import dressed, site_kinds
from ..crystals.supercells import perfect_supercell, supercell_matrix
from ..crystals.symmetry import symmetry
from ..crystals.vacuum import padded
from ..errors import ConfigError, PhysicsWarning
from ..results import Quantity
from .sites import check_vacancies, inequivalent_sites, without

Array = NDArray[np.float64]

_HOP_SHELL = 1.25  # hops up to this many times the shortest are listed


@dataclass(frozen=True)
class Hop:
    """A jump of a neighboring atom into a vacancy, one of `multiplicity` equivalent ones."""

    neighbor: Annotated[int, Quantity("the atom that jumps, in the unit cell")]
    vector: Annotated[tuple[float, float, float], Quantity("from the vacancy to the atom that jumps", "Å")]
    distance: Annotated[float, Quantity("of the jump", "Å")]
    multiplicity: Annotated[int, Quantity("how many jumps are equivalent")]


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


@dataclass(frozen=True)
class Jump:
    """Which atom jumps where."""

    site: int  # of the vacancy, in the unit cell
    hop: Hop
    hops: tuple[Hop, ...]
    matrix: NDArray[np.int64]  # of the supercell
    perfect: Atoms
    first: Atoms  # the vacancy before the jump
    last: Atoms  # and after it: the same atoms in one order
    jumper: int  # index of the atom in them


def check_jump(atoms: Atoms, supercell: Any, site: int | None, hop: int | None, symprec: float) -> None:
    """ConfigError for a jump that `vacancy_migration` would refuse."""
    check_vacancies(atoms, "vacancy migration")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PhysicsWarning)  # the computation tells of other jumps
        chosen_jump(atoms, supercell, symprec, site, hop)


def chosen_jump(atoms: Atoms, supercell: Any, symprec: float, site: int | None, hop: int | None) -> Jump:
    """The jump of an atom next to the site, the shortest where `hop` is None; ConfigError where there is none."""
    data = symmetry(atoms, symprec)
    place = _site(atoms, data, site)
    hops = inequivalent_hops(atoms, data, place, symprec)
    chosen = hops[_hop(hops, hop)]
    perfect = perfect_supercell(atoms, supercell)
    first, last, jumper = _end_points(perfect, place, chosen)
    return Jump(place, chosen, tuple(hops), supercell_matrix(supercell), perfect, first, last, jumper)


def _site(atoms: Atoms, data: Any, site: int | None) -> int:
    if site is not None:
        return inequivalent_sites(atoms, data, [site])[0].index
    sites = inequivalent_sites(atoms, data, None)
    if len(sites) > 1:
        named = ", ".join(f"{one.index} ({one.symbol})" for one in sites)
        raise ConfigError(
            f"the crystal has {len(sites)} inequivalent sites, {named}",
            setting="site",
            remedies=[Use("site", None, "for one of them")],
        )
    return sites[0].index


def _hop(hops: list[Hop], hop: int | None) -> int:
    listed = "; ".join(f"{k}: {one.distance:.4f} Å, {one.multiplicity} equivalent" for k, one in enumerate(hops))
    if hop is None:
        if len(hops) > 1:
            warn(
                PhysicsWarning(
                    f"there are {len(hops)} inequivalent jumps of similar length ({listed}), and only the first is "
                    "followed, while the others may have a lower barrier",
                    remedies=[Use("hop", None, "for another one")],
                )
            )
        return 0
    if checks.whole("hop", hop, at_least=0) >= len(hops):
        raise ConfigError(
            f"hop is {hop}: the inequivalent jumps are {listed}", setting="hop", value=hop, limit=len(hops) - 1
        )
    return hop


def _end_points(perfect: Atoms, site: int, jump: Hop) -> tuple[Atoms, Atoms, int]:
    """The vacancy before and after the jump, and the index of the atom that jumps: the same atoms in one order."""
    place = perfect.positions[site]
    away = find_mic(perfect.positions - (place + jump.vector), perfect.cell, perfect.pbc)[1]
    neighbor = int(np.argmin(away))
    if neighbor == site:
        raise ConfigError(
            f"in the supercell of {len(perfect)} atoms the neighbor of the vacancy is its own image",
            setting="supercell",
            remedies=["take a larger one"],
        )
    first = without(perfect, site)
    jumper = neighbor - (neighbor > site)
    last = first.copy()
    last.positions[jumper] -= jump.vector  # along the jump, whichever image of the atom is the nearest
    return first, last, jumper
