"""Remedies that many errors share."""

from __future__ import annotations

from mlcalc.ground.errors import Use

RELAX_FIRST = Use("relax", True, python="relax it first, mlcalc.md_protocols.relax(atoms, cell='full')")
RELAX_LAYER_FIRST = Use("relax", True, python="relax it first, mlcalc.md_protocols.relax(atoms, cell='in-plane')")
SET_PBC = Use("pbc", True, python="set atoms.pbc = True", file='make the file say so (extended XYZ: pbc="T T T")')
NO_CONSTRAINTS = Use(
    "constraints", None, python="remove it with atoms.set_constraint()", file="remove it from the file"
)
NO_CHARGES = Use(
    "initial_charges", None, python="remove them with atoms.set_initial_charges()", file="remove them from the file"
)
