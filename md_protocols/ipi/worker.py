"""The process that computes: it builds the calculators, then answers requests on a pair of sockets.

It knows nothing of the server.  Whatever happens here, the connection to the server is another process's.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import struct
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from .answers import UNITS, Answer, Responder

Array = NDArray[np.float64]
REQUEST = struct.Struct("=qii")  # number of the request, structures, which units
READY, ANSWER, ERROR = b"R", b"A", b"E"
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)  # end the run, which is the parent's to do; USR1 as in Slurm
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_UNITS = tuple(UNITS)


@dataclass(frozen=True, eq=False)
class Recipe:
    """What a computing process needs: calculators, or functions that make them, the template, and what to send."""

    members: tuple[Any, ...]
    atoms: Atoms
    virial: str
    dipole: Any = None

    def responder(self) -> Responder:
        """The calculators, made here and now."""
        dipole = None if self.dipole is None else made(self.dipole)
        return Responder([made(member) for member in self.members], self.atoms, self.virial, dipole)


def made(member: Any) -> Any:
    """The calculator itself, or what the factory makes."""
    return member if hasattr(member, "get_property") and not isinstance(member, type) else member()


def pack_request(ticket: int, cells: Array, positions: Array, units: str) -> bytes:
    """A request as bytes: only ever read by a process started by the one that wrote them."""
    return REQUEST.pack(ticket, len(cells), _UNITS.index(units)) + cells.tobytes() + positions.tobytes()


def unpack_answers(data: bytes, natoms: int) -> tuple[int, list[Answer]]:
    """The ticket and the answers of a message that begins with ANSWER."""
    ticket, count, _ = REQUEST.unpack_from(data, 1)
    stride = 1 + 3 * natoms + 9
    at = 1 + REQUEST.size
    numbers = np.frombuffer(data, np.float64, count * stride, at).reshape(count, stride)
    extras: list[str] = json.loads(data[at + numbers.nbytes :])
    return ticket, [
        Answer(float(row[0]), row[1:-9].reshape(natoms, 3), row[-9:].reshape(3, 3), text)
        for row, text in zip(numbers, extras, strict=True)
    ]


def _pack_answers(ticket: int, answers: Sequence[Answer]) -> bytes:
    rows = b"".join(
        np.float64(answer.energy).tobytes() + answer.forces.tobytes() + answer.virial.tobytes() for answer in answers
    )
    extras = json.dumps([answer.extras for answer in answers]).encode()
    return ANSWER + REQUEST.pack(ticket, len(answers), 0) + rows + extras


def _pack_error(ticket: int, error: Exception) -> bytes:
    """What went wrong, and whether the same structure would fail again: that is so of errors about values."""
    told = {
        "ticket": ticket,
        "kind": type(error).__name__,
        "text": str(error),
        "final": isinstance(error, ValueError | ArithmeticError) or type(error).__name__ == "EvaluationError",
        "traceback": "".join(traceback.format_exception(error)),
    }
    return ERROR + json.dumps(told).encode()


def main() -> None:
    """Serve until the other end is closed; signals that stop a run are its business.

    Arguments: file descriptors of the link and of the recipe, the parent's number, seconds to wait at first.
    """
    link, recipe, parent = (int(argument) for argument in sys.argv[1:4])
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # the parent starts us with them blocked
    _die_with(parent)
    time.sleep(float(sys.argv[4]))
    try:
        _work(Connection(link), recipe)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)  # no destructor of a driver or a library shall hold up what has ended


def _die_with(parent: int) -> None:
    """End when the parent does, however long a computation still has to go; elsewhere than in Linux, only after it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(0)


def _work(link: Connection, recipe: int) -> None:
    responder = _started(link, recipe)
    if responder is not None:
        _serve(link, responder)


def _started(link: Connection, recipe: int) -> Responder | None:
    try:
        made_of: Recipe = ForkingPickler.loads(os.pread(recipe, os.fstat(recipe).st_size, 0))
        responder = made_of.responder()
    except Exception as error:
        link.send_bytes(_pack_error(-1, error))
        return None
    link.send_bytes(READY + json.dumps({"virial": responder.virial}).encode())
    return responder


def _serve(link: Connection, responder: Callable[..., list[Answer]]) -> None:
    while True:
        data = link.recv_bytes()
        ticket, count, units = REQUEST.unpack_from(data)
        numbers = np.frombuffer(data, np.float64, offset=REQUEST.size)
        cells, positions = numbers[: 9 * count].reshape(count, 3, 3), numbers[9 * count :].reshape(count, -1, 3)
        try:
            reply = _pack_answers(ticket, responder(cells, positions, UNITS[_UNITS[units]]))
        except Exception as error:
            reply = _pack_error(ticket, error)
        link.send_bytes(reply)
