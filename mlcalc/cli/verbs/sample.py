"""`mlcalc sample`: structures to try things with."""

from __future__ import annotations

import click
from ase.io import write

from mlcalc.bundled.structures import SAMPLES, sample
from mlcalc.cli.commands import Verb
from mlcalc.cli.options import overwrite_option
from mlcalc.cli.outputs import check_output


@click.command("sample", cls=Verb)
@click.argument("name", type=click.Choice(sorted(SAMPLES)), required=False)
@click.option("--output", type=click.Path(dir_okay=False), help="Where to write it.  [default: NAME.xyz]")
@overwrite_option
def sample_command(name: str | None, output: str | None, overwrite: bool) -> None:
    """Write a structure that comes with the package, as extended XYZ; list them without NAME.

    \b
    Examples:
      mlcalc sample
      mlcalc sample ethanol
      mlcalc sample copper --output Cu.xyz
    """
    if name is None:
        click.echo("\n".join(f"{each:10}{what}" for each, what in SAMPLES.items()))
        return
    path = output or f"{name}.xyz"
    check_output(path, "--output", (".xyz", ".extxyz"), overwrite=overwrite)
    write(path, sample(name), format="extxyz")
    click.echo(f"wrote {path}")
