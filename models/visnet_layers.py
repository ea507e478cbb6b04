"""Layers of ViSNet: embedding, interaction blocks and the normalization of vectors."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .layers import plain_norm, xavier_linear
from .visnet_config import ViSNetConfig


def spherical_harmonics(u: Tensor, lmax: int) -> Tensor:
    """Real harmonics of unit vectors (E, 3), each order with norm one: (E, 3) for lmax 1, (E, 8) for lmax 2."""
    if lmax == 1:
        return u
    x, y, z = u.unbind(1)
    root3 = math.sqrt(3)
    second = (root3 * x * z, root3 * x * y, y * y - (x * x + z * z) / 2, root3 * y * z, root3 / 2 * (z * z - x * x))
    return torch.cat([u, torch.stack(second, dim=1)], dim=1)


@dataclass(frozen=True, eq=False)
class Edges:
    """Edges with the self loops appended (direction 0, distance 0), as the paper's sums have them."""

    center: Tensor  # (E,) i
    neighbor: Tensor  # (E,) j
    envelope: Tensor  # (E, 1) C(r_ij), one on self loops
    radial: Tensor  # (E, num_rbf)
    harmonics: Tensor  # (E, S)
    loops: int  # how many of them, the last ones, are self loops


class VectorNorm(nn.Module):
    """Normalization of vectors (N, S, F) over channels, each order l by itself: "max_min" or "rms" or none of both.

    max_min scales the lengths of the channels linearly to 0 ... 1, rms divides by their root mean square.
    """

    def __init__(self, config: ViSNetConfig) -> None:
        super().__init__()
        self.kind = config.vecnorm_type
        if config.trainable_vecnorm:
            self.weight: nn.Parameter | None = nn.Parameter(torch.ones(config.hidden_channels))
        else:
            self.register_parameter("weight", None)

    def forward(self, vec: Tensor) -> Tensor:
        if self.kind != "none":
            normalize = _max_min if self.kind == "max_min" else _root_mean_square
            vec = torch.cat([normalize(part) for part in vec.split((3, 5) if vec.shape[1] == 8 else 3, dim=1)], dim=1)
        return vec if self.weight is None else vec * self.weight


_SHORTEST = 1e-12  # as in the originals


def _max_min(vec: Tensor) -> Tensor:
    length = plain_norm((vec * vec).sum(1, keepdim=True)).clamp(min=_SHORTEST)
    shortest, longest = length.min(dim=2, keepdim=True).values, length.max(dim=2, keepdim=True).values
    spread = longest - shortest
    return torch.relu((length - shortest) / torch.where(spread == 0, 1.0, spread)) * (vec / length)


def _root_mean_square(vec: Tensor) -> Tensor:
    length = plain_norm((vec * vec).sum(1, keepdim=True))
    mean = length.clamp(min=_SHORTEST).square().mean(2, keepdim=True).sqrt()
    return (vec / mean).masked_fill((length == 0).all(), 0.0)  # the originals leave early, without derivatives


class Embedding(nn.Module):
    """Initial node scalars (with the elements around them) and edge scalars."""

    def __init__(self, config: ViSNetConfig) -> None:
        super().__init__()
        channels = config.hidden_channels
        self.neighbor_norm = config.neighbor_norm
        self.atom = nn.Embedding(len(config.elements), channels)
        self.neighbor = nn.Embedding(len(config.elements), channels)
        self.distance_proj = xavier_linear(config.num_rbf, channels)
        self.combine = xavier_linear(2 * channels, channels)
        self.edge_proj = xavier_linear(config.num_rbf, channels)

    def forward(self, element: Tensor, edges: Edges) -> tuple[Tensor, Tensor]:
        own = self.atom(element)
        real = len(edges.center) - edges.loops  # an atom is no neighbor of itself
        i, j = edges.center[:real], edges.neighbor[:real]
        filters = self.distance_proj(edges.radial[:real]) * edges.envelope[:real]
        message = self.neighbor(element).index_select(0, j) * filters
        around = torch.zeros_like(own).index_add(0, i, message) / self.neighbor_norm
        x = self.combine(torch.cat([own, around], dim=1))
        f = (x.index_select(0, edges.center) + x.index_select(0, edges.neighbor)) * self.edge_proj(edges.radial)
        return x, f


