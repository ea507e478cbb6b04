"""`mlcalc surface`: surface and stacking-fault energies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlcalc.cli.cautions import cautions_on_stderr
from mlcalc.cli.options import DebugCommand, existing_file, json_option
from mlcalc.cli.outputs import refuse_used
from mlcalc.cli.potential import check_folder, potential_options, with_calculator, write_result

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ase import Atoms

_FILES = ("surface_*", "stacking_fault.*", "crystal.extxyz")


@click.command("surface", cls=DebugCommand, short_help="Surface energies, and stacking faults of fcc crystals.")
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
@click.option("--termination", type=int, help="One of the distinct cuts, the widest gap is 0.  [default: all of them]")
@click.option("--vacuum", type=float, default=15.0, show_default=True, help="Between slabs, Å.")
@click.option("--unrelaxed", is_flag=True, help="Do not relax the slabs.")
@click.option("--stacking-fault", is_flag=True, help="Also the intrinsic fault of an fcc crystal.")
@click.option("--fmax", type=float, default=1e-3, show_default=True, help="Largest force of relaxed slabs, eV/Å.")
@click.option("--steps", type=int, default=500, show_default=True, help="At most, of a relaxation.")
@click.option("--symprec", type=float, default=1e-5, show_default=True, help="Tolerance of the symmetry search, Å.")
@click.option("--relax", "relax_first", is_flag=True, help="Relax the crystal first, its symmetry kept.")
@click.option("--output", type=click.Path(), metavar="DIR", help="Folder for results, pictures and structures.")
@json_option
def surface_command(*, structure: str, output: str | None, as_json: bool, **settings: Any) -> None:
    """Energies of the surfaces of STRUCTURE, a unit cell of a crystal, from slabs of several thicknesses.

    STRUCTURE must be relaxed with the same model (or give --relax).  Surfaces are ideal, 1 x 1; those of
    compounds need slabs with two equivalent faces.  Where the crystal can be parted at several places all of them are
    computed, and the lowest energy is that of the surface.  Each result is written as soon as it is there.

    \b
    Examples:
      mlcalc surface Cu.cif --model cu-hvnet --relax
      mlcalc surface Cu.cif --model cu-hvnet --miller 1 1 1 --miller 1 0 0 --miller 1 1 0 --output surfaces
      mlcalc surface Cu.cif --model cu-hvnet --stacking-fault --json
    """
    layers, planes = _layers(settings.pop("n_layers")), settings.pop("miller")
    folder = check_folder(output)
    if folder is not None and Path(structure).resolve().parent == folder.resolve():
        raise click.BadParameter(
            f"{output!r} holds the input {structure!r}, which could be overwritten: choose another folder",
            param_hint="--output",
        )
    refuse_used(folder, _FILES)
    fault, relax_first = settings.pop("stacking_fault"), settings.pop("relax_first")
    cuts = {"n_layers": layers} | {name: settings.pop(name) for name in ("termination", "vacuum")}
    common = {name: settings.pop(name) for name in ("fmax", "steps", "symprec")}
    common["relaxed"] = not settings.pop("unrelaxed")
    results: dict[str, Any] = {}
    written: list[str] = []
    with cautions_on_stderr():
        atoms = with_calculator(structure, settings)
        atoms.calc.engine.scope.require_potential("a surface energy")
        if relax_first:  # which takes noise away that hides the symmetry
            from mlcalc.md_protocols.crystals.conventional_cells import NOISE_SYMPRECS

            _checked(atoms, planes, fault, cuts, max(common["symprec"], *NOISE_SYMPRECS))
            atoms = _relaxed(atoms, common["steps"])
            written += _write_crystal(folder, atoms)
        chosen = _checked(atoms, planes, fault, cuts, common["symprec"])
        try:
            for name, result in _computed(atoms, chosen, fault, cuts, common):
                results[name] = result
                if not as_json:
                    click.echo(str(result))
                written += _write(folder, name, result)
        finally:  # what is there when a later one fails
            if as_json and results:
                click.echo(json.dumps({name: result.to_json() for name, result in results.items()}))
            if folder is not None and not as_json:
                click.echo(f"files: {folder}: {', '.join(written)}")


def _checked(
    atoms: Atoms, planes: tuple[tuple[int, int, int], ...], fault: bool, cuts: dict[str, Any], symprec: float
) -> list[tuple[int, ...]]:
    """The planes, each once; ConfigError before anything is computed where one of the results would be refused."""
    from mlcalc.md_protocols.defects.slabs import reduced_miller
    from mlcalc.md_protocols.defects.stacking_faults import check_fault
    from mlcalc.md_protocols.defects.surfaces import check_surface

    chosen = list(dict.fromkeys(tuple(reduced_miller(plane).tolist()) for plane in planes))
    for plane in chosen:
        check_surface(atoms, plane, symprec=symprec, **cuts)
    if fault:
        check_fault(atoms, symprec)
    return chosen


def _relaxed(atoms: Atoms, steps: int) -> Atoms:
    from mlcalc.md_protocols.relaxation.relax import relax

    return relax(atoms, cell=True, keep_symmetry=True, steps=steps, require=True).atoms


def _computed(
    atoms: Atoms, planes: list[tuple[int, ...]], fault: bool, cuts: dict[str, Any], common: dict[str, Any]
) -> Iterator[tuple[str, Any]]:
    """Names and results, one after the other."""
    from mlcalc.md_protocols.defects.stacking_faults import stacking_fault_energy
    from mlcalc.md_protocols.defects.surfaces import surface_energy

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


def _write(folder: Path | None, name: str, result: Any) -> list[str]:
    """The files of one result; the slabs of all its terminations are in one of them."""
    if folder is None:
        return []
    from ase.io import write

    written = write_result(result, folder, name)
    if hasattr(result, "slabs"):
        frames = [_plain(slab, one.termination) for one in (result, *result.others) for slab in one.slabs]
    else:
        frames = [_plain(result.fault)]
    write(folder / f"{name}.extxyz", frames, format="extxyz")
    return [*written, f"{name}.extxyz"]


def _write_crystal(folder: Path | None, crystal: Atoms) -> list[str]:
    if folder is None:
        return []
    from ase.io import write

    write(folder / "crystal.extxyz", _plain(crystal), format="extxyz")
    return ["crystal.extxyz"]


def _plain(frame: Atoms, termination: int | None = None) -> Atoms:
    """Without calculator and constraints."""
    copy: Atoms = frame.copy()
    copy.set_constraint()
    if termination is not None:
        copy.info["termination"] = termination
    return copy
