"""`mlcalc surface`: surface and stacking-fault energies."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import click
from ase import Atoms

from mlcalc.cli.commands import Verb
from mlcalc.cli.options import existing_file, folder_options, json_option, setting
from mlcalc.cli.outputs import ResultFolder, in_json, result_folder
from mlcalc.cli.potential import potential_options, with_calculator
from mlcalc.cli.relaxing import CRYSTAL, relax_option, relaxed_first
from mlcalc.cli.reports import end
from mlcalc.md_protocols import stacking_fault_energy, surface_energy
from mlcalc.md_protocols.crystals.conventional_cells import NOISE_SYMPRECS
from mlcalc.md_protocols.defects.slabs import reduced_miller
from mlcalc.md_protocols.defects.stacking_faults import check_fault
from mlcalc.md_protocols.defects.surfaces import check_surface

_FILES = ("surface_*", "stacking_fault.*", CRYSTAL)


@click.command("surface", cls=Verb)
@click.argument("structure", type=existing_file)
@potential_options
@click.option(
    "--miller",
    type=int,
    nargs=3,
    multiple=True,
    default=((1, 1, 1),),
    metavar="H K L",
    help="Of the conventional cell; may be repeated.  [default: 1 1 1]",
)
@click.option("--n-layers", metavar="N,N,...", help="Primitive layers of the slabs.  [default: 15, 20 and 25 Å]")
@setting(
    surface_energy,
    "--termination",
    type=int,
    help="One of the distinct cuts, the widest gap is 0.  [default: all of them]",
)
@setting(surface_energy, "--vacuum", help="Between slabs, Å.")
@setting(surface_energy, "--relaxed/--unrelaxed", help="Whether the slabs relax.")
@click.option("--stacking-fault", is_flag=True, help="Also the intrinsic fault of an fcc crystal.")
@setting(surface_energy, "--fmax", help="Largest force of relaxed slabs, eV/Å.")
@setting(surface_energy, "--steps", help="At most, of a relaxation.")
@setting(surface_energy, "--symprec", help="Tolerance of the symmetry search, Å.")
@relax_option
@folder_options("results, pictures and structures")
@json_option
def surface_command(
    *, structure: str, output: str | None, overwrite: bool, as_json: bool, relax: bool, **settings: Any
) -> None:
    """Energies of the surfaces of STRUCTURE, a unit cell of a crystal, from slabs of several thicknesses.

    The crystal is relaxed first.  Surfaces are ideal, 1 x 1; those of compounds need slabs with two equivalent faces.
     Where the crystal can be parted at several places all of them are
    computed, and the lowest energy is that of the surface.  Each result is written as soon as it is there.

    \b
    Examples:
      mlcalc surface Cu.cif --model cu-hvnet
      mlcalc surface Cu.cif --model cu-hvnet --miller 1 1 1 --miller 1 0 0 --miller 1 1 0 --output surfaces
      mlcalc surface Cu.cif --model cu-hvnet --stacking-fault --json
    """
    layers, planes = _layers(settings.pop("n_layers")), settings.pop("miller")
    results = result_folder(output, _FILES, [structure], overwrite=overwrite)
    fault = settings.pop("stacking_fault")
    cuts = {"n_layers": layers} | {name: settings.pop(name) for name in ("termination", "vacuum")}
    common = {name: settings.pop(name) for name in ("fmax", "steps", "symprec", "relaxed")}
    found: dict[str, Any] = {}
    atoms = with_calculator(structure, settings, "a surface energy")
    if relax:  # which takes noise away that hides the symmetry
        _checked(atoms, planes, fault, cuts, max(common["symprec"], *NOISE_SYMPRECS))
    atoms = relaxed_first(atoms, "a surface energy", results, wanted=relax, as_json=as_json)
    chosen = _checked(atoms, planes, fault, cuts, common["symprec"])
    try:
        for name, result in _computed(atoms, chosen, fault, cuts, common):
            found[name] = result
            if not as_json:
                click.echo(str(result))
            _write(results, name, result)
    finally:  # what is there when a later one fails
        if as_json and found:
            click.echo(json.dumps({name: in_json(result) for name, result in found.items()}))
        results.tell(as_json)
    end(*found.values())


def _checked(
    atoms: Atoms, planes: tuple[tuple[int, int, int], ...], fault: bool, cuts: dict[str, Any], symprec: float
) -> list[tuple[int, ...]]:
    """The planes, each once; ConfigError before anything is computed where one of the results would be refused."""
    chosen = list(dict.fromkeys(tuple(reduced_miller(plane).tolist()) for plane in planes))
    for plane in chosen:
        check_surface(atoms, plane, symprec=symprec, **cuts)
    if fault:
        check_fault(atoms, symprec)
    return chosen


def _computed(
    atoms: Atoms, planes: list[tuple[int, ...]], fault: bool, cuts: dict[str, Any], common: dict[str, Any]
) -> Iterator[tuple[str, Any]]:
    """Names and results, one after the other."""
    for plane in planes:
        yield f"surface_{'_'.join(map(str, plane))}", surface_energy(atoms, miller=plane, **cuts, **common)
    if fault:
        yield "stacking_fault", stacking_fault_energy(atoms, **common)


def _layers(words: str | None) -> list[int] | None:
    if words is None:
        return None
    try:
        return [int(word) for word in words.split(",")]
    except ValueError:
        raise click.BadParameter(
            f"{words!r}: use whole numbers and commas, as in 8,12", param_hint="--n-layers"
        ) from None


def _write(results: ResultFolder, name: str, result: Any) -> None:
    """The files of one result; the slabs of all its terminations are in one of them."""
    results.result(result, name)
    if not hasattr(result, "slabs"):
        results.structures([result.fault], f"{name}.extxyz")
        return
    slabs = [_marked(slab, one.termination) for one in (result, *result.others) for slab in one.slabs]
    results.structures(slabs, f"{name}.extxyz")


def _marked(slab: Atoms, termination: int) -> Atoms:
    copy: Atoms = slab.copy()
    copy.info["termination"] = termination
    return copy
