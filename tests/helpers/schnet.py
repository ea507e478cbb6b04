"""A third architecture as its author would write it: one file, one line that registers it.

A small SchNet (Schütt et al., J. Chem. Phys. 148, 241722 (2018)) with a smooth envelope.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from mlcalc.models import Graph, Network, registry
from mlcalc.models.layers import AtomicEnergies, ElementIndex, shifted_softplus
from mlcalc.models.network import NodeFeatures
from mlcalc.models.radial import polynomial_envelope


@dataclass(frozen=True)
class SchNetConfig:
    """Settings of a SchNet."""

    elements: tuple[str, ...]
    cutoff: float = 5.0  # Å
    hidden_channels: int = 16
    num_layers: int = 2
    num_rbf: int = 8
    energy_scale: float = 1.0  # eV
    energy_shift: tuple[float, ...] = ()  # eV per element

    def __post_init__(self) -> None:
        if not self.energy_shift:
            object.__setattr__(self, "energy_shift", (0.0,) * len(self.elements))


class SchNet(Network):
    """Continuous-filter convolutions of distances, read out per atom."""

    def __init__(self, config: SchNetConfig) -> None:
        super().__init__()
        self.config, self.cutoff, self.elements = config, config.cutoff, config.elements
        channels = config.hidden_channels
        self.element_index = ElementIndex(config.elements)
        self.embed = nn.Embedding(len(config.elements), channels)
        self.filters = nn.ModuleList(nn.Linear(config.num_rbf, channels) for _ in range(config.num_layers))
        self.updates = nn.ModuleList(nn.Linear(channels, channels) for _ in range(config.num_layers))
        self.readout = nn.Linear(channels, 1)
        self.atomic_energies = AtomicEnergies(config.energy_scale, config.energy_shift)
        self.register_buffer("centers", torch.linspace(0.5, config.cutoff, config.num_rbf), persistent=False)

    @property
    def receptive_layers(self) -> int:
        """One message in each layer."""
        return self.config.num_layers

    def forward(self, graph: Graph) -> Tensor:
        """Atomic energies, (N,) eV."""
        y = self.readout(self.node_features(graph).scalars).squeeze(1)
        energies: Tensor = self.atomic_energies(y, self.element_index(graph.numbers))
        return energies

    def node_features(self, graph: Graph) -> NodeFeatures:
        """Scalars (N, F) after the last layer."""
        i, j = graph.edges
        distance = torch.linalg.vector_norm(graph.edge_vectors().to(self.centers.dtype), dim=1)
        envelope = polynomial_envelope(distance, self.cutoff, 5)[:, None]
        radial = torch.exp(-2.0 * (distance[:, None] - self.centers) ** 2)
        x: Tensor = self.embed(self.element_index(graph.numbers))
        for filter_, update in zip(self.filters, self.updates, strict=True):
            messages = envelope * filter_(radial) * x.index_select(0, j)
            x = x + update(shifted_softplus(torch.zeros_like(x).index_add(0, i, messages)))
        return NodeFeatures(x, None)


@contextmanager
def registered() -> Iterator[None]:
    """Within it SchNet is an architecture as any other; other tests never see it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_ARCHITECTURES", dict(registry._ARCHITECTURES))
        registry.register("schnet", SchNetConfig)(SchNet)
        yield
