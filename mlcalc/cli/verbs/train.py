"""`mlcalc train`: a model from a TOML file of settings."""

from __future__ import annotations

import json
import sys
import tomllib
from typing import Any

import click

import mlcalc
from mlcalc.cli.commands import Verb
from mlcalc.cli.options import existing_file, json_option


@click.command("train", cls=Verb)
@click.argument("config", metavar="CONFIG.toml", type=existing_file)
@click.option("--output", required=True, type=click.Path(file_okay=False), help="Folder of checkpoint, log and model.")
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="TABLE.NAME=VALUE",
    help="Change a setting, such as optimizer.epochs=5 or name='mine'; may be repeated.",
)
@click.option("--resume/--no-resume", default=True, show_default=True, help="Continue the run in the output folder.")
@json_option
def train_command(config: str, output: str, overrides: tuple[str, ...], resume: bool, as_json: bool) -> None:
    """Train a model on energies, forces and stress, as CONFIG.toml says.

    The same command on the same folder continues after an interruption, to the step; Ctrl-C and SIGTERM save
    first.  The folder then holds log.csv, the checkpoint and the finished model file.

    \b
    Examples:
      mlcalc train cu-hvnet.toml --output runs/cu
      mlcalc train cu-hvnet.toml --output runs/short --set optimizer.epochs=5 --set model.hidden_channels=32
    """
    settings = mlcalc.load_training_config(config, _overrides(overrides))
    path = mlcalc.train(settings, output, resume=resume, progress=not as_json and sys.stderr.isatty())
    if as_json:
        click.echo(json.dumps({"model": str(path), "output": output}))
    else:
        click.echo(f"wrote {path}\nTry it: mlcalc eval {path} FRAMES")


def _overrides(words: tuple[str, ...]) -> dict[str, Any]:
    """Dotted names and their values, read as TOML where that is possible and as text otherwise."""
    values: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not (equals and name.strip() and text.strip()):
            raise click.BadParameter(f"{word!r} is not of the form TABLE.NAME=VALUE", param_hint="--set")
        try:
            values[name.strip()] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            values[name.strip()] = text.strip()
    return values
