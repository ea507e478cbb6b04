"""HVNet of the later, PyG-format version of the original code: PaiNN's layers, one set of weights per element."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from .errors import ModelError
from .graph import Graph
from .hvnet_config import HVNetConfig
from .hvnet_dgl import elements_with_neighbors
from .network import NodeFeatures
from .radial import polynomial_envelope


def scaled_silu(x: Tensor) -> Tensor:
    """silu(x) / 0.6, which keeps the variance of normally distributed inputs near one."""
    return functional.silu(x) / 0.6


def exponential_envelope(distance: Tensor, cutoff: float) -> Tensor:
    """exp(-x^2 / (1 - x^2)) with x = r / rc: one at zero, and zero from the cutoff on with all its derivatives."""
    x = distance / cutoff
    inside = x < 1
    squared = torch.where(inside, x, 0.0) ** 2  # the quotient has a pole at the cutoff, NaN in the gradient there
    return torch.where(inside, torch.exp(-squared / (1 - squared)), 0.0)


class GaussianGrid(nn.Module):
    """Gaussians on an even grid of r / rc from 0 to 1, as wide as their distance."""

    def __init__(self, num_rbf: int, cutoff: float) -> None:
        super().__init__()
        self.cutoff = cutoff
        self.coefficient = -0.5 * (num_rbf - 1) ** 2
        self.register_buffer("offset", torch.linspace(0, 1, num_rbf))  # stored: a file in float32 has them rounded
        self.offset: Tensor

    def forward(self, distance: Tensor) -> Tensor:
        return torch.exp(self.coefficient * (distance[:, None] / self.cutoff - self.offset) ** 2)


class TrainableBessel(nn.Module):
    """sqrt(2 / rc^3) sin(f_k x) / x with x = r / rc and trainable frequencies."""

    def __init__(self, num_rbf: int, cutoff: float) -> None:
        super().__init__()
        self.cutoff = cutoff
        self.frequencies = nn.Parameter(math.pi * torch.arange(1.0, num_rbf + 1))

    def forward(self, distance: Tensor) -> Tensor:
        x = distance[:, None] / self.cutoff
        return math.sqrt(2 / self.cutoff**3) / x * torch.sin(self.frequencies * x)


class Bernstein(nn.Module):
    """Bernstein polynomials in exp(-gamma x), x = r / rc, gamma = softplus(pregamma) trainable (arXiv:2105.00304)."""

    def __init__(self, num_rbf: int, cutoff: float) -> None:
        super().__init__()
        self.cutoff = cutoff
        self.pregamma = nn.Parameter(torch.tensor(0.45264))
        binomials = [float(math.comb(num_rbf - 1, k)) for k in range(num_rbf)]
        self.register_buffer("binomials", torch.tensor(binomials, dtype=torch.float32), persistent=False)
        self.register_buffer("orders", torch.arange(float(num_rbf)), persistent=False)
        self.binomials: Tensor
        self.orders: Tensor

    def forward(self, distance: Tensor) -> Tensor:
        e = torch.exp(-functional.softplus(self.pregamma) * distance[:, None] / self.cutoff)
        return self.binomials * e**self.orders * (1 - e) ** (len(self.orders) - 1 - self.orders)


BASES = {"gaussian": GaussianGrid, "spherical_bessel": TrainableBessel, "bernstein": Bernstein}


@dataclass(frozen=True, eq=False)
class _Edges:
    """The edges into the atoms of one element, and those atoms."""

    atoms: Tensor  # (n,)
    center: Tensor  # (E,) i
    neighbor: Tensor  # (E,) j
    radial: Tensor  # (E, num_rbf) with the envelope
    direction: Tensor  # (E, 3, 1) unit vectors


class PyGSubNetwork(nn.Module):
    """Message and update of PaiNN (arXiv:2102.03150) in the form and with the factors of the original."""

    def __init__(self, channels: int, num_rbf: int) -> None:
        super().__init__()
        self.layernorm = nn.LayerNorm(channels)
        self.x_proj = nn.ModuleList([nn.Linear(channels, channels), nn.Linear(channels, 3 * channels)])
        self.rbf_proj = nn.Linear(num_rbf, 3 * channels)
        self.vec_proj = nn.Linear(channels, 2 * channels, bias=False)
        self.xvec_proj = nn.ModuleList([nn.Linear(2 * channels, channels), nn.Linear(channels, 3 * channels)])

    def forward(self, s: Tensor, v: Tensor, edges: _Edges) -> tuple[Tensor, Tensor]:
        """New s (n, F) and v (n, 3, F) of the atoms of this element."""
        ds, dv = self._message(s, v, edges)
        s, v = (x.index_select(0, edges.atoms) for x in ((s + ds) / math.sqrt(2), v + dv))
        v1, v2 = self.vec_proj(v).chunk(2, dim=2)
        norm = torch.sqrt((v2 * v2).sum(1) + 1e-8)
        p1, p2, p3 = _two_layers(self.xvec_proj, torch.cat([s, norm], dim=1)).chunk(3, dim=1)
        product = (v1 * v2).sum(1) / math.sqrt(s.shape[1])
        return s + (p1 + p2 * product) / math.sqrt(2), v + p3[:, None, :] * v1

    def _message(self, s: Tensor, v: Tensor, edges: _Edges) -> tuple[Tensor, Tensor]:
        phi = _two_layers(self.x_proj, self.layernorm(s)).index_select(0, edges.neighbor)
        scalar, gate, direction = (phi * self.rbf_proj(edges.radial)).chunk(3, dim=1)
        vector = v.index_select(0, edges.neighbor) * (gate / math.sqrt(3))[:, None, :]
        vector = (vector + direction[:, None, :] * edges.direction) / math.sqrt(s.shape[1])
        return (
            torch.zeros_like(s).index_add(0, edges.center, scalar),
            torch.zeros_like(v).index_add(0, edges.center, vector),
        )


def _two_layers(layers: nn.ModuleList, x: Tensor) -> Tensor:
    first, last = layers
    y: Tensor = last(scaled_silu(first(x)))
    return y


class PyGConvolution(nn.Module):
    """One sub-network per element."""

    def __init__(self, config: HVNetConfig) -> None:
        super().__init__()
        self.mods = nn.ModuleDict(
            {element: PyGSubNetwork(config.hidden_channels, config.num_rbf) for element in config.elements}
        )

    def forward(self, s: Tensor, v: Tensor, edges: list[_Edges], alive: Tensor) -> tuple[Tensor, Tensor]:
        """alive (N, 1): one, or zero for atoms of elements without any neighbor in their structure."""
        new_s, new_v = torch.zeros_like(s), torch.zeros_like(v)
        for network, into in zip(self.mods.values(), edges, strict=True):
            scalar, vector = network(s, v, into)
            new_s, new_v = new_s.index_copy(0, into.atoms, scalar), new_v.index_copy(0, into.atoms, vector)
        return alive * new_s, alive[:, :, None] * new_v


class PyGHermNet(nn.Module):
    """The later original network: a readout per atom, then the sum over atoms (or their mean)."""

    def __init__(self, config: HVNetConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.hidden_channels
        self.embed = nn.Embedding(len(config.elements), channels)
        self.basis = BASES[config.radial_basis](config.num_rbf, config.cutoff)
        self.hermconv = nn.ModuleList(PyGConvolution(config) for _ in range(config.num_layers))
        self.readout = nn.ModuleList([nn.Linear(channels, channels // 2), nn.Linear(channels // 2, 1)])

    def forward(self, graph: Graph, element: Tensor) -> Tensor:
        """Shares of the atoms in the network's output, (N,): their own, or if intensive equal ones of the mean."""
        y = _two_layers(self.readout, self.features(graph, element).scalars).squeeze(1)
        if not self.config.intensive:
            return y
        return graph.equal_shares(graph.sum_by_structure(y) / graph.atoms_per_structure)

    def features(self, graph: Graph, element: Tensor) -> NodeFeatures:
        """Scalars (N, F) and vectors (N, 3, F) after the last layer."""
        _refuse_periodic(graph)
        present = elements_with_neighbors(graph, element, graph.edges[0], len(self.config.elements))
        alive = present[graph.batch, element][:, None].to(self.embed.weight.dtype)
        edges = self._edges(graph, element)
        s: Tensor = self.embed(element)
        v = s.new_zeros(len(s), 3, s.shape[1])
        for convolution in self.hermconv:
            s, v = convolution(s, v, edges, alive)
        return NodeFeatures(s, v)

    def _edges(self, graph: Graph, element: Tensor) -> list[_Edges]:
        vectors = graph.edge_vectors().to(self.embed.weight.dtype)
        r = torch.linalg.vector_norm(vectors, dim=1)
        if self.config.envelope == "polynomial":
            envelope = polynomial_envelope(r, self.config.cutoff, self.config.envelope_exponent)
        else:
            envelope = exponential_envelope(r, self.config.cutoff)
        radial, direction = envelope[:, None] * self.basis(r), (vectors / r[:, None])[:, :, None]
        i, j = graph.edges
        relations = []
        for kind in range(len(self.config.elements)):
            mine = (element.index_select(0, i) == kind).nonzero().squeeze(1)
            atoms = (element == kind).nonzero().squeeze(1)
            relations.append(_Edges(atoms, i[mine], j[mine], radial[mine], direction[mine]))
        return relations


def _refuse_periodic(graph: Graph) -> None:
    if bool((graph.shifts != 0).any()):
        raise ModelError(
            "a structure has neighbors across a periodic boundary, and this network (HVNet variant 'pyg') knows no "
            "periodic cells: the original takes x_j - x_i - shift @ cell for the vector to a neighbor in another "
            "cell, where x_j - x_i + shift @ cell is right, so that its distances there belong to no pair of atoms. "
            "Use it for molecules without a cell, or train a variant 'smooth' network"
        )
