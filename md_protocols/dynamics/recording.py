"""Where the rows and frames of a run go."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol

from ase import Atoms

from ..folders.append_file import Mark
from .frames import LogRow, Record, make_frame
from .integrators import PhaseSpace
from .settings import MDSettings


@dataclass(frozen=True)
class Checkpoint:
    """A step that a run can be continued from, bit for bit."""

    step: int
    state: PhaseSpace
    rng_state: dict[str, Any]
    log: Mark  # where the rows end that belong to the regular grid of steps
    frames: Mark
    log_end: Mark  # where all rows end: a run that stops between two grid steps adds its last one
    frames_end: Mark
    ended: bool  # the row and the frame of this very step are in the files, be it on the grid or not

    @property
    def is_empty(self) -> bool:
        """Not even the first row is written yet."""
        return self.log.offset == 0


class Recorder(Protocol):
    """Takes log rows and frames; may be able to continue an earlier run."""

    resumed: Checkpoint | None

    @property
    def intervals(self) -> tuple[int, int]: ...  # steps between log rows, between frames

    def start(self, state: PhaseSpace, rng_state: dict[str, Any]) -> None: ...

    def add(self, row: LogRow, state: PhaseSpace, *, log: bool, frame: bool) -> None: ...

    def checkpoint(self, row: LogRow, state: PhaseSpace, rng_state: dict[str, Any], *, last: bool = False) -> None: ...

    def checkpoint_due(self) -> bool: ...

    def failed(self, steps: list[tuple[int, PhaseSpace]]) -> str: ...

    def result(self, completed: bool) -> Record: ...

    def __enter__(self) -> Recorder: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...


_MOST_BYTES, _BYTES_PER_ROW = 256e6, 300  # of Python objects


def state_frame(template: Atoms, step: int, time_fs: float, state: PhaseSpace) -> Atoms:
    """The frame of a phase-space point."""
    arrays = {"positions": state.positions, "momenta": state.momenta, "forces": state.forces.copy()}
    return make_frame(template, step, time_fs, state.energy, arrays)


class Written:
    """Rows and frames that this process has written to files, so that they need not be read again.

    Beyond 256 MB of them they are let go.
    """

    def __init__(self) -> None:
        self.rows: list[LogRow] = []
        self.states: list[tuple[int, float, PhaseSpace]] = []  # step, fs
        self.whole = True  # nothing was let go
        self._bytes = 0

    def add(self, row: LogRow, state: PhaseSpace, *, log: bool, frame: bool) -> None:
        if not self.whole:
            return
        if log:
            self.rows.append(row)
        if frame:
            self.states.append((row.step, row.time_fs, state.copy()))
            self._bytes += 3 * state.positions.nbytes
        if self._bytes + _BYTES_PER_ROW * len(self.rows) > _MOST_BYTES:
            self.whole = False
            self.rows, self.states = [], []


class MemoryRecorder:
    """Keeps everything in memory; nothing is written."""

    resumed: Checkpoint | None = None

    def __init__(self, atoms: Atoms, settings: MDSettings, steps: int) -> None:
        self._settings = settings.with_intervals(None, steps, len(atoms))
        self.intervals = self._settings.intervals
        self._template = atoms.copy()
        self._rows: list[LogRow] = []
        self._frames: list[Atoms] = []

    def __enter__(self) -> MemoryRecorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pass

    def add(self, row: LogRow, state: PhaseSpace, *, log: bool, frame: bool) -> None:
        if log:
            self._rows.append(row)
        if frame:
            self._frames.append(state_frame(self._template, row.step, row.time_fs, state))

    def start(self, state: PhaseSpace, rng_state: dict[str, Any]) -> None:
        pass

    def checkpoint_due(self) -> bool:
        return False

    def checkpoint(self, row: LogRow, state: PhaseSpace, rng_state: dict[str, Any], *, last: bool = False) -> None:
        if last:
            missing_frame = not self._frames or self._frames[-1].info["step"] != row.step
            self.add(row, state, log=not self._rows or self._rows[-1].step != row.step, frame=missing_frame)

    def failed(self, steps: list[tuple[int, PhaseSpace]]) -> str:
        return ""

    def result(self, completed: bool) -> Record:
        return Record.of(self._frames, self._rows, self._settings.as_dict(), completed=completed)