class Block(nn.Module):
    """Vector-scalar interactive message passing of the paper, in an algebraically equal, cheaper form.

    The rejections never need to be formed on edges: with p = W_trg vec_i and q = W_src vec_j,
    w_ij = <p, q> - (2 - |d|^2) <p, d><q, d>, which for lmax 2, where |d|^2 = 2, is <p, q>.  The same holds for the
    improper angles t_ij, whose p and q both belong to atom i.  In the first block vec is zero, so everything that
    multiplies it is left out.
    """

    def __init__(self, config: ViSNetConfig, *, first: bool, last: bool) -> None:
        super().__init__()
        channels = config.hidden_channels
        self.heads, self.first, self.last, self.lmax = config.num_heads, first, last, config.lmax
        self.neighbor_norm = config.neighbor_norm
        self.smooth = config.variant == "smooth"
        self.activation, self.attn_activation = config.functions
        self.has_edge_update = not (first or last)
        self.edge_angles = config.vertex_type == "edge" and self.has_edge_update
        self.node_angles = config.vertex_type == "node" and not first
        separate = 0 if self.smooth else 1  # the originals draw their weights matrix by matrix

        def linear(parts: int, *, bias: bool = True) -> nn.Linear:
            return xavier_linear(channels, parts * channels, bias=bias, parts=max(1, separate * parts))

        self.layernorm = nn.LayerNorm(channels)
        self.qkv = linear(3)
        self.edge_parts = 2 + self.has_edge_update + self.edge_angles  # dk, dv, f, and f of the improper angles
        self.edge_proj = linear(self.edge_parts)
        self.s_proj = xavier_linear(channels, (1 if first else 2) * channels)
        self.o_parts = 1 if first else 3 + self.node_angles
        self.o_proj = xavier_linear(channels, self.o_parts * channels)
        if not first:
            self.vec_norm = VectorNorm(config)
            self.vec_proj = xavier_linear(channels, 3 * channels, bias=False)
        if self.has_edge_update:
            self.w_proj = linear(2, bias=False)  # target, source
        if self.edge_angles or self.node_angles:
            self.t_proj = linear(2, bias=False)  # target, source

    def forward(self, x: Tensor, vec: Tensor | None, f: Tensor, edges: Edges) -> tuple[Tensor, Tensor, Tensor]:
        projected = self.activation(self.edge_proj(f)).chunk(self.edge_parts, dim=1)
        normed = None if vec is None else self.vec_norm(vec)
        message = self._message(self.layernorm(x), projected[0], projected[1], edges)
        vectors = self._vector_message(message, normed, edges)
        atoms, components, channels = len(x), edges.harmonics.shape[1], x.shape[1]
        sums = x.new_zeros(atoms, channels).index_add(0, edges.center, message) / self.neighbor_norm
        vector_sums = x.new_zeros(atoms, components, channels).index_add(0, edges.center, vectors) / self.neighbor_norm
        if vec is None or normed is None:
            return x + self.o_proj(sums), vector_sums, f
        o1, o2, *o3, o4 = self.o_proj(sums).chunk(self.o_parts, dim=1)
        v1, v2, v3 = self.vec_proj(normed).chunk(3, dim=2)
        if self.has_edge_update:
            f = f + projected[2] * self._vector_products(normed, edges)
        if self.edge_angles:
            f = f + projected[3] * self._improper_products(normed, edges)
        dx = (v1 * v2).sum(1) * o2 + o4
        if self.node_angles:
            dx = dx + self._improper_sums(normed, edges) * o3[0]
        return x + dx, vec + v3 * o1[:, None, :] + vector_sums, f

    def _message(self, x: Tensor, dk: Tensor, dv: Tensor, edges: Edges) -> Tensor:
        """a_ij (v_j dv_ij) with a_ij = sigma(<q_i, k_j dk_ij>) C(r_ij) per head; (E, H)."""
        q, k, v = self.qkv(x).chunk(3, dim=1)
        logits = q.index_select(0, edges.center) * k.index_select(0, edges.neighbor) * dk
        attention = self.attn_activation(logits.view(len(dk), self.heads, -1).sum(2)) * edges.envelope
        values = (v.index_select(0, edges.neighbor) * dv).view(len(dk), self.heads, -1)
        messages: Tensor = values * attention[:, :, None]
        return messages.view(len(dk), -1)

    def _vector_message(self, message: Tensor, vec: Tensor | None, edges: Edges) -> Tensor:
        """vec_j s1 + d_ij s2, (E, S, H); with the envelope, without which the energy jumps at the cutoff."""
        gates = self.activation(self.s_proj(message))
        if self.smooth:
            gates = gates * edges.envelope
        if vec is None:
            return gates[:, None, :] * edges.harmonics[:, :, None]
        s1, s2 = gates.chunk(2, dim=1)
        return vec.index_select(0, edges.neighbor) * s1[:, None, :] + s2[:, None, :] * edges.harmonics[:, :, None]

    def _vector_products(self, vec: Tensor, edges: Edges) -> Tensor:
        """w_ij, the inner product of the two rejections, (E, H)."""
        target, source = self.w_proj(vec).chunk(2, dim=2)
        p, q = target.index_select(0, edges.center), source.index_select(0, edges.neighbor)
        products: Tensor = (p * q).sum(1)
        return self._rejected(products, p, q, edges)

    def _improper_products(self, vec: Tensor, edges: Edges) -> Tensor:
        """t_ij, the same of two projections of the central atom's own vectors, (E, H)."""
        p, q = self.t_proj(vec).chunk(2, dim=2)
        products: Tensor = (p * q).sum(1).index_select(0, edges.center)
        if self.lmax == 2:
            return products
        return self._rejected(products, p.index_select(0, edges.center), q.index_select(0, edges.center), edges)

    def _rejected(self, products: Tensor, p: Tensor, q: Tensor, edges: Edges) -> Tensor:
        if self.lmax == 2:
            return products
        d = edges.harmonics[:, :, None]
        return products - (p * d).sum(1) * (q * d).sum(1)

    def _improper_sums(self, vec: Tensor, edges: Edges) -> Tensor:
        """sum_j t_ij, (N, H): of t_ij only the directions d_ij depend on j, so their moments are summed instead."""
        p, q = self.t_proj(vec).chunk(2, dim=2)
        weight = edges.envelope if self.smooth else torch.ones_like(edges.envelope)
        count = vec.new_zeros(len(vec), 1).index_add(0, edges.center, weight)
        sums: Tensor = count * (p * q).sum(1)
        if self.lmax == 1:
            d = edges.harmonics
            products = weight[:, :, None] * d[:, :, None] * d[:, None, :]
            moments = vec.new_zeros(len(vec), 3, 3).index_add(0, edges.center, products)
            sums = sums - (p * torch.einsum("nab,nbf->naf", moments, q)).sum(1)
        return sums / self.neighbor_norm
