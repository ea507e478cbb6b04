"""`mlcalc eos`: the equation of state at 0 K."""

from __future__ import annotations

from typing import Any

import click

from mlcalc.cli.cautions import cautions_on_stderr
from mlcalc.cli.options import DebugCommand, existing_file, json_option
from mlcalc.cli.outputs import refuse_used
from mlcalc.cli.potential import check_folder, potential_options, show, with_calculator, write_result


@click.command("eos", cls=DebugCommand, short_help="Equation of state: V0, E0 and bulk modulus.")
@click.argument("structure", type=existing_file)
@potential_options
@click.option(
    "--volume-range", type=float, default=0.06, show_default=True, help="To each side, as a share of the volume."
)
@click.option("--n-volumes", type=int, default=11, show_default=True, help="Number of volumes.")
@click.option(
    "--eos",
    type=click.Choice(["birch_murnaghan", "murnaghan", "vinet", "birch", "poirier_tarantola"]),
    default="birch_murnaghan",
    show_default=True,
    help="The curve fitted.",
)
@click.option("--clamped", is_flag=True, help="Do not relax the atoms at each volume.")
@click.option("--relax-shape", is_flag=True, help="Relax the shape of the cell at each volume too.")
@click.option("--fmax", type=float, default=1e-4, show_default=True, help="Largest force left on an atom, eV/Å.")
@click.option("--steps", type=int, default=500, show_default=True, help="Largest number of steps of each relaxation.")
@click.option("--relax", "relax_first", is_flag=True, help="Relax atoms and cell first.")
@click.option("--allow-float32", is_flag=True, help="Accept --dtype float32.")
@click.option("--output", type=click.Path(), metavar="DIR", help="Folder for eos.npz, .json and .png.")
@json_option
def eos_command(
    *, structure: str, output: str | None, as_json: bool, relax_first: bool, clamped: bool, **settings: Any
) -> None:
    """Energy of a crystal over its volume, and a curve through it: V0, E0, B0 and its derivative by pressure.

    The volumes lie around that of STRUCTURE; its minimum must be among them.  The cell keeps its shape unless
    --relax-shape is given.

    \b
    Examples:
      mlcalc eos Cu.cif --model cu-hvnet --relax
      mlcalc eos Cu.cif --model cu-hvnet --volume-range 0.1 --n-volumes 15 --eos vinet --output eos
    """
    folder = check_folder(output)
    refuse_used(folder, ("eos.*",))
    atoms = with_calculator(structure, settings)
    from mlcalc.md_protocols.elasticity.equation_of_state import check_volumes, equation_of_state
    from mlcalc.md_protocols.relaxation.relax import relax

    with cautions_on_stderr():
        check_volumes(atoms, not clamped, settings["relax_shape"])  # before a relaxation for nothing
        if relax_first:
            atoms = relax(atoms, cell=True, fmax=settings["fmax"], steps=settings["steps"], require=True).atoms
        result = equation_of_state(atoms, relax_ions=not clamped, **settings)
    show(result, as_json)
    if folder is not None:
        names = write_result(result, folder, "eos")
        if not as_json:
            click.echo(f"files  {folder}: {', '.join(names)}")
