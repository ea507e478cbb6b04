"""`mlcalc vacancy`: formation energies and migration barriers of vacancies."""

from __future__ import annotations

import json
import math
from typing import Any

import click
from ase import Atoms

from mlcalc.cli.commands import Verb
from mlcalc.cli.options import existing_file, folder_options, json_option, setting
from mlcalc.cli.outputs import ResultFolder, in_json, result_folder
from mlcalc.cli.phonon_runs import supercell_option
from mlcalc.cli.potential import potential_options, with_calculator
from mlcalc.cli.relaxing import CRYSTAL, relax_option, relaxed_first
from mlcalc.cli.reports import end
from mlcalc.md_protocols import vacancy_energy, vacancy_migration, vacancy_series
from mlcalc.md_protocols.crystals.vacuum import vacuum_axes
from mlcalc.md_protocols.defects.hops import check_jump
from mlcalc.md_protocols.defects.sites import check_vacancies
from mlcalc.md_protocols.defects.vacancies import check_sites

_MIGRATION = ("n_images", "hop", "band_fmax", "site")
_FILES = ("vacancy.*", "vacancy_series.*", "migration.*", "vacancies.extxyz", CRYSTAL)


@click.command("vacancy", cls=Verb)
@click.argument("structure", type=existing_file)
@potential_options
@supercell_option()
@click.option("--series", metavar="N,N,...", help="Several supercells, as in 2,3,4, and the limit of 1/N -> 0.")
@setting(
    vacancy_energy, "--sites", metavar="I,I,...", help="Atoms of the unit cell, from 0.  [default: one of each kind]"
)
@setting(vacancy_energy, "--relaxed/--unrelaxed", help="Whether the vacancies relax.")
@setting(
    vacancy_energy,
    "--cell",
    type=click.Choice(["fixed", "isotropic", "full"]),
    help="Cell of a vacancy: that of the perfect crystal, or relaxed to zero pressure.",
)
@setting(
    vacancy_energy,
    "--mu",
    of="chemical_potential",
    multiple=True,
    metavar="X=EV",
    help="Chemical potential of an element, as in Mo=-10.1, eV.",
)
@setting(vacancy_energy, "--fmax", help="Largest force of relaxed vacancies, eV/Å.")
@setting(vacancy_energy, "--steps", help="At most, of relaxations and of the band.")
@setting(vacancy_energy, "--rattle", help="Random displacements at the start, Å.")
@setting(vacancy_energy, "--seed", help="Of the random displacements.")
@setting(vacancy_energy, "--symprec", help="Tolerance of the symmetry search, Å.")
@relax_option
@click.option("--migration", is_flag=True, help="Also the barrier of a neighbor's jump into the vacancy.")
@setting(
    vacancy_migration, "--site", type=int, help="Vacancy of --migration, from 0.  [default: the only kind of site]"
)
@setting(vacancy_migration, "--hop", type=int, help="Which of the inequivalent jumps, the shortest is 0.")
@click.option("--n-images", type=int, default=5, show_default=True, help="Of --migration, between the end points.")
@click.option("--band-fmax", type=float, default=0.01, show_default=True, help="Largest force of --migration, eV/Å.")
@folder_options("results, pictures and structures")
@json_option
def vacancy_command(
    *, structure: str, output: str | None, overwrite: bool, as_json: bool, relax: bool, **settings: Any
) -> None:
    """Formation energies of vacancies E(N-1) - E(N) + mu at the inequivalent sites of STRUCTURE, a unit cell.

    The crystal is relaxed first: energies refer to its minimum.  mu is E(N)/N in a crystal of one element; compounds
    need --mu for the element of each site.  --migration follows the shortest jump with a climbing-image elastic band
    in the supercell given, at fixed volume.  Energies are written before the band begins.

    \b
    Examples:
      mlcalc vacancy Cu.cif --model cu-hvnet --supercell 3 3 3
      mlcalc vacancy Cu.cif --model cu-hvnet --series 2,3,4 --output vacancies
      mlcalc vacancy Cu.cif --model cu-hvnet --supercell 3 3 3 --migration --output vacancies
      mlcalc vacancy MoSe2.cif --model mose2.safetensors --supercell 5 5 1 --mu Mo=-10.1 --mu Se=-3.5
    """
    _check(settings)
    sizes = _whole(settings.pop("series"), "--series")
    if sizes is not None and len(sizes) < 2:
        raise click.BadParameter("a limit needs at least two sizes, as in 2,3,4", param_hint="--series")
    chosen = {
        "sites": _whole(settings.pop("sites"), "--sites"),
        "chemical_potential": _potentials(settings.pop("chemical_potential")) or None,
    }
    results = result_folder(output, _FILES, [structure], overwrite=overwrite)
    migration = {name: settings.pop(name) for name in _MIGRATION}
    migrate, supercell = settings.pop("migration"), settings.pop("supercell")
    atoms = with_calculator(structure, settings, "a vacancy energy")
    _refuse(atoms, supercell, sizes, migration if migrate else None, chosen | {"symprec": settings["symprec"]})
    atoms = relaxed_first(atoms, "a vacancy energy", results, wanted=relax, as_json=as_json)
    found = {"vacancy": _energy(atoms, supercell, sizes, settings | chosen)}
    _write(results, found["vacancy"], sizes is not None)
    try:
        if not as_json:
            click.echo(str(found["vacancy"]))
        if migrate:
            found["migration"] = _barrier(atoms, supercell, migration, settings)
            results.result(found["migration"], "migration")
            results.structures(found["migration"].images, "migration.extxyz")
            if not as_json:
                click.echo(str(found["migration"]))
    finally:  # what is there when the band fails
        if as_json:
            barrier = {"migration": in_json(found["migration"])} if "migration" in found else {}
            click.echo(json.dumps(in_json(found["vacancy"]) | barrier))
        results.tell(as_json)
    end(*found.values())


