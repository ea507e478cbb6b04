"""One call of the fused ViSNet with derivatives by its weights: the order of its kernels, in one thread."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from mlcalc.kernels.visnet.by_weights import ByWeights
from mlcalc.kernels.visnet.call import Call, Constants
from mlcalc.kernels.visnet.edge_gradients import backward_edges_weights, forward_edges_kept
from mlcalc.kernels.visnet.embedding import embed_atoms_back
from mlcalc.kernels.visnet.embedding_gradients import (
    describe_edges_weights,
    embed_atoms_weights,
    embed_edges_weights,
)
from mlcalc.kernels.visnet.node_gradients import project_atoms_weights, update_atoms_weights
from mlcalc.kernels.visnet.nodes import TILE as ATOMS
from mlcalc.kernels.visnet.readout_gradients import read_out_weights
from mlcalc.kernels.visnet.space import Sizes, Space
from mlcalc.kernels.visnet.weights import Weights

Array = NDArray[Any]


class GradientSpace(Space):
    """The arrays of one thread, with those that derivatives by weights are made of."""

    def __init__(self, weights: Weights, sizes: Sizes, atoms: int, edges: int) -> None:
        super().__init__(weights, sizes, atoms, edges, 1)
        N, F, S, H = atoms, sizes.channels, sizes.components, sizes.channels // 2
        self.kept_messages = [self._array(edges, F) for _ in weights.blocks]
        self.sums = [self._array(N, F) for _ in weights.blocks]
        self.g_around = self._array(N, F)
        self.normed = self._array(ATOMS, F)
        widths = (2 * F, F, 2 * H, H)
        self.inputs = (*(self._array(ATOMS, w) for w in widths), self._array(ATOMS * S, H), self._array(ATOMS, 1))


class KeepingCall(Call):
    """A call in one thread that keeps all that derivatives by weights need of the pass forward."""

    space: GradientSpace

    def _sums(self, k: int) -> tuple[Array, Array]:
        return self.space.sums[k], self.space.V

    def _pass_messages(self, share: int, k: int) -> None:
        space = self.space
        forward_edges_kept(
            self._shape(k), self.bounds[share], self.edges, self.weights.blocks[k].edges,
            (*self._states(k), space.f[min(k + 1, len(space.f) - 1)]), self._room(share, k), self._sums(k),
            space.kept_messages[k], self._scratch(share, k),
        )  # fmt: skip


class GradientCall(KeepingCall):
    """Atomic energies, and derivatives of sum_i seed_i y_i by edge vectors and weights."""

    def __init__(
        self,
        weights: Weights,
        constants: Constants,
        space: GradientSpace,
        element: Array,
        seeds: Array,
        by_weights: ByWeights,
    ) -> None:
        super().__init__(weights, constants, space, element, seeds)
        self.by_weights = by_weights

    def run(self) -> Array:
        """y (N,); the derivatives by the weights are added to what is there."""
        self._embed(0)
        blocks = range(len(self.weights.blocks))
        for k in blocks:
            self._block(0, k)
        self._read_out(0)
        for k in reversed(blocks):
            self._block_back(0, k)
            self._atoms_back(0, k)
        self._embed_edges_back(0)
        self._embed_atoms_back()
        return self.y

    def _read_out(self, share: int) -> None:
        space, (first, last) = self.space, self.bounds[share]
        read_out_weights(
            self.atoms[share], self.constants.epsilon, self.constants.smooth, self.weights.readout,
            self.weights.readout_rows, (space.x[-1], space.vec[-1]), self.seeds, self.y, (space.gx, space.g_vec),
            space.read_out[share], space.inputs, self.by_weights.readout,
        )  # fmt: skip
        for array in (space.gf, space.g_envelope, space.g_harmonics):
            array[first:last] = 0

    def _block_back(self, share: int, k: int) -> None:
        space, block, (first, last) = self.space, self.weights.blocks[k], self.atoms[share]
        by_edges, by_update, _ = self.by_weights.blocks[k]
        update_atoms_weights(
            (first, last), self.constants.scale, block.update_back, space.v[k], space.o[k], space.gx, space.g_vec,
            (space.X, space.V), (space.tile_o[share], space.tile_v[share]), space.sums[k], space.vec[k], by_update,
        )  # fmt: skip
        self._clear_gradients(share, k)
        gradients, edge_gradients, tile = self._edges_back(share, k)
        backward_edges_weights(
            self._shape(k), self.bounds[share], self.edges, block.edges_back, self._states(k), self._room(share, k),
            gradients, edge_gradients, tile, space.kept_messages[k], by_edges,
        )  # fmt: skip

    def _atoms_back(self, share: int, k: int) -> None:
        super()._atoms_back(share, k)
        space, block = self.space, self.weights.blocks[k]
        project_atoms_weights(
            self.atoms[share], self.constants.epsilon, (*block.atoms[:2], block.atoms_back[1]),
            (space.x[k], space.vec[k]), (space.g_qkv, space.g_pq, space.g_tt),
            (space.tile_x[share], space.normed), self.by_weights.blocks[k][2],
        )  # fmt: skip

    def _embed_edges_back(self, share: int) -> None:
        space = self.space
        embed_edges_weights(
            self.bounds[share], self.described, self.weights.embed_edges_back, space.x[0], space.gf, space.gx,
            space.any_kv[share], space.g_basis, space.messages[share], self.by_weights.embed_edges,
        )  # fmt: skip

    def _embed_atoms_back(self) -> None:
        space, weights, totals = self.space, self.weights, self.by_weights
        tile, row = space.messages[0], space.rows[0, : space.gx.shape[1]]
        embed_atoms_back(
            self.atoms[0], space.first_edges, self.described, weights.embed_atoms_back, self.element,
            self.constants.scale, space.any_kv, space.gx, space.g_around, space.g_envelope, space.g_basis, tile, row,
        )  # fmt: skip
        embed_atoms_weights(
            self.atoms[0], space.first_edges, self.described, weights.embed_atoms[:3], self.element,
            self.constants.scale, (space.around, space.g_around, space.gx), (tile, space.g_messages[0]),
            totals.embed_atoms,
        )  # fmt: skip
        describe_edges_weights(
            self.bounds[0], weights.radial, space.distance, space.envelope, space.g_basis, totals.radial,
        )  # fmt: skip
