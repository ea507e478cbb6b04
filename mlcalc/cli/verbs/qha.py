"""`mlcalc qha`: thermal expansion from phonons at several volumes."""

from __future__ import annotations

import json
from typing import Any

import click
from ase import Atoms

from mlcalc.cli.commands import Verb
from mlcalc.cli.options import existing_file, folder_options, json_option, setting
from mlcalc.cli.outputs import ResultFolder, in_json, result_folder
from mlcalc.cli.phonon_runs import (
    PHONON_FILES,
    crystal_with_calculator,
    supercell_option,
    temperatures,
    temperatures_option,
)
from mlcalc.cli.potential import potential_options
from mlcalc.cli.relaxing import relax_option, relaxed_first
from mlcalc.cli.reports import end
from mlcalc.cli.wording import told
from mlcalc.ground.errors import MLCalcError
from mlcalc.md_protocols import grueneisen, quasi_harmonic


@click.command("qha", cls=Verb)
@click.argument("structure", type=existing_file)
@potential_options
@supercell_option(required=True)
@temperatures_option(0.0, 1000.0, 10.0)
@click.option(
    "--volume-range",
    type=float,
    nargs=2,
    default=(-0.03, 0.07),
    show_default=True,
    metavar="LO HI",
    help="Smallest and largest volume, relative to that of the crystal, less 1.",
)
@click.option("--n-volumes", type=int, default=9, show_default=True, help="Number of volumes.")
@setting(quasi_harmonic, "--displacement", help="Of one atom at a time, Å.")
@setting(
    quasi_harmonic,
    "--mesh",
    type=int,
    nargs=3,
    metavar="A B C",
    help="q-points.  [default: enough for waves of 100 Å]",
)
@setting(
    quasi_harmonic, "--eos", type=click.Choice(["vinet", "birch_murnaghan", "murnaghan"]), help="The curve fitted."
)
@setting(quasi_harmonic, "--pressure-GPa", help="Positive presses. GPa")
@click.option("--grueneisen/--no-grueneisen", default=True, show_default=True, help="Also the modes' parameters.")
@relax_option
@setting(quasi_harmonic, "--allow-float32", is_flag=True, help="Accept --dtype float32.")
@folder_options("qha.npz, .json and .png, grueneisen.* and crystal.extxyz")
@json_option
def qha_command(
    *,
    structure: str,
    output: str | None,
    overwrite: bool,
    as_json: bool,
    relax: bool,
    grueneisen: bool,
    **settings: Any,
) -> None:
    """Thermal expansion of STRUCTURE in the quasi-harmonic approximation, and its mode Grueneisen parameters.

    Phonons are computed at several volumes, all in one batch; at each temperature the free energy is minimized over
    the volume.  Imaginary modes at a volume, or a minimum outside of the volumes, are errors that name it; what
    of the two could be computed is written all the same.

    \b
    Examples:
      mlcalc qha Cu.cif --model cu-hvnet --supercell 3 3 3 --temperatures 0 100 5 --output qha
      mlcalc qha Cu.cif --model cu-hvnet --supercell 2 2 2 --volume-range -0.02 0.05 --temperatures 0 100 5 --json
    """
    settings["temperatures"] = temperatures(settings["temperatures"], "--temperatures")
    settings["mesh"] = settings["mesh"] or None
    results = result_folder(output, PHONON_FILES, [structure], overwrite=overwrite)
    atoms = crystal_with_calculator(structure, settings)
    atoms = relaxed_first(atoms, "a quasi-harmonic calculation", results, wanted=relax, as_json=as_json)
    found, errors = _results(atoms, settings, results, modes=grueneisen)
    if as_json and found:
        click.echo(json.dumps({name: in_json(result) for name, result in found.items()}))
    for result in () if as_json else found.values():
        click.echo(str(result))
    results.tell(as_json)
    for error in errors[1:]:
        click.echo(f"Error: {told(error, click.get_current_context())}", err=True)
    if errors:
        raise errors[0]
    end(*found.values())


def _results(
    atoms: Atoms, settings: dict[str, Any], results: ResultFolder, *, modes: bool
) -> tuple[dict[str, Any], list[MLCalcError]]:
    """What could be computed, written as soon as it is there, and why the rest could not."""
    shared = {name: settings[name] for name in ("supercell", "displacement", "mesh", "allow_float32")}
    found: dict[str, Any] = {}
    errors: list[MLCalcError] = []
    for name, wanted, protocol, chosen in (
        ("qha", True, quasi_harmonic, settings),
        ("grueneisen", modes, grueneisen, shared),
    ):
        if not wanted:
            continue
        try:
            found[name] = protocol(atoms, **chosen)
        except MLCalcError as error:
            errors.append(error)
            continue
        results.result(found[name], name)
    return found, errors
