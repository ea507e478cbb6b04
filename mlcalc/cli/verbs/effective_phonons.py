"""`mlcalc effective-phonons`: phonons at a temperature, from structures that their own vibrations displace."""

from __future__ import annotations

from typing import Any

import click

from mlcalc.cli.commands import Verb
from mlcalc.cli.options import existing_file, folder_options, json_option, setting
from mlcalc.cli.outputs import result_folder
from mlcalc.cli.phonon_runs import PHONON_FILES, crystal_with_calculator, supercell_option
from mlcalc.cli.potential import potential_options
from mlcalc.cli.relaxing import CRYSTAL, relax_option, relaxed_first
from mlcalc.cli.reports import report
from mlcalc.md_protocols import PhononDispersion, effective_phonons


@click.command("effective-phonons", cls=Verb)
@click.argument("structure", type=existing_file)
@potential_options
@supercell_option(required=True)
@setting(effective_phonons, "--temperature-K", type=float, required=True, help="0 for zero-point motion alone, K.")
@click.option("--n-structures", type=int, default=40, show_default=True, help="Per iteration, an even number.")
@click.option("--max-iterations", type=int, default=20, show_default=True, help="Stop after so many.")
@setting(effective_phonons, "--tolerance-THz", help="Largest change of frequencies, THz.")
@setting(effective_phonons, "--mixing", help="Share of the new force constants.")
@setting(effective_phonons, "--seed", help="Of the random displacements.")
@setting(effective_phonons, "--statistics", type=click.Choice(["quantum", "classical"]), help="Of modes.")
@setting(
    effective_phonons,
    "--start",
    type=existing_file,
    metavar="FILE",
    help="A phonons.npz to start from, of `mlcalc phonons`.",
)
@relax_option
@setting(
    effective_phonons,
    "--allow-float32",
    is_flag=True,
    help="Let --dtype float32 pass for the start by small displacements.",
)
@setting(
    effective_phonons, "--path", metavar="POINTS", help='As in "G X K | G L 0.5,0.25,0.75".  [default: recommended]'
)
@click.option("--npoints", type=int, default=101, show_default=True, help="q-points on each segment of the path.")
@setting(effective_phonons, "--symprec", help="Tolerance of the symmetry search, Å.")
@folder_options("effective_phonons.npz, .json, .png and crystal.extxyz")
@json_option
def effective_phonons_command(
    *, structure: str, output: str | None, overwrite: bool, as_json: bool, relax: bool, **settings: Any
) -> None:
    """Phonons of STRUCTURE at a temperature: the harmonic crystal whose vibrations give it its own force constants.

    Every iteration displaces all atoms of supercells at random, as the current phonons do at the temperature, evaluates
    them in one batch and fits new force constants, until frequencies stay.  The volume is that of the (relaxed) cell:
    for thermal expansion give an expanded cell and --no-relax.  Statistical errors are told.

    \b
    Examples:
      mlcalc effective-phonons Cu.cif --model cu-hvnet --supercell 3 3 3 --temperature-K 300 --output phonons-300K
      mlcalc effective-phonons Cu.cif --model cu-hvnet --supercell 3 3 3 --temperature-K 0 --n-structures 100 --json
    """
    results = result_folder(output, PHONON_FILES, [structure], overwrite=overwrite)
    settings["start"] = PhononDispersion.load(settings["start"]) if settings["start"] else None
    settings["supercell"] = list(settings["supercell"])
    atoms = crystal_with_calculator(structure, settings)
    atoms = relaxed_first(atoms, "phonons", results, wanted=relax, as_json=as_json)
    limit = 1e-3 if relax else None  # without relaxing the stress is meant
    found = effective_phonons(atoms, stress_limit=limit, **settings)
    results.structures([found.phonons.unitcell], CRYSTAL)
    report(found, "effective_phonons", results, as_json)
