"""ViSNet (Wang et al., Nat. Commun. 15, 313 (2024), arXiv:2210.16518) in a smooth, size-extensive form."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from .elements import element_symbols
from .errors import ModelError
from .graph import Graph
from .layers import (
    AtomicEnergies,
    ElementIndex,
    check_energy_settings,
    check_neighbor_norm,
    check_sizes,
    smooth_norm,
    xavier_linear,
)
from .network import Network
from .radial import ExpNormBasis, check_radial_settings, polynomial_envelope
from .registry import register


@dataclass(frozen=True)
class ViSNetConfig:
    """Settings of a ViSNet."""

    elements: tuple[str, ...]
    cutoff: float = 5.0  # Å
    hidden_channels: int = 128
    num_layers: int = 6
    num_heads: int = 8
    num_rbf: int = 32
    lmax: int = 2  # highest order of the spherical harmonics of the directions, 1 or 2
    envelope_exponent: int = 5
    neighbor_norm: float = 1.0  # sums over neighbors are divided by this fixed number
    energy_scale: float = 1.0  # eV
    energy_shift: tuple[float, ...] = field(default=())  # eV per element, in the order of atomic numbers
    variant: str = "smooth"

    def __post_init__(self) -> None:
        elements = element_symbols(self.elements)
        object.__setattr__(self, "elements", elements)
        object.__setattr__(self, "energy_shift", tuple(self.energy_shift) or (0.0,) * len(elements))
        check_radial_settings(self.cutoff, self.num_rbf, self.envelope_exponent)
        check_sizes(hidden_channels=self.hidden_channels, num_layers=self.num_layers, num_heads=self.num_heads)
        check_energy_settings(self.energy_scale, self.energy_shift, elements)
        if self.lmax not in (1, 2):
            raise ModelError(f"lmax is {self.lmax}: ViSNet is defined for 1 and 2")
        if self.hidden_channels % (2 * self.num_heads):
            raise ModelError(
                f"hidden_channels {self.hidden_channels} does not divide into {self.num_heads} heads of even size: "
                "choose a multiple of 2 x num_heads"
            )
        check_neighbor_norm(self.neighbor_norm)
        if self.variant != "smooth":
            raise ModelError(f"unknown ViSNet variant {self.variant!r}: this version has 'smooth'")


def spherical_harmonics(u: Tensor, lmax: int) -> Tensor:
    """Real harmonics of unit vectors (E, 3), each order with norm one: (E, 3) for lmax 1, (E, 8) for lmax 2."""
    if lmax == 1:
        return u
    x, y, z = u.unbind(1)
    root3 = math.sqrt(3)
    second = (root3 * x * z, root3 * x * y, y * y - (x * x + z * z) / 2, root3 * y * z, root3 / 2 * (z * z - x * x))
    return torch.cat([u, torch.stack(second, dim=1)], dim=1)


@dataclass(frozen=True, eq=False)
class _Edges:
    """Edges with the self loops appended (direction 0, distance 0), as the paper's sums have them."""

    center: Tensor  # (E,) i
    neighbor: Tensor  # (E,) j
    envelope: Tensor  # (E, 1) C(r_ij), one on self loops
    radial: Tensor  # (E, num_rbf)
    harmonics: Tensor  # (E, S)


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

    def forward(self, element: Tensor, edges: _Edges) -> tuple[Tensor, Tensor]:
        own = self.atom(element)
        real = len(edges.center) - len(element)  # self loops come last and are no neighbors
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
    w_ij = <p, q> - (2 - |d|^2) <p, d><q, d>, which for lmax 2, where |d|^2 = 2, is <p, q>.  In the first block
    vec is zero, so everything that multiplies it is left out.
    """

    def __init__(self, config: ViSNetConfig, *, first: bool, last: bool) -> None:
        super().__init__()
        channels = config.hidden_channels
        self.heads, self.first, self.last, self.lmax = config.num_heads, first, last, config.lmax
        self.neighbor_norm = config.neighbor_norm
        self.layernorm = nn.LayerNorm(channels)
        self.qkv = xavier_linear(channels, 3 * channels)
        self.has_edge_update = not (first or last)
        self.edge_proj = xavier_linear(channels, (3 if self.has_edge_update else 2) * channels)  # dk, dv, f
        self.s_proj = xavier_linear(channels, (1 if first else 2) * channels)
        self.o_proj = xavier_linear(channels, (1 if first else 3) * channels)
        if not first:
            self.vec_proj = xavier_linear(channels, 3 * channels, bias=False)
        if self.has_edge_update:
            self.w_proj = xavier_linear(channels, 2 * channels, bias=False)  # target, source

    def forward(self, x: Tensor, vec: Tensor | None, f: Tensor, edges: _Edges) -> tuple[Tensor, Tensor, Tensor]:
        projected = silu(self.edge_proj(f)).chunk(3 if self.has_edge_update else 2, dim=1)
        message = self._message(self.layernorm(x), projected[0], projected[1], edges)
        vectors = self._vector_message(message, vec, edges)
        atoms, components, channels = len(x), edges.harmonics.shape[1], x.shape[1]
        sums = x.new_zeros(atoms, channels).index_add(0, edges.center, message) / self.neighbor_norm
        vector_sums = x.new_zeros(atoms, components, channels).index_add(0, edges.center, vectors) / self.neighbor_norm
        if vec is None:
            return x + self.o_proj(sums), vector_sums, f
        o1, o2, o3 = self.o_proj(sums).chunk(3, dim=1)
        v1, v2, v3 = self.vec_proj(vec).chunk(3, dim=2)
        if self.has_edge_update:
            f = f + projected[2] * self._vector_products(vec, edges)
        return x + (v1 * v2).sum(1) * o2 + o3, vec + v3 * o1[:, None, :] + vector_sums, f

    def _message(self, x: Tensor, dk: Tensor, dv: Tensor, edges: _Edges) -> Tensor:
        """a_ij (v_j dv_ij) with a_ij = silu(<q_i, k_j dk_ij>) C(r_ij) per head; (E, H)."""
        q, k, v = self.qkv(x).chunk(3, dim=1)
        logits = q.index_select(0, edges.center) * k.index_select(0, edges.neighbor) * dk
        attention = silu(logits.view(len(dk), self.heads, -1).sum(2)) * edges.envelope
        values = (v.index_select(0, edges.neighbor) * dv).view(len(dk), self.heads, -1)
        messages: Tensor = values * attention[:, :, None]
        return messages.view(len(dk), -1)

    def _vector_message(self, message: Tensor, vec: Tensor | None, edges: _Edges) -> Tensor:
        """(vec_j s1 + d_ij s2) C(r_ij), (E, S, H): the envelope is what keeps the energy continuous at the cutoff."""
        gates = silu(self.s_proj(message)) * edges.envelope
        if vec is None:
            return gates[:, None, :] * edges.harmonics[:, :, None]
        s1, s2 = gates.chunk(2, dim=1)
        return vec.index_select(0, edges.neighbor) * s1[:, None, :] + s2[:, None, :] * edges.harmonics[:, :, None]

    def _vector_products(self, vec: Tensor, edges: _Edges) -> Tensor:
        """w_ij, the inner product of the two rejections, (E, H)."""
        target, source = self.w_proj(vec).chunk(2, dim=2)
        p, q = target.index_select(0, edges.center), source.index_select(0, edges.neighbor)
        products: Tensor = (p * q).sum(1)
        if self.lmax == 1:
            d = edges.harmonics[:, :, None]
            products = products - (p * d).sum(1) * (q * d).sum(1)
        return products


class GatedEquivariantBlock(nn.Module):
    """Gated equivariant non-linearity of the readout (PaiNN, arXiv:2102.03150, Fig. 3), with the smooth norm."""

    def __init__(self, inputs: int, outputs: int, *, last: bool) -> None:
        super().__init__()
        self.last, self.outputs = last, outputs
        self.vec1_proj = xavier_linear(inputs, inputs, bias=False)
        self.update_net = nn.Sequential(
            xavier_linear(2 * inputs, inputs), nn.SiLU(), xavier_linear(inputs, outputs if last else 2 * outputs)
        )
        if not last:
            self.vec2_proj = xavier_linear(inputs, outputs, bias=False)

    def forward(self, x: Tensor, vec: Tensor) -> tuple[Tensor, Tensor]:
        projected = self.vec1_proj(vec)
        t = self.update_net(torch.cat([x, smooth_norm((projected * projected).sum(1))], dim=1))
        if self.last:
            return t, vec
        x, gate = t.chunk(2, dim=1)
        return silu(x), gate[:, None, :] * self.vec2_proj(vec)


@register("visnet", ViSNetConfig)
class ViSNet(Network):
    """Vector-scalar interactive network: smooth at the cutoff, periodic, without any limit of neighbors."""

    def __init__(self, config: ViSNetConfig) -> None:
        super().__init__()
        self.config = config
        self.cutoff = config.cutoff
        self.elements = config.elements
        channels, layers = config.hidden_channels, config.num_layers
        self.element_index = ElementIndex(config.elements)
        self.basis = ExpNormBasis(config.num_rbf, config.cutoff)
        self.embedding = Embedding(config)
        self.blocks = nn.ModuleList(Block(config, first=k == 0, last=k == layers - 1) for k in range(layers))
        self.out_norm = nn.LayerNorm(channels)
        self.head = nn.ModuleList(
            [
                GatedEquivariantBlock(channels, channels // 2, last=False),
                GatedEquivariantBlock(channels // 2, 1, last=True),
            ]
        )
        self.atomic_energies = AtomicEnergies(config.energy_scale, config.energy_shift)

    def forward(self, graph: Graph) -> Tensor:
        """Atomic energies, (N,) eV, float64."""
        element = self.element_index(graph.numbers)
        edges = self._edges(graph)
        x, f = self.embedding(element, edges)
        vec = None
        for block in self.blocks:
            x, vec, f = block(x, vec, f, edges)
        x = self.out_norm(x)
        for block in self.head:
            x, vec = block(x, vec)
        energies: Tensor = self.atomic_energies(x.squeeze(1), element)
        return energies

    def _edges(self, graph: Graph) -> _Edges:
        vectors = graph.edge_vectors().to(self.out_norm.weight.dtype)
        distance = torch.linalg.vector_norm(vectors, dim=1)
        harmonics = spherical_harmonics(vectors / distance[:, None], self.config.lmax)
        loops = torch.arange(len(graph.numbers), device=distance.device)
        zero = distance.new_zeros(len(loops))
        distance = torch.cat([distance, zero])
        envelope = polynomial_envelope(distance, self.cutoff, self.config.envelope_exponent)[:, None]
        return _Edges(
            center=torch.cat([graph.edges[0], loops]),
            neighbor=torch.cat([graph.edges[1], loops]),
            envelope=envelope,
            radial=self.basis(distance) * envelope,
            harmonics=torch.cat([harmonics, harmonics.new_zeros(len(loops), harmonics.shape[1])]),
        )
