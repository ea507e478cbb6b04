"""`mlcalc relax`: minima of the energy, of one structure or many at once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from mlcalc.cli.commands import Verb
from mlcalc.cli.options import (
    device_option,
    dtype_option,
    existing_file,
    json_option,
    kernels_option,
    overwrite_option,
    setting,
)
from mlcalc.cli.outputs import ResultFolder, check_output, result_folder
from mlcalc.cli.potential import calculator, model_option
from mlcalc.cli.structures import read_trajectory
from mlcalc.md_protocols import Relaxation, relax_many
from mlcalc.md_protocols.errors import EvaluationError
from mlcalc.md_protocols.plotting import axes

_STRUCTURES = (".extxyz", ".xyz")
_FILES = ("relax.*", "relax-*.npz", "relaxed.extxyz")
_SHOWN = 10  # structures told one by one


@click.command("relax", cls=Verb)
@click.argument("structure", type=existing_file)
@model_option
@click.option(
    "--index", default="-1", show_default=True, metavar="SLICE", help="Frames of STRUCTURE, as in 7, : or ::10."
)
@setting(relax_many, "--fmax", help="Largest force left on an atom, eV/Å.")
@click.option(
    "--cell",
    type=click.Choice(["fixed", "full", "isotropic", "in-plane", "shape"]),
    default="fixed",
    show_default=True,
    help="What of the cell moves; in-plane: a slab with its normal along z; shape: at constant volume.",
)
@setting(relax_many, "--smax", help="Largest stress left, eV/Å^3.")
@setting(relax_many, "--pressure-GPa", help="Positive presses. GPa")
@setting(relax_many, "--keep-symmetry", is_flag=True, help="Keep the space group.")
@click.option(
    "--symmetry-tolerance", type=float, default=1e-3, show_default=True, help="How far atoms may be from it, Å."
)
@setting(
    relax_many,
    "--optimizer",
    type=click.Choice(["auto", "lbfgs", "fire"]),
    help="auto: lbfgs, then fire where that goes astray.",
)
@setting(relax_many, "--steps", help="Largest number of steps.")
@dtype_option("float64")
@device_option
@kernels_option
@click.option(
    "--output", required=True, metavar="FILE_OR_DIR", help=".extxyz or .xyz for the structures; else a folder."
)
@overwrite_option
@json_option
def relax_command(*, structure: str, output: str, overwrite: bool, as_json: bool, **settings: Any) -> None:
    """Relax the structures of STRUCTURE with a trained potential, all in one batch.

    The structures come out as extended XYZ with energy, forces and, where periodic, stress.  A folder gets them as
    relaxed.extxyz, with relax.json, relax.png and the relaxations themselves (.npz).  If one ends unconverged the
    best structure met is written all the same, and the exit code is 1.  So it is when the calculation fails for one,
    or is stopped by Ctrl-C or SIGTERM.

    \b
    Examples:
      mlcalc relax Cu.cif --model cu-hvnet --cell full --output relaxed.extxyz
      mlcalc relax candidates.extxyz --index : --model cu-hvnet --fmax 1e-3 --steps 200 --output minima
    """
    alone = Path(output).suffix.lower() in _STRUCTURES
    results = result_folder(None if alone else output, _FILES, [structure], overwrite=overwrite)
    target = Path(output) if alone else Path(output) / "relaxed.extxyz"
    check_output(str(target), "--output", _STRUCTURES, [structure], overwrite=overwrite)
    atoms = _read(structure, settings)
    names = [f"frame {k}" for k in range(len(atoms))] if len(atoms) > 1 else ["the structure"]

    def place() -> Path:
        return target if alone else results.file(target.name)

    def keep(found: Sequence[Relaxation | None]) -> None:
        if any(result is not None for result in found):
            _write_best(found, names, place())

    try:
        relaxed = relax_many(atoms, names=names, when_stopped=keep, **settings)
    except EvaluationError as error:
        keep(error.results)
        raise
    _write_structures(relaxed, place())
    _tell(relaxed, names, as_json)
    if not alone:
        _write_files(relaxed, results)
    if not as_json:
        click.echo(f"wrote {output}")
    if not all(result.converged for result in relaxed):
        click.get_current_context().exit(1)


def _read(structure: str, settings: dict[str, Any]) -> list[Atoms]:
    """The frames, sharing one calculator; takes what concerns them out of the settings."""
    frames = read_trajectory(structure, settings.pop("index"))
    calc = calculator(settings, "a relaxation")
    for atoms in frames:
        atoms.calc = calc
    return frames


def _write_structures(results: Sequence[Relaxation], path: Path) -> None:
    """With raw energies, forces and stresses, which constraints do not touch."""
    frames = []
    for result in results:
        calculator, periodic = result.atoms.calc, bool(result.atoms.pbc.all())
        (found,) = calculator.evaluate([result.atoms], forces=True, stress=periodic)
        frame = result.atoms.copy()
        values = {"energy": found.energy, "forces": found.forces} | ({"stress": found.stress} if periodic else {})
        frame.calc = SinglePointCalculator(frame, **values)
        frame.info["converged"] = result.converged
        frames.append(frame)
    write(path, frames, format="extxyz")


def _write_best(results: Sequence[Relaxation | None], names: Sequence[str], path: Path) -> None:
    """What there is of relaxations that did not come to their end, without computing anything."""
    frames = []
    for name, result in zip(names, results, strict=False):
        if result is None:
            continue
        frame = result.atoms.copy()
        values = {"energy": result.energy, "forces": result.forces}
        frame.calc = SinglePointCalculator(frame, **values)
        frame.info |= {"converged": result.converged, "name": name}
        frames.append(frame)
    write(path, frames, format="extxyz")
    done = sum(bool(frame.info["converged"]) for frame in frames)
    click.echo(f"wrote {path}: the best structures met, {done} of {len(names)} converged", err=True)


def _summary(results: Sequence[Relaxation]) -> dict[str, Any]:
    return {
        "converged": all(result.converged for result in results),
        "structures": [result.to_json() for result in results],
    }


def _tell(results: Sequence[Relaxation], names: Sequence[str], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(_summary(results)))
        return
    for name, result in list(zip(names, results, strict=True))[:_SHOWN]:
        click.echo(f"{name}: {result}")
        if result.spacegroups is not None:
            before, after = result.spacegroups
            lengths = "  ".join(f"{x:.5f}" for x in result.atoms.cell.lengths())
            angles = "  ".join(f"{x:.3f}" for x in result.atoms.cell.angles())
            click.echo(f"  space group {before}" + (f" -> {after}" if after != before else "") + ", cell", nl=False)
            click.echo(f" {lengths} Å, {angles}°")
    done = sum(result.converged for result in results)
    if len(results) > 1:
        click.echo(f"{done} of {len(results)} structures converged")


def _write_files(relaxed: Sequence[Relaxation], results: ResultFolder) -> None:
    results.file("relax.json").write_text(json.dumps(_summary(relaxed), indent=1) + "\n", encoding="utf-8")
    for k, result in enumerate(relaxed):
        result.save(results.file("relax.npz" if len(relaxed) == 1 else f"relax-{k}.npz"))
    _picture(relaxed).savefig(results.file("relax.png"), dpi=150)


def _picture(results: Sequence[Relaxation]) -> Any:
    """One relaxation in full, or the largest forces of many."""
    ax = results[0].plot() if len(results) == 1 else None
    if ax is None:
        ax = axes(None)
        for k, result in enumerate(results):
            style = "-" if result.converged else "--"
            ax.semilogy(result.max_forces.clip(1e-12), style, linewidth=1, label=f"frame {k}")
        ax.axhline(results[0].fmax, color="gray", linewidth=0.5)
        ax.set_ylim(bottom=results[0].fmax / 100)
        ax.set_xlabel("step")
        ax.set_ylabel("largest force (eV/Å)")
        if len(results) <= _SHOWN:
            ax.legend(frameon=False, fontsize="small")
    return ax.figure
