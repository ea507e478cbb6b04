"""One call of the fused ViSNet with tangents of its derivatives by the weights: the order of its kernels."""

# d/d(eps) of dE/dtheta (x + eps u): a pass forward along u through what was kept of the energy, and one back through
# what was kept of the forces.

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from mlcalc.kernels.visnet.by_weights import ByWeights
from mlcalc.kernels.visnet.edge_gradients import backward_edges_kept
from mlcalc.kernels.visnet.edge_tangents import backward_edges_tangent, forward_edges_tangent
from mlcalc.kernels.visnet.embedding import embed_atoms_back
from mlcalc.kernels.visnet.embedding_tangents import (
    embed_atoms_back_tangent,
    embed_atoms_tangent,
    embed_edges_back_tangent,
    embed_edges_tangent,
)
from mlcalc.kernels.visnet.geometry import describe_edges_back
from mlcalc.kernels.visnet.geometry_tangents import describe_edges_tangent, describe_edges_weights_tangent
from mlcalc.kernels.visnet.gradient_call import KeepingCall
from mlcalc.kernels.visnet.node_gradients import update_atoms_back_kept
from mlcalc.kernels.visnet.node_tangents import (
    project_atoms_back_tangent,
    project_atoms_tangent,
    update_atoms_back_tangent,
    update_atoms_tangent,
)
from mlcalc.kernels.visnet.nodes import project_atoms_back
from mlcalc.kernels.visnet.readout_tangents import read_out_tangent
from mlcalc.kernels.visnet.space import widths
from mlcalc.kernels.visnet.tangent_space import TangentSpace

Array = NDArray[Any]


class ForcesCall(KeepingCall):
    """Atomic energies and derivatives by the edge vectors, of which everything is kept that tangents need."""

    space: TangentSpace

    def _block_back(self, share: int, k: int) -> None:
        space, block, (first, last) = self.space, self.weights.blocks[k], self.atoms[share]
        space.k_gx[k][first:last] = space.gx[first:last]
        space.k_g_vec[k][first:last] = space.g_vec[first:last]
        if block.parts > 2:
            edges = slice(*self.bounds[share])
            space.k_gf[k][edges] = space.gf[edges]
        update_atoms_back_kept(
            (first, last), self.constants.scale, block.update_back, space.v[k], space.o[k], space.gx, space.g_vec,
            (space.X, space.k_gV[k]), (space.k_go[k], space.k_gv[k]),
        )  # fmt: skip
        own = (space.k_qkv[k], space.k_pq[k], space.k_tt[k])
        for array in own:
            array[first:last] = 0
        backward_edges_kept(
            self.bounds[share], self._shape(k), self.edges, block.edges_back, self._states(k), self._room(share, k),
            (space.X, space.k_gV[k], *own, space.any_kv[share], space.any_vec[share], space.any_q[share]),
            (space.g_envelope, space.g_harmonics, space.gf), (space.messages[share], *self._scratch(share, k)),
            (space.k_gP[k], space.k_gZ[k], space.k_gm[k]),
        )  # fmt: skip

    def _atoms_back(self, share: int, k: int) -> None:
        space = self.space
        project_atoms_back(
            self.atoms[share], self.constants.epsilon, self.weights.blocks[k].atoms_back, space.x[k],
            (space.k_qkv[k], space.k_pq[k], space.k_tt[k], space.gx, space.g_vec),
            (space.any_kv, space.any_vec, space.any_q), space.tile_x[share],
        )  # fmt: skip

    def _geometry_back(self, share: int) -> None:
        space, weights = self.space, self.weights
        embed_atoms_back(
            self.atoms[share], space.first_edges, self.described, weights.embed_atoms_back, self.element,
            self.constants.scale, space.any_kv, space.gx, space.g_around, space.g_envelope, space.g_basis,
            space.messages[share], space.rows[share, : space.gx.shape[1]],
        )  # fmt: skip
        describe_edges_back(
            self.bounds[share], weights.radial, space.is_loop, space.vectors, space.distance, space.envelope,
            space.harmonics, space.basis, space.g_envelope, space.g_harmonics, space.g_basis, space.g_vectors,
        )  # fmt: skip


