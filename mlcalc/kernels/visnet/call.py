"""One call of the fused ViSNet: the order of its kernels."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlcalc.kernels.threads import even_shares, run_shares
from mlcalc.kernels.visnet.edges import TILE, backward_edges, forward_edges
from mlcalc.kernels.visnet.embedding import embed_atoms, embed_atoms_back, embed_edges, embed_edges_back
from mlcalc.kernels.visnet.geometry import describe_edges, describe_edges_back
from mlcalc.kernels.visnet.nodes import project_atoms, project_atoms_back, update_atoms, update_atoms_back
from mlcalc.kernels.visnet.readout import read_out
from mlcalc.kernels.visnet.space import Space, widths
from mlcalc.kernels.visnet.weights import Weights

Array = NDArray[Any]


@dataclass(frozen=True)
class Constants:
    """Settings that kernels ask for."""

    heads: tuple[Array, Array]  # (F, H) and (H, F): one where a channel belongs to a head
    smooth: bool
    rejects: bool  # lmax 1: inner products of rejections are formed on the edges
    scale: Any  # 1 / neighbor_norm
    epsilon: Any  # of the LayerNorms


class Call:
    """Atomic energies of the edges in a workspace, and their derivatives by the edge vectors."""

    def __init__(
        self, weights: Weights, constants: Constants, space: Space, element: Array, seeds: Array | None
    ) -> None:
        """seeds: dE/dy (N,), for derivatives; None for energies alone."""
        self.weights, self.constants, self.space, self.element = weights, constants, space, element
        atoms = len(element)
        self.y = np.empty(atoms, space.kind)
        self.back, self.seeds = seeds is not None, self.y if seeds is None else seeds
        bounds = even_shares(space.first_edges[: atoms + 1], space.threads).tolist()
        self.atoms = list(pairwise(bounds))
        self.bounds = [(int(space.first_edges[a]), int(space.first_edges[b])) for a, b in self.atoms]
        self.edges = (space.center, space.neighbor, space.envelope, space.harmonics)
        self.described = (space.center, space.neighbor, space.envelope, space.basis, space.is_loop)

    def run(self) -> Array:
        """y (N,); the derivatives of sum_i seed_i y_i are left in the workspace as g_vectors."""
        self._each(self._embed)
        for k in range(len(self.weights.blocks)):
            self._each(self._block, k)
        self._each(self._read_out)
        if self.back:
            for k in reversed(range(len(self.weights.blocks))):
                self._each(self._block_back, k)
                self._each(self._atoms_back, k)
            self._each(self._embed_edges_back)
            self._each(self._geometry_back)
        return self.y

    def _each(self, task: Any, *arguments: int) -> None:
        run_shares(lambda share: task(share, *arguments), self.space.threads)

    def _embed(self, share: int) -> None:
        space, weights = self.space, self.weights
        describe_edges(
            self.bounds[share], weights.radial, space.is_loop, space.vectors, space.distance, space.envelope,
            space.harmonics, space.basis,
        )  # fmt: skip
        embed_atoms(
            self.atoms[share], space.first_edges, self.described, weights.embed_atoms, self.element,
            self.constants.scale, space.around, space.x[0], space.messages[share],
        )  # fmt: skip
        self._project(share, 0)

    def _project(self, share: int, k: int) -> None:
        space = self.space
        project_atoms(
            self.atoms[share], self.constants.epsilon, self.weights.blocks[k].atoms, (space.x[k], space.vec[k]),
            (space.qkv[k], space.v[k], space.pq[k], space.tt[k]), space.tile_x[share],
        )  # fmt: skip

    def _shape(self, k: int) -> tuple[tuple[Array, Array], bool, bool, bool, bool]:
        keeps = self.back and self.space.kept[k] is not None
        return self.constants.heads, k == 0, self.constants.smooth, self.constants.rejects, keeps

    def _room(self, share: int, k: int) -> tuple[Array, Array]:
        """Where the projections of the edges are kept, or put for a moment."""
        kept = self.space.kept[k] if self.back else None
        return (self._tile(self.space.P, share, k, 0), self._tile(self.space.Z, share, k, 1)) if kept is None else kept

    def _tile(self, tiles: Array, share: int, k: int, which: int) -> Array:
        width = widths(self.weights.blocks[k])[which]
        return tiles[share, : TILE * width].reshape(TILE, width)

    def _block(self, share: int, k: int) -> None:
        space, block = self.space, self.weights.blocks[k]
        atoms, bounds = self.atoms[share], self.bounds[share]
        if k == 0:
            embed_edges(bounds, self.described, self.weights.embed_edges, space.x[0], space.f[0], space.messages[share])
        sums = self._sums(k)
        for array in sums:
            array[atoms[0] : atoms[1]] = 0
        self._pass_messages(share, k)
        update_atoms(
            atoms, self.constants.scale, block.update, (space.x[k], space.vec[k]), sums, space.v[k], space.o[k],
            (space.x[k + 1], space.vec[k + 1]),
        )  # fmt: skip
        if k + 1 < len(self.weights.blocks):
            self._project(share, k + 1)

    def _sums(self, k: int) -> tuple[Array, Array]:
        """Where messages are summed."""
        return self.space.X, self.space.V

    def _states(self, k: int) -> tuple[Array, ...]:
        """What the edges of a block see."""
        space = self.space
        return space.qkv[k], space.vec[k], space.pq[k], space.tt[k], space.f[k]

    def _pass_messages(self, share: int, k: int) -> None:
        space = self.space
        forward_edges(
            self._shape(k), self.bounds[share], self.edges, self.weights.blocks[k].edges,
            (*self._states(k), space.f[min(k + 1, len(space.f) - 1)]), self._room(share, k), self._sums(k),
            (space.messages[share], *self._scratch(share, k)),
        )  # fmt: skip

    def _read_out(self, share: int) -> None:
        space, (first, last) = self.space, self.bounds[share]
        gradients = (space.gx, space.g_vec) if self.back else (space.gx[:0], space.g_vec[:0])
        read_out(
            self.atoms[share], self.constants.epsilon, self.constants.smooth, self.weights.readout,
            self.weights.readout_rows, (space.x[-1], space.vec[-1]), self.seeds, self.y, gradients,
            space.read_out[share],
        )  # fmt: skip
        if self.back:
            for array in (space.gf, space.g_envelope, space.g_harmonics):
                array[first:last] = 0

    def _block_back(self, share: int, k: int) -> None:
        space, block, (first, last) = self.space, self.weights.blocks[k], self.atoms[share]
        update_atoms_back(
            (first, last), self.constants.scale, block.update_back, space.v[k], space.o[k], space.gx, space.g_vec,
            (space.X, space.V), (space.tile_o[share], space.tile_v[share]),
        )  # fmt: skip
        self._clear_gradients(share, k)
        backward_edges(
            self._shape(k), self.bounds[share], self.edges, block.edges_back, self._states(k), self._room(share, k),
            *self._edges_back(share, k),
        )  # fmt: skip

    def _clear_gradients(self, share: int, k: int) -> None:
        """Derivatives by the projections of the own atoms, as far as the block has them."""
        space, block, (first, last) = self.space, self.weights.blocks[k], self.atoms[share]
        for array, parts in ((space.g_qkv, 2), (space.g_pq, 3), (space.g_tt, 4)):
            if block.parts >= parts:
                array[first:last] = 0

    def _edges_back(self, share: int, k: int) -> tuple[tuple[Array, ...], ...]:
        """Derivatives that come in and go out of the edges of a block, and work space."""
        space = self.space
        own = (space.X, space.V, space.g_qkv, space.g_pq, space.g_tt)
        return (
            (*own, space.any_kv[share], space.any_vec[share], space.any_q[share]),
            (space.g_envelope, space.g_harmonics, space.gf),
            (space.messages[share], *self._scratch(share, k), self._tile(space.gP, share, k, 0),
             self._tile(space.gZ, share, k, 1), space.g_messages[share]),
        )  # fmt: skip

    def _scratch(self, share: int, k: int) -> tuple[Array, ...]:
        """Work space of a tile of edges; silu(P) and silu(Z) are never needed at the same time."""
        space = self.space
        act, gates = (self._tile(space.act, share, k, which) for which in (0, 1))
        return act, gates, space.t[share], space.per_head[share], space.rows[share]

    def _atoms_back(self, share: int, k: int) -> None:
        space = self.space
        project_atoms_back(
            self.atoms[share], self.constants.epsilon, self.weights.blocks[k].atoms_back, space.x[k],
            (space.g_qkv, space.g_pq, space.g_tt, space.gx, space.g_vec), (space.any_kv, space.any_vec, space.any_q),
            space.tile_x[share],
        )  # fmt: skip

    def _embed_edges_back(self, share: int) -> None:
        space = self.space
        embed_edges_back(
            self.bounds[share], self.described, self.weights.embed_edges_back, space.x[0], space.gf, space.gx,
            space.any_kv[share], space.g_basis, space.messages[share],
        )  # fmt: skip

    def _geometry_back(self, share: int) -> None:
        space, weights = self.space, self.weights
        embed_atoms_back(
            self.atoms[share], space.first_edges, self.described, weights.embed_atoms_back, self.element,
            self.constants.scale, space.any_kv, space.gx, space.around, space.g_envelope, space.g_basis,
            space.messages[share], space.rows[share, : space.gx.shape[1]],
        )  # fmt: skip
        describe_edges_back(
            self.bounds[share], weights.radial, space.is_loop, space.vectors, space.distance, space.envelope,
            space.harmonics, space.basis, space.g_envelope, space.g_harmonics, space.g_basis, space.g_vectors,
        )  # fmt: skip
