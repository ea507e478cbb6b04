"""What tells atoms of one element apart, so that symmetry does not take one for the other: moments, charges, masses."""

from __future__ import annotations

from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from .. import checks
from ..errors import ConfigError

_LABELS = ("initial_magmoms", "initial_charges")  # tags are not among them: ASE's builders number layers with them


def site_kinds(atoms: Atoms) -> NDArray[np.int64]:
    """(N,) whole numbers, equal for atoms of the same element, magnetic moment and charge.

    They are the atomic numbers where nothing else tells atoms apart.  Moments and charges count to 1e-3.
    """
    rows = [atoms.numbers.astype(float)[:, None]]
    for name in _LABELS:
        if name in atoms.arrays:
            rows.append(np.round(np.asarray(atoms.arrays[name], dtype=float), 3).reshape(len(atoms), -1) + 0.0)
    kinds = np.unique(np.hstack(rows), axis=0, return_inverse=True)[1].reshape(-1)
    if len(set(kinds.tolist())) == len(set(atoms.numbers.tolist())):
        return np.asarray(atoms.numbers, dtype=np.int64)
    return np.asarray(kinds + 1, dtype=np.int64)


def dressed(bare: Atoms, kinds: NDArray[np.int64], model: Atoms) -> Atoms:
    """A copy of a structure of kinds, with the elements, moments and charges of the atoms of those kinds.

    kinds: (N,) of `bare`, as `site_kinds(model)` has them.  What `info` of the model holds comes along, and so do tags
    if all atoms of a kind have the same.
    """
    mine = site_kinds(model)
    like = [int(np.flatnonzero(mine == kind)[0]) for kind in kinds]
    copy = Atoms(numbers=model.numbers[like], positions=bare.positions, cell=bare.cell, pbc=bare.pbc)
    for name in _LABELS:
        if name in model.arrays:
            copy.set_array(name, model.arrays[name][like])
    tags = model.get_tags()
    if tags.any() and all(len(set(tags[mine == kind].tolist())) == 1 for kind in set(mine.tolist())):
        copy.set_tags(tags[like])
    copy.info = dict(model.info)
    return copy


Array = NDArray[np.float64]
_SAME_MASS = 1e-3  # u: masses closer than this are one, rounded


def plain_crystal(atoms: Any, purpose: str) -> str:
    """A caution on constraints, empty where there are none.

    ConfigError for what `checks.crystal` refuses, and for magnetic moments or charges of atoms, which neither symmetry
    nor the displaced supercells would know.
    """
    checks.crystal(atoms, purpose)
    light = np.flatnonzero(~(atoms.get_masses() > 0)).tolist()
    if light:
        raise ConfigError(f"atoms {checks.listed(light)} have no positive mass: set one with atoms.set_masses(...)")
    for name, values in (
        ("magnetic_moments", atoms.get_initial_magnetic_moments()),
        ("charges", atoms.get_initial_charges()),
    ):
        if np.any(values):
            raise ConfigError(
                f"the atoms have initial {name.replace('_', ' ')} (up to {np.abs(values).max():g}): displaced "
                f"supercells are made without them, and symmetry does not know them, so {purpose} would be that of "
                f"other atoms; where the potential has no use for them, take them off: atoms.set_initial_{name}(None)"
            )
    if not atoms.constraints:
        return ""
    return (
        f"the constraints of the atoms ({', '.join(sorted({type(c).__name__ for c in atoms.constraints}))}) are not "
        f"applied: for {purpose} all atoms are displaced and all forces count"
    )


def labels(atoms: Atoms) -> list[str]:
    """Chemical symbols, with a number behind them for each further mass of an element: Cu, Cu1, Cu2."""
    masses, found = atoms.get_masses(), [""] * len(atoms)
    for symbol in dict.fromkeys(atoms.get_chemical_symbols()):
        seen: list[float] = []
        for k in np.flatnonzero(atoms.numbers == atoms.numbers[atoms.get_chemical_symbols().index(symbol)]):
            near = [n for n, mass in enumerate(seen) if abs(mass - masses[k]) < _SAME_MASS]
            if not near:
                seen.append(float(masses[k]))
            kind = near[0] if near else len(seen) - 1
            found[k] = f"{symbol}{kind or ''}"
    return found


def element(label: str) -> str:
    """The chemical symbol of a label."""
    return label.rstrip("0123456789")


def distinguished(symbols: list[str]) -> bool:
    """Whether some labels differ by their number only."""
    return any(element(symbol) != symbol for symbol in symbols)


def spglib_cell(atoms: Atoms) -> tuple[Array, Array, list[int]]:
    """Cell, fractional positions and kinds of atoms, for spglib."""
    names = labels(atoms)
    kinds = {name: k for k, name in enumerate(dict.fromkeys(names), 1)}
    return atoms.cell.array, atoms.get_scaled_positions(), [kinds[name] for name in names]


def refuse_masses(atoms: Atoms, symprec: float, what: str) -> None:
    """ConfigError where the space group exchanges atoms of different masses, for what knows elements only."""
    import spglib

    names = labels(atoms)
    if not distinguished(names):
        return
    cell: Any = (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers)
    found: Any = spglib.get_symmetry_dataset(cell, symprec=symprec)
    for k, first in enumerate(found.equivalent_atoms):
        if names[k] != names[first]:
            masses = atoms.get_masses()
            raise ConfigError(
                f"atoms {first} and {k} are equal by symmetry and have the masses {masses[first]:g} and "
                f"{masses[k]:g} u: {what} knows elements only, and would give both the same; set one mass per element"
            )
