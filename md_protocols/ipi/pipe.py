"""Whole messages, and connections, between two processes over a pair of sockets."""

from __future__ import annotations

import socket
import struct

_LENGTH = struct.Struct("=q")
_DESCRIPTOR = struct.Struct("=i")
_CONTROL = socket.CMSG_SPACE(_DESCRIPTOR.size)
_SIZE = 1 << 18  # of the buffer at first


class PipeEnd:
    """One end of a pipe; EOFError or OSError when the other is gone.

    One read takes a message of usual size, where multiprocessing's Connection needs two, and nothing is copied on the
    way; that shows in small models.  Only for processes that belong together: lengths are believed.
    """

    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self._buffer = memoryview(bytearray(_SIZE))
        self._first = self._end = 0  # of what was received and not yet given out
        self._taken: list[socket.socket] = []  # in the order in which they came

    def fileno(self) -> int:
        return self._link.fileno()

    def close(self) -> None:
        while self._taken:
            self._taken.pop().close()
        self._link.close()

    def send(self, *parts: bytes | memoryview, connection: socket.socket | None = None) -> None:
        """Send a message, in parts that are joined, and with it a copy of a connection."""
        length = sum(map(len, parts))
        control = []
        if connection is not None:
            control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, _DESCRIPTOR.pack(connection.fileno()))]
        sent = self._link.sendmsg([_LENGTH.pack(length), *parts], control)
        if sent < _LENGTH.size + length:
            self._link.sendall(b"".join((_LENGTH.pack(length), *parts))[sent:])

    def receive(self) -> memoryview:
        """The next message; waits for it.  It is there until the next call."""
        while True:
            there = self._end - self._first
            need = _LENGTH.size
            if there >= need:
                need += _LENGTH.unpack_from(self._buffer, self._first)[0]
                if there >= need:
                    start, self._first = self._first + _LENGTH.size, self._first + need
                    return self._buffer[start : self._first]
            self._make_room(need)
            received, control, _, _ = self._link.recvmsg_into([self._buffer[self._end :]], _CONTROL)
            if not received:
                raise EOFError
            for _, _, descriptor in control:
                self._taken.append(socket.socket(fileno=_DESCRIPTOR.unpack(descriptor)[0]))
                self._taken[-1].set_inheritable(False)  # programs that a calculator starts have no part in it
            self._end += received

    def taken(self) -> socket.socket:
        """The connection that came with the last message, for the caller to keep.

        It may be here earlier than its message: each that has one must be known by what it says, and ask for it.
        """
        return self._taken.pop(0)

    def _make_room(self, need: int) -> None:
        """Move what there is to the beginning of a buffer that holds the whole message."""
        there = bytes(self._buffer[self._first : self._end])
        if need > len(self._buffer):
            self._buffer = memoryview(bytearray(2 * need))
        self._buffer[: len(there)] = there
        self._first, self._end = 0, len(there)
