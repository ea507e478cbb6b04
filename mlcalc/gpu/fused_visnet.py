"""ViSNet's message passing by Triton kernels, as functions with derivatives, put into a copy of a network."""
# mypy: allow-untyped-calls
# ruff: noqa: PLR0917  # autograd functions are called by position

from __future__ import annotations

from dataclasses import dataclass, fields
from types import MethodType
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear

from mlcalc.gpu import triton_visnet as kernels
from mlcalc.gpu.triton_rows import EDGES, VECTOR_EDGES, channel_tile, components_tile, row_starts
from mlcalc.models import Graph, ViSNet
from mlcalc.models.visnet_layers import Block, Edges


@dataclass(frozen=True, eq=False)
class RowEdges(Edges):
    """Edges whose real ones are sorted by center."""

    rows: Tensor  # (N + 1,) where the real edges of each atom begin

    @property
    def first_loop(self) -> int:
        return len(self.center) - self.loops


class _Attend(torch.autograd.Function):
    """Messages (E, H) and their sums (N, H) of [q, k, v] (N, 3H) and of [dk, dv] before activation (E, 2H)."""

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, pre: Tensor, envelope: Tensor, edges: RowEdges, heads: int) -> Any:
        atoms, channels = len(qkv), qkv.shape[1] // 3
        message, sums = pre.new_empty(len(pre), channels), qkv.new_empty(atoms, channels)
        sizes = {"H": channels, "D": channels // heads, "E": EDGES}
        kernels.attend[(atoms, heads)](
            qkv, pre, envelope, edges.neighbor, edges.rows, message, sums, edges.first_loop, **sizes
        )
        ctx.save_for_backward(qkv, pre, envelope)
        ctx.edges, ctx.heads, ctx.sizes = edges, heads, sizes
        return message, sums

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_message: Tensor, d_sums: Tensor) -> Any:
        (qkv, pre, envelope), edges = ctx.saved_tensors, ctx.edges
        d_qkv, d_pre, d_envelope = torch.zeros_like(qkv), torch.empty_like(pre), torch.zeros_like(envelope)
        kernels.attend_backward[(len(qkv), ctx.heads)](
            qkv, pre, envelope, edges.neighbor, edges.rows, d_message.contiguous(), d_sums.contiguous(),
            d_qkv, d_pre, d_envelope, edges.first_loop, **ctx.sizes,
        )  # fmt: skip
        return d_qkv, d_pre, d_envelope, None, None


class _VectorSums(torch.autograd.Function):
    """Sums over neighbors (N, S, H) of vec_j s1 + d_ij s2, of the gates before activation; vec None means zero."""

    @staticmethod
    def forward(
        ctx: Any, gates: Tensor, vec: Tensor | None, envelope: Tensor, harmonics: Tensor, edges: RowEdges, smooth: bool
    ) -> Tensor:
        atoms, components = len(edges.rows) - 1, harmonics.shape[1]
        channels = gates.shape[1] // (1 if vec is None else 2)
        sums = gates.new_empty(atoms, components, channels)
        ctx.sizes = _sizes(components, channels) | {"HAS_VEC": vec is not None, "SMOOTH": smooth}
        kernels.vector_sums[_grid(atoms, ctx.sizes)](
            gates, gates if vec is None else vec, envelope, harmonics, edges.neighbor, edges.rows, sums,
            edges.first_loop, **ctx.sizes,
        )  # fmt: skip
        ctx.save_for_backward(gates, vec, envelope, harmonics)
        ctx.edges = edges
        return sums

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_sums: Tensor) -> Any:
        (gates, vec, envelope, harmonics), edges = ctx.saved_tensors, ctx.edges
        d_gates, d_envelope, d_harmonics = (
            torch.empty_like(gates),
            torch.zeros_like(envelope),
            torch.zeros_like(harmonics),
        )
        d_vec = None if vec is None else torch.zeros_like(vec)
        kernels.vector_sums_backward[_grid(len(d_sums), ctx.sizes)](
            gates, gates if vec is None else vec, envelope, harmonics, edges.neighbor, edges.rows, d_sums.contiguous(),
            d_gates, d_gates if d_vec is None else d_vec, d_envelope, d_harmonics, edges.first_loop, **ctx.sizes,
        )  # fmt: skip
        return d_gates, d_vec, d_envelope, d_harmonics, None, None


