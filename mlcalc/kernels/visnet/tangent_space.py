"""The arrays in which tangents of the fused ViSNet are taken."""

from __future__ import annotations

import numpy as np

from mlcalc.kernels.visnet.edges import TILE
from mlcalc.kernels.visnet.gradient_call import GradientSpace
from mlcalc.kernels.visnet.nodes import TILE as ATOMS
from mlcalc.kernels.visnet.space import Array, Sizes, widths
from mlcalc.kernels.visnet.weights import Weights


class TangentSpace(GradientSpace):
    """The arrays of one thread: derivatives are kept, and everything has a tangent, with a name that starts with t_."""

    def __init__(self, weights: Weights, sizes: Sizes, atoms: int, edges: int) -> None:
        super().__init__(weights, sizes, atoms, edges)
        self._kept_derivatives(weights, sizes)
        self._tangents(weights, sizes)
        self._tangents_of_derivatives(sizes)
        self._tangent_tiles(sizes, max(block.parts for block in weights.blocks))
        self.readout_tiles = self._readout_tiles(sizes.channels, sizes.channels // 2, sizes.components)

    def _each(self, weights: Weights, *shape: int) -> list[Array]:
        return [self._array(*shape) for _ in weights.blocks]

    def _kept_derivatives(self, weights: Weights, sizes: Sizes) -> None:
        """Of each block: by the new (x, vec), by o, v, V, the new f, P, Z, messages and (qkv, pq, tt)."""
        N, E, F, S = self.atoms, self.edges, sizes.channels, sizes.components
        self.k_gx, self.k_g_vec = self._each(weights, N, F), self._each(weights, N, S, F)
        self.k_go, self.k_gv = self._each(weights, N, 3 * F), self._each(weights, N * S, 3 * F)
        self.k_gV, self.k_gm = self._each(weights, N, S, F), self._each(weights, E, F)
        self.k_gf = [self._array(E if block.parts > 2 else 0, F) for block in weights.blocks]
        self.k_gP = [self._array(E, widths(block)[0]) for block in weights.blocks]
        self.k_gZ = [self._array(E, widths(block)[1]) for block in weights.blocks]
        self.k_qkv = self._each(weights, N, 3 * F)
        self.k_pq = [self._array(N if block.parts > 2 else 0, S, 2 * F) for block in weights.blocks]
        self.k_tt = [self._array(N if block.parts > 3 else 0, S, 2 * F) for block in weights.blocks]

    def _tangents(self, weights: Weights, sizes: Sizes) -> None:
        E, F = self.edges, sizes.channels
        self.t_vectors, self.t_distance, self.t_envelope = self._array(E, 3), self._array(E), self._array(E)
        self.t_harmonics, self.t_basis = np.empty_like(self.harmonics), np.empty_like(self.basis)
        self.t_around = np.empty_like(self.around)
        self.t_x, self.t_vec, self.t_qkv, self.t_v, self.t_pq, self.t_tt, self.t_o = (
            [np.empty_like(array) for array in arrays]
            for arrays in (self.x, self.vec, self.qkv, self.v, self.pq, self.tt, self.o)
        )
        copies = {id(array): np.empty_like(array) for array in self.f}  # blocks may share one
        self.t_f = [copies[id(array)] for array in self.f]
        self.t_kept = [(self._array(E, P), self._array(E, Z)) for P, Z in map(widths, weights.blocks)]
        self.t_messages, self.t_sums = self._each(weights, E, F), [np.empty_like(array) for array in self.sums]
        self.logits, self.t_logits = self._each(weights, E, sizes.heads), self._each(weights, E, sizes.heads)

    def _tangents_of_derivatives(self, sizes: Sizes) -> None:
        N, F, S = self.atoms, sizes.channels, sizes.components
        self.t_gx, self.t_g_vec, self.t_X, self.t_V = (np.empty_like(a) for a in (self.gx, self.g_vec, self.X, self.V))
        self.t_g_qkv, self.t_g_pq, self.t_g_tt = (
            self._array(N, 3 * F),
            self._array(N, S, 2 * F),
            self._array(N, S, 2 * F),
        )
        self.t_gf, self.t_g_basis = np.empty_like(self.gf), np.empty_like(self.basis)
        self.t_g_around = np.empty_like(self.around)

    def _tangent_tiles(self, sizes: Sizes, parts: int) -> None:
        F, S, H = sizes.channels, sizes.components, sizes.heads
        self.edge_tiles = self._array(5, TILE * parts * F)
        self.gate_tiles = self._array(5, TILE * 2 * F)
        self.t_gm, self.four, self.six = self._array(TILE, F), self._array(4, TILE, F), self._array(6, TILE, H)
        self.long_row = self._array(8 * F)
        self.atom_tiles = tuple(self._array(ATOMS, F) for _ in range(4))
        self.t_tile_o, self.t_tile_v = self._array(ATOMS, 3 * F), self._array(ATOMS * S, 3 * F)

    def _readout_tiles(self, F: int, H: int, S: int) -> tuple[tuple[Array, ...], ...]:
        def tiles(atoms: tuple[int, ...], vectors: tuple[int, ...]) -> tuple[Array, ...]:
            of_atoms = (self._array(ATOMS, width) for width in atoms)
            return *of_atoms, *(self._array(ATOMS * S, width) for width in vectors)

        def derivatives() -> tuple[Array, ...]:
            u2, both2, t1, u1, both, seed = tiles((H, 2 * H, 2 * H, F, 2 * F, 1), ())
            A2, W1, B1, A1 = tiles((), (H, H, H, F))
            return u2, both2, A2, W1, B1, t1, u1, both, A1, seed

        values = tiles((2 * F, F, F, F, F, 2 * H, 2 * H, H, H, H, H, H, H), (F, H, H, H))
        roots, t_roots = tiles((F, H), ()), tiles((F, H), ())
        t_values = (*tiles((2 * F, F, F, 2 * H, 2 * H, H, H), (F, H, H, H)), *t_roots)
        return (*values, *roots, self._array(2 * F)), t_values, derivatives(), derivatives()

    def block_tiles(self, width: int, gates: int) -> tuple[Array, ...]:
        """Work space of a tile of edges of a block whose projections have so many columns."""
        edges = (tile[: TILE * width].reshape(TILE, width) for tile in self.edge_tiles)
        return (
            *edges,
            *(tile[: TILE * gates].reshape(TILE, gates) for tile in self.gate_tiles),
            self.t_gm,
            self.four,
            self.six,
            self.long_row,
        )
