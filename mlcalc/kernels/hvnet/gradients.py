"""Derivatives of the energies of the smooth HVNet by its weights, without automatic differentiation."""

from __future__ import annotations

import torch

from mlcalc.kernels.gradients import GradientKernels
from mlcalc.models import HVNet


def hvnet_gradients(network: HVNet, dtype: torch.dtype) -> GradientKernels | str:
    """The kernels of this network, or why there are none."""
    return f"no fused kernels for gradients: there are none for {type(network).__name__}"
