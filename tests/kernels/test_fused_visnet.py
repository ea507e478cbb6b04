"""The fused ViSNet against automatic differentiation, over settings, structures, precisions and threads."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from structures import cluster, crystal, cubic, graph_of, linear, primitive, slab

from mlcalc.kernels import fused_path
from mlcalc.kernels.elementwise import exponential, sigmoid
from mlcalc.kernels.visnet import visnet
from mlcalc.kernels.visnet.visnet import FusedViSNet
from mlcalc.models import Graph, ModelError, Prediction, ViSNet, ViSNetConfig, predict

ELEMENTS = ("H", "C", "O")
SMALL: dict[str, Any] = {
    "elements": ELEMENTS,
    "cutoff": 4.0,
    "hidden_channels": 24,
    "num_layers": 3,
    "num_heads": 4,
    "num_rbf": 7,
    "energy_scale": 1.7,
    "energy_shift": (-13.6, -1029.5, -2041.3),
}
SETTINGS: list[dict[str, Any]] = [
    {"neighbor_norm": 3.0},
    {"lmax": 1, "neighbor_norm": 3.0, "num_heads": 1},
    {"vertex_type": "edge", "neighbor_norm": 3.0},
    {"vertex_type": "edge", "lmax": 1, "neighbor_norm": 3.0, "num_layers": 4},
    {"rbf_type": "gauss", "neighbor_norm": 3.0, "envelope_exponent": 7},
    {"trainable_rbf": True, "num_layers": 2, "neighbor_norm": 3.0},
    {"variant": "original", "activation": "swish"},
    {"variant": "original", "lmax": 1, "rbf_type": "gauss", "structure_shift": -40.0},
    {"variant": "original", "vertex_type": "edge", "reduce": "mean", "max_num_neighbors": 5, "num_layers": 2},
]


def network_of(settings: dict[str, Any], seed: int = 3) -> ViSNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = ViSNet(ViSNetConfig(**(SMALL | settings))).to(torch.float64).requires_grad_(False)
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network


def structures(*, symmetric: bool = True) -> list[Atoms]:
    """On sites of high symmetry vectors vanish, and forces of the original variant are those of rounding errors."""
    others = [cluster(ELEMENTS), crystal(ELEMENTS), slab(ELEMENTS), Atoms("O"), Atoms("CH", [[0, 0, 0], [0, 0, 9.0]])]
    return others + [primitive(ELEMENTS), cubic(ELEMENTS), linear(ELEMENTS)] * symmetric


def fused(network: ViSNet, dtype: torch.dtype = torch.float64) -> FusedViSNet:
    path = fused_path(copy.deepcopy(network), dtype)
    assert isinstance(path, FusedViSNet)
    return path


def differences(found: Prediction, expected: Prediction) -> dict[str, float]:
    """Largest differences; energies per size of the energies, whose sums are in the thousands of eV."""
    result = {}
    for name in ("energy", "energies", "forces", "stress"):
        a, b = getattr(found, name), getattr(expected, name)
        assert (a is None) == (b is None)
        if a is not None:
            assert a.dtype == torch.float64
            scale = float(b.abs().max()) if "energ" in name and b.numel() else 1.0
            result[name] = float((a - b).abs().max()) / max(scale, 1.0) if b.numel() else 0.0
    return result


@pytest.fixture
def two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Work enough for two threads, however small the structure."""
    monkeypatch.setattr(visnet, "_WORTH_A_THREAD", 1.0)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_equals_automatic_differentiation(settings: dict[str, Any]) -> None:
    network = network_of(settings)
    path = fused(network)
    largest = 0.0
    for atoms in structures(symmetric=network.smooth):
        stress = bool(atoms.pbc.all())
        graph = graph_of(atoms, network.cutoff)
        expected = predict(network, graph, stress=stress)
        found = differences(path.evaluate(graph, forces=True, stress=stress), expected)
        assert expected.forces is not None
        size = float(expected.forces.abs().max()) if expected.forces.numel() else 0.0
        assert max(found.values()) < 1e-12 * max(1.0, size), (str(atoms.symbols), found)
        largest = max(largest, size)
    assert largest > 0.05  # eV/Å: there was something to get wrong


