"""HVNet as its authors published it with pretrained weights (their DGL code), with all its constants."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .graph import Graph
from .hvnet_config import HVNetConfig
from .layers import shifted_softplus
from .network import NodeFeatures

EPS = 1e-5  # added under every root and in every quotient of the original


@dataclass(frozen=True, eq=False)
class _Edges:
    """What all layers need of the edges, or of those into the atoms of one element."""

    center: Tensor  # (E,) i
    neighbor: Tensor  # (E,) j
    weight: Tensor  # (E, 1) cosine c_ij
    radial: Tensor  # (E, num_rbf)
    direction: Tensor  # (E, 3, 1), not exactly of length one
    count: Tensor  # (N, 1) neighbors, at least 1

    def of(self, kept: Tensor) -> _Edges:
        center, neighbor, weight, radial, direction = (
            x[kept] for x in (self.center, self.neighbor, self.weight, self.radial, self.direction)
        )
        return _Edges(center, neighbor, weight, radial, direction, self.count)

    def sum(self, values: Tensor) -> Tensor:
        """Sums of edge values (E, ...) over the neighbors, (N, ...)."""
        return values.new_zeros(len(self.count), *values.shape[1:]).index_add(0, self.center, values)


def nearest_images(graph: Graph) -> Tensor:
    """Indices of the edges that the original keeps: of each ordered pair the shortest, none of an atom to itself.

    Among images at the same distance the first edge counts; the original leaves it to rounding.
    """
    i, j = graph.edges
    squared = graph.edge_vectors().detach().square().sum(1)
    order = torch.argsort(squared, stable=True)
    pair = (i * len(graph.numbers) + j)[order]
    by_pair = torch.argsort(pair, stable=True)
    order, pair = order[by_pair], pair[by_pair]
    first = torch.ones_like(pair, dtype=torch.bool)
    first[1:] = pair[1:] != pair[:-1]
    chosen = order[first & (i != j)[order]]
    return chosen.sort().values


def elements_with_neighbors(graph: Graph, element: Tensor, center: Tensor, elements: int) -> Tensor:
    """Which elements have at least one edge, in each structure, (S, elements) bool."""
    row = graph.batch.index_select(0, center) * elements + element.index_select(0, center)
    found = torch.zeros(graph.n_structures * elements, dtype=torch.bool, device=center.device)
    return found.index_fill(0, row, True).view(-1, elements)


class DGLSubNetwork(nn.Module):
    """RMConv of the original (Fig. 3a): sums of radial messages, plain means of angular ones."""

    def __init__(self, channels: int, num_rbf: int) -> None:
        super().__init__()
        self.ms1 = nn.Linear(channels, channels)
        self.ms2 = nn.Linear(channels, 3 * channels)
        self.mv = nn.Linear(num_rbf, 3 * channels)
        self.us1 = nn.Linear(2 * channels, channels)
        self.us2 = nn.Linear(channels, 3 * channels)

    def forward(self, s: Tensor, v: Tensor, edges: _Edges) -> tuple[Tensor, Tensor]:
        """Changes of s (N, F) and v (N, 3, F); zero but on the centers of the edges."""
        ds, dv = self._radial(s, v, edges)
        S, V = s + ds, v + dv  # sources of other elements have no edges here: they keep their old state
        norms = torch.sqrt((V * V).sum(1) + EPS)
        t = self.us2(shifted_softplus(self.us1(torch.cat([norms, S], dim=1))))
        U = edges.sum(V.index_select(0, edges.neighbor)) / edges.count[:, :, None]
        a_vv, a_sv, a_ss = (edges.sum(t.index_select(0, edges.neighbor)) / edges.count).chunk(3, dim=1)
        q = (U * U).sum(1)
        return ds + a_sv * q / (q + EPS) + a_ss, dv + U * a_vv[:, None, :]

    def _radial(self, s: Tensor, v: Tensor, edges: _Edges) -> tuple[Tensor, Tensor]:
        phi = self.ms2(shifted_softplus(self.ms1(s))).index_select(0, edges.neighbor)
        gate, scalar, direction = (phi * (edges.weight * self.mv(edges.radial))).chunk(3, dim=1)
        vector = gate[:, None, :] * v.index_select(0, edges.neighbor) + direction[:, None, :] * edges.direction
        return edges.sum(scalar), edges.sum(vector)


class DGLConvolution(nn.Module):
    """One sub-network per element, combined by the mean (or sum) of the states that each of them leaves behind."""

    def __init__(self, config: HVNetConfig) -> None:
        super().__init__()
        self.mods = nn.ModuleDict(
            {element: DGLSubNetwork(config.hidden_channels, config.num_rbf) for element in config.elements}
        )

    def forward(self, s: Tensor, v: Tensor, edges: list[_Edges], kept: Tensor, taken: Tensor) -> tuple[Tensor, Tensor]:
        """kept and taken (N, 1): factors of the old state and of the changes."""
        ds, dv = torch.zeros_like(s), torch.zeros_like(v)
        for network, into in zip(self.mods.values(), edges, strict=True):
            scalar, vector = network(s, v, into)
            ds, dv = ds + scalar, dv + vector
        return kept * s + taken * ds, kept[:, :, None] * v + taken[:, :, None] * dv


class DGLHermNet(nn.Module):
    """The original network: energy of a structure from pooled features, so not a sum over its atoms.

    The number of elements is counted in each structure of a batch, where the original counts in the whole batch.
    """

    def __init__(self, config: HVNetConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.hidden_channels
        self.embed = nn.Embedding(len(config.elements), channels)
        self.hermconv = nn.ModuleList(DGLConvolution(config) for _ in range(config.num_layers))
        self.readout = nn.ModuleList([nn.Linear(channels, channels), nn.Linear(channels, 1)])
        self.register_buffer("orders", torch.arange(1.0, config.num_rbf + 1), persistent=False)
        self.orders: Tensor

    def forward(self, graph: Graph, element: Tensor) -> Tensor:
        """Equal shares of the atoms in the output for their structure, (N,) float64, without any shift."""
        s = self.features(graph, element).scalars
        pooled = graph.sum_by_structure(s)
        atoms = graph.atoms_per_structure[:, None].to(pooled)
        n_ref = self.config.n_ref
        if self.config.intensive:
            pooled = pooled / atoms
        if n_ref is not None:
            pooled = pooled * (n_ref / atoms)
        first, last = self.readout
        y: Tensor = last(shifted_softplus(first(pooled.to(s.dtype)))).to(torch.float64)
        shares = y / (atoms if n_ref is None else n_ref)
        return shares.squeeze(1).index_select(0, graph.batch)

    def features(self, graph: Graph, element: Tensor) -> NodeFeatures:
        """Scalars (N, F) and vectors (N, 3, F) after the last layer."""
        edges = self.edges(graph)
        kept, taken = self._factors(graph, element, edges.center)
        centers = element.index_select(0, edges.center)
        relations = [edges.of((centers == kind).nonzero().squeeze(1)) for kind in range(len(self.config.elements))]
        s: Tensor = self.embed(element)
        v = s.new_zeros(len(s), 3, s.shape[1])
        for convolution in self.hermconv:
            s, v = convolution(s, v, relations, kept, taken)
        return NodeFeatures(s, v)

    def edges(self, graph: Graph) -> _Edges:
        """The edges that count, with their radial functions."""
        i, j = graph.edges
        vectors = graph.edge_vectors()
        if self.config.legacy_mic:
            nearest = nearest_images(graph)
            i, j, vectors = i[nearest], j[nearest], vectors[nearest]
        vectors, cutoff = vectors.to(self.embed.weight.dtype), self.config.cutoff
        r = torch.sqrt(vectors.square().sum(1, keepdim=True) + EPS)
        rho = torch.sqrt(r * r + EPS)
        return _Edges(
            center=i,
            neighbor=j,
            weight=0.5 * (torch.cos((r + EPS) * (math.pi / cutoff)) + 1),
            radial=torch.sin(rho * self.orders * (math.pi / cutoff)) / rho,
            direction=(vectors / r)[:, :, None],
            count=torch.bincount(i, minlength=len(graph.numbers)).clamp(min=1)[:, None].to(r),
        )

    def _factors(self, graph: Graph, element: Tensor, center: Tensor) -> tuple[Tensor, Tensor]:
        present = elements_with_neighbors(graph, element, center, len(self.config.elements))
        number = present.sum(1).clamp(min=1).to(self.embed.weight.dtype)
        if self.config.n_relations is not None:
            number = torch.full_like(number, self.config.n_relations)
        number = number.index_select(0, graph.batch)[:, None]
        one = torch.ones_like(number)
        return (number, one) if self.config.aggregation == "sum" else (one, 1 / number)
