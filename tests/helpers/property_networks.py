"""Networks that are no smooth potentials, small enough to know their numbers by heart."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from mlcalc.models import Graph, Network, register, registry
from mlcalc.models.network import NodeFeatures

MASSES = {"H": 1.008, "C": 12.011, "O": 15.999}  # amu, as in ASE


@dataclass(frozen=True)
class TinyConfig:
    """Settings of the networks below."""

    elements: tuple[str, ...] = ("H", "C", "O")
    cutoff: float = 2.0  # Å
    energy_shift: tuple[float, ...] = field(default=(0.0, 0.0, 0.0))
    quantity: str = "energy"
    legacy_mic: bool = False
    max_num_neighbors: int | None = None
    trained_max_num_neighbors: int | None = None


class Tiny(Network):
    """Each atom counts its neighbors within the cutoff, times a weight: an energy, or a charge."""

    def __init__(self, config: TinyConfig) -> None:
        super().__init__()
        self.config, self.cutoff, self.elements = config, config.cutoff, config.elements
        self.quantity = config.quantity
        self.weight = torch.nn.Parameter(torch.tensor(0.25))

    def charges(self, graph: Graph) -> Tensor:
        """(N,) number of neighbors times the weight."""
        ones = torch.ones(graph.edges.shape[1], dtype=torch.float64)
        return torch.zeros(len(graph.numbers), dtype=torch.float64).index_add(0, graph.edges[0], ones * self.weight)

    def forward(self, graph: Graph) -> Tensor:
        return self.charges(graph) + 0.0 * graph.positions.sum(1)

    def properties(self, graph: Graph) -> dict[str, Tensor]:
        charges = self.charges(graph)
        mass = torch.tensor([{1: 1.008, 6: 12.011, 8: 15.999}[int(z)] for z in graph.numbers], dtype=torch.float64)
        center = graph.sum_by_structure(mass[:, None] * graph.positions) / graph.sum_by_structure(mass)[:, None]
        away = graph.positions - center.index_select(0, graph.batch)
        if self.quantity == "dipole":
            return {"dipole": graph.sum_by_structure(charges[:, None] * away)}
        if self.quantity == "electronic_spatial_extent":
            return {"electronic_spatial_extent": graph.sum_by_structure(charges * away.square().sum(1))}
        if self.quantity == "vector":
            i, j = graph.edges
            return {"vector": graph.sum_by_structure(torch.zeros_like(away).index_add(0, i, away[j].abs()))}
        return {"scalar": graph.sum_by_structure(charges)}

    def node_features(self, graph: Graph) -> NodeFeatures:
        """Sums of the edge vectors, and of twice them, over the neighbors."""
        sums = graph.positions.new_zeros(len(graph.numbers), 3).index_add(0, graph.edges[0], graph.edge_vectors())
        return NodeFeatures(self.charges(graph)[:, None], torch.stack([sums, 2 * sums], dim=2))


class Pooled(Tiny):
    """The energy is a square of the sum: no sum over atoms, given as equal shares."""

    has_atomic_energies = False

    def forward(self, graph: Graph) -> Tensor:
        total = graph.sum_by_structure(super().forward(graph)).square()
        return (total / torch.bincount(graph.batch)).index_select(0, graph.batch)


class MoleculesOnly(Tiny):
    """Knows no periodic images."""

    periodic = False


class Jumping(Tiny):
    """Says of itself that its energy jumps, as a sum over neighbors without an envelope does."""

    energy_jumps = True


class Scalars(Tiny):
    """Has no directions."""

    def node_features(self, graph: Graph) -> NodeFeatures:
        return NodeFeatures(self.charges(graph)[:, None], None)


NETWORKS = {"tiny": Tiny, "pooled": Pooled, "molecules": MoleculesOnly, "jumping": Jumping, "scalars": Scalars}


@contextmanager
def registered() -> Iterator[None]:
    """Within it these networks can be saved and loaded; other tests never see them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_ARCHITECTURES", dict(registry._ARCHITECTURES))
        for kind, network in NETWORKS.items():
            register(kind, TinyConfig)(network)
        yield
