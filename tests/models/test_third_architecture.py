"""A network that nobody here knows of, written as one file and registered by one line, goes through everything."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from schnet import registered
from small_networks import random_network
from structures import graph_of

from mlcalc import MLCalculator, evaluate, load_model, save_model
from mlcalc.cli import main
from mlcalc.engine.engine import Engine
from mlcalc.engine.pieces import evaluate_pieces, piece_around, receptive_layers, split_graph
from mlcalc.md_protocols import run_nve
from mlcalc.models import ModelError, predict, registry
from mlcalc.training import load_training_config, train

SETTINGS: dict[str, Any] = {"elements": ("Cu", "Au"), "cutoff": 3.2, "energy_shift": (-3.7, -2.0)}


@pytest.fixture(autouse=True)
def known() -> Iterator[None]:
    with registered():
        yield


def rattled() -> Atoms:
    atoms = bulk("Cu", cubic=True) * (2, 2, 5)
    atoms.symbols[::3] = "Au"
    atoms.rattle(0.1, seed=1)
    return atoms


def test_calculator_and_model_file(tmp_path: Path) -> None:
    network, atoms = random_network("schnet", SETTINGS), rattled()
    path = tmp_path / "schnet.safetensors"
    save_model(network, path, golden=[bulk("Cu")])
    expected = predict(network, graph_of(atoms, network.cutoff), stress=True)
    atoms.calc = MLCalculator(load_model(path))
    assert atoms.get_potential_energy() == pytest.approx(float(expected.energy[0]), abs=1e-9)
    assert np.abs(atoms.get_forces() - expected.forces.numpy()).max() < 1e-10
    assert np.abs(atoms.get_stress() - expected.stress[0].numpy()).max() < 1e-12
    run = run_nve(atoms, timestep_fs=0.1, steps=20, temperature_K=100, seed=1)
    assert np.ptp(run.conserved) < 1e-3 * len(atoms)


def test_kernels_fall_back_to_autograd_and_say_so() -> None:
    engine = Engine(random_network("schnet", SETTINGS), kernels="auto", dtype="float64")
    assert "there are none for SchNet" in engine.why
    assert evaluate(engine.potential, [rattled()] * 2)[1].energy == pytest.approx(
        float(predict(engine.potential, graph_of(rattled(), 3.2)).energy[0]), abs=1e-9
    )


def test_pieces_of_a_structure_and_the_rim_of_a_rank() -> None:
    """What LAMMPS' ranks compute is the piece around their own atoms."""
    network, graph = random_network("schnet", SETTINGS), graph_of(rattled(), SETTINGS["cutoff"])
    layers = receptive_layers(network)
    assert layers == 2
    whole = predict(network, graph, stress=True)
    pieces = split_graph(graph, layers, lambda atoms, edges: atoms, 0.8 * len(graph.numbers))
    assert pieces is not None
    assert len(pieces) > 1
    parts = evaluate_pieces(network, graph, pieces, torch.device("cpu"), forces=True, stress=True)
    assert torch.allclose(parts.forces, whole.forces, atol=1e-11, rtol=0)
    own = torch.arange(20)
    for reach, equal in ((layers, True), (layers - 1, False)):
        piece = piece_around(graph, own, reach)
        energies = network(piece.graph)[piece.central]
        assert torch.allclose(energies, whole.energies[own], atol=1e-11, rtol=0) is equal


def test_training_and_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frames = []
    for seed in range(8):
        atoms = bulk("Cu", cubic=True, a=3.6)
        atoms.rattle(0.1, seed=seed)
        atoms.calc = EMT()
        results = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces(), "stress": atoms.get_stress()}
        atoms.calc = SinglePointCalculator(atoms, **results)
        frames.append(atoms)
    write(tmp_path / "frames.xyz", frames)
    (tmp_path / "schnet.toml").write_text(
        'name = "small"\n[model]\nkind = "schnet"\ncutoff = 4.0\n[data]\ntrain = "frames.xyz"\ntest = "frames.xyz"\n'
        "validation = 2\n[loss]\nstress = 1.0\n[optimizer]\nepochs = 30\nlearning_rate = 0.01\nwarmup_steps = 2\n"
    )
    path = train(load_training_config(tmp_path / "schnet.toml"), tmp_path / "out", progress=False)
    losses = np.loadtxt(tmp_path / "out" / "log.csv", delimiter=",", skiprows=1)[:, 3]
    assert losses[-1] < 0.5 * losses[0]
    assert main(["eval", str(path), str(tmp_path / "frames.xyz"), "--json"]) == 0
    assert "forces" in json.dumps(json.loads(capsys.readouterr().out))


def test_unregistered_it_is_refused_by_name(tmp_path: Path) -> None:
    network = random_network("schnet", SETTINGS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_ARCHITECTURES", {k: v for k, v in registry._ARCHITECTURES.items() if k != "schnet"})
        with pytest.raises(ModelError, match="SchNet is not a registered architecture"):
            save_model(network, tmp_path / "a.safetensors")
    atoms = molecule("CH4")
    atoms.calc = MLCalculator(network)
    with pytest.raises(Exception, match="Cu, Au"):
        atoms.get_potential_energy()
