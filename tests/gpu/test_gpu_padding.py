"""Padded graphs, and the GPU's evaluation path run on the CPU: the same numbers as the plain network."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from ase import Atoms
from checks import defined
from small_networks import named_settings, random_network
from structures import cluster, crystal, graph_of, samples

from mlcalc.gpu import static
from mlcalc.gpu.capture import CapturedPath, cuda_path
from mlcalc.gpu.gradients import energy_gradients
from mlcalc.gpu.obstacles import capture_obstacle
from mlcalc.gpu.padding import Sizes, bucket, pad, padded_sizes
from mlcalc.gpu.precision import matmul_precision
from mlcalc.graphs.trial import trial_graph
from mlcalc.md_protocols.errors import ConfigError
from mlcalc.models import Graph, Prediction, predict
from mlcalc.models.elements import atomic_number

CPU = torch.device("cpu")
NETWORKS = {name: (kind, settings) for name, kind, settings in named_settings()}
COUPLED = "visnet original node rms HCO"  # its norm asks whether all vectors of all structures vanish, dummies included
CAPTURED = [  # networks that run without looking at a number
    name
    for name in NETWORKS
    if name.startswith(("hvnet Cu", "hvnet HCO", "hvnet painn", "visnet"))
    and not any(word in name for word in ("12", "rms"))
]


def largest_difference(ours: Prediction, reference: Prediction) -> float:
    """Over energies, forces and, where both have it, stress; energies relative to their size."""
    pairs = [(ours.energy, reference.energy), (ours.energies, reference.energies), (ours.forces, reference.forces)]
    if reference.stress is not None:
        pairs.append((ours.stress, reference.stress))
    return max(float(((a - b).abs() / b.abs().max().clamp(min=1)).max()) for a, b in pairs)


def padded_prediction(network: torch.nn.Module, graph: Graph, sizes: Sizes) -> Prediction:
    padded = predict(network, pad(graph, sizes, network.cutoff))
    atoms, structures = len(graph.numbers), graph.n_structures
    return Prediction(padded.energy[:structures], padded.energies[:atoms], padded.forces[:atoms])


def test_buckets_grow_in_steps_and_hold_what_they_are_for() -> None:
    sizes = sorted({bucket(count) for count in range(1, 5000)})
    assert all(bucket(count) >= count for count in range(1, 5000))
    assert all(1 < large / small <= 1.5 for small, large in pairwise(sizes))
    assert len(sizes) < 60
    assert bucket(sizes[-1]) == sizes[-1]


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != COUPLED])
def test_dummies_change_nothing(name: str) -> None:
    network = random_network(*NETWORKS[name])
    for atoms in defined(network, samples(network.elements)):
        graph = graph_of(atoms, network.cutoff)
        reference = predict(network, graph)
        smallest = padded_sizes(len(atoms), graph.edges.shape[1], 1)
        for sizes in (smallest, Sizes(smallest.atoms + 13, smallest.edges + 117, 4)):
            assert largest_difference(padded_prediction(network, graph, sizes), reference) < 1e-12


def test_dummy_edges_of_real_atoms_would_be_noticed() -> None:
    network = random_network(*NETWORKS["visnet original HCO"])
    graph = graph_of(cluster(network.elements), network.cutoff)
    sizes = padded_sizes(len(graph.numbers), graph.edges.shape[1], 1)
    padded = pad(graph, sizes, network.cutoff)
    edges = padded.edges.clone()
    edges[0, graph.edges.shape[1] :] = 0
    wrong = predict(network, replace(padded, edges=edges))
    assert abs(wrong.energy[0] - predict(network, graph).energy[0]) > 1e-3


@pytest.mark.parametrize("name", CAPTURED)
def test_why_pairs_of_the_skin_are_sorted_out(name: str) -> None:
    network = random_network(*NETWORKS[name])
    atoms = crystal(network.elements)
    exact, wide = (predict(network, graph_of(atoms, network.cutoff + skin)) for skin in (0.0, 0.8))
    if "original" in name:  # vectors of pairs at any distance are added
        assert largest_difference(wide, exact) > 1e-3
    else:
        assert largest_difference(wide, exact) < 1e-12


@pytest.mark.parametrize("name", CAPTURED)
def test_path_equals_predict(name: str) -> None:
    network = random_network(*NETWORKS[name])
    path = CapturedPath(network, CPU, torch.float64, kernels="torch")
    structures = defined(network, samples(network.elements))
    for members in [*([atoms] for atoms in structures), structures]:
        graph = graph_of(members, network.cutoff)
        stress = bool((torch.linalg.det(graph.cell) != 0).all())
        ours, reference = path.evaluate(graph, forces=True, stress=stress), predict(network, graph, stress=stress)
        assert largest_difference(ours, reference) < 1e-12
    assert path.kernels == "torch"


@pytest.mark.parametrize("name", ["hvnet HCO", "visnet lmax 2 HCO", "visnet original HCO"])
def test_single_precision(name: str) -> None:
    network = random_network(*NETWORKS[name])
    path = CapturedPath(network, CPU, torch.float32, kernels="torch")
    graph = graph_of(crystal(network.elements), network.cutoff)
    found, reference = path.evaluate(graph, forces=True, stress=False), predict(network, graph)
    assert found.energy.dtype == found.forces.dtype == torch.float64
    assert 1e-12 < float((found.forces - reference.forces).abs().max()) < 1e-4


@pytest.mark.parametrize("name", NETWORKS)
def test_obstacles_name_their_place(name: str) -> None:
    found = capture_obstacle(random_network(*NETWORKS[name]))
    assert (found == "") == (name in CAPTURED)
    assert found == "" or ".py" in found or name == COUPLED


def test_results_of_one_call_outlive_the_next() -> None:
    network = random_network(*NETWORKS["visnet lmax 2 Cu"])
    path = CapturedPath(network, CPU, torch.float64, kernels="torch")
    first, second = (graph_of(crystal(("Cu",), seed=seed), network.cutoff) for seed in (2, 3))
    found = path.evaluate(first, forces=True, stress=True)
    path.evaluate(second, forces=True, stress=True)
    assert largest_difference(found, predict(network, first, stress=True)) < 1e-12


def test_few_sizes_are_recorded_for_many_numbers_of_edges() -> None:
    network = random_network(*NETWORKS["hvnet HCO"])
    path = CapturedPath(network, CPU, torch.float64, kernels="torch")
    atoms = cluster(network.elements, atoms=16)
    counts = set()
    for step in range(30):
        moved = Atoms(atoms.symbols, positions=atoms.positions * (1 + 0.005 * step))
        graph = graph_of(moved, network.cutoff)
        counts.add(graph.edges.shape[1])
        assert largest_difference(path.evaluate(graph, forces=True, stress=False), predict(network, graph)) < 1e-12
    assert len(counts) > 10
    assert len(path._captured) < len(counts) / 2


def test_strain_gradient_is_that_of_predict_and_not_that_of_the_atoms_alone() -> None:
    network = random_network(*NETWORKS["visnet lmax 1 HCO"])
    graph = graph_of(crystal(network.elements), network.cutoff)
    found = energy_gradients(network, graph, strain=True)
    reference = predict(network, graph, stress=True).stress
    volume = torch.linalg.det(graph.cell).abs()
    voigt = torch.stack([found.strain[:, a, b] for a, b in ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))], dim=1)
    assert torch.allclose(voigt / volume, reference, atol=1e-12)
    without_cell = -(graph.positions[:, :, None] * found.forces[:, None, :]).sum(0) / volume
    assert abs(without_cell[0, 0] - reference[0, 0]) > 1e-3


def test_precision_is_local() -> None:
    matmul = torch.backends.cuda.matmul
    before = matmul.fp32_precision
    with matmul_precision("tf32"):
        assert matmul.fp32_precision == "tf32"
        with matmul_precision("ieee"):
            assert matmul.fp32_precision == "ieee"
        assert matmul.fp32_precision == "tf32"
    assert matmul.fp32_precision == before


def test_kernels_that_give_wrong_numbers_are_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    network = random_network(*NETWORKS["visnet lmax 1 HCO"])

    def spoil(layers: torch.nn.Module, kernels: str) -> None:
        layers.embedding.atom.weight.mul_(1.001)

    monkeypatch.setattr(static, "prepare_kernels", spoil)
    path = CapturedPath(network, CPU, torch.float64)
    assert path.kernels == ""
    assert path.name == "torch autograd"
    assert "not by torch kernels: their numbers differ" in path.why
    graph = graph_of(cluster(network.elements), network.cutoff)
    assert largest_difference(path.evaluate(graph, forces=True, stress=False), predict(network, graph)) < 1e-12


def test_trial_structure_looks_like_a_crystal() -> None:
    for name in CAPTURED:
        network = random_network(*NETWORKS[name])
        graph = trial_graph(network)
        distances = graph.edge_vectors().norm(dim=1)
        assert set(graph.numbers.tolist()) == {atomic_number(element) for element in network.elements}
        assert 15 < graph.edges.shape[1] / 8 < 40
        assert float(distances.min()) > 0.25 * network.cutoff


def test_settings_that_make_no_sense_are_refused() -> None:
    network = random_network(*NETWORKS["hvnet Cu"])
    with pytest.raises(ConfigError, match="tf32.*float64"):
        CapturedPath(network, CPU, torch.float64, matmul="tf32")
    with pytest.raises(ConfigError, match="cannot be used: (HTNet has no|.*need the package) [Tt]riton"):
        CapturedPath(random_network(*NETWORKS["htnet Cu"]), CPU, torch.float64, kernels="triton")
    with pytest.raises(ConfigError, match="choose one of"):
        CapturedPath(network, CPU, torch.float64, kernels="fast")
    assert "CUDA device" in str(cuda_path(network, CPU, torch.float64))
