"""`mlcalc conductivity`: lattice thermal conductivity from three-phonon scattering."""

from __future__ import annotations

from typing import Any

import click

from mlcalc.cli.commands import Verb
from mlcalc.cli.options import existing_file, folder_options, json_option, setting
from mlcalc.cli.outputs import result_folder
from mlcalc.cli.phonon_runs import (
    PHONON_FILES,
    crystal_with_calculator,
    supercell_option,
    temperatures,
    temperatures_option,
)
from mlcalc.cli.potential import potential_options
from mlcalc.cli.relaxing import relax_option, relaxed_first
from mlcalc.cli.reports import report
from mlcalc.md_protocols import thermal_conductivity
from mlcalc.md_protocols.phonons.anharmonic.conductivity import require_phono3py


@click.command("conductivity", cls=Verb)
@click.argument("structure", type=existing_file)
@potential_options
@supercell_option(help="Of the third order.", required=True)
@setting(
    thermal_conductivity,
    "--phonon-supercell",
    type=int,
    nargs=3,
    metavar="A B C",
    help="Of the second order.  [default: that of --supercell]",
)
@setting(
    thermal_conductivity, "--mesh", type=int, nargs=3, required=True, metavar="A B C", help="q-points; to be converged."
)
@temperatures_option(100.0, 800.0, 50.0)
@setting(thermal_conductivity, "--displacement", help="Of atoms, alone and in pairs, Å.")
@setting(
    thermal_conductivity,
    "--cutoff",
    of="cutoff_pair_distance",
    type=float,
    help="Displace no pairs farther apart, Å.  [default: all pairs]",
)
@setting(thermal_conductivity, "--isotopes", is_flag=True, help="Scattering by natural isotopes too.")
@setting(
    thermal_conductivity,
    "--method",
    type=click.Choice(["rta", "lbte"]),
    help="Relaxation times, or the whole linearized Boltzmann equation.",
)
@setting(thermal_conductivity, "--max-structures", help="Refuse to evaluate more.")
@relax_option
@setting(thermal_conductivity, "--allow-float32", is_flag=True, help="Accept --dtype float32.")
@setting(thermal_conductivity, "--allow-imaginary", is_flag=True, help="Leave imaginary modes out.")
@folder_options("conductivity.npz, .json, .png and crystal.extxyz")
@json_option
def conductivity_command(
    *, structure: str, output: str | None, overwrite: bool, as_json: bool, relax: bool, **settings: Any
) -> None:
    """Lattice thermal conductivity of STRUCTURE, W/(m K), from the scattering of three phonons.

    All supercells with one atom or a pair displaced are evaluated in batches.  What electrons carry is not in it: in
    metals they carry most of the heat.  Needs phono3py: pip install "mlcalc[conductivity]".

    \b
    Examples:
      mlcalc conductivity Si.cif --model si.safetensors --supercell 3 3 3 --mesh 15 15 15 --isotopes --output kappa
      mlcalc conductivity Cu.cif --model cu-hvnet --supercell 3 3 3 --mesh 9 9 9 --temperatures 300 600 100 --json
    """
    settings["temperatures"] = temperatures(settings["temperatures"], "--temperatures", above=True)
    settings["phonon_supercell"] = settings["phonon_supercell"] or None
    results = result_folder(output, PHONON_FILES, [structure], overwrite=overwrite)
    require_phono3py()
    atoms = crystal_with_calculator(structure, settings)
    atoms = relaxed_first(atoms, "a thermal conductivity", results, wanted=relax, as_json=as_json)
    found = thermal_conductivity(atoms, **settings)
    if not relax:
        results.structures([atoms], "crystal.extxyz")
    report(found, "conductivity", results, as_json)
