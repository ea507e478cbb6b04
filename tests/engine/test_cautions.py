"""Warnings about models of original codes: where it matters, once, and nowhere else."""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk, fcc111, molecule
from ase.io import write
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS
from property_networks import Jumping, Tiny, TinyConfig, registered
from small_networks import random_network

from mlcalc import MLCalculator, evaluate, save_model
from mlcalc.cli import main
from mlcalc.engine.cautions import periodic_heights
from mlcalc.md_protocols import run_nve, run_nvt
from mlcalc.md_protocols.errors import PhysicsWarning
from mlcalc.representations import atom_representations


@pytest.fixture(autouse=True)
def _known() -> Iterator[None]:
    with registered():
        yield


class Told:
    """The texts of the warnings in a block."""

    def __enter__(self) -> list[str]:
        self._catch = warnings.catch_warnings(record=True)
        self._records = self._catch.__enter__()
        warnings.simplefilter("always")
        self.texts: list[str] = []
        return self.texts

    def __exit__(self, *error: Any) -> None:
        self._catch.__exit__(*error)
        assert all(record.category is PhysicsWarning for record in self._records)
        self.texts.extend(str(record.message) for record in self._records)


def calculator(**settings: Any) -> MLCalculator:
    return MLCalculator(Tiny(TinyConfig(elements=("H", "C", "O"), **settings)))


def crystal(repeat: int | tuple[int, int, int]) -> Atoms:
    atoms = bulk("C", cubic=True) * repeat
    atoms.rattle(0.02, seed=3)
    return atoms


def ethanol(moving: bool = False) -> Atoms:
    atoms = molecule("CH3CH2OH")
    if moving:
        atoms.set_momenta(0.1 * np.random.default_rng(0).normal(size=(9, 3)))
    return atoms


def test_heights_are_those_between_opposite_faces() -> None:
    cell = np.array([[4.0, 0, 0], [3.0, 5.0, 0], [1.0, 2.0, 6.0]])
    volume = abs(np.linalg.det(cell))
    areas = [np.linalg.norm(np.cross(cell[(k + 1) % 3], cell[(k + 2) % 3])) for k in range(3)]
    np.testing.assert_allclose(periodic_heights(cell, np.array([True] * 3)), volume / areas)
    assert volume / areas[0] < 0.9 * 4.0  # a vector's length would be the wrong measure
    flat = np.array([[4.0, 0, 0], [3.0, 5.0, 0], [0, 0, 0]])
    np.testing.assert_allclose(periodic_heights(flat, np.array([True, True, False])), [20 / np.hypot(3, 5), 5.0])
    assert periodic_heights(flat, np.array([False] * 3)).size == 0


def test_nearest_images_in_a_small_box() -> None:
    atoms = crystal((2, 1, 2))  # 7.13, 3.57, 7.13 Å
    with Told() as texts:
        calculator(legacy_mic=True).get_potential_energy(atoms)
    assert len(texts) == 1
    for words in ("3.57 Å along b, less than 2 x cutoff = 4 Å", "legacy_mic=True", "repeat", "legacy_mic=False"):
        assert words in texts[0]
    assert "along a" not in texts[0]
    slab = fcc111("C", (1, 4, 2), a=3.567, vacuum=None)
    slab.pbc = (True, True, False)
    with Told() as texts:
        calculator(legacy_mic=True).get_potential_energy(slab)
    assert "along a, less" in texts[0]
    silent = [
        (calculator(legacy_mic=True), crystal(2)),
        (calculator(legacy_mic=True), ethanol()),
        (calculator(), crystal(1)),
    ]
    for calc, structure in silent:  # warnings are errors here
        calc.get_potential_energy(structure)
    tight = crystal(1)
    tight.pbc = False
    calculator(legacy_mic=True).get_potential_energy(tight)


@pytest.mark.parametrize("applied", [True, False])
def test_more_neighbors_than_the_limit(applied: bool) -> None:
    setting = "max_num_neighbors" if applied else "trained_max_num_neighbors"
    atoms = ethanol()
    distances = atoms.get_all_distances()
    most = int(((distances < 2.0).sum(1)).max())  # the atom itself among them
    first = int(np.argmax((distances < 2.0).sum(1) > most - 1))
    calculator(**{setting: most}).get_potential_energy(atoms)  # exactly full: nothing is left out
    with Told() as texts:
        calculator(**{setting: most - 1}).get_potential_energy(atoms)
    (text,) = texts
    over = int(((distances < 2.0).sum(1) > most - 1).sum())
    assert f"atom {first} has {most - 1} neighbors within 2 Å, with itself more than the {most - 1}" in text
    assert f"so have {over} of 9 atoms" in text
    assert ("lowest index are kept" in text) == applied
    assert (f"imported with max_num_neighbors={most - 1}, which applies" in text) != applied
    both = calculator(max_num_neighbors=most, trained_max_num_neighbors=2)
    both.get_potential_energy(atoms)  # the limit that is applied is the one that counts


