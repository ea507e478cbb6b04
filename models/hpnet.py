"""HPNet: one two-body sub-network per ordered pair of elements (Wang et al., npj Comput. Mater. 8, 53 (2022))."""

from __future__ import annotations

from itertools import product

from torch import Tensor, nn

from .hvnet_config import HVNetConfig
from .layers import shifted_softplus, xavier_linear
from .registry import register
from .relational import Pair, RelationalConvolution, RelationalNetwork, Relations, Vectors, check_relational


class PairLayer(nn.Module):
    """Radial message and update (Fig. 3 b, c) from atoms of one element to those of another, scalars only."""

    def __init__(self, channels: int, num_rbf: int) -> None:
        super().__init__()
        self.ms1 = xavier_linear(channels, channels)
        self.ms2 = xavier_linear(channels, channels)
        self.mv = xavier_linear(num_rbf + 1, channels, bias=False)

    def forward(self, s: Tensor, pair: Pair) -> Tensor:
        """Sums of the messages of sources with states s (m, F) at the centers, (n, F)."""
        phi = self.ms2(shifted_softplus(self.ms1(s)))
        return pair.sum(phi.index_select(0, pair.source) * self.mv(pair.radial))


class PairConvolution(RelationalConvolution):
    """One sub-network per ordered pair, named source-center; an atom adds up what its pairs bring."""

    def __init__(self, config: HVNetConfig) -> None:
        super().__init__(config)
        self.neighbor_norm = config.neighbor_norm
        names = ("-".join(pair) for pair in product(config.elements, repeat=2))
        self.mods = nn.ModuleDict({name: PairLayer(config.hidden_channels, config.num_rbf) for name in names})

    def forward(self, s: list[Tensor], v: Vectors, near: Relations) -> tuple[list[Tensor], Vectors]:
        updated = list(s)
        for layer, ((source, center), pair) in zip(self.mods.values(), near.pairs.items(), strict=True):
            if len(pair):
                updated[center] = updated[center] + layer(s[source], pair) / self.neighbor_norm
        return updated, v


@register("hpnet", HVNetConfig)
class HPNet(RelationalNetwork):
    """Heterogeneous-pair network: Ne^2 sub-networks per layer, truncated to the two-body layers.

    Without the angular layers the vectors would never reach the scalars, nor the energy: they are left out, so that
    what remains is a message passing of distances.  Smooth, size-extensive, any periodic cell.
    """

    def __init__(self, config: HVNetConfig) -> None:
        check_relational(config, "HPNet")
        super().__init__(config, [PairConvolution(config) for _ in range(config.num_layers)])

    @property
    def receptive_layers(self) -> int:
        """A layer sends radial messages."""
        return int(self.config.num_layers)
