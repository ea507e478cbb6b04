"""The folder of a run of i-PI: an ordinary one for i-PI, from which the same call continues.

input.xml, init.xyz     what i-PI was started with: `i-pi input.xml` does the same by hand
template.extxyz         the structure for the clients: `mlcalc ipi template.extxyz --model ... --unix ...`
sim.out, sim.pos_*  i-PI's log and positions, one file per bead (and replica)
sim.checkpoint_*        i-PI's state now and then; RESTART its state at the end
run.json                settings, calculator and versions
i-pi.log                what i-PI says
run.lock                while a process is using the folder
"""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from types import TracebackType
from typing import Any
from zlib import crc32

from ase import Atoms
from ase.io import write

from ...errors import ConfigError, ResultFileError, SimulationError
from ...folders.identity import differences, structure_arrays, versions
from ...folders.lock import FolderLock
from ...folders.storage import save_arrays, write_atomically
from .inputs import PREFIX, IPISettings, aligned, simulation_input, structure_text
from .output_files import checkpoint_step, cut_back, last_step, tail
from .result import START, START_KIND, degrees_of_freedom, load_start, ring_temperature

_RUN, _INPUT, _RESTART = "run.json", "input.xml", "restart.xml"
_KEPT = 2  # checkpoints: the last might have been cut short


class IPIFolder:
    """Prepares the folder for i-PI, after whatever an earlier process left there."""

    def __init__(self, path: Path, atoms: Atoms, settings: IPISettings, steps: int, calculator: Any) -> None:
        self._atoms = aligned(atoms)
        self._settings, self.steps = settings, steps
        self._about = {"settings": settings.as_dict(), "calculator": calculator}
        self._structure = structure_arrays(atoms)
        self._lock = FolderLock(path, files=(_RUN, _INPUT, _RESTART, START, "init.xyz"))
        self.path = self._lock.folder
        try:
            self._take_up()
        except BaseException:
            self._lock.release()
            raise

    def __enter__(self) -> IPIFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.prune()
        self._lock.release()

    @property
    def template(self) -> Atoms:
        """The structure turned as i-PI has it."""
        return self._atoms

    def start(self) -> tuple[str, int] | None:
        """The input to start i-PI with and the steps done already; None when all are done."""
        (self.path / "EXIT").unlink(missing_ok=True)  # i-PI would stop at once, and never removes it
        found = self._checkpoint()
        if found is None:
            for file in self.outputs():
                file.unlink()
            self._write_input(self.address())  # with the steps of this call
            return _INPUT, 0
        file, step = found
        if step >= self.steps:
            return None
        for output in self.outputs():
            cut_back(output, step)
        tree = ET.parse(file)  # noqa: S314 - written by i-PI in our own folder
        _set(tree.getroot(), "total_steps", self.steps)
        write_atomically(self.path / _RESTART, ET.tostring(tree.getroot()))
        return _RESTART, step

    def outputs(self) -> list[Path]:
        """The growing files."""
        names = (f"*{PREFIX}.out", f"*{PREFIX}.pos_*.extxyz", f"*{PREFIX}.centroid*.xyz", f"{PREFIX}.remd_idx")
        return sorted(path for name in names for path in self.path.glob(name) if not path.name.startswith("#"))

    def prune(self) -> None:
        """Keep the last checkpoints only."""
        for path in self._numbered()[:-_KEPT]:
            path.unlink(missing_ok=True)

    def last_row(self) -> tuple[float, float, float] | None:
        """Step, temperature (K) and potential energy (eV) that i-PI logged last; None before the first row."""
        logs = sorted(self.path.glob(f"*{PREFIX}.out"))
        row = tail(logs[0]) if logs else None
        if row is None or len(row) < 6:
            return None
        freedom = degrees_of_freedom(self._structure, self._settings)
        return row[0], ring_temperature(row[5], freedom, self._settings.beads), row[4]

    def _numbered(self) -> list[Path]:
        found = [p for p in self.path.glob(f"{PREFIX}.checkpoint_*") if p.name.rpartition("_")[2].isdigit()]
        return sorted(found, key=lambda path: int(path.name.rpartition("_")[2]))

    def _checkpoint(self) -> tuple[Path, int] | None:
        """The latest whole checkpoint up to whose step everything was recorded."""
        found = [(checkpoint_step(path), path) for path in (*self._numbered(), self.path / "RESTART")]
        whole = sorted((pair for pair in found if pair[0]), key=lambda pair: (pair[0] or 0, pair[1].name), reverse=True)
        for step, path in whole:
            if step and all(last_step(file) >= self._last_due(file, step) for file in self.outputs()):
                return path, step
        return None

    def _last_due(self, file: Path, step: int) -> int:
        if file.name.endswith(".remd_idx"):
            return -1  # written when replicas were exchanged, which is by chance
        log = file.name.endswith(".out")
        interval = self._settings.log_interval if log else self._settings.trajectory_interval
        return step - step % interval

    def _take_up(self) -> None:
        if not (self.path / _RUN).exists():
            self._claim()
            return
        arrays, info = load_start(self.path)
        if not self.outputs() and not self._numbered() and not (self.path / "RESTART").exists():
            self._claim()  # nothing was done yet: it may as well be another run
            return
        changed = differences(info, self._about) + differences(arrays, self._structure)
        if changed:
            raise ConfigError(
                f"{self.path} holds a run of i-PI with other settings, so it is not continued: {'; '.join(changed)}",
                setting="output",
                value=str(self.path),
                remedies=["use the old settings", "give another folder"],
            )

    def _claim(self) -> None:
        present = [
            name for name in (_INPUT, "RESTART", *(p.name for p in self.outputs())) if (self.path / name).exists()
        ]
        if present and not (self.path / START).exists():
            raise SimulationError(
                f"{self.path} holds {', '.join(present[:4])} but no {_RUN}: nothing there is overwritten",
                setting="output",
                value=str(self.path),
                remedies=["use another folder", "move these files away"],
            )
        save_arrays(self.path / START, START_KIND, self._structure, self._about)
        address = f"mlcalc-{crc32(str(self.path.resolve()).encode()):08x}"
        write_atomically(self.path / "init.xyz", structure_text(self._atoms).encode())
        write(self.path / "template.extxyz", self._atoms)
        self._write_input(address)
        about = {**self._about, "versions": versions("ipi"), "address": address}
        write_atomically(self.path / _RUN, (json.dumps(about, indent=2, ensure_ascii=False) + "\n").encode())

    def _write_input(self, address: str) -> None:
        text = simulation_input(self._atoms, self._settings, self.steps, address, "init.xyz")
        write_atomically(self.path / _INPUT, text.encode())

    def address(self) -> str:
        """Name of the unix socket in the input."""
        root = ET.parse(self.path / _INPUT).getroot()  # noqa: S314 - our own
        found = root.find("ffsocket/address")
        if found is None or not found.text:
            raise ResultFileError(
                f"{self.path / _INPUT} has no address of a socket: it was changed", remedies=["use another folder"]
            )
        return found.text.strip()


def stored_settings(path: Path) -> dict[str, Any]:
    """Settings of the run in the folder; empty where there is none, or none that can be read."""
    try:
        settings: dict[str, Any] = load_start(path.expanduser())[1]["settings"]
    except (ResultFileError, RuntimeError, KeyError):  # RuntimeError: ~ of nobody; the folder itself tells of damage
        return {}
    return settings


def _set(root: ET.Element, tag: str, value: object) -> None:
    element = root.find(tag)
    if element is None:
        element = ET.SubElement(root, tag)
    element.text = f" {value} "
