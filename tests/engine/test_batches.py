"""Batches change speed and nothing else: results, order, errors; and lists of neighbors serve more than once."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, fcc111
from potentials import ManyBody
from small_networks import random_network

from mlcalc import evaluate
from mlcalc.engine.batches import Batches, edges_per_batch
from mlcalc.engine.engine import Engine
from mlcalc.errors import OutOfMemoryError
from mlcalc.models import Graph

SETTINGS = {"elements": ("Cu", "Au"), "cutoff": 4.0, "hidden_channels": 16, "num_layers": 2, "energy_shift": (-3.7, -2)}
NETWORKS = {
    "hvnet": random_network("hvnet", SETTINGS),
    "visnet": random_network("visnet", SETTINGS | {"num_heads": 2, "neighbor_norm": 6.0}),
}


def displaced(count: int, atoms: Atoms, scale: float = 0.03) -> list[Atoms]:
    frames = [atoms.copy() for _ in range(count)]
    for seed, frame in enumerate(frames):
        frame.rattle(scale, seed=seed)
    return frames


def mixture() -> list[Atoms]:
    """Structures of several sizes, cells and elements, in no order."""
    alloy = bulk("Cu", cubic=True)
    alloy.symbols[1] = "Au"
    kinds = [
        bulk("Cu", cubic=True) * 2,
        alloy,
        fcc111("Cu", (2, 2, 2), vacuum=8.0),
        Atoms("CuAu", [[0] * 3, [0, 1, 2.3]]),
    ]
    frames = [frame for kind in kinds for frame in displaced(4, kind)]
    return [frames[k] for k in np.random.default_rng(3).permutation(len(frames))] + [Atoms("Au")]


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("kernels", ["auto", "torch"])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-10), ("float32", 1e-6)])
def test_batches_give_the_numbers_of_single_structures_in_order(
    name: str, kernels: str, dtype: str, tolerance: float
) -> None:
    structures = mixture()
    settings = {"dtype": dtype, "kernels": kernels}
    singles = evaluate(NETWORKS[name], structures, edges_per_batch=1, **settings)
    for edges in (None, 500, 10**6):
        together = evaluate(NETWORKS[name], structures, edges_per_batch=edges, **settings)
        for atoms, batched, single in zip(structures, together, singles, strict=True):
            size = max(1.0, np.abs(single.forces).max(), abs(single.energy) / len(atoms))
            assert batched.energy == pytest.approx(single.energy, abs=tolerance * size * len(atoms))
            np.testing.assert_allclose(batched.forces, single.forces, atol=tolerance * size)
            assert batched.energies.sum() == pytest.approx(batched.energy, abs=1e-9 * size)
    first = evaluate(NETWORKS[name], structures[:1], **settings)[0]
    assert singles[0].energy == pytest.approx(first.energy, abs=tolerance * len(structures[0]))


def test_lists_serve_all_that_differ_by_small_displacements() -> None:
    batches = Batches(Engine(ManyBody(("Cu", "Au"))), None, "matscipy", 0.3, 10**6)
    near, far = displaced(12, bulk("Cu", cubic=True) * 2), displaced(12, bulk("Cu", cubic=True) * 3, scale=0.4)
    searches = {}
    for index, series in batches._sorted([*far, *near]):
        series.graph([*far, *near][index])
        searches[len(far[0]) if index < 12 else len(near[0])] = series.neighbors
    assert searches[len(near[0])].rebuilds == 1
    assert searches[len(far[0])].skin == 0.0  # given up


class Counting(ManyBody):
    """Remembers the sizes of its calls and has memory for so many structures at once."""

    def __init__(self, structures: int) -> None:
        super().__init__(("Cu", "Au"))
        object.__setattr__(self, "allowed", structures)
        object.__setattr__(self, "sizes", [])

    def __call__(self, graph: Graph) -> torch.Tensor:
        self.sizes.append(graph.n_structures)
        if graph.n_structures > self.allowed:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 byte")
        return super().__call__(graph)


def test_batches_that_do_not_fit_are_halved() -> None:
    structures = displaced(8, bulk("Cu", cubic=True))
    expected = [result.energy for result in evaluate(ManyBody(("Cu", "Au")), structures)]
    model = Counting(2)
    found = evaluate(model, structures, edges_per_batch=10**6)
    assert [result.energy for result in found] == pytest.approx(expected, abs=1e-10)
    assert model.sizes == [8, 4, 2, 2, 4, 2, 2]
    with pytest.raises(OutOfMemoryError, match=r"structure 0: 4 atoms with"):
        evaluate(Counting(0), structures)


def test_the_size_of_batches_follows_the_path() -> None:
    small = Engine(NETWORKS["hvnet"], kernels="torch")
    large = Engine(random_network("hvnet", SETTINGS | {"hidden_channels": 128}), kernels="torch")
    assert 1 <= edges_per_batch(large) < edges_per_batch(small) <= 20_000
    kept = large.memory(edges_per_batch(large) // 20, edges_per_batch(large))
    assert kept == pytest.approx(2**27, rel=0.05)
