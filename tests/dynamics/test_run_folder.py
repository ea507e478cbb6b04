"""Output folders: what is refused, who may use them, and what they say about themselves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from bussi_runs import OUTPUTS, bussi, contents
from springs import Springs, copper

from mlcalc.md_protocols import ConfigError, ResultFileError, SimulationError, Trajectory


def changed_atoms(what: str) -> Atoms:
    atoms = copper(1)
    if what == "positions":
        atoms.positions[2, 0] += 1e-12
    elif what == "numbers":
        atoms.numbers[1] = 47
        atoms.set_masses(np.full(4, 63.546))
    elif what == "cell":
        atoms.cell[0, 0] = 3.7
    elif what == "momenta":
        atoms.set_momenta(np.ones((4, 3)))
    elif what == "constraint":
        atoms.set_constraint(FixAtoms([1]))
    elif what == "calculator settings":
        atoms.calc.parameters["k"] = 3.5
    elif what == "calculator class":
        atoms.calc = EMT()
    elif what == "hidden model":
        atoms.calc.lengths *= 1.01
    return atoms


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("positions", r"initial_positions: 1 differ, first 2: .* in the folder, .* now"),
        ("numbers", r"numbers: 1 differ, first 1: 29 in the folder, 47 now"),
        ("cell", r"cell: 1 differ"),
        ("momenta", r"initial_momenta: 4 differ"),
        ("constraint", r"mobile: 1 differ, first 1: True in the folder, False now"),
        ("calculator settings", r"calculator\.parameters\.k: 3\.0 in the folder, 3\.5 now"),
        ("calculator class", r"calculator\.class: 'springs\.Springs' in the folder, 'ase\.calculators\.emt\.EMT' now"),
        ("hidden model", r"the calculator is not the one of the run.*forces differ by .*use the same model"),
    ],
)
def test_another_structure_or_calculator_is_not_continued(what: str, text: str, tmp_path: Path) -> None:
    bussi(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(ConfigError, match=text):
        bussi(tmp_path, changed_atoms(what), steps=30)
    assert contents(tmp_path) == before
    bussi(tmp_path, steps=30)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"timestep_fs": 1.0}, r"settings\.timestep_fs: 2\.0 in the folder, 1\.0 now.*another folder"),
        ({"seed": 4}, r"settings\.seed: 0 in the folder, 4 now"),
        ({"thermostat": "berendsen"}, r"settings\.ensemble: 'bussi' in the folder, 'berendsen' now"),
        ({"trajectory_interval": 4}, r"settings\.trajectory_interval: 3 in the folder, 4 now"),
        ({"steps": 19}, r"already holds 20 steps, more than the 19 asked for: ask for at least"),
    ],
)
def test_other_settings_are_not_continued(change: dict[str, Any], text: str, tmp_path: Path) -> None:
    bussi(tmp_path)
    with pytest.raises(ConfigError, match=text):
        bussi(tmp_path, **change)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def flip(path: Path) -> None:
    """One bit; in a checkpoint one of the positions, as not every byte of a zip file says something."""
    data = bytearray(path.read_bytes())
    data[data.find(b"positions.npy") + 200 if path.suffix == ".npz" else len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("name", [*OUTPUTS, "checkpoint.npz"])
@pytest.mark.parametrize("damage", [cut, flip, Path.unlink, lambda path: path.write_bytes(b"")])
def test_damaged_files_are_refused_and_never_overwritten(
    name: str, damage: Callable[[Path], Any], tmp_path: Path
) -> None:
    bussi(tmp_path)
    damage(tmp_path / name)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for steps in (20, 30):
        with pytest.raises(
            (SimulationError, ResultFileError), match=r"(left un|left)touched|nothing there is overwritten"
        ):
            bussi(tmp_path, steps=steps)
    with pytest.raises((SimulationError, ResultFileError)):
        Trajectory.load(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_folder_with_somebody_elses_trajectory_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "trajectory.extxyz").write_text("precious")
    with pytest.raises(SimulationError, match=r"holds trajectory\.extxyz but no checkpoint\.npz.*another folder"):
        bussi(tmp_path)
    assert (tmp_path / "trajectory.extxyz").read_text() == "precious"


OWNER = """
import fcntl, json, os, sys
with open(sys.argv[1], "a+") as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    file.write(json.dumps({"pid": os.getpid(), "host": "elsewhere"}))
    file.flush()
    print("ready", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    lock = str(tmp_path / "run.lock")
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "ready\n"
        with pytest.raises(SimulationError, match=rf"another run is using .*elsewhere, pid {owner.pid}.*wait for it"):
            bussi(tmp_path)
        owner.communicate("")
    (tmp_path / "run.lock").unlink()
    bussi(tmp_path)


def test_locks_of_the_dead_are_taken_over_and_those_of_other_hosts_respected(tmp_path: Path) -> None:
    lock = tmp_path / "run.lock"
    lock.write_text(json.dumps({"pid": 2**22 + 1, "host": os.uname().nodename}))
    bussi(tmp_path, steps=3)
    assert not lock.exists()
    lock.write_text('{"pid": 12')  # its owner died while writing it
    bussi(tmp_path, steps=4)
    lock.write_text(json.dumps({"pid": 1, "host": "some-other-machine"}))
    with pytest.raises(SimulationError, match=r"another machine .*some-other-machine.*delete the file .*run\.lock"):
        bussi(tmp_path, steps=5)
    lock.unlink()
    assert bussi(tmp_path, steps=5).steps[-1] == 5


def test_what_cannot_be_a_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "notes").write_text("mine")
    for place in (tmp_path / "notes", tmp_path / "notes" / "run"):
        with pytest.raises(ConfigError, match=r"cannot be the output folder: .*notes is a file; give the path"):
            bussi(place)
    with pytest.raises(ConfigError, match=r"cannot be the output folder: .*; give the path"):
        bussi(tmp_path / ("x" * 300))
    with pytest.raises(ConfigError, match=r"cannot be the output folder: .*home directory"):
        bussi(Path("~nobody-of-this-name/run"))
    assert (tmp_path / "notes").read_text() == "mine"
    monkeypatch.setenv("HOME", str(tmp_path))
    bussi(Path("~/run"))
    assert (tmp_path / "run" / "checkpoint.npz").exists()


