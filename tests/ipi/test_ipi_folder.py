"""Whole runs of i-PI in a folder: the physics against ASE, and what kills, changes and failures leave behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, fcc111, molecule
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from ase.md.verlet import VelocityVerlet
from ase.vibrations import Vibrations
from ipi_servers import IPI, WAIT_S, Failing, Slow

from mlcalc.md_protocols import ConfigError, IPIRun, SimulationError, WorkerError, run_ipi
from mlcalc.md_protocols.ipi.runs.inputs import aligned
from mlcalc.md_protocols.ipi.runs.output_files import checkpoint_step, cut_back, last_step

pytestmark = pytest.mark.skipif(not IPI.exists(), reason="i-PI is an extra")

HERE = Path(__file__)
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE.parents[1] / "helpers"), str(HERE.parents[2])])}
STEPS = 60
SETTINGS: dict[str, Any] = {"temperature_K": 300, "timestep_fs": 2.0, "seed": 3, "progress": False}
SETTINGS |= {"trajectory_interval": 3, "log_interval": 2, "checkpoint_interval": 10}


def crystal(calc: Any = None) -> Atoms:
    """Four atoms of copper in a cell that is neither i-PI's shape nor right-handed."""
    atoms = bulk("Cu", cubic=True)
    atoms.set_cell(atoms.cell.array[[1, 0, 2]] @ turn(), scale_atoms=True)
    atoms.rattle(0.05, seed=1)
    atoms.calc = EMT() if calc is None else calc
    return atoms


def turn() -> np.ndarray:
    q, _ = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))
    return q


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> IPIRun:
    """A run that nothing disturbed."""
    return run_ipi(crystal(), output=tmp_path_factory.mktemp("whole") / "r", steps=STEPS, **SETTINGS)


def test_the_structure_turned_for_ipi_is_the_same() -> None:
    atoms = crystal()
    atoms.set_momenta(np.random.default_rng(1).normal(size=(4, 3)))
    turned = aligned(atoms)
    turned.calc = EMT()
    lower = turned.cell.array
    assert np.allclose(lower[np.triu_indices(3, 1)], 0, atol=1e-12)
    assert np.linalg.det(lower) > 0 > np.linalg.det(atoms.cell.array)
    assert turned.get_potential_energy() == pytest.approx(atoms.get_potential_energy(), abs=1e-10)
    assert turned.get_kinetic_energy() == pytest.approx(atoms.get_kinetic_energy(), abs=1e-12)
    work = (atoms.get_forces() * atoms.get_velocities()).sum()
    assert (turned.get_forces() * turned.get_velocities()).sum() == pytest.approx(work, abs=1e-10)
    turned.positions[0] += 0.01  # the twin: positions that were not turned
    assert abs(turned.get_potential_energy() - atoms.get_potential_energy()) > 1e-5


def test_constant_energy_dynamics_are_those_of_ase(tmp_path: Path) -> None:
    atoms = crystal()
    atoms.set_momenta(np.random.default_rng(1).normal(scale=2.0, size=(4, 3)))
    atoms.set_momenta(atoms.get_momenta() - atoms.get_momenta().mean(axis=0))
    run = run_ipi(atoms, output=tmp_path / "r", ensemble="nve", steps=20, **SETTINGS)
    by_ase = aligned(atoms)
    by_ase.calc = EMT()
    potentials = [by_ase.get_potential_energy()]
    dynamics = VelocityVerlet(by_ase, timestep=2.0 * units.fs)
    dynamics.attach(lambda: potentials.append(by_ase.get_potential_energy()), interval=2)
    dynamics.run(20)
    del potentials[1]  # ASE calls at step 0 as well
    assert run.energies == pytest.approx(potentials, abs=1e-6)
    assert np.ptp(run.energies) > 0.01
    assert np.ptp(run.column("conserved")) < 2e-3
    frame = run.frames()[6]  # step 18
    assert frame.info["step"] == 18
    assert run.temperatures == pytest.approx(2 * run.column("kinetic_md") / (9 * units.kB), rel=1e-12)
    by_ipi = run.column("temperature{kelvin}")  # the twin: with kT/2 of a thermostat that is not there
    assert np.abs(by_ipi / run.temperatures - 1).max() > 0.01
    moved = np.abs(frame.positions - aligned(atoms).positions).max()
    assert moved > 0.05
    again = aligned(atoms)
    again.calc = EMT()
    VelocityVerlet(again, timestep=2.0 * units.fs).run(18)
    assert np.abs(frame.positions - again.positions).max() < 1e-6


