"""Which atoms symmetry may exchange: those of one element, magnetic moment, charge and mass."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlcalc.ground.errors import Use
from mlcalc.ground.remedies import NO_CHARGES

from .. import checks
from ..errors import ConfigError

Array = NDArray[np.float64]

_LABELS = ("initial_magmoms", "initial_charges")  # tags are not among them: ASE's builders number layers with them
_SAME = 1e-3  # Bohr magnetons, e and u: closer than this moments, charges and masses are one, rounded


def site_kinds(atoms: Atoms) -> NDArray[np.int64]:
    """(N,) numbers from 1 on, equal for atoms that symmetry may exchange: of one element, moment, charge and mass.

    They are counted as the kinds appear.  Moments, charges and masses differ where they are 1e-3 apart.
    """
    values = np.hstack([np.asarray(column, dtype=float).reshape(len(atoms), -1) for column in _columns(atoms)])
    found, seen = np.empty(len(atoms), dtype=np.int64), values[:0]
    for k, row in enumerate(values):
        same = np.flatnonzero((np.abs(seen - row) < _SAME).all(axis=1))
        found[k] = (same[0] if len(same) else len(seen)) + 1
        seen = seen if len(same) else np.vstack([seen, row])
    return found


def _columns(atoms: Atoms) -> list[Any]:
    return [atoms.numbers, atoms.get_masses(), *(atoms.arrays[name] for name in _LABELS if name in atoms.arrays)]


def labels(atoms: Atoms) -> list[str]:
    """Chemical symbols, with a number behind them for each further kind of an element, as phonopy has it: Cu, Cu1."""
    kinds, symbols = site_kinds(atoms).tolist(), atoms.get_chemical_symbols()
    seen: dict[str, list[int]] = {}
    for symbol, kind in zip(symbols, kinds, strict=True):
        if kind not in seen.setdefault(symbol, []):
            seen[symbol].append(kind)
    return [f"{symbol}{seen[symbol].index(kind) or ''}" for symbol, kind in zip(symbols, kinds, strict=True)]


def element(label: str) -> str:
    """The chemical symbol of a label."""
    return label.rstrip("0123456789")


def distinguished(symbols: list[str]) -> bool:
    """Whether some labels differ by their number only."""
    return any(element(symbol) != symbol for symbol in symbols)


def dressed(bare: Atoms, kinds: NDArray[np.int64], model: Atoms) -> Atoms:
    """A copy of a structure of kinds, with the elements, moments, charges and masses of the atoms of those kinds.

    kinds: (N,) of `bare`, as `site_kinds(model)` has them.  What `info` of the model holds comes along, and so do tags
    if all atoms of a kind have the same.
    """
    mine = site_kinds(model)
    like = [int(np.flatnonzero(mine == kind)[0]) for kind in kinds]
    copy = Atoms(numbers=model.numbers[like], positions=bare.positions, cell=bare.cell, pbc=bare.pbc)
    for name in (*_LABELS, "masses"):
        if name in model.arrays:
            copy.set_array(name, model.arrays[name][like])
    tags = model.get_tags()
    if tags.any() and all(len(set(tags[mine == kind].tolist())) == 1 for kind in set(mine.tolist())):
        copy.set_tags(tags[like])
    copy.info = dict(model.info)
    return copy


def plain_crystal(atoms: Any, purpose: str) -> str:
    """A caution on constraints, empty where there are none.

    ConfigError for what `checks.crystal` refuses, and for magnetic moments or charges of atoms, which neither symmetry
    nor the displaced supercells would know.
    """
    checks.crystal(atoms, purpose)
    light = np.flatnonzero(~(atoms.get_masses() > 0)).tolist()
    if light:
        raise ConfigError(
            f"atoms {checks.listed(light)} have no positive mass",
            setting="masses",
            remedies=[Use("masses", python="set one with atoms.set_masses(...)", file="give them masses in the file")],
        )
    for name, values in (
        ("magnetic_moments", atoms.get_initial_magnetic_moments()),
        ("charges", atoms.get_initial_charges()),
    ):
        if np.any(values):
            take_off = f"take them off where the potential has no use for them, atoms.set_initial_{name}(None)"
            raise ConfigError(
                f"the atoms have initial {name.replace('_', ' ')} (up to {np.abs(values).max():g}), and displaced "
                f"supercells are made without them, so that {purpose} would be that of other atoms",
                setting=f"initial_{name}",
                value=float(np.abs(values).max()),
                remedies=[replace(NO_CHARGES, setting=f"initial_{name}", python=take_off)],
            )
    if not atoms.constraints:
        return ""
    return (
        f"the constraints of the atoms ({', '.join(sorted({type(c).__name__ for c in atoms.constraints}))}) are not "
        f"applied: for {purpose} all atoms are displaced and all forces count"
    )
