"""The numbers of a request and its answers where i-PI keeps them in shared memory (its mode "shm")."""

from __future__ import annotations

from collections.abc import Sequence
from multiprocessing import resource_tracker, shared_memory
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from ..errors import WireError
from ..responder import Answer
from .messages import SEGMENTS

Array = NDArray[np.float64]


class SharedNumbers:
    """Views on the server's segments, which stay the server's to remove; WireError where they are missing or small."""

    def __init__(self, names: Sequence[str], batch_size: int, natoms: int) -> None:
        shapes = {
            "pos": (batch_size, natoms, 3),
            "h": (batch_size, 3, 3),
            "ih": (batch_size, 3, 3),
            "pot": (batch_size,),
            "force": (batch_size, natoms, 3),
            "vir": (batch_size, 3, 3),
        }
        self._segments: list[shared_memory.SharedMemory] = []
        self._views: dict[str, Array] = {}
        for kind, name in zip(SEGMENTS, names, strict=True):
            segment = self._attached(name)
            need = 8 * int(np.prod(shapes[kind]))
            if segment.size < need:
                self.close()
                raise WireError(f"the server's shared memory {name} has {segment.size} bytes, {need} are needed")
            self._views[kind] = np.ndarray(shapes[kind], np.float64, buffer=segment.buf)

    def __enter__(self) -> SharedNumbers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def read(self) -> tuple[Array, Array]:
        """Cells and positions, copied."""
        return self._views["h"].copy(), self._views["pos"].copy()

    def write(self, answers: Sequence[Answer]) -> None:
        """Put the numbers there; the strings go through the socket."""
        for k, answer in enumerate(answers):
            self._views["pot"][k] = answer.energy
            self._views["force"][k] = answer.forces
            self._views["vir"][k] = answer.virial

    def close(self) -> None:
        """Let go of the memory."""
        self._views.clear()
        while self._segments:
            self._segments.pop().close()

    def _attached(self, name: str) -> shared_memory.SharedMemory:
        try:
            segment = shared_memory.SharedMemory(name=name)
        except (OSError, ValueError) as error:  # ValueError: without any byte
            self.close()
            raise WireError(
                f"the server's shared memory {name} cannot be opened ({error})",
                remedies=["run client and server on one machine, as one user"],
            ) from None
        # Python would remove what another process owns when this one ends, before 3.13's track=False
        resource_tracker.unregister(segment._name, "shared_memory")  # type: ignore[attr-defined]
        self._segments.append(segment)
        return segment
