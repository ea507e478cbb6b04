"""`mlcalc qha`: thermal expansion from phonons at several volumes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlcalc.cli.cautions import cautions_on_stderr
from mlcalc.cli.options import DebugCommand, existing_file, json_option
from mlcalc.cli.phonon_runs import crystal_with_calculator, fresh_folder, temperatures, temperatures_option
from mlcalc.cli.potential import potential_options, relaxed_crystal, write_result

if TYPE_CHECKING:
    from ase import Atoms


@click.command("qha", cls=DebugCommand, short_help="Thermal expansion and Grueneisen parameters.")
@click.argument("structure", type=existing_file)
@potential_options
@click.option("--supercell", type=int, nargs=3, required=True, metavar="A B C", help="Repetitions of the cell.")
@temperatures_option(0.0, 1000.0, 10.0)
@click.option(
    "--volume-range",
    type=float,
    nargs=2,
    default=(-0.03, 0.07),
    show_default=True,
    metavar="V0 V1",
    help="Smallest and largest volume, relative to that of the crystal, less 1.",
)
@click.option("--n-volumes", type=int, default=9, show_default=True, help="Number of volumes.")
@click.option("--displacement", type=float, default=0.01, show_default=True, help="Of one atom at a time, Å.")
@click.option("--mesh", type=int, nargs=3, metavar="A B C", help="q-points.  [default: enough for waves of 100 Å]")
@click.option("--eos", type=click.Choice(["vinet", "birch_murnaghan", "murnaghan"]), default="vinet", show_default=True)
@click.option(
    "--pressure-GPa", "pressure_GPa", type=float, default=0.0, show_default=True, help="Positive presses. GPa"
)
@click.option("--grueneisen/--no-grueneisen", default=True, show_default=True, help="Also the modes' parameters.")
@click.option(
    "--relax/--no-relax", "relaxed", default=True, show_default=True, help="Relax atoms and cell first, symmetry kept."
)
@click.option("--allow-float32", is_flag=True, help="Accept --dtype float32.")
@click.option("--output", metavar="DIR", help="Folder for qha.npz, .json and .png, and grueneisen.*")
@json_option
def qha_command(*, structure: str, output: str | None, as_json: bool, **settings: Any) -> None:
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
    folder = fresh_folder(output)
    modes, relaxed = settings.pop("grueneisen"), settings.pop("relaxed")
    settings["mesh"] = settings["mesh"] or None
    with cautions_on_stderr():
        atoms = crystal_with_calculator(structure, settings)
        if relaxed:
            atoms = relaxed_crystal(atoms)
        found, errors = _results(atoms, settings, folder, modes=modes)
    if as_json and found:
        click.echo(json.dumps({name: result.to_json() for name, result in found.items()}))
    for result in () if as_json else found.values():
        click.echo(str(result))
    if folder is not None and found and not as_json:
        click.echo(f"wrote {folder}")
    for error in errors[1:]:
        click.echo(f"Error: {error}", err=True)
    if errors:
        raise errors[0]


def _results(
    atoms: Atoms, settings: dict[str, Any], folder: Path | None, *, modes: bool
) -> tuple[dict[str, Any], list[Exception]]:
    """What could be computed, written as soon as it is there, and why the rest could not."""
    from mlcalc.md_protocols.errors import ProtocolError
    from mlcalc.md_protocols.phonons import grueneisen, quasi_harmonic

    shared = {name: settings[name] for name in ("supercell", "displacement", "mesh", "allow_float32")}
    found: dict[str, Any] = {}
    errors: list[Exception] = []
    for name, wanted, protocol, more in (
        ("qha", True, quasi_harmonic, settings),
        ("grueneisen", modes, grueneisen, shared),
    ):
        if not wanted:
            continue
        try:
            found[name] = protocol(atoms, **more)
        except ProtocolError as error:
            errors.append(error)
            continue
        if folder is not None:
            write_result(found[name], folder, name)
    return found, errors
