"""Commands of a LAMMPS instance, looked at before they are executed, which raise what ended their run."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from mlcalc.engine.engine import Engine
from mlcalc.lammps.commands import FIX, check_commands, check_styles, included, stretches
from mlcalc.lammps.ranks import Ranks
from mlcalc.md_protocols.errors import ConfigError

__all__ = ["Guard", "Guarded"]

_RUNS = ("run", "minimize", "rerun")  # commands after which nothing more is executed, so that an error can be raised
_METHODS = ("command", "commands_list", "commands_string", "file")
_ROW = re.compile(r"(?m)^(Fix|Compute)\[\s*\d+\]:\s+(\S+),\s+style = (\S+),")  # of the command info
_JUMP = re.compile(r"\s*jump\s+SELF\s+(\S+)[ \t]*\n")


class Guarded(Protocol):
    """What is told of commands, and knows of failures."""

    engine: Engine
    failure: BaseException | None  # what ended the run
    in_script: bool  # whether more commands may follow the one that is executed


class Guard:
    """Stands before the methods of an instance that execute commands, until `clear` removes the model."""

    def __init__(self, lmp: Any, ranks: Ranks, guarded: Guarded) -> None:
        self._lmp, self._ranks, self._guarded = lmp, ranks, guarded
        self._attached = True
        self._known: object = None  # fixes and computes whose styles were looked at
        self._command = lmp.command
        self.check_present()
        for name in _METHODS:
            setattr(lmp, name, self._checked(name, getattr(lmp, name)))

    def _checked(self, name: str, original: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def call(what: Any) -> Any:
            guarded, outer = self._guarded, self._guarded.in_script
            run = name == "command" and str(what).split()[:1] in [[word] for word in _RUNS]
            clears = self._looked_at(self._text(name, what))
            if run:
                self.check_present()
            guarded.in_script = outer or not run
            value = None
            try:
                value = original(what)
            except Exception:
                if guarded.failure is None:  # else LAMMPS stumbled over what the failure left
                    raise
            finally:
                guarded.in_script = outer
            if guarded.failure is not None:
                raise guarded.failure
            self._attached = self._attached and not clears
            if name != "command":
                self.check_present()
            return value

        return call

    def check_present(self) -> None:
        """ConfigError where the model is gone, or a fix or compute is there that would be wrong beside it."""
        if not self._attached:
            return
        ids = [list(self._lmp.available_ids(kind)) for kind in ("fix", "compute")]
        if FIX not in ids[0]:
            raise ConfigError(
                f"the fix {FIX}, which is the model, was removed: energies and forces of runs after that are zero",
                remedies=["leave it", "begin anew with `clear`"],
            )
        if ids == self._known:
            return
        found = self._styles()
        self._ranks.attempt(lambda: check_styles(found))
        self._known = ids

    def _styles(self) -> list[tuple[str, str, str]]:
        """Kind, ID and style of all fixes and computes, which only the command info tells."""
        text = ""
        if self._ranks.rank:  # LAMMPS writes on the first one
            self._command("info fixes computes out overwrite none")
        else:
            with tempfile.TemporaryDirectory(prefix="mlcalc-lammps-") as folder:
                path = Path(folder) / "styles"
                self._command(f'info fixes computes out overwrite "{path}"')
                text = path.read_text(encoding="utf-8", errors="replace")
        return [(kind.lower(), name, style) for kind, name, style in _ROW.findall(self._ranks.comm.bcast(text))]

    def _text(self, name: str, what: Any) -> str:
        """The commands that are to be executed, the same on all ranks."""
        if name != "file":
            return "\n".join(_decoded(line) for line in what) if name == "commands_list" else _decoded(what)
        text = ""
        if not self._ranks.rank:  # the only one that reads
            path = Path(_decoded(what))
            text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
        text = str(self._ranks.comm.bcast(text))
        if jump := _JUMP.match(text):
            text = re.split(rf"(?m)^\s*label\s+{re.escape(jump[1])}[ \t]*$", text, maxsplit=1)[-1]
        return text

    def _looked_at(self, text: str) -> bool:
        """Whether these commands clear the instance; ConfigError on all ranks for one before that would be wrong."""
        if not self._attached:
            return False
        pieces = stretches(text)
        inside = [(where, stretches(file)) for where, file in included(pieces[0])]

        def check() -> None:
            cutoff = self._guarded.engine.scope.cutoff
            check_commands(pieces[0], cutoff=cutoff)
            for where, parts in inside:
                check_commands(parts[0], where, cutoff)

        self._ranks.attempt(check)
        return any(len(parts) > 1 for parts in [pieces, *(parts for _, parts in inside)])


def _decoded(text: Any) -> str:
    return text.decode() if isinstance(text, bytes) else str(text)
