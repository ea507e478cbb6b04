"""Neighbor lists: full, exact, sorted, and the same for the same structure whatever came before."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from mlcalc.errors import CellError, StructureError
from mlcalc.graphs.filter import LONG, compiled_filter
from mlcalc.graphs.pairs import EdgeTensors, NeighborPairs
from mlcalc.graphs.search import (
    BACKENDS,
    Bools,
    Floats,
    Ints,
    Triple,
    check_backend,
    check_edges,
    expected_edges,
    full_order,
    half_candidates,
    mirrored,
    most_edges,
    offsets,
    search_box,
    squared_distances,
    squared_threshold,
)
from mlcalc.graphs.snapshot import same_numbers
from mlcalc.graphs.validation import check_cell, check_positions
from mlcalc.md_protocols.errors import ConfigError

__all__ = ["BACKENDS", "DEFAULT_MAX_EDGES", "EdgeTensors", "NeighborList", "NeighborPairs", "neighbor_pairs"]

DEFAULT_MAX_EDGES = 20_000_000  # 450,000 Cu atoms at 5 Å; the list alone takes 0.8 GB
ALWAYS_COUNTED = 1_000_000  # edges; an estimate may be far off for few edges, and these few are no danger
ROUNDING = 1e-8  # Å; more than float64 loses in sums of coordinates up to MAX_COORDINATE
FARTHEST_DRIFT = 1e3  # Å
WORST_CONDITION = 1e5  # of a cell's vectors, for a strain computed from them to hold to ROUNDING


def neighbor_pairs(
    positions: ArrayLike,
    cell: ArrayLike,
    pbc: ArrayLike,
    cutoff: float,
    *,
    backend: str = "matscipy",
    max_edges: int | None = DEFAULT_MAX_EDGES,
) -> NeighborPairs:
    """All pairs closer than the cutoff: positions (N, 3) Å, cell (3, 3) Å with vectors as rows, pbc (3,).

    Non-periodic directions may have any cell vector, zero too, and atoms anywhere.  The number of edges is estimated
    before anything large is allocated (max_edges; None: no limit).

    Raises ConfigError (cutoff, backend), NonFiniteError, CellError, StructureError, TooManyEdgesError, and
    MissingExtraError for a backend that is not installed.
    """
    check_backend(backend)
    cutoff = _checked_cutoff(cutoff)
    x, h, periodic = _checked_structure(positions, cell, pbc)
    i, j, shifts = _half_list(x, h, periodic, cutoff=cutoff, reach=cutoff, backend=backend, max_edges=max_edges)
    squared = squared_distances(x, i, j, offsets(shifts, h))
    kept = np.flatnonzero(squared < squared_threshold(cutoff))
    i, j, shifts = i.take(kept), j.take(kept), shifts.take(kept, axis=0)
    order = full_order(i, j, shifts, n_atoms=len(x))
    i, j, shifts = mirrored(i, j, shifts)
    shortest = math.sqrt(squared.min()) if len(kept) else math.inf
    full = NeighborPairs(i.take(order), j.take(order), shifts.take(order, axis=0), shortest)
    if max_edges is not None:
        check_edges(len(full.i), max_edges, cutoff=cutoff, n_atoms=len(x), estimated=False)
    return full


class NeighborList:
    """Neighbor lists along a trajectory, searched anew only when atoms or cell have moved by more than the skin allows.

    A search finds all pairs closer than R = cutoff + skin in a reference (x0, h0).  Later, in (x, h), with F the linear
    map that takes each periodic h0 vector to its h vector (row vectors, h0 F = h) and leaves what is orthogonal to them
    alone, and u_i = x_i - x0_i F - c with any constant c,

        r_ij = x_j + s h - x_i = (x0_j + s h0 - x0_i) F + u_j - u_i,     |r_ij| >= sigma_min(F) |r0_ij| - 2 max|u|.

    A pair outside the candidates had |r0_ij| >= R, so none can have come within the cutoff as long as

        2 max|u| <= sigma_min(F) (cutoff + skin) - cutoff,

    sigma_min being the smallest singular value.  For a fixed cell this is the familiar 2 max|u| <= skin.  An atom that
    was wrapped by the caller moved by a cell vector: u is large and the list is rebuilt.

    One instance serves one thread and one trajectory; copies are independent.
    """

    def __init__(
        self,
        cutoff: float,
        *,
        skin: float = 0.0,
        backend: str = "matscipy",
        max_edges: int | None = DEFAULT_MAX_EDGES,
    ) -> None:
        check_backend(backend)
        self.cutoff = _checked_cutoff(cutoff)
        self._threshold = squared_threshold(self.cutoff)
        if not (math.isfinite(skin) and skin >= 0.0):
            raise ConfigError(
                f"skin = {skin!r} Å is not allowed: give 0 (no reuse) or a positive distance such as 1",
                setting="skin",
                value=skin,
                limit=0,
            )
        self.skin = float(skin)
        self.backend = backend
        self.max_edges = max_edges
        self.rebuilds = 0  # searches so far
        self._reference: _Reference | None = None

    def pairs(
        self, positions: ArrayLike, cell: ArrayLike, pbc: ArrayLike, numbers: ArrayLike | None = None
    ) -> NeighborPairs:
        """Exactly what `neighbor_pairs` gives for this structure, from the candidates at hand where they suffice."""
        if self.skin == 0.0:
            self.rebuilds += 1
            return neighbor_pairs(positions, cell, pbc, self.cutoff, backend=self.backend, max_edges=self.max_edges)
        return self._current(positions, cell, pbc, numbers).pairs()

    def edges(
        self, positions: ArrayLike, cell: ArrayLike, pbc: ArrayLike, numbers: ArrayLike | None = None
    ) -> EdgeTensors:
        """The same list as tensors for a Graph; they may be those of the list before and are not to be written to."""
        if self.skin == 0.0:
            return EdgeTensors.of(self.pairs(positions, cell, pbc, numbers))
        return self._current(positions, cell, pbc, numbers)

    def _current(self, positions: ArrayLike, cell: ArrayLike, pbc: ArrayLike, numbers: ArrayLike | None) -> EdgeTensors:
        x, h, periodic = _as_arrays(positions, cell, pbc)
        z = None if numbers is None else np.array(numbers)
        reference = self._reference
        if reference is None or not (reference.same_atoms(x, periodic, z) and reference.covers(x, h, self.cutoff)):
            self._reference = None  # an error below must not leave an outdated state
            _checked_structure(x, h, periodic)
            reach = self.cutoff + self.skin
            half = _half_list(
                x, h, periodic, cutoff=self.cutoff, reach=reach, backend=self.backend, max_edges=self.max_edges
            )
            reference = self._reference = _Reference(_Structure(x.copy(), h.copy(), periodic.copy(), z), half, reach)
            self.rebuilds += 1
        full = reference.filtered(x, h, self._threshold)
        if self.max_edges is not None:
            check_edges(full.edges.shape[1], self.max_edges, cutoff=self.cutoff, n_atoms=len(x), estimated=False)
        return full


@dataclass(frozen=True, eq=False)
class _Structure:
    positions: Floats
    cell: Floats
    pbc: Bools
    numbers: NDArray[Any] | None


class _Reference:
    """The structure of the last search, with all its pairs closer than the reach in the order of the full list."""

    def __init__(self, structure: _Structure, half: Triple, reach: float) -> None:
        self.structure, self.reach = structure, reach
        squared = squared_distances(structure.positions, half[0], half[1], offsets(half[2], structure.cell))
        kept = np.flatnonzero(squared < (reach + 2 * ROUNDING) ** 2)
        self.half: Triple = (half[0].take(kept), half[1].take(kept), half[2].take(kept, axis=0))
        self.offsets = (structure.cell, offsets(self.half[2], structure.cell))
        order = full_order(*self.half, n_atoms=len(structure.positions))
        i, j, shifts = mirrored(*self.half)
        self.edges = np.stack([i.take(order), j.take(order)])
        self.shifts = shifts.take(order, axis=0).astype(np.float64)
        self.half_index = order % max(len(kept), 1)  # both directions of a pair share one distance
        self.last: tuple[Bools, Tensor, Tensor] | None = None  # which pairs were within the cutoff, and their edges

    def same_atoms(self, x: Floats, pbc: Bools, numbers: NDArray[Any] | None) -> bool:
        """Whether number, elements and periodicity are those of the search."""
        old = self.structure
        if x.shape != old.positions.shape or not same_numbers(pbc, old.pbc):
            return False
        if numbers is None or old.numbers is None:
            return numbers is None and old.numbers is None
        return same_numbers(numbers, old.numbers)

    def covers(self, x: Floats, h: Floats, cutoff: float) -> bool:
        """Whether every pair within the cutoff is among the candidates; False for NaN."""
        old = self.structure
        displacement = x - old.positions
        smallest = 1.0
        if not same_numbers(h, old.cell) and not np.isfinite(h).all():
            return False
        if not (same_numbers(h, old.cell) or same_numbers(h[old.pbc], old.cell[old.pbc])):
            if np.linalg.cond(old.cell[old.pbc]) > WORST_CONDITION:
                return False
            # h0 F = h on the periodic rows, the identity on what is orthogonal to them
            strain = np.linalg.pinv(old.cell[old.pbc]) @ (h[old.pbc] - old.cell[old.pbc])
            smallest = float(np.linalg.svd(np.eye(3) + strain, compute_uv=False)[-1])
            displacement -= old.positions @ strain
        limit = 0.5 * (smallest * self.reach - cutoff) - ROUNDING
        if limit <= 0.0:
            return False
        largest = _largest_square(displacement)
        if largest <= limit**2:
            return True
        if not largest < FARTHEST_DRIFT**2:  # true for NaN; a new search looks at the coordinates again
            return False
        displacement -= displacement.mean(axis=0)  # a drift of the whole structure brings no pair closer
        return _largest_square(displacement) <= limit**2

    def filtered(self, x: Floats, h: Floats, threshold: float) -> EdgeTensors:
        """The candidates whose squared distance is below the threshold, in order."""
        if not same_numbers(h, self.offsets[0]):
            self.offsets = (h.copy(), offsets(self.half[2], h))
        inside, smallest = self._inside(x, threshold)
        if self.last is None or not same_numbers(inside, self.last[0]):
            edges, shifts = self._gathered(inside)
            self.last = (inside, torch.from_numpy(edges), torch.from_numpy(shifts))
        _, edge_tensor, shift_tensor = self.last
        return EdgeTensors(edge_tensor, shift_tensor, math.sqrt(smallest) if edge_tensor.shape[1] else math.inf)

    def _inside(self, x: Floats, threshold: float) -> tuple[Bools, float]:
        """Which pairs of the half list are within the cutoff, and the smallest square of a distance (Å^2)."""
        i, j, offset = self.half[0], self.half[1], self.offsets[1]
        if len(i) >= LONG and (compiled := compiled_filter()):
            marked = np.empty(len(i), dtype=np.bool_)
            crossing = np.empty((3, 0)) if offset is None else offset
            return marked, compiled.mark(x, (i, j), crossing, threshold, marked)
        squared = squared_distances(x, i, j, offset)
        return squared < threshold, float(np.minimum.reduce(squared, initial=math.inf))

    def _gathered(self, inside: Bools) -> tuple[Ints, Floats]:
        """Edges and shifts of both directions of the pairs that are inside."""
        if len(inside) >= LONG and (compiled := compiled_filter()):
            count = 2 * int(np.count_nonzero(inside))
            found = np.empty((2, count), dtype=np.int64), np.empty((count, 3))
            compiled.gather(inside, self.half_index, (self.edges, self.shifts), found)
            return found
        kept = np.flatnonzero(inside.take(self.half_index)) if len(inside) else self.half_index
        return self.edges.take(kept, axis=1), self.shifts.take(kept, axis=0)


def _half_list(
    x: Floats, h: Floats, pbc: Bools, *, cutoff: float, reach: float, backend: str, max_edges: int | None
) -> Triple:
    """Pairs within the reach once each, shifts referring to the positions as they came."""
    if len(x) == 0:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 3), np.int64)
    box = search_box(x, h, pbc, reach)
    if max_edges is not None:
        # an estimate must not refuse what the exact count allows, and a short list is soon counted
        tolerated = max(2 * max_edges, ALWAYS_COUNTED)
        if most_edges(box, cutoff) > tolerated and (expected := expected_edges(box, cutoff)) > tolerated:
            check_edges(expected, max_edges, cutoff=cutoff, n_atoms=len(x), estimated=True)
    i, j, shifts = half_candidates(box, reach, backend)
    if box.wraps.any():
        shifts = shifts + box.wraps.take(j, axis=0) - box.wraps.take(i, axis=0)
    return i, j, shifts


def _largest_square(vectors: Floats) -> float:
    squares = vectors * vectors
    return float(np.maximum.reduce(squares[:, 0] + squares[:, 1] + squares[:, 2], initial=0.0))


def _checked_cutoff(cutoff: float) -> float:
    if not (math.isfinite(cutoff) and cutoff > 0.0):
        raise ConfigError(
            f"cutoff = {cutoff!r} Å is not allowed: give a finite distance above 0, such as 5.0",
            setting="cutoff",
            value=cutoff,
            limit=0,
        )
    return float(cutoff)


def _as_arrays(positions: ArrayLike, cell: ArrayLike, pbc: ArrayLike) -> tuple[Floats, Floats, Bools]:
    x = np.ascontiguousarray(positions, dtype=np.float64)
    h = np.ascontiguousarray(cell, dtype=np.float64)
    periodic = np.array(pbc, dtype=np.bool_)
    if periodic.shape != (3,):
        periodic = np.array(np.broadcast_to(periodic, (3,)))
    if x.ndim != 2 or x.shape[1] != 3:
        raise StructureError(f"positions have the shape {x.shape}; give (number of atoms, 3).")
    if h.shape != (3, 3):
        raise CellError(f"The cell has the shape {h.shape}; give (3, 3) with the vectors as rows, zeros for none.")
    return x, h, periodic


def _checked_structure(positions: ArrayLike, cell: ArrayLike, pbc: ArrayLike) -> tuple[Floats, Floats, Bools]:
    x, h, periodic = _as_arrays(positions, cell, pbc)
    check_positions(x)
    check_cell(h, periodic)
    return x, h, periodic
