"""Molecular dynamics at constant energy and constant temperature."""

from __future__ import annotations

from .run import run_nve, run_nvt
from .trajectory import Trajectory

__all__ = ["Trajectory", "run_nve", "run_nvt"]
