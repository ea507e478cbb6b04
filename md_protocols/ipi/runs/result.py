"""What a run with i-PI left in its folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from ase import Atoms, units
from ase.io import read
from numpy.typing import NDArray

from ...errors import ConfigError, ResultFileError
from ...folders.storage import load_arrays
from ...plotting import axes
from .inputs import PREFIX
from .output_files import read_frames, read_log

if TYPE_CHECKING:
    from matplotlib.axes import Axes


_Energies = TypeVar("_Energies", float, NDArray[np.float64])


def degrees_of_freedom(structure: Mapping[str, Any], settings: Mapping[str, Any]) -> tuple[int, int]:
    """Coordinates that move, and how many of those of the centroid are removed."""
    mobile = 3 * int(np.count_nonzero(structure["mobile"]))
    return mobile, 3 if settings["remove_drift"] and not settings["fixed"] else 0


def ring_temperature(kinetic: _Energies, freedom: tuple[int, int], beads: int) -> _Energies:
    """K, of the classical ring polymer whose mean kinetic energy per bead is given in eV; 0 where nothing moves."""
    mobile, removed = freedom
    return 2.0 * kinetic * beads / (max(mobile * beads - removed, 1) * units.kB)


Array = NDArray[np.float64]
_TIME, _KINETIC, _POTENTIAL = "time{femtosecond}", "kinetic_md{electronvolt}", "potential{electronvolt}"
_HARTREE_THZ = 6579.683920502  # of an atomic unit of frequency, over 2 pi: E_h / h


@dataclass(frozen=True, eq=False)
class IPIRun:
    """Log and frames of a run of i-PI, up to its last whole record."""

    folder: Path
    settings: dict[str, Any]
    completed: bool
    columns: tuple[dict[str, Array], ...]  # one per replica: i-PI's names with units; empty for vibrations
    freedom: tuple[int, int]  # coordinates that move; how many of them the resting center of mass takes away
    frequencies: Array | None = None  # (3N,) THz, imaginary ones negative, of ensemble "vibrations"

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> IPIRun:
        """The run in a folder; ResultFileError where there is none."""
        path = Path(folder)
        structure, info = load_arrays(path / "start.npz", "i-PI run")
        settings = info["settings"]
        freedom = degrees_of_freedom(structure, settings)
        if settings["ensemble"] == "vibrations":
            frequencies = _frequencies(path)
            return cls(path, settings, frequencies is not None, (), freedom, frequencies)
        logs = tuple(read_log(file) for file in _replicas(path, f"{PREFIX}.out"))
        if not logs:
            raise ResultFileError(f"{path} holds no log yet: run it again to continue it")
        return cls(path, settings, _completed(path), logs, freedom)

    @property
    def steps(self) -> NDArray[np.int_]:
        """(F,) of the log."""
        return self.columns[0]["step"].round().astype(int)

    @property
    def times_fs(self) -> Array:
        """(F,) of the log."""
        return self.columns[0][_TIME]

    @property
    def temperatures(self) -> Array:
        """(F,) K, twice the kinetic energy per degree of freedom and kB; of beads, of the classical ring polymer."""
        return self.temperature(0)

    def temperature(self, replica: int) -> Array:
        """(F,) K, of one replica."""
        return ring_temperature(self.columns[replica][_KINETIC], self.freedom, int(self.settings["beads"]))

    @property
    def energies(self) -> Array:
        """(F,) potential energy, eV; of beads their mean."""
        return self.columns[0][_POTENTIAL]

    def column(self, name: str, replica: int = 0) -> Array:
        """A column of the log by i-PI's name, with or without its unit; ConfigError for none of them."""
        for full, values in self.columns[replica].items():
            if name in (full, full.split("{")[0]):
                return values
        raise ConfigError(f"the log has no column {name!r}: choose one of {', '.join(self.columns[replica])}")

    def frames(self, bead: int | None = None, replica: int = 0) -> list[Atoms]:
        """Positions of one bead, or of all of them one after the other, with info["step"]; read from the folder."""
        template: Any = read(self.folder / "template.extxyz")
        template.set_constraint()
        template.arrays.pop("momenta", None)  # of the first frame only
        files = _replicas(self.folder, f"{PREFIX}.pos_*.extxyz")
        beads = int(self.settings["beads"])
        mine = files[replica * beads : (replica + 1) * beads]
        if not mine or (bead is not None and not 0 <= bead < beads):
            raise ConfigError(f"there is no bead {bead} of replica {replica}: the run has {beads} beads, from 0 on")
        chosen = mine if bead is None else [mine[bead]]
        return [frame for file in chosen for frame in read_frames(file, template)]

    def plot(self, ax: Axes | None = None) -> Axes:
        """Temperature and potential energy against time, or the spectrum of vibrations."""
        ax = axes(ax)
        if self.frequencies is not None:
            ax.vlines(self.frequencies, 0, 1, lw=1)
            ax.set(xlabel="frequency (THz)", yticks=[])
            return ax
        picoseconds = self.times_fs / 1000
        for k in range(len(self.columns)):
            ax.plot(picoseconds, self.temperature(k), lw=0.8, color=f"C{k}", label=f"replica {k}")
        ax.set(xlabel="time (ps)", ylabel="temperature (K)")
        if len(self.columns) > 1:
            ax.legend(fontsize="small")
            return ax
        ax.yaxis.label.set_color("C0")
        right = ax.twinx()
        right.plot(picoseconds, self.energies, lw=0.8, color="C1")
        right.set_ylabel("potential energy (eV)", color="C1")
        return ax

    def to_json(self) -> dict[str, Any]:
        """Means of the second half, and what was run."""
        about = {"folder": str(self.folder), "completed": self.completed, "settings": self.settings}
        if self.frequencies is not None:
            return {**about, "frequencies_THz": self.frequencies.tolist()}
        half = len(self.steps) // 2
        means = [
            {"temperature_K": float(self.temperature(k)[half:].mean())}
            | {name: float(values[half:].mean()) for name, values in log.items()}
            for k, log in enumerate(self.columns)
        ]
        return {**about, "steps": int(self.steps[-1]), "means_of_second_half": means}

    def __str__(self) -> str:
        if self.frequencies is not None:
            shown = ", ".join(f"{value:.3f}" for value in self.frequencies[-6:])
            return f"vibrations: {len(self.frequencies)} modes, the highest at {shown} THz; {self.folder}"
        if not len(self.steps):
            return f"no step yet; {self.folder}"
        half, s = len(self.steps) // 2, self.settings
        lines = [
            f"i-PI {s['ensemble']}, {s['beads']} beads: {self.steps[-1]} steps ({self.times_fs[-1] / 1000:g} ps)"
            + ("" if self.completed else ", not complete: run it again to continue"),
        ]
        lines += [
            f"temperature {self.temperature(k)[half:].mean():.1f} K, potential {log[_POTENTIAL][half:].mean():.4f} eV "
            "(means of the second half)"
            for k, log in enumerate(self.columns)
        ]
        return "\n".join([*lines, f"files in {self.folder}"])


