"""Memory that calls use again: fresh memory costs more time than the arithmetic in it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

_Space = TypeVar("_Space")


class Workspaces(Generic[_Space]):
    """One workspace for each of the calls that run at the same time."""

    def __init__(self) -> None:
        self._free: list[_Space] = []
        self._lock = threading.Lock()

    @contextmanager
    def taken(self, fits: Callable[[_Space], bool], make: Callable[[], _Space]) -> Iterator[_Space]:
        """A workspace for one call, the last one or a new one; after an error it is dropped, whatever its state."""
        with self._lock:
            space = self._free.pop() if self._free else None
        if space is not None and not fits(space):
            space = None  # the old memory is free before the new one is taken
        if space is None:
            space = make()
        yield space
        with self._lock:
            self._free.append(space)

    def holds(self, fits: Callable[[_Space], bool]) -> bool:
        """Whether there is a workspace at hand that fits."""
        with self._lock:
            return any(fits(space) for space in self._free)

    def __deepcopy__(self, memo: dict[int, Any]) -> Workspaces[_Space]:
        return type(self)()

    def __reduce__(self) -> tuple[type[Workspaces[_Space]], tuple[()]]:
        return type(self), ()
