"""Relaxation of crystals, layers and wires with the part of their cell free that has a meaning."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ase import Atoms

from ..crystals.vacuum import vacuum_axes, with_vacuum
from .outcome import Relaxation
from .relax import relax


def free_cell(atoms: Atoms) -> str:
    """The part of the cell that has a meaning: "full" for a crystal, "in-plane" for a layer with vacuum along c only.

    "fixed" for structures with other vacuum: wires and molecules.
    """
    flat = vacuum_axes(atoms).tolist()
    if not any(flat):
        return "full"
    return "in-plane" if flat == [False, False, True] else "fixed"


def relax_crystal(atoms: Atoms, *, cell: str | None = None, keep_symmetry: bool = True, **settings: Any) -> Relaxation:
    """The nearest minimum of a crystal, its cell free; of a layer, its cell free in the plane.

    A layer has its normal along z; one that is not periodic there is relaxed with vacuum, and comes back as it was.
    cell: as for `relax`; None for `free_cell(atoms)`.  keep_symmetry: of structures periodic in all directions.
    settings: fmax, smax, steps, require, evaluate, progress and the others of `relax`.

    Raises as `relax` does.
    """
    cell = free_cell(atoms) if cell is None else cell
    start = with_vacuum(atoms) if cell == "in-plane" else atoms
    found = relax(start, cell=cell, keep_symmetry=keep_symmetry and bool(start.pbc.all()), **settings)
    if cell != "in-plane" or atoms.pbc.all():
        return found
    layer = found.atoms.copy()
    layer.pbc, layer.cell[2], layer.calc = atoms.pbc, atoms.cell[2], atoms.calc
    return replace(found, atoms=layer)
