"""Whether phonons to start from are those of the crystal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..errors import ConfigError
from .dispersion import PhononDispersion

if TYPE_CHECKING:
    from phonopy import Phonopy

_STRAINED = 0.05  # relative change of the cell's vectors: expanded on purpose, but the same crystal
_MOVED = 0.5  # Å
_MASS = 0.01  # u


def require_same_crystal(start: PhononDispersion, phonon: Phonopy) -> None:
    """ConfigError for phonons of another crystal or supercell; a strain of a few per cent is none."""
    here, there = phonon.unitcell, start.unitcell
    if (
        len(start.force_constants) != len(phonon.supercell)
        or not np.array_equal(start.supercell_matrix, phonon.supercell_matrix)
        or not np.array_equal(there.numbers, here.numbers)
    ):
        raise ConfigError(
            f"start has phonons of {there.get_chemical_formula()} in a supercell of {len(start.force_constants)} "
            f"atoms, the crystal here has {len(phonon.supercell)} in its supercell: give phonons of the same unit cell "
            "and supercell"
        )
    strain = np.linalg.solve(there.cell.array, here.cell) - np.eye(3)
    away = here.scaled_positions - there.get_scaled_positions(wrap=False)
    away -= away[0]
    away = (away - np.rint(away)) @ here.cell
    for what, value, limit, unit in (
        ("cell vectors, relative", float(np.abs(strain).max()), _STRAINED, ""),
        ("positions of the atoms", float(np.linalg.norm(away, axis=1).max()), _MOVED, " Å"),
        ("masses", float(np.abs(here.masses - there.get_masses()).max()), _MASS, " u"),
    ):
        if not value <= limit:
            raise ConfigError(
                f"start has phonons of another crystal: {what} differ by {value:.3g}{unit} (limit {limit:g}{unit}); "
                "give phonons of the same unit cell, in the same orientation and order"
            )
