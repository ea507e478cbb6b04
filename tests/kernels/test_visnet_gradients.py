"""Derivatives of ViSNet's energies and of losses by its weights, against automatic differentiation."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from structures import cluster, crystal, cubic, graph_of, linear, primitive, slab
from torch import Tensor

from mlcalc.kernels.visnet import gradient_call, tangent_call, visnet
from mlcalc.kernels.visnet.gradients import ViSNetGradients, visnet_gradients
from mlcalc.models import Graph, ModelError, Prediction, ViSNet, ViSNetConfig, predict

ELEMENTS = ("H", "C", "O")
SMALL: dict[str, Any] = {
    "elements": ELEMENTS,
    "cutoff": 4.0,
    "hidden_channels": 24,
    "num_layers": 3,
    "num_heads": 4,
    "num_rbf": 7,
    "neighbor_norm": 3.0,
    "energy_scale": 1.7,
    "energy_shift": (-13.6, -1029.5, -2041.3),
}
SETTINGS: list[dict[str, Any]] = [
    {},
    {"lmax": 1, "num_heads": 1},
    {"vertex_type": "edge"},
    {"vertex_type": "edge", "lmax": 1, "num_layers": 4},
    {"rbf_type": "gauss", "envelope_exponent": 7},
    {"trainable_rbf": True, "num_layers": 2},
    {"trainable_rbf": True, "rbf_type": "gauss"},
    {"variant": "original", "activation": "swish", "neighbor_norm": 1.0},
    {"variant": "original", "lmax": 1, "rbf_type": "gauss", "structure_shift": -40.0, "neighbor_norm": 1.0},
    {"variant": "original", "trainable_rbf": True, "rbf_type": "gauss", "neighbor_norm": 1.0},
    {
        "variant": "original", "vertex_type": "edge", "reduce": "mean", "max_num_neighbors": 5, "num_layers": 2,
        "neighbor_norm": 1.0,
    },
]  # fmt: skip


def network_of(settings: dict[str, Any], dtype: torch.dtype = torch.float64) -> ViSNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = ViSNet(ViSNetConfig(**(SMALL | settings))).to(torch.float64)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    return network.to(dtype)


def kernels_of(network: ViSNet, dtype: torch.dtype = torch.float64) -> ViSNetGradients:
    kernels = visnet_gradients(network, dtype)
    assert isinstance(kernels, ViSNetGradients)
    return kernels


def batches(cutoff: float) -> list[tuple[Graph, Tensor]]:
    """Graphs and seeds: of many structures, periodic or not, also without edges, and of one alone."""
    many = [cluster(ELEMENTS), crystal(ELEMENTS), slab(ELEMENTS), Atoms("O"), Atoms("CH", [[0, 0, 0], [0, 0, 9.0]])]
    many += [primitive(ELEMENTS), cubic(ELEMENTS), linear(ELEMENTS)]
    seeds = torch.linspace(-1.0, 1.7, len(many), dtype=torch.float64)
    one = torch.tensor([0.8], dtype=torch.float64)
    return [(graph_of(many, cutoff), seeds), *((graph_of(atoms, cutoff), one) for atoms in many[:5])]


def by_autograd(network: ViSNet, graph: Graph, seeds: Tensor) -> dict[str, Tensor]:
    energy = graph.sum_by_structure(network(graph))
    names, parameters = zip(*network.named_parameters(), strict=True)
    found = torch.autograd.grad((seeds * energy).sum(), parameters, allow_unused=True, materialize_grads=True)
    return dict(zip(names, found, strict=True))


def largest_error(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """Of all parameters, each relative to its largest derivative."""
    assert list(found) == list(expected)
    errors = []
    for name, values in expected.items():
        assert found[name].shape == values.shape
        difference = float((found[name].to(torch.float64) - values).abs().max())
        errors.append(difference / max(float(values.abs().max()), 1e-3))
    return max(errors)


def error_of_norm(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    a, b = (torch.cat([x[name].to(torch.float64).ravel() for name in expected]) for x in (found, expected))
    return float((a - b).norm() / b.norm())


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
    kernels = kernels_of(network)
    for graph, seeds in batches(network.cutoff):
        found, expected = kernels.gradient(graph, seeds), by_autograd(network, graph, seeds)
        assert largest_error(found.parameters, expected) < 1e-11
        energy = predict(network, graph, forces=False).energy
        assert energy is not None
        assert float((found.energy - energy).abs().max()) < 1e-11 * float(energy.abs().max())


@pytest.mark.parametrize("settings", [SETTINGS[0], SETTINGS[3], SETTINGS[6]], ids=str)
def test_single_precision_is_that_of_the_numbers(settings: dict[str, Any]) -> None:
    network = network_of(settings)
    kernels = kernels_of(network, torch.float32)
    for graph, seeds in batches(network.cutoff):
        found = kernels.gradient(graph, seeds).parameters
        assert all(values.dtype == torch.float32 for values in found.values())
        assert largest_error(found, by_autograd(network, graph, seeds)) < 3e-5
    assert next(network.parameters()).dtype == torch.float64  # the network itself is left alone


def test_forces_are_those_of_the_network() -> None:
    network = network_of({})
    graph = graph_of([crystal(ELEMENTS), cubic(ELEMENTS)], network.cutoff)
    found, expected = kernels_of(network).forces(graph, stress=True), predict(network, graph, stress=True)
    for name in ("energy", "forces", "stress"):
        assert torch.allclose(getattr(found, name), getattr(expected, name), rtol=0, atol=1e-9)


def forgetful(kernel: Callable[..., None]) -> Callable[..., None]:
    """The kernel, whose derivatives by weights, its last argument, go nowhere."""

    def without(*arguments: Any) -> None:
        kernel(*arguments[:-1], tuple(np.zeros_like(array) for array in arguments[-1]))

    return without


WITH_WEIGHTS = sorted(name for name in vars(gradient_call) if name.endswith("_weights") and name != "by_weights")


@pytest.mark.parametrize("name", WITH_WEIGHTS)
def test_a_missing_term_is_seen(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    network = network_of({"vertex_type": "edge", "trainable_rbf": True})
    graph, seeds = batches(network.cutoff)[0]
    expected = by_autograd(network, graph, seeds)
    monkeypatch.setattr(gradient_call, name, forgetful(getattr(gradient_call, name)))
    assert largest_error(kernels_of(network).gradient(graph, seeds).parameters, expected) > 0.1


def test_every_parameter_matters() -> None:
    """A derivative that is zero would be right without any kernel."""
    assert len(WITH_WEIGHTS) == 7
    network = network_of({"vertex_type": "edge", "trainable_rbf": True})
    graph, seeds = batches(network.cutoff)[0]
    assert all(bool(values.any()) for values in by_autograd(network, graph, seeds).values())


def test_weights_are_those_of_the_last_refresh() -> None:
    network = network_of({"trainable_rbf": True})
    kernels = kernels_of(network)
    graph, seeds = batches(network.cutoff)[0]
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.01)
    expected = by_autograd(network, graph, seeds)
    assert largest_error(kernels.gradient(graph, seeds).parameters, expected) > 1e-3
    kernels.refresh(network)
    assert largest_error(kernels.gradient(graph, seeds).parameters, expected) < 1e-11
    found, wanted = kernels.forces(graph, stress=False).forces, predict(network, graph).forces
    assert found is not None
    assert wanted is not None
    assert float((found - wanted).abs().max()) < 1e-11 * float(wanted.abs().max())


@pytest.mark.usefixtures("two_threads")
def test_two_threads_give_the_same() -> None:
    network = network_of({"vertex_type": "edge", "trainable_rbf": True})
    kernels = kernels_of(network)
    for graph, seeds in batches(network.cutoff):
        for _ in range(2):  # in arrays that hold what the call before left there
            found = kernels.gradient(graph, seeds)
            assert largest_error(found.parameters, by_autograd(network, graph, seeds)) < 1e-11
    assert len(kernels.totals) == 2


def test_structures_in_any_order_of_atoms() -> None:
    """Where atoms of different structures alternate, nothing can be cut between structures."""
    network = network_of({})
    graph = graph_of([Atoms("O"), Atoms("C")] * 2, network.cutoff)
    graph, seeds = replace(graph, batch=torch.tensor([0, 2, 1, 3])), torch.linspace(1.0, 2.0, 4, dtype=torch.float64)
    expected = by_autograd(network, graph, seeds)
    assert largest_error(kernels_of(network).gradient(graph, seeds).parameters, expected) < 1e-11


def loss_of(result: Prediction, graph: Graph) -> Tensor:
    """Some loss of energies, forces and stress times volume; labels are zero but for the energies."""
    assert result.energy is not None
    assert result.forces is not None
    atoms = graph.atoms_per_structure
    loss = 10 * ((result.energy / atoms + 1500.0) ** 2).mean() / 1e5 + (result.forces**2).mean()
    if result.stress is not None:
        volume = torch.linalg.det(graph.cell).abs() / atoms
        loss = loss + ((result.stress * volume[:, None]) ** 2).mean()
    return loss


@dataclass(frozen=True, eq=False)
class ByPrediction:
    """Derivatives of a loss by energies (S,), forces (N, 3) and dE/dstrain (S, 3, 3)."""

    energy: Tensor
    forces: Tensor
    strain: Tensor


def by_prediction(result: Prediction, graph: Graph) -> ByPrediction:
    values = {name: value.requires_grad_() for name in ("energy", "forces", "stress")
              if (value := getattr(result, name)) is not None}  # fmt: skip
    found = torch.autograd.grad(loss_of(replace(result, **values), graph), tuple(values.values()))
    by = dict(zip(values, found, strict=True))
    strain = torch.zeros(graph.n_structures, 3, 3, dtype=torch.float64)
    if "stress" in by:
        volume = torch.linalg.det(graph.cell).abs()
        for k, (a, b) in enumerate(((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))):
            strain[:, a, b] = by["stress"][:, k] / volume
    return ByPrediction(by["energy"], by["forces"], (strain + strain.transpose(1, 2)) / 2)


def by_tangents(kernels: ViSNetGradients, graph: Graph, *, stress: bool) -> dict[str, Tensor]:
    by = by_prediction(kernels.forces(graph, stress=stress), graph)
    return kernels.tangent(graph, by.energy, -by.forces, by.strain).parameters


def by_differences(kernels: ViSNetGradients, graph: Graph, *, stress: bool) -> dict[str, Tensor]:
    """The loss' gradient from first derivatives by the weights at two displaced geometries.

    dL/dtheta = sum_s e_s dE_s/dtheta + d/d(eps) sum_s dE_s/dtheta(x - eps lambda, strain eps sigma), with
    e_s = dL/dE_s, lambda = dL/dF and sigma = dL/d(dE/dstrain).
    """
    by = by_prediction(kernels.forces(graph, stress=stress), graph)
    largest = 10 * by.strain.flatten(1).norm(dim=1)
    largest.scatter_reduce_(0, graph.batch, by.forces.norm(dim=1), "amax")
    step = (1e-4 if kernels.path.kind == np.float64 else 3e-3) / largest.clamp(min=1e-12)
    total: dict[str, Tensor] = {}
    for sign in (1.0, -1.0):
        moved = sign * step[:, None, None] * by.strain
        positions = graph.positions - sign * step[graph.batch, None] * by.forces
        positions = positions + torch.einsum("nx,nxy->ny", graph.positions, moved[graph.batch])
        there = replace(graph, positions=positions, cell=graph.cell + graph.cell @ moved)
        part = kernels.gradient(there, by.energy / 2 + sign / (2 * step)).parameters
        total = {name: value + total.get(name, 0) for name, value in part.items()}
    return total


def some_graph(cutoff: float, *, stress: bool) -> Graph:
    rattled = [crystal(ELEMENTS), crystal(ELEMENTS, seed=5)]
    return graph_of(rattled + [cluster(ELEMENTS), Atoms("O"), primitive(ELEMENTS)] * (not stress), cutoff)


def by_double_backward(network: ViSNet, graph: Graph, *, stress: bool) -> dict[str, Tensor]:
    loss = loss_of(predict(network, graph, stress=stress, create_graph=True), graph)
    names, parameters = zip(*network.named_parameters(), strict=True)
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
    return dict(zip(names, gradients, strict=True))


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float64, 1e-6), (torch.float32, 1e-3)])
@pytest.mark.parametrize("settings", [SETTINGS[0], SETTINGS[2], SETTINGS[6]], ids=str)
@pytest.mark.parametrize("stress", [False, True])
def test_losses_by_differences(settings: dict[str, Any], dtype: torch.dtype, limit: float, *, stress: bool) -> None:
    network = network_of(settings)
    graph = some_graph(network.cutoff, stress=stress)
    expected = by_double_backward(network, graph, stress=stress)
    assert error_of_norm(by_differences(kernels_of(network, dtype), graph, stress=stress), expected) < limit


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("stress", [False, True])
def test_losses_by_tangents(settings: dict[str, Any], *, stress: bool) -> None:
    network = network_of(settings)
    graph = some_graph(network.cutoff, stress=stress)
    expected = by_double_backward(network, graph, stress=stress)
    kernels = kernels_of(network)
    assert largest_error(by_tangents(kernels, graph, stress=stress), expected) < 1e-9
    without_forces = kernels.gradient(graph, torch.ones(graph.n_structures, dtype=torch.float64))
    assert error_of_norm(without_forces.parameters, expected) > 0.1
    zero = torch.zeros_like(graph.cell)
    energies = kernels.tangent(graph, torch.ones(graph.n_structures).double(), 0 * graph.positions, zero)
    assert largest_error(energies.parameters, without_forces.parameters) < 1e-11  # and no forces were asked before


@pytest.mark.parametrize("settings", [SETTINGS[0], SETTINGS[3], SETTINGS[6]], ids=str)
def test_losses_by_tangents_in_single_precision(settings: dict[str, Any]) -> None:
    network = network_of(settings)
    for stress in (False, True):
        graph = some_graph(network.cutoff, stress=stress)
        found = by_tangents(kernels_of(network, torch.float32), graph, stress=stress)
        assert error_of_norm(found, by_double_backward(network, graph, stress=stress)) < 5e-5


TANGENTS = sorted(name for name in vars(tangent_call) if name.endswith("_tangent"))


@pytest.mark.parametrize("name", TANGENTS)
def test_a_missing_tangent_is_seen(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    assert len(TANGENTS) == 13
    network = network_of({"vertex_type": "edge", "trainable_rbf": True})
    graph = some_graph(network.cutoff, stress=False)
    expected = by_double_backward(network, graph, stress=False)
    kernels = kernels_of(network)
    assert largest_error(by_tangents(kernels, graph, stress=False), expected) < 1e-9
    by_tangents(kernels, replace(graph, positions=1.02 * graph.positions), stress=False)
    monkeypatch.setattr(tangent_call, name, lambda *_: None)  # what other positions gave stays where it is
    assert largest_error(by_tangents(kernels, graph, stress=False), expected) > 1e-3


@pytest.mark.usefixtures("two_threads")
def test_tangents_of_two_threads() -> None:
    network = network_of({"vertex_type": "edge", "trainable_rbf": True})
    kernels = kernels_of(network)
    for _ in range(2):  # in arrays that hold what the call before left there
        graph = some_graph(network.cutoff, stress=False)
        expected = by_double_backward(network, graph, stress=False)
        assert largest_error(by_tangents(kernels, graph, stress=False), expected) < 1e-9
    assert len(kernels.totals) == 2


def test_refusals() -> None:
    network = network_of({})
    graph = graph_of(cluster(ELEMENTS), network.cutoff)
    kernels, one = kernels_of(network), torch.ones(1, dtype=torch.float64)
    with pytest.raises(ModelError, match="not sorted"):
        kernels.gradient(replace(graph, edges=graph.edges.flip(1)), one)
    with pytest.raises(ModelError, match="seeds of shape"):
        kernels.gradient(graph, torch.ones(2, dtype=torch.float64))
    with pytest.raises(ModelError, match="directions of shape"):
        kernels.tangent(graph, one, graph.positions[:3], torch.zeros_like(graph.cell))
    for settings in ({"vertex_type": "node"}, {"activation": "ssp"}, {"num_layers": 1}):
        reason = visnet_gradients(network_of(settings), torch.float64)
        assert isinstance(reason, str)
        assert "no fused kernels" in reason


def test_the_network_may_change_meanwhile() -> None:
    """Weights are copies: an optimizer's step in place, half way through, changes nothing before the next refresh."""
    network = network_of({})
    kernels = kernels_of(network)
    graph, seeds = batches(network.cutoff)[0]
    expected = by_autograd(copy.deepcopy(network), graph, seeds)
    kernels.refresh(network)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    assert largest_error(kernels.gradient(graph, seeds).parameters, expected) < 1e-11
