"""`mlcalc elastic`: elastic constants."""

from __future__ import annotations

from typing import Any

import click

from mlcalc.cli.commands import Verb
from mlcalc.cli.options import existing_file, folder_options, json_option, setting
from mlcalc.cli.outputs import result_folder
from mlcalc.cli.potential import potential_options, with_calculator
from mlcalc.cli.relaxing import CRYSTAL, relax_option, relaxed_first
from mlcalc.cli.reports import report
from mlcalc.md_protocols import elastic_constants


@click.command("elastic", cls=Verb)
@click.argument("structure", type=existing_file)
@potential_options
@setting(elastic_constants, "--strain", help="The larger amplitude; half of it is used too.")
@setting(elastic_constants, "--relax-ions/--clamped", help="Whether the atoms relax in the strained cells.")
@setting(elastic_constants, "--fmax", help="Largest force left in strained cells, eV/Å.")
@setting(elastic_constants, "--steps", help="Largest number of steps of each relaxation.")
@relax_option
@setting(
    elastic_constants,
    "--slab",
    is_flag=True,
    help="Strain in the plane only: a slab with its normal along z; adds N/m.",
)
@setting(elastic_constants, "--symmetrize/--no-symmetrize", help="Whether the constants get the crystal's symmetry.")
@setting(elastic_constants, "--symprec", help="Tolerance of the symmetry search, Å.")
@setting(elastic_constants, "--allow-float32", is_flag=True, help="Accept --dtype float32.")
@folder_options("elastic.npz, .json and .png")
@json_option
def elastic_command(
    *, structure: str, output: str | None, overwrite: bool, as_json: bool, relax: bool, **settings: Any
) -> None:
    """Elastic constants (GPa) of a crystal: the stress of strained cells, atoms relaxed, in one batch.

    Printed are the 6 x 6 matrix in Voigt order (xx, yy, zz, yz, xz, xy; engineering shear), moduli of polycrystals by
    Voigt, Reuss and Hill, the stability, and how far the raw numbers were from what symmetry asks for.

    \b
    Examples:
      mlcalc elastic Cu.cif --model cu-hvnet
      mlcalc elastic relaxed.extxyz --model cu-hvnet --no-relax --strain 0.002 --output elastic --json
    """
    results = result_folder(output, ("elastic.*", "structure.extxyz", CRYSTAL), [structure], overwrite=overwrite)
    atoms = with_calculator(structure, settings, "elastic constants")
    flat = settings["slab"] or None
    atoms = relaxed_first(atoms, "elastic constants", results, wanted=relax, as_json=as_json, flat=flat)
    found = elastic_constants(atoms, **settings)
    results.structures([found.atoms], "structure.extxyz")
    report(found, "elastic", results, as_json)
