"""`mlcalc vacancy`: formation energies and migration barriers of vacancies."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlcalc.cli.cautions import cautions_on_stderr
from mlcalc.cli.options import DebugCommand, existing_file, json_option
from mlcalc.cli.outputs import refuse_used
from mlcalc.cli.potential import check_folder, potential_options, with_calculator, write_result

if TYPE_CHECKING:
    from ase import Atoms

_MIGRATION = ("n_images", "hop", "band_fmax", "site")
_STRUCTURES = ("vacancies.extxyz", "crystal.extxyz", "migration.extxyz")
_FILES = ("vacancy.*", "vacancy_series.*", "migration.*", *_STRUCTURES)


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
@click.option("--symprec", type=float, default=1e-5, show_default=True, help="Tolerance of the symmetry search, Å.")
@click.option("--relax", "relax_first", is_flag=True, help="Relax the crystal first, its symmetry kept.")
@click.option("--migration", is_flag=True, help="Also the barrier of a neighbor's jump into the vacancy.")
@click.option("--site", type=int, help="Vacancy of --migration, from 0.  [default: the only kind of site]")
@click.option("--hop", type=int, help="Which of the inequivalent jumps, the shortest is 0.")
@click.option("--n-images", type=int, default=5, show_default=True, help="Of --migration, between the end points.")
@click.option("--band-fmax", type=float, default=0.01, show_default=True, help="Largest force of --migration, eV/Å.")
@click.option("--output", type=click.Path(), metavar="DIR", help="Folder for results, pictures and structures.")
@json_option
def vacancy_command(*, structure: str, output: str | None, as_json: bool, **settings: Any) -> None:
    """Formation energies of vacancies E(N-1) - E(N) + mu at the inequivalent sites of STRUCTURE, a unit cell.

    STRUCTURE must be relaxed with the same model (or give --relax).  mu is E(N)/N in a crystal of one element;
    compounds need --mu for the element of each site.  --migration follows the shortest jump with a climbing-image
    elastic band in the supercell given, at fixed volume.  Energies are written before the band begins.

    \b
    Examples:
      mlcalc vacancy Cu.cif --model cu-hvnet --supercell 3 3 3 --relax
      mlcalc vacancy Cu.cif --model cu-hvnet --series 2,3,4 --relax --output vacancies
      mlcalc vacancy Cu.cif --model cu-hvnet --supercell 3 3 3 --migration --output vacancies
      mlcalc vacancy MoSe2.cif --model mose2.safetensors --supercell 5 5 1 --mu Mo=-10.1 --mu Se=-3.5
    """
    _check(settings)
    sites, sizes = _whole(settings.pop("sites"), "--sites"), _whole(settings.pop("series"), "--series")
    if sizes is not None and len(sizes) < 2:
        raise click.BadParameter("a limit needs at least two sizes, as in 2,3,4", param_hint="--series")
    potentials = _potentials(settings.pop("mu"))
    folder = _folder(output, structure)
    migration = {name: settings.pop(name) for name in _MIGRATION}
    written: list[str] = []
    migrate, relax_first = settings.pop("migration"), settings.pop("relax_first")
    with cautions_on_stderr():
        atoms = with_calculator(structure, settings)
        atoms.calc.engine.scope.require_potential("a vacancy energy")
        supercell = settings.pop("supercell")
        chosen = {"sites": sites, "chemical_potential": potentials or None}
        _refuse(atoms, supercell, sizes, migration if migrate else None, chosen | {"symprec": settings["symprec"]})
        if relax_first:
            atoms = _relaxed(atoms, settings["steps"])
            written += _write_structures(folder, "crystal.extxyz", [atoms])
        result = _energy(atoms, supercell, sizes, settings | chosen)
        written += _write(folder, result)
        barrier = None
        try:
            if not as_json:
                click.echo(str(result))
            if migrate:
                barrier = _barrier(atoms, supercell, migration, settings)
                written += _write(folder, barrier)
                if not as_json:
                    click.echo(str(barrier))
        finally:  # what is there when the band fails
            if as_json:
                click.echo(json.dumps(result.to_json() | ({"migration": barrier.to_json()} if barrier else {})))
            elif folder is not None:
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
    refuse_used(folder, _FILES)
    return folder


def _refuse(
    atoms: Atoms,
    supercell: tuple[int, int, int] | None,
    sizes: list[int] | None,
    migration: dict[str, Any] | None,
    chosen: dict[str, Any],
) -> None:
    """ConfigError, before anything is computed, where energies or barrier would be refused."""
    from mlcalc.md_protocols.defects.hops import check_jump
    from mlcalc.md_protocols.defects.sites import check_vacancies
    from mlcalc.md_protocols.defects.vacancies import check_sites

    check_vacancies(atoms, "a vacancy energy")
    check_sites(atoms, [supercell] if supercell else _supercells(atoms, sizes), **chosen)
    if migration is not None:
        check_jump(atoms, supercell, migration["site"], migration["hop"], chosen["symprec"])


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
            if not symbol or not math.isfinite(number):
                raise ValueError(word)
        except ValueError:
            raise click.BadParameter(f"{word!r}: use the form Mo=-10.1, in eV", param_hint="--mu") from None
        if symbol in found:
            raise click.BadParameter(f"{symbol!r} stands there twice", param_hint="--mu")
        found[symbol] = number
    return found


def _relaxed(atoms: Atoms, steps: int) -> Atoms:
    """The perfect crystal at its minimum, with the part of the cell that has a meaning free."""
    from mlcalc.md_protocols.relaxation.crystal import relax_crystal

    return relax_crystal(atoms, steps=steps, require=True).atoms


def _supercells(atoms: Atoms, sizes: list[int] | None) -> list[tuple[int, ...]]:
    from mlcalc.md_protocols.crystals.vacuum import vacuum_axes

    flat = vacuum_axes(atoms)
    return [tuple(1 if layer else size for layer in flat) for size in sizes or ()]


def _energy(
    atoms: Atoms, supercell: tuple[int, int, int] | None, sizes: list[int] | None, settings: dict[str, Any]
) -> Any:
    from mlcalc.md_protocols.defects.vacancies import vacancy_energy
    from mlcalc.md_protocols.defects.vacancy_series import vacancy_series

    relaxed = not settings.pop("unrelaxed")
    if supercell:
        return vacancy_energy(atoms, supercell=supercell, relaxed=relaxed, **settings)
    return vacancy_series(atoms, supercells=_supercells(atoms, sizes), **settings)


def _barrier(atoms: Atoms, supercell: tuple[int, int, int], migration: dict[str, Any], settings: dict[str, Any]) -> Any:
    from mlcalc.md_protocols.defects.migration import vacancy_migration

    return vacancy_migration(
        atoms,
        supercell=supercell,
        site=migration["site"],
        hop=migration["hop"],
        n_images=migration["n_images"],
        band_fmax=migration["band_fmax"],
        **{name: settings[name] for name in ("fmax", "steps", "rattle", "seed", "symprec")},
    )


def _write(folder: Path | None, result: Any) -> list[str]:
    """The files of energies, of a series of them, or of a barrier."""
    if folder is None:
        return []
    if hasattr(result, "images"):
        return write_result(result, folder, "migration") + _write_structures(
            folder, "migration.extxyz", list(result.images)
        )
    series = hasattr(result, "results")
    structures = [atoms for one in (result.results if series else [result]) for atoms in one.structures]
    written = write_result(result, folder, "vacancy_series" if series else "vacancy")
    return written + _write_structures(folder, "vacancies.extxyz", structures)


def _write_structures(folder: Path | None, name: str, frames: list[Atoms]) -> list[str]:
    if folder is None:
        return []
    from ase.io import write

    write(folder / name, [frame.copy() for frame in frames], format="extxyz")
    return [name]
