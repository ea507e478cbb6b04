"""`mlcalc surface`: surface and stacking-fault energies."""

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
@click.option("--layers", metavar="N,N,...", help="Primitive layers of the slabs.  [default: 15, 20 and 25 Å]")
@click.option("--vacuum", type=float, default=15.0, show_default=True, help="Between slabs, Å.")
@click.option("--unrelaxed", is_flag=True, help="Do not relax the slabs.")
@click.option("--stacking-fault", is_flag=True, help="Also the intrinsic fault of an fcc crystal.")
@click.option("--fmax", type=float, default=1e-3, show_default=True, help="Largest force of relaxed slabs, eV/Å.")
@click.option("--steps", type=int, default=500, show_default=True, help="At most, of a relaxation.")
@click.option("--symprec", type=float, default=1e-3, show_default=True, help="Tolerance of the symmetry search, Å.")
@click.option("--relax", "relax_first", is_flag=True, help="Relax the crystal first, its symmetry kept.")
@click.option("--output", type=click.Path(), metavar="DIR", help="Folder for results, pictures and structures.")
@json_option
def surface_command(*, structure: str, output: str | None, as_json: bool, **settings: Any) -> None:
    """Energies of the surfaces of STRUCTURE, a unit cell of a crystal, from slabs of several thicknesses.

    STRUCTURE must be relaxed with the same model (or give --relax).  Surfaces are ideal, 1 x 1; those of
    compounds need slabs with two equivalent faces.

    \b
    Examples:
      mlcalc surface Cu.cif --model cu-hvnet --relax
      mlcalc surface Cu.cif --model cu-hvnet --miller 1 1 1 --miller 1 0 0 --miller 1 1 0 --output surfaces
      mlcalc surface Cu.cif --model cu-hvnet --stacking-fault --json
    """
    from mlcalc.md_protocols.relaxation import relax
    from mlcalc.md_protocols.stacking_faults import stacking_fault_energy
    from mlcalc.md_protocols.surfaces import surface_energy

    layers, planes = _layers(settings.pop("layers")), settings.pop("miller")
    folder = check_folder(output)
    if folder is not None and Path(structure).resolve().parent == folder.resolve():
        raise click.BadParameter(
            f"{output!r} holds the input {structure!r}, which could be overwritten: choose another folder",
            param_hint="--output",
        )
    vacuum, fault = settings.pop("vacuum"), settings.pop("stacking_fault")
    relax_first = settings.pop("relax_first")
    common = {name: settings.pop(name) for name in ("fmax", "steps", "symprec")}
    common["relaxed"] = not settings.pop("unrelaxed")
    with cautions_on_stderr():
        atoms = with_calculator(structure, settings)
        atoms.calc.engine.scope.require_potential("a surface energy")
        if relax_first:
            atoms = relax(atoms, cell=True, keep_symmetry=True, steps=common["steps"], require=True).atoms
        results: dict[str, Any] = {
            f"surface_{'_'.join(map(str, plane))}": surface_energy(
                atoms, miller=plane, layers=layers, vacuum=vacuum, **common
            )
            for plane in dict.fromkeys(planes)
        }
        if fault:
            results["stacking_fault"] = stacking_fault_energy(atoms, **common)
    if as_json:
        click.echo(json.dumps({name: result.to_json() for name, result in results.items()}))
    else:
        click.echo("\n".join(map(str, results.values())))
    if folder is not None:
        written = _write(folder, results, atoms if relax_first else None)
        if not as_json:
            click.echo(f"files: {folder}: {', '.join(written)}")


def _layers(words: str | None) -> list[int] | None:
    if words is None:
        return None
    try:
        return [int(word) for word in words.split(",")]
    except ValueError:
        raise click.BadParameter(
            f"{words!r}: use whole numbers and commas, as in 8,12", param_hint="--layers"
        ) from None


def _write(folder: Path, results: dict[str, Any], crystal: Atoms | None) -> list[str]:
    from ase.io import write

    written: list[str] = []
    for name, result in results.items():
        written += write_result(result, folder, name)
        frames = result.slabs if hasattr(result, "slabs") else [result.fault]
        write(folder / f"{name}.extxyz", [_plain(frame) for frame in frames], format="extxyz")
        written.append(f"{name}.extxyz")
    if crystal is not None:
        write(folder / "crystal.extxyz", _plain(crystal), format="extxyz")
        written.append("crystal.extxyz")
    return written


def _plain(frame: Atoms) -> Atoms:
    """Without calculator and constraints."""
    copy: Atoms = frame.copy()
    copy.set_constraint()
    return copy
