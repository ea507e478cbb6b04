"""What the machine can do, and how long the bare minimum of a network takes on it.

A process of its own, like the cases: `python -m benchmarks.roofline` reads JSON from standard input.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from ase.io import iread

from benchmarks.cases import Case
from benchmarks.peers import built_model
from benchmarks.work import Product, Work, work
from mlcalc.graphs.graphs import atoms_to_graph

_COPIED = 2**28  # bytes; far beyond a second-level cache
_TRIALS = 12  # the fastest counts: on a busy machine few are undisturbed
# rows x inputs x outputs: edges of the 175-atom peptide, and atoms of 4000 Cu
SHAPES = {"edges, 256 channels": (5661, 256, 768), "edges, 128 channels": (5661, 128, 384), "atoms": (4000, 128, 384)}


@dataclass(frozen=True)
class Machine:
    """Measured with the number of threads of the cases."""

    name: str
    threads: int
    torch: str
    gemm_gflops: dict[str, dict[str, float]]  # dtype -> shape -> GFLOP/s
    copy_gb_s: float  # read plus written
    fresh_gb_s: float  # first write to memory just allocated: page faults


@dataclass(frozen=True)
class Floor:
    """The bare minimum of one case."""

    system: str
    network: str
    dtype: str
    flops: int  # of all products
    floor_flops: int  # without what can be tabulated
    products_s: float  # these products alone, one after the other
    gathered_bytes: int
    gather_s: float  # reading as many rows by index, from a table of so many atoms

    @property
    def seconds(self) -> float:
        """Products and gathering overlapped perfectly."""
        return max(self.products_s, self.gather_s)


def machine(threads: int, device: str = "cpu") -> Machine:
    """The limits of this machine."""
    torch.set_num_threads(threads)
    rates = {
        dtype: {
            shape: 2 * m * k * n / time_product(Product(m, k, n, backward=False), getattr(torch, dtype), device) / 1e9
            for shape, (m, k, n) in SHAPES.items()
        }
        for dtype in ("float32", "float64")
    }
    source = torch.ones(_COPIED // 4, device=device)
    target = torch.ones(_COPIED // 4, device=device)
    copied = 2 * _COPIED / _shortest(lambda: target.copy_(source)) / 1e9
    fresh = _COPIED / _shortest(lambda: torch.ones(_COPIED // 4, device=device)) / 1e9
    return Machine(_processor(device), threads, torch.__version__, rates, copied, fresh)


def floor(case: Case, needed: Work, atoms: int, channels: int) -> Floor:
    """The floor of a case, each kind of product timed by itself."""
    torch.set_num_threads(case.threads)
    dtype = getattr(torch, case.dtype)
    times: dict[Product, float] = {}
    for product in needed.floor_products:
        if product not in times:
            times[product] = time_product(product, dtype, case.device)
    row_bytes = channels * dtype.itemsize
    rate = _gather_rate(atoms, channels, dtype, case.device)
    return Floor(
        system=case.system,
        network=case.network,
        dtype=case.dtype,
        flops=needed.flops,
        floor_flops=needed.floor_flops,
        products_s=sum(times[product] for product in needed.floor_products),
        gathered_bytes=needed.gathered_rows * row_bytes,
        gather_s=needed.gathered_rows * row_bytes / rate,
    )


def time_product(product: Product, dtype: torch.dtype, device: str = "cpu") -> float:
    """Seconds of the product, and of that for its input's gradient; fastest of a few."""
    x = torch.rand(product.rows, product.inputs, dtype=dtype, device=device)
    weight = torch.rand(product.outputs, product.inputs, dtype=dtype, device=device)
    y = torch.rand(product.rows, product.outputs, dtype=dtype, device=device)
    seconds = _shortest(lambda: torch.mm(x, weight.T, out=y))
    return seconds + (_shortest(lambda: torch.mm(y, weight, out=x)) if product.backward else 0.0)


def _gather_rate(atoms: int, channels: int, dtype: torch.dtype, device: str) -> float:
    """Bytes per second, read by index from rows of neighboring atoms (4 x channels numbers each) and written."""
    table = torch.rand(atoms, 4 * channels, dtype=dtype, device=device)
    taken = max(2048, min(16384, 16 * atoms))
    index = ((torch.arange(taken) // 16 + torch.randint(-64, 64, (taken,))) % atoms).to(device)
    rows = torch.empty(taken, 4 * channels, dtype=dtype, device=device)
    return 2 * rows.nbytes / _shortest(lambda: torch.index_select(table, 0, index, out=rows))


def _shortest(act: Callable[[], object]) -> float:
    act()
    times = []
    for _ in range(_TRIALS):
        _wait()
        start = time.perf_counter()
        act()
        _wait()
        times.append(time.perf_counter() - start)
    return min(times)


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _processor(device: str) -> str:
    if device != "cpu":
        return torch.cuda.get_device_name()
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    return f"{model}, {os.cpu_count()} cores, {platform.system()}"


def main() -> None:
    """Answer {"threads": n, "device": name, "cases": [...]} with {"machine": ..., "floors": [...]}."""
    asked: dict[str, Any] = json.loads(sys.stdin.read())
    floors = []
    for values in asked["cases"]:
        case = Case(**values)
        structures = list(iread(case.structures))
        network = built_model(case, structures).network
        edges = sum(atoms_to_graph(atoms, network.cutoff).edges.shape[1] for atoms in structures)
        atoms = sum(map(len, structures))
        floors.append(asdict(floor(case, work(network, atoms, edges), atoms, network.config.hidden_channels)))
    print(json.dumps({"machine": asdict(machine(asked["threads"], asked["device"])), "floors": floors}))


if __name__ == "__main__":
    main()
