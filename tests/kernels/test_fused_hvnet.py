"""The fused kernels of HVNet give what automatic differentiation gives, on every kind of structure."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import torch
from ase.build import bulk
from random_hvnets import CUTOFF, ELEMENTS, SUB_NETWORKS, crystal, network, structures
from structures import graph_of

from mlcalc import load_model
from mlcalc.kernels.hvnet import hvnet
from mlcalc.kernels.hvnet.hvnet import FusedHVNet, hvnet_path
from mlcalc.models import Graph, HPNet, HTNet, HVNet, HVNetConfig, Prediction, predict
from mlcalc.models.errors import ModelError


@pytest.fixture(autouse=True)
def _without_reference(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """No kernel may hand the work to the reference that it is compared with."""
    if "fallback" not in request.node.name:

        def refuse(*arguments: Any, **settings: Any) -> Prediction:
            raise AssertionError("the kernels left the graph to the reference")

        monkeypatch.setattr(hvnet, "predict", refuse)


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def fused(model: HVNet, dtype: torch.dtype = torch.float64) -> FusedHVNet:
    path = hvnet_path(model, dtype)
    assert isinstance(path, FusedHVNet)
    return path


def largest_error(path: FusedHVNet, model: HVNet, graph: Graph, *, stress: bool) -> dict[str, float]:
    """Of each result, against the reference in float64."""
    expected = predict(model, graph, forces=True, stress=stress)
    found = path.evaluate(graph, forces=True, stress=stress)
    names = ("energy", "energies", "forces", *(["stress"] if stress else []))
    pairs = {name: (getattr(found, name), getattr(expected, name)) for name in names}
    assert all(a.dtype == torch.float64 and a.shape == b.shape for a, b in pairs.values())
    return {name: float((a - b).abs().max()) for name, (a, b) in pairs.items()}


@pytest.mark.parametrize("elements", ELEMENTS)
@pytest.mark.parametrize("sub_network", SUB_NETWORKS)
def test_equal_to_the_reference(sub_network: str, elements: tuple[str, ...]) -> None:
    for channels, layers in ((9, 3), (16, 1), (8, 2)):
        model = network(sub_network, elements, channels=channels, layers=layers)
        path, single = fused(model), fused(model, torch.float32)
        for name, graph in structures(elements).items():
            stress = name[0].isupper()
            errors = largest_error(path, model, graph, stress=stress)
            assert max(errors.values()) < 1e-11, (name, channels, layers, errors)
            errors = largest_error(single, model, graph, stress=stress)
            assert errors["forces"] < 1e-4, (name, channels, layers, errors)
            assert max(errors.values()) < 1e-3, (name, channels, layers, errors)


@pytest.mark.parametrize(("dtype", "allowed"), [(torch.float64, 1e-11), (torch.float32, 1e-4)])
def test_the_bundled_network(dtype: torch.dtype, allowed: float) -> None:
    model = load_model("cu-hvnet").to(torch.float64)
    atoms = bulk("Cu", cubic=True).repeat(3)
    atoms.rattle(0.08, seed=1)
    errors = largest_error(fused(model, dtype), model, graph_of(atoms, model.cutoff), stress=True)
    assert errors["forces"] < allowed
    assert errors["energies"] < allowed
    assert errors["stress"] < allowed


@pytest.mark.parametrize("sub_network", SUB_NETWORKS)
def test_broken_twins_are_caught(sub_network: str) -> None:
    model = network(sub_network, ELEMENTS[1])
    graph = structures(ELEMENTS[1])["Solid"]
    forward = {"embed", "message1", "message2", "filters", "update1", "update2", "readout1", "readout2"}
    back = {f"{name}_back" for name in ("message1", "message2", "update1", "update2", "readout1")}
    if sub_network == "painn":
        forward, back = forward | {"mix"}, back | {"mix_back"}
    for name in sorted(forward | back):
        path = fused(model)
        getattr(path._weights, name)[:] *= 1.0001
        errors = largest_error(path, model, graph, stress=True)
        assert errors["forces"] > 1e-8, name
        assert (errors["energies"] > 1e-8) == (name in forward), name


@pytest.mark.parametrize("sub_network", SUB_NETWORKS)
@pytest.mark.parametrize(
    "settings",
    [{"cutoff": CUTOFF + 1e-4}, {"envelope_exponent": 6}, {"neighbor_norm": 5.001}, {"energy_scale": 2.501}],
    ids=lambda settings: next(iter(settings)),
)
def test_other_settings_are_caught(sub_network: str, settings: dict[str, Any]) -> None:
    model = network(sub_network, ELEMENTS[0])
    other = HVNet(replace(model.config, **settings)).to(torch.float64)
    other.load_state_dict(model.state_dict())
    errors = largest_error(fused(other), model, structures(ELEMENTS[0])["Solid"], stress=True)
    assert min(errors.values()) > 1e-8


@pytest.mark.parametrize("sub_network", SUB_NETWORKS)
def test_forces_are_slopes_of_the_energy(sub_network: str) -> None:
    path = fused(network(sub_network, ELEMENTS[1]))
    graph = structures(ELEMENTS[1])["Small"]
    forces = path.evaluate(graph, forces=True, stress=False).forces
    assert forces is not None
    step = 1e-4
    for atom in range(len(graph.numbers)):
        for axis in range(3):
            moved = []
            for sign in (1, -1):
                positions = graph.positions.clone()
                positions[atom, axis] += sign * step
                energy = path.evaluate(replace(graph, positions=positions), forces=False, stress=False).energy
                assert energy is not None
                moved.append(float(energy[0]))
            assert float(forces[atom, axis]) == pytest.approx((moved[1] - moved[0]) / (2 * step), abs=1e-6)
    assert forces.abs().max() > 0.01


@pytest.mark.parametrize("sub_network", SUB_NETWORKS)
def test_threads_share_the_work(sub_network: str, threads: Callable[[int], None]) -> None:
    model = network(sub_network, ELEMENTS[1])
    graph = graph_of(crystal(ELEMENTS[1], 3), CUTOFF)
    path = fused(model)
    for number in (1, 2, 3, 4):
        threads(number)
        assert path.shares(graph) == min(number, graph.edges.shape[1] // hvnet.EDGES_PER_SHARE)
        errors = largest_error(path, model, graph, stress=True)
        assert max(errors.values()) < 1e-11, (number, errors)
    assert graph.edges.shape[1] > 2 * hvnet.EDGES_PER_SHARE


@pytest.mark.parametrize("sub_network", SUB_NETWORKS)
def test_what_is_not_kept_is_computed_again(sub_network: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = network(sub_network, ELEMENTS[1], layers=4)
    graph = structures(ELEMENTS[1])["Solid"]
    monkeypatch.setattr(hvnet, "KEPT_BYTES", 0)
    path = fused(model)
    assert max(largest_error(path, model, graph, stress=True).values()) < 1e-11
    small = path.memory(1000, 40_000)
    monkeypatch.undo()
    assert fused(model).memory(1000, 40_000) > small


def test_one_network_serves_several_callers_and_sizes() -> None:
    model = network("rmconv", ELEMENTS[1])
    path = fused(model)
    graphs = list(structures(ELEMENTS[1]).values()) * 4
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda graph: path.evaluate(graph, forces=True, stress=False).forces, graphs))
    for graph, forces in zip(graphs, found, strict=True):
        expected = predict(model, graph, forces=True).forces
        torch.testing.assert_close(forces, expected, rtol=0, atol=1e-11)


def test_results_stay_when_memory_is_used_again() -> None:
    model = network("painn", ELEMENTS[0])
    path, graphs = fused(model), structures(ELEMENTS[0])
    first = path.evaluate(graphs["Solid"], forces=True, stress=True)
    copies = [value.clone() for value in (first.energies, first.forces, first.stress) if value is not None]
    path.evaluate(graphs["Batch"], forces=True, stress=True)
    for kept, value in zip(copies, (first.energies, first.forces, first.stress), strict=True):
        assert torch.equal(kept, value)  # type: ignore[arg-type]


@pytest.mark.parametrize("sub_network", SUB_NETWORKS)
def test_damage_comes_out_as_nan(sub_network: str) -> None:
    model = network(sub_network, ELEMENTS[0])
    graph = structures(ELEMENTS[0])["Solid"]
    positions = graph.positions.clone()
    positions[3, 1] = torch.nan
    damaged = replace(graph, positions=positions)
    assert fused(model).evaluate(graph, forces=False, stress=False).energies.isfinite().all()  # type: ignore[union-attr]
    for name, parameter in model.named_parameters():
        if name.endswith(("ms1.weight", "message2.bias", "us1.bias", "update2.weight", "0.weight")):
            before = parameter.clone()
            parameter.view(-1)[-1] = torch.nan
            energies = fused(model).evaluate(graph, forces=True, stress=False).energies
            assert energies is not None
            assert energies.isnan().any(), name
            parameter.copy_(before)
    assert fused(model).evaluate(damaged, forces=True, stress=False).energies.isnan().any()  # type: ignore[union-attr]


@pytest.mark.parametrize("sub_network", SUB_NETWORKS)
def test_fallback_to_the_reference_for_lists_that_are_not_full_or_not_sorted(sub_network: str) -> None:
    model = network(sub_network, ELEMENTS[1])
    graph = structures(ELEMENTS[1])["Solid"]
    order = torch.randperm(graph.edges.shape[1], generator=torch.Generator().manual_seed(1))
    for kept in (order, order[: len(order) // 2].sort().values, torch.arange(len(order) - 1)):
        other = replace(graph, edges=graph.edges[:, kept], shifts=graph.shifts[kept])
        assert max(largest_error(fused(model), model, other, stress=True).values()) < 1e-12


def test_fallback_for_no_atoms_at_all() -> None:
    model = network("painn", ELEMENTS[0])
    graph = structures(ELEMENTS[0])["single"]
    empty = replace(graph, numbers=graph.numbers[:0], positions=graph.positions[:0], batch=graph.batch[:0])
    found = fused(model).evaluate(empty, forces=True, stress=False)
    assert found.energy is not None
    assert found.energy.tolist() == [0.0]


def test_a_graph_of_any_layout_is_left_as_it_was() -> None:
    model = network("painn", ELEMENTS[1])
    graph = structures(ELEMENTS[1])["Batch"]
    other = replace(
        graph,
        positions=graph.positions.T.contiguous().T,
        edges=graph.edges.T.contiguous().T,
        shifts=graph.shifts.to(torch.int8),
    )
    before = [getattr(other, name).clone() for name in ("positions", "edges", "shifts", "cell")]
    assert max(largest_error(fused(model), model, other, stress=True).values()) < 1e-11
    for name, value in zip(("positions", "edges", "shifts", "cell"), before, strict=True):
        assert torch.equal(getattr(other, name), value)


def test_errors_are_those_of_the_reference() -> None:
    path, graphs = fused(network("rmconv", ELEMENTS[1])), structures(ELEMENTS[1])
    with pytest.raises(ModelError, match="volume"):
        path.evaluate(graphs["cluster"], forces=True, stress=True)
    with pytest.raises(ModelError, match=r"atomic numbers \[1, 6\]"):
        path.evaluate(structures(ELEMENTS[2])["Solid"], forces=True, stress=False)


def test_networks_without_kernels_are_told_why() -> None:
    config = HVNetConfig(elements=("Cu",), hidden_channels=8, num_layers=1)
    for other, word in (
        (HVNet(replace(config, variant="dgl")), "'dgl'"),
        (HVNet(replace(config, variant="pyg")), "'pyg'"),
        (HPNet(config), "HPNet"),
        (HTNet(config), "HTNet"),
    ):
        reason = hvnet_path(other, torch.float64)
        assert isinstance(reason, str)
        assert word in reason


@pytest.mark.parametrize("sub_network", SUB_NETWORKS)
def test_the_estimate_of_memory(sub_network: str) -> None:
    path = fused(network(sub_network, ELEMENTS[1], channels=32))
    path.evaluate(structures(ELEMENTS[1])["Solid"], forces=True, stress=False)
    graph = graph_of(crystal(ELEMENTS[1], 5), CUTOFF)
    estimate = path.memory(len(graph.numbers), graph.edges.shape[1])
    tracemalloc.start()
    path.evaluate(graph, forces=True, stress=False)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 0.7 * peak < estimate < 1.4 * peak
    assert 0.5 * peak < path.held_bytes < 1.1 * peak  # for the next call it is there
