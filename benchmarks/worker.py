"""The process of one case: reads a Case from standard input, then measures one call per line it is sent."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import math
import os
import resource
import sys
import time
import traceback
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from ase import Atoms
from ase.io import iread

from benchmarks.calls import Call, Peer, neighborhood
from benchmarks.cases import ABSENT, FAILED, FITS, TOO_LARGE, Case

_SHORTEST_SAMPLE = 0.2  # s; faster calls are repeated within a sample


def main() -> None:
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print must not mix with the answers
    case = Case(**json.loads(sys.stdin.readline()))
    if case.device == "cpu":  # a GPU has its own memory, and its driver maps a lot of the computer's
        limit = int(case.memory_gib * 2**30)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    try:
        call = _first_calls(case, channel)
        _repeat(call, channel)
    except Exception as error:
        traceback.print_exc()
        status = _status(error)
        reason = f"needs more than {case.memory_gib:.1f} GiB" if status == TOO_LARGE else f"{error}"
        _tell(channel, status=status, reason=reason.strip().splitlines()[0][:300] if reason else type(error).__name__)


def _first_calls(case: Case, channel: TextIO) -> Call:
    """The call on the whole system, after it ran once: results stored, memory measured."""
    structures = list(iread(case.structures))
    peer = _load(case, structures)
    start = time.perf_counter()
    small = peer.prepare([neighborhood(structures[0], 4)])[0]
    small()
    first_call_s = time.perf_counter() - start
    del small
    call, edges = peer.prepare(structures)
    before = _reset_peak(case.device)
    energies, forces = call()
    peak = max(0, _peak(case.device) - before)
    if case.results:
        np.savez(case.results, energies=energies, forces=forces)
    _tell(
        channel,
        status=FITS,
        path=peer.path,
        atoms=sum(map(len, structures)),
        edges=edges,
        first_call_s=first_call_s,
        peak_bytes=peak,
        held_bytes=_memory("VmRSS"),
    )
    return call


def _load(case: Case, structures: list[Atoms]) -> Peer:
    if case.peer == "mlip":
        from benchmarks.jax_visnet import JaxViSNet

        return JaxViSNet(case, structures)
    from benchmarks.peers import torch_peer

    return torch_peer(case, structures)


def _repeat(call: Call, channel: TextIO) -> None:
    number = 0
    for line in sys.stdin:
        if line.strip() != "call":
            return
        if not number:  # the second call of all: the first one paid for fresh memory
            number = max(1, math.ceil(_SHORTEST_SAMPLE / max(_sample(call, 1)[0], 1e-6)))
        wall, cpu = _sample(call, number)
        _tell(channel, wall_s=wall, cpu_s=cpu, number=number)


def _sample(call: Call, number: int) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(number):
        call()
    return (time.perf_counter() - wall) / number, (time.process_time() - cpu) / number


def _reset_peak(device: str) -> int:
    """Memory of the process now, bytes, from which on the peak is counted."""
    gc.collect()
    if device != "cpu":
        import torch

        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    with contextlib.suppress(AttributeError, OSError):  # elsewhere than in glibc
        ctypes.CDLL(None).malloc_trim(0)  # or what the small call left behind would be used again, and not be counted
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return _memory("VmRSS")


def _peak(device: str) -> int:
    if device != "cpu":
        import torch

        return torch.cuda.max_memory_allocated()
    return _memory("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _memory(name: str) -> int:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(name)), 0)


def _status(error: Exception) -> str:
    text = f"{type(error).__name__} {error}"
    signs = ("allocate memory", "bad_alloc", "RESOURCE_EXHAUSTED", "Out of memory", "OutOfMemory")
    if isinstance(error, MemoryError) or any(sign in text for sign in signs):
        return TOO_LARGE
    return ABSENT if isinstance(error, ModuleNotFoundError) else FAILED


def _tell(channel: TextIO, **values: Any) -> None:
    channel.write(json.dumps(values) + "\n")


if __name__ == "__main__":
    main()
