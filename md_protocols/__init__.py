"""Molecular-dynamics protocols on any ASE calculator, and what is measured on their frames."""

from __future__ import annotations

from .distributions import InteratomicDistances, RadialDistribution, interatomic_distances, radial_distribution
from .dynamics import run_nve, run_nvt
from .errors import ConfigError, PhysicsWarning, ProtocolError, ResultFileError, SimulationError, ThermostatError
from .trajectory import Trajectory

__all__ = [
    "ConfigError",
    "InteratomicDistances",
    "PhysicsWarning",
    "ProtocolError",
    "RadialDistribution",
    "ResultFileError",
    "SimulationError",
    "ThermostatError",
    "Trajectory",
    "interatomic_distances",
    "radial_distribution",
    "run_nve",
    "run_nvt",
]
