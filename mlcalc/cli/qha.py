"""`mlcalc qha`: thermal expansion from phonons at several volumes."""

from __future__ import annotations

import json
from typing import Any

import click

from mlcalc.cli.cautions import cautions_on_stderr
from mlcalc.cli.options import DebugCommand, existing_file, json_option
from mlcalc.cli.potential import check_folder, potential_options, relaxed_crystal, with_calculator, write_result


@click.command("qha", cls=DebugCommand, short_help="Thermal expansion and Grueneisen parameters.")
@click.argument("structure", type=existing_file)
@potential_options
@click.option("--supercell", type=int, nargs=3, required=True, metavar="A B C", help="Repetitions of the cell.")
@click.option(
    "--temperatures",
    type=float,
    nargs=3,
    default=(0.0, 1000.0, 10.0),
    show_default=True,
    metavar="T0 T1 DT",
    help="From T0 to T1 by DT, K.",
)
@click.option(
    "--volume-range",
    type=float,
    nargs=2,
    default=(-0.03, 0.07),
    show_default=True,
    metavar="V0 V1",
    help="Smallest and largest volume, relative to that of the crystal, less 1.",
)
@click.option("--points", type=int, default=9, show_default=True, help="Number of volumes.")
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
    the volume.  Imaginary modes at a volume, or a minimum outside of the volumes, are errors that name it.

    \b
    Examples:
      mlcalc qha Cu.cif --model cu-hvnet --supercell 3 3 3 --temperatures 0 100 5 --output qha
      mlcalc qha Cu.cif --model cu-hvnet --supercell 2 2 2 --volume-range -0.02 0.05 --json
    """
    first, last, step = settings.pop("temperatures")
    if not (0 <= first < last and step > 0):
        raise click.BadParameter("give T0 < T1 and DT > 0, in K", param_hint="--temperatures")
    folder = check_folder(output)
    import numpy as np

    from mlcalc.md_protocols.phonons import grueneisen, quasi_harmonic

    modes, relaxed = settings.pop("grueneisen"), settings.pop("relaxed")
    settings["mesh"] = settings["mesh"] or None
    with cautions_on_stderr():
        atoms = with_calculator(structure, settings)
        if relaxed:
            atoms = relaxed_crystal(atoms)
        shared = {name: settings[name] for name in ("supercell", "displacement", "mesh", "allow_float32")}
        found: dict[str, Any] = {}
        if modes:
            found["grueneisen"] = grueneisen(atoms, **shared)
            if folder is not None:  # kept should the free energies have no minimum
                write_result(found["grueneisen"], folder, "grueneisen")
        found["qha"] = quasi_harmonic(atoms, temperatures=np.arange(first, last + step / 2, step), **settings)
    if folder is not None:
        write_result(found["qha"], folder, "qha")
    if as_json:
        click.echo(json.dumps({name: result.to_json() for name, result in found.items()}))
        return
    for result in found.values():
        click.echo(str(result))
    if folder is not None:
        click.echo(f"wrote {folder}")
