"""Vacancies, surfaces and stacking faults."""

from __future__ import annotations

from .migration import vacancy_migration
from .migration_result import MigrationBarrier
from .stacking_faults import StackingFault, stacking_fault_energy
from .surface_result import SurfaceEnergy
from .surfaces import surface_energy
from .vacancies import vacancy_energy
from .vacancy_result import VacancyEnergy
from .vacancy_series import VacancySeries, vacancy_series

__all__ = [
    "MigrationBarrier",
    "StackingFault",
    "SurfaceEnergy",
    "VacancyEnergy",
    "VacancySeries",
    "stacking_fault_energy",
    "surface_energy",
    "vacancy_energy",
    "vacancy_migration",
    "vacancy_series",
]
