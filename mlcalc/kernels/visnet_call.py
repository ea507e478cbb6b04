"""One call of the fused ViSNet: its arrays, and the order of its kernels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlcalc.kernels.arrangement import arrange
from mlcalc.kernels.threads import even_shares, run_shares
from mlcalc.kernels.visnet_edges import TILE, backward_edges, forward_edges
from mlcalc.kernels.visnet_embedding import embed_atoms, embed_atoms_back, embed_edges, embed_edges_back
from mlcalc.kernels.visnet_geometry import describe_edges, describe_edges_back
from mlcalc.kernels.visnet_nodes import TILE as ATOMS
from mlcalc.kernels.visnet_nodes import project_atoms, project_atoms_back, update_atoms, update_atoms_back
from mlcalc.kernels.visnet_readout import read_out
from mlcalc.kernels.visnet_weights import Weights
from mlcalc.kernels.workspace import Workspace
from mlcalc.models import Graph, ViSNetConfig

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Geometry:
    """Edges sorted by center, self loops among them."""

    first_edges: Array  # (N + 1,)
    center: Array  # (E,) int64
    neighbor: Array  # (E,) int64
    is_loop: Array  # (E,) bool
    vectors: Array  # (E, 3) Å, in the precision of the network
    element: Array  # (N,) int64


def arranged(graph: Graph, loops: Tensor, element: Tensor, space: Workspace, kind: np.dtype[Any]) -> Geometry:
    """The edges of a graph and the self loops of so many of its atoms."""
    atoms, edges = len(graph.numbers), graph.edges.shape[1] + len(loops)
    looped = np.zeros(atoms, dtype=np.bool_)
    looped[loops.numpy()] = True
    near = Geometry(
        first_edges=space.array("first_edges", (atoms + 1,), np.dtype(np.int64)),
        center=space.array("center", (edges,), np.dtype(np.int64)),
        neighbor=space.array("neighbor", (edges,), np.dtype(np.int64)),
        is_loop=space.array("is_loop", (edges,), np.dtype(np.bool_)),
        vectors=space.array("vectors", (edges, 3), kind),
        element=element.numpy(),
    )
    sorted_ = arrange(
        graph.edges.numpy(), graph.shifts.to(torch.float64).numpy(), graph.positions.numpy(), graph.cell.numpy(),
        graph.batch.numpy(), looped, near.first_edges, near.center, near.neighbor, near.is_loop, near.vectors,
    )  # fmt: skip
    if not sorted_:
        raise ValueError("the edges of the graph are not sorted by their central atoms")
    return near


class Call:
    """Energies y (N,) and their derivatives by the edge vectors (E, 3)."""

    def __init__(
        self, weights: Weights, config: ViSNetConfig, space: Workspace, geometry: Geometry, *, shares: int, kept: int
    ) -> None:
        self.weights, self.config, self.space, self.geometry, self.shares = weights, config, space, geometry, shares
        self.kind = weights.readout[0].dtype
        self.F, self.S, self.L = config.hidden_channels, 8 if config.lmax == 2 else 3, config.num_layers
        self.N, self.E = len(geometry.element), len(geometry.center)
        self.scale = self.kind.type(1 / config.neighbor_norm)
        self.epsilon = self.kind.type(1e-5)  # of torch's LayerNorm
        self.smooth = config.variant == "smooth"
        bounds = even_shares(geometry.first_edges, shares)
        self.atoms = [(int(a), int(b)) for a, b in zip(bounds, bounds[1:], strict=False)]
        self.bounds = [(int(geometry.first_edges[a]), int(geometry.first_edges[b])) for a, b in self.atoms]
        self._allocate(kept)

    def run(self, seeds: Array, y: Array, g_vectors: Array | None) -> None:
        """Fills y, and g_vectors with the derivatives of sum_i seed_i y_i."""
        self.back = g_vectors is not None
        run_shares(self._embed, self.shares)
        for k in range(self.L):
            run_shares(lambda share, k=k: self._block(share, k), self.shares)  # type: ignore[misc]
        run_shares(lambda share: self._read_out(share, seeds, y), self.shares)
        if g_vectors is None:
            return
        for k in reversed(range(self.L)):
            run_shares(lambda share, k=k: self._block_back(share, k), self.shares)  # type: ignore[misc]
            run_shares(lambda share, k=k: self._atoms_back(share, k), self.shares)  # type: ignore[misc]
        run_shares(self._embed_edges_back, self.shares)
        run_shares(lambda share: self._geometry_back(share, g_vectors), self.shares)

    def _array(self, name: str, *shape: int, zero: bool = False) -> Array:
        return self.space.array(name, shape, self.kind, zero=zero)

    def _allocate(self, kept: int) -> None:
        N, E, F, S, K, T = self.N, self.E, self.F, self.S, self.config.num_rbf, self.shares
        self.distance, self.envelope = self._array("distance", E), self._array("envelope", E)
        self.harmonics, self.basis = self._array("harmonics", E, S), self._array("basis", E, K)
        self.around = self._array("around", N, F)
        self.x = [self._array(f"x{k}", N, F) for k in range(self.L + 1)]
        self.vec = [self._array(f"vec{k}", N, S, F) for k in range(self.L + 1)]
        self.qkv = [self._array(f"qkv{k}", N, 3 * F) for k in range(self.L)]
        self.X, self.V = self._array("X", N, F), self._array("V", N, S, F)
        self.v, self.pq, self.tt, self.o, self.f, self.kept = [], [], [], [], [], []
        last_f = -1
        for k, block in enumerate(self.weights.blocks):
            width = block.atoms[4].shape[1], block.atoms[5].shape[1], block.atoms[6].shape[1]
            self.v.append(self._array(f"v{k}", N, S, width[0]))
            self.pq.append(self._array(f"pq{k}", N, S, width[1]))
            self.tt.append(self._array(f"tt{k}", N, S, width[2]))
            self.o.append(self._array(f"o{k}", N, block.update[0].shape[1]))
            if k == 0 or self.weights.blocks[k - 1].parts > 2:
                last_f = k
            self.f.append(self._array(f"f{last_f}", E, F))
        for k in reversed(range(self.L)):
            widths = self._widths(k)
            kept -= E * sum(widths) * self.kind.itemsize
            if kept >= 0:
                self.kept.append(tuple(self._array(f"kept{k}-{w}", E, width) for w, width in enumerate(widths)))
            else:
                self.kept.append(())
        self.kept.reverse()
        self.g_envelope, self.g_harmonics = self._array("g_envelope", E), self._array("g_harmonics", E, S)
        self.g_basis, self.gf = self._array("g_basis", E, K), self._array("gf", E, F)
        self.gx, self.g_vec = self._array("gx", N, F), self._array("g_vec", N, S, F)
        self.g_qkv = self._array("g_qkv", N, 3 * F)
        self.g_pq, self.g_tt = self._array("g_pq", N, S, 2 * F), self._array("g_tt", N, S, 2 * F)
        self.any_kv = self._array("any_kv", T, N, 2 * F, zero=True)
        self.any_vec = self._array("any_vec", T, N, S, F, zero=True)
        self.any_q = self._array("any_q", T, N, S, F, zero=True)
        parts = max(block.parts for block in self.weights.blocks)
        self.tile_P, self.tile_gP = self._array("P", T, TILE * parts * F), self._array("gP", T, TILE * parts * F)
        self.tile_Z, self.tile_gZ = self._array("Z", T, TILE * 2 * F), self._array("gZ", T, TILE * 2 * F)
        self.messages, self.gm = self._array("messages", T, TILE, F), self._array("gm", T, TILE, F)
        self.rows = self._array("rows", T, 8, F)
        self.per_head = self._array("per_head", T, self.config.num_heads)
        self.tile_x, self.tile_o = self._array("tile_x", T, ATOMS, F), self._array("tile_o", T, ATOMS, 3 * F)
        self.tile_v = self._array("tile_v", T, ATOMS * S, 3 * F)

    def _edges(self) -> tuple[Array, ...]:
        return self.geometry.center, self.geometry.neighbor, self.envelope, self.harmonics

    def _described(self) -> tuple[Array, ...]:
        return self.geometry.center, self.geometry.neighbor, self.envelope, self.basis, self.geometry.is_loop

    def _embed(self, share: int) -> None:
        near = self.geometry
        describe_edges(
            self.bounds[share], self.weights.radial, near.is_loop, near.vectors, self.distance, self.envelope,
            self.harmonics, self.basis,
        )  # fmt: skip
        embed_atoms(
            self.atoms[share], near.first_edges, self._described(), self.weights.embed_atoms, near.element, self.scale,
            self.around, self.x[0], self.messages[share],
        )  # fmt: skip
        self._project(share, 0)

    def _project(self, share: int, k: int) -> None:
        project_atoms(
            self.atoms[share], self.epsilon, self.weights.blocks[k].atoms, (self.x[k], self.vec[k]),
            (self.qkv[k], self.v[k], self.pq[k], self.tt[k]), self.tile_x[share],
        )  # fmt: skip

    def _shape(self, k: int) -> tuple[int, bool, bool, bool, bool]:
        keeps = self.back and bool(self.kept[k])
        return self.config.num_heads, k == 0, self.smooth, self.config.lmax == 1, keeps

    def _room(self, share: int, k: int) -> tuple[Array, Array]:
        """Where the projections of the edges are kept, or put for a moment."""
        if self.back and self.kept[k]:
            return self.kept[k]  # type: ignore[no-any-return]
        return self._tile(self.tile_P, share, k, 0), self._tile(self.tile_Z, share, k, 1)

    def _tile(self, tiles: Array, share: int, k: int, which: int) -> Array:
        width = self._widths(k)[which]
        return tiles[share, : TILE * width].reshape(TILE, width)

    def _widths(self, k: int) -> tuple[int, int]:
        """Columns of the projections of edges, and of those of messages."""
        block = self.weights.blocks[k]
        return block.parts * self.F, block.edges[2].shape[1]

    def _block(self, share: int, k: int) -> None:
        block, rows = self.weights.blocks[k], self.rows[share]
        first, last = self.atoms[share]
        if k == 0:
            embed_edges(
                self.bounds[share], self._described(), self.weights.embed_edges, self.x[0], self.f[0],
                self.messages[share],
            )  # fmt: skip
        self.X[first:last] = 0
        self.V[first:last] = 0
        f_next = self.f[min(k + 1, self.L - 1)]
        forward_edges(
            self._shape(k), self.bounds[share], self._edges(), block.edges,
            (self.qkv[k], self.vec[k], self.pq[k], self.tt[k], self.f[k], f_next), self._room(share, k),
            (self.X, self.V), (self.messages[share], rows),
        )  # fmt: skip
        update_atoms(
            self.atoms[share], self.scale, block.update, (self.x[k], self.vec[k]), (self.X, self.V), self.v[k],
            self.o[k], (self.x[k + 1], self.vec[k + 1]),
        )  # fmt: skip
        if k + 1 < self.L:
            self._project(share, k + 1)

    def _read_out(self, share: int, seeds: Array, y: Array) -> None:
        nothing = (self.gx[:0], self.g_vec[:0])
        read_out(
            self.atoms[share], self.epsilon, self.smooth, self.weights.readout, self.weights.readout_rows,
            (self.x[self.L], self.vec[self.L]), seeds, y, (self.gx, self.g_vec) if self.back else nothing,
        )  # fmt: skip
        first, last = self.bounds[share]
        if self.back:
            self.gf[first:last] = 0
            self.g_envelope[first:last] = 0
            self.g_harmonics[first:last] = 0

    def _block_back(self, share: int, k: int) -> None:
        block, (first, last) = self.weights.blocks[k], self.atoms[share]
        update_atoms_back(
            self.atoms[share], self.scale, block.update_back, self.v[k], self.o[k], self.gx, self.g_vec,
            (self.X, self.V), (self.tile_o[share], self.tile_v[share]),
        )  # fmt: skip
        for array in (self.g_qkv, self.g_pq, self.g_tt):
            array[first:last] = 0
        tile = (
            self.messages[share], self._tile(self.tile_gP, share, k, 0), self._tile(self.tile_gZ, share, k, 1),
            self.gm[share], self.rows[share], self.per_head[share],
        )  # fmt: skip
        backward_edges(
            self._shape(k), self.bounds[share], self._edges(), block.edges_back,
            (self.qkv[k], self.vec[k], self.pq[k], self.tt[k], self.f[k]), self._room(share, k),
            (self.X, self.V, self.g_qkv, self.g_pq, self.g_tt, self.any_kv[share], self.any_vec[share],
             self.any_q[share]),
            (self.g_envelope, self.g_harmonics, self.gf), tile,
        )  # fmt: skip

    def _atoms_back(self, share: int, k: int) -> None:
        project_atoms_back(
            self.atoms[share], self.epsilon, self.weights.blocks[k].atoms_back, self.x[k],
            (self.g_qkv, self.g_pq, self.g_tt, self.gx, self.g_vec), (self.any_kv, self.any_vec, self.any_q),
            self.tile_x[share],
        )  # fmt: skip

    def _embed_edges_back(self, share: int) -> None:
        embed_edges_back(
            self.bounds[share], self._described(), self.weights.embed_edges_back, self.x[0], self.gf, self.gx,
            self.any_kv[share], self.g_basis, self.messages[share],
        )  # fmt: skip

    def _geometry_back(self, share: int, g_vectors: Array) -> None:
        near = self.geometry
        embed_atoms_back(
            self.atoms[share], near.first_edges, self._described(), self.weights.embed_atoms_back, near.element,
            self.scale, self.any_kv, self.gx, self.around, self.g_envelope, self.g_basis, self.messages[share],
            self.rows[share, 0],
        )  # fmt: skip
        describe_edges_back(
            self.bounds[share], self.weights.radial, near.is_loop, near.vectors, self.distance, self.envelope,
            self.harmonics, self.basis, self.g_envelope, self.g_harmonics, self.g_basis, g_vectors,
        )  # fmt: skip
