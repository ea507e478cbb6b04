"""Protocols on any ASE calculator: molecular dynamics, what is measured on its frames, relaxation, and properties."""

from __future__ import annotations

from .defects.migration import vacancy_migration
from .defects.migration_result import MigrationBarrier
from .defects.stacking_faults import StackingFault, stacking_fault_energy
from .defects.surface_result import SurfaceEnergy
from .defects.surfaces import surface_energy
from .defects.vacancies import vacancy_energy
from .defects.vacancy_result import VacancyEnergy
from .defects.vacancy_series import VacancySeries, vacancy_series
from .distributions import InteratomicDistances, RadialDistribution, interatomic_distances, radial_distribution
from .dynamics.run import run_nve, run_nvt
from .dynamics.trajectory import Trajectory
from .elasticity.constants import elastic_constants
from .elasticity.equation_of_state import EquationOfState, equation_of_state
from .elasticity.result import ElasticConstants
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
from .relaxation.crystal import relax_crystal
from .relaxation.outcome import Relaxation
from .relaxation.relax import relax, relax_many

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
    "relax_crystal",
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
