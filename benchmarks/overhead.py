"""What one MD step costs beside the network: the calculator's own Python, and neighbor lists.

A process of its own: `python -m benchmarks.overhead` reads JSON from standard input.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from statistics import median
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.io import iread
from numpy.typing import NDArray
from torch import Tensor

from examples.aspirin_environments import ASPIRIN
from mlcalc import MLCalculator
from mlcalc.graphs.graphs import atoms_to_graph
from mlcalc.graphs.neighbors import NeighborList, neighbor_pairs
from mlcalc.graphs.validation import resolve_cell
from mlcalc.models import Graph

_BLOCK = 50  # steps per sample
_THERMAL = 0.005  # Å rms that a coordinate moves in a step


@dataclass(frozen=True)
class Overhead:
    """CPU microseconds per force call on a molecule of 21 atoms that moves between calls; medians over blocks."""

    calculator_us: float  # MLCalculator with a network that computes nothing
    network_us: float  # its engine, on the same graphs
    own_us: float  # the difference
    own_fastest_us: float  # the difference of the fastest blocks
    ase_us: float  # an ASE calculator that computes nothing


@dataclass(frozen=True)
class ListTimes:
    """CPU milliseconds per full neighbor list of a system, fastest of a few."""

    system: str
    atoms: int
    edges: int
    search_ms: dict[str, float]  # by backend
    reuse_ms: float  # within the skin of 1 Å
    rebuild_ms: float  # of a list with that skin


class Nothing:
    """A potential of zero, which still reads positions and edges."""

    cutoff = 5.0

    def __call__(self, graph: Graph) -> Tensor:
        return graph.positions.sum(1) * 0.0


class NullCalculator(Calculator):
    """What ASE's base class costs."""

    implemented_properties = ["energy", "forces"]  # noqa: RUF012 - as in ASE

    def calculate(
        self, atoms: Atoms | None = None, properties: Sequence[str] = ("energy",), system_changes: Any = all_changes
    ) -> None:
        super().calculate(atoms, properties, system_changes)  # type: ignore[no-untyped-call]
        self.results = {"energy": 0.0, "forces": np.zeros((21, 3))}


def overhead(*, blocks: int = 40) -> Overhead:
    """Costs of the calculator along an imitated trajectory: atoms shake about their places, as a solid's do."""
    rng = np.random.default_rng(0)
    frames = ASPIRIN.positions + np.cumsum(rng.normal(scale=_THERMAL, size=(blocks * _BLOCK, 21, 3)), axis=0) / 4
    ours, null = MLCalculator(Nothing()), NullCalculator()  # type: ignore[no-untyped-call]
    graphs = [atoms_to_graph(Atoms(ASPIRIN.numbers, positions=x), Nothing.cutoff) for x in frames]
    engine = ours.engine
    steps: dict[str, Callable[[int], object]] = {
        "calculator": _force_call(ours, frames),
        "network": lambda k: engine.evaluate(graphs[k], forces=True, stress=False),
        "ase": _force_call(null, frames),
    }
    samples: dict[str, list[float]] = {name: [] for name in steps}
    for block in range(blocks):
        for name, step in steps.items():  # in turns
            start = time.process_time()
            for k in range(block * _BLOCK, (block + 1) * _BLOCK):
                step(k)
            samples[name].append((time.process_time() - start) / _BLOCK * 1e6)
    own = [a - b for a, b in zip(samples["calculator"], samples["network"], strict=True)]
    fastest = min(samples["calculator"]) - min(samples["network"])
    return Overhead(
        calculator_us=median(samples["calculator"]),
        network_us=median(samples["network"]),
        own_us=median(own),
        own_fastest_us=fastest,
        ase_us=median(samples["ase"]),
    )


def _force_call(calculator: Calculator, frames: NDArray[np.float64]) -> Callable[[int], object]:
    atoms = ASPIRIN.copy()
    atoms.calc = calculator

    def step(k: int) -> None:
        atoms.positions[:] = frames[k]
        atoms.get_forces()

    return step


def list_times(name: str, atoms: Atoms, *, cutoff: float = 5.0) -> ListTimes:
    """Neighbor lists of a structure: searched anew, and taken from the candidates within the skin."""
    cell, pbc = resolve_cell(atoms)
    x = atoms.positions
    search = {
        backend: _fastest(partial(neighbor_pairs, x, cell, pbc, cutoff, backend=backend))
        for backend in ("matscipy", "vesin")
        if importlib.util.find_spec(backend) is not None
    }
    near = NeighborList(cutoff, skin=1.0)
    edges = len(near.pairs(x, cell, pbc).i)
    rng = np.random.default_rng(0)
    near_by = itertools.cycle([x + rng.normal(scale=_THERMAL, size=x.shape) for _ in range(4)])  # no two alike
    reuse = _fastest(lambda: near.pairs(next(near_by), cell, pbc))
    rebuild = _fastest(lambda: NeighborList(cutoff, skin=1.0).pairs(x, cell, pbc))
    return ListTimes(name, len(atoms), edges, search, reuse, rebuild)


def _fastest(act: Callable[[], object], trials: int = 5) -> float:
    act()
    times = []
    for _ in range(trials):
        start = time.process_time()
        act()
        times.append((time.process_time() - start) * 1e3)
    return min(times)


def main() -> None:
    """Answer {"threads": n, "structures": {name: path}} with {"overhead": ..., "lists": [...]}."""
    asked = json.loads(sys.stdin.read())
    torch.set_num_threads(asked["threads"])
    lists = [asdict(list_times(name, next(iter(iread(path))))) for name, path in asked["structures"].items()]
    print(json.dumps({"overhead": asdict(overhead()), "lists": lists}))


if __name__ == "__main__":
    main()
