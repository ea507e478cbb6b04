"""Memory that calls use again: fresh memory costs more time than the arithmetic in it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

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

    @property
    def held_bytes(self) -> int:
        """Memory of the workspaces at hand, which a call uses again or frees."""
        with self._lock:
            arrays = {id(array): array for space in self._free for array in _arrays(vars(space).values())}
        return sum(array.nbytes for array in arrays.values())

    def __deepcopy__(self, memo: dict[int, Any]) -> Workspaces[_Space]:
        return type(self)()

    def __reduce__(self) -> tuple[type[Workspaces[_Space]], tuple[()]]:
        return type(self), ()


def _arrays(values: Iterable[Any]) -> Iterator[NDArray[Any]]:
    for value in values:
        if isinstance(value, np.ndarray):
            yield value if value.base is None else value.base
        elif isinstance(value, list | tuple):
            yield from _arrays(value)
        elif isinstance(value, dict):
            yield from _arrays(value.values())
