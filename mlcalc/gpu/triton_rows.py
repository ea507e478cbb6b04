"""What all Triton kernels share: edges by row, that is, by their central atom, and the activation.

A program handles one atom and some of its channels, and walks through the atom's edges a tile at a time.  Sums over
the edges of the atom stay in registers; what belongs to the neighbors is added atomically.
"""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators

from __future__ import annotations

import torch
import triton  # type: ignore[import-not-found,unused-ignore]
import triton.language as tl  # type: ignore[import-not-found,unused-ignore]
from torch import Tensor

EDGES = 8  # of a tile of scalars
VECTOR_EDGES = 4  # of a tile of vectors: with more, the backward kernels run out of registers (255 on sm_90)
_CHANNELS = 64  # of a tile at most


@triton.jit
def silu(x):
    return x / (1 + tl.exp(-x))


@triton.jit
def silu_slope(x):
    s = 1 / (1 + tl.exp(-x))
    return s * (1 + x * (1 - s))


@triton.jit
def edge_index(t, start, degree, loop):
    """Of the t-th edge of an atom: its real ones stand behind each other, its self loop elsewhere."""
    return tl.where(t < degree, start + t, loop)


def row_starts(center: Tensor, atoms: int) -> Tensor:
    """Where the edges of each atom begin in a list sorted by center, (N + 1,), without any wait."""
    return torch.searchsorted(center, torch.arange(atoms + 1, device=center.device))


def channel_tile(channels: int) -> int:
    """The largest power of two that divides the channels, up to a limit."""
    return min(channels & -channels, _CHANNELS)


def components_tile(components: int) -> int:
    """A power of two that holds the components of a vector."""
    return 4 if components <= 4 else 8
