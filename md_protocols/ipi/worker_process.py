"""The process that computes: it builds the calculators, then answers requests on a pair of sockets.

It never reads from the server.  Whatever happens here, the connection is another process's; where that says so, answers
go straight to the server, so that they need not wait for the other process to wake up.
"""

from __future__ import annotations

import ctypes
import enum
import json
import mmap
import os
import signal
import socket
import struct
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.reduction import ForkingPickler

import numpy as np
from numpy.typing import NDArray

from mlcalc.ground.told_data import told_data

from ..errors import EvaluationError
from .pipe import PipeEnd
from .recipes import Recipe
from .responder import UNITS, Answer, Responder
from .wire.messages import encode

Array = NDArray[np.float64]
REQUEST = struct.Struct("=qiii")  # number of the request, structures, which units, who gets the answer
READY, ANSWER, ERROR = b"R", b"A", b"E"
SENT, LOST = b"S", b"L"  # the answer is with the server, or could not be sent there
ASK, ATTACH, DETACH = b"Q", b"C", b"D"  # to the process: a request; the server's connection; its end
SEND_S = 60.0  # for the server to take an answer
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)  # end the run, which is the parent's to do; USR1 as in Slurm
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_UNITS = tuple(UNITS)


class Reply(enum.IntEnum):
    """Who gets the answers to a request."""

    PARENT = 0
    SERVER = 1  # in one message, as for one structure
    SERVER_BATCH = 2


class Stage(enum.IntEnum):
    """What has become of an answer that goes to the server; in memory that outlives the process."""

    NOTHING_SENT = 0
    SENDING = 1
    ALL_SENT = 2


def request_parts(
    ticket: int, cells: Array, positions: Array, units: str, reply: Reply
) -> tuple[bytes, bytes, bytes, memoryview]:
    """The parts of a message that asks for answers."""
    told = REQUEST.pack(ticket, len(cells), _UNITS.index(units), reply)
    return ASK, told, cells.tobytes(), np.ascontiguousarray(positions).data.cast("B")


def unpack_answers(data: memoryview, natoms: int) -> tuple[int, list[Answer]]:
    """The ticket and the answers of a message that begins with ANSWER."""
    ticket, count, _, _ = REQUEST.unpack_from(data, 1)
    stride = 1 + 3 * natoms + 9
    at = 1 + REQUEST.size
    numbers = np.frombuffer(data, np.float64, count * stride, at).reshape(count, stride).copy()
    extras: list[str] = json.loads(bytes(data[at + numbers.nbytes :]))
    return ticket, [
        Answer(float(row[0]), row[1:-9].reshape(natoms, 3), row[-9:].reshape(3, 3), text)
        for row, text in zip(numbers, extras, strict=True)
    ]


def _pack_answers(ticket: int, answers: Sequence[Answer]) -> bytes:
    rows = b"".join(
        np.float64(answer.energy).tobytes() + answer.forces.tobytes() + answer.virial.tobytes() for answer in answers
    )
    extras = json.dumps([answer.extras for answer in answers]).encode()
    return ANSWER + REQUEST.pack(ticket, len(answers), 0, Reply.PARENT) + rows + extras


def _pack_error(ticket: int, error: Exception) -> bytes:
    """What went wrong, and whether the same structure would fail again: that is so of errors about values."""
    told = told_data(error) | {
        "ticket": ticket,
        "final": isinstance(error, ValueError | ArithmeticError) or type(error) is EvaluationError,
        "traceback": "".join(traceback.format_exception(error)),
    }
    return ERROR + json.dumps(told).encode()


def main() -> None:
    """Serve until the other end is closed; signals that stop a run are its business.

    Arguments: file descriptors of the link, of the recipe and of the stage, the parent's number, seconds to wait first.
    """
    link, recipe, stage, parent = (int(argument) for argument in sys.argv[1:5])
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # the parent starts us with them blocked
    _die_with(parent)
    time.sleep(float(sys.argv[5]))
    try:
        _work(PipeEnd(socket.socket(fileno=link)), recipe, mmap.mmap(stage, 1))
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


def _work(link: PipeEnd, recipe: int, stage: mmap.mmap) -> None:
    responder = _started(link, recipe)
    if responder is not None:
        _serve(link, responder, stage)


def _started(link: PipeEnd, recipe: int) -> Responder | None:
    try:
        made_of: Recipe = ForkingPickler.loads(os.pread(recipe, os.fstat(recipe).st_size, 0))
        responder = made_of.responder()
    except Exception as error:
        link.send(_pack_error(-1, error))
        return None
    link.send(READY, json.dumps({"virial": responder.virial}).encode())
    return responder


def _serve(link: PipeEnd, responder: Callable[..., list[Answer]], stage: mmap.mmap) -> None:
    server: socket.socket | None = None
    while True:
        data = link.receive()
        if data[:1] != ASK:
            if server is not None:
                server.close()
            server = link.taken() if data[:1] == ATTACH else None
            if server is not None:
                server.settimeout(SEND_S)
            continue
        ticket, count, units, reply = REQUEST.unpack_from(data, 1)
        numbers = np.frombuffer(data, np.float64, offset=1 + REQUEST.size)
        cells, positions = numbers[: 9 * count].reshape(count, 3, 3), numbers[9 * count :].reshape(count, -1, 3)
        try:
            answers = responder(cells, positions, UNITS[_UNITS[units]])
            told = _pack_answers(ticket, answers) if reply == Reply.PARENT else encode(answers, reply != Reply.SERVER)
        except Exception as error:
            told, reply = _pack_error(ticket, error), Reply.PARENT
        if reply != Reply.PARENT:
            told = _to_server(server, told, stage) + REQUEST.pack(ticket, count, units, reply)
        link.send(told)


def _to_server(server: socket.socket | None, answer: bytes, stage: mmap.mmap) -> bytes:
    """Send it; SENT or LOST, for the parent."""
    if server is None:
        return LOST
    stage[0] = Stage.SENDING
    try:
        server.sendall(answer)
    except OSError:
        return LOST
    stage[0] = Stage.ALL_SENT
    return SENT
