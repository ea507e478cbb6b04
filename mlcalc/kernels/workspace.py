"""Memory that calls use again: fresh memory costs more time than the arithmetic in it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Workspace:
    """Arrays by name, which grow where a call needs larger ones; their content is that of the last call."""

    def __init__(self) -> None:
        self._arrays: dict[str, NDArray[Any]] = {}

    def array(self, name: str, shape: tuple[int, ...], kind: np.dtype[Any], *, zero: bool = False) -> NDArray[Any]:
        """An array of this shape, zero at its first use where so asked."""
        size = int(np.prod(shape))
        held = self._arrays.get(name)
        if held is None or held.size < size or held.dtype != kind or held.size > 4 * size + 4096:
            self._arrays.pop(name, None)  # the old memory is free before the new one is taken
            held = self._arrays[name] = (np.zeros if zero else np.empty)(size + size // 16, kind)
        return held[:size].reshape(shape)


class Workspaces:
    """One workspace for each of the calls that run at the same time."""

    def __init__(self) -> None:
        self._free: list[Workspace] = []
        self._lock = threading.Lock()

    @contextmanager
    def taken(self) -> Iterator[Workspace]:
        """A workspace for one call; after an error it is dropped, its arrays being in an unknown state."""
        with self._lock:
            space = self._free.pop() if self._free else Workspace()
        yield space
        with self._lock:
            self._free.append(space)

    def __deepcopy__(self, memo: dict[int, Any]) -> Workspaces:
        return Workspaces()

    def __reduce__(self) -> tuple[type[Workspaces], tuple[()]]:
        return Workspaces, ()
