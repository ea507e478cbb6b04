"""What fixes a run, apart from its length."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from typing import Any

import numpy as np
from ase import Atoms

from . import checks
from .errors import ConfigError
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
            "ase.units.fs (1 fs is common); pass allow_large_timestep=True if it is meant"
        )
    return value


def check_tau(tau_fs: Any, timestep_fs: float) -> float:
    """The relaxation time in fs; ConfigError below the timestep, where rescaling overshoots."""
    value = checks.number("tau_fs", tau_fs, above=0.0)
    if value < timestep_fs:
        raise ConfigError(
            f"tau_fs is {value:g}, less than the timestep of {timestep_fs:g} fs: choose at least the timestep, "
            "commonly 100 fs or more"
        )
    return value


def describe_calculator(calculator: Any) -> dict[str, Any]:
    """What identifies a calculator: its class, and its `describe()` or ASE parameters as JSON values."""
    describe: Any = getattr(calculator, "describe", None) or getattr(calculator, "todict", dict)
    kind = type(calculator)
    return {"class": f"{kind.__module__}.{kind.__qualname__}", "parameters": _plain(describe())}


def versions(*more: str) -> dict[str, str]:
    """Versions of what a run depends on."""
    found = {}
    for name in ("mlcalc", "ase", "numpy", "torch", *more):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def structure_arrays(atoms: Atoms) -> dict[str, Any]:
    """Everything of the starting structure that a continued run must share."""
    mobile = np.ones(len(atoms), dtype=bool)
    for constraint in atoms.constraints:
        mobile[constraint.index] = False
    return {
        "numbers": atoms.numbers.copy(),
        "masses": atoms.get_masses(),
        "tags": atoms.get_tags(),
        "mobile": mobile,
        "cell": atoms.cell.array.copy(),
        "pbc": atoms.pbc.copy(),
        "initial_positions": atoms.positions.astype(float),
        "initial_momenta": np.array(atoms.get_momenta(), dtype=float),
    }


def differences(stored: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> list[str]:
    """One line per setting or structure array that is not the same."""
    found = []
    for name in sorted(stored.keys() | now.keys()):
        old, new = stored.get(name), now.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found += differences(old, new, f"{prefix}{name}.")
        elif isinstance(old, np.ndarray) and isinstance(new, np.ndarray):
            found += _array_difference(prefix + name, old, new)
        elif old != new:
            found.append(f"{prefix}{name}: {old!r} in the folder, {new!r} now")
    return found


def _array_difference(name: str, old: Any, new: Any) -> list[str]:
    if old.shape != new.shape:
        return [f"{name}: {len(old)} in the folder, {len(new)} now"]
    rows = np.flatnonzero((old != new).reshape(len(old), -1).any(axis=1))
    if not len(rows):
        return []
    k = int(rows[0])
    return [f"{name}: {len(rows)} differ, first {k}: {old[k].tolist()} in the folder, {new[k].tolist()} now"]


def _plain(value: Any) -> Any:
    """JSON values only: an object's text may hold its address, which changes from run to run."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return type(value).__name__
