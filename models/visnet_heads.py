"""Readouts of ViSNet: from the state of the atoms to their contributions to a property."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .layers import Activation, xavier_linear
from .visnet_config import ViSNetConfig


class GatedEquivariantBlock(nn.Module):
    """Gated equivariant non-linearity of the readout (PaiNN, arXiv:2102.03150, Fig. 3).

    What comes out is only what is asked for: scalars, vectors or both.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        activation: Callable[[Tensor], Tensor],
        norm: Callable[[Tensor], Tensor],
        *,
        scalars: bool = True,
        vectors: bool = True,
    ) -> None:
        super().__init__()
        self.norm, self.scalars, self.vectors = norm, scalars, vectors
        self.vec1_proj = xavier_linear(inputs, inputs, bias=False)
        self.update_net = nn.Sequential(
            xavier_linear(2 * inputs, inputs),
            Activation(activation),
            xavier_linear(inputs, (scalars + vectors) * outputs),
        )
        if vectors:
            self.vec2_proj = xavier_linear(inputs, outputs, bias=False)

    def forward(self, x: Tensor, vec: Tensor) -> tuple[Tensor, Tensor]:
        """(N, F) and (N, S, F) to (N, F') and (N, S, F'); without its last activation."""
        projected = self.vec1_proj(vec)
        t = self.update_net(torch.cat([x, self.norm((projected * projected).sum(1))], dim=1))
        if not self.vectors:
            return t, vec
        gate = t.chunk(2, dim=1)[1] if self.scalars else t
        return t.chunk(2, dim=1)[0] if self.scalars else x, gate[:, None, :] * self.vec2_proj(vec)


class GatedReadout(nn.ModuleList):
    """Two gated blocks, F -> F/2 -> 1: scalars (N, 1) and vectors (N, S, 1) of the atoms."""

    def __init__(self, config: ViSNetConfig, norm: Callable[[Tensor], Tensor]) -> None:
        channels, (activation, _) = config.hidden_channels, config.functions
        first = GatedEquivariantBlock(channels, channels // 2, activation, norm)
        wanted = {"scalars": config.head != "vector", "vectors": config.head in ("dipole", "vector")}
        super().__init__([first, GatedEquivariantBlock(channels // 2, 1, activation, norm, **wanted)])
        self.activation = activation

    def forward(self, x: Tensor, vec: Tensor) -> tuple[Tensor, Tensor]:
        x, vec = self[0](x, vec)
        scalars, vectors = self[1](self.activation(x), vec)
        return scalars, vectors


class ScalarReadout(nn.Sequential):
    """Perceptron F -> F/2 -> 1 of the scalars alone, for the electronic spatial extent."""

    def __init__(self, config: ViSNetConfig) -> None:
        channels = config.hidden_channels
        super().__init__(
            xavier_linear(channels, channels // 2), Activation(config.functions[0]), xavier_linear(channels // 2, 1)
        )