class _EdgeUpdate(torch.autograd.Function):
    """f + silu(pre) w_ij, (E, H), of f and pre (E, H) and of [p, q] (N, S, 2H)."""

    @staticmethod
    def forward(
        ctx: Any, f: Tensor, pre: Tensor, projected: Tensor, harmonics: Tensor, edges: RowEdges, reject: bool
    ) -> Tensor:
        updated = torch.empty_like(f)
        ctx.sizes = _sizes(harmonics.shape[1], f.shape[1]) | {"REJECT": reject}
        kernels.edge_update[_grid(len(projected), ctx.sizes)](
            f, pre, projected, harmonics, edges.neighbor, edges.rows, updated, edges.first_loop, **ctx.sizes
        )
        ctx.save_for_backward(pre, projected, harmonics)
        ctx.edges = edges
        return updated

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_updated: Tensor) -> Any:
        (pre, projected, harmonics), edges = ctx.saved_tensors, ctx.edges
        d_updated = d_updated.contiguous()
        d_pre, d_projected, d_harmonics = (
            torch.empty_like(pre),
            torch.zeros_like(projected),
            torch.zeros_like(harmonics),
        )
        kernels.edge_update_backward[_grid(len(projected), ctx.sizes)](
            pre, projected, harmonics, edges.neighbor, edges.rows, d_updated, d_pre, d_projected, d_harmonics,
            edges.first_loop, **ctx.sizes,
        )  # fmt: skip
        return d_updated, d_pre, d_projected, d_harmonics, None, None


def _sizes(components: int, channels: int) -> dict[str, int]:
    tile = channel_tile(channels)
    return {"H": channels, "S": components, "SP": components_tile(components), "C": tile, "E": VECTOR_EDGES}


def _grid(atoms: int, sizes: dict[str, int]) -> tuple[int, int]:
    return atoms, sizes["H"] // sizes["C"]


def fuse(network: ViSNet) -> None:
    """Have this network, a copy of the user's, pass its messages by the kernels."""
    plain_edges = network._edges

    def row_edges(graph: Graph) -> RowEdges:
        edges = plain_edges(graph)
        real = edges.center[: len(edges.center) - edges.loops]
        values = {field.name: getattr(edges, field.name) for field in fields(Edges)}
        return RowEdges(**values, rows=row_starts(real, len(graph.numbers)))

    network._edges = row_edges  # type: ignore[method-assign]
    for block in network.blocks:
        block.forward = MethodType(_block, block)


def _block(self: Block, x: Tensor, vec: Tensor | None, f: Tensor, edges: RowEdges) -> tuple[Tensor, Tensor, Tensor]:
    """What Block.forward gives, without improper angles."""
    channels, norm = x.shape[1], self.neighbor_norm
    weight, bias = self.edge_proj.weight, self.edge_proj.bias
    normed = None if vec is None else self.vec_norm(vec).contiguous()
    qkv = self.qkv(self.layernorm(x))
    envelope = edges.envelope.contiguous()
    pre = linear(f, weight[: 2 * channels], bias[: 2 * channels])
    message, sums = _Attend.apply(qkv, pre, envelope, edges, self.heads)
    vector_sums = _VectorSums.apply(self.s_proj(message), normed, envelope, edges.harmonics, edges, self.smooth) / norm
    if vec is None or normed is None:
        return x + self.o_proj(sums / norm), vector_sums, f
    o1, o2, o4 = self.o_proj(sums / norm).chunk(3, dim=1)
    v1, v2, v3 = self.vec_proj(normed).chunk(3, dim=2)
    if self.has_edge_update:
        gate = linear(f, weight[2 * channels :], bias[2 * channels :])
        f = _EdgeUpdate.apply(f, gate, self.w_proj(normed), edges.harmonics, edges, self.lmax == 1)
    return x + (v1 * v2).sum(1) * o2 + o4, vec + v3 * o1[:, None, :] + vector_sums, f


def obstacle(network: ViSNet) -> str:
    """Why the kernels do not fit the network; empty if they do."""
    config = network.config
    if not {config.activation, config.attn_activation} <= {"silu", "swish"}:
        return f"the fused kernels know silu, and its activations are {config.activation}, {config.attn_activation}"
    if config.vertex_type != "none":
        return f"the fused kernels know no improper angles (vertex_type {config.vertex_type!r})"
    head = config.hidden_channels // config.num_heads
    if head & (head - 1):
        return f"the fused kernels need a power of two of channels per head, and it has {head}"
    return ""
