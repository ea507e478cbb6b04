"""Keeping the server from seeing a reset of its connection, even where our process is killed with SIGKILL."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

_HOLDER = Path(__file__).with_name("holder.py")
_DRAIN_S = 5.0  # for the server to see that no more will come
_FINISHED_S = 0.5  # the same where it has said so itself
_CHUNK = 1 << 18


class HeldConnection:
    """A connected socket of which a second, idle process has a copy.

    A process that is killed while bytes of the server lie unread resets the connection, from which i-PI 3.3.1 never
    recovers.  How long bytes lie there is the scheduler's choice.  As long as somebody else has the socket open the
    kernel does nothing of that kind; the other process then ends the connection in order.
    """

    def __init__(self, link: socket.socket, held: bool) -> None:
        self.link = link
        self.finished = False  # whether the server has said its last word
        self._holder: subprocess.Popen[bytes] | None = None
        if held:
            command = [sys.executable, "-I", "-S", str(_HOLDER), str(link.fileno()), str(os.getpid())]
            with contextlib.suppress(OSError):  # without it all is well as long as nobody kills us
                self._holder = subprocess.Popen(  # noqa: S603 - our file; a session of its own is out of reach of ^C
                    command, pass_fds=[link.fileno()], stdin=subprocess.PIPE, start_new_session=True
                )

    def close(self) -> None:
        """Close without resetting the connection: say that no more will come, and take what is still under way."""
        with contextlib.suppress(OSError):
            self.link.shutdown(socket.SHUT_WR)
            end = time.monotonic() + (_FINISHED_S if self.finished else _DRAIN_S)
            while (left := end - time.monotonic()) > 0:
                self.link.settimeout(left)
                if not self.link.recv(_CHUNK):
                    break
        if self._holder is not None:
            self._holder.kill()
            self._holder.communicate()
        self.link.close()
