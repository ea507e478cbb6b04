"""All pairs closer than a distance, found on the device that holds the positions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from mlcalc.graphs.search import squared_threshold

_MARGIN = 1e-6  # Å added to the reach when bins are chosen, far more than rounding moves an atom
_PAIRS_AT_A_TIME = 2**23  # candidates looked at together, about 1 GB of temporaries


@dataclass(frozen=True, eq=False)
class DevicePairs:
    """The full list, as `mlcalc.graphs.neighbors.NeighborPairs` has it, in tensors of one device."""

    i: Tensor  # (E,) int64
    j: Tensor  # (E,) int64
    shifts: Tensor  # (E, 3) int64

    def of(self, kept: Tensor) -> DevicePairs:
        return DevicePairs(self.i[kept], self.j[kept], self.shifts[kept])


def device_pairs(positions: Tensor, cell: Tensor, pbc: tuple[bool, bool, bool], cutoff: float) -> DevicePairs:
    """All pairs closer than the cutoff (Å) of validated atoms, sorted by (i, j, shift).

    positions (N, 3) float64 on any device, wrapped or not; cell (3, 3) float64 on the CPU.  Any cell that has a
    volume in its periodic directions will do, small and skewed ones too.  The device is waited for some ten times.
    """
    bins = _Bins.of(positions, cell, pbc, cutoff + _MARGIN)
    found = [bins.pairs(positions, cell, atoms, cutoff) for atoms in bins.chunks()]
    pairs = DevicePairs(*(torch.cat([getattr(part, name) for part in found]) for name in ("i", "j", "shifts")))
    return pairs.of(_order(pairs, len(positions)))


def squared_lengths(positions: Tensor, cell: Tensor, i: Tensor, j: Tensor, shifts: Tensor) -> Tensor:
    """|x_j + shift @ cell - x_i|^2 in Å^2, of exactly the same value for both directions of a pair."""
    squared = positions.new_zeros(len(i))
    s = shifts.to(positions.dtype)
    for axis in range(3):
        column = positions[:, axis]
        difference = column.index_select(0, j) - column.index_select(0, i)
        # entry by entry: a matrix product may round differently in lists of other lengths
        difference = difference + (s[:, 0] * cell[0, axis] + s[:, 1] * cell[1, axis] + s[:, 2] * cell[2, axis])
        squared = squared + difference * difference
    return squared


@dataclass(frozen=True, eq=False)
class _Bins:
    """Atoms sorted into bins of a box that holds them, and the bins around one that a neighbor may be in."""

    counts: Tensor  # (3,) bins along each axis
    periodic: Tensor  # (3,) bool
    wraps: Tensor  # (N, 3) cell vectors that bring each atom into the box
    place: Tensor  # (N, 3) bin of each atom
    order: Tensor  # (N,) atoms by bin
    starts: Tensor  # (bins + 1,) where in `order` each bin begins
    stencil: Tensor  # (K, 3)

    @staticmethod
    def of(positions: Tensor, cell: Tensor, pbc: tuple[bool, bool, bool], reach: float) -> _Bins:
        device = positions.device
        vectors = _box_vectors(cell, pbc)
        inverse = torch.linalg.inv(vectors)
        periodic = torch.tensor(pbc)
        fractional = positions @ inverse.to(device)
        wraps = torch.where(periodic.to(device), -torch.floor(fractional), 0.0)
        fractional = fractional + wraps
        low, high = (x.cpu() for x in (fractional.amin(0), fractional.amax(0)))
        low = torch.where(periodic, 0.0, low)
        span = torch.where(periodic, 1.0, high - low + 1e-9)  # free vectors have length one: that is in Å
        heights = span / inverse.norm(dim=0)
        counts = _bin_counts(heights, reach, len(positions))
        around = torch.ceil(reach * counts / heights).long()
        around = torch.where(periodic, around, torch.minimum(around, counts - 1))
        stencil = torch.tensor(list(product(*(range(-n, n + 1) for n in around.tolist()))), device=device)
        grid = counts.to(device)
        place = ((fractional - low.to(device)) / span.to(device) * grid).floor().long()
        place = torch.minimum(place.clamp(min=0), grid - 1)
        flat = _flat(place, grid)
        order = torch.argsort(flat)
        edges = torch.arange(int(counts.prod()) + 1, device=device)
        starts = torch.searchsorted(flat.index_select(0, order), edges)
        return _Bins(grid, periodic.to(device), wraps.long(), place, order, starts, stencil)

    def chunks(self) -> list[Tensor]:
        """All atoms, so many at a time that their candidates fit into little memory."""
        busiest = int((self.starts[1:] - self.starts[:-1]).max())
        size = max(1, _PAIRS_AT_A_TIME // max(busiest * len(self.stencil), 1))
        return list(torch.arange(len(self.place), device=self.place.device).split(size))

    def pairs(self, positions: Tensor, cell: Tensor, atoms: Tensor, cutoff: float) -> DevicePairs:
        """The pairs whose first atom is one of these."""
        target = self.place.index_select(0, atoms)[:, None, :] + self.stencil  # (n, K, 3)
        image = torch.where(self.periodic, torch.div(target, self.counts, rounding_mode="floor"), 0)
        target = target - image * self.counts
        inside = ((target >= 0) & (target < self.counts)).all(2)
        flat = torch.where(inside, _flat(target, self.counts), 0)
        start = self.starts[flat]
        members = torch.where(inside, self.starts[flat + 1] - start, 0).flatten()
        row = torch.repeat_interleave(members)
        within = torch.arange(len(row), device=row.device) - (members.cumsum(0) - members)[row]
        i = atoms[torch.div(row, len(self.stencil), rounding_mode="floor")]
        j = self.order[start.flatten()[row] + within]
        shifts = image.reshape(-1, 3)[row] + self.wraps[j] - self.wraps[i]
        near = squared_lengths(positions, cell.to(positions.device), i, j, shifts) < squared_threshold(cutoff)
        kept = (near & ~((i == j) & (shifts == 0).all(1))).nonzero().squeeze(1)
        return DevicePairs(i[kept], j[kept], shifts[kept])


def _box_vectors(cell: Tensor, pbc: tuple[bool, bool, bool]) -> Tensor:
    """The periodic vectors as they are, and unit vectors at right angles to them for the other axes."""
    vectors = cell.clone()
    periodic = [k for k in range(3) if pbc[k]]
    free = [k for k in range(3) if not pbc[k]]
    if free:
        rest = torch.linalg.svd(cell[periodic]).Vh[len(periodic) :] if periodic else torch.eye(3, dtype=cell.dtype)
        vectors[free] = rest
    return vectors


def _bin_counts(heights: Tensor, reach: float, atoms: int) -> Tensor:
    """Bins along each axis, none narrower than the reach, and not many more of them than atoms."""
    counts = torch.floor(heights / reach).clamp(min=1, max=2**20)
    while float(counts.prod()) > 4 * atoms + 64:
        widest = int(counts.argmax())
        counts[widest] = math.ceil(float(counts[widest]) / 2)
    return counts.long()


def _flat(place: Tensor, counts: Tensor) -> Tensor:
    return (place[..., 0] * counts[1] + place[..., 1]) * counts[2] + place[..., 2]


def _order(pairs: DevicePairs, atoms: int) -> Tensor:
    """The order by (i, j, shift)."""
    if len(pairs.i) == 0:
        return pairs.i
    reach = pairs.shifts.abs().amax(0).tolist()
    spans = [2 * int(extent) + 1 for extent in reach]
    if atoms**2 * math.prod(spans) >= 2**62:
        order = torch.arange(len(pairs.i), device=pairs.i.device)
        for column in (*reversed(pairs.shifts.unbind(1)), pairs.j, pairs.i):
            order = order[torch.argsort(column[order], stable=True)]
        return order
    key = pairs.i * atoms + pairs.j
    for axis in range(3):
        key = key * spans[axis] + pairs.shifts[:, axis] + reach[axis]
    return torch.argsort(key)
