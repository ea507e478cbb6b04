"""The result of a molecular-dynamics run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from .. import plotting
from ..folders.storage import load_arrays, save_arrays
from .frames import arrays_to_frames, frames_to_arrays

Array = NDArray[np.float64]
_KIND = "trajectory"
_LOG = ("steps", "times_fs", "energies", "kinetic_energies", "temperatures", "conserved")


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Frames and the log of a run; M log rows, F frames, the same steps for both unless intervals say otherwise."""

    frames: list[Atoms]  # F frames with stored energy, forces and momenta; info["step"], info["time_fs"]
    steps: NDArray[np.int64]  # (M,) of the log rows
    times_fs: Array  # (M,) fs
    energies: Array  # (M,) eV, potential
    kinetic_energies: Array  # (M,) eV
    temperatures: Array  # (M,) K, kinetic, over the true number of degrees of freedom
    conserved: Array  # (M,) eV, total energy less the heat put in by the thermostat
    settings: Mapping[str, Any]  # ensemble, temperature_K, timestep_fs, ..., as JSON values
    completed: bool = True  # False: stopped by a signal or the wall-time limit

    @property
    def total_energies(self) -> Array:
        """Potential plus kinetic energy, (M,) eV."""
        return self.energies + self.kinetic_energies

    @property
    def frame_times_fs(self) -> Array:
        """Times of the frames, (F,) fs."""
        return np.array([frame.info["time_fs"] for frame in self.frames], dtype=float)

    def plot(self, ax: Any = None) -> Any:
        """Axes with the temperature (left) and the energies relative to the first total energy (right) over time."""
        ax = plotting.axes(ax)
        picoseconds = self.times_fs / 1000.0
        right = ax.twinx()
        start = self.total_energies[0] if len(self.steps) else 0.0
        lines = ax.plot(picoseconds, self.temperatures, color="tab:red", linewidth=0.8, label="temperature")
        for values, label, color in (
            (self.total_energies, "total", "black"),
            (self.energies, "potential", "tab:blue"),
            (self.conserved, "conserved", "tab:green"),
        ):
            lines += right.plot(picoseconds, values - start, color=color, linewidth=0.8, label=f"{label} energy")
        ax.set_xlabel("time (ps)")
        ax.set_ylabel("temperature (K)")
        right.set_ylabel("energy − E_tot(0) (eV)")
        ax.set_title(str(self.settings.get("label", "")), fontsize="medium")
        below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.15)}  # inside, it would cover curves
        ax.legend(handles=lines, fontsize="small", frameon=False, ncols=2, **below)
        return ax

    def save(self, path: str | Path) -> None:
        """Write everything to one .npz file at full precision, without pickle."""
        log = {name: getattr(self, name) for name in _LOG}
        info = {"settings": dict(self.settings), "completed": self.completed}
        save_arrays(path, _KIND, log | frames_to_arrays(self.frames), info)

    @classmethod
    def load(cls, path: str | Path) -> Trajectory:
        """The trajectory of a file written by `save`, or of the output folder of a run (also one still running)."""
        if Path(path).is_dir():
            from .run_folder import read_folder

            return read_folder(Path(path))
        arrays, info = load_arrays(path, _KIND)
        log = {name: arrays.pop(name) for name in _LOG}
        return cls(frames=arrays_to_frames(arrays), settings=info["settings"], completed=info["completed"], **log)
