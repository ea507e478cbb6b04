"""Graphs padded to few different sizes, so that changing numbers of edges never compile or capture anything anew."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from mlcalc.models import Graph

GROWTH = 1.125  # of one bucket over the one before: on average 6 % of the work is padding
_SMALLEST = 16
_DUMMY_ATOMS = 2  # one pair at least, for the dummy edges to connect


@dataclass(frozen=True)
class Sizes:
    """What a padded graph has in all, dummies included."""

    atoms: int
    edges: int
    structures: int


def bucket(count: int) -> int:
    """The smallest size of a geometric ladder, in multiples of 8, that is not below the count."""
    size = _SMALLEST
    while size < count:
        size = -8 * (-int(size * GROWTH + 1) // 8)
    return size


def padded_sizes(atoms: int, edges: int, structures: int) -> Sizes:
    """The bucket of graphs with so many atoms, edges and structures; every dummy structure has a
    pair of atoms, and there is a dummy edge."""
    padded = structures + 1 if structures == 1 else bucket(structures + 1)
    return Sizes(bucket(atoms + _DUMMY_ATOMS * (padded - structures)), bucket(edges + 1), padded)


def pad(graph: Graph, sizes: Sizes, cutoff: float) -> Graph:
    """The graph with dummy atoms and edges appended, which belong to structures of their own.

    Dummy atoms come in pairs, twice the cutoff (Å) apart, and each dummy edge connects the two atoms of a pair: it has
    a length, so that nothing divides by zero, but no atom of a real structure is at either end.  Results of
    the real atoms and structures stay what they were, of the others nothing is meant.
    """
    atoms, edges = len(graph.numbers), graph.edges.shape[1]
    extra, spare, structures = sizes.atoms - atoms, sizes.edges - edges, sizes.structures - graph.n_structures
    pairs, device = extra // 2, graph.numbers.device
    member = torch.arange(extra, device=device)
    position = graph.positions.new_zeros(extra, 3)
    position[1::2, 0] = 2 * cutoff
    first = atoms + 2 * (torch.arange(spare, device=device) * pairs // max(spare, 1))
    volume = (2 * cutoff * torch.eye(3, dtype=graph.cell.dtype, device=device)).expand(structures, 3, 3)
    return Graph(
        numbers=torch.cat([graph.numbers, graph.numbers[:1].expand(extra)]),
        positions=torch.cat([graph.positions, position]),
        cell=torch.cat([graph.cell, volume]),
        edges=torch.cat([graph.edges, torch.stack([first, first + 1])], dim=1),
        shifts=torch.cat([graph.shifts, graph.shifts.new_zeros(spare, 3)]),
        batch=torch.cat(
            [graph.batch, graph.n_structures + (member // 2 * structures // pairs).clamp(max=structures - 1)]
        ),
    )
