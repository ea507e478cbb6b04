"""`mlcalc elastic`: elastic constants."""

from __future__ import annotations

from typing import Any

import click

from mlcalc.cli.cautions import cautions_on_stderr
from mlcalc.cli.options import DebugCommand, existing_file, json_option
from mlcalc.cli.outputs import check_output, refuse_used
from mlcalc.cli.potential import check_folder, potential_options, show, with_calculator, write_result


@click.command("elastic", cls=DebugCommand, short_help="Elastic constants and moduli.")
@click.argument("structure", type=existing_file)
@potential_options
@click.option(
    "--strain", type=float, default=0.005, show_default=True, help="The larger amplitude; half of it is used too."
)
@click.option("--clamped", is_flag=True, help="Do not relax the atoms in the strained cells.")
@click.option("--fmax", type=float, default=1e-5, show_default=True, help="Largest force left in strained cells, eV/Å.")
@click.option("--steps", type=int, default=500, show_default=True, help="Largest number of steps of each relaxation.")
@click.option("--relax", "relax_first", is_flag=True, help="Relax atoms and cell first (a slab in its plane).")
@click.option("--slab", is_flag=True, help="Strain in the plane only: a slab with its normal along z; adds N/m.")
@click.option("--no-symmetrize", is_flag=True, help="Leave the constants as they came out.")
@click.option("--symprec", type=float, default=1e-5, show_default=True, help="How exactly symmetry is looked for, Å.")
@click.option("--allow-float32", is_flag=True, help="Accept --dtype float32.")
@click.option("--output", type=click.Path(), metavar="DIR", help="Folder for elastic.npz, .json and .png.")
@json_option
def elastic_command(
    *,
    structure: str,
    output: str | None,
    as_json: bool,
    relax_first: bool,
    clamped: bool,
    no_symmetrize: bool,
    **settings: Any,
) -> None:
    """Elastic constants (GPa) of a relaxed crystal: the stress of strained cells, atoms relaxed, in one batch.

    Printed are the 6 x 6 matrix in Voigt order (xx, yy, zz, yz, xz, xy; engineering shear), moduli of polycrystals by
    Voigt, Reuss and Hill, the stability, and how far the raw numbers were from what symmetry asks for.

    \b
    Examples:
      mlcalc elastic Cu.cif --model cu-hvnet --relax
      mlcalc elastic relaxed.extxyz --model cu-hvnet --strain 0.002 --output elastic --json
    """
    folder = check_folder(output)
    if folder is not None:
        check_output(str(folder / "structure.extxyz"), "--output", (".extxyz",), [structure])
        refuse_used(folder, ("elastic.*", "structure.extxyz"))
    atoms = with_calculator(structure, settings)
    from mlcalc.md_protocols.elasticity.constants import elastic_constants
    from mlcalc.md_protocols.relaxation.relax import relax

    with cautions_on_stderr():
        if relax_first:
            cell = "in-plane" if settings["slab"] else "full"
            atoms = relax(
                atoms, cell=cell, fmax=settings["fmax"], smax=1e-6, steps=settings["steps"], require=True
            ).atoms
        result = elastic_constants(atoms, relax_ions=not clamped, symmetrize=not no_symmetrize, **settings)
    show(result, as_json)
    if folder is not None:
        names = write_result(result, folder, "elastic")
        from ase.io import write

        write(folder / "structure.extxyz", result.atoms, format="extxyz")
        if not as_json:
            click.echo(f"files           {folder}: {', '.join([*names, 'structure.extxyz'])}")
