"""Random cells, an independent list of pairs for them, and walks through changing cells."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mlcalc.graphs.pairs import NeighborPairs

KINDS = (
    "triclinic",
    "left-handed",
    "skewed to 10 degrees",
    "a + 50 b",
    "smaller than the cutoff",
    "lattice",
    "molecule",
    "zero vectors",
    "degenerate free vectors",
    "mixed pbc",
)
BAND = 1e-9  # Å; two correct lists may differ for pairs this near to the cutoff


@dataclass(frozen=True)
class Case:
    positions: NDArray[np.float64]
    cell: NDArray[np.float64]
    pbc: NDArray[np.bool_]
    cutoff: float


def random_case(kind: str, seed: int) -> Case:
    """One to eight atoms, a third of the cases with atoms far outside the cell."""
    rng = np.random.default_rng(seed)
    pbc = np.ones(3, dtype=bool)
    cell = np.diag(rng.uniform(3.0, 8.0, 3)) + rng.uniform(-1.5, 1.5, (3, 3))
    cutoff = float(rng.uniform(1.5, 6.0))
    if kind == "left-handed":
        cell = cell[[1, 0, 2]] * np.sign(np.linalg.det(cell))
    elif kind == "skewed to 10 degrees":
        angle = np.radians(rng.uniform(10.0, 20.0))
        cell = np.diag(rng.uniform(3.0, 8.0, 3))
        cell[1] = cell[1, 1] * np.array([np.cos(angle), np.sin(angle), 0.0])
    elif kind == "a + 50 b":
        cell[0] += rng.choice([-50, 50]) * cell[1]
    elif kind == "smaller than the cutoff":
        cell = np.diag(rng.uniform(1.2, 2.5, 3)) + rng.uniform(-0.3, 0.3, (3, 3))
    elif kind == "lattice":
        cell = np.eye(3) * float(rng.choice([1.5, 2.5, 3.0]))  # many pairs exactly at the cutoff
        cutoff = float(cell[0, 0] * rng.choice([1, 2]))
    elif kind == "molecule":
        cell, pbc = np.zeros((3, 3)), np.zeros(3, dtype=bool)
    elif kind == "zero vectors":
        pbc = rng.permutation([True, bool(rng.integers(2)), False])
        cell[~pbc] = 0.0
    elif kind == "degenerate free vectors":
        pbc = rng.permutation([True, bool(rng.integers(2)), False])
        cell[~pbc] = rng.choice([1e-9, 0.3, 1.0]) * cell[np.flatnonzero(pbc)[0]]
    elif kind == "mixed pbc":
        pbc = rng.integers(2, size=3).astype(bool)
    n_atoms = int(rng.integers(1, 9))
    box = cell if np.linalg.norm(cell, axis=1).min() > 1.0 else np.eye(3) * 5.0
    positions = rng.uniform(0.0, 1.0, (n_atoms, 3)) @ box
    if kind == "lattice":
        positions = np.rint(positions * 2.0) / 2.0
    if rng.integers(3) == 0:
        positions += rng.integers(-40, 41, (n_atoms, 3)) @ np.where(pbc[:, None], cell, 0.0)
        positions += np.where(pbc, 0.0, 20.0) * (rng.integers(2, size=3))
    return Case(positions, cell, pbc, cutoff)


def brute_force(case: Case) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Rows (i, j, shift) and distances of all pairs within cutoff + BAND, by summing over images, unsorted.

    Along each periodic vector the images stay within reach / height of the nearest one, heights from the Gram matrix.
    """
    n_atoms, periodic = len(case.positions), np.flatnonzero(case.pbc)
    rows = case.cell[periodic]
    reach = case.cutoff + BAND
    difference = case.positions[None, :, :] - case.positions[:, None, :]  # [i, j] = x_j - x_i
    if len(periodic):
        dual = np.linalg.solve(rows @ rows.T, rows)  # (p, 3), dual[k] . rows[l] = delta_kl
        nearest = -np.rint(difference @ dual.T).astype(int)
        extent = np.ceil(reach * np.linalg.norm(dual, axis=1) + 0.5).astype(int)
    else:
        nearest, extent = np.zeros((n_atoms, n_atoms, 0), dtype=int), np.zeros(0, dtype=int)
    found_rows, found_distances = [], []
    steps = (
        np.array(list(np.ndindex(*(2 * extent + 1))), dtype=int).reshape(int(np.prod(2 * extent + 1)), len(periodic))
        - extent
    )
    for i in range(n_atoms):
        for j in range(n_atoms):
            images = nearest[i, j] + steps
            distances = np.linalg.norm(difference[i, j] + images @ rows, axis=1)
            own = (i == j) & (images == 0).all(axis=1)
            hit = np.flatnonzero((distances < reach) & ~own)
            shifts = np.zeros((len(hit), 3), dtype=np.int64)
            shifts[:, periodic] = images[hit]
            found_rows.append(np.column_stack([np.full(len(hit), i), np.full(len(hit), j), shifts]))
            found_distances.append(distances[hit])
    return np.concatenate(found_rows).astype(np.int64), np.concatenate(found_distances)


