"""Derivatives by ViSNet's weights: one long array of all parameters, in the groups in which kernels add to them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlcalc.models import ViSNet

Array = NDArray[Any]
Arrays = tuple[Array, ...]

_EDGES = ("edge_proj.weight", "edge_proj.bias", "s_proj.weight", "s_proj.bias")
_UPDATE = ("o_proj.weight", "o_proj.bias", "vec_proj.weight")
_ATOMS = ("layernorm.weight", "layernorm.bias", "qkv.weight", "qkv.bias", "w_proj.weight", "t_proj.weight")
_FIRST = "vec1_proj.weight update_net.0.weight update_net.0.bias update_net.2.weight update_net.2.bias vec2_proj.weight"
_EMBEDDING = ("neighbor.weight", "distance_proj.weight", "distance_proj.bias")


class ByWeights:
    """Accumulators of one thread."""

    def __init__(self, network: ViSNet) -> None:
        parameters = dict(network.named_parameters())
        self.names = {name: parameter.shape for name, parameter in parameters.items()}
        kind = network.out_norm.weight.detach().numpy().dtype
        self.whole: Array = np.zeros(sum(parameter.numel() for parameter in parameters.values()), kind)
        self.arrays = split(self.whole, self.names)
        channels, config = network.config.hidden_channels, network.config
        self.blocks = [
            tuple(self._group(f"blocks.{k}.", group, channels) for group in (_EDGES, _UPDATE, _ATOMS))
            for k in range(len(network.blocks))
        ]
        first, second = _FIRST.split(), _FIRST.split()[:-1]
        self.readout = (
            *self._group("out_norm.", ("weight", "bias"), channels),
            *self._group("head.0.", first, channels),
            *self._group("head.1.", second, channels),
        )
        self.own = np.zeros((len(config.elements), channels), kind)  # table of the atoms, through `combine`
        around = self.arrays["embedding.combine.weight"][:, channels:]
        self.embed_atoms = (self.own, around, *self._group("embedding.", _EMBEDDING, channels))
        self.embed_edges = self._group("embedding.edge_proj.", ("weight", "bias"), channels)
        self.radial = (np.zeros(config.num_rbf, kind), np.zeros(config.num_rbf, kind))  # by centers and widths

    def _group(self, prefix: str, names: tuple[str, ...] | list[str], channels: int) -> Arrays:
        """Of a layer that is not there, a matrix without rows."""
        nothing = np.zeros((0, channels), self.whole.dtype)
        return tuple(self.arrays.get(prefix + name, nothing) for name in names)

    def clear(self) -> None:
        """Back to zero."""
        for array in self._all():
            array[...] = 0

    def add(self, other: ByWeights) -> None:
        """Those of another thread."""
        for total, share in zip(self._all(), other._all(), strict=True):
            np.add(total, share, out=total)

    def _all(self) -> Arrays:
        return self.whole, self.own, *self.radial

    def finished(self, network: ViSNet) -> dict[str, Tensor]:
        """By the names and in the shapes of the parameters, copies; the table of the atoms is taken apart."""
        result = {name: torch.from_numpy(array) for name, array in split(self.whole.copy(), self.names).items()}
        channels, combine = network.config.hidden_channels, network.embedding.combine
        own = torch.from_numpy(self.own)
        result["embedding.atom.weight"] += own @ combine.weight[:, :channels]
        result["embedding.combine.weight"][:, :channels] += own.t() @ network.embedding.atom.weight
        result["embedding.combine.bias"] += own.sum(0)
        if network.config.trainable_rbf:
            self._radial(result)
        return result

    def _radial(self, result: dict[str, Tensor]) -> None:
        by_centers, by_widths = (torch.from_numpy(array) for array in self.radial)
        if "basis.means" in result:
            result["basis.means"] += by_centers
            result["basis.betas"] += by_widths
        else:
            result["basis.offset"] += by_centers
            result["basis.coeff"] -= by_widths.sum()  # the widths are all -coeff


def split(whole: Array, names: dict[str, torch.Size]) -> dict[str, Array]:
    """Views of the parts of a long array, by name and in these shapes."""
    sizes = [shape.numel() for shape in names.values()]
    parts = np.split(whole, np.cumsum(sizes)[:-1])
    return {name: part.reshape(tuple(shape)) for (name, shape), part in zip(names.items(), parts, strict=True)}
