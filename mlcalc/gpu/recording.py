"""Work recorded once as a CUDA graph and replayed; on the CPU, where the same code is tested, simply done again."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

_Result = TypeVar("_Result")
_WARM_UP = 3  # runs before the capture: libraries choose and load their kernels, and compiled regions compile


class Recorder:
    """Records functions that read and write tensors at fixed places, for one device."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        # one pool for all: replays never overlap, and what they leave is copied before the next one
        self._pool = torch.cuda.graph_pool_handle() if device.type == "cuda" else None

    def record(self, work: Callable[[], _Result]) -> Callable[[], _Result]:
        """A function that does the work again and returns the same tensors, with new numbers in them.

        Raises whatever the capture raises: RuntimeError where the work looks at a number.
        """
        if self._device.type != "cuda":
            return work
        with torch.cuda.device(self._device):
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(_WARM_UP):
                    work()
            torch.cuda.current_stream().wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
                results = work()

        def replay() -> _Result:
            with torch.cuda.device(self._device):
                graph.replay()
            return results

        return replay
