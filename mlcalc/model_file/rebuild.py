"""A network from the settings and the tensors of a model file, neither of which is trusted."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mlcalc.errors import ModelFileError
from mlcalc.model_file.info import ModelInfo
from mlcalc.models import Network, architectures, build_network, network_settings

_AGAIN = "The file was edited, or written by another program: get it again from its source"
_SPARE_MEMORY = 64 * 2**20  # bytes; what building may take beyond a multiple of the weights in the file
_MAX_STEPS = 100_000  # torch calls while building; a network of a thousand tensors takes some ten thousand


def rebuild_network(info: ModelInfo, tensors: Mapping[str, Tensor], origin: str) -> Network:
    """The network with these weights, bit for bit; ModelFileError when settings and tensors do not fit together."""
    known = architectures()
    if info.kind not in known:
        raise ModelFileError(
            f"{origin} holds a model of kind {info.kind!r}; this version knows {', '.join(sorted(known))}. "
            "Upgrade mlcalc, or import the module that registers this architecture first"
        )
    check_weights(tensors, origin)
    weights = sum(tensor.nbytes for tensor in tensors.values())
    try:
        # weights are drawn at random before the stored ones replace them: the caller's random numbers must not move
        with torch.random.fork_rng(devices=[]), _BuildingLimit(8 * weights + _SPARE_MEMORY):
            network = build_network(info.kind, info.settings)
    except Exception as error:  # whatever a constructor raises on values that nobody has checked
        raise ModelFileError(f"{origin} has settings that give no {info.kind} network: {error}. {_AGAIN}") from error
    defaults = _check_settings(network, info, origin)
    _check_tensors(network, tensors, origin, defaults)
    dtypes = parameter_dtypes(network)
    stored = {"float32": torch.float32, "float64": torch.float64}.get(info.dtype)
    if dtypes and dtypes != {stored}:
        network.to(stored)
    network.load_state_dict(dict(tensors), strict=True, assign=True)
    if parameter_dtypes(network) - {stored}:
        found = ", ".join(sorted(str(dtype) for dtype in parameter_dtypes(network)))
        raise ModelFileError(f"{origin} claims weights of dtype {info.dtype!r} and holds {found}. {_AGAIN}")
    return network.eval().requires_grad_(False)


def parameter_dtypes(network: nn.Module) -> set[torch.dtype]:
    """The dtypes of the parameters."""
    return {parameter.dtype for parameter in network.parameters()}


def check_weights(tensors: Mapping[str, Tensor], origin: str) -> None:
    """Nothing, or ModelFileError naming the tensor that holds NaN or infinity."""
    for name, tensor in tensors.items():
        wrong = 0 if not tensor.is_floating_point() else int((~torch.isfinite(tensor)).sum())
        if wrong:
            raise ModelFileError(
                f"{origin}: tensor {name!r} holds {wrong} NaN or infinite values of {tensor.numel()}; every weight "
                "must be finite. The training diverged: take an earlier checkpoint of it"
            )


def _check_settings(network: nn.Module, info: ModelInfo, origin: str) -> list[str]:
    """Names of the settings that the file does not hold; refuses those that the network did not take as they are."""
    settings = json.loads(json.dumps(network_settings(network)[1]))
    for name, value in info.settings.items():
        if settings[name] != value:
            raise ModelFileError(
                f"{origin}: the setting {name} is {value!r}, from which the network made {settings[name]!r}. {_AGAIN}"
            )
    repeated = {"elements": list(info.elements), "cutoff": info.cutoff, "energy_shift": list(info.energy_shift)}
    for name, value in repeated.items():
        if settings[name] != value:
            raise ModelFileError(f"{origin} says {name} {value!r}, but its settings say {settings[name]!r}. {_AGAIN}")
    return sorted(set(settings) - set(info.settings))


def _check_tensors(network: nn.Module, tensors: Mapping[str, Tensor], origin: str, defaults: Sequence[str]) -> None:
    expected = network.state_dict()
    remedy = f"Settings and weights do not belong together. {_AGAIN}"
    if defaults:
        remedy = f"Settings missing in the file, for which defaults were taken: {', '.join(defaults)}. {remedy}"
    for problem, names in (("lacks", expected.keys() - tensors.keys()), ("has", tensors.keys() - expected.keys())):
        if names:
            what = "which the network needs" if problem == "lacks" else "which the network does not have"
            listed = ", ".join(sorted(names)[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
            raise ModelFileError(f"{origin} {problem} {len(names)} tensors {what}: {listed}. {remedy}")
    for name, tensor in expected.items():
        found = tensors[name]
        same_class = tensor.dtype == found.dtype or (tensor.is_floating_point() and found.is_floating_point())
        if tensor.shape != found.shape or not same_class:
            raise ModelFileError(
                f"{origin}: tensor {name!r} is {found.dtype} {tuple(found.shape)}, the settings of the network ask "
                f"for {tensor.dtype} {tuple(tensor.shape)}. {remedy}"
            )


class _BuildingLimit(TorchFunctionMode):
    """Stops the building of a network that grows far beyond the weights in the file.

    A header may ask for a billion channels or layers; without this the machine would be out of memory, or busy for
    ever, before the tensors could be compared.
    """

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit, self.bytes, self.steps = limit, 0, 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        self.steps += 1
        if isinstance(result, Tensor) and not any(result is argument for argument in args):
            self.bytes += result.nbytes
        if self.bytes > self.limit or self.steps > _MAX_STEPS:
            limit = f"{self.limit} bytes" if self.bytes > self.limit else f"{_MAX_STEPS} steps"
            raise MemoryError(f"building it takes more than {limit}, for much smaller weights in the file")
        return result