def _check(settings: dict[str, Any]) -> None:
    if not settings["supercell"] and not settings["series"]:
        raise click.UsageError("give --supercell A B C, or --series N,N,... for several of them")
    if settings["supercell"] and settings["series"]:
        raise click.UsageError("--supercell and --series exclude each other")
    if settings["migration"] and not settings["supercell"]:
        raise click.UsageError("--migration needs --supercell A B C")
    if not settings["relaxed"] and settings["series"]:
        raise click.UsageError("--series extrapolates relaxed energies: leave out --unrelaxed")
    alone = [name for name in ("site", "hop") if settings[name] is not None and not settings["migration"]]
    if alone:
        raise click.UsageError(f"--{alone[0]} is for --migration" + (": use --sites" if alone == ["site"] else ""))


def _refuse(
    atoms: Atoms,
    supercell: tuple[int, int, int] | None,
    sizes: list[int] | None,
    migration: dict[str, Any] | None,
    chosen: dict[str, Any],
) -> None:
    """ConfigError, before anything is computed, where energies or barrier would be refused."""
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


def _supercells(atoms: Atoms, sizes: list[int] | None) -> list[tuple[int, ...]]:
    flat = vacuum_axes(atoms)
    return [tuple(1 if layer else size for layer in flat) for size in sizes or ()]


def _energy(
    atoms: Atoms, supercell: tuple[int, int, int] | None, sizes: list[int] | None, settings: dict[str, Any]
) -> Any:
    if supercell:
        return vacancy_energy(atoms, supercell=supercell, **settings)
    series = {name: value for name, value in settings.items() if name != "relaxed"}
    return vacancy_series(atoms, supercells=_supercells(atoms, sizes), **series)


def _barrier(atoms: Atoms, supercell: tuple[int, int, int], migration: dict[str, Any], settings: dict[str, Any]) -> Any:
    shared = {name: settings[name] for name in ("fmax", "steps", "rattle", "seed", "symprec")}
    return vacancy_migration(atoms, supercell=supercell, **migration, **shared)


def _write(results: ResultFolder, found: Any, series: bool) -> None:
    """The files of energies, or of a series of them."""
    results.result(found, "vacancy_series" if series else "vacancy")
    structures = [atoms for one in (found.results if series else [found]) for atoms in one.structures]
    results.structures(structures, "vacancies.extxyz")
