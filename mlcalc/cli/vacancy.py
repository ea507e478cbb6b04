"""`mlcalc vacancy`: formation energies and migration barriers of vacancies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlcalc.cli.cautions import cautions_on_stderr
from mlcalc.cli.options import DebugCommand, existing_file, json_option
from mlcalc.cli.potential import check_folder, potential_options, with_calculator, write_result

if TYPE_CHECKING:
    from ase import Atoms

_MIGRATION = ("images", "hop", "band_fmax", "site")
_STRUCTURES = ("vacancies.extxyz", "crystal.extxyz", "migration.extxyz")


@click.command("vacancy", cls=DebugCommand, short_help="Vacancy energies and migration barriers.")
@click.argument("structure", type=existing_file)
@potential_options
@click.option("--supercell", type=int, nargs=3, metavar="A B C", help="Repeat the unit cell along its vectors.")
@click.option("--series", metavar="N,N,...", help="Several supercells, as in 2,3,4, and the limit of 1/N -> 0.")
@click.option("--sites", metavar="I,I,...", help="Atoms of the unit cell, from 0.  [default: one of each kind]")
@click.option("--unrelaxed", is_flag=True, help="Do not relax the vacancies.")
@click.option(
    "--cell",
    type=click.Choice(["fixed", "isotropic", "full"]),
    default="fixed",
    show_default=True,
    help="Cell of a vacancy: that of the perfect crystal, or relaxed to zero pressure.",
)
@click.option("--mu", multiple=True, metavar="X=EV", help="Chemical potential of an element, as in Mo=-10.1, eV.")
@click.option("--fmax", type=float, default=1e-3, show_default=True, help="Largest force of relaxed vacancies, eV/Å.")
@click.option("--steps", type=int, default=500, show_default=True, help="At most, of relaxations and of the band.")
@click.option("--rattle", type=float, default=0.02, show_default=True, help="Random displacements at the start, Å.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the random displacements.")
@click.option("--symprec", type=float, default=1e-3, show_default=True, help="Tolerance of the symmetry search, Å.")
@click.option("--relax", "relax_first", is_flag=True, help="Relax the crystal first, its symmetry kept.")
@click.option("--migration", is_flag=True, help="Also the barrier of a neighbor's jump into the vacancy.")
@click.option("--site", type=int, help="Vacancy of --migration, from 0.  [default: the only kind of site]")
@click.option("--hop", type=int, help="Which of the inequivalent jumps, the shortest is 0.")
@click.option("--images", type=int, default=5, show_default=True, help="Of --migration, between the end points.")
@click.option("--band-fmax", type=float, default=0.01, show_default=True, help="Largest force of --migration, eV/Å.")
@click.option("--output", type=click.Path(), metavar="DIR", help="Folder for results, pictures and structures.")
@json_option
def vacancy_command(*, structure: str, output: str | None, as_json: bool, **settings: Any) -> None:
    """Formation energies of vacancies E(N-1) - E(N) + mu at the inequivalent sites of STRUCTURE, a unit cell.

    STRUCTURE must be relaxed with the same model (or give --relax).  mu is E(N)/N in a crystal of one element;
    compounds need --mu for the element of each site.  --migration follows the shortest jump with a climbing-image
    elastic band in the supercell given, at fixed volume.

    \b
    Examples:
      mlcalc vacancy Cu.cif --model cu-hvnet --supercell 3 3 3 --relax
      mlcalc vacancy Cu.cif --model cu-hvnet --series 2,3,4 --relax --output vacancies
      mlcalc vacancy Cu.cif --model cu-hvnet --supercell 3 3 3 --migration --output vacancies
      mlcalc vacancy MoSe2.cif --model mose2.safetensors --supercell 5 5 1 --mu Mo=-10.1 --mu Se=-3.5
    """
    _check(settings)
    sites, sizes = _whole(settings.pop("sites"), "--sites"), _whole(settings.pop("series"), "--series")
    potentials = _potentials(settings.pop("mu"))
    folder = _folder(output, structure)
    migration = {name: settings.pop(name) for name in _MIGRATION}
    migrate, relax_first = settings.pop("migration"), settings.pop("relax_first")
    with cautions_on_stderr():
        atoms = with_calculator(structure, settings)
        atoms.calc.engine.scope.require_potential("a vacancy energy")
        if relax_first:
            atoms = _relaxed(atoms, settings["steps"])
        supercell = settings.pop("supercell")
        result = _energy(atoms, supercell, sizes, settings | {"sites": sites, "chemical_potential": potentials or None})
        barrier = _barrier(atoms, supercell, migration, settings) if migrate else None
    _show(result, barrier, as_json)
    if folder is not None:
        written = _write(folder, atoms if relax_first else None, result, barrier)
        if not as_json:
            click.echo(f"files: {folder}: {', '.join(written)}")


def _check(settings: dict[str, Any]) -> None:
    if not settings["supercell"] and not settings["series"]:
        raise click.UsageError("give --supercell A B C, or --series N,N,... for several of them")
    if settings["supercell"] and settings["series"]:
        raise click.UsageError("--supercell and --series exclude each other")
    if settings["migration"] and not settings["supercell"]:
        raise click.UsageError("--migration needs --supercell A B C")
    if settings["unrelaxed"] and settings["series"]:
        raise click.UsageError("--series extrapolates relaxed energies: leave out --unrelaxed")
    alone = [name for name in ("site", "hop") if settings[name] is not None and not settings["migration"]]
    if alone:
        raise click.UsageError(f"--{alone[0]} is for --migration" + (": use --sites" if alone == ["site"] else ""))


def _folder(output: str | None, structure: str) -> Path | None:
    """The output folder; BadParameter if STRUCTURE lies in it under the name of a result."""
    folder = check_folder(output)
    if folder is not None and any((folder / name).resolve() == Path(structure).resolve() for name in _STRUCTURES):
        raise click.BadParameter(
            f"{structure!r} is an input of this command and would be overwritten: choose another folder",
            param_hint="--output",
        )
    return folder


def _whole(words: str | None, option: str) -> list[int] | None:
    if words is None:
        return None
    try:
        return [int(word) for word in words.split(",")]
    except ValueError:
        raise click.BadParameter(f"{words!r}: use whole numbers and commas, as in 0,3", param_hint=option) from None


def _potentials(words: tuple[str, ...]) -> dict[str, float]:
    found: dict[str, float] = {}
    for word in words:
        symbol, _, value = word.partition("=")
        try:
            number = float(value)
        except ValueError:
            raise click.BadParameter(f"{word!r}: use the form Mo=-10.1, in eV", param_hint="--mu") from None
        if found.setdefault(symbol, number) != number:
            raise click.BadParameter(f"{symbol!r} stands there twice", param_hint="--mu")
    return found


def _relaxed(atoms: Atoms, steps: int) -> Atoms:
    """The perfect crystal at its minimum, with the part of the cell that has a meaning free."""
    from mlcalc.md_protocols.relaxation import relax
    from mlcalc.md_protocols.vacancy_cells import check_crystal, vacuum_axes

    check_crystal(atoms, "a vacancy energy")
    flat = vacuum_axes(atoms).tolist()
    cell = "full" if not any(flat) else "in-plane" if flat == [False, False, True] and atoms.pbc.all() else "fixed"
    return relax(atoms, cell=cell, keep_symmetry=bool(atoms.pbc.all()), steps=steps, require=True).atoms


def _energy(
    atoms: Atoms, supercell: tuple[int, int, int] | None, sizes: list[int] | None, settings: dict[str, Any]
) -> Any:
    from mlcalc.md_protocols.vacancies import vacancy_energy
    from mlcalc.md_protocols.vacancy_cells import check_crystal, vacuum_axes
    from mlcalc.md_protocols.vacancy_series import vacancy_series

    relaxed = not settings.pop("unrelaxed")
    if supercell:
        return vacancy_energy(atoms, supercell=supercell, relaxed=relaxed, **settings)
    check_crystal(atoms, "a vacancy energy")
    flat = vacuum_axes(atoms)
    cells = [tuple(1 if layer else size for layer in flat) for size in sizes or ()]
    return vacancy_series(atoms, supercells=cells, **settings)


def _barrier(atoms: Atoms, supercell: tuple[int, int, int], migration: dict[str, Any], settings: dict[str, Any]) -> Any:
    from mlcalc.md_protocols.migration import vacancy_migration

    return vacancy_migration(
        atoms,
        supercell=supercell,
        site=migration["site"],
        hop=migration["hop"],
        images=migration["images"],
        fmax=migration["band_fmax"],
        relax_fmax=settings["fmax"],
        **{name: settings[name] for name in ("steps", "rattle", "seed", "symprec")},
    )


def _show(result: Any, barrier: Any, as_json: bool) -> None:
    if not as_json:
        click.echo("\n".join(str(one) for one in (result, barrier) if one is not None))
        return
    found = result.to_json() | ({} if barrier is None else {"migration": barrier.to_json()})
    click.echo(json.dumps(found))


def _write(folder: Path, crystal: Atoms | None, result: Any, barrier: Any) -> list[str]:
    from ase.io import write

    series = hasattr(result, "results")
    written = write_result(result, folder, "vacancy_series" if series else "vacancy")
    structures = [atoms for one in (result.results if series else [result]) for atoms in one.structures]
    sets = {"vacancies.extxyz": structures}
    if crystal is not None:
        sets["crystal.extxyz"] = [crystal]
    if barrier is not None:
        written += write_result(barrier, folder, "migration")
        sets["migration.extxyz"] = list(barrier.images)
    for name, frames in sets.items():
        plain = [frame.copy() for frame in frames]
        write(folder / name, plain, format="extxyz")
    return written + list(sets)
