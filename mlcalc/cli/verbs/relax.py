"""`mlcalc relax`: minima of the energy, of one structure or many at once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlcalc.cli.cautions import cautions_on_stderr
from mlcalc.cli.options import DebugCommand, device_option, dtype_option, existing_file, json_option, kernels_option
from mlcalc.cli.outputs import check_output, refuse_used
from mlcalc.cli.potential import check_folder

if TYPE_CHECKING:
    from ase import Atoms

    from mlcalc.md_protocols.relaxation.outcome import Relaxation

_STRUCTURES = (".extxyz", ".xyz")
_FILES = ("relax.*", "relax-*.npz", "relaxed.extxyz")
_SHOWN = 10  # structures told one by one


@click.command("relax", cls=DebugCommand, short_help="Relax positions and cells.")
@click.argument("structure", type=existing_file)
@click.option("--model", required=True, metavar="NAME_OR_FILE", help="Bundled model (see `mlcalc models`) or file.")
@click.option(
    "--index", default="-1", show_default=True, metavar="SLICE", help="Frames of STRUCTURE, as in 7, : or ::10."
)
@click.option("--fmax", type=float, default=1e-4, show_default=True, help="Largest force left on an atom, eV/Å.")
@click.option(
    "--cell",
    type=click.Choice(["fixed", "full", "isotropic", "in-plane", "shape"]),
    default="fixed",
    show_default=True,
    help="What of the cell moves; in-plane: a slab with its normal along z; shape: at constant volume.",
)
@click.option("--smax", type=float, default=1e-5, show_default=True, help="Largest stress left, eV/Å^3.")
@click.option(
    "--pressure-GPa", "pressure_GPa", type=float, default=0.0, show_default=True, help="Positive presses. GPa"
)
@click.option("--keep-symmetry", is_flag=True, help="Keep the space group.")
@click.option(
    "--symmetry-tolerance", type=float, default=1e-3, show_default=True, help="How far atoms may be from it, Å."
)
@click.option(
    "--optimizer",
    type=click.Choice(["auto", "lbfgs", "fire"]),
    default="auto",
    show_default=True,
    help="auto: lbfgs, then fire where that goes astray.",
)
@click.option("--steps", type=int, default=500, show_default=True, help="Largest number of steps.")
@dtype_option("float64")
@device_option
@kernels_option
@click.option(
    "--output", required=True, metavar="FILE_OR_DIR", help=".extxyz or .xyz for the structures; else a folder."
)
@json_option
def relax_command(*, structure: str, output: str, as_json: bool, **settings: Any) -> None:
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
    folder = None if Path(output).suffix.lower() in _STRUCTURES else check_folder(output)
    target = Path(output) if folder is None else folder / "relaxed.extxyz"
    check_output(str(target), "--output", _STRUCTURES, [structure])
    refuse_used(folder, _FILES)
    atoms = _read(structure, settings)
    from mlcalc.md_protocols.errors import EvaluationError
    from mlcalc.md_protocols.relaxation.relax import relax_many

    names = [f"frame {k}" for k in range(len(atoms))] if len(atoms) > 1 else ["the structure"]

    def keep(found: Sequence[Relaxation | None]) -> None:
        _write_best(found, names, target)

    with cautions_on_stderr():
        try:
            results = relax_many(atoms, names=names, when_stopped=keep, **settings)
        except EvaluationError as error:
            keep(error.results)
            raise
    _write_structures(results, target)
    _tell(results, names, as_json)
    if folder is not None:
        _write_files(results, folder)
    if not as_json:
        click.echo(f"wrote {output}")
    if not all(result.converged for result in results):
        click.get_current_context().exit(1)


def _read(structure: str, settings: dict[str, Any]) -> list[Atoms]:
    """The frames, sharing one calculator; takes what concerns them out of the settings."""
    from mlcalc.cli.structures import read_trajectory

    frames = read_trajectory(structure, settings.pop("index"))
    model = {name: settings.pop(name) for name in ("model", "device", "dtype", "kernels")}
    from mlcalc.calculator import MLCalculator

    calculator = MLCalculator(model.pop("model"), **model)
    calculator.engine.scope.require_potential("a relaxation")
    for atoms in frames:
        atoms.calc = calculator
    return frames


def _write_structures(results: Sequence[Relaxation], path: Path) -> None:
    """With raw energies, forces and stresses, which constraints do not touch."""
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.io import write

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
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.io import write

    frames = []
    for name, result in zip(names, results, strict=False):
        if result is None:
            continue
        frame = result.atoms.copy()
        values = {"energy": result.energy, "forces": result.forces}
        frame.calc = SinglePointCalculator(frame, **values)
        frame.info |= {"converged": result.converged, "name": name}
        frames.append(frame)
    if frames:
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


def _write_files(results: Sequence[Relaxation], folder: Path) -> None:
    (folder / "relax.json").write_text(json.dumps(_summary(results), indent=1) + "\n", encoding="utf-8")
    for k, result in enumerate(results):
        result.save(folder / ("relax.npz" if len(results) == 1 else f"relax-{k}.npz"))
    _picture(results).savefig(folder / "relax.png", dpi=150)


def _picture(results: Sequence[Relaxation]) -> Any:
    """One relaxation in full, or the largest forces of many."""
    ax = results[0].plot() if len(results) == 1 else None
    if ax is None:
        from mlcalc.md_protocols.plotting import axes

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
