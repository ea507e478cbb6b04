"""The places on the device that a captured step reads from, and the graph it makes of them without any wait."""

from __future__ import annotations

import torch
from torch import Tensor

from mlcalc.gpu.cells import DevicePairs, squared_lengths
from mlcalc.gpu.neighbors import largest_motion
from mlcalc.gpu.padding import Sizes, bucket, pad
from mlcalc.graphs.search import squared_threshold
from mlcalc.models import Graph


class StepBuffers:
    """Positions, cell and candidate pairs of one system at fixed places, with room for a fixed number of edges.

    The edges are laid out in regions, one for the centers of each kind that the network takes apart, and dummies
    fill up what a region leaves empty.
    """

    def __init__(self, numbers: Tensor, region: Tensor, room: list[int], cutoff: float, candidates: int) -> None:
        device, atoms = numbers.device, len(numbers)
        self.sizes = Sizes(bucket(atoms + 2), sum(room), 2)
        self._region, self._room, self._cutoff, self._atoms = region, room, cutoff, atoms
        zeros = numbers.new_zeros(atoms, 3, dtype=torch.float64)
        nothing = Graph(
            numbers=numbers,
            positions=zeros,
            cell=zeros.new_zeros(1, 3, 3),
            edges=torch.zeros(2, 0, dtype=torch.int64, device=device),
            shifts=zeros[:0],
            batch=torch.zeros_like(numbers),
        )
        # one edge more than there is room for: whatever does not belong anywhere is written there
        self._blank = pad(nothing, Sizes(self.sizes.atoms, self.sizes.edges + 1, 2), cutoff)
        self._reference = zeros.clone()
        self._deformation = torch.eye(3, dtype=torch.float64, device=device)
        size = bucket(candidates + candidates // 20 + 1)
        self._i = torch.zeros(size, dtype=torch.int64, device=device)
        self._j = torch.zeros_like(self._i)
        self._shifts = zeros.new_zeros(size, 3)

    def load(self, pairs: DevicePairs, reference: Tensor) -> bool:
        """Take the candidates of a new search and the positions it was made for; False if there are too many."""
        count = len(pairs.i)
        if count > len(self._i):
            return False
        for place, new, spare in (
            (self._i, pairs.i, self._atoms),
            (self._j, pairs.j, self._atoms + 1),  # a pair of dummies, beyond the cutoff
            (self._shifts, pairs.shifts, 0),
        ):
            place[:count] = new
            place[count:] = spare
        self._reference.copy_(reference)
        return True

    @property
    def positions(self) -> Tensor:
        """Where the positions (N, 3) of the next step are written to."""
        return self._blank.positions[: self._atoms]

    def deform(self, cell: Tensor, deformation: Tensor) -> None:
        """Take the cell (3, 3) of the next steps, and F from the cell of the search to it."""
        self._blank.cell[0].copy_(cell)
        self._deformation.copy_(deformation)

    def motion(self) -> Tensor:
        """Square of the largest motion since the search, Å^2, without dimensions."""
        return largest_motion(self.positions, self._reference, self._deformation)

    def graph(self) -> tuple[Graph, Tensor, Tensor]:
        """The padded graph of all candidates within the cutoff, their smallest squared distance, and their number.

        The number is that of each region, (regions,) float64.  Where a region has less room, the rest is missing.
        """
        blank, i, j = self._blank, self._i, self._j
        squared = squared_lengths(blank.positions, blank.cell[0], i, j, self._shifts)
        inside = squared < squared_threshold(self._cutoff)
        slot, counts = torch.full_like(i, self.sizes.edges), []
        own = torch.cat([self._region, self._region.new_full((2,), -1)]).index_select(0, i)  # dummies have none
        start = 0
        for kind, room in enumerate(self._room):
            mine = inside & (own == kind)
            rank = mine.cumsum(0) - 1
            slot = torch.where(mine & (rank < room), start + rank, slot)
            counts.append(mine.sum())
            start += room
        centers, neighbors = blank.edges
        edges = torch.stack([centers.index_copy(0, slot, i), neighbors.index_copy(0, slot, j)])[:, :-1]
        shifts = blank.shifts.index_copy(0, slot, self._shifts)[:-1]
        graph = Graph(blank.numbers, blank.positions, blank.cell, edges, shifts, blank.batch)
        shortest = torch.where(own < 0, torch.inf, squared).min()
        return graph, shortest, torch.stack(counts).to(torch.float64)
