"""Protocols on any ASE calculator: molecular dynamics, what is measured on its frames, relaxation, and properties."""

from __future__ import annotations

from .distributions import InteratomicDistances, RadialDistribution, interatomic_distances, radial_distribution
from .dynamics import run_nve, run_nvt
from .elasticity import ElasticConstants, elastic_constants
from .equation_of_state import EquationOfState, equation_of_state
from .errors import (
    ConfigError,
    EvaluationError,
    NotConvergedError,
    PhysicsWarning,
    ProtocolError,
    ResultFileError,
    SimulationError,
    ThermostatError,
)
from .ipi import ConnectionFailedError, IPIRun, ServeError, ServeReport, WireError, WorkerError, run_ipi, serve_ipi
from .migration import MigrationBarrier, vacancy_migration
from .phonons import (
    BornCharges,
    EffectivePhonons,
    Grueneisen,
    HessianComparison,
    PhononDispersion,
    QuasiHarmonic,
    ThermalConductivity,
    effective_phonons,
    grueneisen,
    hessian_check,
    phonon_dispersion,
    phonon_dispersion_from_hessian,
    quasi_harmonic,
    thermal_conductivity,
)
from .relaxation import Relaxation, relax, relax_many
from .stacking_faults import StackingFault, stacking_fault_energy
from .surfaces import SurfaceEnergy, surface_energy
from .trajectory import Trajectory
from .vacancies import VacancyEnergy, vacancy_energy
from .vacancy_series import VacancySeries, vacancy_series

__all__ = [
    "BornCharges",
    "ConfigError",
    "ConnectionFailedError",
    "EffectivePhonons",
    "ElasticConstants",
    "EquationOfState",
    "EvaluationError",
    "Grueneisen",
    "HessianComparison",
    "IPIRun",
    "InteratomicDistances",
    "MigrationBarrier",
    "NotConvergedError",
    "PhononDispersion",
    "PhysicsWarning",
    "ProtocolError",
    "QuasiHarmonic",
    "RadialDistribution",
    "Relaxation",
    "ResultFileError",
    "ServeError",
    "ServeReport",
    "SimulationError",
    "StackingFault",
    "SurfaceEnergy",
    "ThermalConductivity",
    "ThermostatError",
    "Trajectory",
    "VacancyEnergy",
    "VacancySeries",
    "WireError",
    "WorkerError",
    "effective_phonons",
    "elastic_constants",
    "equation_of_state",
    "grueneisen",
    "hessian_check",
    "interatomic_distances",
    "phonon_dispersion",
    "phonon_dispersion_from_hessian",
    "quasi_harmonic",
    "radial_distribution",
    "relax",
    "relax_many",
    "run_ipi",
    "run_nve",
    "run_nvt",
    "serve_ipi",
    "stacking_fault_energy",
    "surface_energy",
    "thermal_conductivity",
    "vacancy_energy",
    "vacancy_migration",
    "vacancy_series",
]
