"""How the layers of a network run inside of a captured graph."""

from __future__ import annotations

from torch import nn

from mlcalc.models import Potential

KERNELS = ("torch", "compile")


def fusion_obstacle(potential: Potential, kernels: str) -> str:
    """Why the potential has no kernels of this kind; empty if it has."""
    return ""


def prepare_kernels(network: nn.Module, kernels: str) -> None:
    """Have the network's layers run by kernels of this kind."""
    if kernels == "compile":
        for layer in _layers(network):
            layer.compile(dynamic=False)  # sizes are padded: few of them, and each compiled for itself


def _layers(network: nn.Module) -> list[nn.Module]:
    for name in ("blocks", "hermconv"):
        found = getattr(network, name, None)
        if isinstance(found, nn.ModuleList):
            return list(found)
    return [network]
