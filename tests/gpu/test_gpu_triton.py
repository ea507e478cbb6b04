"""Triton kernels, run by Triton's interpreter where there is no GPU: the same numbers as the plain networks."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # must be set before triton is imported
if find_spec("triton") is None:
    pytest.skip("needs the package triton (pip install triton)", allow_module_level=True)

from small_networks import named_settings, random_network
from structures import cluster, graph_of, primitive

from mlcalc.gpu import CapturedPath, ResidentPotential
from mlcalc.gpu.gradients import Gradients
from mlcalc.gpu.kernels import fusion_obstacle
from mlcalc.gpu.padding import pad
from mlcalc.gpu.static import StaticNetwork, placed
from mlcalc.gpu.triton_rows import EDGES
from mlcalc.models import Graph, predict

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
NETWORKS = {name: (kind, settings) for name, kind, settings in named_settings()}
FUSED = [  # the interpreter is slow: few networks, each on few atoms
    "visnet lmax 1 HCO",
    "visnet lmax 2 HCO",
    "visnet original HCO",
    "hvnet Cu",
    "hvnet HCO",
    "hvnet painn HCO",
]


def fused(network: torch.nn.Module, graph: Graph, dtype: torch.dtype = torch.float64) -> Gradients:
    """What the kernels find for a graph."""
    static = StaticNetwork(placed(network, DEVICE, dtype), "triton")
    sizes, parts = static.sizes(graph)
    padded = pad(graph, sizes, network.cutoff).to(DEVICE)
    return static.gradients(padded, static.parts(graph.to(DEVICE), parts, sizes), strain=False)


def largest_error(network: torch.nn.Module, atoms: Atoms, dtype: torch.dtype = torch.float64) -> float:
    graph = graph_of(atoms, network.cutoff)
    found, reference = fused(network, graph, dtype), predict(network, graph)
    return max(
        float((found.forces.cpu()[: len(atoms)] - reference.forces).abs().max()),
        float((found.energy.cpu()[:1] - reference.energy).abs().max()),
    )


@pytest.mark.parametrize("name", FUSED)
def test_fused_network_equals_the_plain_one(name: str) -> None:
    network = random_network(*NETWORKS[name])
    assert largest_error(network, cluster(network.elements, atoms=5)) < 1e-10


@pytest.mark.parametrize("name", ["visnet lmax 2 HCO", "hvnet Cu"])
def test_single_precision(name: str) -> None:
    network = random_network(*NETWORKS[name])
    assert largest_error(network, cluster(network.elements, atoms=5), torch.float32) < 1e-4


def test_periodic_images_and_more_edges_than_a_tile_holds() -> None:
    network = random_network(*NETWORKS["hvnet painn Cu"])
    atoms = primitive(network.elements)
    atoms.set_cell(0.8 * np.array(atoms.cell))
    assert graph_of(atoms, network.cutoff).edges.shape[1] > EDGES
    assert largest_error(network, atoms) < 1e-10


def test_edges_in_another_order_would_be_noticed() -> None:
    network = random_network(*NETWORKS["hvnet Cu"])
    graph = graph_of(cluster(network.elements, atoms=4), network.cutoff)
    backwards = replace(graph, edges=graph.edges.flip(1), shifts=graph.shifts.flip(0))
    found = fused(network, backwards).forces.cpu()[: len(graph.numbers)]
    assert float((found - predict(network, graph).forces).abs().max()) > 1e-3


@pytest.mark.parametrize("name", ["hvnet Cu", "visnet lmax 1 HCO"])
def test_steps_that_stay_on_the_device(name: str) -> None:
    network = random_network(*NETWORKS[name])
    atoms = cluster(network.elements, atoms=4)
    step = ResidentPotential(
        network, torch.tensor(atoms.numbers), (False,) * 3, device=DEVICE, dtype=torch.float64, kernels="triton"
    )
    for move in (0.0, 0.1):
        atoms.positions[1] += move
        found = step(torch.tensor(atoms.positions), torch.zeros(3, 3, dtype=torch.float64))
        reference = predict(network, graph_of(atoms, network.cutoff)).forces
        assert float((found.forces.cpu() - reference).abs().max()) < 1e-10


def test_path_takes_them() -> None:
    network = random_network(*NETWORKS["hvnet Cu"])
    path = CapturedPath(network, DEVICE, torch.float64)
    assert path.name == "CUDA graphs, Triton kernels", path.why
    graph = graph_of(cluster(network.elements, atoms=4), network.cutoff)
    found, reference = path.evaluate(graph, forces=True, stress=False), predict(network, graph)
    assert float((found.forces.cpu() - reference.forces).abs().max()) < 1e-10


@pytest.mark.slow
def test_kernels_compile_for_hopper_without_spilling() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    script = Path(__file__).parents[1] / "helpers" / "triton_compilation.py"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", script], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    stacks = [int(line.split()[-1]) for line in done.stdout.splitlines()]
    assert len(stacks) == 22
    assert max(stacks) == 0, done.stdout


def test_networks_without_kernels_say_why() -> None:
    found = {name: fusion_obstacle(random_network(*NETWORKS[name]), "triton") for name in NETWORKS}
    assert all(found[name] == "" for name in FUSED)
    assert "improper angles" in found["visnet original edge max_min HCO"]
    assert "silu" in found["visnet edge Cu"]
    assert "variant 'dgl'" in found["hvnet dgl HCO"]
    assert "HTNet has no Triton kernels" in found["htnet Cu"]
