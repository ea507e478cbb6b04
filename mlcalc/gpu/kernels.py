"""How the layers of a network run inside of a captured graph."""

from __future__ import annotations

from importlib.util import find_spec

from torch import nn

from mlcalc.models import HVNet, Potential, ViSNet

KERNELS = ("torch", "compile", "triton")


def fusion_obstacle(potential: Potential, kernels: str) -> str:
    """Why the potential has no kernels of this kind; empty if it has."""
    if kernels != "triton":
        return ""
    if find_spec("triton") is None:
        return "the fused kernels need the package triton, which comes with torch for CUDA on Linux"
    from mlcalc.gpu import fused_hvnet, fused_visnet

    if isinstance(potential, ViSNet):
        return fused_visnet.obstacle(potential)
    if isinstance(potential, HVNet):
        return fused_hvnet.obstacle(potential)
    return f"{type(potential).__name__} has no Triton kernels"


def prepare_kernels(network: nn.Module, kernels: str) -> None:
    """Have the network's layers run by kernels of this kind."""
    if kernels == "compile":
        for layer in _layers(network):
            layer.compile(dynamic=False)  # sizes are padded: few of them, and each compiled for itself
    elif kernels == "triton":
        from mlcalc.gpu import fused_hvnet, fused_visnet

        if isinstance(network, ViSNet):
            fused_visnet.fuse(network)
        elif isinstance(network, HVNet):
            fused_hvnet.fuse(network)


def _layers(network: nn.Module) -> list[nn.Module]:
    for name in ("blocks", "hermconv"):
        found = getattr(network, name, None)
        if isinstance(found, nn.ModuleList):
            return list(found)
    return [network]
