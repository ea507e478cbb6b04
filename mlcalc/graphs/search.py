"""Candidate pairs from the backends, each pair once, and the arithmetic that makes exact sorted full lists of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlcalc.errors import MissingExtraError, TooManyEdgesError
from mlcalc.ground.errors import Use
from mlcalc.md_protocols.errors import ConfigError

__all__ = [
    "BACKENDS",
    "SearchBox",
    "check_backend",
    "check_edges",
    "expected_edges",
    "full_order",
    "half_candidates",
    "mirrored",
    "most_edges",
    "offsets",
    "search_box",
    "squared_distances",
    "squared_threshold",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Triple = tuple[Ints, Ints, Ints]  # i (E,), j (E,), shifts (E, 3)

BACKENDS = ("matscipy", "vesin", "torch-cluster")
_OTHER_BACKEND = Use("neighbor_backend", "matscipy", python="use the backend 'matscipy' or 'vesin'")
PADDING = 1e-6  # Å added to the reach: backends may round distances as they like, the exact filter comes after
UNIT_BALL = (1.0, 2.0, math.pi, 4.0 * math.pi / 3.0)  # length, area, volume of the unit ball in 0..3 dimensions


@dataclass(frozen=True, eq=False)
class SearchBox:
    """The structure as a backend sees it: a box with volume that holds every atom.

    Periodic vectors are the structure's own.  The others never carry a shift, so they are free to choose: they are
    orthogonal to the periodic ones and as long as the atoms need, whatever the structure's own vectors were.
    """

    positions: Floats  # (N, 3) Å, = original + wraps @ cell - origin
    vectors: Floats  # (3, 3) Å
    pbc: Bools  # (3,)
    wraps: Ints  # (N, 3), zero along non-periodic directions

    @property
    def heights(self) -> Floats:
        """Distances between opposite faces, (3,) Å."""
        return np.asarray(1.0 / np.sqrt((np.linalg.inv(self.vectors) ** 2).sum(axis=0)), dtype=np.float64)


def check_backend(backend: str) -> None:
    """Nothing, or ConfigError naming the choices."""
    if backend not in BACKENDS:
        close = get_close_matches(str(backend), BACKENDS, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ConfigError(
            f"unknown neighbor backend {backend!r}: choose one of {', '.join(BACKENDS)}.{hint}",
            setting="neighbor_backend",
            value=backend,
            limit=BACKENDS,
        )


def search_box(positions: Floats, cell: Floats, pbc: Bools, reach: float) -> SearchBox:
    """The box of N >= 1 validated atoms."""
    free = ~pbc
    vectors = cell.copy()
    if free.any():
        # the last rows of V^T span what the periodic vectors leave
        vectors[free] = np.linalg.svd(cell[pbc])[2][int(pbc.sum()) :] if pbc.any() else np.eye(3)
    fractional = positions @ np.linalg.inv(vectors)
    wraps = np.where(pbc, -np.floor(fractional), 0.0).astype(np.int64)
    wrapped = positions + wraps @ vectors
    for k in np.flatnonzero(free):
        unit = vectors[k].copy()
        low, high = float(fractional[:, k].min()), float(fractional[:, k].max())
        wrapped -= (low - 0.5 * reach) * unit
        vectors[k] = (high - low + reach) * unit
    return SearchBox(wrapped, vectors, pbc, wraps)


def half_candidates(box: SearchBox, reach: float, backend: str) -> Triple:
    """Each pair closer than the reach once, as i < j, or i = j and a shift whose first nonzero entry is positive.

    Shifts refer to the box's wrapped positions.  Some pairs beyond the reach are in it too.
    """
    reach += PADDING
    if backend == "torch-cluster":
        i, j, shifts = _torch_cluster(box, reach)
    elif np.prod(np.maximum(box.heights / reach, 1.0)) > 100_000 + 8 * len(box.positions):
        i, j, shifts = _tree(box, reach)  # mostly empty space: a grid of bins would take the memory
    elif backend == "vesin":
        i, j, shifts = _vesin(box, reach)
    else:
        i, j, shifts = _matscipy(box, reach)
    own = np.flatnonzero(i == j)
    kept = np.concatenate([np.flatnonzero(i < j), own[_is_positive(shifts.take(own, axis=0))]])
    return i.take(kept), j.take(kept), shifts.take(kept, axis=0)


def _is_positive(shifts: Ints) -> Bools:
    """Whether the first nonzero entry is positive: true for one of each +-shift, false for zero."""
    a, b, c = shifts[:, 0], shifts[:, 1], shifts[:, 2]
    return np.asarray((a > 0) | ((a == 0) & ((b > 0) | ((b == 0) & (c > 0)))))


def most_edges(box: SearchBox, cutoff: float) -> float:
    """A number of edges that no arrangement of these atoms in this box can exceed."""
    along = np.where(box.pbc, 2.0 * cutoff / box.heights + 1.0, 1.0)  # images of one atom within the cutoff of another
    return float(len(box.positions) ** 2 * np.prod(along))


def expected_edges(box: SearchBox, cutoff: float, sampled: int = 32) -> float:
    """About how many edges the full list will have, from the neighbors of at most 32 atoms.

    Two counts, the larger of which is returned: the density's (exact on average over a lattice much finer than the
    cutoff) and the one over nearest images (exact for cells wider than twice the cutoff).
    """
    n_atoms = len(box.positions)
    sample = np.arange(0, n_atoms, max(1, n_atoms // sampled))
    dimensions = int(box.pbc.sum())
    periodic = box.vectors[box.pbc]
    measure = math.sqrt(max(float(np.linalg.det(periodic @ periodic.T)), 0.0)) if dimensions else 1.0
    units = box.vectors[~box.pbc] / np.sqrt((box.vectors[~box.pbc] ** 2).sum(axis=1, keepdims=True))
    inverse = np.linalg.inv(box.vectors)
    by_density, by_image = 0.0, 0
    for k in sample:
        difference = box.positions - box.positions[k]
        left = cutoff**2 - ((difference @ units.T) ** 2).sum(axis=1)
        by_density += UNIT_BALL[dimensions] / measure * float((left[left > 0] ** (dimensions / 2)).sum())
        nearest = difference - np.where(box.pbc, np.rint(difference @ inverse), 0.0) @ box.vectors
        by_image += int(((nearest**2).sum(axis=1) < cutoff**2).sum())
    return n_atoms / len(sample) * max(by_density, float(by_image)) - n_atoms


def check_edges(edges: float, limit: int, *, cutoff: float, n_atoms: int, estimated: bool) -> None:
    """Nothing, or TooManyEdgesError."""
    if edges > limit:
        raise TooManyEdgesError(
            f"{n_atoms} atoms have {'about ' if estimated else ''}{edges:.4g} neighbor pairs within {cutoff:g} Å, more "
            f"than the limit of {limit}",
            setting="max_edges",
            value=edges,
            limit=limit,
            remedies=[
                "check the cell's lengths and units (Å) and the density",
                Use("max_edges", None, "if the structure is right", python="raise max_edges"),
                "use a smaller system or cutoff",
            ],
        )


def _matscipy(box: SearchBox, reach: float) -> Triple:
    from matscipy.neighbours import neighbour_list

    i, j, shifts = neighbour_list("ijS", positions=box.positions, cell=box.vectors, pbc=box.pbc, cutoff=float(reach))
    return i.astype(np.int64), j.astype(np.int64), shifts.astype(np.int64).reshape(-1, 3)


def _vesin(box: SearchBox, reach: float) -> Triple:
    from vesin import NeighborList

    points, vectors, free = box.positions, box.vectors, ~box.pbc
    if free.any() and box.pbc.any():
        # vesin 0.4 wants the free axis k along the Cartesian axis k: turn the structure
        axes = np.empty((3, 3))
        axes[free] = vectors[free] / np.sqrt((vectors[free] ** 2).sum(axis=1, keepdims=True))
        axes[box.pbc] = np.linalg.svd(vectors[box.pbc])[2][: int(box.pbc.sum())]
        points, vectors = points @ axes.T, vectors @ axes.T
        vectors[np.logical_or.outer(free, free) & ~np.eye(3, dtype=np.bool_)] = 0.0  # exactly so, without rounding
    search = NeighborList(cutoff=float(reach), full_list=True)
    i, j, shifts = search.compute(points=points, box=vectors, periodic=box.pbc, quantities="ijS")
    return i.astype(np.int64), j.astype(np.int64), shifts.astype(np.int64)


def _torch_cluster(box: SearchBox, reach: float) -> Triple:
    if box.pbc.any():
        raise ConfigError(
            f"the torch-cluster backend knows no periodic images, but pbc is {box.pbc.tolist()}",
            setting="neighbor_backend",
            value="torch-cluster",
            remedies=[_OTHER_BACKEND],
        )
    try:
        import torch
        from torch_cluster import radius_graph
    except ImportError as error:
        raise MissingExtraError(
            f"the torch-cluster backend needs the package torch-cluster, which is not installed or does not load "
            f"({error})",
            setting="neighbor_backend",
            value="torch-cluster",
            remedies=[
                'install it with pip install "mlcalc[torch-cluster]" --no-build-isolation (it compiles for about 15 '
                "minutes)",
                _OTHER_BACKEND,
            ],
        ) from error
    n_atoms = len(box.positions)
    # its default cap of 32 neighbors would drop edges without a word; no atom has more than N
    edges = radius_graph(torch.from_numpy(box.positions), r=reach, loop=False, max_num_neighbors=n_atoms).numpy()
    return edges[1].astype(np.int64), edges[0].astype(np.int64), np.zeros((edges.shape[1], 3), dtype=np.int64)


def _tree(box: SearchBox, reach: float) -> Triple:
    """By k-d tree over the atoms and their images: memory follows the atoms, not the space between them."""
    from scipy.spatial import cKDTree

    counts = np.where(box.pbc, np.ceil(reach / box.heights) + 1, 0).astype(int)
    margin = reach / box.heights + 1e-6
    fractional = box.positions @ np.linalg.inv(box.vectors)
    images: list[tuple[Ints, Floats, Ints]] = []
    for index in np.ndindex(*(2 * counts + 1)):
        shift = np.array(index) - counts
        near = ~box.pbc | ((fractional + shift > -margin) & (fractional + shift < 1.0 + margin))
        atoms = np.flatnonzero(near.all(axis=1))
        if len(atoms):
            images.append((atoms, box.positions[atoms] + shift @ box.vectors, np.tile(shift, (len(atoms), 1))))
    owners = np.concatenate([image[0] for image in images])
    shifts = np.concatenate([image[2] for image in images])
    ghosts: Any = cKDTree(np.concatenate([image[1] for image in images]))
    found = cKDTree(box.positions).sparse_distance_matrix(ghosts, reach, output_type="ndarray")
    return found["i"].astype(np.int64), owners[found["j"]], shifts[found["j"]].astype(np.int64)


def mirrored(i: Ints, j: Ints, shifts: Ints) -> Triple:
    """Both directions of each pair: all as they are, then all reversed."""
    return np.concatenate([i, j]), np.concatenate([j, i]), np.concatenate([shifts, -shifts])


def full_order(i: Ints, j: Ints, shifts: Ints, *, n_atoms: int) -> NDArray[np.intp]:
    """Where in `mirrored` each entry of the sorted full list stands."""
    if len(i) == 0:
        return np.zeros(0, dtype=np.intp)
    columns = [shifts[:, axis] for axis in range(3)]
    spans = [2 * int(np.abs(column).max()) + 1 for column in columns]
    images = math.prod(spans)
    if n_atoms**2 * images < 2**62:
        code = (columns[0] * spans[1] + columns[1]) * spans[2] + columns[2] + images // 2  # 0 ... images - 1
        there = (i * n_atoms + j) * images + code
        back = (j * n_atoms + i) * images + (images - 1 - code)  # the code of -shift
        return np.argsort(np.concatenate([there, back]))  # keys are unique: any sort gives the one order
    i, j, shifts = mirrored(i, j, shifts)
    return np.lexsort((shifts[:, 2], shifts[:, 1], shifts[:, 0], j, i))


def offsets(shifts: Ints, h: Floats) -> Floats | None:
    """shift @ cell as columns (3, E) Å, or None where no pair crosses a face.

    Entry by entry: a matrix product may round differently in lists of other lengths.
    """
    if not shifts.any():
        return None
    s = shifts.T.astype(np.float64, order="C")
    return np.stack([s[0] * h[0, k] + s[1] * h[1, k] + s[2] * h[2, k] for k in range(3)])


def squared_distances(x: Floats, i: Ints, j: Ints, offsets: Floats | None) -> Floats:
    """|x_j - x_i + offset|^2 in Å^2, exactly the same for both directions of a pair."""
    squared = np.zeros(len(i))
    for k in range(3):
        column = np.ascontiguousarray(x[:, k])
        difference = column.take(j)
        difference -= column.take(i)
        if offsets is not None:
            difference += offsets[k]
        difference *= difference
        squared += difference
    return squared


def squared_threshold(cutoff: float) -> float:
    """The smallest number whose square root is not below the cutoff: d^2 < it exactly when d < cutoff."""
    squared = cutoff * cutoff
    while math.sqrt(squared) >= cutoff:
        squared = math.nextafter(squared, 0.0)
    while math.sqrt(squared) < cutoff:
        squared = math.nextafter(squared, math.inf)
    return squared
