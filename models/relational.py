"""What HPNet and HTNet share: atoms by element, edges by pair of elements, and the frame of the network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .errors import ModelError
from .graph import Graph
from .hvnet_config import HVNetConfig
from .layers import AtomicEnergies, ElementIndex, xavier_linear
from .network import Network, NodeFeatures
from .radial import BesselBasis, polynomial_envelope

Vectors = list[Tensor] | None  # (n, 3, F) of each element; None where they are zero everywhere


@dataclass(frozen=True, eq=False)
class Pair:
    """The edges from atoms of one element (sources) to atoms of another, or the same (centers)."""

    centers: int  # number of atoms of the center's element
    source: Tensor  # (E,) place of j among the atoms of its element
    center: Tensor  # (E,) place of i among the atoms of its element
    weight: Tensor  # (E, 1) envelope c_ij
    radial: Tensor  # (E, num_rbf + 1) c_ij [e_ij, 1]
    direction: Tensor  # (E, 3, 1) unit vectors u_ij

    def __len__(self) -> int:
        return len(self.source)

    def sum(self, values: Tensor) -> Tensor:
        """Sums of edge values (E, ...) at the centers, (n, ...)."""
        return values.new_zeros(self.centers, *values.shape[1:]).index_add(0, self.center, values)

    def weighted_sum(self, values: Tensor) -> Tensor:
        """sum_j c_ij X_j of values (m, ...) of the sources' element, (n, ...)."""
        weight = self.weight.view(-1, *[1] * (values.dim() - 1))
        return self.sum(weight * values.index_select(0, self.source))


@dataclass(frozen=True, eq=False)
class Relations:
    """A graph taken apart by elements."""

    atoms: list[Tensor]  # atoms of each element
    pairs: dict[tuple[int, int], Pair]  # by elements of source and center


def check_relational(config: HVNetConfig, network: str) -> None:
    """Refuse settings that exist for HVNet only."""
    if config.variant != "smooth":
        raise ModelError(
            f"unknown {network} variant {config.variant!r}: it has 'smooth' only, there being no published weights"
        )
    if config.sub_network != "rmconv":
        raise ModelError(
            f"sub_network {config.sub_network!r} is a choice of HVNet: {network} has its own (leave it at 'rmconv')"
        )


class RelationalConvolution(nn.Module, ABC):
    """One layer; states are lists by element, of scalars (n, F) and vectors."""

    @abstractmethod
    def __init__(self, config: HVNetConfig) -> None:
        super().__init__()

    @abstractmethod
    def forward(self, s: list[Tensor], v: Vectors, near: Relations) -> tuple[list[Tensor], Vectors]:
        """The states after the layer."""


class RelationalNetwork(Network, ABC):
    """Embedding, layers, readout per atom and sum over atoms, as in the smooth HVNet."""

    @abstractmethod
    def __init__(self, config: HVNetConfig, layers: list[RelationalConvolution]) -> None:
        super().__init__()
        self.config = config
        self.cutoff = config.cutoff
        self.elements = config.elements
        channels = config.hidden_channels
        self.element_index = ElementIndex(config.elements)
        self.embed = nn.Embedding(len(config.elements), channels)
        self.basis = BesselBasis(config.num_rbf, config.cutoff)
        self.hermconv = nn.ModuleList(layers)
        self.readout = nn.Sequential(xavier_linear(channels, channels), nn.SiLU(), xavier_linear(channels, 1))
        self.atomic_energies = AtomicEnergies(config.energy_scale, config.energy_shift)

    def forward(self, graph: Graph) -> Tensor:
        """Atomic energies, (N,) eV, float64."""
        element = self.element_index(graph.numbers)
        y = self.readout(self._features(graph, element).scalars).squeeze(1)
        energies: Tensor = self.atomic_energies(y, element)
        return energies

    def node_features(self, graph: Graph) -> NodeFeatures:
        """Scalars (N, F) after the last layer and, where the network has directions, vectors (N, 3, F)."""
        return self._features(graph, self.element_index(graph.numbers))

    def _features(self, graph: Graph, element: Tensor) -> NodeFeatures:
        near = self._relations(graph, element)
        embedded: Tensor = self.embed(element)
        s, v = [embedded.index_select(0, atoms) for atoms in near.atoms], None
        for convolution in self.hermconv:
            s, v = convolution(s, v, near)
        back = torch.argsort(torch.cat(near.atoms))
        return NodeFeatures(torch.cat(s)[back], None if v is None else torch.cat(v)[back])

    def _relations(self, graph: Graph, element: Tensor) -> Relations:
        kinds = len(self.elements)
        atoms = [(element == kind).nonzero().squeeze(1) for kind in range(kinds)]
        place = torch.empty_like(element)
        for mine in atoms:
            place[mine] = torch.arange(len(mine), device=place.device)
        i, j = graph.edges
        relation = element.index_select(0, j) * kinds + element.index_select(0, i)
        order = torch.argsort(relation, stable=True)
        parts = [place[j], place[i], *self._edge_functions(graph)]
        sizes = torch.bincount(relation, minlength=kinds * kinds).tolist()
        split = [part[order].split(sizes) for part in parts]
        pairs = {
            divmod(k, kinds): Pair(len(atoms[k % kinds]), *(part[k] for part in split)) for k in range(kinds * kinds)
        }
        return Relations(atoms, pairs)

    def _edge_functions(self, graph: Graph) -> tuple[Tensor, Tensor, Tensor]:
        vectors = graph.edge_vectors().to(self.embed.weight.dtype)
        distance = torch.linalg.vector_norm(vectors, dim=1)
        weight = polynomial_envelope(distance, self.cutoff, self.config.envelope_exponent)[:, None]
        radial = weight * torch.cat([self.basis(distance), torch.ones_like(weight)], dim=1)
        return weight, radial, (vectors / distance[:, None])[:, :, None]