def check_exact(case: Case, pairs: NeighborPairs) -> None:
    """The pairs are the brute-force ones, once each, sorted, at most those within BAND of the cutoff in doubt."""
    ours = np.column_stack([pairs.i, pairs.j, pairs.shifts])
    order = np.lexsort(ours.T[::-1])
    assert np.array_equal(order, np.arange(len(ours))), "not sorted by (i, j, shift)"
    listed = {tuple(row) for row in ours.tolist()}
    assert len(listed) == len(ours), "a pair is listed twice"
    rows, distances = brute_force(case)
    allowed = {tuple(row) for row in rows.tolist()}
    required = {tuple(row) for row in rows[distances < case.cutoff - BAND].tolist()}
    assert listed <= allowed, f"pairs beyond the cutoff: {sorted(listed - allowed)[:5]}"
    assert required <= listed, f"pairs are missing: {sorted(required - listed)[:5]}"


def same(left: NeighborPairs, right: NeighborPairs) -> bool:
    """Whether two lists are the same, entry by entry and in the same order."""
    return (
        np.array_equal(left.i, right.i)
        and np.array_equal(left.j, right.j)
        and np.array_equal(left.shifts, right.shifts)
    )


def walk(case: Case, motion: str, steps: int, seed: int) -> Iterator[Case]:
    """A trajectory from the case by one of MOTIONS."""
    rng = np.random.default_rng(seed)
    for step in range(steps):
        yield case
        case = MOTIONS[motion](case, step, rng)


def _atoms(case: Case, _step: int, rng: np.random.Generator) -> Case:
    return replace(case, positions=case.positions + rng.normal(0.0, 0.03, case.positions.shape))


def _drift(case: Case, step: int, rng: np.random.Generator) -> Case:
    moved = _atoms(case, step, rng)
    return replace(moved, positions=moved.positions + np.array([0.4, -0.2, 0.3]))


def _strain(case: Case, step: int, rng: np.random.Generator) -> Case:
    """Atoms follow the cell, as under a barostat."""
    deformation = np.eye(3) + rng.normal(0.0, 0.002, (3, 3))
    return _atoms(replace(case, cell=case.cell @ deformation, positions=case.positions @ deformation), step, rng)


def _cell_only(case: Case, _step: int, rng: np.random.Generator) -> Case:
    """Atoms stay where they are, the images come nearer."""
    return replace(case, cell=case.cell @ (np.eye(3) * 0.996 + rng.normal(0.0, 0.002, (3, 3))))


def _sudden(case: Case, step: int, rng: np.random.Generator) -> Case:
    if step % 5 == 4:
        return replace(case, cell=case.cell @ (np.eye(3) + rng.uniform(-0.25, 0.15, (3, 3))))
    return _strain(case, step, rng)


def _compression(case: Case, step: int, rng: np.random.Generator) -> Case:
    """Fractional coordinates stay: only images and the metric change."""
    return replace(case, cell=case.cell * 0.985, positions=case.positions * 0.985)


def _wrapping(case: Case, step: int, rng: np.random.Generator) -> Case:
    moved = _drift(case, step, rng)
    if step % 3 or not case.pbc.any():
        return moved
    jump = np.where(case.pbc, rng.integers(-1, 2, moved.positions.shape), 0)
    return replace(moved, positions=moved.positions + jump @ case.cell)


def _collision(case: Case, _step: int, _rng: np.random.Generator) -> Case:
    """All atoms towards the first one's side of the cell, neighbors head-on: the worst case for the factor 1/2."""
    signs = np.where(np.arange(len(case.positions)) % 2, -1.0, 1.0)
    return replace(case, positions=case.positions + 0.12 * signs[:, None] * np.array([1.0, 0.0, 0.0]))


MOTIONS: dict[str, Callable[[Case, int, np.random.Generator], Case]] = {
    "atoms": _atoms,
    "drift": _drift,
    "strain": _strain,
    "cell only": _cell_only,
    "sudden": _sudden,
    "compression": _compression,
    "wrapping": _wrapping,
    "collision": _collision,
}
