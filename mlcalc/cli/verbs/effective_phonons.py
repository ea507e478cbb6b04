"""`mlcalc effective-phonons`: phonons at a temperature, from structures that their own vibrations displace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mlcalc.cli.cautions import cautions_on_stderr
from mlcalc.cli.options import DebugCommand, existing_file, json_option
from mlcalc.cli.phonon_runs import crystal_with_calculator, fresh_folder
from mlcalc.cli.potential import potential_options, relaxed_crystal, show, write_result

_FILES = ("crystal.extxyz",)


@click.command("effective-phonons", cls=DebugCommand, short_help="Phonons at a temperature, self-consistent.")
@click.argument("structure", type=existing_file)
@potential_options
@click.option("--supercell", type=int, nargs=3, required=True, metavar="A B C", help="Repetitions of the cell.")
@click.option("--temperature-K", "temperature_K", type=float, required=True, help="0 for zero-point motion alone, K.")
@click.option("--n-structures", type=int, default=40, show_default=True, help="Per iteration, an even number.")
@click.option("--max-iterations", type=int, default=20, show_default=True, help="At most.")
@click.option(
    "--tolerance-THz",
    "tolerance_THz",
    type=float,
    default=0.02,
    show_default=True,
    help="Largest change of frequencies, THz.",
)
@click.option("--mixing", type=float, default=0.7, show_default=True, help="Share of the new force constants.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the random displacements.")
@click.option(
    "--statistics", type=click.Choice(["quantum", "classical"]), default="quantum", show_default=True, help="Of modes."
)
@click.option("--start", type=existing_file, metavar="FILE", help="A phonons.npz to start from, of `mlcalc phonons`.")
@click.option(
    "--relax/--no-relax",
    "relaxed",
    default=True,
    show_default=True,
    help="First relax positions and cell (of a slab: in its plane), keeping the symmetry.",
)
@click.option("--allow-float32", is_flag=True, help="Let --dtype float32 pass for the start by small displacements.")
@click.option("--path", metavar="POINTS", help='As in "G X K | G L 0.5,0.25,0.75".  [default: the recommended path]')
@click.option("--npoints", type=int, default=101, show_default=True, help="q-points on each segment of the path.")
@click.option("--symprec", type=float, default=1e-5, show_default=True, help="Tolerance of the symmetry search, Å.")
@click.option("--output", metavar="DIR", help="Folder for effective_phonons.npz, .json, .png and crystal.extxyz.")
@json_option
def effective_phonons_command(*, structure: str, output: str | None, as_json: bool, **settings: Any) -> None:
    """Phonons of STRUCTURE at a temperature: the harmonic crystal whose vibrations give it its own force constants.

    Every iteration displaces all atoms of supercells at random, as the current phonons do at the temperature, evaluates
    them in one batch and fits new force constants, until frequencies stay.  The volume is that of the (relaxed) cell:
    for thermal expansion give an expanded cell and --no-relax.  Statistical errors are told.

    \b
    Examples:
      mlcalc effective-phonons Cu.cif --model cu-hvnet --supercell 3 3 3 --temperature-K 300 --output phonons-300K
      mlcalc effective-phonons Cu.cif --model cu-hvnet --supercell 3 3 3 --temperature-K 0 --n-structures 100 --json
    """
    if output is not None and any((Path(output) / name).resolve() == Path(structure).resolve() for name in _FILES):
        raise click.BadParameter(
            f"{structure!r} is an input of this command and would be overwritten: choose another folder",
            param_hint="--output",
        )
    folder = fresh_folder(output)
    with cautions_on_stderr():
        result = _result(structure, settings)
    if folder is not None:
        written = write_result(result, folder, "effective_phonons")
        result.phonons.unitcell.write(folder / _FILES[0])
    show(result, as_json)
    if folder is not None and not as_json:
        click.echo(f"files: {folder}: {', '.join([*written, *_FILES])}")


def _result(structure: str, settings: dict[str, Any]) -> Any:
    from mlcalc.md_protocols.crystals.supercells import supercell_matrix
    from mlcalc.md_protocols.phonons import PhononDispersion
    from mlcalc.md_protocols.phonons.anharmonic.effective import effective_phonons
    from mlcalc.md_protocols.phonons.crystal import plane_of

    start = PhononDispersion.load(settings["start"]) if settings["start"] else None
    atoms = crystal_with_calculator(structure, settings)
    atoms.calc.engine.scope.require_potential("phonons")
    supercell = list(settings["supercell"])
    if settings["relaxed"]:
        cell = "in-plane" if plane_of(atoms, supercell_matrix(supercell), None) == 2 else "full"
        atoms = relaxed_crystal(atoms, cell)
    names = ("temperature_K", "n_structures", "max_iterations", "tolerance_THz", "mixing", "seed", "statistics")
    shared = ("path", "npoints", "symprec", "allow_float32")
    return effective_phonons(
        atoms,
        supercell=supercell,
        start=start,
        stress_limit=1e-3 if settings["relaxed"] else None,
        **{name: settings[name] for name in (*names, *shared)},
    )
