"""Where a structure has vacuum, and what a calculation on crystals or slabs has to check because of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlcalc.ground.remedies import NO_CONSTRAINTS, SET_PBC

from .. import checks
from ..errors import ConfigError

Array = NDArray[np.float64]

MIN_VACUUM = 5.0  # Å without atoms are vacuum: no bond is as long, and no layers of a crystal are as far apart
CLEAR_VACUUM = 8.0  # Å: periodic copies farther apart than the usual potential reaches
MORE = f"more than {MIN_VACUUM:g} Å without atoms"
_SKIN = 3.0  # Å, of a layer of matter beyond the distance of its outermost planes
_PADDING = 10.0  # Å of vacuum on either side along directions without periodicity, for symmetry and stress only


def check_crystal(atoms: Any, purpose: str) -> None:
    """ConfigError for anything but a neutral crystal, layer or wire without constraints."""
    checks.structure(atoms, purpose)
    if not atoms.pbc.any():
        raise ConfigError(
            f"the structure has pbc={atoms.pbc.tolist()}, and {purpose} needs a crystal",
            setting="pbc",
            value=atoms.pbc.tolist(),
            remedies=[replace(SET_PBC, python="set atoms.pbc along the directions that repeat")],
        )
    if atoms.pbc.all():
        checks.crystal(atoms, purpose)
    padded(atoms)
    if atoms.constraints:
        raise ConfigError(
            f"the structure has the constraint {type(atoms.constraints[0]).__name__}, which has no meaning in its "
            "supercells",
            setting="constraints",
            remedies=[NO_CONSTRAINTS],
        )
    charge = _charge(atoms)
    if abs(charge) > 1e-9:
        raise ConfigError(
            f"the structure has a charge of {charge:g} e, and {purpose} is that of neutral cells, without the "
            "electrons' chemical potential and corrections for image charges",
            setting="charge",
            value=charge,
            limit=0.0,
            remedies=["remove the charge"],
        )


def check_bulk(atoms: Any, purpose: str) -> None:
    """ConfigError for anything but a crystal that is periodic in all directions and fills its cell."""
    checks.crystal(atoms, purpose)
    check_crystal(atoms, purpose)
    if empty := vacuum_names(atoms):
        raise ConfigError(
            f"the cell has vacuum ({MORE}) along {', '.join(empty)}, and {purpose} is that of slabs cut from a crystal",
            limit=MIN_VACUUM,
            remedies=["give the unit cell of the crystal itself"],
        )


def _charge(atoms: Atoms) -> float:
    """Of the cell, e; ConfigError for one that is no number."""
    given = atoms.info.get("charge", 0) or 0
    try:
        return float(given) or float(atoms.get_initial_charges().sum())
    except (TypeError, ValueError):
        raise ConfigError(
            f"atoms.info['charge'] is {given!r}: it must be a number, in e, such as 0 for a neutral cell",
            setting="charge",
            value=given,
        ) from None


def padded(atoms: Atoms) -> Atoms:
    """A copy with vacuum in the directions without periodicity, and periodic in all; ConfigError for a flat cell."""
    crystal = Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    if np.linalg.matrix_rank(atoms.cell.array[atoms.pbc]) < atoms.pbc.sum():
        raise ConfigError(f"the structure is periodic but its cell has no volume: {atoms.cell.array.tolist()}")
    for axis in np.flatnonzero(~atoms.pbc):
        crystal.center(vacuum=_PADDING, axis=int(axis))
    crystal.pbc = True
    return crystal


def vacuum_axes(atoms: Atoms) -> NDArray[np.bool_]:
    """(3,) where the structure has vacuum: more than 5 Å without atoms, or no periodicity."""
    return np.asarray(vacuum_gaps(atoms) > MIN_VACUUM, dtype=bool)


def vacuum_gaps(atoms: Atoms) -> Array:
    """(3,) Å: the widest gaps without atoms along the normals of the cell's faces; 20 Å at least without periodicity.

    The face of an axis is spanned by the two other cell vectors.
    """
    return _gaps(padded(atoms))[0]


def vacuum_names(atoms: Atoms) -> list[str]:
    """The names of the cell vectors along which there is vacuum."""
    return ["abc"[axis] for axis in np.flatnonzero(vacuum_axes(atoms))]


def dilution(crystal: Atoms) -> float:
    """How many times larger than its matter a cell with vacuum is, periodic in all directions; 1 without vacuum.

    A layer counts with 3 Å more than the distance of its outermost planes of atoms.
    """
    gaps, heights = _gaps(crystal)
    return float(np.where(gaps > MIN_VACUUM, heights / (heights - gaps + _SKIN), 1.0).prod())


def _gaps(crystal: Atoms) -> tuple[Array, Array]:
    """(3,) Å: the widest gaps between atoms along the normals of the faces, and the heights of the cell."""
    heights = 1 / np.linalg.norm(np.linalg.inv(crystal.cell.array), axis=0)
    scaled = np.sort(crystal.get_scaled_positions(), axis=0)
    return np.diff(np.vstack([scaled, scaled[:1] + 1]), axis=0).max(axis=0) * heights, heights


def with_vacuum(atoms: Atoms) -> Atoms:
    """A copy, periodic in all directions, with vacuum in those without periodicity; its calculator is the same."""
    copy: Atoms = atoms.copy()
    for axis in np.flatnonzero(~atoms.pbc):
        copy.cell[int(axis)] = 0.0  # what stands there need not be normal to the layer
        copy.center(vacuum=_PADDING, axis=int(axis))
    copy.pbc = True
    copy.calc = atoms.calc
    return copy


def refuse_vacuum(atoms: Atoms, what: str) -> None:
    """ConfigError for a cell with vacuum, of which what is asked for would be a property of the vacuum too."""
    if empty := vacuum_names(atoms):
        raise ConfigError(
            f"the cell has vacuum ({MORE}) along {', '.join(empty)}: {what} goes by the volume of the cell, and would "
            "depend on how much vacuum there is",
            limit=MIN_VACUUM,
            remedies=["give a bulk crystal"],
        )


def check_slab(atoms: Atoms, setting: str = "cell", value: Any = "in-plane") -> None:
    """ConfigError, which names the setting, unless the slab's normal is z."""
    cell = atoms.cell.array
    scale = float(np.abs(cell).max())
    if max(abs(cell[0, 2]), abs(cell[1, 2]), abs(cell[2, 0]), abs(cell[2, 1])) > 1e-6 * scale:
        raise ConfigError(
            f"{setting}={value!r} is for slabs with two cell vectors in the xy-plane and the third along z, this one "
            f"has {cell.tolist()}",
            setting=setting,
            value=value,
            remedies=[
                "rotate a slab, for example with ase.build.rotate",
                "leave the setting out for a crystal",
            ],
        )
