"""The socket protocol of i-PI, without any socket: bytes in, messages out, and back.

Kapil et al., Comput. Phys. Commun. 236, 214 (2019); the batched and shared-memory forms are those of i-PI 3.3.
Headers are 12 bytes; numbers are native int32 and float64; lengths in bohr, energies in hartree.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import WireError
from ..responder import Answer

Array = NDArray[np.float64]

HEADER = 12
MAX_BATCH = 4096  # structures in one message
MAX_INIT = 1 << 16  # bytes of an initialisation string
MAX_REQUEST = 1 << 30  # bytes of one batch
SEGMENTS = ("pos", "h", "ih", "pot", "force", "vir")  # in the order in which i-PI names them
SEGMENT_NAME = re.compile(rb"ipi_shm_[A-Za-z0-9_]{1,200}\Z")
_WHOLE, _REAL = struct.Struct("=i"), struct.Struct("=d")
_INT, _CELL = 4, 72  # bytes of an int32 and of a 3 x 3 matrix


@dataclass(frozen=True)
class Status:
    """The server asks what the client is doing."""


@dataclass(frozen=True)
class Init:
    """The server introduces itself; batch_size structures will come in each request."""

    bead: int
    text: bytes
    batch_size: int


@dataclass(frozen=True, eq=False)
class Positions:
    """Structures to compute, or None for both where they lie in shared memory."""

    cells: Array | None  # (B, 3, 3) bohr, lattice vectors in columns
    positions: Array | None  # (B, N, 3) bohr
    segments: tuple[str, ...] | None = None  # names of the shared memory, with the first request only


@dataclass(frozen=True)
class GetForce:
    """The server wants the results of the last positions."""


@dataclass(frozen=True)
class Exit:
    """The server has finished."""


Message = Status | Init | Positions | GetForce | Exit
_PLAIN: dict[bytes, Message] = {b"STATUS      ": Status(), b"GETFORCE    ": GetForce(), b"EXIT        ": Exit()}


def header(word: str) -> bytes:
    """The 12 bytes of a header."""
    return word.ljust(HEADER).encode()


class Reader:
    """Turns what a server sends, in whatever pieces, into messages.

    natoms: atoms of the template; a server with another number is refused before anything is allocated for it.
    Nothing is kept but the bytes received, which are limited to one request and what may follow it.
    WireError for anything else than the protocol.
    """

    def __init__(self, natoms: int) -> None:
        self.natoms, self.batch_size, self.shared = natoms, 1, False
        self._received = bytearray()

    def feed(self, data: bytes | memoryview) -> None:
        """Take bytes from the server."""
        self._received += data
        limit = 2 * self._request_size() + 2 * MAX_INIT
        if len(self._received) > limit:
            raise WireError(
                f"the server sent {len(self._received)} bytes before the answer to its last request, at most {limit} "
                "make sense: is it an i-PI server?"
            )

    def next(self) -> Message | None:
        """The next complete message, or None while bytes are missing."""
        if len(self._received) < HEADER:
            return None
        word = bytes(self._received[:HEADER])
        if word == b"POSDATA     ":
            return self._positions()
        if word in _PLAIN:
            del self._received[:HEADER]
            return _PLAIN[word]
        if word == b"INIT        ":
            return self._init()
        raise WireError(f"unknown message {word!r}: the peer is no i-PI server, or one of another version")

    def pending(self) -> int:
        """Bytes received that belong to no complete message yet."""
        return len(self._received)

    def _whole(self, at: int) -> int:
        return int(_WHOLE.unpack_from(self._received, at)[0])

    def _request_size(self) -> int:
        return HEADER + _INT + self.batch_size * (2 * _CELL + 24 * self.natoms)

    def _init(self) -> Init | None:
        start = HEADER + 2 * _INT
        if len(self._received) < start:
            return None
        bead, length = self._whole(HEADER), self._whole(HEADER + _INT)
        if not 0 <= length <= MAX_INIT:
            raise WireError(f"the server announces an initialisation of {length} bytes: between 0 and {MAX_INIT}")
        if len(self._received) < start + length:
            return None
        text = bytes(self._received[start : start + length])
        del self._received[: start + length]
        self.batch_size = self._checked_batch(text)
        return Init(bead, text, self.batch_size)

    def _checked_batch(self, text: bytes) -> int:
        """Number of structures per request, from the token that i-PI adds to its parameters."""
        batch = 1
        for token in text.decode("utf-8", errors="replace").split(","):
            name, _, value = token.partition(":")
            if name.strip() == "batch_size":
                try:
                    batch = int(value)
                except ValueError:
                    raise WireError(f"the server announces batch_size {value.strip()[:40]!r}: a number") from None
        if not 1 <= batch <= MAX_BATCH or batch * (2 * _CELL + 24 * self.natoms) > MAX_REQUEST:
            raise WireError(
                f"the server asks for batches of {batch} structures of {self.natoms} atoms: at most {MAX_BATCH} "
                f"structures and {MAX_REQUEST >> 20} MiB",
                value=batch,
                limit=MAX_BATCH,
                remedies=["set <batch_size> accordingly"],
            )
        return batch

    def _positions(self) -> Positions | None:
        if self.shared or self._names_shared_memory():
            return self._shared_positions()
        batched, cells = self.batch_size > 1, self.batch_size * 2 * _CELL
        count_at, cells_at = (HEADER, HEADER + _INT) if batched else (HEADER + cells, HEADER)
        if len(self._received) < max(count_at, HEADER + _INT + 24) + _INT:
            return None
        self._check_count(self._whole(count_at))
        size = self._request_size()
        if len(self._received) < size:
            return None
        whole = bytes(self._received[:size])
        del self._received[:size]
        numbers = np.frombuffer(whole, np.float64, self.batch_size * 18, cells_at)
        matrices = numbers.reshape(self.batch_size, 2, 3, 3)[:, 0]
        flat = np.frombuffer(whole, np.float64, offset=size - 24 * self.natoms * self.batch_size)
        return Positions(matrices, flat.reshape(self.batch_size, self.natoms, 3))

    def _names_shared_memory(self) -> bool:
        """Whether numbers come through shared memory, which i-PI does not announce: names stand in place of a cell."""
        at = HEADER + 2 * _INT
        return bytes(self._received[at : at + 8]) == b"ipi_shm_"

    def _shared_positions(self) -> Positions | None:
        at = HEADER + _INT
        if len(self._received) < at:
            return None
        self._check_count(self._whole(HEADER))
        names: list[str] = []
        while not self.shared and len(names) < len(SEGMENTS):
            if len(self._received) < at + _INT:
                return None
            length = self._whole(at)
            if not 0 < length <= 256:
                raise WireError(f"the server names a shared memory with {length} characters: between 1 and 256")
            if len(self._received) < at + _INT + length:
                return None
            name = bytes(self._received[at + _INT : at + _INT + length])
            if not SEGMENT_NAME.match(name):
                raise WireError(f"the server names the shared memory {name[:80]!r}: i-PI's begin with ipi_shm_")
            names.append(name.decode())
            at += _INT + length
        self.shared = True
        del self._received[:at]
        return Positions(None, None, tuple(names) or None)

    def _check_count(self, count: int) -> None:
        if count != self.natoms:
            raise WireError(
                f"the server sends {count} atoms, the template has {self.natoms}",
                value=count,
                limit=self.natoms,
                remedies=["start both from the same structure"],
            )


def encode(answers: Sequence[Answer], batched: bool, shared: bool = False) -> bytes:
    """FORCEREADY and the results; with shared memory only their strings, as the numbers lie there."""
    texts = [answer.extras.encode() for answer in answers]
    strings = b"".join(_WHOLE.pack(len(text)) + text for text in texts)
    if shared:
        return header("FORCEREADY") + strings
    count = _WHOLE.pack(len(answers[0].forces))
    if not batched:
        one = answers[0]
        numbers = (_REAL.pack(one.energy), count, one.forces.tobytes(), one.virial.tobytes())
        return b"".join((header("FORCEREADY"), *numbers, strings))
    energies = np.array([answer.energy for answer in answers]).tobytes()
    forces = b"".join(answer.forces.tobytes() for answer in answers)
    virials = b"".join(answer.virial.tobytes() for answer in answers)
    return header("FORCEREADY") + energies + count + forces + virials + strings
