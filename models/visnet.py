"""ViSNet (Wang et al., Nat. Commun. 15, 313 (2024), arXiv:2210.16518), smooth and size-extensive, or as published."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .errors import ModelError
from .graph import Graph, first_sources
from .layers import AtomicEnergies, ElementIndex, plain_norm, smooth_norm
from .network import Network, NodeFeatures
from .radial import ExpNormBasis, GaussianBasis, cosine_cutoff, polynomial_envelope
from .registry import register
from .visnet_config import ViSNetConfig
from .visnet_conventions import caveats, conventions
from .visnet_heads import GatedReadout, ScalarReadout
from .visnet_layers import Block, Edges, Embedding, VectorNorm, spherical_harmonics

__all__ = ["ViSNet", "ViSNetConfig", "spherical_harmonics"]


@register("visnet", ViSNetConfig)
class ViSNet(Network):
    """Vector-scalar interactive network, of an energy or of another property.

    The smooth variant is continuous at the cutoff and size-extensive; the original one gives the numbers of the
    published codes.  Both know periodic images and have no limit of neighbors unless one is set.
    """

    def __init__(self, config: ViSNetConfig) -> None:
        super().__init__()
        self.config = config
        self.cutoff = config.cutoff
        self.elements = config.elements
        self.quantity = config.quantity
        self.unit = config.unit
        self.smooth = config.variant == "smooth"
        self.energy_jumps = not self.smooth
        self.structure_shift = config.structure_shift
        self.has_atomic_energies = config.reduce == "add"
        channels, layers = config.hidden_channels, config.num_layers
        self.element_index = ElementIndex(config.elements)
        basis = ExpNormBasis if config.rbf_type == "expnorm" else GaussianBasis
        self.basis = basis(config.num_rbf, config.cutoff, trainable=config.trainable_rbf)
        self.embedding = Embedding(config)
        self.blocks = nn.ModuleList(Block(config, first=k == 0, last=k == layers - 1) for k in range(layers))
        self.out_norm = nn.LayerNorm(channels)
        self.reads_vectors = config.head != "electronic_spatial_extent"
        self.vec_out_norm = VectorNorm(config)
        if self.reads_vectors:
            self.head: nn.Module = GatedReadout(config, smooth_norm if self.smooth else plain_norm)
        else:
            self.head = ScalarReadout(config)
        self.atomic_energies = AtomicEnergies(config.energy_scale, config.energy_shift)
        self.register_buffer("masses", torch.tensor(config.masses, dtype=torch.float64), persistent=False)
        self.masses: Tensor

    def forward(self, graph: Graph) -> Tensor:
        """Atomic energies, (N,) eV, float64, without structure_shift; of a mean over atoms, its equal shares."""
        if self.quantity != "energy":
            raise ModelError(
                f"this model predicts {self.quantity}, not the energy: it is no potential. Ask predict for it"
            )
        element = self.element_index(graph.numbers)
        return self.energies_of(self._readout(graph, element)[0], element, graph)

    def energies_of(self, y: Tensor, element: Tensor, graph: Graph) -> Tensor:
        """Atomic energies, (N,) eV, float64, from what the readout gives for atoms of these elements."""
        energies: Tensor = self.atomic_energies(y, element)
        if self.config.reduce == "mean":
            energies = graph.equal_shares(self._sum(energies, graph))
        return energies

    def properties(self, graph: Graph) -> dict[str, Tensor]:
        """The quantity of a network that is no potential, in the unit of its energy_scale.

        dipole: sum_i x_i (r_i - r_com) + v_i (Eq. 21), (S, 3), and as `scalar` its length; electronic_spatial_extent:
        sum_i x_i |r_i - r_com|^2 (Eq. 22), (S,); vector: sum_i v_i, (S, 3); any other quantity as `scalar`, (S,).
        """
        config, element = self.config, self.element_index(graph.numbers)
        x, vectors = self._readout(graph, element)
        if self.quantity == "dipole":
            y = config.energy_scale * (x[:, None] * self._from_center(graph, element) + vectors)
            dipole = self._sum(y, graph)
            return {"dipole": dipole, "scalar": plain_norm((dipole * dipole).sum(1)) + config.structure_shift}
        if self.quantity == "electronic_spatial_extent":
            y = config.energy_scale * x * self._from_center(graph, element).square().sum(1)
            extent = self._sum(y, graph) + config.structure_shift
            return {"electronic_spatial_extent": extent, "scalar": extent}
        if self.quantity == "vector":
            return {"vector": self._sum(config.energy_scale * vectors, graph) + config.structure_shift}
        return {"scalar": self._sum(self.atomic_energies(x, element), graph) + config.structure_shift}

    def node_features(self, graph: Graph) -> NodeFeatures:
        """Scalars (N, F) and vectors (N, S, F) of the atoms after the last layer and its normalization."""
        element = self.element_index(graph.numbers)
        edges = self._edges(graph)
        x, f = self.embedding(element, edges)
        vec = None
        for block in self.blocks:
            x, vec, f = block(x, vec, f, edges)
        return NodeFeatures(self.out_norm(x), self.vec_out_norm(vec))

    @property
    def receptive_layers(self) -> int:
        """One message in each block, and one in the embedding."""
        return int(self.config.num_layers) + 1

    def neighbor_rule(self) -> str:
        """Which of the edges of the full list it uses; empty for all of them."""
        limit = self.config.max_num_neighbors
        return "" if limit is None else f"of these the first {limit} sources by index, the atom itself included"

    def conventions(self) -> tuple[str, ...]:
        """How its numbers come about, where that differs from the smooth variant."""
        return conventions(self.config)

    def caveats(self) -> tuple[str, ...]:
        """What is unphysical about its numbers."""
        return caveats(self.config)

    def _readout(self, graph: Graph, element: Tensor) -> tuple[Tensor, Tensor]:
        """Scalar (N,) and vector (N, 3) of each atom, float64; the vector only where the head has one."""
        features = self.node_features(graph)
        if not self.reads_vectors:
            return self.head(features.scalars).squeeze(1).to(torch.float64), graph.positions
        vec = features.vectors
        if vec is not None and self.quantity == "dipole":
            vec = vec[:, :3]
        x, vectors = self.head(features.scalars, vec)
        return x[:, 0].to(torch.float64), vectors[:, :3, 0].to(torch.float64)

    def _from_center(self, graph: Graph, element: Tensor) -> Tensor:
        """Positions relative to the center of mass of their structure, (N, 3) Å."""
        if bool((graph.shifts != 0).any()):
            raise ModelError(
                f"{self.quantity} refers to the center of mass of a molecule, and this structure has bonds across the "
                "boundary of a periodic cell: give the whole molecule without periodicity"
            )
        mass = self.masses.to(torch.float64).index_select(0, element)[:, None]
        center = graph.sum_by_structure(mass * graph.positions) / graph.sum_by_structure(mass)
        return graph.positions - center.index_select(0, graph.batch)

    def _sum(self, values: Tensor, graph: Graph) -> Tensor:
        sums = graph.sum_by_structure(values)
        if self.config.reduce == "mean":
            atoms = graph.atoms_per_structure
            sums = sums / (atoms if sums.ndim == 1 else atoms[:, None])
        return sums

    def _edges(self, graph: Graph) -> Edges:
        graph, loops = self.limited(graph)
        vectors = graph.edge_vectors().to(self.out_norm.weight.dtype)
        distance = torch.linalg.vector_norm(vectors, dim=1)
        harmonics = spherical_harmonics(vectors / distance[:, None], self.config.lmax)
        zero = distance.new_zeros(len(loops))
        distance = torch.cat([distance, zero])
        if self.smooth:
            envelope = polynomial_envelope(distance, self.cutoff, self.config.envelope_exponent)[:, None]
        else:
            envelope = cosine_cutoff(distance, self.cutoff)[:, None]
        radial = self.basis(distance)
        return Edges(
            center=torch.cat([graph.edges[0], loops]),
            neighbor=torch.cat([graph.edges[1], loops]),
            envelope=envelope,
            radial=radial * envelope if self.smooth or self.config.rbf_type == "expnorm" else radial,
            harmonics=torch.cat([harmonics, harmonics.new_zeros(len(loops), harmonics.shape[1])]),
            loops=len(loops),
        )

    def limited(self, graph: Graph) -> tuple[Graph, Tensor]:
        """The graph and its self loops, both cut down to max_num_neighbors where there is such a limit."""
        loops = torch.arange(len(graph.numbers), device=graph.numbers.device)
        limit = self.config.max_num_neighbors
        return (graph, loops) if limit is None else first_sources(graph, loops, limit)
