"""One process per output folder: made, found writable, and locked."""

from __future__ import annotations

import errno
import json
import os
import socket
import stat
from collections.abc import Sequence
from pathlib import Path

from ..errors import ConfigError, SimulationError
from .storage import bounded_json, remove_leftovers

try:
    import fcntl
except ImportError:  # Windows: no advisory locks, the folder is not guarded there
    fcntl = None  # type: ignore[assignment]


_NO_LOCK = ("remove it", "use another folder")
_FLAGS = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


class FolderLock:
    """A folder, made if need be, that no other process uses until `release`: `folder` is its path with `~` expanded.

    A lock file in it names the owner, held by an advisory lock that the system drops when the owner dies.  A lock left
    by a dead process of this host is therefore free again.  One left by another host may still be in use where the
    file system does not pass locks between hosts, so it is respected until somebody removes the file.

    files: what the owner writes atomically, of which an owner that was killed may have left beginnings.

    Raises ConfigError for what cannot be a folder to write in, SimulationError where another process uses it.
    """

    def __init__(self, folder: Path, *, files: Sequence[str] = ()) -> None:
        self.folder = _made(folder)
        self._path = self.folder / "run.lock"
        self._descriptor = _opened(self._path)
        try:
            self._acquire()
        except BaseException:
            os.close(self._descriptor)
            raise
        for name in files:
            remove_leftovers(self.folder / name)

    def _acquire(self) -> None:
        if fcntl is not None:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise SimulationError(
                    f"another run is using {self.folder} ({self._owner()})",
                    setting="output",
                    value=str(self.folder),
                    remedies=["wait for it", "use another folder"],
                ) from None
        owner = self._owner()
        host = socket.gethostname()
        if owner and f"host {host}," not in f"{owner},":
            raise SimulationError(
                f"{self._path} says that a run on another machine uses this folder ({owner}), which cannot be checked "
                "from here",
                setting="output",
                value=str(self.folder),
                remedies=[
                    f"if that run has ended, delete the file {self._path} and repeat the call, which then continues it",
                    "else wait",
                    "use another folder",
                ],
            )
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, json.dumps({"pid": os.getpid(), "host": host}).encode(), 0)
        if not self._path.exists() or os.fstat(self._descriptor).st_ino != self._path.stat().st_ino:
            raise SimulationError(f"another run has just left {self.folder}", remedies=["try again"])

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


def _made(path: Path) -> Path:
    """The folder, there and writable, with `~` expanded; ConfigError if it cannot be."""
    try:
        folder = path.expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, "no permission to write there")
    except (OSError, RuntimeError, ValueError) as error:  # ~ of a user that does not exist; a null byte
        files = [place for place in (path, *path.parents) if os.path.isfile(place)]  # noqa: PTH113 - no error at long names
        cause = f"{files[0]} is a file" if files else getattr(error, "strerror", None) or error
        raise ConfigError(
            f"{path} cannot be the output folder: {cause}",
            setting="output",
            value=str(path),
            remedies=["give the path of a folder, new or of the run to be continued, where you may write"],
        ) from error
    return folder


def _opened(path: Path) -> int:
    """Descriptor of the lock file: never that of what a link points to, which would be overwritten."""
    try:
        descriptor = os.open(path, _FLAGS, 0o644)
    except OSError as error:
        why = "it is a link" if error.errno == errno.ELOOP else error.strerror or str(error)
        raise SimulationError(f"{path} cannot be used as a lock: {why}", remedies=_NO_LOCK) from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        os.close(descriptor)
        raise SimulationError(
            f"{path} cannot be used as a lock: it is no file of its own, but linked from elsewhere or a device",
            remedies=_NO_LOCK,
        )
    return descriptor
