"""Ordinary LAMMPS input with one line of ours: `pair_style mlcalc`."""

from __future__ import annotations

import os
import re
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlcalc.ground.errors import Wording, in_python
from mlcalc.lammps.commands import CLEAR, check_before, check_commands, stretches
from mlcalc.lammps.coupling import attach
from mlcalc.lammps.library import load_lammps, load_mpi
from mlcalc.lammps.ranks import Ranks
from mlcalc.md_protocols.errors import ConfigError, EvaluationError, PhysicsWarning

__all__ = ["run_script", "script_parts"]

LINE = "pair_style mlcalc"
_MARK = re.compile(r"\s*pair_style\s+mlcalc(?![^\s#])\s*(?P<rest>[^#]*)(#.*)?$")
_REACHED = "Unrecognized pair style 'mlcalc'"


def run_script(
    script: str | os.PathLike[str],
    model: Any,
    *,
    elements: Sequence[str],
    variables: Mapping[str, str] | None = None,
    log: str | None = None,
    quiet: bool = False,
    wording: Wording = in_python,
    **settings: Any,
) -> None:
    """Run a LAMMPS input script whose line `pair_style mlcalc` stands for the model; called by all ranks.

    variables: what `-var` sets on LAMMPS' command line; log: file instead of log.lammps, "none" for none; settings as
    those of `attach`.  An error of the model ends the processes, as LAMMPS' own errors do in a script; wording: how
    its remedies are told then.

    Raises ConfigError for scripts without that line, EvaluationError with the text of an error of LAMMPS.
    """
    lammps, comm = load_lammps(), load_mpi().COMM_WORLD
    parts = Ranks(comm).attempt(lambda: _read(Path(script)))
    arguments = ["-nocite", *(["-log", log] if log else []), *(["-screen", "none"] if quiet else [])]
    for name, value in (variables or {}).items():
        arguments += ["-var", name, *value.split()]
    lmp = lammps.lammps(cmdargs=arguments, comm=comm)
    try:
        with _errors_of_lammps(lammps, comm), _one_rank_warns(comm.rank):
            for number, part in enumerate(parts):
                if number:
                    attach(lmp, model, elements=elements, **settings).wording = wording
                with _as_file(part, comm.rank) as path:
                    lmp.file(path)
    finally:
        lmp.close()


def _read(path: Path) -> list[str]:
    """The parts of a script, looked at before anything is run."""
    text = path.read_text(encoding="utf-8")
    parts = script_parts(text, str(path))
    for stretch in stretches(text):
        lines = stretch.splitlines()
        first = next((number for number, line in enumerate(lines) if _MARK.match(line)), len(lines))
        check_before("\n".join(lines[:first]), str(path))  # the rest of it `attach` sees
        check_commands("\n".join(lines[first:]), str(path))
    return parts


def script_parts(text: str, name: str) -> list[str]:
    """The script up to each of its lines `pair_style mlcalc`, and the whole of it entered after each of them.

    Later parts hold what came before, so that `jump SELF` finds its labels.  Raises ConfigError.
    """
    lines = text.splitlines()
    marks = [number for number, line in enumerate(lines) if _MARK.match(line)]
    if not marks:
        raise ConfigError(
            f"{name} has no line `{LINE}`",
            setting="script",
            value=name,
            remedies=[
                "write it in the place of pair_style and pair_coeff, after create_box, read_data or read_restart and "
                "before all fixes (in the script itself, not in an included file or an `if`)"
            ],
        )
    for number in marks:
        match = _MARK.match(lines[number])
        if match and (rest := match["rest"].strip()):
            raise ConfigError(
                f"{name}, line {number + 1}: `{LINE}` takes no arguments, but there is {rest!r}; the model, its "
                "elements and its settings are those of the command",
                setting="script",
                value=rest,
            )
    last = next((number for number in reversed(range(len(lines))) if CLEAR.match(lines[number])), -1)
    if last > marks[-1]:
        raise ConfigError(
            f"{name}, line {last + 1}: `clear` removes the model as well, and no `{LINE}` comes after it",
            setting="script",
            value=name,
            remedies=["write it again once there is a new box"],
        )
    parts = ["\n".join(lines[: marks[0]]) + "\n"]
    for k, mark in enumerate(marks):
        stop = marks[k + 1] if k + 1 < len(marks) else len(lines)
        label = f"mlcalc_{k + 1}"
        # the line itself stays: a jump that comes back to it is an error, for by then nobody could attach the model
        parts.append(
            "\n".join([f"jump SELF {label}", *lines[: mark + 1], f"label {label}", *lines[mark + 1 : stop], ""])
        )
    return parts


@contextmanager
def _as_file(text: str, rank: int) -> Iterator[str]:
    """The path of a file with this text, which is there on rank 0, the only one that reads."""
    if rank:
        yield os.devnull
        return
    with tempfile.TemporaryDirectory(prefix="mlcalc-lammps-") as folder:
        path = Path(folder) / "in.lammps"
        path.write_text(text, encoding="utf-8")
        yield str(path)


@contextmanager
def _errors_of_lammps(lammps: Any, comm: Any) -> Iterator[None]:
    """Errors of LAMMPS as ours; one that not all ranks know of ends all processes."""
    try:
        yield
    except lammps.MPIAbortException as error:
        text = " ".join(str(error.message).split())
        os.write(2, f"Error: LAMMPS, rank {comm.rank}: {text}\n".encode())
        comm.Abort(1)
    except Exception as error:
        if type(error) is not Exception:  # LAMMPS' errors have no class of their own
            raise
        text = " ".join(str(error).split())
        if _REACHED in text:
            text = (
                f"the line `{LINE}` was reached a second time, by a jump: the model can be attached once for each "
                f"line. Let the loop begin after it, or use mlcalc.lammps.attach in a Python script ({text})"
            )
        raise EvaluationError(f"LAMMPS ended with {text}") from error


@contextmanager
def _one_rank_warns(rank: int) -> Iterator[None]:
    with warnings.catch_warnings():
        if rank:
            warnings.simplefilter("ignore", PhysicsWarning)
        yield
