"""A neighbor list that stays on its device along a trajectory, searched anew only when the skin is used up."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mlcalc.gpu.cells import DevicePairs, device_pairs, squared_lengths
from mlcalc.graphs.neighbors import ROUNDING, WORST_CONDITION
from mlcalc.graphs.search import squared_threshold
from mlcalc.md_protocols.errors import ConfigError

Periodicity = tuple[bool, bool, bool]


@dataclass(frozen=True, eq=False)
class Motion:
    """How far atoms may move from a reference before a pair outside of its list can have come within the cutoff.

    With the linear map F that takes the periodic cell vectors of the reference to those of today, and
    u_i = x_i - x0_i F less its mean: as long as 2 max|u| <= sigma_min(F) reach - cutoff (see `NeighborList`).
    """

    deformation: Tensor  # (3, 3) F, on the CPU
    limit: float  # Å, of max|u|; negative where no motion at all is allowed


def allowed_motion(reference: Tensor, cell: Tensor, pbc: Periodicity, *, reach: float, cutoff: float) -> Motion:
    """The motion that a list of all pairs within the reach (Å) allows, from its cell to today's, both (3, 3) CPU."""
    identity = torch.eye(3, dtype=torch.float64)
    periodic = [k for k in range(3) if pbc[k]]
    old, new = reference[periodic], cell[periodic]
    if torch.equal(old, new):
        return Motion(identity, (reach - cutoff) / 2 - ROUNDING)
    if float(torch.linalg.cond(old)) > WORST_CONDITION:
        return Motion(identity, -1.0)
    deformation = identity + torch.linalg.pinv(old) @ (new - old)
    smallest = float(torch.linalg.svdvals(deformation)[-1])
    return Motion(deformation, (smallest * reach - cutoff) / 2 - ROUNDING)


def largest_motion(positions: Tensor, reference: Tensor, deformation: Tensor) -> Tensor:
    """max|u|^2 in Å^2, without dimensions, on the positions' device: nothing waits for it."""
    moved = positions - reference @ deformation
    moved = moved - moved.mean(0)  # a drift of the whole structure brings no pair closer
    return (moved * moved).sum(1).max()


class DeviceNeighborList:
    """Neighbor lists along one trajectory, on the device of the positions; the same as `device_pairs`, but reused."""

    def __init__(self, cutoff: float, *, skin: float) -> None:
        for name, length in (("cutoff", cutoff), ("skin", skin)):
            if not (math.isfinite(length) and length > 0):
                raise ConfigError(f"{name} = {length!r} Å is not allowed: give a finite distance above 0")
        self.cutoff, self.reach = cutoff, cutoff + skin
        self.rebuilds = 0  # searches so far
        self.positions = torch.zeros(0, 3, dtype=torch.float64)  # of the last search
        self.candidates: DevicePairs | None = None  # all pairs within the reach then
        self._cell = torch.zeros(3, 3, dtype=torch.float64)
        self._pbc: Periodicity = (False, False, False)

    def pairs(self, positions: Tensor, cell: Tensor, pbc: Periodicity) -> DevicePairs:
        """All pairs within the cutoff, sorted; positions (N, 3) on a device, cell (3, 3) on the CPU, both float64."""
        candidates = self.candidates
        if candidates is None or not self._covers(positions, cell, pbc):
            candidates = self.search(positions, cell, pbc)
        squared = squared_lengths(positions, cell.to(positions.device), candidates.i, candidates.j, candidates.shifts)
        return candidates.of((squared < squared_threshold(self.cutoff)).nonzero().squeeze(1))

    def search(self, positions: Tensor, cell: Tensor, pbc: Periodicity) -> DevicePairs:
        """All pairs within cutoff and skin, from now on the candidates."""
        self.candidates = None  # an error below must not leave an outdated state
        found = device_pairs(positions, cell, pbc, self.reach)
        self.positions, self._cell, self._pbc = positions.clone(), cell.clone(), pbc
        self.candidates = found
        self.rebuilds += 1
        return found

    def allowed_motion(self, cell: Tensor) -> Motion:
        """What the candidates at hand allow in this cell."""
        return allowed_motion(self._cell, cell, self._pbc, reach=self.reach, cutoff=self.cutoff)

    def _covers(self, positions: Tensor, cell: Tensor, pbc: Periodicity) -> bool:
        if pbc != self._pbc or positions.shape != self.positions.shape or positions.device != self.positions.device:
            return False
        motion = self.allowed_motion(cell)
        if not motion.limit > 0:
            return False
        moved = largest_motion(positions, self.positions, motion.deformation.to(positions.device))
        return float(moved) <= motion.limit**2  # the one number that is waited for; NaN is never covered
