"""`mlcalc conductivity`: lattice thermal conductivity from three-phonon scattering."""

from __future__ import annotations

from typing import Any

import click

from mlcalc.cli.cautions import cautions_on_stderr
from mlcalc.cli.options import DebugCommand, existing_file, json_option
from mlcalc.cli.phonon_runs import crystal_with_calculator, fresh_folder, temperatures, temperatures_option
from mlcalc.cli.potential import potential_options, relaxed_crystal, show, write_result


@click.command("conductivity", cls=DebugCommand, short_help="Lattice thermal conductivity (phono3py).")
@click.argument("structure", type=existing_file)
@potential_options
@click.option("--supercell", type=int, nargs=3, required=True, metavar="A B C", help="Of the third order.")
@click.option(
    "--phonon-supercell",
    type=int,
    nargs=3,
    metavar="A B C",
    help="Of the second order.  [default: that of --supercell]",
)
@click.option("--mesh", type=int, nargs=3, required=True, metavar="A B C", help="q-points; to be converged.")
@temperatures_option(100.0, 800.0, 50.0)
@click.option("--displacement", type=float, default=0.03, show_default=True, help="Of atoms, alone and in pairs, Å.")
@click.option(
    "--cutoff", "cutoff_pair_distance", type=float, help="Displace no pairs farther apart, Å.  [default: all pairs]"
)
@click.option("--isotopes", is_flag=True, help="Scattering by natural isotopes too.")
@click.option(
    "--method",
    type=click.Choice(["rta", "lbte"]),
    default="rta",
    show_default=True,
    help="Relaxation times, or the whole linearized Boltzmann equation.",
)
@click.option("--max-structures", type=int, default=20_000, show_default=True, help="Refuse to evaluate more.")
@click.option(
    "--relax/--no-relax", "relaxed", default=True, show_default=True, help="Relax atoms and cell first, symmetry kept."
)
@click.option("--allow-float32", is_flag=True, help="Accept --dtype float32.")
@click.option("--allow-imaginary", is_flag=True, help="Leave imaginary modes out.")
@click.option("--output", metavar="DIR", help="Folder for conductivity.npz, .json, .png and crystal.extxyz.")
@json_option
def conductivity_command(*, structure: str, output: str | None, as_json: bool, **settings: Any) -> None:
    """Lattice thermal conductivity of STRUCTURE, W/(m K), from the scattering of three phonons.

    All supercells with one atom or a pair displaced are evaluated in batches.  What electrons carry is not in it: in
    metals they carry most of the heat.  Needs phono3py: pip install "mlcalc[conductivity]".

    \b
    Examples:
      mlcalc conductivity Si.cif --model si.safetensors --supercell 3 3 3 --mesh 15 15 15 --isotopes --output kappa
      mlcalc conductivity Cu.cif --model cu-hvnet --supercell 3 3 3 --mesh 9 9 9 --temperatures 300 600 100 --json
    """
    kelvin = temperatures(settings.pop("temperatures"), "--temperatures", above=True)
    folder = fresh_folder(output)
    from mlcalc.md_protocols.phonons.anharmonic.conductivity import require_phono3py, thermal_conductivity

    require_phono3py()
    relaxed = settings.pop("relaxed")
    settings["phonon_supercell"] = settings["phonon_supercell"] or None
    with cautions_on_stderr():
        atoms = crystal_with_calculator(structure, settings)
        if relaxed:
            atoms = relaxed_crystal(atoms)
        result = thermal_conductivity(atoms, temperatures=kelvin, **settings)
    if folder is not None:
        write_result(result, folder, "conductivity")
        crystal = atoms.copy()
        crystal.write(folder / "crystal.extxyz")
    show(result, as_json)
    if folder is not None and not as_json:
        click.echo(f"wrote {folder}")
