"""Output folders: continued runs leave the bytes of uninterrupted ones, and nothing is overwritten."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from ase.io import read
from bussi_runs import OUTPUTS, bussi, contents
from killed_runs import ENSEMBLES, FOLDERS, STEPS
from springs import Springs, copper

import mlcalc
from mlcalc.md_protocols import Trajectory, run_nve
from mlcalc.md_protocols.dynamics import run as dynamics
from mlcalc.md_protocols.dynamics.run_folder import RunFolder


def test_killed_and_continued_runs_leave_the_same_bytes(tmp_path: Path) -> None:
    script = Path(__file__).parents[1] / "helpers" / "killed_runs.py"
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
    run = bussi(tmp_path, atoms, steps=10_000, wall_time_s=0.5)
    assert not run.completed
    assert run.steps[-1] == run.frames[-1].info["step"] < 10_000
    more = bussi(tmp_path, atoms, steps=10_000, wall_time_s=0.5)
    assert run.steps[-1] <= more.steps[-1] < 10_000


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
    stored, kept = bussi(tmp_path), bussi(None)
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
