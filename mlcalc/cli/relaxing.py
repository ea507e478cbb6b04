"""The relaxation that comes before a property of a crystal."""

from __future__ import annotations

from typing import Any

import click
import numpy as np
from ase import Atoms

from mlcalc.cli.options import Decorator
from mlcalc.cli.outputs import ResultFolder
from mlcalc.md_protocols import NotConvergedError, checks, relax_crystal

FMAX = {"float64": 1e-4, "float32": 1e-3}  # eV/Å
SMAX = 1e-6  # eV/Å^3
CRYSTAL = "crystal.extxyz"  # what the relaxation came to

relax_option: Decorator = click.option(
    "--relax/--no-relax",
    "relax",
    default=True,
    show_default=True,
    help="First relax positions and cell (of a layer: in its plane), keeping the symmetry.",
)


def relaxed_first(
    atoms: Atoms, purpose: str, results: ResultFolder, *, wanted: bool, as_json: bool, flat: bool | None = None
) -> Atoms:
    """The crystal at its minimum, its symmetry kept, as it is where that is not wanted; says how the cell changed.

    Free are the positions and all of the cell: of a layer, with its normal along the third vector, the part in its
    plane, and nothing of cells with vacuum elsewhere.  flat: whether it is a layer, where that was said.

    The crystal is written to the folder.  Raises NotConvergedError once the best structure met is in there.
    """
    if not wanted:
        return atoms
    checks.structure(atoms, purpose)
    cell = {None: None, True: "in-plane", False: "full"}[flat]
    fmax = FMAX[getattr(atoms.calc, "dtype", "float64")]
    try:
        found = relax_crystal(atoms, cell=cell, fmax=fmax, smax=SMAX, require=True)
    except NotConvergedError as error:
        results.structures([result.atoms for result in error.results], CRYSTAL, converged=False)
        results.tell(as_json)
        raise
    click.echo(_change(atoms, found.atoms, found.cell, found.max_force), err=as_json)
    results.structures([found.atoms], CRYSTAL)
    return found.atoms


def _change(before: Atoms, after: Atoms, cell: str, max_force: Any) -> str:
    """One sentence."""
    if cell == "fixed":
        changed = "positions only, for the cell has vacuum"
    else:
        free = slice(0, 2) if cell == "in-plane" else slice(0, 3)
        old, new = before.cell.lengths()[free], after.cell.lengths()[free]
        lengths = ", ".join(f"{x:.4f}" for x in new)
        changes = ", ".join(f"{100 * x:+.2f}" for x in new / old - 1)
        angles = float(np.abs(after.cell.angles() - before.cell.angles()).max())
        names = "a, b" if cell == "in-plane" else "a, b, c"
        bent = f", angles by up to {angles:.2f}°" if angles > 5e-3 else ""
        changed = f"{names} are {lengths} Å, changed by {changes} %{bent}"
    return f"relaxed first: {changed}; largest force left {float(max_force):.1e} eV/Å"
