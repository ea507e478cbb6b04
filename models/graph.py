"""The one graph type: always batched, immutable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Graph:
    """S structures with N atoms and E directed edges in all.

    Edge e points from its central atom i = edges[0, e] to its neighbor j = edges[1, e]:

        r_ij = x_j + shift @ cell - x_i

    The list is full (with i -> j comes j -> i), sorted by i, and holds every periodic image within the cutoff,
    images of the atom itself included.  Positions and cells are float64 whatever the network's precision:
    differences of large coordinates must not be taken in float32.
    """

    numbers: Tensor  # (N,) int64, atomic numbers
    positions: Tensor  # (N, 3) Å
    cell: Tensor  # (S, 3, 3) Å, rows are the cell vectors; zeros for a molecule
    edges: Tensor  # (2, E) int64
    shifts: Tensor  # (E, 3) whole numbers of cell vectors, of any dtype
    batch: Tensor  # (N,) int64, the structure each atom belongs to

    @property
    def n_structures(self) -> int:
        return int(self.cell.shape[0])

    @property
    def atoms_per_structure(self) -> Tensor:
        """(S,) int64."""
        counts = self.batch.new_zeros(self.n_structures)
        return counts.index_add(0, self.batch, torch.ones_like(self.batch))  # bincount would make a GPU wait

    def edge_vectors(self) -> Tensor:
        """r_ij of every edge, (E, 3) Å; differentiable in positions and cell."""
        i, j = self.edges
        difference = self.positions.index_select(0, j) - self.positions.index_select(0, i)
        shifts = self.shifts.to(self.cell.dtype)
        if self.n_structures == 1:
            return difference + shifts @ self.cell[0]
        edge_cell = self.cell.index_select(0, self.batch.index_select(0, i))
        return difference + torch.einsum("es,esx->ex", shifts, edge_cell)

    def sum_by_structure(self, values: Tensor) -> Tensor:
        """Sums of per-atom values (N, ...) over the atoms of each structure, (S, ...), in float64."""
        values = values.to(torch.float64)
        return values.new_zeros((self.n_structures, *values.shape[1:])).index_add(0, self.batch, values)

    def equal_shares(self, totals: Tensor) -> Tensor:
        """Each atom's share of the total (S,) of its structure, (N,)."""
        return (totals / self.atoms_per_structure).index_select(0, self.batch)

    def to(self, device: torch.device | str) -> Graph:
        """The same graph on a device."""
        return replace(self, **{name: getattr(self, name).to(device) for name in self.__dataclass_fields__})


def join_graphs(graphs: Sequence[Graph]) -> Graph:
    """One graph of all structures, in order; no edge connects two of them."""
    atom_offsets = list(accumulate((len(graph.numbers) for graph in graphs[:-1]), initial=0))
    structure_offsets = list(accumulate((graph.n_structures for graph in graphs[:-1]), initial=0))
    return Graph(
        numbers=torch.cat([graph.numbers for graph in graphs]),
        positions=torch.cat([graph.positions for graph in graphs]),
        cell=torch.cat([graph.cell for graph in graphs]),
        edges=torch.cat([graph.edges + k for graph, k in zip(graphs, atom_offsets, strict=True)], dim=1),
        shifts=torch.cat([graph.shifts for graph in graphs]),
        batch=torch.cat([graph.batch + k for graph, k in zip(graphs, structure_offsets, strict=True)]),
    )


def first_sources(graph: Graph, loops: Tensor, limit: int) -> tuple[Graph, Tensor]:
    """The graph and the self loops (N,) with at most `limit` sources per atom, itself included: the first by index.

    This is what torch_cluster.radius_graph(loop=True, max_num_neighbors=limit) keeps on a GPU: not the nearest ones,
    and for an atom with many neighbors of lower index not even itself.
    """
    i, j = graph.edges
    atoms = len(graph.numbers)
    order = torch.argsort(i * atoms + j, stable=True)
    i, j = i[order], j[order]
    degree = torch.zeros_like(graph.numbers).index_add(0, i, torch.ones_like(i))
    before = torch.arange(len(i), device=i.device) - (degree.cumsum(0) - degree).index_select(0, i)
    rank = before + (j >= i)  # the atom itself comes before its own images and all later atoms
    lower = torch.zeros_like(graph.numbers).index_add(0, i, (j < i).to(i.dtype))
    kept = order[rank < limit]
    return replace(graph, edges=graph.edges[:, kept], shifts=graph.shifts[kept]), loops[lower < limit]
