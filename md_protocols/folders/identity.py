"""What a run in a folder depends on, so that only the same run continues it."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
from typing import Any

import numpy as np
from ase import Atoms


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
    stored = _renamed(stored, now)
    for name in sorted(stored.keys() | now.keys()):
        old, new = stored.get(name), now.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found += differences(old, new, f"{prefix}{name}.")
        elif isinstance(old, np.ndarray) and isinstance(new, np.ndarray):
            found += _array_difference(prefix + name, old, new)
        elif old != new:
            found.append(f"{prefix}{name}: {old!r} in the folder, {new!r} now")
    return found


def _renamed(stored: Mapping[str, Any], now: Mapping[str, Any]) -> Mapping[str, Any]:
    """The stored values under today's names; earlier versions had "sha256" for two things."""
    names = [name for name in ("contents_sha256", "file_sha256") if name in now and name not in stored]
    if "sha256" not in stored or "sha256" in now or len(names) != 1:
        return stored
    return {names[0] if key == "sha256" else key: value for key, value in stored.items()}


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
