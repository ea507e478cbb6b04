"""Whole steps of dynamics with everything on one device, run on the CPU: the same numbers as by the host's lists."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from ase import Atoms
from small_networks import ELEMENTS, SOUND, named_settings, random_network
from structures import cluster, crystal, graph_of, slab

from mlcalc.errors import NonFiniteError
from mlcalc.gpu import DeviceTrajectory, ResidentPotential
from mlcalc.gpu.neighbors import DeviceNeighborList
from mlcalc.gpu.step_buffers import StepBuffers
from mlcalc.md_protocols.errors import ConfigError
from mlcalc.models import predict

CPU = torch.device("cpu")
NETWORKS = {name: (kind, settings) for name, kind, settings in named_settings()}
RESIDENT = [
    f"{name} {chemistry}" for name, kind, _ in SOUND for chemistry in ELEMENTS if kind in ("hvnet", "visnet")
] + ["visnet original HCO"]


def resident(network: torch.nn.Module, atoms: Atoms, *, stress: bool = False, skin: float = 0.6) -> ResidentPotential:
    a, b, c = (bool(flag) for flag in atoms.pbc)
    numbers = torch.tensor(atoms.numbers, dtype=torch.int64)
    return ResidentPotential(
        network, numbers, (a, b, c), device=CPU, dtype=torch.float64, skin=skin, stress=stress, kernels="torch"
    )


def difference(step: ResidentPotential, network: torch.nn.Module, atoms: Atoms, *, stress: bool = False) -> float:
    """Largest error of energy (relative), forces and stress against ASE's list and the plain network."""
    found = step(torch.tensor(atoms.positions), torch.tensor(np.array(atoms.cell)))
    reference = predict(network, graph_of(atoms, network.cutoff), stress=stress)
    errors = [abs(found.energy - float(reference.energy)) / max(abs(found.energy), 1)]
    errors.append(abs(found.energy - float(found.energies.sum())) / max(abs(found.energy), 1))
    graph = graph_of(atoms, network.cutoff)
    assert found.edges == graph.edges.shape[1], "edges"
    assert found.edges == 0 or found.shortest == pytest.approx(float(graph.edge_vectors().norm(dim=1).min()))
    errors.append(float((found.forces - reference.forces).abs().max()))
    if stress:
        errors.append(float((found.stress - reference.stress[0]).abs().max()))
    return max(errors)


def motion(atoms: Atoms, steps: int, *, scale: float = 0.05, strain: float = 0.0) -> Iterator[Atoms]:
    rng = np.random.default_rng(5)
    now = atoms.copy()
    for _ in range(steps):
        yield now.copy()
        now.positions += rng.normal(0.0, scale, now.positions.shape)
        if strain:
            deformation = np.eye(3) + rng.normal(0.0, strain, (3, 3))
            now.set_cell(np.array(now.cell) @ deformation, scale_atoms=True)


@pytest.mark.parametrize("name", RESIDENT)
def test_steps_equal_the_plain_network(name: str) -> None:
    network = random_network(*NETWORKS[name])
    for atoms in (cluster(network.elements), crystal(network.elements), slab(network.elements)):
        step = resident(network, atoms)
        assert max(difference(step, network, now) for now in motion(atoms, 6)) < 1e-10
        assert step.captures <= 3


def test_stress_while_the_cell_changes() -> None:
    network = random_network(*NETWORKS["visnet lmax 1 HCO"])
    atoms = crystal(network.elements)
    step = resident(network, atoms, stress=True)
    for now in motion(atoms, 8, strain=0.01):
        assert difference(step, network, now, stress=True) < 1e-10
    assert 1 < step.neighbors.rebuilds < 8


@pytest.mark.parametrize("name", ["hvnet HCO", "visnet lmax 2 HCO"])
def test_more_edges_than_there_is_room_for(name: str) -> None:
    network = random_network(*NETWORKS[name])
    atoms = cluster(network.elements, atoms=12)
    spread = atoms.copy()
    spread.positions *= 2.5
    step = resident(network, spread)
    assert difference(step, network, spread) < 1e-10
    assert difference(step, network, atoms) < 1e-10
    assert step.captures == 2
    assert difference(step, network, spread) < 1e-10
    assert step.captures == 2


