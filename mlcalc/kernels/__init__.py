"""Energies and forces of networks by compiled kernels on the CPU: the same numbers as by automatic differentiation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from mlcalc.models import HVNet, Network, ViSNet, predict
from mlcalc.trial import largest_error, trial_graph

if TYPE_CHECKING:
    from mlcalc.paths import EvaluationPath

__all__ = ["fused_path"]

_AGREEMENT = {torch.float64: 1e-8, torch.float32: 1e-3}  # relative to the largest numbers of the trial
_passed: set[tuple[Any, torch.dtype]] = set()


def fused_path(network: Network, dtype: torch.dtype) -> EvaluationPath | str:
    """The fused kernels of this network, or why there are none.

    The first network of its settings has to give the numbers of `predict` on a small crystal: a processor, a compiler
    or a library of matrix products that does not do as expected is found out there.
    """
    path = _path(network, dtype)
    trial = network.config, dtype
    if not isinstance(path, str) and trial not in _passed:
        error = _error(path, network.to(dtype))
        if not error <= _AGREEMENT[dtype]:
            return f"the fused kernels failed their trial: their numbers differ from those of autograd by {error:.1e}"
        _passed.add(trial)
    return path


def _path(network: Network, dtype: torch.dtype) -> EvaluationPath | str:
    if isinstance(network, ViSNet):
        from mlcalc.kernels.visnet import visnet_path

        return visnet_path(network, dtype)
    if isinstance(network, HVNet):
        from mlcalc.kernels.hvnet import hvnet_path

        return hvnet_path(network, dtype)
    return f"no fused kernels: there are none for {type(network).__name__}"


def _error(path: EvaluationPath, network: Network) -> float:
    graph = trial_graph(network)
    found = path.evaluate(graph, forces=True, stress=True)
    expected = predict(network, graph, stress=True)
    names = ("energies", "forces", "stress")
    return largest_error([(getattr(found, name), getattr(expected, name)) for name in names])
