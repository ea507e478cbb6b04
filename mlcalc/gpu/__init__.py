"""Energies and forces on CUDA devices: padded graphs, captured CUDA graphs, neighbor lists that stay on the device."""

from __future__ import annotations

from mlcalc.gpu.capture import CapturedPath, cuda_path

__all__ = ["CapturedPath", "cuda_path"]