def disturbed(folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, str(HERE), str(folder)], env=ENVIRONMENT, start_new_session=True)


def test_killed_runs_continue_without_doubled_or_missing_records(whole: IPIRun, tmp_path: Path) -> None:
    folder, kills = tmp_path / "r", 0
    while kills < 3:
        process = disturbed(folder)
        begun, until = time.monotonic(), 14 + 14 * kills  # steps: within the run, and beyond a checkpoint
        while process.poll() is None and (not (log := folder / "sim.out").exists() or last_step(log) < until):
            assert time.monotonic() - begun < WAIT_S
            time.sleep(0.02)
        if process.poll() is not None:
            break
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        kills += 1
    assert kills == 3
    beyond = last_step(folder / "sim.out") > max(filter(None, map(checkpoint_step, folder.glob("sim.checkpoint_*"))))
    run = run_ipi(crystal(), output=folder, steps=STEPS, **SETTINGS)
    assert beyond  # without a cut, rows would be there twice
    assert run.completed
    assert run.steps.tolist() == whole.steps.tolist() == list(range(0, STEPS + 1, 2))
    assert [frame.info["step"] for frame in run.frames()] == list(range(0, STEPS + 1, 3))
    for name, column in run.columns.items():
        assert column == pytest.approx(whole.columns[name], rel=1e-7, abs=1e-9), name
    for a, b in zip(run.frames(), whole.frames(), strict=True):
        assert np.abs(a.positions - b.positions).max() < 1e-6


def test_a_finished_run_is_returned_and_goes_on_when_it_shall_be_longer(whole: IPIRun, tmp_path: Path) -> None:
    folder = tmp_path / "r"
    shutil.copytree(whole.folder, folder)
    before = (folder / "sim.out").read_bytes()
    again = run_ipi(crystal(), output=folder, steps=STEPS, **SETTINGS)
    assert again.completed
    assert (folder / "sim.out").read_bytes() == before
    longer = run_ipi(crystal(), output=folder, steps=STEPS + 10, **SETTINGS)
    assert longer.completed
    assert longer.steps.tolist() == list(range(0, STEPS + 11, 2))
    assert longer.energies[: len(whole.energies)] == pytest.approx(whole.energies, rel=1e-12)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"temperature_K": 310}, "temperature_K"),
        ({"seed": 4}, "seed"),
        ({"structure": True}, "initial_positions"),
        ({"virial": "none"}, "virial"),
    ],
)
def test_other_settings_do_not_continue_a_run(change: dict[str, Any], named: str, whole: IPIRun) -> None:
    before = {path.name: path.read_bytes() for path in whole.folder.iterdir()}
    atoms = crystal()
    if change.pop("structure", False):
        atoms.positions[0] += 0.01
    with pytest.raises(ConfigError, match=named):
        run_ipi(atoms, output=whole.folder, steps=STEPS, **(SETTINGS | change))
    assert {path.name: path.read_bytes() for path in whole.folder.iterdir()} == before


@pytest.mark.parametrize("steps", [4, 12])
def test_a_run_that_was_killed_before_its_first_checkpoint_has_the_steps_of_the_next_call(
    steps: int, whole: IPIRun, tmp_path: Path
) -> None:
    folder = tmp_path / "r"
    shutil.copytree(whole.folder, folder)
    for path in (*folder.glob("sim.checkpoint_*"), folder / "RESTART"):
        path.unlink()
    run = run_ipi(crystal(), output=folder, steps=steps, **SETTINGS)
    assert run.completed
    assert run.steps[-1] == steps
    assert run.energies == pytest.approx(whole.energies[: len(run.energies)], rel=1e-12)