def _replicas(path: Path, pattern: str) -> list[Path]:
    """Files of all replicas, then beads, in order of their numbers."""

    def key(file: Path) -> tuple[int, int]:
        replica = file.name.removeprefix("replica").split("_")[0] if file.name.startswith("replica") else "0"
        bead = file.stem.rpartition("_")[2]
        return int(replica), int(bead) if bead.isdigit() else 0

    found = [file for file in path.glob(f"*{pattern}") if not file.name.startswith("#")]
    return sorted(found, key=key)


def _completed(path: Path) -> bool:
    """Whether i-PI's last state is that of the last step asked for."""
    import xml.etree.ElementTree as ET

    try:
        root = ET.parse(path / "RESTART").getroot()  # noqa: S314 - written by i-PI in our own folder
    except (OSError, ET.ParseError):
        return False
    step, total = root.findtext("step", "0"), root.findtext("total_steps", "-1")
    return int(step) >= int(total)


def _frequencies(path: Path) -> Array | None:
    """THz, from the eigenvalues that i-PI wrote."""
    found = sorted(path.glob(f"{PREFIX}.vibrations.eigval"))
    if not found:
        return None
    values = np.loadtxt(found[0]).ravel()
    return np.asarray(np.sign(values) * np.sqrt(np.abs(values)) * _HARTREE_THZ)
