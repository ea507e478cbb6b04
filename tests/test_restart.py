"""Output folders: continued runs leave the bytes of uninterrupted ones, and nothing is overwritten."""

from __future__ import annotations

import fcntl
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from ase.io import read
from killed_runs import ENSEMBLES, FOLDERS, STEPS
from springs import Springs, copper

import mlcalc
from mlcalc.md_protocols import ConfigError, ResultFileError, SimulationError, Trajectory, dynamics, run_nve, run_nvt
from mlcalc.md_protocols.run_folder import RunFolder

OUTPUTS = ("log.csv", "trajectory.extxyz")
SETTINGS: dict[str, Any] = {"temperature_K": 300.0, "timestep_fs": 2.0, "thermostat": "bussi", "trajectory_interval": 3}


def bussi(folder: Path, atoms: Atoms | None = None, **changes: Any) -> Trajectory:
    return run_nvt(atoms or copper(1), **{**SETTINGS, "steps": 20, "output": folder, **changes})


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in OUTPUTS}


def test_killed_and_continued_runs_leave_the_same_bytes(tmp_path: Path) -> None:
    script = Path(__file__).with_name("killed_runs.py")
    environment = {**os.environ, "PYTHONPATH": str(Path(mlcalc.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)],
        capture_output=True, text=True, timeout=300, check=False, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    kills = json.loads(done.stdout)
    for ensemble in ENSEMBLES:
        assert sum(n for n, _ in kills[ensemble]) >= 4
        # The control: bytes had to be cut off for the files to come out equal.
        assert sum(n for _, n in kills[ensemble]) >= 1
        whole = contents(tmp_path / f"{ensemble}-whole")
        assert whole["log.csv"].count(b"\n") == 1 + 1 + STEPS // 2 + 1  # header, step 0, every second, the last
        for k in range(FOLDERS):
            assert contents(tmp_path / f"{ensemble}-{k}") == whole
            assert not (tmp_path / f"{ensemble}-{k}" / "run.lock").exists()


class StopAt(Springs):
    """Springs that send our own process a signal during one call."""

    def __init__(self, reference: Atoms, number: int, at_call: int) -> None:
        super().__init__(reference, 3.0)
        self.number, self.at_call = number, at_call

    def calculate(self, *arguments: Any, **keywords: Any) -> None:
        super().calculate(*arguments, **keywords)
        if self.calls == self.at_call:
            signal.raise_signal(self.number)


def stopping(number: int, at_call: int) -> Atoms:
    atoms = copper(1)
    reference = atoms.copy()
    reference.positions = np.round(reference.positions / 1.8) * 1.8
    atoms.calc = StopAt(reference, number, at_call)
    return atoms


@pytest.mark.parametrize(
    ("number", "outcome"),
    [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit), (signal.SIGUSR1, SystemExit)],
)
def test_a_signal_ends_the_run_after_the_step_and_it_continues_to_the_same_bytes(
    number: signal.Signals, outcome: type[BaseException], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = signal.getsignal(number)
    with pytest.raises(outcome) as caught:
        bussi(tmp_path / "run", stopping(number, at_call=9))
    if outcome is SystemExit:
        assert caught.value.code == 128 + number
    assert signal.getsignal(number) is before
    assert f"stopped by {number.name} after step 8" in caplog.text
    stored = Trajectory.load(tmp_path / "run")
    assert stored.steps[-1] == stored.frames[-1].info["step"] == 8
    assert not stored.completed
    assert not (tmp_path / "run" / "run.lock").exists()
    assert bussi(tmp_path / "run", stopping(number, at_call=-1)).completed
    bussi(tmp_path / "whole", stopping(number, at_call=-1))
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")


def test_a_users_own_handler_is_called_and_the_short_run_returned(tmp_path: Path) -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    try:
        run = bussi(tmp_path, stopping(signal.SIGTERM, at_call=4))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert seen == [signal.SIGTERM]
    assert not run.completed
    assert run.steps[-1] == 3


def test_handlers_are_left_alone_outside_the_main_thread_and_without_output(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    found: list[Any] = []

    class Looks(Springs):
        def calculate(self, *arguments: Any, **keywords: Any) -> None:
            super().calculate(*arguments, **keywords)
            found.append(signal.getsignal(signal.SIGTERM))

    def go(folder: Path | None) -> None:
        atoms = copper(1)
        atoms.calc = Looks(atoms, 3.0)
        run_nve(atoms, timestep_fs=1.0, steps=2, temperature_K=300, output=folder)

    thread = threading.Thread(target=go, args=(tmp_path / "thread",))
    thread.start()
    thread.join()
    go(None)
    assert found == [before] * 6
    go(tmp_path / "main")  # the control: here they are installed
    assert before not in found[6:]


def test_wall_time_ends_a_run_that_can_be_continued(tmp_path: Path) -> None:
    class Slow(Springs):
        def calculate(self, *arguments: Any, **keywords: Any) -> None:
            super().calculate(*arguments, **keywords)
            time.sleep(0.02)

    atoms = copper(1)
    atoms.calc = Slow(atoms, 3.0)
    run = bussi(tmp_path, atoms, steps=10_000, wall_time_s=0.3)
    assert not run.completed
    assert 0 < run.steps[-1] < 20
    assert bussi(tmp_path, atoms, steps=10_000, wall_time_s=0.1).steps[-1] >= run.steps[-1]


def test_a_finished_run_is_returned_without_a_calculation(tmp_path: Path) -> None:
    first = bussi(tmp_path)
    atoms = copper(1)
    again = bussi(tmp_path, atoms)
    assert atoms.calc.calls == 0
    np.testing.assert_array_equal(again.conserved, first.conserved)
    assert again.frames == first.frames


@pytest.mark.parametrize("lengths", [(5, 20), (7, 8, 20), (0, 20), (3, 12, 20)])
def test_a_run_grown_in_pieces_leaves_the_bytes_of_one_run(lengths: tuple[int, ...], tmp_path: Path) -> None:
    for steps in lengths:
        grown = bussi(tmp_path / "grown", steps=steps)
        assert grown.steps[-1] == grown.frames[-1].info["step"] == steps
    whole = bussi(tmp_path / "whole")
    assert contents(tmp_path / "grown") == contents(tmp_path / "whole")
    assert grown.frames == whole.frames


@pytest.mark.parametrize("at_call", [8, 7])
def test_a_signal_before_the_first_continued_step_repeats_no_row(at_call: int, tmp_path: Path) -> None:
    """The force call of a continued run that checks the calculator comes before any step; 6 steps are on the grid."""
    with pytest.raises(KeyboardInterrupt):
        bussi(tmp_path / "run", stopping(signal.SIGINT, at_call=at_call))
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            bussi(tmp_path / "run", stopping(signal.SIGINT, at_call=1))
        assert Trajectory.load(tmp_path / "run").steps.tolist() == [0, 3, 6, 7][: at_call - 4]
    bussi(tmp_path / "run", stopping(signal.SIGINT, at_call=-1))
    bussi(tmp_path / "whole", stopping(signal.SIGINT, at_call=-1))
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")


def test_a_periodic_checkpoint_at_the_last_step_is_not_its_end(tmp_path: Path) -> None:
    """A run killed between the two must still get its last row."""

    class Killed(Exception):  # noqa: N818
        pass

    class KilledFolder(RunFolder):
        def checkpoint(self, row: Any, state: Any, rng_state: Any, *, last: bool = False) -> None:
            if last:
                raise Killed
            super().checkpoint(row, state, rng_state)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dynamics, "RunFolder", KilledFolder)
        with pytest.raises(Killed):
            bussi(tmp_path / "run", checkpoint_interval_s=0.0)
    assert bussi(tmp_path / "run", checkpoint_interval_s=0.0).steps[-1] == 20
    bussi(tmp_path / "whole")
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")


def test_with_and_without_output_agree_bit_for_bit(tmp_path: Path) -> None:
    stored, kept = bussi(tmp_path), bussi(None)  # type: ignore[arg-type]
    for name in ("steps", "times_fs", "energies", "kinetic_energies", "temperatures", "conserved"):
        np.testing.assert_array_equal(getattr(stored, name), getattr(kept, name))
    for one, other in zip(stored.frames, kept.frames, strict=True):
        assert one == other
        np.testing.assert_array_equal(one.get_momenta(), other.get_momenta())
        np.testing.assert_array_equal(one.get_forces(), other.get_forces())
        assert one.get_potential_energy() == other.get_potential_energy()


def test_ase_reads_the_trajectory_in_full(tmp_path: Path) -> None:
    atoms = copper(1)
    atoms.set_constraint(FixAtoms([2]))
    run = bussi(tmp_path, atoms)
    for ours, theirs in zip(run.frames, read(tmp_path / "trajectory.extxyz", ":"), strict=True):
        np.testing.assert_array_equal(ours.positions, theirs.positions)
        np.testing.assert_array_equal(ours.get_momenta(), theirs.get_momenta())
        np.testing.assert_array_equal(ours.get_forces(), theirs.get_forces())
        assert ours.get_potential_energy() == theirs.get_potential_energy()
        assert (ours.cell == theirs.cell).all()
        assert theirs.constraints[0].index.tolist() == [2]
        assert theirs.info["step"] == ours.info["step"]


def test_torn_records_after_the_checkpoint_are_cut_off(tmp_path: Path) -> None:
    bussi(tmp_path / "torn", steps=9)
    for name in OUTPUTS:
        with (tmp_path / "torn" / name).open("ab") as file:
            file.write(b"4\nLattice=")
    bussi(tmp_path / "torn")
    bussi(tmp_path / "whole")
    assert contents(tmp_path / "torn") == contents(tmp_path / "whole")


def test_emt_continues_to_round_off(tmp_path: Path) -> None:
    """EMT's own neighbor list remembers its past, so here equality stops at the last digits."""

    def run(folder: Path, steps: int) -> Trajectory:
        atoms = copper(1)
        atoms.calc = EMT()
        return bussi(folder, atoms, steps=steps)

    run(tmp_path / "pieces", 10)
    pieces, whole = run(tmp_path / "pieces", 40), run(tmp_path / "whole", 40)
    np.testing.assert_allclose(pieces.frames[-1].positions, whole.frames[-1].positions, rtol=0, atol=1e-10)


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
        ({"steps": 19}, r"already holds 20 steps, more than steps=19: ask for at least"),
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


def hold_lock(path: str, ready: Any, done: Any) -> None:
    with Path(path).open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(json.dumps({"pid": os.getpid(), "host": "elsewhere"}))
        file.flush()
        ready.set()
        done.wait(60)


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    owner = context.Process(target=hold_lock, args=(str(tmp_path / "run.lock"), ready, done))
    owner.start()
    try:
        assert ready.wait(60)
        with pytest.raises(
            SimulationError, match=rf"another run is using .*host elsewhere, pid {owner.pid}.*wait for it"
        ):
            bussi(tmp_path)
    finally:
        done.set()
        owner.join()


def test_locks_of_the_dead_are_taken_over_and_those_of_other_hosts_respected(tmp_path: Path) -> None:
    lock = tmp_path / "run.lock"
    lock.write_text(json.dumps({"pid": 2**22 + 1, "host": os.uname().nodename}))
    bussi(tmp_path, steps=3)
    assert not lock.exists()
    lock.write_text('{"pid": 12')  # its owner died while writing it
    bussi(tmp_path, steps=4)
    lock.write_text(json.dumps({"pid": 1, "host": "some-other-machine"}))
    with pytest.raises(SimulationError, match=r"another machine .*some-other-machine.*if it has ended, remove"):
        bussi(tmp_path, steps=5)


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
    bussi(None)  # type: ignore[arg-type]
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


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    from mlcalc.md_protocols.append_file import AppendFile, Mark

    full = AppendFile(Path("/dev/full"), Mark())
    with pytest.raises(SimulationError, match=r"could not be written: No space left on device; make space and run"):
        full.append(b"x")
    full.close()
