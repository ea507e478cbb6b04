"""HVNet: one relational sub-network per element (Wang et al., npj Comput. Mater. 8, 53 (2022), Figs. 2b and 3)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .graph import Graph
from .hvnet_config import HVNetConfig
from .hvnet_conventions import caveats, conventions
from .hvnet_dgl import DGLHermNet
from .hvnet_pyg import PyGHermNet
from .hvnet_subnetworks import SUB_NETWORKS, Neighborhood, SubNetwork, weight_matrix
from .layers import AtomicEnergies, ElementIndex, xavier_linear
from .network import Network, NodeFeatures
from .radial import BesselBasis, polynomial_envelope
from .registry import register


class RelationalConvolution(nn.Module):
    """One sub-network per element; each atom is updated by that of its own element, with a fixed weight of one."""

    def __init__(self, config: HVNetConfig) -> None:
        super().__init__()
        make = SUB_NETWORKS[config.sub_network]
        self.mods = nn.ModuleDict(
            {element: make(config.hidden_channels, config.num_rbf, config.neighbor_norm) for element in config.elements}
        )

    def forward(self, s: Tensor, v: Tensor | None, near: list[Neighborhood]) -> tuple[Tensor, Tensor]:
        networks: list[SubNetwork] = list(self.mods.values())  # type: ignore[arg-type]
        ds, dv = _combine([network.radial(s, v, hood) for network, hood in zip(networks, near, strict=True)])
        s, v = s + ds, dv if v is None else v + dv
        changes = [network.angular(s, v, hood) for network, hood in zip(networks, near, strict=True)]
        ds, dv = _combine([_placed(change, hood.atoms, len(s)) for change, hood in zip(changes, near, strict=True)])
        return s + ds, v + dv


def _combine(parts: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    ds, dv = parts[0]
    for scalar, vector in parts[1:]:
        ds, dv = ds + scalar, dv + vector
    return ds, dv


def _placed(change: tuple[Tensor, Tensor], atoms: Tensor | None, total: int) -> tuple[Tensor, Tensor]:
    if atoms is None:
        return change
    ds, dv = (x.new_zeros(total, *x.shape[1:]).index_copy(0, atoms, x) for x in change)
    return ds, dv


@register("hvnet", HVNetConfig)
class HVNet(Network):
    """Heterogeneous-vertex network: smooth, size-extensive, per-atom readout, any periodic cell.

    The variants "dgl" and "pyg" are the published networks instead, for their checkpoints: what they lack of that is
    said by `conventions` and `caveats`.
    """

    original: DGLHermNet | PyGHermNet | None

    def __init__(self, config: HVNetConfig) -> None:
        super().__init__()
        self.config = config
        self.cutoff = config.cutoff
        self.elements = config.elements
        self.structure_shift = config.structure_shift
        self.element_index = ElementIndex(config.elements)
        self.atomic_energies = AtomicEnergies(config.energy_scale, config.energy_shift)
        if config.variant == "smooth":
            self.original = None
            self._build(config)
        else:
            self.original = DGLHermNet(config) if config.variant == "dgl" else PyGHermNet(config)
            if config.variant == "dgl":  # whose neighbors include those at exactly the cutoff
                self.cutoff = math.nextafter(config.cutoff, math.inf)
            self.has_atomic_energies = config.variant == "pyg" and not config.intensive
            self.energy_jumps = True
            self.periodic = config.variant == "dgl"

    def _build(self, config: HVNetConfig) -> None:
        channels = config.hidden_channels
        self.embed = nn.Embedding(len(config.elements), channels)
        self.basis = BesselBasis(config.num_rbf, config.cutoff)
        self.hermconv = nn.ModuleList(RelationalConvolution(config) for _ in range(config.num_layers))
        self.readout = nn.Sequential(xavier_linear(channels, channels), nn.SiLU(), xavier_linear(channels, 1))

    def forward(self, graph: Graph) -> Tensor:
        """Atomic energies, (N,) eV, float64, without structure_shift; of a pooled energy, its equal shares."""
        element = self.element_index(graph.numbers)
        if self.original is None:
            y = self.readout(self._features(graph, element).scalars).squeeze(1)
        else:
            y = self.original(graph, element)
        energies: Tensor = self.atomic_energies(y, element)
        return energies

    @property
    def receptive_layers(self) -> int | str:
        """A layer sends radial and angular messages, of PaiNN radial ones only."""
        if self.config.variant != "smooth":
            return (
                f"in the variant {self.config.variant!r} of HVNet atoms depend on which elements are in the structure"
            )
        return int(self.config.num_layers) * (1 if self.config.sub_network == "painn" else 2)

    def node_features(self, graph: Graph) -> NodeFeatures:
        """Scalars (N, F) and vectors (N, 3, F) after the last layer."""
        element = self.element_index(graph.numbers)
        return self._features(graph, element) if self.original is None else self.original.features(graph, element)

    def neighbor_rule(self) -> str:
        return "of these the nearest image of each pair only" if self.config.legacy_mic else ""

    def conventions(self) -> tuple[str, ...]:
        return conventions(self.config)

    def caveats(self) -> tuple[str, ...]:
        return caveats(self.config)

    def _features(self, graph: Graph, element: Tensor) -> NodeFeatures:
        s, v = self.embed(element), None
        near = self._neighborhoods(graph, element)
        for convolution in self.hermconv:
            s, v = convolution(s, v, near)
        return NodeFeatures(s, v)

    def _neighborhoods(self, graph: Graph, element: Tensor) -> list[Neighborhood]:
        vectors = graph.edge_vectors().to(self.embed.weight.dtype)
        distance = torch.linalg.vector_norm(vectors, dim=1)
        weight = polynomial_envelope(distance, self.cutoff, self.config.envelope_exponent)[:, None]
        radial = weight * torch.cat([self.basis(distance), torch.ones_like(weight)], dim=1)
        direction = (vectors / distance[:, None])[:, :, None]
        i, j = graph.edges
        atoms = len(graph.numbers)
        mean_norm = 1 / weight.new_ones(atoms, 1).index_add(0, i, weight)
        if len(self.elements) == 1:
            matrix = weight_matrix(weight, i, j, atoms)
            return [Neighborhood(None, i, j, weight, radial, direction, mean_norm, matrix)]
        hoods = []
        for kind in range(len(self.elements)):
            mine = (element.index_select(0, i) == kind).nonzero().squeeze(1)
            hoods.append(
                Neighborhood(
                    atoms=(element == kind).nonzero().squeeze(1),
                    center=i[mine],
                    neighbor=j[mine],
                    weight=weight[mine],
                    radial=radial[mine],
                    direction=direction[mine],
                    mean_norm=mean_norm,
                    weights=weight_matrix(weight[mine], i[mine], j[mine], atoms),
                )
            )
        return hoods
