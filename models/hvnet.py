"""HVNet: one relational sub-network per element (Wang et al., npj Comput. Mater. 8, 53 (2022), Figs. 2b and 3)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .graph import Graph
from .hvnet_config import HVNetConfig
from .layers import (
    AtomicEnergies,
    ElementIndex,
    shifted_softplus,
    smooth_norm,
    xavier_linear,
)
from .network import Network
from .radial import BesselBasis, polynomial_envelope
from .registry import register

_LARGEST_MATRIX = 512  # atoms


@dataclass(frozen=True, eq=False)
class _Neighborhood:
    """The edges into the atoms of one element, and what all layers need of them."""

    atoms: Tensor | None  # atoms of this element; None when it is all of them
    center: Tensor  # (E,) i
    neighbor: Tensor  # (E,) j
    weight: Tensor  # (E, 1) envelope c_ij
    radial: Tensor  # (E, num_rbf + 1) c_ij [e_ij, 1]
    direction: Tensor  # (E, 3, 1) unit vectors u_ij
    mean_norm: Tensor  # (N, 1) 1 / (1 + sum_j c_ij)
    weights: Tensor | None  # (N, N) sums of c_ij over the images of j, where such a matrix is small

    def weighted_sum(self, values: Tensor) -> Tensor:
        """sum_j c_ij X_j of values (N, C); for few atoms a matrix product, several times faster than by edges."""
        if self.weights is not None:
            return self.weights @ values
        return torch.zeros_like(values).index_add(0, self.center, self.weight * values.index_select(0, self.neighbor))


def _weight_matrix(weight: Tensor, center: Tensor, neighbor: Tensor, atoms: int) -> Tensor | None:
    if atoms > _LARGEST_MATRIX:
        return None
    return weight.new_zeros(atoms * atoms).index_add(0, center * atoms + neighbor, weight[:, 0]).view(atoms, atoms)


class RelationalLayer(nn.Module):
    """The sub-network of Fig. 3, acting on the atoms of one element.

    Radial message and update (b, c), angular message and update (d, e), with what makes a smooth potential of it:
    neighbor means are weighted by the envelope and include the atom itself with weight c(0) = 1,
    <X>_i = (X_i + sum_j c_ij X_j) / (1 + sum_j c_ij), so that they neither jump when a neighbor crosses the cutoff
    nor fail without neighbors; the norms are analytic at zero.
    """

    def __init__(self, channels: int, num_rbf: int, neighbor_norm: float) -> None:
        super().__init__()
        self.neighbor_norm = neighbor_norm
        self.ms1 = xavier_linear(channels, channels)
        self.ms2 = xavier_linear(channels, 3 * channels)
        self.mv = xavier_linear(num_rbf + 1, 3 * channels, bias=False)
        self.us1 = xavier_linear(2 * channels, channels)
        self.us2 = xavier_linear(channels, 3 * channels)

    def radial(self, s: Tensor, v: Tensor | None, near: _Neighborhood) -> tuple[Tensor, Tensor]:
        """Sums of the radial messages, (N, F) and (N, 3, F); v is None where it is still zero everywhere."""
        phi = self.ms2(shifted_softplus(self.ms1(s)))
        message = phi.index_select(0, near.neighbor) * self.mv(near.radial)
        gate, scalar, direction = message.chunk(3, dim=1)
        vector = direction[:, None, :] * near.direction
        if v is not None:
            vector = vector + gate[:, None, :] * v.index_select(0, near.neighbor)
        atoms, channels = s.shape
        ds = s.new_zeros(atoms, channels).index_add(0, near.center, scalar)
        dv = s.new_zeros(atoms, 3, channels).index_add(0, near.center, vector)
        return ds / self.neighbor_norm, dv / self.neighbor_norm

    def angular(self, s: Tensor, v: Tensor, near: _Neighborhood) -> tuple[Tensor, Tensor]:
        """Changes of s and v by the angular update, (N, F) and (N, 3, F)."""
        atoms, channels = s.shape
        norms = smooth_norm((v * v).sum(1))
        t = self.us2(shifted_softplus(self.us1(torch.cat([norms, s], dim=1))))
        own = torch.cat([v.reshape(atoms, -1), t], dim=1)
        mean_v, mean_t = ((own + near.weighted_sum(own)) * near.mean_norm).split(3 * channels, dim=1)
        mean_v = mean_v.view(atoms, 3, channels)
        a_vv, a_sv, a_ss = mean_t.chunk(3, dim=1)
        return a_sv * smooth_norm((mean_v * mean_v).sum(1)) + a_ss, a_vv[:, None, :] * mean_v


class RelationalConvolution(nn.Module):
    """One sub-network per element; each atom is updated by that of its own element, with a fixed weight of one."""

    def __init__(self, config: HVNetConfig) -> None:
        super().__init__()
        self.mods = nn.ModuleDict(
            {
                element: RelationalLayer(config.hidden_channels, config.num_rbf, config.neighbor_norm)
                for element in config.elements
            }
        )

    def forward(self, s: Tensor, v: Tensor | None, near: list[_Neighborhood]) -> tuple[Tensor, Tensor]:
        layers: list[RelationalLayer] = list(self.mods.values())  # type: ignore[arg-type]
        ds, dv = _combine([layer.radial(s, v, hood) for layer, hood in zip(layers, near, strict=True)])
        s, v = s + ds, dv if v is None else v + dv
        changes = [
            _only(layer.angular(s, v, hood), hood.atoms)  # means are taken around atoms of this element only
            for layer, hood in zip(layers, near, strict=True)
        ]
        ds, dv = _combine(changes)
        return s + ds, v + dv


def _combine(parts: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    ds, dv = parts[0]
    for scalar, vector in parts[1:]:
        ds, dv = ds + scalar, dv + vector
    return ds, dv


def _only(change: tuple[Tensor, Tensor], atoms: Tensor | None) -> tuple[Tensor, Tensor]:
    if atoms is None:
        return change
    ds, dv = change
    return (
        torch.zeros_like(ds).index_copy(0, atoms, ds.index_select(0, atoms)),
        torch.zeros_like(dv).index_copy(0, atoms, dv.index_select(0, atoms)),
    )


@register("hvnet", HVNetConfig)
class HVNet(Network):
    """Heterogeneous-vertex network: smooth, size-extensive, per-atom readout, any periodic cell."""

    def __init__(self, config: HVNetConfig) -> None:
        super().__init__()
        self.config = config
        self.cutoff = config.cutoff
        self.elements = config.elements
        channels = config.hidden_channels
        self.element_index = ElementIndex(config.elements)
        self.embed = nn.Embedding(len(config.elements), channels)
        self.basis = BesselBasis(config.num_rbf, config.cutoff)
        self.hermconv = nn.ModuleList(RelationalConvolution(config) for _ in range(config.num_layers))
        self.readout = nn.Sequential(xavier_linear(channels, channels), nn.SiLU(), xavier_linear(channels, 1))
        self.atomic_energies = AtomicEnergies(config.energy_scale, config.energy_shift)

    def forward(self, graph: Graph) -> Tensor:
        """Atomic energies, (N,) eV, float64."""
        element = self.element_index(graph.numbers)
        s, v = self.embed(element), None
        near = self._neighborhoods(graph, element)
        for convolution in self.hermconv:
            s, v = convolution(s, v, near)
        energies: Tensor = self.atomic_energies(self.readout(s).squeeze(1), element)
        return energies

    def _neighborhoods(self, graph: Graph, element: Tensor) -> list[_Neighborhood]:
        vectors = graph.edge_vectors().to(self.embed.weight.dtype)
        distance = torch.linalg.vector_norm(vectors, dim=1)
        weight = polynomial_envelope(distance, self.cutoff, self.config.envelope_exponent)[:, None]
        radial = weight * torch.cat([self.basis(distance), torch.ones_like(weight)], dim=1)
        direction = (vectors / distance[:, None])[:, :, None]
        i, j = graph.edges
        atoms = len(graph.numbers)
        mean_norm = 1 / weight.new_ones(atoms, 1).index_add(0, i, weight)
        if len(self.elements) == 1:
            matrix = _weight_matrix(weight, i, j, atoms)
            return [_Neighborhood(None, i, j, weight, radial, direction, mean_norm, matrix)]
        hoods = []
        for kind in range(len(self.elements)):
            mine = (element.index_select(0, i) == kind).nonzero().squeeze(1)
            hoods.append(
                _Neighborhood(
                    atoms=(element == kind).nonzero().squeeze(1),
                    center=i[mine],
                    neighbor=j[mine],
                    weight=weight[mine],
                    radial=radial[mine],
                    direction=direction[mine],
                    mean_norm=mean_norm,
                    weights=_weight_matrix(weight[mine], i[mine], j[mine], atoms),
                )
            )
        return hoods
