"""The command line: `mlcalc VERB ...`.

Nothing heavy is imported before a verb runs: help and completion answer at once.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from types import FrameType

import click

from mlcalc.cli.options import DebugGroup
from mlcalc.cli.verbs.conductivity import conductivity_command
from mlcalc.cli.verbs.doctor import doctor_command
from mlcalc.cli.verbs.effective_phonons import effective_phonons_command
from mlcalc.cli.verbs.elastic import elastic_command
from mlcalc.cli.verbs.eos import eos_command
from mlcalc.cli.verbs.evaluate import eval_command
from mlcalc.cli.verbs.import_ import import_command
from mlcalc.cli.verbs.ipi import ipi_command
from mlcalc.cli.verbs.lammps import lammps_command
from mlcalc.cli.verbs.md import md_command
from mlcalc.cli.verbs.models import models_command
from mlcalc.cli.verbs.phonons import phonons_command
from mlcalc.cli.verbs.qha import qha_command
from mlcalc.cli.verbs.rdf import rdf_command
from mlcalc.cli.verbs.relax import relax_command
from mlcalc.cli.verbs.surface import surface_command
from mlcalc.cli.verbs.train import train_command
from mlcalc.cli.verbs.vacancy import vacancy_command
from mlcalc.cli.wording import as_options
from mlcalc.version import __version__

__all__ = ["commands", "main"]

FAILURE, USAGE, INTERRUPTED, TERMINATED = 1, 2, 130, 143  # exit codes; the last two as shells report signals


class _TerminationError(BaseException):
    """SIGTERM; not an Exception, so that no handler of ordinary errors swallows it."""


@click.group(cls=DebugGroup, context_settings={"help_option_names": ["-h", "--help"]}, no_args_is_help=True)
@click.version_option(__version__, prog_name="mlcalc")
def commands() -> None:
    """Molecular dynamics with trained HVNet and ViSNet potentials.

    \b
    Units everywhere: eV, Å, eV/Å, eV/Å^3, K, fs unless an option says otherwise.
    Structures are read by ASE: xyz, extxyz, cif, POSCAR, traj, ...

    \b
    Examples:
      mlcalc models
      mlcalc doctor ethanol-visnet
      mlcalc md ethanol.xyz --model ethanol-visnet --ensemble berendsen --temperature-K 300 --steps 2000 --output run
      mlcalc rdf run --output distances.png
      mlcalc relax Cu.cif --model cu-hvnet --cell full --output relaxed.extxyz
      mlcalc phonons relaxed.extxyz --model cu-hvnet --supercell 3 3 3 --output phonons
      mlcalc ipi run ethanol.xyz --model ethanol-visnet --beads 16 --timestep-fs 0.5 --steps 1000 --output pimd
      mlcalc lammps in.copper --model cu-hvnet --elements Cu --ranks 2
      mlcalc eval cu-hvnet Cu_test.xyz --plot parity.png
    """


for _command in (
    md_command,
    rdf_command,
    relax_command,
    eos_command,
    elastic_command,
    vacancy_command,
    surface_command,
    phonons_command,
    effective_phonons_command,
    qha_command,
    conductivity_command,
    ipi_command,
    lammps_command,
    models_command,
    train_command,
    eval_command,
    import_command,
    doctor_command,
):
    commands.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code of the command: 0, 1 (an error, told in one line), 2 (usage), 130 (SIGINT) or 143 (SIGTERM)."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    terminated, restore = _terminate_on_sigterm()
    try:
        try:
            code = commands.main(words, prog_name="mlcalc", standalone_mode=False)
            return code if isinstance(code, int) else 0
        except BaseException as error:
            # Imports and extension modules turn the signal's exception into others: what follows it, is it.
            if terminated.is_set():
                raise
            return _reported(error, "--debug" in words)
    except BaseException:
        if not terminated.is_set():
            raise
        click.echo("Terminated.", err=True)
        return TERMINATED
    finally:
        restore()


def _reported(error: BaseException, debug: bool) -> int:
    """Exit code of a command that ended with the error, once that is told."""
    if isinstance(error, click.ClickException):
        error.show()
        return error.exit_code
    if isinstance(error, KeyboardInterrupt | click.Abort):
        click.echo("Interrupted.", err=True)
        return INTERRUPTED
    if isinstance(error, BrokenPipeError):  # the reader of our output went away, as in `mlcalc models | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILURE
    if not isinstance(error, Exception):
        raise error
    if debug:
        traceback.print_exception(error)
    else:
        click.echo(f"Error: {_told(error)}", err=True)
    return _exit_code(error)


def _told(error: Exception) -> str:
    """One line for an error: our own texts as they are, others with what to do next."""
    from mlcalc.errors import MLCalcError
    from mlcalc.md_protocols.errors import ProtocolError
    from mlcalc.models.errors import ModelError

    text = " ".join(str(error).split())
    if isinstance(error, MLCalcError | ModelError | ProtocolError):
        return as_options(text)
    if isinstance(error, OSError) and error.strerror:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = "; free some and give the same command again, or write elsewhere" if full else ""
        return (f"{error.strerror}: {error.filename}" if error.filename else error.strerror) + remedy
    return f"unexpected {type(error).__name__}: {text} (run again with --debug for the traceback, and report it)"


def _exit_code(error: Exception) -> int:
    """1, or as shells report it for work that a signal ended after a last checkpoint."""
    from mlcalc.errors import TrainingInterruptedError

    if isinstance(error, TrainingInterruptedError):
        return 128 + error.signal_number
    return FAILURE


def _terminate_on_sigterm() -> tuple[threading.Event, Callable[[], None]]:
    """Let SIGTERM unwind like Ctrl-C; returns whether it came, and what puts the previous handler back."""
    terminated = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        return terminated, lambda: None

    def terminate(number: int, frame: FrameType | None) -> None:
        terminated.set()
        raise _TerminationError

    previous = signal.signal(signal.SIGTERM, terminate)

    def restore() -> None:
        signal.signal(signal.SIGTERM, previous)

    return terminated, restore
