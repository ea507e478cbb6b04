"""The weights of HVNet as its kernels take them, and derivatives by them in the network's own shapes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from mlcalc.kernels.hvnet.arrays import Array, Weights, WeightSums
from mlcalc.kernels.hvnet.space import aligned_empty
from mlcalc.models import HVNet

_NAMES = {  # of the layers of sub-networks, by what they are here
    "rmconv": {"message1": "ms1", "message2": "ms2", "filters": "mv", "update1": "us1", "update2": "us2"},
    "painn": {name: name for name in ("message1", "message2", "filters", "mix", "update1", "update2")},
}
_FILTERS = ("mv.weight", "filters.weight")  # the only ones that are divided by the neighbor norm


def packed_weights(network: HVNet, kind: np.dtype[Any]) -> Weights:
    """Copies of the network's weights in this precision."""
    weights = _empty_weights(network, kind)
    refresh_weights(weights, network)
    return weights


def _empty_weights(network: HVNet, kind: np.dtype[Any]) -> Weights:
    config = network.config
    L, K, F, R = config.num_layers, len(config.elements), config.hidden_channels, config.num_rbf + 1
    mixes = L if config.sub_network == "painn" else 0
    shapes = {
        "embed": (K, F), "message1": (L, K, F, F), "message2": (L, K, F, 3 * F), "filters": (L, K, R, 3 * F),
        "mix": (mixes, K, F, 2 * F), "update1": (L, K, 2 * F, F), "update2": (L, K, F, 3 * F),
        "readout1": (F, F), "readout2": (F,), "readout2_bias": (1,),
    }  # fmt: skip
    for name in ("message1", "message2", "update1", "update2", "readout1", "mix"):
        *several, inputs, outputs = shapes[name]
        shapes[f"{name}_back"] = (*several, outputs, inputs)
        if name != "mix":
            shapes[f"{name}_bias"] = (*several, outputs)
    return Weights(**{name: np.empty(shapes[name], kind) for name in Weights._fields})


def refresh_weights(weights: Weights, network: HVNet) -> None:
    """Write the weights that the network has now over those of before."""
    parameters = {name: value.detach().cpu() for name, value in network.named_parameters()}
    for name, view in parameter_views(weights, network).items():
        value = parameters[name]
        view[...] = (value.double() / network.config.neighbor_norm if name.endswith(_FILTERS) else value).numpy()
    back = {field: getattr(weights, f"{field}_back") for field in Weights._fields if f"{field}_back" in Weights._fields}
    for name, view in parameter_views(_Named(back), network).items():
        view.T[...] = parameters[name].numpy()


class _Named:
    """Arrays as attributes."""

    def __init__(self, arrays: dict[str, Array]) -> None:
        vars(self).update(arrays)


def parameter_views(arrays: Any, network: HVNet) -> dict[str, Array]:
    """Views of arrays named and laid out like Weights, in the shapes of the parameters, by the names of those.

    Of the arrays that are there.  Filters are those of Weights, over the neighbor norm.
    """
    found: dict[str, Array] = {}

    def add(parameter: str, field: str, *place: int, bias: bool = True) -> None:
        if hasattr(arrays, field):
            found[f"{parameter}.weight"] = getattr(arrays, field)[place].T
        if bias and hasattr(arrays, f"{field}_bias"):
            found[f"{parameter}.bias"] = getattr(arrays, f"{field}_bias")[place]

    if hasattr(arrays, "embed"):
        found["embed.weight"] = arrays.embed
    for layer in range(network.config.num_layers):
        for k, element in enumerate(network.elements):
            start = f"hermconv.{layer}.mods.{element}"
            for field, own in _NAMES[network.config.sub_network].items():
                add(f"{start}.{own}", field, layer, k, bias=field not in ("filters", "mix"))
    add("readout.0", "readout1")
    if hasattr(arrays, "readout2"):
        found["readout.2.weight"] = arrays.readout2[None]
        found["readout.2.bias"] = arrays.readout2_bias
    return found


class GradientSums:
    """Sums of derivatives by the weights: in the kernels' precision for some structures, in float64 for all.

    Differences of large sums are taken of them, so that no more is summed in float32 than must be.
    """

    def __init__(self, weights: Weights) -> None:
        kind, shapes = weights.embed.dtype, {name: getattr(weights, name).shape for name in WeightSums._fields}
        ends = np.cumsum([0, *(_whole_lines(int(np.prod(shape))) for shape in shapes.values())])
        self._some, self._all = aligned_empty(int(ends[-1]), kind), np.zeros(int(ends[-1]))
        self._some[:] = 0
        self.arrays, self._totals = (
            WeightSums(**{
                name: flat[start : start + int(np.prod(shape))].reshape(shape)
                for start, (name, shape) in zip(ends.tolist(), shapes.items(), strict=False)
            })
            for flat in (self._some, self._all)
        )  # fmt: skip

    def settle(self) -> None:
        """Add what has been summed in the kernels' precision to the rest, and start it anew."""
        self._all += self._some
        self._some[:] = 0

    def add(self, other: GradientSums) -> None:
        """Add those of another thread."""
        self._all += other._all

    def clear(self) -> None:
        self._some[:], self._all[:] = 0, 0

    def parameters(self, network: HVNet) -> dict[str, Tensor]:
        """By the names of the parameters, in their shapes."""
        kind, norm = self._some.dtype, network.config.neighbor_norm
        views = parameter_views(self._totals, network)
        return {
            name: torch.from_numpy((views[name] / (norm if name.endswith(_FILTERS) else 1)).astype(kind, order="C"))
            for name, _ in network.named_parameters()
        }


def _whole_lines(size: int) -> int:
    """The next multiple of what 64 bytes hold."""
    return -(-size // 16) * 16
