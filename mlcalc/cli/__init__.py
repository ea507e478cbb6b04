"""The command line: `mlcalc VERB ...`.

Nothing heavy is imported before a verb is named: help and completion answer at once.
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

from mlcalc.cli.commands import LazyVerbs, Running
from mlcalc.cli.verbs import VERBS
from mlcalc.cli.wording import told
from mlcalc.ground.errors import MLCalcError
from mlcalc.version import __version__

__all__ = ["commands", "main"]

FAILURE, USAGE, INTERRUPTED, TERMINATED = 1, 2, 130, 143  # exit codes; the last two as shells report signals


class _TerminationError(BaseException):
    """SIGTERM; not an Exception, so that no handler of ordinary errors swallows it."""


@click.group(cls=LazyVerbs, verbs=VERBS, context_settings={"help_option_names": ["-h", "--help"]}, no_args_is_help=True)
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
      mlcalc sample ethanol
      mlcalc md ethanol.xyz --model ethanol-visnet --ensemble bussi --temperature-K 300 --steps 2000 --output run
      mlcalc rdf run --output distances.png
      mlcalc relax Cu.cif --model cu-hvnet --cell full --output relaxed.extxyz
      mlcalc phonons relaxed.extxyz --model cu-hvnet --supercell 3 3 3 --output phonons
      mlcalc ipi run ethanol.xyz --model ethanol-visnet --beads 16 --timestep-fs 0.5 --steps 1000 --output pimd
      mlcalc lammps in.copper --model cu-hvnet --elements Cu --ranks 2
      mlcalc eval cu-hvnet Cu_test.xyz --plot parity.png
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code of the command: 0, 1 (an error, told in one line), 2 (usage), 130 (SIGINT) or 143 (SIGTERM)."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    terminated, restore = _terminate_on_sigterm()
    running = Running()
    try:
        try:
            code = commands.main(words, prog_name="mlcalc", standalone_mode=False, obj=running)
            return code if isinstance(code, int) else 0
        except BaseException as error:
            # Imports and extension modules turn the signal's exception into others: what follows it, is it.
            if terminated.is_set():
                raise
            return _reported(error, running.context, "--debug" in words)
    except BaseException:
        if not terminated.is_set():
            raise
        click.echo("Terminated.", err=True)
        return TERMINATED
    finally:
        restore()


def _reported(error: BaseException, context: click.Context | None, debug: bool) -> int:
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
        click.echo(f"Error: {_line_for(error, context)}", err=True)
    # as shells report it for work that a signal ended after a last checkpoint
    signal_number = getattr(error, "signal_number", None)
    return FAILURE if signal_number is None else 128 + int(signal_number)


def _line_for(error: Exception, context: click.Context | None) -> str:
    """One line for an error: our own in the words of the verb, others with what to do next."""
    if isinstance(error, MLCalcError):
        return told(error, context)
    if isinstance(error, OSError) and error.strerror:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = "; free some and give the same command again, or write elsewhere" if full else ""
        return (f"{error.strerror}: {error.filename}" if error.filename else error.strerror) + remedy
    text = " ".join(str(error).split())
    return f"unexpected {type(error).__name__}: {text} (run again with --debug for the traceback, and report it)"


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