def test_pressures_that_nobody_computes_are_not_logged(tmp_path: Path) -> None:
    run = run_ipi(crystal(), output=tmp_path / "r", steps=2, virial="none", **SETTINGS)
    assert run.settings.virial == "none"
    assert not [name for name in run.columns if "pressure" in name]


def test_intervals_that_were_not_given_are_those_of_the_folder(tmp_path: Path) -> None:
    settings = {"temperature_K": 300, "timestep_fs": 2.0, "progress": False, "output": tmp_path / "r"}
    first = run_ipi(crystal(), steps=40, **settings)
    assert first.settings.checkpoint_interval == 1
    longer = run_ipi(crystal(), steps=2000, wall_time_s=9.0, **settings)  # by itself it would choose other ones
    assert longer.settings == first.settings
    assert longer.steps[-1] > 40
    with pytest.raises(ConfigError, match="trajectory_interval"):
        run_ipi(crystal(), steps=2000, trajectory_interval=7, **settings)


def test_a_folder_in_which_nothing_was_done_may_be_begun_otherwise(tmp_path: Path) -> None:
    atoms = crystal(Failing("nan", tmp_path))
    with pytest.raises(WorkerError):
        run_ipi(atoms, output=tmp_path / "r", steps=4, **SETTINGS)
    for path in (*(tmp_path / "r").glob("sim.*"), tmp_path / "r" / "RESTART"):
        path.unlink(missing_ok=True)
    run = run_ipi(crystal(), output=tmp_path / "r", steps=4, **(SETTINGS | {"temperature_K": 310}))
    assert run.settings.temperature_K == (310,)


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "input.xml").write_text("<simulation/>")
    with pytest.raises(SimulationError, match=r"input\.xml"):
        run_ipi(crystal(), output=tmp_path, steps=4, **SETTINGS)
    assert names(tmp_path) == {"input.xml"}


def test_a_calculator_that_fails_ends_ipi_and_the_folder_goes_on(whole: IPIRun, tmp_path: Path) -> None:
    trigger = tmp_path / "trigger"
    trigger.touch()
    with pytest.raises(WorkerError, match="not finite") as caught:
        run_ipi(crystal(Failing("nan", trigger)), output=tmp_path / "r", steps=STEPS, **SETTINGS)
    assert len(caught.value.structures) == 1
    assert "RESTART" in names(tmp_path / "r")
    trigger.unlink()
    run = run_ipi(crystal(Failing("nan", trigger)), output=tmp_path / "r", steps=STEPS, **SETTINGS)
    assert run.energies == pytest.approx(whole.energies, rel=1e-9)


def test_the_wall_time_ends_a_run_softly(tmp_path: Path) -> None:
    run = run_ipi(crystal(Slow(0.1)), output=tmp_path / "r", steps=5000, wall_time_s=8.0, **SETTINGS)
    assert not run.completed
    assert 0 < run.steps[-1] < 4000
    assert "RESTART" in names(tmp_path / "r")
    assert "not complete" in str(run)


def test_vibrations_are_those_of_ase(tmp_path: Path) -> None:
    water = molecule("H2O")
    water.calc = EMT()
    run = run_ipi(water, output=tmp_path / "r", ensemble="vibrations", displacement=0.005, progress=False)
    by_ase = Vibrations(water, delta=0.005, name=str(tmp_path / "vib"))
    by_ase.run()
    expected = np.sort((by_ase.get_frequencies().real - by_ase.get_frequencies().imag) * 0.0299792458)
    found = np.sort(run.frequencies)
    assert run.frequencies.shape == (9,)
    big = np.abs(expected) > 5
    assert big.sum() >= 3
    assert found[big] == pytest.approx(expected[big], rel=2e-3)


