"""Checks of settings and structures, done before any work."""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from dataclasses import replace
from numbers import Real
from typing import Any

import numpy as np
from ase import Atoms
from ase.constraints import FixAtoms
from ase.data import chemical_symbols

from mlcalc.ground.errors import Use
from mlcalc.ground.remedies import NO_CONSTRAINTS, SET_PBC

from .errors import ConfigError

_LISTED = 8  # indices named in an error text
_CALCULATOR = Use("calc", python="attach one first, atoms.calc = MLCalculator(...)")
_MASSES = Use("masses", python="set one with atoms.set_masses(...)", file="give each atom one in the file")


def number(
    name: str, value: Any, *, above: float | None = None, at_least: float | None = None, hint: str = ""
) -> float:
    """The finite number given, within its bounds; ConfigError otherwise."""
    bound = f"greater than {above:g}" if above is not None else f"at least {at_least:g}" if at_least is not None else ""
    good = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    if good and (above is None or value > above) and (at_least is None or value >= at_least):
        return float(value)
    raise ConfigError(
        f"{name} is {value!r}: it must be a finite number{' ' * bool(bound)}{bound}{hint}",
        setting=name,
        value=value,
        limit=above if above is not None else at_least,
    )


def whole(name: str, value: Any, *, at_least: int) -> int:
    """The whole number given, not below its bound; ConfigError otherwise."""
    if isinstance(value, int | np.integer) and not isinstance(value, bool) and value >= at_least:
        return int(value)
    raise ConfigError(
        f"{name} is {value!r}: it must be a whole number, at least {at_least}",
        setting=name,
        value=value,
        limit=at_least,
    )


def choice(name: str, value: Any, options: Sequence[str]) -> str:
    """The option given, in its own spelling; ConfigError with the nearest options otherwise."""
    if isinstance(value, str) and value.lower() in options:
        return value.lower()
    near = difflib.get_close_matches(str(value).lower(), options, n=1)
    guess = f" Did you mean {near[0]!r}?" if near else ""
    raise ConfigError(
        f"unknown {name} {value!r}: choose one of {', '.join(map(repr, options))}.{guess}",
        setting=name,
        value=value,
        limit=tuple(options),
    )


def listed(indices: Sequence[int], symbols: Sequence[str] | None = None) -> str:
    """The first few indices as text, with their elements where known."""
    names = [f"{symbols[k]}{k}" if symbols else str(k) for k in indices[:_LISTED]]
    return ", ".join(names) + (f" and {len(indices) - _LISTED} more" if len(indices) > _LISTED else "")


def finite_rows(what: str, values: Any) -> None:
    """ConfigError naming the atoms whose values are not finite."""
    bad = np.flatnonzero(~np.isfinite(values).all(axis=-1)).tolist()
    if bad:
        raise ConfigError(
            f"{what} of {len(bad)} atoms are not finite (indices {listed(bad)})",
            value=bad,
            remedies=["repair the structure"],
        )


def structure(atoms: Any, purpose: str, needs: Sequence[str] = ("energy", "forces")) -> None:
    """ConfigError for anything but a sound structure whose calculator gives what is needed for this purpose."""
    geometry(atoms, purpose)
    if atoms.calc is None:
        raise ConfigError("the atoms have no calculator", setting="calc", remedies=[_CALCULATOR])
    _gives(atoms.calc, purpose, needs)


def geometry(atoms: Any, purpose: str) -> None:
    """ConfigError for anything but a structure of known elements and finite numbers; it needs no calculator."""
    if not isinstance(atoms, Atoms):
        raise ConfigError(f"atoms is a {type(atoms).__name__}: give one ase.Atoms object", setting="atoms")
    if len(atoms) == 0:
        raise ConfigError(f"the structure has no atoms: there is nothing to do for {purpose}")
    strange = np.flatnonzero((atoms.numbers < 0) | (atoms.numbers >= len(chemical_symbols))).tolist()
    if strange:
        raise ConfigError(
            f"atoms {listed(strange)} are of no element (atomic number {atoms.numbers[strange[0]]}, the highest is "
            f"{len(chemical_symbols) - 1}): repair the structure"
        )
    finite_rows("positions", atoms.positions)
    if not np.isfinite(atoms.cell.array).all():
        raise ConfigError(f"the cell is not finite: {atoms.cell.array.tolist()}", remedies=["repair the structure"])


def crystal(atoms: Any, purpose: str, needs: Sequence[str] = ("energy", "forces")) -> None:
    """ConfigError for anything but a sound structure, periodic in all directions, with such a calculator."""
    structure(atoms, purpose, needs)
    lattice(atoms, purpose)


def lattice(atoms: Atoms, purpose: str) -> None:
    """ConfigError for a structure that is not periodic in all directions, or whose cell has no volume."""
    if not atoms.pbc.all():
        raise ConfigError(
            f"the structure has pbc={atoms.pbc.tolist()}: {purpose} needs one that is periodic in all directions",
            setting="pbc",
            value=atoms.pbc.tolist(),
            remedies=[replace(SET_PBC, why="(for a slab with enough vacuum in the cell)")],
        )
    lengths = np.linalg.norm(atoms.cell.array, axis=1)
    if abs(np.linalg.det(atoms.cell.array)) <= 1e-6 * lengths.prod() or not lengths.all():
        raise ConfigError(f"the structure is periodic but its cell has no volume: {atoms.cell.array.tolist()}")


def runnable(atoms: Any) -> None:
    """ConfigError for anything that molecular dynamics cannot start from."""
    structure(atoms, "molecular dynamics")
    finite_rows("momenta", atoms.get_momenta())
    light = np.flatnonzero(~(atoms.get_masses() > 0)).tolist()
    if light:
        raise ConfigError(
            f"atoms {listed(light)} have no positive mass", setting="masses", value=light, limit=0, remedies=[_MASSES]
        )
    other = [type(c).__name__ for c in atoms.constraints if not isinstance(c, FixAtoms)]
    if other:
        raise ConfigError(
            f"the constraint {other[0]} is not supported: only FixAtoms is",
            setting="constraints",
            value=other,
            remedies=[NO_CONSTRAINTS],
        )


def _gives(calculator: Any, purpose: str, needs: Sequence[str]) -> None:
    """ConfigError for a calculator that says of itself, as ASE's do, that it lacks one of the properties."""
    offered = getattr(calculator, "implemented_properties", needs)
    lacking = [name for name in needs if name not in offered]
    if lacking:
        raise ConfigError(
            f"the calculator {type(calculator).__name__} gives {', '.join(offered) or 'nothing'}, but no "
            f"{' and no '.join(lacking)}: {purpose} needs {'both' if len(needs) == 2 else 'them'}",
            setting="calc",
            value=lacking,
            remedies=["attach one of a potential"],
        )
