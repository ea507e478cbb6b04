"""How much memory an evaluation takes, and how much there is."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import nn

from mlcalc.models import Graph, Potential
from mlcalc.models.elements import atomic_number

__all__ = ["SavedBytes", "available_memory", "is_out_of_memory", "largest_system", "memory_limit"]

MEMORY_INFO, PROCESS_PAGES = Path("/proc/meminfo"), Path("/proc/self/statm")
CONTROL_GROUPS = (  # (limit, use) of versions 2 and 1; "max" or a huge number where there is no limit
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"), Path("/sys/fs/cgroup/memory/memory.usage_in_bytes")),
)
_SMALL = ((8, 24), (8, 56), (16, 56))  # atoms and edges of the structures that are measured, ...
_LARGE = ((600, 600), (600, 1200), (1200, 1200))  # ... and, networks computing large ones otherwise, of these if ...
_AFFORDABLE = 2**29  # ... they take no more than these bytes
_ALLOCATION = ("allocate memory", "not enough memory", "could not create a memory")
_BACKWARD = 1.6  # peak over what is kept: gradients and temporaries of the layer at hand, and the allocator's waste


class SavedBytes:
    """What autograd keeps of a call, as measured on three structures when first asked for."""

    def __init__(self, potential: Potential, device: torch.device) -> None:
        self._potential, self._device = potential, device
        self._lock = threading.Lock()
        self._coefficients: tuple[float, float, float] | None = None

    def peak(self, atoms: int, edges: int) -> int:
        """Peak bytes of energies and forces of so many atoms and edges; 0 where nothing is known."""
        if self._coefficients is None:
            with self._lock:
                self._coefficients = self._coefficients or self._measured()
        per_atom, per_edge, fixed = self._coefficients
        return int(_BACKWARD * (per_atom * atoms + per_edge * edges + fixed))

    def _measured(self) -> tuple[float, float, float]:
        if not isinstance(self._potential, nn.Module):  # it might count its calls, or write them down
            return 0.0, 0.0, 0.0
        found = 0.0, 0.0, 0.0
        # a network may refuse a structure for whatever reason: then nothing is known, or what the smaller ones told
        with suppress(Exception):
            found = self._fitted(_SMALL)
            atoms, edges = _LARGE[-1]
            if found[0] * atoms + found[1] * edges + found[2] < _AFFORDABLE:
                found = self._fitted(_LARGE)
        return found

    def _fitted(self, sizes: tuple[tuple[int, int], ...]) -> tuple[float, float, float]:
        """Bytes per atom, per edge and per call."""
        kept = [self._kept(_made_graph(self._potential, atoms, edges)) for atoms, edges in sizes]
        rows = [(atoms, edges, 1.0) for atoms, edges in sizes]
        per_atom, per_edge, fixed = np.linalg.solve(np.array(rows), np.array(kept, dtype=np.float64))
        return max(float(per_atom), 0.0), max(float(per_edge), 0.0), max(float(fixed), 0.0)

    def _kept(self, graph: Graph) -> int:
        """Bytes of all tensors kept for the backward pass, each storage once and the network's own not."""
        network = cast("nn.Module", self._potential)
        own = {tensor.untyped_storage().data_ptr() for tensor in (*network.parameters(), *network.buffers())}
        kept: dict[int, int] = {}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                kept[storage.data_ptr()] = storage.nbytes()
            return tensor.detach()  # an output that its own node keeps would be a cycle, which nothing ever frees

        there = graph.to(self._device)
        there.positions.requires_grad_(True)
        with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            energies = self._potential(there)
        total = sum(kept.values())
        del energies  # until here it keeps the storages from being given to others
        return total


def _made_graph(potential: Potential, atoms: int, edges: int) -> Graph:
    """A cluster of the model's elements with so many edges, both directions of each pair among them."""
    elements = getattr(potential, "elements", None) or ("H",)
    rng = np.random.default_rng(0)
    positions = np.arange(atoms)[:, None] * [0.1, 0.0, 0.0] + rng.uniform(0.0, 0.3, (atoms, 3))
    around = ((i, (i + step) % atoms) for step in range(1, atoms // 2) for i in range(atoms))
    pairs = list(islice(around, edges // 2))
    directed = sorted([*pairs, *[(j, i) for i, j in pairs]])
    return Graph(
        numbers=torch.tensor([atomic_number(elements[k % len(elements)]) for k in range(atoms)]),
        positions=torch.tensor(positions * potential.cutoff * 8 / atoms),
        cell=torch.zeros(1, 3, 3, dtype=torch.float64),
        edges=torch.tensor(directed, dtype=torch.int64).T.contiguous(),
        shifts=torch.zeros(len(directed), 3, dtype=torch.float64),
        batch=torch.zeros(atoms, dtype=torch.int64),
    )


def available_memory(device: torch.device) -> int:
    """Bytes that an evaluation may still take on the device: free memory, or less where a control group limits it."""
    if device.type == "cuda":
        free = int(torch.cuda.mem_get_info(device)[0])
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return free + int(cached)
    limits = [_free(), _addressable(), *(_left(limit, used) for limit, used in CONTROL_GROUPS)]
    return min((limit for limit in limits if limit is not None), default=2**62) + _reusable()


def memory_limit() -> int | None:
    """Bytes that the control group of this process allows it; None where that is no limit."""
    limits = [_number(limit) for limit, _ in CONTROL_GROUPS]
    return min((limit for limit in limits if limit is not None and limit < 2**60), default=None)


def largest_system(memory: Callable[[int, int], int], edges_per_atom: float, available: float) -> int:
    """How many atoms with so many edges each fit into the available bytes; 0 where their memory is not known."""
    if memory(1000, int(1000 * edges_per_atom)) <= 0:
        return 0
    low, high = 0, 2**34
    while high - low > max(1, low // 200):
        middle = (low + high) // 2
        low, high = (middle, high) if memory(middle, int(middle * edges_per_atom)) <= available else (low, middle)
    return low


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, on any device and in any library; torch has no class for it on a CPU."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _ALLOCATION)


def _free() -> int | None:
    """MemAvailable of the machine."""
    try:
        lines = MEMORY_INFO.read_text(encoding="ascii").splitlines()
    except OSError:  # not Linux
        return None
    found = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return 1024 * int(found[0]) if found else None


def _addressable() -> int | None:
    """What a limit on addresses (ulimit -v) still allows."""
    try:
        import resource

        limit, pages = resource.getrlimit(resource.RLIMIT_AS)[0], int(PROCESS_PAGES.read_text().split()[0])
    except (ImportError, OSError):  # not Linux
        return None
    return None if limit == resource.RLIM_INFINITY else max(limit - pages * resource.getpagesize(), 0)


class _Heap(ctypes.Structure):
    """The state of malloc, as glibc 2.33 and later tell it: struct mallinfo2."""

    _names = ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")
    _fields_ = tuple((name, ctypes.c_size_t) for name in _names)


def _reusable() -> int:
    """What this process has freed and the allocator has kept, so that nobody else sees it as free."""
    try:
        mallinfo2 = ctypes.CDLL(None).mallinfo2
    except (AttributeError, OSError, TypeError):  # another C library
        return 0
    mallinfo2.restype = _Heap
    return int(mallinfo2().fordblks)


def _left(limit: Path, used: Path) -> int | None:
    """What a control group still allows; None where it has no limit."""
    allowed, taken = _number(limit), _number(used)
    return None if allowed is None or taken is None else max(allowed - taken, 0)


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):  # no such group, or "max"
        return None
