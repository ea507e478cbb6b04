"""What this machine and this installation have to compute with."""

from __future__ import annotations

import os
import platform
import time
from dataclasses import dataclass
from importlib import import_module, metadata
from pathlib import Path

import torch

from mlcalc.memory import available_memory, memory_limit

__all__ = ["Backend", "Machine", "backends", "gemm_rate", "machine"]

_BACKENDS = (  # distribution, module, what it is for
    ("torch", "torch", "all networks; required"),
    ("numba", "numba", "fused kernels on the CPU, several times faster than torch's operations"),
    ("matscipy", "matscipy", "neighbor lists; required"),
    ("vesin", "vesin", "neighbor_backend='vesin', faster neighbor lists"),
    ("torch-cluster", "torch_cluster", "neighbor_backend='torch-cluster', for molecules"),
    ("triton", "triton", "fused kernels on GPUs"),
)


@dataclass(frozen=True)
class Backend:
    """A package that computes."""

    name: str
    version: str | None  # None: not installed, or it does not load
    brings: str
    problem: str = ""  # why it does not load


@dataclass(frozen=True)
class Machine:
    """Processors and memory."""

    processor: str
    cores: int  # that this process may use
    threads: int  # of torch
    memory_GiB: float  # noqa: N815 - a unit
    available_GiB: float  # noqa: N815
    limit_GiB: float | None  # noqa: N815 - of the control group
    gpus: tuple[str, ...]
    python: str
    cuda: str | None  # of torch; None: a build without


def machine() -> Machine:
    """This machine."""
    limit = memory_limit()
    return Machine(
        processor=_processor(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        memory_GiB=_total() / 2**30,
        available_GiB=available_memory(torch.device("cpu")) / 2**30,
        limit_GiB=None if limit is None else limit / 2**30,
        gpus=_gpus(),
        python=platform.python_version(),
        cuda=torch.version.cuda,
    )


def backends() -> tuple[Backend, ...]:
    """The packages that compute, installed or not."""
    return tuple(_backend(*entry) for entry in _BACKENDS)


def gemm_rate(dtype: torch.dtype, device: torch.device, *, size: int = 1024) -> float:
    """Rate of a matrix product of so many rows and columns, GFLOP/s, the best of several."""
    a, b = torch.ones(size, size, dtype=dtype, device=device), torch.ones(size, size, dtype=dtype, device=device)
    seconds = min(_seconds(a, b) for _ in range(5))
    return 2e-9 * size**3 / seconds


def _seconds(a: torch.Tensor, b: torch.Tensor) -> float:
    start = time.perf_counter()
    float((a @ b)[0, 0])  # waits for a GPU
    return time.perf_counter() - start


def _backend(distribution: str, module: str, brings: str) -> Backend:
    try:
        version = metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return Backend(distribution, None, brings, "not installed")
    try:
        import_module(module)
    except Exception as error:  # a broken binary raises whatever it likes
        return Backend(distribution, None, brings, f"{version} does not load: {error}")
    return Backend(distribution, version, brings)


def _gpus() -> tuple[str, ...]:
    if not torch.cuda.is_available():
        return ()
    found = [torch.cuda.get_device_properties(k) for k in range(torch.cuda.device_count())]
    return tuple(f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GiB" for gpu in found)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def _total() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # not Unix
        return 0
