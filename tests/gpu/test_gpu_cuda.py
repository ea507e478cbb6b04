"""What only a GPU can show: captured graphs, kernels and lists there, against float64 autograd on the CPU."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

if not torch.cuda.is_available():
    pytest.skip("needs a CUDA device: run benchmarks/gpu.sh where there is one", allow_module_level=True)

from ase.build import bulk
from checks import defined
from small_networks import named_settings, random_network
from structures import cluster, crystal, graph_of, samples

from mlcalc.gpu import CapturedPath, ResidentPotential, cuda_path
from mlcalc.gpu.cells import device_pairs
from mlcalc.gpu.kernels import fusion_obstacle
from mlcalc.gpu.obstacles import capture_obstacle
from mlcalc.graphs.neighbors import neighbor_pairs
from mlcalc.models import predict

GPU = torch.device("cuda")
NETWORKS = {name: (kind, settings) for name, kind, settings in named_settings()}


def force_error(path: CapturedPath, network: torch.nn.Module, graph: object) -> float:
    found, reference = path.evaluate(graph, forces=True, stress=False), predict(network, graph)
    assert found.forces.device.type == "cuda"
    assert float((found.energy.cpu() - reference.energy).abs().max()) < 0.1
    return float((found.forces.cpu() - reference.forces).abs().max())


@pytest.mark.parametrize("kernels", ["torch", "triton"])
@pytest.mark.parametrize("name", NETWORKS)
def test_captured_graphs(name: str, kernels: str) -> None:
    network = random_network(*NETWORKS[name])
    if capture_obstacle(network) or fusion_obstacle(network, kernels):
        assert isinstance(cuda_path(network, GPU, torch.float64), str) == bool(capture_obstacle(network))
        return
    path = cuda_path(network, GPU, torch.float64, kernels=kernels)
    assert isinstance(path, CapturedPath), path
    structures = defined(network, samples(network.elements))
    for members in [*([atoms] for atoms in structures), structures, structures[:1]]:  # the first size twice
        assert force_error(path, network, graph_of(members, network.cutoff)) < 1e-8
    assert path.name.startswith("CUDA graphs"), path.why


@pytest.mark.parametrize("kernels", ["torch", "triton"])
@pytest.mark.parametrize(("matmul", "limit"), [("ieee", 1e-4), ("tf32", 3e-2)])
@pytest.mark.parametrize("name", ["hvnet Cu", "hvnet HCO", "visnet lmax 1 HCO", "visnet lmax 2 HCO"])
def test_single_precision(name: str, matmul: str, limit: float, kernels: str) -> None:
    network = random_network(*NETWORKS[name])
    path = CapturedPath(network, GPU, torch.float32, matmul=matmul, kernels=kernels)
    assert path.name.startswith("CUDA graphs"), path.why
    assert force_error(path, network, graph_of(crystal(network.elements), network.cutoff)) < limit


@pytest.mark.parametrize("name", ["hvnet HCO", "visnet lmax 2 HCO"])
def test_stress(name: str) -> None:
    network = random_network(*NETWORKS[name])
    path = CapturedPath(network, GPU, torch.float64)
    graph = graph_of(crystal(network.elements), network.cutoff)
    found, reference = path.evaluate(graph, forces=True, stress=True), predict(network, graph, stress=True)
    assert float((found.stress.cpu() - reference.stress).abs().max()) < 1e-10


@pytest.mark.parametrize("name", ["hvnet Cu", "hvnet HCO", "visnet lmax 2 HCO"])
def test_steps_that_stay_on_the_device(name: str) -> None:
    network = random_network(*NETWORKS[name])
    atoms = crystal(network.elements)
    numbers, cell = torch.tensor(atoms.numbers), torch.tensor(np.array(atoms.cell))
    step = ResidentPotential(network, numbers, (True, True, True), device=GPU, dtype=torch.float64)
    rng = np.random.default_rng(0)
    for _ in range(20):
        atoms.positions += rng.normal(0.0, 0.08, atoms.positions.shape)
        found = step(torch.tensor(atoms.positions), cell)
        reference = predict(network, graph_of(atoms, network.cutoff))
        assert found.energy == pytest.approx(float(reference.energy), abs=1e-8)
        assert float((found.forces.cpu() - reference.forces).abs().max()) < 1e-8
    assert 1 < step.neighbors.rebuilds < 20


def test_several_threads_share_a_path() -> None:
    network = random_network(*NETWORKS["visnet lmax 1 HCO"])
    path = CapturedPath(network, GPU, torch.float64)
    errors: list[float] = []

    def work(seed: int) -> None:
        for _ in range(5):
            errors.append(force_error(path, network, graph_of(cluster(network.elements, seed=seed), network.cutoff)))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(errors) == 15
    assert max(errors) < 1e-8


def test_neighbor_list_on_the_device() -> None:
    atoms = bulk("Cu", cubic=True) * (8, 8, 8)
    atoms.rattle(0.1, seed=3)
    found = device_pairs(
        torch.tensor(atoms.positions, device=GPU), torch.tensor(np.array(atoms.cell)), (True,) * 3, 5.0
    )
    expected = neighbor_pairs(atoms.positions, np.array(atoms.cell), atoms.pbc, 5.0)
    assert np.array_equal(found.i.cpu().numpy(), expected.i)
    assert np.array_equal(found.j.cpu().numpy(), expected.j)
    assert np.array_equal(found.shifts.cpu().numpy(), expected.shifts)


def test_precision_of_the_process_stays_as_it_was() -> None:
    before = torch.backends.cuda.matmul.fp32_precision
    network = random_network(*NETWORKS["hvnet Cu"])
    path = CapturedPath(network, GPU, torch.float32, matmul="tf32")
    path.evaluate(graph_of(crystal(("Cu",)), network.cutoff), forces=True, stress=False)
    assert torch.backends.cuda.matmul.fp32_precision == before
