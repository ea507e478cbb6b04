"""Shares of the work for several threads, none of which spins while it waits."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from mlcalc.kernels.blas import limit_threads

_pools: dict[int, ThreadPoolExecutor] = {}
os.register_at_fork(after_in_child=_pools.clear)  # threads do not survive a fork


def run_shares(task: Callable[[int], object], shares: int) -> None:
    """Run task(0) ... task(shares - 1) at the same time, one of them in this thread; the first error is raised."""
    pending: list[Future[None]] = []
    own = [0]
    for share in range(1, shares):
        try:
            pending.append(_pool(shares - 1).submit(_alone, task, share))
        except RuntimeError:  # the interpreter is ending, and starts no more threads
            own.append(share)
    try:
        for share in own:
            _alone(task, share)
    finally:
        for future in pending:
            future.exception()  # nobody may still write when the caller goes on
    for future in pending:
        future.result()


def _pool(threads: int) -> ThreadPoolExecutor:
    pool = _pools.get(threads)
    if pool is None:
        pool = _pools[threads] = ThreadPoolExecutor(threads, thread_name_prefix="mlcalc")
    return pool


def _alone(task: Callable[[int], object], share: int) -> None:
    before = limit_threads(1)  # the matrix products of a share run in its own thread
    try:
        task(share)
    finally:
        limit_threads(before)


def even_shares(first_edges: NDArray[np.int64], shares: int) -> NDArray[np.int64]:
    """Bounds (shares + 1,) of ranges of atoms with about as many edges each, from each atom's first edge (N + 1,)."""
    atoms = len(first_edges) - 1
    work = first_edges + np.arange(atoms + 1)  # atoms cost something as well
    wanted = work[-1] * np.arange(1, shares) / shares
    inner: Sequence[int] = np.searchsorted(work, wanted).tolist()
    return np.array([0, *inner, atoms], dtype=np.int64)