def test_replicas_exchange_their_temperatures(tmp_path: Path) -> None:
    settings = SETTINGS | {"temperature_K": [300, 320, 340]}
    run = run_ipi(crystal(), output=tmp_path / "r", ensemble="remd", exchange_interval=2, steps=40, **settings)
    temperatures = np.array([run.column("ensemble_temperature", k) for k in range(3)])
    assert np.sort(temperatures, axis=0) == pytest.approx(np.tile([[300.0], [320.0], [340.0]], temperatures.shape[1]))
    assert (temperatures != temperatures[:, :1]).any()
    assert len(run.frames(replica=2)) == 14


def test_fixed_atoms_stay(tmp_path: Path) -> None:
    atoms = crystal()
    atoms.set_constraint(FixAtoms([1]))
    run = run_ipi(atoms, output=tmp_path / "r", steps=12, **SETTINGS)
    last = run.frames()[-1]
    assert np.abs(last.positions - aligned(atoms).positions)[1].max() < 1e-4
    assert np.abs(last.positions - aligned(atoms).positions)[[0, 2, 3]].max() > 1e-2


@pytest.mark.parametrize(
    ("keywords", "match"),
    [
        ({"ensemble": "npt"}, "pressure_GPa"),
        ({"ensemble": "remd"}, "two or more"),
        ({"temperature_K": [300, 400]}, "two or more"),
        ({"timestep_fs": 50}, "timestep_fs"),
        ({"beads": 0}, "beads"),
        ({"ensemble": "nvtt"}, "Did you mean 'nvt'"),
        ({"thermostat": "pile"}, "Did you mean 'pile_"),
        ({"steps": 0}, "steps"),
        ({"temperature_K": -1}, "temperature_K"),
        ({"ensemble": "npt", "pressure_GPa": 0.0, "virial": "none"}, "ideal gas"),
        ({"atoms": "fixed", "beads": 4}, "1 atoms are fixed"),
        ({"atoms": "fixed", "ensemble": "npt", "pressure_GPa": 0.0}, "1 atoms are fixed"),
        ({"atoms": "fixed", "ensemble": "vibrations"}, "1 atoms are fixed"),
        ({"atoms": "slab", "virial": "none"}, "third vector"),
        ({"atoms": "slab"}, "three directions"),
    ],
)
def test_settings_that_cannot_be_are_refused_before_anything_is_written(
    keywords: dict[str, Any], match: str, tmp_path: Path
) -> None:
    atoms = crystal()
    if (which := keywords.pop("atoms", "")) == "fixed":
        atoms.set_constraint(FixAtoms([1]))
    elif which == "slab":
        atoms = fcc111("Cu", (1, 1, 2))
        atoms.calc = EMT()
    with pytest.raises(ConfigError, match=match):
        run_ipi(atoms, output=tmp_path / "r", **(SETTINGS | keywords))
    assert not (tmp_path / "r").exists()


def test_logs_and_frames_are_cut_back_to_whole_records(whole: IPIRun, tmp_path: Path) -> None:
    for name in ("sim.out", "sim.pos_0.extxyz"):
        content = (whole.folder / name).read_bytes()
        for cut in (len(content), len(content) - 7, len(content) // 2):
            path = tmp_path / name
            path.write_bytes(content[:cut])
            recorded = last_step(path)
            cut_back(path, recorded - 3)
            assert last_step(path) == (recorded - 3) - (recorded - 3) % (2 if name == "sim.out" else 3)
            assert content.startswith(path.read_bytes())
    broken = tmp_path / "sim.checkpoint_1"
    broken.write_bytes((whole.folder / "RESTART").read_bytes()[:-30])
    assert checkpoint_step(broken) is None
    assert checkpoint_step(whole.folder / "RESTART") == STEPS


if __name__ == "__main__":
    run_ipi(crystal(), output=sys.argv[1], steps=STEPS, **SETTINGS)