def test_single_precision_is_that_of_the_numbers() -> None:
    network = network_of({"neighbor_norm": 3.0})
    path = fused(network, torch.float32)
    for atoms in structures():
        graph = graph_of(atoms, network.cutoff)
        expected = predict(network, graph)
        assert expected.forces is not None
        found = differences(path.evaluate(graph, forces=True, stress=False), expected)
        assert found["forces"] < 2e-6 * max(1.0, float(expected.forces.abs().max())), (str(atoms.symbols), found)
        assert found["energy"] < 1e-6


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("kept", [0, visnet.KEPT_BYTES], ids=["computed again", "kept"])
def test_threads_and_memory_change_nothing(monkeypatch: pytest.MonkeyPatch, kept: int) -> None:
    monkeypatch.setattr(visnet, "KEPT_BYTES", kept)
    network = network_of({"neighbor_norm": 3.0, "vertex_type": "edge"})
    path = fused(network)
    together = graph_of(structures()[:4] + [Atoms("O")], network.cutoff)
    for _ in range(3):  # in arrays that hold what the call before left there
        for graph in (together, graph_of(cluster(ELEMENTS), network.cutoff)):
            found = differences(path.evaluate(graph, forces=True, stress=False), predict(network, graph))
            assert max(found.values()) < 1e-11


def test_many_edges_in_many_tiles() -> None:
    atoms = crystal(ELEMENTS) * (3, 3, 2)
    atoms.rattle(0.05, seed=4)
    network = network_of({"neighbor_norm": 5.0, "cutoff": 5.0})
    graph = graph_of(atoms, network.cutoff)
    assert graph.edges.shape[1] > 3000
    found = differences(fused(network).evaluate(graph, forces=True, stress=True), predict(network, graph, stress=True))
    assert max(found.values()) < 1e-12


def test_energies_alone() -> None:
    network = network_of({"neighbor_norm": 3.0})
    graph = graph_of(crystal(ELEMENTS), network.cutoff)
    result = fused(network).evaluate(graph, forces=False, stress=False)
    assert result.forces is None
    assert result.stress is None
    assert max(differences(result, predict(network, graph, forces=False)).values()) < 1e-14


def test_forces_are_derivatives_of_its_own_energies() -> None:
    network = network_of({"neighbor_norm": 3.0})
    path, atoms = fused(network), crystal(ELEMENTS)
    forces = path.evaluate(graph_of(atoms, network.cutoff), forces=True, stress=False).forces
    assert forces is not None
    step = 1e-4
    for atom, axis in ((0, 0), (1, 1), (3, 2)):
        energies = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[atom, axis] += sign * step
            energy = path.evaluate(graph_of(moved, network.cutoff), forces=False, stress=False).energy
            assert energy is not None
            energies.append(float(energy))
        assert float(forces[atom, axis]) == pytest.approx(-(energies[0] - energies[1]) / (2 * step), abs=2e-6)


def test_several_threads_may_use_one() -> None:
    network = network_of({"neighbor_norm": 3.0})
    path = fused(network)
    graphs = [graph_of(atoms, network.cutoff) for atoms in structures()]
    expected = [predict(network, graph) for graph in graphs]

    def repeat(k: int) -> float:
        results = [path.evaluate(graphs[k], forces=True, stress=False) for _ in range(20)]
        return max(max(differences(result, expected[k]).values()) for result in results)

    with ThreadPoolExecutor(4) as pool:
        assert max(pool.map(repeat, range(len(graphs)))) < 1e-11


TWINS = ["edges", "edges_back", "atoms", "atoms_back", "update", "update_back"]


@pytest.mark.parametrize("group", TWINS)
def test_a_wrong_weight_is_seen(group: str) -> None:
    """Every matrix, forward and backward, in turn is off by a hundredth in one of its numbers."""
    network = network_of({"neighbor_norm": 3.0, "vertex_type": "edge"})
    graph = graph_of(crystal(ELEMENTS), network.cutoff)
    expected = predict(network, graph)
    for k, matrix in enumerate(getattr(fused(network).weights.blocks[1], group)):
        path = fused(network)
        wrong = list(getattr(path.weights.blocks[1], group))
        wrong[k] = matrix.copy()
        wrong[k].flat[1] += 0.01
        blocks = list(path.weights.blocks)
        blocks[1] = replace(blocks[1], **{group: tuple(wrong)})
        path.weights = replace(path.weights, blocks=tuple(blocks))
        used_again = group == "edges_back" and k < 4  # forward projections, of which the kept results are used
        found = max(differences(path.evaluate(graph, forces=True, stress=False), expected).values())
        assert (found > 1e-9) != used_again, (group, k, found)


