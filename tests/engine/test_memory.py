"""Large structures in pieces, memory estimates, and what is said where nothing fits."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from potentials import Morse
from small_networks import random_network
from structures import graph_of

from mlcalc.engine.engine import Engine
from mlcalc.engine.pieces import evaluate_pieces, receptive_layers, split_graph
from mlcalc.errors import OutOfMemoryError
from mlcalc.memory import available_memory, largest_system
from mlcalc.models import Graph, Prediction, predict

CPU = torch.device("cpu")
COMMON = {"cutoff": 3.2, "hidden_channels": 8, "num_layers": 2, "elements": ("Cu", "Au"), "energy_shift": (-3.7, -2.0)}
LOCAL = {
    "hvnet": ("hvnet", {}),
    "hvnet painn": ("hvnet", {"sub_network": "painn"}),
    "hpnet": ("hpnet", {}),
    "htnet": ("htnet", {"num_layers": 1}),
    "visnet": ("visnet", {"lmax": 2, "num_heads": 2}),
    "visnet node": ("visnet", {"lmax": 1, "num_heads": 2, "vertex_type": "node"}),
    "visnet original": ("visnet", {"lmax": 1, "num_heads": 2, "variant": "original", "structure_shift": 11.0}),
}


def network(name: str):
    kind, settings = LOCAL[name]
    return random_network(kind, COMMON | settings)


def bar(length: int = 16) -> Atoms:
    """A periodic alloy, long along one skewed vector, so that pieces of it are smaller than the whole."""
    atoms = bulk("Cu", cubic=True) * (1, 1, length)
    atoms.symbols = list(islice(cycle(["Cu", "Cu", "Au"]), len(atoms)))
    atoms.set_cell(atoms.cell.array @ [[1, 0, 0], [0.1, 1, 0], [0.2, 0.1, 1.02]], scale_atoms=True)
    atoms.rattle(0.05, seed=4)
    atoms.positions += 3.0  # partly outside the cell
    return atoms


def in_edges(atoms: int, edges: int) -> int:
    return edges


def difference(one: Prediction, other: Prediction) -> float:
    fields = ("energy", "energies", "forces", "stress")
    return max(float((getattr(one, name) - getattr(other, name)).abs().max()) for name in fields)


@pytest.mark.parametrize("name", LOCAL)
def test_pieces_give_the_numbers_of_the_whole(name: str) -> None:
    model, graph = network(name), graph_of(bar(), COMMON["cutoff"])
    whole = predict(model, graph, stress=True)
    layers = receptive_layers(model)
    pieces = split_graph(graph, layers, in_edges, 0.7 * graph.edges.shape[1])
    assert len(pieces) > 1
    assert all(piece.graph.edges.shape[1] < 0.7 * graph.edges.shape[1] for piece in pieces)
    assert sum(int(piece.central.sum()) for piece in pieces) == len(graph.numbers)
    together = evaluate_pieces(model, graph, pieces, CPU, forces=True, stress=True)
    assert difference(together, whole) < 1e-10
    # the twin: a layer less, and what lies beyond acts on nothing
    short = split_graph(graph, layers - 1, in_edges, 0.7 * graph.edges.shape[1])
    assert difference(evaluate_pieces(model, graph, short, CPU, forces=True, stress=True), whole) > 1e-6


@pytest.mark.parametrize("name", LOCAL)
def test_the_layers_are_those_through_which_an_energy_depends_on_atoms(name: str) -> None:
    """On a chain in which atoms see the next ones only, the farthest atom that acts on the first counts the layers."""
    model, n = network(name), 12
    k = np.arange(n)
    positions = np.stack([1.6 * k, 0.7 * np.cos(2.1 * k), 0.7 * np.sin(1.7 * k)], axis=1)
    pairs = [(i, j) for i in range(n) for j in (i - 1, i + 1) if 0 <= j < n]
    chain = Graph(
        numbers=torch.tensor([29, 79, 29] * 4),
        positions=torch.tensor(positions, requires_grad=True),
        cell=torch.zeros(1, 3, 3, dtype=torch.float64),
        edges=torch.tensor(pairs).T,
        shifts=torch.zeros(len(pairs), 3),
        batch=torch.zeros(n, dtype=torch.int64),
    )
    (gradient,) = torch.autograd.grad(model(chain)[0], chain.positions)
    assert int(gradient.abs().sum(dim=1).nonzero().max()) == receptive_layers(model)


def test_networks_that_see_the_whole_structure_are_not_cut() -> None:
    assert "whole structure" in receptive_layers(random_network("hvnet", COMMON | {"variant": "dgl"}))
    assert "which elements" in receptive_layers(random_network("hvnet", COMMON | {"variant": "pyg"}))
    assert "receptive_layers" in receptive_layers(Morse())


class Hungry(torch.nn.Module):
    """Morse pairs that cannot have more than so many edges at once."""

    has_atomic_energies, cutoff, elements = True, 4.0, ("Cu", "Au")

    def __init__(self, allowed: int, receptive_layers: int = 1) -> None:
        super().__init__()
        self.allowed, self.receptive_layers = allowed, receptive_layers

    def forward(self, graph: Graph) -> torch.Tensor:
        if graph.edges.shape[1] > self.allowed:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 byte")
        return Morse()(graph)


@dataclass(frozen=True, eq=False)
class HungryMorse(Morse):
    """The same, not a module, of which no estimate can be made."""

    receptive_layers: int = 1

    def __call__(self, graph: Graph) -> torch.Tensor:
        return Hungry(300)(graph)


@pytest.mark.parametrize("model", [Hungry(300), HungryMorse()], ids=["estimated", "unknown"])
def test_what_runs_out_of_memory_is_computed_in_pieces(model) -> None:
    graph = graph_of(bar(), 4.0)
    whole = Engine(Morse()).evaluate(graph, forces=True, stress=True)
    pieces = Engine(model).evaluate(graph, forces=True, stress=True)
    assert difference(pieces, whole) < 1e-10


def test_what_fits_in_no_way_is_told_with_the_sizes() -> None:
    graph = graph_of(bar(), 4.0)
    sizes = f"{len(graph.numbers)} atoms with {graph.edges.shape[1]} edges"
    with pytest.raises(
        OutOfMemoryError, match=rf"{sizes} do not fit.*need about .*GiB.*available.*about \d+ atoms.*12 Å far"
    ):
        Engine(Hungry(60, receptive_layers=3)).evaluate(graph, forces=True, stress=False)
    with pytest.raises(OutOfMemoryError, match=r"cannot be computed in pieces: there are several structures"):
        Engine(Hungry(60)).evaluate(graph_of([bar(), bar()], 4.0), forces=True, stress=False)


def test_the_estimate_grows_like_what_autograd_keeps() -> None:
    """Against an independent count: the peak of torch's allocations, which a profiler reports."""
    model = random_network("visnet", COMMON | {"hidden_channels": 32, "num_heads": 2, "num_layers": 3})
    path = Engine(model, kernels="torch")._path
    for length in (4, 16):
        graph = graph_of(bar(length), COMMON["cutoff"])
        with torch.profiler.profile(profile_memory=True, activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            predict(model, graph, stress=True)
        level = np.cumsum(_allocations(profile))
        ratio = path.memory(len(graph.numbers), graph.edges.shape[1]) / level.max()
        assert 0.9 < ratio < 2.0


def _allocations(profile: torch.profiler.profile) -> list[int]:
    """Bytes allocated (positive) and freed, in order."""
    raw = profile.profiler.kineto_results.events()
    return [event.nbytes() for event in sorted(raw, key=lambda event: event.start_ns()) if event.name() == "[memory]"]


def test_the_largest_system_is_where_the_estimate_meets_the_memory() -> None:
    largest = largest_system(lambda atoms, edges: 1000 * atoms + 100 * edges, 20.0, 3e9)
    assert largest == pytest.approx(1_000_000, rel=0.01)
    assert largest_system(lambda atoms, edges: 0, 20.0, 3e9) == 0


def test_limits_of_control_groups_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit, used = tmp_path / "memory.max", tmp_path / "memory.current"
    monkeypatch.setattr("mlcalc.memory.CONTROL_GROUPS", ((limit, used),))
    free = available_memory(CPU)
    limit.write_text("max\n")
    used.write_text("1000\n")
    assert available_memory(CPU) > 10 * 2**20
    limit.write_text("5000\n")
    assert available_memory(CPU) < free / 10  # 4000 bytes, and what the allocator has kept


_LIMITED = """
import resource, sys
sys.path[:0] = {paths!r}
from test_memory import LIMITED, bar, in_edges
from mlcalc.engine.engine import Engine
from small_networks import random_network
from structures import graph_of
engine = Engine(random_network("visnet", LIMITED), kernels="torch", dtype="float32")
graph = graph_of(bar(300), LIMITED["cutoff"])
engine.evaluate(graph_of(bar(3), LIMITED["cutoff"]), forces=True, stress=True)
need = engine._path.memory(len(graph.numbers), graph.edges.shape[1])
pages = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (pages + need // 2, pages + need // 2))
try:
    engine._path.evaluate(graph, forces=True, stress=True)
    print("the whole fits")
except (RuntimeError, MemoryError) as error:
    print("the whole does not fit")
print(f"{{float(engine.evaluate(graph, forces=True, stress=True).energy[0]):.4f}}")
"""
LIMITED = COMMON | {"hidden_channels": 128, "num_heads": 4, "num_layers": 1, "cutoff": 3.6}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of addresses are Linux's")
def test_a_process_with_little_memory_gets_the_numbers_of_the_whole() -> None:
    program = _LIMITED.format(paths=[str(Path(__file__).parent), str(Path(__file__).parents[1] / "helpers")])
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert told.splitlines()[0] == "the whole does not fit"
    engine = Engine(random_network("visnet", LIMITED), kernels="torch", dtype="float32")
    whole = engine.evaluate(graph_of(bar(300), LIMITED["cutoff"]), forces=False, stress=False)
    assert float(told.splitlines()[1]) == pytest.approx(float(whole.energy[0]), abs=1e-3)
