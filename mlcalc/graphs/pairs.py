"""Full neighbor lists as arrays, and as the tensors of a Graph."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class NeighborPairs:
    """The full list: with i -> j comes j -> i, all periodic images and self images, sorted by (i, j, shift).

    r_ij = x_j + shift @ cell - x_i of the atoms' own positions, wrapped or not, and |r_ij| < cutoff.
    """

    i: Ints  # (E,) central atoms
    j: Ints  # (E,) neighbors
    shifts: Ints  # (E, 3) whole cell vectors; zero along non-periodic directions
    shortest: float = math.nan  # Å, smallest distance in the list; infinity in an empty one, NaN when not known


@dataclass(frozen=True, eq=False)
class EdgeTensors:
    """A full list as a Graph holds it."""

    edges: Tensor  # (2, E) int64
    shifts: Tensor  # (E, 3) float64
    shortest: float  # Å, as in NeighborPairs

    @classmethod
    def of(cls, pairs: NeighborPairs) -> EdgeTensors:
        edges = torch.from_numpy(np.stack([pairs.i, pairs.j]).astype(np.int64, copy=False))
        return cls(edges, torch.from_numpy(pairs.shifts.astype(np.float64)), pairs.shortest)

    def pairs(self) -> NeighborPairs:
        """Copies of them as arrays."""
        i, j = self.edges.numpy().copy()
        return NeighborPairs(i, j, self.shifts.numpy().astype(np.int64), self.shortest)
