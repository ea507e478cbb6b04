"""The output folder of a run, from which the same call continues.

    trajectory.extxyz   frames with energy, forces and momenta, floats in full
    log.csv             step, time, energies, temperature, conserved quantity
    checkpoint.npz      state, random numbers, and how far the two files above are part of it
    run.json            settings, calculator and versions, to be read by people
    failure.extxyz      the last good steps and the bad one, if the run failed
    run.lock            while a process is using the folder

The two growing files are cut back to what the last checkpoint says before anything is added, so a run that was killed
and continued leaves the same bytes as one that was not.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from ase import Atoms

from ..errors import ConfigError, ResultFileError, SimulationError
from ..folders.append_file import AppendFile, Mark, verify
from ..folders.identity import describe_calculator, differences, structure_arrays, versions
from ..folders.lock import FolderLock
from ..folders.storage import load_arrays, save_arrays, write_atomically
from .frames import LOG_HEADER, FrameText, LogRow, Record, read_log, template_atoms
from .integrators import PhaseSpace
from .recording import Checkpoint, Written, state_frame
from .settings import MDSettings

_KIND = "checkpoint"
_CHECKPOINT, _RUN = "checkpoint.npz", "run.json"
_FRAMES, _LOG, _FAILURE = "trajectory.extxyz", "log.csv", "failure.extxyz"
_MARKS = ("log", "frames", "log_end", "frames_end")


class RunFolder:
    """Records a run in a folder, after taking up what an earlier process left there."""

    def __init__(self, path: Path, atoms: Atoms, settings: MDSettings, *, steps: int, interval_s: float) -> None:
        self._steps, self._interval = steps, interval_s
        self._template = atoms.copy()
        self._structure = structure_arrays(atoms)
        self._calculator = describe_calculator(atoms.calc)
        self._log: AppendFile | None = None
        self._written = Written()
        self._lock = FolderLock(path, files=(_CHECKPOINT, _RUN, _FAILURE))
        self._path = self._lock.folder
        try:
            self._take_up(settings)
        except BaseException:
            self._close()
            raise

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._close()

    def add(self, row: LogRow, state: PhaseSpace, *, log: bool, frame: bool) -> None:
        """Append what is asked for."""
        log_file, frame_file = self._open()
        if log:
            if log_file.mark.offset == 0:
                log_file.append(LOG_HEADER)
            log_file.append(row.text())
            self._last_logged = row.step
        if frame:
            frame_file.append(self._text.write(row.step, row.time_fs, state))
            self._last_frame = row.step
        self._written.add(row, state, log=log, frame=frame)

    def checkpoint_due(self) -> bool:
        return time.monotonic() - self._saved_at >= self._interval

    def checkpoint(self, row: LogRow, state: PhaseSpace, rng_state: dict[str, Any], *, last: bool = False) -> None:
        """Make everything up to this step durable; `last` adds the row and the frame if the grid left them out."""
        log, frames = self._open()
        grid = (log.mark, frames.mark)
        if last:
            self.add(row, state, log=self._last_logged != row.step, frame=self._last_frame != row.step)
        log.sync()
        frames.sync()
        self._save(Checkpoint(row.step, state, rng_state, *grid, log.mark, frames.mark, ended=last))

    def start(self, state: PhaseSpace, rng_state: dict[str, Any]) -> None:
        """Claim the folder for a new run, before its first row."""
        self._save(Checkpoint(0, state, rng_state, Mark(), Mark(), Mark(), Mark(), ended=False))
        about = {
            "settings": self._settings.as_dict(),
            "calculator": self._calculator,
            "structure": {"formula": str(self._template.symbols), "atoms": len(self._template)},
            "units": "eV, Å, fs, K; momenta sqrt(amu eV)",
            "versions": versions(),
        }
        write_atomically(self._path / _RUN, (json.dumps(about, indent=2, ensure_ascii=False) + "\n").encode())

    def failed(self, steps: list[tuple[int, PhaseSpace]]) -> str:
        """Write the last steps beside the trajectory; a sentence saying where."""
        path = self._path / _FAILURE
        timestep = self._settings.timestep_fs
        write_atomically(path, b"".join(self._text.write(step, step * timestep, state) for step, state in steps))
        return f". The last good steps and the bad one are in {path}"

    def result(self, completed: bool) -> Record:
        """Everything the folder holds; read from its files as far as this process has not written it."""
        if self._log is None or not self._written.whole:
            return read_folder(self._path, self._template)
        verify(self._log.path, self._log.mark)
        verify(self._frames.path, self._frames.mark)
        begin = self.resumed
        rows, frames = _read_files(self._path, self._template, begin.log, begin.frames) if begin else ([], [])
        frames += [state_frame(self._template, *written) for written in self._written.states]
        return Record.of(frames, [*rows, *self._written.rows], self._settings.as_dict(), completed=completed)

    def _take_up(self, settings: MDSettings) -> None:
        stored = self._stored()
        self.resumed = stored[0] if stored else None
        before = stored[2]["settings"] if stored else None
        self._settings = settings.with_intervals(before, self._steps, len(self._template))
        self.intervals = self._settings.intervals
        self._text = FrameText(self._template)
        self._last_logged = self._last_frame = -1
        self._saved_at = time.monotonic()
        if stored is None:
            return
        checkpoint, structure, info = stored
        now = {"settings": self._settings.as_dict(), "calculator": self._calculator}
        changed = differences({key: info[key] for key in now}, now) + differences(structure, self._structure)
        if changed:
            raise ConfigError(
                f"{self._path} holds a run with other settings, so it is not continued: {'; '.join(changed)}",
                setting="output",
                value=str(self._path),
                remedies=["use the old settings", "use another folder"],
            )
        if checkpoint.step > self._steps:
            raise ConfigError(
                f"{self._path} already holds {checkpoint.step} steps, more than the {self._steps} asked for",
                setting="steps",
                value=self._steps,
                limit=checkpoint.step,
                remedies=["ask for at least as many", "use another folder"],
            )
        verify(self._path / _LOG, checkpoint.log_end)
        verify(self._path / _FRAMES, checkpoint.frames_end)
        if not checkpoint.is_empty:
            on_grid = [checkpoint.step % interval == 0 for interval in self.intervals]
            self._last_logged, self._last_frame = (checkpoint.step if there else -1 for there in on_grid)

    def _stored(self) -> tuple[Checkpoint, dict[str, Any], dict[str, Any]] | None:
        if (self._path / _CHECKPOINT).exists():
            return _read_checkpoint(self._path)
        present = [name for name in (_FRAMES, _LOG, _RUN) if (self._path / name).exists()]
        if present:
            raise SimulationError(
                f"{self._path} holds {' and '.join(present)} but no {_CHECKPOINT}: nothing there is overwritten",
                setting="output",
                value=str(self._path),
                remedies=["use another folder", "move these files away"],
            )
        return None

    def _open(self) -> tuple[AppendFile, AppendFile]:
        if self._log is None:
            old = self.resumed
            if old and (old.log, old.frames) != (old.log_end, old.frames_end):
                # The rows beyond the grid are about to go: after a crash the checkpoint must not ask for them.
                self._save(replace(old, log_end=old.log, frames_end=old.frames, ended=False))
            self._log = AppendFile(self._path / _LOG, old.log if old else Mark())
            self._frames = AppendFile(self._path / _FRAMES, old.frames if old else Mark())
        return self._log, self._frames

    def _save(self, checkpoint: Checkpoint) -> None:
        state = checkpoint.state
        arrays = {"positions": state.positions, "momenta": state.momenta, "forces": state.forces}
        info = {
            "step": checkpoint.step,
            "steps": self._steps,
            "energy": state.energy,
            "heat": state.heat,
            "rng_state": checkpoint.rng_state,
            "ended": checkpoint.ended,
            "settings": self._settings.as_dict(),
            "calculator": self._calculator,
            **{name: [getattr(checkpoint, name).offset, getattr(checkpoint, name).crc] for name in _MARKS},
        }
        try:
            save_arrays(self._path / _CHECKPOINT, _KIND, arrays | self._structure, info)
        except OSError as error:
            raise SimulationError(
                f"the checkpoint in {self._path} could not be written ({error.strerror or error}), the one before it "
                "is still there",
                remedies=["make space and run the same call again"],
            ) from error
        self._saved_at = time.monotonic()

    def _close(self) -> None:
        if self._log is not None:
            self._log.close()
            self._frames.close()
        self._lock.release()


def _read_checkpoint(path: Path) -> tuple[Checkpoint, dict[str, Any], dict[str, Any]]:
    arrays, info = load_arrays(path / _CHECKPOINT, _KIND)
    positions, momenta, forces = (arrays.pop(name) for name in ("positions", "momenta", "forces"))
    state = PhaseSpace(positions, momenta, forces, info["energy"], info["heat"])
    marks = {name: Mark(*info[name]) for name in _MARKS}
    checkpoint = Checkpoint(info["step"], state, info["rng_state"], ended=info["ended"], **marks)
    return checkpoint, arrays, info


def read_folder(path: Path, template: Atoms | None = None) -> Record:
    """What a run left in its folder up to the last checkpoint; SimulationError if the files do not fit it."""
    if not (path / _CHECKPOINT).exists():
        raise ResultFileError(f"{path} holds no {_CHECKPOINT}: it is not the output folder of a run")
    checkpoint, structure, info = _read_checkpoint(path)
    if template is None:
        template = template_atoms(structure)
        template.set_cell(structure["cell"])
    verify(path / _LOG, checkpoint.log_end)
    verify(path / _FRAMES, checkpoint.frames_end)
    rows, frames = _read_files(path, template, checkpoint.log_end, checkpoint.frames_end)
    return Record.of(frames, rows, info["settings"], completed=checkpoint.step >= info["steps"])


def _read_files(path: Path, template: Atoms, log: Mark, frames: Mark) -> tuple[list[list[float]], list[Atoms]]:
    """Log rows and frames up to these places."""
    if not frames.offset:
        return [], []
    with (path / _LOG).open("rb") as file:
        rows = read_log(file.read(log.offset))
    with (path / _FRAMES).open("rb") as file:
        return rows, list(FrameText(template).read(file, frames.offset))
