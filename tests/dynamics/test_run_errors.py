"""Bad settings, bad structures and runs that go wrong: the class of the error, its cause and its remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.constraints import FixAtoms, FixBondLength
from ase.io import read
from springs import Faulty, copper, dimer

from mlcalc.md_protocols import ConfigError, SimulationError, ThermostatError, Trajectory, run_nve, run_nvt

NVT = {"temperature_K": 300.0, "timestep_fs": 1.0, "steps": 5}

SETTINGS: list[tuple[dict[str, Any], str]] = [
    ({"timestep_fs": 0.0}, r"timestep_fs is 0\.0: .*greater than 0 of femtoseconds"),
    ({"timestep_fs": -1.0}, r"timestep_fs is -1\.0: .*greater than 0"),
    ({"timestep_fs": float("nan")}, r"timestep_fs is nan: .*finite"),
    ({"timestep_fs": "1"}, r"timestep_fs is '1': .*number"),
    (
        {"timestep_fs": 49.1},
        r"timestep_fs is 49\.1, more than 10 fs.*without ase\.units\.fs.*allow_large_timestep=True",
    ),
    ({"temperature_K": -300.0}, r"temperature_K is -300\.0: .*at least 0 kelvin"),
    ({"temperature_K": float("nan")}, r"temperature_K is nan: .*finite"),
    ({"temperature_K": None}, r"temperature_K is None"),
    ({"tau_fs": 0.5}, r"tau_fs is 0\.5, less than the timestep of 1 fs: choose at least"),
    ({"tau_fs": 0.0}, r"tau_fs is 0\.0: .*greater than 0"),
    ({"steps": -1}, r"steps is -1: .*whole number, at least 0"),
    ({"steps": 2.5}, r"steps is 2\.5: .*whole number"),
    ({"steps": True}, r"steps is True: .*whole number"),
    ({"seed": -1}, r"seed is -1: .*whole number"),
    ({"seed": None}, r"seed is None: .*whole number"),
    ({"trajectory_interval": 0}, r"trajectory_interval is 0: .*at least 1"),
    ({"log_interval": -3}, r"log_interval is -3: .*at least 1"),
    ({"thermostat": "berendson"}, r"unknown thermostat 'berendson': choose one of 'berendsen', 'bussi'\. Did you mean"),
    ({"thermostat": "nose"}, r"unknown thermostat 'nose': choose one of 'berendsen', 'bussi'\.$"),
    ({"thermostat": None}, r"unknown thermostat None: choose one of"),
    ({"max_force": 0.0}, r"max_force is 0\.0: .*greater than 0"),
    ({"max_temperature_K": -5}, r"max_temperature_K is -5: .*greater than 0"),
    ({"wall_time_s": 0}, r"wall_time_s is 0: .*greater than 0"),
    ({"checkpoint_interval_s": -1}, r"checkpoint_interval_s is -1: .*at least 0"),
    ({"remove_rotation": True}, r"remove_rotation needs a free molecule: set pbc=False"),
]


@pytest.mark.parametrize(("change", "text"), SETTINGS, ids=lambda value: str(value)[:40])
def test_bad_settings_are_refused(change: dict[str, Any], text: str, tmp_path: Path) -> None:
    atoms = copper()
    with pytest.raises(ConfigError, match=text):
        run_nvt(atoms, **{**NVT, "output": tmp_path / "run", **change})
    assert not (tmp_path / "run").exists()
    assert atoms.calc.calls == 0


def test_a_large_timestep_can_be_meant() -> None:
    run_nve(copper(), timestep_fs=11.0, steps=3, allow_large_timestep=True)


def broken(what: str) -> Any:
    atoms = copper()
    if what == "list":
        return [atoms]
    if what == "empty":
        return Atoms(calculator=atoms.calc)
    if what == "no calculator":
        atoms.calc = None
    elif what == "nan position":
        atoms.positions[3, 1] = np.nan
    elif what == "inf momentum":
        atoms.set_momenta(np.full((32, 3), np.inf))
    elif what == "nan cell":
        atoms.cell[1, 1] = np.nan
    elif what == "no mass":
        atoms.set_masses([0.0] + [63.5] * 31)
    elif what == "bond":
        atoms.set_constraint(FixBondLength(0, 1))
    return atoms


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("list", r"atoms is a list: give one ase\.Atoms"),
        ("empty", r"no atoms: there is nothing to do for molecular dynamics"),
        ("no calculator", r"no calculator: attach one first, atoms\.calc = MLCalculator"),
        ("nan position", r"positions of 1 atoms are not finite \(indices 3\): repair"),
        ("inf momentum", r"momenta of 32 atoms are not finite \(indices 0, 1, .* and 24 more\)"),
        ("nan cell", r"the cell is not finite: .*nan.*repair"),
        ("no mass", r"atoms 0 have no positive mass: set one"),
        ("bond", r"constraint FixBondLengths? is not supported: only FixAtoms is; remove it"),
    ],
)
def test_bad_structures_are_refused(what: str, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        run_nvt(broken(what), **NVT)


@pytest.mark.parametrize("what", ["one atom", "all fixed"])
def test_a_thermostat_needs_degrees_of_freedom(what: str) -> None:
    atoms = copper()
    if what == "one atom":
        atoms = atoms[:1]
        atoms.calc = dimer().calc
    else:
        atoms.set_constraint(FixAtoms(range(32)))
    with pytest.raises(ThermostatError, match=r"nothing to act on: \d+ atoms, \d+ of them fixed.*use run_nve, more"):
        run_nvt(atoms, **NVT)


def test_no_degrees_of_freedom_without_a_thermostat_is_zero_kelvin() -> None:
    atoms = copper()
    atoms.set_constraint(FixAtoms(range(32)))
    run = run_nve(atoms, timestep_fs=1.0, steps=5, temperature_K=300)
    np.testing.assert_array_equal(run.temperatures, 0)


def faulty(fault: str, at_call: int) -> Atoms:
    atoms = copper()
    reference = atoms.copy()
    reference.positions = np.round(reference.positions / 1.8) * 1.8
    atoms.calc = Faulty(reference, 3.0, fault=fault, at_call=at_call)
    return atoms


FAULTS = [
    (
        "nan forces",
        r"^step 7 \(14 fs\): the forces on 1 of 32 atoms are not finite \(Cu2\).*one step earlier the largest",
    ),
    ("nan energy", r"^step 7 \(14 fs\): the energy is nan.*smaller timestep_fs \(now 2\), relax"),
    ("huge force", r"^step 7 \(14 fs\): a force of 1e\+04 eV/Å exceeds the limit of 500 \(Cu1,"),
    ("exception", r"^step 7 \(14 fs\): the calculator failed: ArithmeticError: the potential gave up"),
]


@pytest.mark.parametrize(("fault", "text"), FAULTS)
@pytest.mark.parametrize("ensemble", ["nve", "nvt"])
def test_a_fault_ends_the_run_in_its_step_and_keeps_the_good_ones(
    fault: str, text: str, ensemble: str, tmp_path: Path
) -> None:
    atoms, settings = faulty(fault, at_call=7), {"timestep_fs": 2.0, "steps": 100, "trajectory_interval": 4}
    run: Any = run_nve if ensemble == "nve" else run_nvt
    with pytest.raises(SimulationError, match=text) as caught:
        run(atoms, **settings, temperature_K=300, output=tmp_path)
    assert atoms.calc.calls == 8
    good = caught.value.frames
    assert [frame.info["step"] for frame in good] == list(range(7))
    stored = Trajectory.load(tmp_path)
    assert not stored.completed
    assert stored.steps.tolist() == [0, 4, 6]
    np.testing.assert_array_equal(stored.frames[-1].positions, good[-1].positions)
    assert all(np.isfinite(frame.get_forces()).all() for frame in [*good, *stored.frames])
    failure = read(tmp_path / "failure.extxyz", ":")
    assert [frame.info["step"] for frame in failure] == list(range(8))
    assert "failure.extxyz" in str(caught.value)
    assert not (tmp_path / "run.lock").exists()


def test_the_calculators_own_error_comes_through_at_the_start() -> None:
    with pytest.raises(ArithmeticError, match="^the potential gave up$"):
        run_nvt(faulty("exception", at_call=0), **NVT)
    with pytest.raises(SimulationError, match=r"starting structure cannot be run: the forces on 1 of 32 atoms"):
        run_nvt(faulty("nan forces", at_call=0), **NVT)


def test_an_explosion_is_noticed_while_everything_is_still_finite() -> None:
    atoms = copper()
    with pytest.raises(SimulationError, match=r"exceeds the limit.*timestep_fs \(now 60\)") as caught:
        run_nve(atoms, timestep_fs=60.0, steps=1000, temperature_K=300, allow_large_timestep=True)
    assert np.isfinite(caught.value.frames[-1].positions).all()
    with pytest.raises(SimulationError, match=r"temperature of .* K exceeds the limit of 310 K .*fastest"):
        run_nvt(atoms, temperature_K=400, timestep_fs=2, steps=100, max_temperature_K=310)
