"""The ways to evaluate a model on a graph, and which of them runs."""

from __future__ import annotations

import threading
from dataclasses import fields
from typing import Any, cast

import torch
from torch import Tensor

from mlcalc.evaluation_path import EvaluationPath, TorchPath
from mlcalc.ground.errors import Use
from mlcalc.md_protocols.errors import ConfigError
from mlcalc.models import Graph, Network, Potential, Prediction, predict

KERNELS = ("auto", "fused", "torch", "compile")
_NUMBA = ("numba", "llvmlite")


class CompiledPath(TorchPath):
    """The network through torch.compile, for one kind of graph of any size; the first calls take minutes."""

    name = "torch.compile"

    def __init__(self, network: Network, device: torch.device) -> None:
        super().__init__(cast("Potential", network), device)
        self._compiled = _Compiled(network)
        self._compiling = threading.Lock()  # torch's compiler is not made for several threads

    def evaluate(self, graph: Graph, *, forces: bool, stress: bool) -> Prediction:
        """What `predict` gives for the compiled network."""
        with self._compiling:
            return predict(self._compiled, graph.to(self._device), forces=forces, stress=stress)


class _Compiled:
    """A network as a Potential whose arithmetic torch has compiled."""

    def __init__(self, network: Network) -> None:
        self.cutoff, self.structure_shift = network.cutoff, network.structure_shift

        def energies(tensors: tuple[Tensor, ...]) -> Any:
            return network(Graph(*tensors))

        self._energies: Any = torch.compile(energies, dynamic=True)

    def __call__(self, graph: Graph) -> Tensor:
        energies: Tensor = self._energies(tuple(getattr(graph, field.name) for field in fields(Graph)))
        return energies


def choose_path(
    potential: Potential, device: torch.device, dtype: torch.dtype, kernels: str
) -> tuple[EvaluationPath, str]:
    """The path that `kernels` asks for, and why it is not the fastest there could be; empty if it is.

    Raises ConfigError for an unknown word, and for kernels that this model does not have.
    """
    if kernels not in KERNELS:
        raise ConfigError(
            f"kernels = {kernels!r} is not known: choose one of {', '.join(KERNELS)}",
            setting="kernels",
            value=kernels,
            limit=KERNELS,
        )
    if kernels == "torch":
        return TorchPath(potential, device), "kernels='torch' was asked for"
    if kernels == "compile":
        if (reason := _not_differentiated(potential)) is not None:
            raise _impossible(kernels, reason)
        return CompiledPath(cast("Network", potential), device), "kernels='compile' was asked for"
    found = _fused(potential, device, dtype)
    if not isinstance(found, str):
        return found, str(getattr(found, "why", ""))
    if kernels == "fused":
        raise _impossible(kernels, found)
    return TorchPath(potential, device), found


def _impossible(kernels: str, reason: str) -> ConfigError:
    text = f"kernels={kernels!r} is not possible: {reason}"
    return ConfigError(text, setting="kernels", value=kernels, remedies=[Use("kernels", "auto")])


def _not_differentiated(potential: Potential) -> str | None:
    """Why no path but the reference can take the model, or None."""
    if not isinstance(potential, Network):
        return f"{type(potential).__name__} is no network of mlcalc.models"
    if potential.quantity != "energy":
        return f"the model predicts {potential.quantity}, not the energy"
    return None


def _fused(potential: Potential, device: torch.device, dtype: torch.dtype) -> EvaluationPath | str:
    """The fused kernels for this network and device, or why there are none."""
    if (reason := _not_differentiated(potential)) is not None:
        return f"no fused kernels: {reason}"
    network = cast("Network", potential)
    try:
        if device.type == "cuda":
            from mlcalc.gpu import cuda_path

            found: EvaluationPath | str = cuda_path(network, device, dtype)
        else:
            from mlcalc.kernels import fused_path

            found = fused_path(network, dtype)
    except ImportError as error:
        if error.name is None or error.name.startswith(_NUMBA):
            return f"no fused kernels: numba is not installed, or does not load ({error}). pip install numba"
        raise
    return found
