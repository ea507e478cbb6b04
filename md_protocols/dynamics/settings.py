"""What fixes a run, apart from its length."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from mlcalc.ground.errors import Use

from .. import checks
from ..errors import ConfigError
from .integrators import THERMOSTATS

_LARGEST_TIMESTEP = 10.0  # fs
_MOST_FRAMES, _MOST_BYTES = 1000, 256e6  # of a run with the default interval
_BYTES_PER_ATOM = 9 * 8  # positions, momenta, forces


@dataclass(frozen=True)
class MDSettings:
    """Plain JSON values; a continued run must have the same."""

    ensemble: str  # "nve" or the thermostat's name
    timestep_fs: float
    temperature_K: float | None  # noqa: N815 - the public keyword
    tau_fs: float | None
    seed: int
    trajectory_interval: int | None  # steps between frames; None: chosen from the length of the run
    log_interval: int | None  # steps between log rows; None: as the frames
    remove_drift: bool
    remove_rotation: bool

    @property
    def label(self) -> str:
        """The ensemble in words, saying whether it is canonical."""
        return THERMOSTATS.get(self.ensemble, "NVE, velocity Verlet")

    @property
    def intervals(self) -> tuple[int, int]:
        """Steps between log rows and between frames, once filled in."""
        return self.log_interval or 1, self.trajectory_interval or 1

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "label": self.label}

    def with_intervals(self, stored: Mapping[str, Any] | None, steps: int, n_atoms: int) -> MDSettings:
        """The settings with intervals filled in: those of the run being continued, else the defaults."""
        interval = self.trajectory_interval or (stored or {}).get("trajectory_interval")
        interval = interval or default_interval(steps, n_atoms)
        log_interval = self.log_interval or (stored or {}).get("log_interval") or interval
        return replace(self, trajectory_interval=interval, log_interval=log_interval)


def default_interval(steps: int, n_atoms: int) -> int:
    """Steps between frames such that a run keeps at most 1000 frames and about 256 MB."""
    frames = max(10, min(_MOST_FRAMES, int(_MOST_BYTES // (_BYTES_PER_ATOM * n_atoms))))
    return max(1, -(-steps // frames))


def check_timestep(timestep_fs: Any, allow_large: bool) -> float:
    """The timestep in fs; ConfigError where it cannot be one."""
    value = checks.number("timestep_fs", timestep_fs, above=0.0, hint=" of femtoseconds")
    if value > _LARGEST_TIMESTEP and not allow_large:
        raise ConfigError(
            f"timestep_fs is {value:g}, more than {_LARGEST_TIMESTEP:g} fs: it is counted in femtoseconds, without "
            "ase.units.fs (1 fs is common)",
            setting="timestep_fs",
            value=value,
            limit=_LARGEST_TIMESTEP,
            remedies=[Use("allow_large_timestep", True, "if it is meant")],
        )
    return value


def check_tau(tau_fs: Any, timestep_fs: float) -> float:
    """The relaxation time in fs; ConfigError below the timestep, where rescaling overshoots."""
    value = checks.number("tau_fs", tau_fs, above=0.0)
    if value < timestep_fs:
        raise ConfigError(
            f"tau_fs is {value:g}, less than the timestep of {timestep_fs:g} fs",
            setting="tau_fs",
            value=value,
            limit=timestep_fs,
            remedies=["choose at least the timestep, commonly 100 fs or more"],
        )
    return value
