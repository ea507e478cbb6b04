"""`mlcalc eos`: the equation of state at 0 K."""

from __future__ import annotations

from typing import Any

import click

from mlcalc.cli.commands import Verb
from mlcalc.cli.options import existing_file, folder_options, json_option, setting
from mlcalc.cli.outputs import result_folder
from mlcalc.cli.potential import potential_options, with_calculator
from mlcalc.cli.relaxing import CRYSTAL, relax_option, relaxed_first
from mlcalc.cli.reports import report
from mlcalc.md_protocols import equation_of_state
from mlcalc.md_protocols.elasticity.equation_of_state import check_volumes


@click.command("eos", cls=Verb)
@click.argument("structure", type=existing_file)
@potential_options
@click.option(
    "--volume-range",
    type=float,
    nargs=2,
    default=(-0.06, 0.06),
    show_default=True,
    metavar="LO HI",
    help="Smallest and largest volume, relative to that of the crystal, less 1.",
)
@click.option("--n-volumes", type=int, default=11, show_default=True, help="Number of volumes.")
@click.option(
    "--eos",
    type=click.Choice(["birch_murnaghan", "murnaghan", "vinet", "birch", "poirier_tarantola"]),
    default="birch_murnaghan",
    show_default=True,
    help="The curve fitted.",
)
@setting(equation_of_state, "--relax-ions/--clamped", help="Whether the atoms relax at each volume.")
@setting(equation_of_state, "--relax-shape", is_flag=True, help="Relax the shape of the cell at each volume too.")
@setting(equation_of_state, "--fmax", help="Largest force left on an atom, eV/Å.")
@setting(equation_of_state, "--steps", help="Largest number of steps of each relaxation.")
@relax_option
@setting(equation_of_state, "--allow-float32", is_flag=True, help="Accept --dtype float32.")
@folder_options("eos.npz, .json and .png")
@json_option
def eos_command(
    *, structure: str, output: str | None, overwrite: bool, as_json: bool, relax: bool, **settings: Any
) -> None:
    """Energy of a crystal over its volume, and a curve through it: V0, E0, B0 and its derivative by pressure.

    The volumes lie around that of the relaxed crystal (or, with --no-relax, of STRUCTURE); the minimum must be among
    them.  The cell keeps its shape unless --relax-shape is given.

    \b
    Examples:
      mlcalc eos Cu.cif --model cu-hvnet
      mlcalc eos Cu.cif --model cu-hvnet --volume-range -0.1 0.1 --n-volumes 15 --eos vinet --output eos
    """
    results = result_folder(output, ("eos.*", CRYSTAL), [structure], overwrite=overwrite)
    atoms = with_calculator(structure, settings, "an equation of state")
    check_volumes(atoms, settings["relax_ions"], settings["relax_shape"])  # before a relaxation for nothing
    atoms = relaxed_first(atoms, "an equation of state", results, wanted=relax, as_json=as_json)
    report(equation_of_state(atoms, **settings), "eos", results, as_json)