def test_jumps_matter_to_moving_atoms() -> None:
    calc, atoms = MLCalculator(Jumping(TinyConfig())), ethanol(moving=True)
    for _ in range(3):  # a frame of a run, and a relaxation from there: momenta that stay as they are
        atoms.rattle(0.01)
        calc.get_forces(atoms)
    atoms.rattle(0.01)
    atoms.set_momenta(0.9 * atoms.get_momenta())
    with Told() as texts:
        calc.get_forces(atoms)
    (text,) = texts
    assert "jumps when an atom crosses the cutoff" in text
    assert "NVE" in text
    assert "thermostat" in text
    evaluate(Jumping(TinyConfig()), [ethanol(moving=True), ethanol(), atoms])  # frames of a run are not a run
    calc = MLCalculator(Jumping(TinyConfig()))
    charges = MLCalculator(Jumping(TinyConfig(quantity="charge")))  # no energy, no jumps of it
    for scale in (1.0, 1.1):
        atoms.set_momenta(scale * atoms.get_momenta())
        charges.get_property("scalar", atoms)
        atoms.rattle(0.01)
        calculator().get_forces(atoms)
    assert not charges.energy_jumps
    assert calc.energy_jumps
    assert not calculator().energy_jumps
    original = {"elements": ("H", "C", "O"), "hidden_channels": 8, "num_layers": 1, "num_heads": 2}
    assert MLCalculator(random_network("visnet", original | {"variant": "original"})).energy_jumps


def test_once_per_calculator_also_after_copies() -> None:
    atoms = crystal(1)
    with Told() as texts:
        calc = calculator(legacy_mic=True, max_num_neighbors=2)
        for seed in range(4):
            atoms.rattle(0.02, seed=seed)
            calc.get_potential_energy(atoms)
    assert len(texts) == 2
    for twin in (copy.deepcopy(calc), pickle.loads(pickle.dumps(calc))):  # noqa: S301 - our own object
        twin.get_potential_energy(atoms)
    fresh = pickle.loads(pickle.dumps(calculator(legacy_mic=True)))  # noqa: S301
    with Told() as texts:
        fresh.get_potential_energy(atoms)
        calculator(legacy_mic=True).get_potential_energy(atoms)
    assert len(texts) == 2


def test_nothing_is_counted_once_it_was_said(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    counted = torch.bincount
    monkeypatch.setattr(torch, "bincount", lambda *a, **k: calls.append(1) or counted(*a, **k))
    calc, atoms = calculator(max_num_neighbors=2), ethanol()
    with Told():
        for step in range(3):
            atoms.positions[0, 0] += 0.01
            calc.get_potential_energy(atoms)
            assert len(calls) == 1, step
    ample = calculator(trained_max_num_neighbors=32)  # 9 atoms have 16 edges
    ample.get_potential_energy(atoms)
    assert len(calls) == 1


def test_an_error_filter_stops_one_call_only() -> None:
    calc = calculator(legacy_mic=True)
    with pytest.raises(PhysicsWarning, match="legacy_mic"):
        calc.get_potential_energy(crystal(1))
    assert calc.results == {}
    assert np.isfinite(calc.get_potential_energy(crystal(1)))


def test_evaluate_says_it_once_and_names_the_structure() -> None:
    network = Tiny(TinyConfig(legacy_mic=True))
    for function in (evaluate, atom_representations):
        with Told() as texts:
            function(network, [ethanol(), crystal(2), crystal(1), crystal(1)])
        (text,) = texts
        assert text.startswith("structure 2: the height of the cell is 3.57 Å along a and 3.57 Å along b and ")


@pytest.mark.parametrize("start", ["drawn", "given", "at rest"])
def test_nve_with_jumps_warns_exactly_once(start: str) -> None:
    atoms = ethanol(moving=start == "given")
    atoms.calc = MLCalculator(Jumping(TinyConfig()))
    with Told() as texts:
        run_nve(atoms, timestep_fs=0.5, steps=3, temperature_K=None if start == "at rest" else 100.0)
    (text,) = texts
    assert "this run at constant energy will drift" in text
    with Told() as texts:
        run_nvt(atoms, timestep_fs=0.5, steps=3, temperature_K=100.0)
    assert texts == []
    atoms.calc = MLCalculator(Tiny(TinyConfig()))
    run_nve(atoms, timestep_fs=0.5, steps=3, temperature_K=100.0)


def test_dynamics_of_others_warn_through_the_calculator() -> None:
    original = {"elements": ("H", "C", "O"), "hidden_channels": 8, "num_layers": 1, "num_heads": 2}
    atoms = ethanol(moving=True)
    atoms.calc = MLCalculator(random_network("visnet", original | {"variant": "original"}))
    with Told() as texts:
        VelocityVerlet(atoms, timestep=0.5 * units.fs).run(4)
    assert len(texts) == 1
    atoms.calc = MLCalculator(random_network("visnet", original | {"variant": "original"}))
    BFGS(atoms, logfile=None).run(steps=3)


def test_the_command_line_tells_it_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_model(Jumping(TinyConfig(trained_max_num_neighbors=3)), tmp_path / "jumping.safetensors")
    write(tmp_path / "ethanol.xyz", ethanol())
    words = ["md", str(tmp_path / "ethanol.xyz"), "--model", str(tmp_path / "jumping.safetensors"), "--no-plot"]
    words += ["--temperature-K", "100", "--timestep-fs", "0.5", "--steps", "3"]
    assert main([*words, "--ensemble", "nve", "--output", str(tmp_path / "nve")]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "arning" in line]
    assert [line.split(":")[0] for line in lines] == ["Warning", "Warning"]
    assert "will drift" in lines[0]
    assert "4 neighbors within 2 Å" in lines[1]
    assert main([*words, "--ensemble", "bussi", "--output", str(tmp_path / "nvt")]) == 0
    assert "drift" not in capsys.readouterr().err
