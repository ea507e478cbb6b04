"""A batch of structures in parts for several threads: no edge connects two structures."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from mlcalc.models import Graph


@dataclass(frozen=True, eq=False)
class Part:
    """Some consecutive structures of a graph."""

    graph: Graph
    atoms: slice
    structures: slice


def parts_of(graph: Graph, parts: int) -> list[Part]:
    """At most so many parts of about as many edges each; one where atoms of different structures are mixed."""
    whole = Part(graph, slice(0, len(graph.numbers)), slice(0, graph.n_structures))
    center, batch = graph.edges[0], graph.batch
    ordered = bool((batch[1:] >= batch[:-1]).all()) and bool((center[1:] >= center[:-1]).all())
    if min(parts, graph.n_structures) < 2 or not ordered:
        return [whole]
    first_atoms = np.searchsorted(batch.numpy(), np.arange(graph.n_structures + 1))
    first_edges = np.searchsorted(center.numpy(), first_atoms)
    work = first_edges + first_atoms  # atoms cost something as well
    inner = [int(np.abs(work - work[-1] * k / parts).argmin()) for k in range(1, parts)]
    bounds = sorted({0, *inner, graph.n_structures})
    return [_part(graph, a, b, first_atoms, first_edges) for a, b in pairwise(bounds)]


def _part(graph: Graph, first: int, last: int, first_atoms: NDArray[np.int64], first_edges: NDArray[np.int64]) -> Part:
    structures = slice(first, last)
    atoms = slice(int(first_atoms[first]), int(first_atoms[last]))
    edges = slice(int(first_edges[first]), int(first_edges[last]))
    part = replace(
        graph,
        numbers=graph.numbers[atoms],
        positions=graph.positions[atoms],
        cell=graph.cell[structures],
        edges=graph.edges[:, edges] - atoms.start,
        shifts=graph.shifts[edges],
        batch=graph.batch[atoms] - first,
    )
    return Part(part, atoms, structures)
