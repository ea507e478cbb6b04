"""How vacancies are computed, as checked plain values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from . import checks

_CELLS = ("fixed", "isotropic", "full")


@dataclass(frozen=True)
class VacancySettings:
    """What all vacancies of a call share."""

    relaxed: bool
    cell: str
    fmax: float  # eV/Å
    smax: float  # eV/Å^3
    steps: int
    rattle: float  # Å
    seed: int
    symprec: float  # Å
    require: bool

    @classmethod
    def checked(cls, **given: Any) -> VacancySettings:
        """The settings as plain values; ConfigError where one is out of its range."""
        return cls(
            relaxed=bool(given["relaxed"]),
            cell=checks.choice("cell", given["cell"], _CELLS),
            fmax=checks.number("fmax", given["fmax"], above=0.0, hint=" eV/Å"),
            smax=checks.number("smax", given["smax"], above=0.0, hint=" eV/Å^3"),
            steps=checks.whole("steps", given["steps"], at_least=0),
            rattle=checks.number("rattle", given["rattle"], at_least=0.0, hint=" Å"),
            seed=checks.whole("seed", given["seed"], at_least=0),
            symprec=checks.number("symprec", given["symprec"], above=0.0, hint=" Å"),
            require=bool(given["require"]),
        )


@dataclass(frozen=True)
class MigrationSettings:
    """How a barrier is computed; see `vacancy_migration`."""

    images: int
    spring: float
    climb: bool
    fmax: float
    relax_fmax: float
    steps: int
    rattle: float
    seed: int
    symprec: float
    require: bool

    @classmethod
    def checked(cls, **given: Any) -> MigrationSettings:
        """The settings as plain values; ConfigError where one is out of its range."""
        return cls(
            images=checks.whole("images", given["images"], at_least=1),
            spring=checks.number("spring", given["spring"], above=0.0, hint=" eV/Å^2"),
            climb=bool(given["climb"]),
            fmax=checks.number("fmax", given["fmax"], above=0.0, hint=" eV/Å"),
            relax_fmax=checks.number("relax_fmax", given["relax_fmax"], above=0.0, hint=" eV/Å"),
            steps=checks.whole("steps", given["steps"], at_least=0),
            rattle=checks.number("rattle", given["rattle"], at_least=0.0, hint=" Å"),
            seed=checks.whole("seed", given["seed"], at_least=0),
            symprec=checks.number("symprec", given["symprec"], above=0.0, hint=" Å"),
            require=bool(given["require"]),
        )
