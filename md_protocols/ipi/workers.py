"""Where structures are computed: in a process of its own, which is started again when it dies, or right here."""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from socket import socket, socketpair
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mlcalc.ground.errors import Use
from mlcalc.ground.told_data import told_keywords

from .errors import WorkerError
from .pipe import PipeEnd
from .recipes import Recipe, pickled, unnamed_file
from .responder import UNITS, Answer
from .worker_process import (
    ANSWER,
    ATTACH,
    DETACH,
    LOST,
    READY,
    REQUEST,
    SENT,
    SIGNALS,
    Reply,
    Stage,
    request_parts,
    unpack_answers,
)

Array = NDArray[np.float64]
_START = "import sys, json; sys.path[:] = json.loads(sys.argv[6]); from {module} import main; main()"
_LONGEST_PAUSE = 8.0  # s before a process that failed is started again


@dataclass(frozen=True)
class Delivered:
    """Answers that the server has from the computing process itself."""

    structures: int


Found = tuple[int, list[Answer] | Delivered]  # the request's ticket, and its answers


class Worker(Protocol):
    """What the client asks of whoever computes."""

    virial: str
    restarts: int

    def attach(self, server: socket | None) -> None: ...
    def submit(self, ticket: int, cells: Array, positions: Array, units: str, reply: Reply) -> None: ...
    def fileno(self) -> int | None: ...
    def sending(self) -> bool: ...
    def tick(self) -> None: ...
    def collect(self) -> Found | None: ...
    def close(self) -> None: ...


class LocalWorker:
    """Computes in this process, at once."""

    restarts = 0

    def __init__(self, recipe: Recipe) -> None:
        self._responder = recipe.responder()
        self.virial = self._responder.virial
        self._answer: Found | None = None

    def attach(self, server: socket | None) -> None:
        pass

    def submit(self, ticket: int, cells: Array, positions: Array, units: str, reply: Reply) -> None:
        self._answer = ticket, self._responder(cells, positions, UNITS[units])

    def fileno(self) -> int | None:
        return None

    def sending(self) -> bool:
        return False

    def tick(self) -> None:
        pass

    def collect(self) -> Found | None:
        answer, self._answer = self._answer, None
        return answer

    def close(self) -> None:
        pass


