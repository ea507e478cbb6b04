"""Derivatives of HVNet's energies by its weights are those of autograd, on every kind of structure."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from plain_gradients import labeled, relative_error
from random_hvnets import ELEMENTS, SUB_NETWORKS, crystal, network, structures
from torch import Tensor

from mlcalc import load_model
from mlcalc.kernels import fused_gradients
from mlcalc.kernels.gradients import EnergyGradient
from mlcalc.kernels.hvnet import gradients, hvnet
from mlcalc.kernels.hvnet.arrays import Weights, WeightSums
from mlcalc.kernels.hvnet.gradients import FusedHVNetGradients, hvnet_gradients
from mlcalc.kernels.hvnet.weights import GradientSums
from mlcalc.models import Graph, HPNet, HVNet, HVNetConfig, ModelError, parameter_gradient, predict
from mlcalc.training.config import LossConfig
from mlcalc.training.step import loss_gradient

LIMIT = {torch.float64: 1e-11, torch.float32: 2e-5}  # of the norm of the gradient of energies
LOSS = LossConfig(energy=3.0, forces=1.0, stress=2.0)


@pytest.fixture(autouse=True)
def _without_reference(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """No kernel may hand the work to the reference that it is compared with."""
    if "fallback" not in request.node.name:

        def refuse(*arguments: Any, **settings: Any) -> Any:
            raise AssertionError("the kernels left the graph to the reference")

        monkeypatch.setattr(hvnet, "predict", refuse)
        monkeypatch.setattr(gradients, "parameter_gradient", refuse)


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def kernels_of(model: HVNet, dtype: torch.dtype = torch.float64) -> FusedHVNetGradients:
    made = hvnet_gradients(model, dtype)
    assert isinstance(made, FusedHVNetGradients)
    return made


def seeds_of(graph: Graph) -> Tensor:
    return torch.randn(graph.n_structures, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def error(kernels: FusedHVNetGradients, model: HVNet, graph: Graph) -> float:
    """Of the derivatives by all weights, relative to their norm; energies and forces have to agree as well."""
    found = kernels.gradient(graph, seeds_of(graph))
    energy, expected = parameter_gradient(model, graph, seeds_of(graph))
    exact = kernels._kind == "float64"
    assert all(value.dtype == (torch.float64 if exact else torch.float32) for value in found.parameters.values())
    torch.testing.assert_close(found.energy, energy, rtol=0, atol=1e-11 if exact else 1e-3)
    forces = kernels.forces(graph, stress=False).forces
    torch.testing.assert_close(forces, predict(model, graph).forces, rtol=0, atol=1e-11 if exact else 1e-4)
    return relative_error(found.parameters, expected)


@pytest.mark.parametrize("dtype", LIMIT, ids=str)
@pytest.mark.parametrize("elements", ELEMENTS)
@pytest.mark.parametrize("sub_network", SUB_NETWORKS)
def test_equal_to_autograd(sub_network: str, elements: tuple[str, ...], dtype: torch.dtype) -> None:
    for channels, layers in ((9, 3), (16, 1), (8, 2)):
        model = network(sub_network, elements, channels=channels, layers=layers)
        kernels = kernels_of(model, dtype)
        for name, graph in structures(elements).items():
            assert error(kernels, model, graph) < LIMIT[dtype], (name, channels, layers)


@pytest.mark.parametrize("sub_network", SUB_NETWORKS)
def test_threads_and_packets(sub_network: str, threads: Callable[[int], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Structures by threads, threads within structures, structures together: always the same derivatives."""
    model = network(sub_network, ELEMENTS[1])
    several, one = structures(ELEMENTS[1])["Batch"], structures(ELEMENTS[1])["Solid"]
    kernels = kernels_of(model)
    for number in (1, 2, 3):
        threads(number)
        for atoms in (1, 20, 1000):
            monkeypatch.setattr(gradients, "PACKET_ATOMS", atoms)
            assert error(kernels, model, several) < LIMIT[torch.float64], (number, atoms)
        monkeypatch.setattr(hvnet, "EDGES_PER_SHARE", 100)
        assert kernels.shares(one) == number
        assert error(kernels, model, one) < LIMIT[torch.float64], number


