"""The one door to spglib: the symmetry of crystals, layers and wires."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from .. import checks
from ..errors import ConfigError
from .kinds import distinguished, labels, site_kinds
from .vacuum import padded

Array = NDArray[np.float64]
Kinds = Sequence[int] | NDArray[np.int64]
SYMPREC = 1e-5  # Å, the tolerance of a search where none is given


@dataclass(frozen=True, eq=False)
class StandardizedCell:
    """A cell of a crystal in a standard setting, as it lies there."""

    cell: Array  # (3, 3) Å, vectors as rows
    scaled_positions: Array  # (N, 3)
    kinds: NDArray[np.int64]  # (N,) as those that were searched with


def symmetry_dataset(atoms: Atoms, symprec: float, kinds: Kinds | None = None) -> Any:
    """spglib's data set of the crystal; None where spglib finds no symmetry, not even the trivial one.

    symprec: Å.  kinds: (N,) whole numbers, equal for atoms that may be exchanged; `site_kinds(atoms)` unless given.
    Directions without periodicity get vacuum first.

    Raises ConfigError for positions that are not finite, a cell without volume, and a symprec that is not positive.
    """
    return _asked("get_symmetry_dataset", atoms, symprec, kinds)


def symmetry(atoms: Atoms, symprec: float, kinds: Kinds | None = None) -> Any:
    """`symmetry_dataset`, with a ConfigError where spglib finds none."""
    found = symmetry_dataset(atoms, symprec, kinds)
    if found is None:
        raise no_symmetry(symprec)
    return found


def symmetry_operations(
    atoms: Atoms, symprec: float, kinds: Kinds | None = None
) -> tuple[NDArray[np.int64], Array] | None:
    """Rotations (G, 3, 3) and translations (G, 3) of scaled coordinates, x' = R x + t; None where none are found.

    Settings and errors as for `symmetry_dataset`.
    """
    found = _asked("get_symmetry", atoms, symprec, kinds)
    return None if found is None else (np.asarray(found["rotations"]), np.asarray(found["translations"]))


def standardized_cell(
    atoms: Atoms, symprec: float, *, to_primitive: bool, kinds: Kinds | None = None
) -> StandardizedCell | None:
    """The primitive or the conventional cell in the orientation of the structure; None where none is found.

    Lengths and angles are those of the structure, not idealized.  Settings and errors as for `symmetry_dataset`.
    """
    found = _asked("standardize_cell", atoms, symprec, kinds, to_primitive=to_primitive, no_idealize=True)
    if found is None:
        return None
    cell, positions, numbers = (np.asarray(part) for part in found)
    return StandardizedCell(cell, positions, np.asarray(numbers, dtype=np.int64))


def spacegroup(atoms: Atoms, symprec: float = SYMPREC, kinds: Kinds | None = None) -> str:
    """The space group as `Fm-3m (225)`, found within `symprec` (Å); "unknown" where spglib finds none."""
    found = symmetry_dataset(atoms, symprec, kinds)
    return "unknown" if found is None else spacegroup_name(found)


def spacegroup_name(dataset: Any) -> str:
    """The space group of a data set as `Fm-3m (225)`."""
    return f"{dataset.international} ({dataset.number})"


def no_symmetry(symprec: float) -> ConfigError:
    """The error for a structure of which spglib finds no symmetry."""
    return ConfigError(
        f"spglib finds no symmetry, not even the trivial one, within symprec={symprec:g} Å",
        setting="symprec",
        value=symprec,
        remedies=["look for atoms on top of each other", "choose another symprec"],
    )


def refuse_masses(atoms: Atoms, symprec: float, what: str) -> None:
    """ConfigError where the space group exchanges atoms of different masses, for what knows elements only."""
    names = labels(atoms)
    if not distinguished(names):
        return
    for k, first in enumerate(symmetry(atoms, symprec, kinds=atoms.numbers).equivalent_atoms):
        if names[k] != names[first]:
            masses = atoms.get_masses()
            raise ConfigError(
                f"atoms {first} and {k} are equal by symmetry and have the masses {masses[first]:g} and "
                f"{masses[k]:g} u, and {what} knows elements only and would give both the same",
                remedies=["set one mass per element"],
            )


def _asked(function: str, atoms: Atoms, symprec: float, kinds: Kinds | None, **settings: Any) -> Any:
    """What a function of spglib finds; None where it finds nothing, however it says so."""
    import spglib

    symprec = checks.number("symprec", symprec, above=0.0, hint=" Å")
    checks.finite_rows("positions", atoms.positions)  # spglib would end the whole process
    if not np.isfinite(atoms.cell.array).all():
        raise ConfigError(f"the cell is not finite: {atoms.cell.array.tolist()}", remedies=["repair the structure"])
    crystal = padded(atoms)
    lengths = np.linalg.norm(crystal.cell.array, axis=1)
    if abs(np.linalg.det(crystal.cell.array)) <= 1e-6 * lengths.prod():
        raise ConfigError(f"the structure is periodic but its cell has no volume: {crystal.cell.array.tolist()}")
    numbers = np.asarray(site_kinds(atoms) if kinds is None else kinds, dtype=int)
    with warnings.catch_warnings():  # of a switch of spglib that is the user's to set
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            return getattr(spglib, function)(
                (crystal.cell.array, crystal.get_scaled_positions(), numbers), symprec=symprec, **settings
            )
        except Exception:  # spglib raises its own errors since 2.7, and returned None before
            return None