def test_one_folder_is_not_shared_within_a_process_either(tmp_path: Path) -> None:
    class Nested(Springs):
        def calculate(self, *arguments: Any, **keywords: Any) -> None:
            super().calculate(*arguments, **keywords)
            bussi(tmp_path)

    atoms = copper(1)
    atoms.calc = Nested(atoms, 3.0)
    with pytest.raises(SimulationError, match=rf"another run is using .*pid {os.getpid()}"):
        bussi(tmp_path, atoms)


def test_nothing_is_written_without_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    bussi(None)
    assert list(tmp_path.iterdir()) == []


def test_the_folder_explains_itself(tmp_path: Path) -> None:
    bussi(tmp_path)
    about = json.loads((tmp_path / "run.json").read_text())
    assert about["settings"]["temperature_K"] == 300
    assert about["calculator"] == {"class": "springs.Springs", "parameters": {"k": 3.0, "cubic": -3.0}}
    assert {"ase", "numpy"} <= about["versions"].keys()
    header = (tmp_path / "log.csv").read_text().splitlines()[0]
    assert header == "step,time_fs,potential_eV,kinetic_eV,total_eV,temperature_K,conserved_eV"
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "checkpoint.npz", "log.csv", "run.json", "trajectory.extxyz",
    ]  # fmt: skip


def test_a_calculator_may_say_itself_what_it_is(tmp_path: Path) -> None:
    class Described(Springs):
        def describe(self) -> dict[str, Any]:
            return {"model": self.model, "weights": np.float64(1.5), "engine": object()}

    atoms = copper(1)
    atoms.calc = Described(atoms, 3.0)
    atoms.calc.model = "first"
    bussi(tmp_path, atoms)
    about = json.loads((tmp_path / "run.json").read_text())
    assert about["calculator"]["parameters"] == {"model": "first", "weights": 1.5, "engine": "object"}
    atoms.calc.model = "second"
    with pytest.raises(ConfigError, match=r"calculator\.parameters\.model: 'first' in the folder, 'second' now"):
        bussi(tmp_path, atoms)


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    from mlcalc.md_protocols.folders.append_file import AppendFile, Mark

    full = AppendFile(Path("/dev/full"), Mark())
    with pytest.raises(SimulationError, match=r"could not be written: No space left on device; make space and run"):
        full.append(b"x")
    full.close()
