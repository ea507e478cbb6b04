"""What a run with i-PI left in its folder."""

from __future__ import annotations

import os
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self, TypeVar

import numpy as np
from ase import Atoms, units
from ase.io import read
from numpy.typing import NDArray

from ...errors import ConfigError, ResultFileError
from ...folders.storage import load_arrays
from ...plotting import axes
from ...results import Quantity, Result
from .inputs import PREFIX, IPISettings, upgraded
from .output_files import read_frames, read_log

if TYPE_CHECKING:
    from matplotlib.axes import Axes

START, START_KIND = "start.npz", "i-PI run"  # structure, settings and calculator of a folder
_Energies = TypeVar("_Energies", float, NDArray[np.float64])
Array = NDArray[np.float64]
_TIME, _KINETIC, _POTENTIAL = "time{femtosecond}", "kinetic_md{electronvolt}", "potential{electronvolt}"
_QUANTUM = "kinetic_cv{electronvolt}"
_HARTREE_THZ = 6579.683920502  # of an atomic unit of frequency, over 2 pi: E_h / h


def load_start(folder: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Arrays of the structure, and settings and calculator, that a folder began with; the settings in today's words."""
    structure, info = load_arrays(folder / START, START_KIND)
    return structure, info | {"settings": upgraded(info["settings"])}


def degrees_of_freedom(structure: Mapping[str, Any], settings: IPISettings) -> tuple[int, int]:
    """Coordinates that move, and how many of those of the centroid are removed."""
    mobile = 3 * int(np.count_nonzero(structure["mobile"]))
    return mobile, 3 if settings.remove_drift and not settings.fixed else 0


def ring_temperature(kinetic: _Energies, freedom: tuple[int, int], beads: int) -> _Energies:
    """K, of the classical ring polymer whose mean kinetic energy per bead is given in eV; 0 where nothing moves."""
    mobile, removed = freedom
    return 2.0 * kinetic * beads / (max(mobile * beads - removed, 1) * units.kB)


@dataclass(frozen=True, eq=False, repr=False)
class IPIRun(Result):
    """Log of a run of i-PI, up to its last whole record; its frames are read from its folder."""

    kind = "ipi_run"

    folder: Annotated[Path, Quantity("of the run")]
    settings: Annotated[IPISettings, Quantity("what was run")]
    completed: Annotated[bool, Quantity("whether all steps asked for are done")]
    columns: Annotated[
        dict[str, Array],
        Quantity(
            "of the log, by i-PI's names with units, a row for each replica; none of vibrations",
            shape="(replicas, F)",
            json=False,
        ),
    ]
    freedom: Annotated[
        tuple[int, int],
        Quantity("coordinates that move; how many of them the resting center of mass takes away", json=False),
    ]
    frequencies: Annotated[
        Array | None, Quantity("of ensemble vibrations, imaginary ones negative", "THz", "(3N,)")
    ] = None

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """The run in a folder, or what `save` wrote to a file; ResultFileError where there is neither."""
        folder = Path(path)
        if folder.is_file():
            return super().load(folder)
        structure, info = load_start(folder)
        settings = IPISettings.of(info["settings"])
        freedom = degrees_of_freedom(structure, settings)
        if settings.ensemble == "vibrations":
            frequencies = _frequencies(folder)
            return cls(folder, settings, frequencies is not None, {}, freedom, frequencies)
        logs = [read_log(file) for file in _replicas(folder, f"{PREFIX}.out")]
        if not logs:
            raise ResultFileError(f"{folder} holds no log yet", remedies=["run it again to continue it"])
        rows = min(len(log["step"]) for log in logs)
        columns = {name: np.array([log[name][:rows] for log in logs]) for name in logs[0]}
        return cls(folder, settings, _completed(folder), columns, freedom)

    @property
    def steps(self) -> NDArray[np.int_]:
        """(F,) of the log."""
        found: NDArray[np.int_] = self.columns["step"][0].round().astype(int)
        return found

    @property
    def times_fs(self) -> Array:
        """(F,) of the log."""
        return self._rows(_TIME, 0)

    @property
    def temperatures(self) -> Array:
        """(F,) K of the log, twice the kinetic energy per degree of freedom and kB.

        With P beads it is that of the ring polymers, whose classical motion samples at P times the temperature asked
        for.  It tells whether the thermostat does, and nothing of the quantum kinetic energy: that are the columns
        kinetic_cv and kinetic_td.
        """
        return self.temperature(0)

    def temperature(self, replica: int) -> Array:
        """The same of one replica."""
        return ring_temperature(self._rows(_KINETIC, replica), self.freedom, self.settings.beads)

    @property
    def energies(self) -> Array:
        """(F,) potential energy, eV; of beads their mean."""
        return self._rows(_POTENTIAL, 0)

    def column(self, name: str, replica: int = 0) -> Array:
        """A column of the log by i-PI's name, with or without its unit; ConfigError for none of them."""
        for full in self.columns:
            if name in (full, full.split("{")[0]):
                return self._rows(full, replica)
        raise ConfigError(
            f"the log has no column {name!r}",
            setting="name",
            value=name,
            limit=tuple(self.columns),
            remedies=[f"choose one of {', '.join(self.columns)}"],
        )

    def _rows(self, column: str, replica: int) -> Array:
        found: Array = self.columns[column][replica]
        return found

    def frames(self, bead: int | None = None, replica: int = 0) -> list[Atoms]:
        """Positions of one bead, or of all of them one after the other, with info["step"]; read from the folder."""
        template: Any = read(self.folder / "template.extxyz")
        template.set_constraint()
        template.arrays.pop("momenta", None)  # of the first frame only
        files = _replicas(self.folder, f"{PREFIX}.pos_*.extxyz")
        beads = self.settings.beads
        mine = files[replica * beads : (replica + 1) * beads]
        if not mine or (bead is not None and not 0 <= bead < beads):
            raise ConfigError(
                f"there is no bead {bead} of replica {replica} in {self.folder}: the run has {beads} beads, from 0 on",
                setting="bead",
                value=bead,
                limit=beads - 1,
            )
        chosen = mine if bead is None else [mine[bead]]
        return [frame for file in chosen for frame in read_frames(file, template)]

    def plot(self, ax: Axes | None = None) -> Axes:
        """Temperature and potential energy against time, or the spectrum of vibrations."""
        ax = axes(ax)
        if self.frequencies is not None:
            ax.vlines(self.frequencies, 0, 1, lw=1)
            ax.set(xlabel="frequency (THz)", yticks=[])
            return ax
        picoseconds, replicas = self.times_fs / 1000, len(self.columns["step"])
        for k in range(replicas):
            ax.plot(picoseconds, self.temperature(k), lw=0.8, color=f"C{k}", label=f"replica {k}")
        ax.set(xlabel="time (ps)", ylabel=f"{self._temperature()} (K)")
        if replicas > 1:
            ax.legend(fontsize="small")
            return ax
        ax.yaxis.label.set_color("C0")
        right = ax.twinx()
        right.plot(picoseconds, self.energies, lw=0.8, color="C1")
        right.set_ylabel("potential energy (eV)", color="C1")
        return ax

    def to_json(self) -> dict[str, Any]:
        """What was run, and means of the second half of the log."""
        about = super().to_json()
        if self.frequencies is not None or not self.columns:
            return about
        steps, half = self.steps, len(self.steps) // 2
        name = f"{self._temperature().replace(' ', '_')}_K"
        means = [
            {name: float(self.temperature(k)[half:].mean())}
            | {column: float(values[k, half:].mean()) for column, values in self.columns.items()}
            for k in range(len(self.columns["step"]) if len(steps) else 0)
        ]
        return about | {"steps": int(steps[-1]) if len(steps) else 0, "means_of_second_half": means}

    def _temperature(self) -> str:
        """What the temperatures are those of."""
        return "temperature" if self.settings.beads == 1 else "ring polymer temperature"

    def summary(self) -> str:
        """What was run, temperatures and energies, in a few lines."""
        if self.frequencies is not None:
            shown = ", ".join(f"{value:.3f}" for value in self.frequencies[-6:])
            return f"vibrations: {len(self.frequencies)} modes, the highest at {shown} THz; {self.folder}"
        if not self.columns or not len(self.steps):
            return f"i-PI {self.settings.ensemble}: no step yet; {self.folder}"
        half, settings = len(self.steps) // 2, self.settings
        beads = f"{settings.beads} beads" if settings.beads > 1 else "classical nuclei"
        lines = [
            f"i-PI {settings.ensemble}, {beads}: {self.steps[-1]} steps ({self.times_fs[-1] / 1000:g} ps)"
            + ("" if self.completed else ", not complete: run it again to continue"),
        ]
        for k, potential in enumerate(self.columns[_POTENTIAL]):
            mean = self.temperature(k)[half:].mean()
            times = f" ({settings.beads} beads times {mean / settings.beads:.1f} K)" if settings.beads > 1 else ""
            lines.append(
                f"{self._temperature()} {mean:.1f} K{times}, potential {potential[half:].mean():.4f} eV (means of the "
                "second half)"
            )
        if _QUANTUM in self.columns:
            quantum = self.columns[_QUANTUM][0, half:].mean()
            lines.append(
                f"quantum kinetic energy {quantum:.4f} eV (virial estimator), which no temperature above tells"
            )
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