class ProcessWorker:
    """Computes in a child, and starts it anew with the request at hand when it dies.

    max_failures: deaths in a row, without an answer between them, after which it is given up with WorkerError.
    request_s: after so long with one request the child is taken to hang, and killed.
    Errors that the same structure would give again are raised as WorkerError at once; others are tried once more, in
    a fresh process: a GPU that has failed needs one.  Only the very first start is waited for; later ones go on while
    the server is listened to, and longer and longer pauses come before them.  One request at a time is with the child:
    the one of a server that is gone is computed to its end, and its answer dropped, before the next is handed over.

    Where the request says so the child sends the answers to the attached server itself, which saves waking up the
    parent first.  How far it got with that is kept in memory that outlives it.  If it dies between the first and the
    last byte, nobody knows what the server has: the connection has to be given up (ConnectionResetError).
    """

    def __init__(self, recipe: Recipe, max_failures: int = 5, request_s: float | None = None) -> None:
        self._natoms, self._limit, self._request_s = len(recipe.atoms), max_failures, request_s
        self._sent_at, self._hung = 0.0, False
        self._request: tuple[int, Array, Array, str, Reply] | None = None
        self._sent: int | None = None  # ticket of what the child computes
        self._failures = self.restarts = 0
        self._ready = self._retried = False
        self.virial = ""
        self._server: socket | None = None
        self._attached = True  # whether the child knows of it
        self._recipe, self._stage_file = unnamed_file(pickled(recipe)), unnamed_file(b"\0")
        self._stage = mmap.mmap(self._stage_file.fileno(), 1)
        self._start(0.0)
        try:
            self._wait()
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """Of the process that computes."""
        return self._process.pid

    def attach(self, server: socket | None) -> None:
        """The connection to which answers go that the child is to send itself; None when it ends.

        Nobody waits any more for the request of a connection that has ended, nor for what becomes of it.  A child that
        computes reads nothing: it is told with its next request, so that connections that come and go do not fill the
        pair between us.
        """
        self._server, self._attached = server, False
        if server is None:
            self._request = None
        if self._ready and self._sent is None:
            self._tell_server()

    def submit(self, ticket: int, cells: Array, positions: Array, units: str, reply: Reply) -> None:
        """Hand over a request; `fileno` becomes readable when there is something to collect."""
        self._request, self._retried = (ticket, cells, positions, units, reply), False
        self._send()

    def fileno(self) -> int | None:
        return self._link.fileno()

    def sending(self) -> bool:
        """Whether an answer to the request at hand is on its way to the server, or there, and not collected yet."""
        return self._current() and self._stage[0] != Stage.NOTHING_SENT

    def _current(self) -> bool:
        return self._request is not None and self._sent == self._request[0]

    def tick(self) -> None:
        """Kill a child that computes for too long; asked every now and then."""
        if self._request_s is None or self._sent is None or self._hung or self.sending():
            return
        if time.monotonic() - self._sent_at > self._request_s:
            self._hung = True
            self._process.kill()

    def collect(self) -> Found | None:
        """The answers and their ticket; None where it was something else: a new process, or an old request's answer.

        ConnectionResetError where the server may have a part of an answer.
        """
        try:
            data = self._link.receive()
        except (EOFError, OSError):
            return self._died()
        kind = bytes(data[:1])
        if kind == READY:
            self._ready = True
        elif kind in (ANSWER, SENT, LOST):
            self._sent = None
            ticket, count, _, _ = REQUEST.unpack_from(data, 1)
            if self._request is not None and ticket == self._request[0]:
                self._request, self._failures = None, 0
                if kind == LOST:
                    raise ConnectionResetError("the server did not take an answer")
                return unpack_answers(data, self._natoms) if kind == ANSWER else (ticket, Delivered(count))
        else:
            self._failed(json.loads(bytes(data[1:])))
        self._send()
        return None

    def _died(self) -> Found | None:
        """Start again; what the server has of the answer decides how it goes on."""
        stage = Stage(self._stage[0]) if self._current() else Stage.NOTHING_SENT
        request = self._request
        if stage is not Stage.NOTHING_SENT:
            self._request = None
        if stage is Stage.ALL_SENT:
            self._failures = 0
        self._again(f"the computing process ended ({self._end()})")
        if request is None or stage is Stage.NOTHING_SENT:
            return None
        if stage is Stage.SENDING:
            raise ConnectionResetError("the computing process ended while it sent an answer")
        return request[0], Delivered(len(request[1]))

    def close(self) -> None:
        """End the process, at once."""
        self._recipe.close()
        self._stage_file.close()
        self._stage.close()
        self._stop()

    def _stop(self) -> None:
        self._link.close()
        self._process.kill()
        self._process.wait()

    def _start(self, pause_s: float) -> None:
        ours, theirs = socketpair()
        self._link = PipeEnd(ours)
        with theirs:
            fds = [theirs.fileno(), self._recipe.fileno(), self._stage_file.fileno()]
            told = [*fds, os.getpid(), pause_s, json.dumps([str(path) for path in sys.path])]
            command = [sys.executable, "-c", _START.format(module=f"{__package__}.worker_process"), *map(str, told)]
            # a signal to the whole group must not kill the child before it knows that they are not for it
            blocked = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
            try:
                self._process = subprocess.Popen(command, pass_fds=fds, stdin=subprocess.DEVNULL)  # noqa: S603
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, blocked)

    def _wait(self) -> None:
        """Until the first process has its calculators."""
        try:
            data = self._link.receive()
        except (EOFError, OSError):
            raise WorkerError(
                f"the computing process ended before its calculator was made ({self._end()}): its messages, if there "
                "were any, are above",
                remedies=[Use("isolated", False, "to compute in this process, which shows more")],
            ) from None
        told = json.loads(bytes(data[1:]))
        if data[:1] != READY:
            raise _worker_error("the calculator cannot be made", told)
        self._ready, self.virial = True, told["virial"]

    def _send(self) -> None:
        if self._request is None or self._sent is not None or not self._ready:
            return
        if not self._attached:
            self._tell_server()
        self._sent, self._sent_at, self._hung = self._request[0], time.monotonic(), False
        self._stage[0] = Stage.NOTHING_SENT
        with contextlib.suppress(OSError):  # it died; `collect` finds out and starts it again
            self._link.send(*request_parts(*self._request))

    def _tell_server(self) -> None:
        self._attached = True
        with contextlib.suppress(OSError):
            self._link.send(DETACH if self._server is None else ATTACH, connection=self._server)

    def _failed(self, told: dict[str, Any]) -> None:
        """Raise, or try once more in a fresh process; errors of a request that nobody waits for are nobody's."""
        if not self._ready:
            self._again(f"the calculator cannot be made: {told['kind']}: {told['text']}", told)
            return
        self._sent = None
        if self._request is None or told["ticket"] != self._request[0]:
            return
        if told["final"] or self._retried:
            raise _worker_error("the calculator failed", told)
        self._retried = True
        self._again(f"the calculator failed: {told['kind']}: {told['text']}", told)

    def _again(self, why: str, told: Mapping[str, Any] | None = None) -> None:
        """Start a fresh process; WorkerError where that has happened too often, with what the last one said."""
        self._failures += 1
        if self._failures >= self._limit:
            known = told_keywords(told or {})
            known["remedies"] = [*known["remedies"], "look at the messages above, at memory and at the device"]
            raise WorkerError(f"{why}, {self._failures} times in a row without an answer", **known)
        self.restarts += 1
        self._stop()
        self._ready, self._sent, self._attached = False, None, self._server is None
        self._start(0.0 if self._failures == 1 else min(0.25 * 2**self._failures, _LONGEST_PAUSE))

    def _end(self) -> str:
        try:
            code = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        if self._hung:
            return f"killed: no answer within {self._request_s:g} s"
        return f"signal {-code}" if code < 0 else f"exit code {code}"


def _worker_error(what: str, told: Mapping[str, Any]) -> WorkerError:
    """The error of the computing process, with its setting and remedies."""
    known = told_keywords(told)
    if "__main__" in told["text"]:
        text = f"{told['text']}; the computing process does not see what the program itself defines"
        known["remedies"] = ["move it to a module that both can import", Use("isolated", False)]
    else:
        text = told["text"]
    error = WorkerError(f"{what}: {told['kind']}: {text}", **known)
    error.add_note("In the computing process:\n" + told["traceback"])
    return error
