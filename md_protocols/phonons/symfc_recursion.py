"""The limit of recursion that symfc asks for, given while it works and taken back afterwards."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_SYMFC = 100_000  # what its import sets, for its walks through trees of blocks
_lock = threading.Lock()
_before: list[int] = []  # the limit that each call inside found; the first one's is the process's own


@contextmanager
def symfc_recursion() -> Iterator[None]:
    """Leaves sys.getrecursionlimit() as it was: importing symfc raises it, once, for the whole process.

    Beyond the usual limit a deeply nested JSON text ends the interpreter, where it should raise RecursionError.  Where
    several threads are inside, the last one to leave takes it back.
    """
    with _lock:
        _before.append(sys.getrecursionlimit())
        sys.setrecursionlimit(max(_before[0], _SYMFC))
    try:
        yield
    finally:
        with _lock:
            found = _before[0]
            _before.pop()
            if not _before:
                sys.setrecursionlimit(found)
