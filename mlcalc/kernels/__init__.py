"""Energies and their derivatives by compiled kernels on the CPU: the same numbers as by automatic differentiation."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from mlcalc.graphs.trial import largest_error, trial_graph
from mlcalc.memory import is_out_of_memory
from mlcalc.models import HVNet, Network, ViSNet, join_graphs, parameter_gradient, predict

if TYPE_CHECKING:
    from mlcalc.evaluation_path import EvaluationPath
    from mlcalc.kernels.gradients import GradientKernels

__all__ = ["fused_gradients", "fused_path"]

_AGREEMENT = {torch.float64: 1e-8, torch.float32: 1e-3}  # relative to the largest numbers of the trial
_passed: set[tuple[Any, torch.dtype]] = set()
_passed_gradients: set[tuple[Any, torch.dtype]] = set()


def fused_path(network: Network, dtype: torch.dtype) -> EvaluationPath | str:
    """The fused kernels of this network, or why there are none.

    The first network of its settings has to give the numbers of `predict` on a small crystal: a processor, a compiler
    or a library of matrix products that does not do as expected is found out there.
    """
    try:
        path = _path(network.to(dtype), dtype)
        if not isinstance(path, str) and (network.config, dtype) not in _passed and (reason := _trial(path, network)):
            return f"the fused kernels failed their trial: {reason}"
    except Exception as error:  # compilers raise errors of all kinds
        if is_out_of_memory(error) or isinstance(error, ImportError):
            raise
        return _does_not_run(error)
    return path


def fused_gradients(network: Network, dtype: torch.dtype) -> GradientKernels | str:
    """The fused kernels for derivatives by the weights of this network, or why there are none.

    As for `fused_path`, the first network of its settings has to give the numbers of autograd on a small crystal.
    """
    try:
        kernels = _gradients(network, dtype)
        known = (network.config, dtype) in _passed_gradients
        if not (isinstance(kernels, str) or known) and (reason := _gradient_trial(kernels, network, dtype)):
            return f"the fused kernels failed their trial: {reason}"
    except Exception as error:  # compilers raise errors of all kinds
        if is_out_of_memory(error) or isinstance(error, ImportError):
            raise
        return _does_not_run(error)
    return kernels


def _does_not_run(error: Exception) -> str:
    return f"the fused kernels do not run here ({type(error).__name__}: {str(error).strip().partition(chr(10))[0]})"


def _path(network: Network, dtype: torch.dtype) -> EvaluationPath | str:
    if isinstance(network, ViSNet):
        from mlcalc.kernels.visnet.visnet import visnet_path

        return visnet_path(network, dtype)
    if isinstance(network, HVNet):
        from mlcalc.kernels.hvnet.hvnet import hvnet_path

        return hvnet_path(network, dtype)
    return f"no fused kernels: there are none for {type(network).__name__}"


def _gradients(network: Network, dtype: torch.dtype) -> GradientKernels | str:
    if isinstance(network, ViSNet):
        from mlcalc.kernels.visnet.gradients import visnet_gradients

        return visnet_gradients(network, dtype)
    if isinstance(network, HVNet):
        from mlcalc.kernels.hvnet.gradients import hvnet_gradients

        return hvnet_gradients(network, dtype)
    return f"no fused kernels for gradients: there are none for {type(network).__name__}"


def _trial(path: EvaluationPath, network: Network) -> str:
    """What is wrong with the kernels, as far as a small crystal shows; empty if nothing is."""
    graph, dtype = trial_graph(network), next(network.parameters()).dtype
    found, expected = path.evaluate(graph, forces=True, stress=True), predict(network, graph, stress=True)
    pairs = [(getattr(found, name), getattr(expected, name)) for name in ("energies", "forces", "stress")]
    if not all(bool(torch.isfinite(right).all()) for _, right in pairs):
        return ""  # of a damaged model nothing can be learned about kernels
    if (error := largest_error(pairs)) > _AGREEMENT[dtype] or error != error:  # noqa: PLR0124 - NaN
        return f"their numbers differ from those of autograd by {error:.1e}"
    _passed.add((network.config, dtype))
    return ""


def _gradient_trial(kernels: GradientKernels, network: Network, dtype: torch.dtype) -> str:
    """What is wrong with the kernels for gradients, as far as two small crystals show; empty if nothing is."""
    graph = trial_graph(network)
    graph = join_graphs([graph, replace(graph, positions=1.01 * graph.positions, cell=1.01 * graph.cell)])
    seeds = torch.tensor([0.4, -0.9], dtype=torch.float64)
    found, (energy, gradients) = kernels.gradient(graph, seeds), parameter_gradient(network, graph, seeds)
    predicted, expected = kernels.forces(graph, stress=True), predict(network, graph, stress=True)
    pairs = [(getattr(predicted, name), getattr(expected, name)) for name in ("energies", "forces", "stress")]
    pairs += [(found.energy, energy), *((found.parameters[name], value) for name, value in gradients.items())]
    if not all(bool(torch.isfinite(right).all()) for _, right in pairs):
        return ""  # of a damaged model nothing can be learned about kernels
    if (error := largest_error(pairs)) > _AGREEMENT[dtype] or error != error:  # noqa: PLR0124 - NaN
        return f"their gradients differ from those of autograd by {error:.1e}"
    _passed_gradients.add((network.config, dtype))
    return ""
