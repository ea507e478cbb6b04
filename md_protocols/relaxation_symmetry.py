"""What a relaxation keeps of a structure: its space group, or the plane of a slab."""

from __future__ import annotations

import warnings

import numpy as np
from ase import Atoms
from ase.constraints import FixAtoms

from .errors import ConfigError


def keep_symmetry(atoms: Atoms, symprec: float) -> None:
    """Bring the structure onto the space group that it has within `symprec` (Å), and add the constraint that keeps it.

    Raises ConfigError for structures that are not periodic, and for constraints that the symmetry does not respect.
    """
    from ase.constraints import FixSymmetry

    if not atoms.pbc.all():
        raise ConfigError(
            f"keep_symmetry is for structures periodic in all directions, this one has pbc={atoms.pbc.tolist()}: the "
            "symmetry of molecules is not kept"
        )
    others = list(atoms.constraints)
    atoms.set_constraint()  # or fixed atoms would not take part in the refinement
    symmetry = FixSymmetry(atoms, symprec=symprec)
    for constraint in others:
        if not isinstance(constraint, FixAtoms):
            raise ConfigError(
                f"keep_symmetry goes with FixAtoms only, and the structure has a {type(constraint).__name__}: remove "
                "it with atoms.set_constraint(), or relax without keep_symmetry"
            )
        fixed = np.unique(constraint.get_indices())
        if not all(np.isin(np.asarray(images)[fixed], fixed).all() for images in symmetry.symm_map):
            raise ConfigError(
                "keep_symmetry would move fixed atoms: the symmetry takes them to atoms that are free; fix all "
                "equivalent atoms, or relax without keep_symmetry"
            )
    atoms.set_constraint([*others, symmetry])


def check_slab(atoms: Atoms, setting: str = "cell='in-plane'") -> None:
    """ConfigError, which names the setting, unless the slab's normal is z."""
    cell = atoms.cell.array
    scale = float(np.abs(cell).max())
    if max(abs(cell[0, 2]), abs(cell[1, 2]), abs(cell[2, 0]), abs(cell[2, 1])) > 1e-6 * scale:
        raise ConfigError(
            f"{setting} is for slabs with two cell vectors in the xy-plane and the third along z, this one has "
            f"{cell.tolist()}: rotate a slab, for example with ase.build.rotate, and leave {setting} out for a crystal"
        )


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
