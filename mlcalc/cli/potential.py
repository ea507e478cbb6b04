"""The model that a verb works with, and its options."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click
from ase import Atoms

import mlcalc
from mlcalc.cli.options import device_option, dtype_option, kernels_option
from mlcalc.cli.structures import read_structure

MODEL_SETTINGS = ("model", "device", "dtype", "kernels")

model_option = click.option(
    "--model", required=True, metavar="NAME_OR_FILE", help="Bundled model (`mlcalc models`) or file."
)


def potential_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """--model, --device, --dtype, --kernels and --index, which `with_calculator` takes out of the settings."""
    options = (
        model_option,
        click.option("--index", type=int, default=-1, show_default=True, help="Which frame of STRUCTURE."),
        dtype_option("float64"),
        device_option,
        kernels_option,
    )
    for option in reversed(options):
        function = option(function)
    return function


def with_calculator(structure: str, settings: dict[str, Any], purpose: str) -> Atoms:
    """The structure of the file with an MLCalculator of a potential; takes their settings out of the others."""
    atoms = read_structure(structure, settings.pop("index"))
    atoms.calc = calculator(settings, purpose)
    return atoms


def calculator(settings: dict[str, Any], purpose: str, *more: str) -> Any:
    """The MLCalculator that the settings, and those named, are of; takes them out.

    Raises UnavailablePropertyError, which names the purpose, for a model that is no potential.
    """
    chosen = {name: settings.pop(name) for name in (*MODEL_SETTINGS, *more)}
    calc = mlcalc.MLCalculator(chosen.pop("model"), **chosen)
    calc.engine.scope.require_potential(purpose)
    return calc
