"""The exact filter of long candidate lists, compiled: one pass over the pairs instead of one per operation of NumPy."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

__all__ = ["LONG", "CompiledFilter", "compiled_filter"]

LONG = 50_000  # pairs; NumPy filters shorter lists before numba is imported


class CompiledFilter(NamedTuple):
    """Two functions, arguments as below."""

    mark: Callable[..., float]
    gather: Callable[..., None]


@lru_cache(maxsize=1)
def compiled_filter() -> CompiledFilter | None:
    """The compiled functions, or None without numba."""
    try:
        import numba
    except ImportError:
        return None
    try:
        compiled = [numba.njit(nogil=True, cache=True)(function) for function in (_mark, _gather)]
    except RuntimeError:  # no folder to keep compiled code in
        compiled = [numba.njit(nogil=True)(function) for function in (_mark, _gather)]
    return CompiledFilter(*compiled)


def _mark(x: Any, pairs: Any, offsets: Any, threshold: Any, inside: Any) -> Any:
    """Marks the pairs with |x_j - x_i + offset|^2 below the threshold; the smallest square of all.

    x (N, 3), pairs = (i, j) of P each, offsets (3, P) or (3, 0) for none, inside (P,).  The operations and their
    order are those of `squared_distances`, so that the last digit is the same.
    """
    smallest = np.inf
    i, j = pairs
    crossing = offsets.shape[1] > 0
    for pair in range(len(i)):
        a, b = i[pair], j[pair]
        squared = 0.0
        for axis in range(3):
            difference = x[b, axis] - x[a, axis]
            if crossing:
                difference += offsets[axis, pair]
            squared += difference * difference
        inside[pair] = squared < threshold
        smallest = min(smallest, squared)
    return smallest


def _gather(inside: Any, half_index: Any, candidates: Any, found: Any) -> None:
    """Copies the edges (2, E) and shifts (E, 3) of marked pairs from the candidates to those found, in order."""
    edges, shifts = candidates
    found_edges, found_shifts = found
    place = 0
    for edge in range(len(half_index)):
        if inside[half_index[edge]]:
            found_edges[0, place] = edges[0, edge]
            found_edges[1, place] = edges[1, edge]
            for axis in range(3):
                found_shifts[place, axis] = shifts[edge, axis]
            place += 1