class TangentCall:
    """Derivatives of sum_i t_seed_i y_i + d/d(eps) sum_i seed_i y_i by the weights, after a ForcesCall."""

    def __init__(self, call: ForcesCall, t_seeds: Array, by_weights: ByWeights) -> None:
        self.call, self.t_seeds, self.by_weights = call, t_seeds, by_weights
        self.space, self.weights, self.constants = call.space, call.weights, call.constants
        self.atoms, self.bounds = call.atoms[0], call.bounds[0]
        self.t_edges = (self.space.t_envelope, self.space.t_harmonics)
        self.t_described = (self.space.t_envelope, self.space.t_basis)
        self.tiles = (self.space.four[0], self.space.four[1])

    def run(self) -> None:
        """Adds to the derivatives by the weights; the tangents of the edge vectors are in the workspace."""
        blocks = range(len(self.weights.blocks))
        self._embed()
        for k in blocks:
            self._block(k)
        self._read_out()
        for k in reversed(blocks):
            self._block_back(k)
        self._embed_back()

    def _embed(self) -> None:
        space, weights = self.space, self.weights
        describe_edges_tangent(
            self.bounds, weights.radial, space.is_loop, (space.distance, space.harmonics), space.t_vectors,
            (space.t_distance, space.t_envelope, space.t_harmonics, space.t_basis),
        )  # fmt: skip
        embed_atoms_tangent(
            self.atoms, space.first_edges, self.call.described, self.t_described, weights.embed_atoms,
            self.call.element, self.constants.scale, space.t_around, space.t_x[0], self.tiles,
        )  # fmt: skip
        embed_edges_tangent(
            self.bounds, self.call.described, space.t_basis, weights.embed_edges, space.x[0], space.t_x[0],
            space.t_f[0], self.tiles,
        )  # fmt: skip

    def _states(self, k: int) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        space, after = self.space, min(k + 1, len(self.space.f) - 1)
        return (
            (space.qkv[k], space.vec[k], space.pq[k], space.tt[k], space.f[k], space.f[after]),
            (space.t_qkv[k], space.t_vec[k], space.t_pq[k], space.t_tt[k], space.t_f[k], space.t_f[after]),
        )

    def _kept(self, k: int) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        space = self.space
        return (
            (*self.call._room(0, k), space.kept_messages[k], space.logits[k]),
            (*space.t_kept[k], space.t_messages[k], space.t_logits[k]),
        )

    def _block(self, k: int) -> None:
        space, block, (first, last) = self.space, self.weights.blocks[k], self.atoms
        project_atoms_tangent(
            self.atoms, self.constants.epsilon, block.atoms, space.x[k], (space.t_x[k], space.t_vec[k]),
            (space.t_qkv[k], space.t_v[k], space.t_pq[k], space.t_tt[k]), space.atom_tiles[:3],
        )  # fmt: skip
        sums = (space.t_sums[k], space.t_V)
        for array in sums:
            array[first:last] = 0
        forward_edges_tangent(
            self.call._shape(k), self.bounds, self.call.edges, self.t_edges, block.edges[::2], *self._states(k),
            *self._kept(k), sums, space.block_tiles(*widths(block)),
        )  # fmt: skip
        update_atoms_tangent(
            self.atoms, self.constants.scale, block.update[0], (space.t_x[k], space.t_vec[k]), sums, space.v[k],
            space.t_v[k], space.o[k], space.t_o[k], (space.t_x[k + 1], space.t_vec[k + 1]),
        )  # fmt: skip

    def _read_out(self) -> None:
        space, (first, last) = self.space, self.bounds
        read_out_tangent(
            self.atoms, self.constants.epsilon, self.constants.smooth, self.weights.readout, self.weights.readout_rows,
            (space.x[-1], space.vec[-1]), (space.t_x[-1], space.t_vec[-1]), (self.call.seeds, self.t_seeds),
            (space.t_gx, space.t_g_vec), space.readout_tiles, self.by_weights.readout,
        )  # fmt: skip
        space.t_gf[first:last] = 0

    def _block_back(self, k: int) -> None:
        space, block, (first, last) = self.space, self.weights.blocks[k], self.atoms
        by_edges, by_update, by_atoms = self.by_weights.blocks[k]
        update_atoms_back_tangent(
            self.atoms, self.constants.scale, block.update_back, (space.sums[k], space.vec[k], space.v[k], space.o[k]),
            (space.t_sums[k], space.t_vec[k], space.t_v[k], space.t_o[k]),
            (space.k_gx[k], space.k_g_vec[k], space.k_go[k], space.k_gv[k]), (space.t_gx, space.t_g_vec),
            (space.t_X, space.t_V), (space.t_tile_o, space.t_tile_v), by_update,
        )  # fmt: skip
        own = (space.t_g_qkv, space.t_g_pq, space.t_g_tt)
        for array, parts in zip(own, (2, 3, 4), strict=True):
            if block.parts >= parts:
                array[first:last] = 0
        shared = (space.any_kv[0], space.any_vec[0], space.any_q[0])
        backward_edges_tangent(
            self.call._shape(k), self.bounds, self.call.edges, self.t_edges, block.edges_back[4:], *self._states(k),
            *self._kept(k), (space.k_gV[k], space.k_gf[k], space.k_gP[k], space.k_gZ[k], space.k_gm[k]),
            (space.t_X, space.t_V, space.t_gf, *own, *shared), space.block_tiles(*widths(block)), by_edges,
        )  # fmt: skip
        project_atoms_back_tangent(
            self.atoms, self.constants.epsilon, (*block.atoms[:2], *block.atoms_back[1:]), (space.x[k], space.vec[k]),
            (space.t_x[k], space.t_vec[k]), (space.k_qkv[k], space.k_pq[k], space.k_tt[k]),
            (*own, space.t_gx, space.t_g_vec), shared, (*space.atom_tiles, space.long_row), by_atoms,
        )  # fmt: skip

    def _embed_back(self) -> None:
        space, weights, totals, scale = self.space, self.weights, self.by_weights, self.constants.scale
        embed_edges_back_tangent(
            self.bounds, self.call.described, space.t_basis, weights.embed_edges_back, (space.x[0], space.t_x[0]),
            (space.gf, space.t_gf), space.t_gx, space.any_kv[0], space.t_g_basis, self.tiles, totals.embed_edges,
        )  # fmt: skip
        embed_atoms_back_tangent(
            self.atoms, space.first_edges, self.call.described, self.t_described, weights.embed_atoms_back,
            self.call.element, scale, (space.around, space.t_around), space.any_kv[0], (space.gx, space.g_around),
            (space.t_gx, space.t_g_around, space.t_g_basis), tuple(space.four), totals.embed_atoms,
        )  # fmt: skip
        describe_edges_weights_tangent(
            self.bounds, weights.radial, (space.distance, space.envelope), (space.t_distance, space.t_envelope),
            space.g_basis, space.t_g_basis, totals.radial,
        )  # fmt: skip
