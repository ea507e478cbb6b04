"""A short canonical run into a folder, and the files it leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ase import Atoms
from springs import copper

from mlcalc.md_protocols import Trajectory, run_nvt

OUTPUTS = ("log.csv", "trajectory.extxyz")
SETTINGS: dict[str, Any] = {"temperature_K": 300.0, "timestep_fs": 2.0, "thermostat": "bussi", "trajectory_interval": 3}


def bussi(folder: Path | None, atoms: Atoms | None = None, **changes: Any) -> Trajectory:
    return run_nvt(atoms or copper(1), **{**SETTINGS, "steps": 20, "output": folder, **changes})


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in OUTPUTS}
