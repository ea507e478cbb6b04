"""Energies and forces of networks by compiled kernels on the CPU: the same numbers as by automatic differentiation."""

from __future__ import annotations

from typing import Any

import torch

from mlcalc.models import HVNet, Network, ViSNet

__all__ = ["fused_path"]


def fused_path(network: Network, dtype: torch.dtype) -> Any:
    """An EvaluationPath of fused kernels for this network, or as a str why there is none."""
    if isinstance(network, ViSNet):
        from mlcalc.kernels.visnet import visnet_path

        return visnet_path(network, dtype)
    if isinstance(network, HVNet):
        from mlcalc.kernels.hvnet import hvnet_path

        return hvnet_path(network, dtype)
    return f"there are no fused kernels for {type(network).__name__}"
