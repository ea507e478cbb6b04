"""Energies and forces of networks by compiled kernels on the CPU: the same numbers as by automatic differentiation."""

from __future__ import annotations
