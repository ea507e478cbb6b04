"""The result of a molecular-dynamics run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from .. import plotting
from ..errors import ResultFileError
from ..results import Arrays, Quantity, Result
from .frames import arrays_to_frames, frames_to_arrays
from .run_folder import read_folder

Array = NDArray[np.float64]
_DRIFT = "meV/atom/ps"
_LOG = ("steps", "times_fs", "energies", "kinetic_energies", "temperatures", "conserved")


@dataclass(frozen=True, eq=False, repr=False)
class Trajectory(Result):
    """Frames and the log of a run; M log rows, F frames, the same steps for both unless intervals say otherwise."""

    kind = "trajectory"
    derived = {  # noqa: RUF012 - a constant of the class
        "n_atoms": Quantity("of each frame"),
        "n_frames": Quantity("frames kept"),
        "n_steps": Quantity("steps done since the start of the run"),
        "duration_fs": Quantity("time of the last log row", "fs"),
        "mean_temperature": Quantity("mean over the log rows", "K"),
        "mean_temperature_second_half": Quantity("mean over the second half of the log rows", "K"),
        "mean_energy": Quantity("mean potential energy over the log rows", "eV"),
        "drift": Quantity("least-squares slope of the conserved energy; None for fewer than three rows", _DRIFT),
    }

    frames: Annotated[
        list[Atoms],
        Quantity("F structures with energy, forces and momenta; info has step and time_fs", json=False),
    ]
    steps: Annotated[NDArray[np.int64], Quantity("of the log rows", shape="(M,)", json=False)]
    times_fs: Annotated[Array, Quantity("of the log rows", "fs", "(M,)", json=False)]
    energies: Annotated[Array, Quantity("potential", "eV", "(M,)", json=False)]
    kinetic_energies: Annotated[Array, Quantity("kinetic", "eV", "(M,)", json=False)]
    temperatures: Annotated[
        Array, Quantity("kinetic, over the true number of degrees of freedom", "K", "(M,)", json=False)
    ]
    conserved: Annotated[
        Array, Quantity("total energy less the heat put in by the thermostat", "eV", "(M,)", json=False)
    ]
    settings: Annotated[Mapping[str, Any], Quantity("ensemble, temperature_K, timestep_fs, ..., as JSON values")]
    completed: Annotated[bool, Quantity("False: stopped by a signal or the wall-time limit")] = True

    @property
    def total_energies(self) -> Array:
        """Potential plus kinetic energy, (M,) eV."""
        return self.energies + self.kinetic_energies

    @property
    def frame_times_fs(self) -> Array:
        """Times of the frames, (F,) fs."""
        return np.array([frame.info["time_fs"] for frame in self.frames], dtype=float)

    @property
    def n_atoms(self) -> int:
        """Atoms of each frame."""
        return len(self.frames[0]) if self.frames else 0

    @property
    def n_frames(self) -> int:
        """How many frames were kept."""
        return len(self.frames)

    @property
    def n_steps(self) -> int:
        """Steps done since the start of the run."""
        return int(self.steps[-1]) if len(self.steps) else 0

    @property
    def duration_fs(self) -> float:
        """Time of the last log row, fs."""
        return float(self.times_fs[-1]) if len(self.steps) else 0.0

    @property
    def mean_temperature(self) -> float | None:
        """Mean over the log rows, K; None without any."""
        return _mean(self.temperatures)

    @property
    def mean_temperature_second_half(self) -> float | None:
        """Mean over the second half of the log rows, K; None without any."""
        return _mean(self.temperatures[len(self.steps) // 2 :])

    @property
    def mean_energy(self) -> float | None:
        """Mean potential energy over the log rows, eV; None without any."""
        return _mean(self.energies)

    @property
    def drift(self) -> float | None:
        """Least-squares slope of the conserved energy over time, meV/atom/ps; None for fewer than three log rows."""
        if len(self.steps) < 3 or not self.frames:
            return None
        slope = np.polyfit(self.times_fs / 1000.0, self.conserved, 1)[0]
        return float(1000.0 * slope / self.n_atoms)

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

    def summary(self) -> str:
        """Length, means and drift, with units."""
        formula = self.frames[0].get_chemical_formula() if self.frames else "no frames"
        ended = "" if self.completed else ", stopped before its end"
        lines = [
            f"Trajectory: {self.n_steps} steps ({self.duration_fs / 1000.0:g} ps) of {formula}, {self.n_frames} "
            f"frames{ended}"
        ]
        if label := self.settings.get("label"):
            lines.append(f"  {label}, {self.settings.get('timestep_fs')} fs per step")
        if len(self.steps):
            target = self.settings.get("temperature_K")
            lines.append(
                f"  temperature: mean {self.mean_temperature:.1f} K, of the second half "
                f"{self.mean_temperature_second_half:.1f} K" + (f" (set: {target:g} K)" if target is not None else "")
            )
            lines.append(f"  potential energy: mean {self.mean_energy:.6g} eV")
        if (drift := self.drift) is not None:
            lines.append(f"  drift of the conserved energy: {drift:.2g} {_DRIFT}")
        return "\n".join(lines)

    def packed(self) -> tuple[Arrays, dict[str, Any]]:
        """Arrays and plain values; frames of one system share what does not change."""
        log = {name: getattr(self, name) for name in _LOG}
        return log | frames_to_arrays(self.frames), {"settings": dict(self.settings), "completed": self.completed}

    @classmethod
    def unpacked(cls, arrays: Mapping[str, NDArray[Any]], info: Mapping[str, Any]) -> Self:
        """What `packed` packed."""
        try:
            log = {name: arrays[name] for name in _LOG}
            return cls(frames=arrays_to_frames(arrays), settings=info["settings"], completed=info["completed"], **log)
        except KeyError as error:
            raise ResultFileError(f"the file has no {error.args[0]}: it is damaged, or of another version") from None

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """The trajectory of a file written by `save`, or of the output folder of a run (also one still running)."""
        if Path(path).is_dir():
            return cls(**read_folder(Path(path))._asdict())
        return super().load(path)


def _mean(values: Array) -> float | None:
    return float(values.mean()) if len(values) else None
