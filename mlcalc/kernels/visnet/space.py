"""The arrays in which the fused ViSNet works."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlcalc.kernels.visnet.edges import ROWS, TILE
from mlcalc.kernels.visnet.nodes import TILE as ATOMS
from mlcalc.kernels.visnet.weights import BlockWeights, Weights

Array = NDArray[Any]


@dataclass(frozen=True)
class Sizes:
    """What the arrays depend on."""

    channels: int  # F
    components: int  # S
    num_rbf: int  # K
    heads: int
    kept_bytes: int  # of projections of edges


def widths(block: BlockWeights) -> tuple[int, int]:
    """Columns of the projections of edges, and of those of messages."""
    return block.edges[0].shape[1], block.edges[2].shape[1]


class Space:
    """Arrays for up to so many atoms (N) and edges (E) and for T threads; they keep what the last call left in them."""

    def __init__(self, weights: Weights, sizes: Sizes, atoms: int, edges: int, threads: int) -> None:
        self.kind = weights.readout[0].dtype
        self.atoms, self.edges, self.threads = atoms, edges, threads
        self._for_edges(sizes)
        self._for_blocks(weights, sizes)
        self._for_gradients(sizes)
        self._tiles(sizes, max(block.parts for block in weights.blocks))

    def fits(self, atoms: int, edges: int, threads: int) -> bool:
        """Whether a call of this size may use it: large enough, and not much too large."""
        large = self.atoms >= atoms and self.edges >= edges and self.threads == threads
        return large and self.atoms <= 4 * atoms + 64 and self.edges <= 4 * edges + 4096

    def _array(self, *shape: int) -> Array:
        return np.empty(shape, self.kind)

    def _for_edges(self, sizes: Sizes) -> None:
        E, K, S = self.edges, sizes.num_rbf, sizes.components
        self.first_edges = np.zeros(self.atoms + 1, np.int64)
        self.center, self.neighbor, self.is_loop = (np.zeros(E, kind) for kind in (np.int64, np.int64, np.bool_))
        self.vectors, self.g_vectors, self.distance = self._array(E, 3), self._array(E, 3), self._array(E)
        self.envelope, self.g_envelope = self._array(E), self._array(E)
        self.harmonics, self.g_harmonics = self._array(E, S), self._array(E, S)
        self.basis, self.g_basis = self._array(E, K), self._array(E, K)
        self.gf = self._array(E, sizes.channels)

    def _for_blocks(self, weights: Weights, sizes: Sizes) -> None:
        N, F, S, blocks = self.atoms, sizes.channels, sizes.components, weights.blocks
        self.x = [self._array(N, F) for _ in range(len(blocks) + 1)]
        self.vec = [self._array(N, S, F) for _ in range(len(blocks) + 1)]
        self.qkv = [self._array(N, 3 * F) for _ in blocks]
        self.v, self.pq, self.tt = ([self._array(N, S, b.atoms[w].shape[1]) for b in blocks] for w in (4, 5, 6))
        self.o = [self._array(N, b.update[0].shape[1]) for b in blocks]
        self.f: list[Array] = []
        for k in range(len(blocks)):
            changed = k == 0 or blocks[k - 1].parts > 2
            self.f.append(self._array(self.edges, F) if changed else self.f[-1])
        self.kept: list[tuple[Array, Array] | None] = []
        left = sizes.kept_bytes
        for block in reversed(blocks):
            P, Z = widths(block)
            left -= self.edges * (P + Z) * self.kind.itemsize
            self.kept.insert(0, (self._array(self.edges, P), self._array(self.edges, Z)) if left >= 0 else None)

    def _for_gradients(self, sizes: Sizes) -> None:
        N, F, S, T = self.atoms, sizes.channels, sizes.components, self.threads
        self.around, self.gx, self.g_vec = self._array(N, F), self._array(N, F), self._array(N, S, F)
        self.X, self.V = self._array(N, F), self._array(N, S, F)  # sums over neighbors, or derivatives by them
        self.g_qkv, self.g_pq, self.g_tt = self._array(N, 3 * F), self._array(N, S, 2 * F), self._array(N, S, 2 * F)
        # shares of each thread in what belongs to any atom; left at zero by whoever adds them up
        self.any_kv = np.zeros((T, N, 2 * F), self.kind)
        self.any_vec, self.any_q = np.zeros((T, N, S, F), self.kind), np.zeros((T, N, S, F), self.kind)

    def _tiles(self, sizes: Sizes, parts: int) -> None:
        F, S, T = sizes.channels, sizes.components, self.threads
        self.P, self.gP = self._array(T, TILE * parts * F), self._array(T, TILE * parts * F)
        self.Z, self.gZ = self._array(T, TILE * 2 * F), self._array(T, TILE * 2 * F)
        self.messages, self.g_messages = self._array(T, TILE, F), self._array(T, TILE, F)
        self.act, self.t = self._array(T, TILE * parts * F), self._array(T, TILE, F)
        self.rows, self.per_head = self._array(T, ROWS * F), self._array(T, 3, TILE, sizes.heads)
        self.tile_x, self.tile_o = self._array(T, ATOMS, F), self._array(T, ATOMS, 3 * F)
        self.tile_v = self._array(T, ATOMS * S, 3 * F)
        self.read_out = [self._read_out(F, F // 2, S) for _ in range(T)]

    def _read_out(self, F: int, H: int, S: int) -> tuple[Array, ...]:
        widths_of_atoms = (2 * F, F, F, F, F, 2 * H, H, H, H, H, 1)
        widths_of_vectors = (F, H, H, H)
        atoms = (self._array(ATOMS, width) for width in widths_of_atoms)
        return *atoms, *(self._array(ATOMS * S, width) for width in widths_of_vectors)
