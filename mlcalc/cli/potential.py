"""What verbs that compute properties share: the structure, the model, and the files of a result."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlcalc.cli.options import device_option, dtype_option, kernels_option

if TYPE_CHECKING:
    from ase import Atoms

_FMAX, _SMAX = 1e-5, 1e-6  # eV/Å, eV/Å^3: tighter than what phonons feel
MODEL_SETTINGS = ("model", "device", "dtype", "kernels")


def potential_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """--model, --device, --dtype, --kernels and --index, which `with_calculator` takes out of the settings."""
    options = (
        click.option("--model", required=True, metavar="NAME_OR_FILE", help="Bundled model (`mlcalc models`) or file."),
        click.option("--index", type=int, default=-1, show_default=True, help="Which frame of STRUCTURE."),
        dtype_option("float64"),
        device_option,
        kernels_option,
    )
    for option in reversed(options):
        function = option(function)
    return function


def with_calculator(structure: str, settings: dict[str, Any]) -> Atoms:
    """The structure of the file with an MLCalculator; takes their settings out of the others."""
    from mlcalc.cli.structures import read_structure

    atoms = read_structure(structure, settings.pop("index"))
    model = {name: settings.pop(name) for name in MODEL_SETTINGS}
    from mlcalc.calculator import MLCalculator

    atoms.calc = MLCalculator(model.pop("model"), **model)
    return atoms


def relaxed_crystal(atoms: Atoms, cell: bool | str = True) -> Atoms:
    """The crystal relaxed with its symmetry kept, as far as its calculator's precision allows."""
    from mlcalc.md_protocols.relaxation.relax import relax

    fmax = 1e-3 if getattr(atoms.calc, "dtype", None) == "float32" else _FMAX
    return relax(atoms, fmax=fmax, smax=_SMAX, cell=cell, keep_symmetry=True, require=True).atoms


def check_folder(output: str | None) -> Path | None:
    """The output folder, made where it is missing; BadParameter where it cannot be one."""
    if output is None:
        return None
    folder = Path(output)
    if folder.exists() and not folder.is_dir():
        raise click.BadParameter(f"{output!r} is a file: choose a folder", param_hint="--output")
    if not folder.resolve().parent.is_dir():
        raise click.BadParameter(
            f"{output!r}: its parent folder does not exist: create it first", param_hint="--output"
        )
    folder.mkdir(exist_ok=True)
    return folder


def write_result(result: Any, folder: Path, name: str) -> list[str]:
    """Write name.npz, name.json and name.png of a result, and return their names."""
    result.save(folder / f"{name}.npz")
    (folder / f"{name}.json").write_text(json.dumps(result.to_json(), indent=1) + "\n", encoding="utf-8")
    result.plot().figure.savefig(folder / f"{name}.png", dpi=150)
    return [f"{name}.npz", f"{name}.json", f"{name}.png"]


def show(result: Any, as_json: bool) -> None:
    """Print the summary of a result, or its JSON."""
    click.echo(json.dumps(result.to_json()) if as_json else str(result))
