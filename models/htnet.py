"""HTNet: one sub-network per triplet of elements (Wang et al., npj Comput. Mater. 8, 53 (2022), Fig. 3 b-d, f)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from itertools import combinations_with_replacement

import torch
from torch import Tensor, nn

from .hvnet_config import HVNetConfig
from .layers import shifted_softplus, smooth_norm, xavier_linear
from .registry import register
from .relational import Pair, RelationalConvolution, RelationalNetwork, Relations, Vectors, check_relational


class TripletLayer(nn.Module):
    """The sub-network of a triplet A-B-C: radial message (b) and angular message (d) of atoms A and C to atoms B."""

    def __init__(self, channels: int, num_rbf: int) -> None:
        super().__init__()
        self.ms1 = xavier_linear(channels, channels)
        self.ms2 = xavier_linear(channels, 3 * channels)
        self.mv = xavier_linear(num_rbf + 1, 3 * channels, bias=False)
        self.us1 = xavier_linear(2 * channels, channels)
        self.us2 = xavier_linear(channels, 3 * channels)

    def radial(self, s: Tensor, pair: Pair) -> Tensor:
        """Messages on the edges of a pair, (E, 3F) = [a, b, g], of sources with states s (m, F)."""
        phi = self.ms2(shifted_softplus(self.ms1(s)))
        messages: Tensor = phi.index_select(0, pair.source) * self.mv(pair.radial)
        return messages

    def angular(self, state: Tensor, pair: Pair) -> Tensor:
        """Weighted sums of the messages t_j at the centers, (n, 3F), of sources with [|V|, S] (m, 2F)."""
        return pair.weighted_sum(self.us2(shifted_softplus(self.us1(state))))


@dataclass(frozen=True, eq=False)
class _Mean:
    """Weighted sum of the vectors of the neighbors of one element, and the sum of the weights, at the centers."""

    vectors: Tensor  # (n, 3, F)
    weight: Tensor  # (n, 1)

    def __add__(self, other: _Mean) -> _Mean:
        return _Mean(self.vectors + other.vectors, self.weight + other.weight)

    @property
    def norm(self) -> Tensor:
        return 1 / (1 + self.weight)  # the one keeps it smooth where the last neighbor leaves

    @property
    def U(self) -> Tensor:  # noqa: N802  # as in the paper
        return self.vectors * self.norm[:, :, None]


def _cosine(U_A: Tensor, U_C: Tensor) -> Tensor:
    """<U_A, U_C> / sqrt((1 + |U_A|^2)(1 + |U_C|^2)): the paper's normalized product, but analytic at zero."""
    norms = (1 + (U_A * U_A).sum(1)) * (1 + (U_C * U_C).sum(1))
    return (U_A * U_C).sum(1) / torch.sqrt(norms)


class TripletConvolution(RelationalConvolution):
    """One sub-network per triplet A-B-C, where B is the center and C-B-A is the same.

    A neighbor belongs to Ne triplets of each center, so that all contributions have the fixed weight 1 / Ne.
    """

    def __init__(self, config: HVNetConfig) -> None:
        super().__init__(config)
        kinds = range(len(config.elements))
        self.neighbor_norm = config.neighbor_norm
        self.triplets = [(a, b, c) for a, c in combinations_with_replacement(kinds, 2) for b in kinds]
        names = ("-".join(config.elements[k] for k in triplet) for triplet in self.triplets)
        self.mods = nn.ModuleDict({name: TripletLayer(config.hidden_channels, config.num_rbf) for name in names})

    def forward(self, s: list[Tensor], v: Vectors, near: Relations) -> tuple[list[Tensor], Vectors]:
        s, v = self._radial_update(s, v, near)
        return self._angular_update(s, v, near)

    def _relations(self) -> list[tuple[TripletLayer, int, int, int]]:
        layers: list[TripletLayer] = list(self.mods.values())  # type: ignore[arg-type]
        return [(layer, *triplet) for layer, triplet in zip(layers, self.triplets, strict=True)]

    def _radial_update(self, s: list[Tensor], v: Vectors, near: Relations) -> tuple[list[Tensor], list[Tensor]]:
        messages: dict[tuple[int, int], list[Tensor]] = {key: [] for key in near.pairs}
        for layer, a, b, c in self._relations():
            for source in sorted({a, c}):
                if len(pair := near.pairs[source, b]):
                    messages[source, b].append(layer.radial(s[source], pair))
        S = list(s)
        V = [x.new_zeros(len(x), 3, x.shape[1]) for x in s] if v is None else list(v)
        factor = 1 / (len(s) * self.neighbor_norm)
        for (source, center), pair in near.pairs.items():
            if not len(pair):
                continue
            gate, scalar, direction = reduce(torch.add, messages[source, center]).chunk(3, dim=1)
            vector = direction[:, None, :] * pair.direction
            if v is not None:
                vector = vector + gate[:, None, :] * v[source].index_select(0, pair.source)
            S[center] = S[center] + factor * pair.sum(scalar)
            V[center] = V[center] + factor * pair.sum(vector)
        return S, V

    def _angular_update(self, S: list[Tensor], V: list[Tensor], near: Relations) -> tuple[list[Tensor], list[Tensor]]:
        states = [torch.cat([smooth_norm((V_j * V_j).sum(1)), S_j], dim=1) for S_j, V_j in zip(S, V, strict=True)]
        sums = {key: _Mean(pair.weighted_sum(V[key[0]]), pair.sum(pair.weight)) for key, pair in near.pairs.items()}
        s, v = list(S), list(V)
        for layer, a, b, c in self._relations():
            sources = [source for source in sorted({a, c}) if len(near.pairs[source, b])]
            if not sources:
                continue
            t = sum((layer.angular(states[x], near.pairs[x, b]) for x in sources), start=S[b].new_zeros(()))
            both = sums[a, b] if a == c else sums[a, b] + sums[c, b]
            a_vv, a_sv, a_ss = (t * both.norm).chunk(3, dim=1)
            s[b] = s[b] + (a_sv * _cosine(sums[a, b].U, sums[c, b].U) + a_ss) / len(S)
            v[b] = v[b] + a_vv[:, None, :] * both.U / len(S)
        return s, v


@register("htnet", HVNetConfig)
class HTNet(RelationalNetwork):
    """Heterogeneous-triplet network: Ne^2 (Ne + 1) / 2 sub-networks per layer, with angles between A, B and C.

    The published code for it attaches messages to the wrong edges, so that its energies depend on the order of the
    atoms; here every message belongs to its own edge.  Smooth, size-extensive, any periodic cell.
    """

    def __init__(self, config: HVNetConfig) -> None:
        check_relational(config, "HTNet")
        super().__init__(config, [TripletConvolution(config) for _ in range(config.num_layers)])

    @property
    def receptive_layers(self) -> int:
        """A layer sends radial and angular messages."""
        return 2 * int(self.config.num_layers)
