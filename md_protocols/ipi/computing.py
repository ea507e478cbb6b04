"""Where structures are computed: in a process of its own, which is started again when it dies, or right here."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from socket import socketpair
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, ProtocolError
from .answers import UNITS, Answer
from .errors import WorkerError
from .worker import ANSWER, READY, Recipe, pack_request, unpack_answers

Array = NDArray[np.float64]
_START = "import sys, json; sys.path[:] = json.loads(sys.argv[2]); from {module} import main; main()"


class Computing(Protocol):
    """What the client asks of whoever computes."""

    virial: str
    restarts: int

    def submit(self, ticket: int, cells: Array, positions: Array, units: str) -> None: ...
    def fileno(self) -> int | None: ...
    def collect(self) -> tuple[int, list[Answer]] | None: ...
    def close(self) -> None: ...


class Here:
    """Computes in this process, at once."""

    restarts = 0

    def __init__(self, recipe: Recipe) -> None:
        self._responder = recipe.responder()
        self.virial = self._responder.virial
        self._answer: tuple[int, list[Answer]] | None = None

    def submit(self, ticket: int, cells: Array, positions: Array, units: str) -> None:
        self._answer = ticket, self._responder(cells, positions, UNITS[units])

    def fileno(self) -> int | None:
        return None

    def collect(self) -> tuple[int, list[Answer]] | None:
        answer, self._answer = self._answer, None
        return answer

    def close(self) -> None:
        pass


class Worker:
    """Computes in a child, and starts it anew with the request at hand when it dies.

    max_failures: deaths in a row, without an answer between them, after which it is given up with WorkerError.
    Errors that the same structure would give again are raised as WorkerError at once; others are tried once more, in
    a fresh process: a GPU that has failed needs one.
    """

    def __init__(self, recipe: Recipe, max_failures: int = 5) -> None:
        self._pickled, self._natoms, self._limit = _pickled(recipe), len(recipe.atoms), max_failures
        self._request: tuple[int, Array, Array, str] | None = None
        self._failures = self.restarts = 0
        self._retried = False
        self.virial = ""
        self._start()

    @property
    def pid(self) -> int:
        """Of the process that computes."""
        return self._process.pid

    def submit(self, ticket: int, cells: Array, positions: Array, units: str) -> None:
        """Hand over a request; `fileno` becomes readable when there is something to collect."""
        self._request, self._retried = (ticket, cells, positions, units), False
        self._send()

    def fileno(self) -> int | None:
        return self._link.fileno()

    def collect(self) -> tuple[int, list[Answer]] | None:
        """The answers and their ticket; None where the process had to be started again first."""
        try:
            data = self._link.recv_bytes()
        except (EOFError, OSError):
            self._again(f"the computing process ended ({self._end()})")
            return None
        if data[:1] != ANSWER:
            self._failed(json.loads(data[1:]))
            return None
        self._request, self._failures = None, 0
        return unpack_answers(data, self._natoms)

    def close(self) -> None:
        """End the process, at once."""
        self._link.close()
        self._process.kill()
        self._process.wait()

    def _start(self) -> None:
        ours, theirs = socketpair()
        with theirs:
            code = _START.format(module=f"{__package__}.worker")
            command = [sys.executable, "-c", code, str(theirs.fileno()), json.dumps(sys.path)]
            self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)  # noqa: S603
        self._link = Connection(ours.detach())
        try:
            self._link.send_bytes(self._pickled)
            data = self._link.recv_bytes()
        except (EOFError, OSError):
            raise WorkerError(
                f"the computing process ended before its calculator was made ({self._end()}): its messages, if there "
                "were any, are above; isolated=False computes in this process and shows more"
            ) from None
        told = json.loads(data[1:])
        if data[:1] != READY:
            self.close()
            raise WorkerError(f"the calculator cannot be made: {told['kind']}: {told['text']}")
        self.virial = told["virial"]

    def _send(self) -> None:
        if self._request is None:
            return
        with contextlib.suppress(OSError):  # it died; `collect` finds out and starts it again
            self._link.send_bytes(pack_request(*self._request))

    def _failed(self, told: dict[str, Any]) -> None:
        """Raise, or try once more in a fresh process."""
        if told["final"] or self._retried:
            raise WorkerError(f"the calculator failed: {told['kind']}: {told['text']}")
        self._retried = True
        self._again(f"the calculator failed: {told['kind']}: {told['text']}")

    def _again(self, why: str) -> None:
        self._failures += 1
        if self._failures >= self._limit:
            raise WorkerError(
                f"{why}, {self._failures} times in a row without an answer: look at the messages above, at memory and "
                "at the device"
            )
        self.restarts += 1
        self.close()
        self._start()
        self._send()

    def _end(self) -> str:
        try:
            code = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        return f"signal {-code}" if code < 0 else f"exit code {code}"


def _pickled(recipe: Recipe) -> bytes:
    try:
        return bytes(ForkingPickler.dumps(recipe))
    except (ProtocolError, MemoryError):
        raise
    except Exception as error:
        raise ConfigError(
            f"the calculator cannot be sent to a process of its own ({error}): give a function that makes it, found by "
            "its name in a module (for our models CalculatorFactory), or isolated=False to compute in this process"
        ) from error