def test_atoms_without_neighbors() -> None:
    network = random_network(*NETWORKS["hvnet HCO"])
    for atoms in (Atoms("O"), Atoms("CO", positions=[[0, 0, 0], [0, 0, 9e4]])):
        step = resident(network, atoms)
        assert difference(step, network, atoms) < 1e-12
        assert step(torch.tensor(atoms.positions), torch.zeros(3, 3, dtype=torch.float64)).shortest == float("inf")


def test_an_atom_wrapped_by_the_caller() -> None:
    network = random_network(*NETWORKS["hvnet Cu"])
    atoms = crystal(network.elements)
    step = resident(network, atoms)
    before = difference(step, network, atoms)
    atoms.positions[1] += atoms.cell[0] - 2 * atoms.cell[2]
    assert max(before, difference(step, network, atoms)) < 1e-10


def test_an_outdated_list_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    network = random_network(*NETWORKS["visnet original HCO"])
    atoms = cluster(network.elements, atoms=9)
    step = resident(network, atoms, skin=0.1)
    difference(step, network, atoms)
    monkeypatch.setattr(DeviceNeighborList, "search", lambda self, *_: self.candidates)
    step.neighbors.reach = 1e3  # so that any motion is allowed
    with pytest.raises(AssertionError, match="edges"):
        assert max(difference(step, network, now) for now in motion(atoms, 10, scale=0.2)) < 1e-10


@pytest.mark.parametrize("kinds", [1, 3])
def test_graphs_of_a_step_are_made_without_looking_at_a_number(kinds: int) -> None:
    numbers = torch.ones(10, dtype=torch.int64, device="meta")
    buffers = StepBuffers(numbers, numbers, [64] * kinds, 4.0, 100)
    graph, shortest, counts = buffers.graph()
    assert shortest.shape == ()
    assert (graph.edges.shape, counts.shape, buffers.motion().shape) == ((2, 64 * kinds), (kinds,), ())
    with pytest.raises(RuntimeError, match="meta"):
        float(counts.sum())


def test_results_outlive_the_next_step() -> None:
    network = random_network(*NETWORKS["hvnet Cu"])
    atoms = crystal(network.elements)
    step = resident(network, atoms)
    cell = torch.tensor(np.array(atoms.cell))
    first = step(torch.tensor(atoms.positions), cell)
    kept = first.forces.clone()
    step(torch.tensor(atoms.positions) + 0.1 * torch.rand(len(atoms), 3, dtype=torch.float64), cell)
    assert torch.equal(first.forces, kept)


def test_trajectory_of_the_calculator() -> None:
    network = random_network(*NETWORKS["hvnet HCO"])
    run = DeviceTrajectory(network, device=CPU, dtype=torch.float64, skin=1.0, kernels="torch")
    molecule, solid = cluster(network.elements), crystal(network.elements)
    first = solid.copy()
    moved = solid.copy()
    moved.positions += 0.01 * np.random.default_rng(0).normal(size=moved.positions.shape)
    for atoms in (molecule, first, moved, molecule):
        stress = bool(atoms.pbc.all())
        found = run.step(atoms.numbers, atoms.positions, np.array(atoms.cell), atoms.pbc, stress=stress)
        reference = predict(network, graph_of(atoms, network.cutoff), stress=stress)
        assert float((found.forces - reference.forces).abs().max()) < 1e-10
        assert (found.stress is None) == (not stress)
        assert run.rebuilds == 1
    with pytest.raises(ConfigError, match="HPNet cannot stay"):
        DeviceTrajectory(random_network(*NETWORKS["hpnet Cu"]), device=CPU, dtype=torch.float64, skin=1.0)


def test_what_cannot_be_done_is_refused() -> None:
    atoms = cluster(("H", "C", "O"))
    with pytest.raises(ConfigError, match="HTNet cannot stay on the device"):
        resident(random_network(*NETWORKS["htnet HCO"]), atoms)
    step = resident(random_network(*NETWORKS["hvnet HCO"]), atoms)
    positions = torch.tensor(atoms.positions)
    step(positions, torch.zeros(3, 3, dtype=torch.float64))
    positions[2, 1] = float("nan")
    with pytest.raises(NonFiniteError, match="NaN"):
        step(positions, torch.zeros(3, 3, dtype=torch.float64))
