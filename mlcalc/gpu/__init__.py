"""Energies and forces on CUDA devices: padded graphs, captured CUDA graphs, neighbor lists that stay on the device."""

from __future__ import annotations

from mlcalc.gpu.capture import CapturedPath, cuda_path
from mlcalc.gpu.neighbors import DeviceNeighborList
from mlcalc.gpu.step import ResidentPotential, Step
from mlcalc.gpu.trajectory import DeviceTrajectory

__all__ = ["CapturedPath", "DeviceNeighborList", "DeviceTrajectory", "ResidentPotential", "Step", "cuda_path"]
