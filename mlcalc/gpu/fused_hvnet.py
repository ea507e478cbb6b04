"""HVNet's messages and neighbor means by Triton kernels, with derivatives, put into a copy of a network."""
# mypy: allow-untyped-calls
# ruff: noqa: PLR0917  # autograd functions are called by position

from __future__ import annotations

from dataclasses import dataclass, fields
from types import MethodType
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mlcalc.gpu import triton_hvnet as kernels
from mlcalc.gpu.triton_rows import EDGES, VECTOR_EDGES, channel_tile, row_starts
from mlcalc.models import Graph, HVNet
from mlcalc.models.hvnet_subnetworks import Neighborhood, SubNetwork


@dataclass(frozen=True, eq=False)
class RowNeighborhood(Neighborhood):
    """A neighborhood whose edges are sorted by center, with sums that walk through them atom by atom."""

    rows: Tensor  # (N + 1,) where the edges of each atom begin

    @property
    def symmetric(self) -> bool:
        """Whether it holds the reverse of every edge: the edges into all atoms do, those of one element do not."""
        return self.atoms is None

    def weighted_sum(self, values: Tensor) -> Tensor:
        """sum_j c_ij X_j of values (N, C), for few atoms too: one way for all sizes is one that every trial covers."""
        sums: Tensor = _WeightedSum.apply(self.weight.contiguous(), values.contiguous(), self)
        return sums


class _MessageSums(torch.autograd.Function):
    """Sums of the messages (N, F) and (N, 3, F) from phi (N, 3F), filters (E, 3F), v (N, 3, F) or None for zero."""

    @staticmethod
    def forward(
        ctx: Any, phi: Tensor, filters: Tensor, v: Tensor | None, direction: Tensor, near: RowNeighborhood
    ) -> Any:
        atoms, channels = len(phi), phi.shape[1] // 3
        ds, dv = phi.new_empty(atoms, channels), phi.new_empty(atoms, 3, channels)
        sizes = {"H": channels, "C": channel_tile(channels), "E": VECTOR_EDGES, "HAS_V": v is not None}
        kernels.message_sums[(atoms, channels // sizes["C"])](
            phi, filters, phi if v is None else v, direction, near.neighbor, near.rows, ds, dv, **sizes
        )
        ctx.save_for_backward(phi, filters, v, direction)
        ctx.near, ctx.sizes = near, sizes
        return ds, dv

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_ds: Tensor, d_dv: Tensor) -> Any:
        (phi, filters, v, direction), near, sizes = ctx.saved_tensors, ctx.near, ctx.sizes
        # without v nobody writes the gates' part
        d_phi, d_filters = torch.zeros_like(phi), torch.zeros_like(filters) if v is None else torch.empty_like(filters)
        d_v, d_direction = None if v is None else torch.zeros_like(v), torch.zeros_like(direction)
        kernels.message_sums_backward[(len(phi), sizes["H"] // sizes["C"])](
            phi, filters, phi if v is None else v, direction, near.neighbor, near.rows, d_ds.contiguous(),
            d_dv.contiguous(), d_phi, d_filters, d_phi if d_v is None else d_v, d_direction, **sizes,
            SYMMETRIC=near.symmetric,
        )  # fmt: skip
        return d_phi, d_filters, d_v, d_direction, None


class _WeightedSum(torch.autograd.Function):
    """sum_j c_ij X_j, (N, C), of weights (E, 1) and values (N, C)."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, values: Tensor, near: RowNeighborhood) -> Tensor:
        sums, channels = torch.empty_like(values), values.shape[1]
        sizes = {"H": channels, "C": channel_tile(channels), "E": EDGES}
        kernels.weighted_sum[(len(values), channels // sizes["C"])](
            weight, values, near.neighbor, near.rows, sums, **sizes
        )
        ctx.save_for_backward(weight, values)
        ctx.near, ctx.sizes = near, sizes
        return sums

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_sums: Tensor) -> Any:
        (weight, values), near, sizes = ctx.saved_tensors, ctx.near, ctx.sizes
        d_sums = d_sums.contiguous()
        d_weight, d_values = torch.zeros_like(weight), torch.zeros_like(values)
        kernels.weighted_sum_backward[(len(values),)](
            weight, values, near.neighbor, near.rows, d_sums, d_weight, d_values, **sizes, SYMMETRIC=near.symmetric
        )
        if near.symmetric:
            kernels.weighted_sum[(len(values), sizes["H"] // sizes["C"])](
                weight, d_sums, near.neighbor, near.rows, d_values, **sizes
            )
        return d_weight, d_values, None


def fuse(network: HVNet) -> None:
    """Have this network, a copy of the user's, pass its messages by the kernels."""
    plain = network._neighborhoods  # the one with static parts, where the network has several elements

    def row_neighborhoods(graph: Graph, element: Tensor) -> list[Neighborhood]:
        return [_by_row(near, len(graph.numbers)) for near in plain(graph, element)]

    network._neighborhoods = row_neighborhoods  # type: ignore[method-assign]
    for module in network.modules():
        if isinstance(module, SubNetwork):
            module._sums = MethodType(_sums, module)  # type: ignore[method-assign]


def _by_row(near: Neighborhood, atoms: int) -> RowNeighborhood:
    values = {field.name: getattr(near, field.name) for field in fields(Neighborhood)}
    return RowNeighborhood(**values, rows=row_starts(near.center, atoms))


def _sums(
    self: SubNetwork, phi: Tensor, filters: Tensor, v: Tensor | None, near: RowNeighborhood
) -> tuple[Tensor, Tensor]:
    direction = near.direction.squeeze(2).contiguous()
    ds, dv = _MessageSums.apply(phi, filters, None if v is None else v.contiguous(), direction, near)
    return ds / self.neighbor_norm, dv / self.neighbor_norm


def obstacle(network: HVNet) -> str:
    """Why the kernels do not fit the network; empty if they do."""
    return "" if network.original is None else f"variant {network.config.variant!r} of HVNet has no Triton kernels"
