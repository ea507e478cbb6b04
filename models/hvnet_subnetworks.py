"""The exchangeable sub-networks of the smooth HVNet, and the neighborhoods they act on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from .layers import shifted_softplus, smooth_norm, xavier_linear

_LARGEST_MATRIX = 512  # atoms


@dataclass(frozen=True, eq=False)
class Neighborhood:
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

    def own(self, values: Tensor) -> Tensor:
        """The rows of the atoms of this element, of values (N, ...)."""
        return values if self.atoms is None else values.index_select(0, self.atoms)

    def message_sums(self, messages: Tensor, v: Tensor | None) -> tuple[Tensor, Tensor]:
        """Sums over neighbors of b and a v_j + g u_ij from messages (E, 3F) = [a, b, g]; v None means zero."""
        gate, scalar, direction = messages.chunk(3, dim=1)
        vector = direction[:, None, :] * self.direction
        if v is not None:
            vector = vector + gate[:, None, :] * v.index_select(0, self.neighbor)
        atoms, channels = len(self.mean_norm), scalar.shape[1]
        ds = scalar.new_zeros(atoms, channels).index_add(0, self.center, scalar)
        dv = scalar.new_zeros(atoms, 3, channels).index_add(0, self.center, vector)
        return ds, dv


def weight_matrix(weight: Tensor, center: Tensor, neighbor: Tensor, atoms: int) -> Tensor | None:
    """The weights of all pairs of atoms, (N, N), or None for so many atoms that it does not pay."""
    if atoms > _LARGEST_MATRIX:
        return None
    return weight.new_zeros(atoms * atoms).index_add(0, center * atoms + neighbor, weight[:, 0]).view(atoms, atoms)


class SubNetwork(nn.Module, ABC):
    """One layer for the atoms of one element: what they take from their neighbors, then what they make of it.

    A sub-network must vanish smoothly at the cutoff: whatever comes from a neighbor is multiplied by its envelope.
    """

    @abstractmethod
    def __init__(self, channels: int, num_rbf: int, neighbor_norm: float) -> None:
        super().__init__()
        self.neighbor_norm = neighbor_norm

    @abstractmethod
    def radial(self, s: Tensor, v: Tensor | None, near: Neighborhood) -> tuple[Tensor, Tensor]:
        """Changes of s (N, F) and v (N, 3, F) by messages; v is None where it is still zero everywhere."""

    @abstractmethod
    def angular(self, s: Tensor, v: Tensor, near: Neighborhood) -> tuple[Tensor, Tensor]:
        """Changes of s (n, F) and v (n, 3, F) of the n atoms of this element, once all atoms have the radial ones."""

    def _sums(self, phi: Tensor, filters: Tensor, v: Tensor | None, near: Neighborhood) -> tuple[Tensor, Tensor]:
        """Sums of the messages phi_j (N, 3F) filtered by (E, 3F), over the fixed norm."""
        ds, dv = near.message_sums(phi.index_select(0, near.neighbor) * filters, v)
        return ds / self.neighbor_norm, dv / self.neighbor_norm


class RMConv(SubNetwork):
    """The sub-network of the paper's Fig. 3: radial message and update (b, c), angular message and update (d, e).

    What makes a smooth potential of it: neighbor means are weighted by the envelope and include the atom itself with
    weight c(0) = 1, <X>_i = (X_i + sum_j c_ij X_j) / (1 + sum_j c_ij), so that they neither jump when a neighbor
    crosses the cutoff nor fail without neighbors; the norms are analytic at zero.
    """

    def __init__(self, channels: int, num_rbf: int, neighbor_norm: float) -> None:
        super().__init__(channels, num_rbf, neighbor_norm)
        self.ms1 = xavier_linear(channels, channels)
        self.ms2 = xavier_linear(channels, 3 * channels)
        self.mv = xavier_linear(num_rbf + 1, 3 * channels, bias=False)
        self.us1 = xavier_linear(2 * channels, channels)
        self.us2 = xavier_linear(channels, 3 * channels)

    def radial(self, s: Tensor, v: Tensor | None, near: Neighborhood) -> tuple[Tensor, Tensor]:
        phi = self.ms2(shifted_softplus(self.ms1(s)))
        return self._sums(phi, self.mv(near.radial), v, near)

    def angular(self, s: Tensor, v: Tensor, near: Neighborhood) -> tuple[Tensor, Tensor]:
        atoms, channels = s.shape
        norms = smooth_norm((v * v).sum(1))
        t = self.us2(shifted_softplus(self.us1(torch.cat([norms, s], dim=1))))
        both = torch.cat([v.reshape(atoms, 3 * channels), t], dim=1)
        mean_v, mean_t = near.own((both + near.weighted_sum(both)) * near.mean_norm).split(3 * channels, dim=1)
        mean_v = mean_v.view(-1, 3, channels)
        a_vv, a_sv, a_ss = mean_t.chunk(3, dim=1)
        return a_sv * smooth_norm((mean_v * mean_v).sum(1)) + a_ss, a_vv[:, None, :] * mean_v


class PaiNN(SubNetwork):
    """Message and update of PaiNN (Schütt et al., arXiv:2102.03150, Eqs. 7 to 9).

    Here the envelope multiplies the whole filter, its bias included, and the norm is analytic at zero.
    """

    def __init__(self, channels: int, num_rbf: int, neighbor_norm: float) -> None:
        super().__init__(channels, num_rbf, neighbor_norm)
        self.message1 = xavier_linear(channels, channels)
        self.message2 = xavier_linear(channels, 3 * channels)
        self.filters = xavier_linear(num_rbf + 1, 3 * channels, bias=False)
        self.mix = xavier_linear(channels, 2 * channels, bias=False)  # the paper's U and V
        self.update1 = xavier_linear(2 * channels, channels)
        self.update2 = xavier_linear(channels, 3 * channels)

    def radial(self, s: Tensor, v: Tensor | None, near: Neighborhood) -> tuple[Tensor, Tensor]:
        phi = self.message2(silu(self.message1(s)))
        return self._sums(phi, self.filters(near.radial), v, near)

    def angular(self, s: Tensor, v: Tensor, near: Neighborhood) -> tuple[Tensor, Tensor]:
        s, v = near.own(s), near.own(v)
        Uv, Vv = self.mix(v).chunk(2, dim=2)
        norms = smooth_norm((Vv * Vv).sum(1))
        a_vv, a_sv, a_ss = self.update2(silu(self.update1(torch.cat([norms, s], dim=1)))).chunk(3, dim=1)
        return a_sv * (Uv * Vv).sum(1) + a_ss, a_vv[:, None, :] * Uv


SUB_NETWORKS: dict[str, type[SubNetwork]] = {"rmconv": RMConv, "painn": PaiNN}