@pytest.mark.parametrize("sub_network", SUB_NETWORKS)
def test_the_same_bits_every_time(sub_network: str, threads: Callable[[int], None]) -> None:
    """Or a resumed training would not be that of before."""
    model = network(sub_network, ELEMENTS[1])
    graph = structures(ELEMENTS[1])["Batch"]
    threads(2)
    first, second = (kernels_of(model, torch.float32).gradient(graph, seeds_of(graph)).parameters for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("sub_network", SUB_NETWORKS)
def test_what_is_not_kept_is_computed_again(sub_network: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = network(sub_network, ELEMENTS[1], layers=4)
    monkeypatch.setattr(hvnet, "KEPT_BYTES", 0)
    assert error(kernels_of(model), model, structures(ELEMENTS[1])["Solid"]) < LIMIT[torch.float64]


@pytest.mark.parametrize("elements", ELEMENTS)
@pytest.mark.parametrize("share", [0.0, float("inf")])
def test_means_by_products_and_by_edges(
    elements: tuple[str, ...], share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gradients, "DENSE", share)
    model = network("rmconv", elements)
    for name, graph in structures(elements).items():
        assert error(kernels_of(model), model, graph) < LIMIT[torch.float64], name


@pytest.mark.parametrize("sub_network", SUB_NETWORKS)
def test_new_weights_are_taken_over(sub_network: str) -> None:
    model, graph = network(sub_network, ELEMENTS[1]), structures(ELEMENTS[1])["Solid"]
    kernels, later = kernels_of(model), copy.deepcopy(model)
    for parameter in later.parameters():
        parameter.mul_(1.01)
    assert error(kernels, model, graph) < LIMIT[torch.float64]
    stale = kernels.gradient(graph, seeds_of(graph)).parameters
    kernels.refresh(later)
    assert error(kernels, later, graph) < LIMIT[torch.float64]
    assert relative_error(stale, kernels.gradient(graph, seeds_of(graph)).parameters) > 1e-3
    with pytest.raises(ModelError, match="of other settings: make new ones"):
        kernels.refresh(HVNet(replace(model.config, cutoff=4.0)))


@pytest.mark.parametrize("sub_network", SUB_NETWORKS)
def test_broken_twins_are_caught(sub_network: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every weight and every sum matters."""
    model, graph = network(sub_network, ELEMENTS[1]), structures(ELEMENTS[1])["Solid"]
    seeds = seeds_of(graph)
    _, expected = parameter_gradient(model, graph, seeds)
    absent = {"mix", "mix_back"} if sub_network == "rmconv" else set()
    for name in Weights._fields:
        kernels = kernels_of(model)
        getattr(kernels._weights, name)[:] *= 1.001
        found = relative_error(kernels.gradient(graph, seeds).parameters, expected)
        assert (found > 1e-7) == (name not in {*absent, "readout2_bias"}), name  # a constant has no say in slopes
    settle = GradientSums.settle
    for name in WeightSums._fields:

        def twin(sums: GradientSums, name: str = name) -> None:
            getattr(sums.arrays, name)[:] *= 1.001
            settle(sums)

        monkeypatch.setattr(GradientSums, "settle", twin)
        found = relative_error(kernels_of(model).gradient(graph, seeds).parameters, expected)
        assert (found > 1e-7) == (name not in absent), name


@pytest.mark.parametrize("dtype", LIMIT, ids=str)
@pytest.mark.parametrize("sub_network", SUB_NETWORKS)
def test_the_gradient_of_a_loss(sub_network: str, dtype: torch.dtype) -> None:
    """Against double backward in float64."""
    model = network(sub_network, ELEMENTS[1])
    batch = labeled([crystal(ELEMENTS[1], 1, seed=k) for k in range(4)], model.cutoff)
    expected = loss_gradient(copy.deepcopy(model).requires_grad_(True), batch, LOSS, None)[1]
    rounded = copy.deepcopy(model).to(dtype)
    found = loss_gradient(rounded, batch, LOSS, kernels_of(rounded, dtype))[1]
    assert relative_error(found, expected) < {torch.float64: 1e-6, torch.float32: 1e-3}[dtype]


def test_the_gradient_of_a_loss_of_the_bundled_network() -> None:
    """Trained weights, whose errors are small and whose gradient is what is left of much that cancels."""
    model = load_model("cu-hvnet").to(torch.float64)
    frames = [crystal(("Cu",), 3, seed=k) for k in range(2)]
    batch = labeled(frames, model.cutoff)
    close = predict(model, batch.graph, stress=True)
    assert close.energy is not None
    assert close.forces is not None
    assert close.stress is not None
    noise = torch.randn(batch.forces.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    batch = replace(
        batch, energy=close.energy + 0.1, forces=close.forces + 0.05 * noise, stress=close.stress + 0.001
    )  # fmt: skip
    expected = loss_gradient(copy.deepcopy(model).requires_grad_(True), batch, LOSS, None)[1]
    single = copy.deepcopy(model).to(torch.float32)
    found = loss_gradient(single, batch, LOSS, kernels_of(single, torch.float32))[1]
    assert relative_error(found, expected) < 1e-3


@pytest.mark.parametrize("sub_network", SUB_NETWORKS)
def test_fallback_to_autograd_for_lists_that_are_not_full_or_not_sorted(sub_network: str) -> None:
    model, graph = network(sub_network, ELEMENTS[1]), structures(ELEMENTS[1])["Batch"]
    order = torch.randperm(graph.edges.shape[1], generator=torch.Generator().manual_seed(1))
    shuffled = replace(graph, edges=graph.edges[:, order], shifts=graph.shifts[order])
    halved = replace(graph, edges=graph.edges[:, ::2], shifts=graph.shifts[::2])
    for other in (shuffled, halved):
        assert error(kernels_of(model), model, other) < LIMIT[torch.float64]


def test_damage_comes_out_as_nan() -> None:
    model, graph = network("rmconv", ELEMENTS[0]), structures(ELEMENTS[0])["Solid"]
    kernels = kernels_of(model)
    positions = graph.positions.clone()
    positions[3, 1] = torch.nan

    def finite(found: EnergyGradient) -> bool:
        return all(bool(value.isfinite().all()) for value in found.parameters.values())

    assert not finite(kernels.gradient(replace(graph, positions=positions), seeds_of(graph)))
    assert finite(kernels.gradient(graph, seeds_of(graph)))  # nothing of it is left in memory


def test_who_has_kernels() -> None:
    model = network("painn", ELEMENTS[0]).to(torch.float32)
    assert isinstance(fused_gradients(model, torch.float32), FusedHVNetGradients)
    for other in (HVNet(HVNetConfig(elements=("Cu",), variant="dgl")), HPNet(HVNetConfig(elements=("Cu",)))):
        reason = fused_gradients(other, torch.float32)
        assert isinstance(reason, str)
        assert reason.startswith("no fused kernels for gradients: there are none for")


def test_kernels_that_fail_their_trial_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong(FusedHVNetGradients):
        def gradient(self, graph: Graph, seeds: Tensor) -> EnergyGradient:
            found = super().gradient(graph, seeds)
            found.parameters["readout.0.bias"][0] += 0.1
            return found

    monkeypatch.setattr(gradients, "FusedHVNetGradients", Wrong)
    model = network("painn", ELEMENTS[0], channels=7)
    reason = fused_gradients(model, torch.float64)
    assert isinstance(reason, str)
    assert "failed their trial: their gradients differ from those of autograd" in reason