@pytest.mark.parametrize("name", ["g_envelope", "g_harmonics", "any_vec", "any_q", "any_kv"])
def test_a_missing_derivative_is_seen(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    network = network_of({"neighbor_norm": 3.0, "lmax": 1})
    graph = graph_of(crystal(ELEMENTS), network.cutoff)
    path = fused(network)
    whole = visnet.Call._block_back

    def without(call: Any, share: int, k: int) -> None:
        whole(call, share, k)
        getattr(call.space, name)[...] = 0

    monkeypatch.setattr(visnet.Call, "_block_back", without)
    found = differences(path.evaluate(graph, forces=True, stress=False), predict(network, graph))
    assert found["energy"] < 1e-12
    assert found["forces"] > 1e-6


def test_nan_stays_nan() -> None:
    network = network_of({"neighbor_norm": 3.0})
    graph = graph_of(cluster(ELEMENTS), network.cutoff)
    positions = graph.positions.clone()
    positions[2, 1] = float("nan")
    energy = fused(network).evaluate(replace(graph, positions=positions), forces=True, stress=False).energy
    assert energy is not None
    assert torch.isnan(energy).all()
    network.basis.means[1] = float("nan")
    energy = fused(network).evaluate(graph, forces=True, stress=False).energy
    assert energy is not None
    assert torch.isnan(energy).all()


def test_refusals() -> None:
    network = network_of({"neighbor_norm": 3.0})
    graph = graph_of(cluster(ELEMENTS), network.cutoff)
    with pytest.raises(ModelError, match="not sorted"):
        fused(network).evaluate(replace(graph, edges=graph.edges.flip(1)), forces=True, stress=False)
    with pytest.raises(ModelError, match="without a volume"):
        fused(network).evaluate(graph, forces=True, stress=True)
    with pytest.raises(ModelError, match="not among the elements"):
        fused(network).evaluate(replace(graph, numbers=graph.numbers * 0 + 92), forces=True, stress=False)
    nothing = Graph(*(getattr(graph, name)[..., :0] for name in ("numbers",)), graph.positions[:0], graph.cell,
                    graph.edges[:, :0], graph.shifts[:0], graph.batch[:0])  # fmt: skip
    empty = fused(network).evaluate(nothing, forces=True, stress=False)
    assert empty.energy is not None
    assert empty.energy.tolist() == [0.0]


@pytest.mark.parametrize(
    "settings",
    [{"vertex_type": "node"}, {"activation": "ssp"}, {"num_layers": 1}, {"variant": "original", "vecnorm_type": "rms"}],
    ids=str,
)
def test_what_has_no_kernels_says_why(settings: dict[str, Any]) -> None:
    reason = fused_path(network_of(settings), torch.float64)
    assert isinstance(reason, str)
    assert "no fused kernels" in reason


def test_kernels_that_are_wrong_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    network = network_of({"neighbor_norm": 3.0, "num_rbf": 6})
    right = visnet.assembled

    def wrong(*arguments: Any, gradient: torch.Tensor, **keywords: Any) -> Prediction:
        return right(*arguments, gradient=gradient * (1 + 1e-5), **keywords)

    monkeypatch.setattr(visnet, "assembled", wrong)
    reason = fused_path(network, torch.float64)
    assert isinstance(reason, str)
    assert "failed their trial" in reason
    monkeypatch.setattr(visnet, "assembled", right)
    assert isinstance(fused_path(network, torch.float64), FusedViSNet)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_functions(kind: type[np.floating[Any]]) -> None:
    import numba

    @numba.njit
    def values(x, exp, logistic):  # type: ignore[no-untyped-def]
        for k in range(len(x)):
            exp[k] = exponential(x[k])
            logistic[k] = sigmoid(x[k])

    limit = 87 if kind is np.float32 else 700
    x = np.concatenate([np.linspace(-limit, limit, 20001), np.linspace(-1, 1, 2001)]).astype(kind)
    exp, logistic = np.empty_like(x), np.empty_like(x)
    values(x, exp, logistic)
    exact = np.exp(x.astype(np.longdouble))
    assert float(np.max(np.abs(exp / exact - 1))) < 2.5 * np.finfo(kind).eps
    assert float(np.max(np.abs(logistic * (1 + exact) / exact - 1))) < 4 * np.finfo(kind).eps
    values(np.array([np.nan], kind), exp, logistic)
    assert np.isnan(exp[0])
    assert np.isnan(logistic[0])
