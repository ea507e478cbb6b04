"""One process per output folder."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

from ..errors import SimulationError
from .storage import bounded_json

try:
    import fcntl
except ImportError:  # Windows: no advisory locks, the folder is not guarded there
    fcntl = None  # type: ignore[assignment]


class FolderLock:
    """A lock file naming its owner, held by an advisory lock that the system drops when the owner dies.

    A lock left by a dead process of this host is therefore free again.  One left by another host may still be in use
    where the file system does not pass locks between hosts, so it is respected until somebody removes the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            self._acquire()
        except BaseException:
            os.close(self._descriptor)
            raise

    def _acquire(self) -> None:
        if fcntl is not None:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise SimulationError(
                    f"another run is using {self._path.parent} ({self._owner()}): wait for it, or use another folder"
                ) from None
        owner = self._owner()
        host = socket.gethostname()
        if owner and f"host {host}," not in f"{owner},":
            raise SimulationError(
                f"{self._path} says that a run on another machine uses this folder ({owner}), which cannot be checked "
                f"from here: if that run has ended, delete the file {self._path} and repeat the call, which then "
                "continues it; else wait, or use another folder"
            )
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, json.dumps({"pid": os.getpid(), "host": host}).encode(), 0)
        if not self._path.exists() or os.fstat(self._descriptor).st_ino != self._path.stat().st_ino:
            raise SimulationError(f"another run has just left {self._path.parent}: try again")

    def _owner(self) -> str:
        text = os.pread(self._descriptor, 4096, 0)
        if not text:
            return ""
        try:
            owner = bounded_json(text.decode())
            return f"host {owner['host']}, pid {owner['pid']}"
        except (ValueError, KeyError, TypeError):
            return ""  # cut short by a sudden death

    def release(self) -> None:
        """Remove the file while it is still locked, then let it go."""
        self._path.unlink(missing_ok=True)
        os.close(self._descriptor)
