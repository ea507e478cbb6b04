"""The one door to spglib: the symmetry of crystals, layers and wires."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from ase import Atoms

from .. import checks
from ..errors import ConfigError
from .kinds import site_kinds, spglib_cell
from .vacuum import padded


def symmetry(atoms: Atoms, symprec: float) -> Any:
    """spglib's data set for the crystal; directions without periodicity get vacuum first."""
    import spglib

    symprec = checks.number("symprec", symprec, above=0.0, hint=" Å")
    full = padded(atoms)
    crystal: Any = (full.cell.array, full.get_scaled_positions(), site_kinds(atoms))
    try:
        found = spglib.get_symmetry_dataset(crystal, symprec=symprec)
    except Exception:  # spglib raises its own errors since 2.7, and returned None before
        found = None
    if found is None:
        raise ConfigError(
            f"spglib finds no symmetry, not even the trivial one, within symprec={symprec:g} Å: look for atoms on top "
            "of each other, or choose another symprec"
        )
    return found


def symmetry_dataset(atoms: Atoms, symprec: float) -> Any:
    """spglib's, of elements and positions; None where it finds nothing."""
    import spglib

    return _searched(spglib.get_symmetry_dataset, atoms, symprec=symprec)


def _searched(search: Callable[..., Any], atoms: Atoms, **settings: Any) -> Any:
    crystal = (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers)
    with warnings.catch_warnings():  # of a switch of spglib that is the user's to set
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            return search(crystal, **settings)
        except Exception:  # spglib raises its own errors since 2.7, and returned None before
            return None


def _space_group(atoms: Atoms, symprec: float) -> tuple[int, str]:
    """How many operations the crystal has within this tolerance (Å), and the name of their group."""
    import spglib

    cell: Any = spglib_cell(atoms)
    found: Any = spglib.get_symmetry_dataset(cell, symprec=symprec)
    return (0, "no group") if found is None else (len(found.rotations), str(found.international))


def spacegroup(atoms: Atoms, symprec: float = 1e-3) -> str:
    """The space group as `Fm-3m (225)`, found within `symprec` (Å); "unknown" where spglib finds none."""
    import spglib

    crystal = (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers)
    try:
        with warnings.catch_warnings():  # of a switch that is the user's to set
            warnings.simplefilter("ignore", DeprecationWarning)
            found = spglib.get_spacegroup(crystal, symprec=symprec)
    except Exception:  # spglib raises its own errors since 2.7, and returned None before
        found = None
    return str(found or "unknown")
