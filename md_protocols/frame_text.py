"""Frames and log rows as text that gives back every bit (extended XYZ and CSV)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import astuple, dataclass, fields
from typing import Any, BinaryIO

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from .errors import SimulationError
from .integrators import PhaseSpace
from .trajectory import make_frame

_COLUMNS = ("positions", "momenta", "forces")  # 3 numbers each


@dataclass(frozen=True)
class LogRow:
    """One line of the log."""

    step: int
    time_fs: float
    potential_eV: float  # noqa: N815 - units as they are written
    kinetic_eV: float  # noqa: N815
    total_eV: float  # noqa: N815
    temperature_K: float  # noqa: N815
    conserved_eV: float  # noqa: N815

    def text(self) -> bytes:
        return (",".join(map(repr, astuple(self))) + "\n").encode()


LOG_HEADER = (",".join(field.name for field in fields(LogRow)) + "\n").encode()


def log_columns(rows: NDArray[np.float64]) -> dict[str, Any]:
    """The log fields of a Trajectory from rows (M, 7)."""
    names = ("times_fs", "energies", "kinetic_energies", "total", "temperatures", "conserved")
    columns = dict(zip(names, rows.T[1:], strict=True))
    del columns["total"]
    return {"steps": rows[:, 0].astype(np.int64), **columns}


def read_log(data: bytes) -> NDArray[np.float64]:
    """Rows (M, 7) of the text of a log, bit for bit."""
    lines = data.decode().splitlines()[1:]
    return np.array([[float(x) for x in line.split(",")] for line in lines]).reshape(-1, len(fields(LogRow)))


class FrameText:
    """Writes and reads the frames of one system: extended XYZ with momenta and forces, floats in full.

    ASE, OVITO and others read these files; `read` here is faster and keeps everything else of the template.
    """

    def __init__(self, template: Atoms) -> None:
        self._template = template
        self._symbols = template.get_chemical_symbols()
        properties = "species:S:1:pos:R:3:momenta:R:3:forces:R:3"
        self._fixed: list[str] = []
        if template.constraints:
            mobile = np.ones(len(template), dtype=bool)
            for constraint in template.constraints:
                mobile[constraint.index] = False
            properties += ":move_mask:L:1"
            self._fixed = [" T" if free else " F" for free in mobile]
        cell = " ".join(map(repr, template.cell.array.ravel().tolist()))
        lattice = f'Lattice="{cell}" ' if template.cell.array.any() else ""
        pbc = " ".join("FT"[int(flag)] for flag in template.pbc)
        self._header = f'{lattice}Properties={properties} pbc="{pbc}"'

    def write(self, step: int, time_fs: float, state: PhaseSpace) -> bytes:
        """One frame."""
        rows = np.hstack([state.positions, state.momenta, state.forces]).tolist()
        lines = [f"{symbol} {' '.join(map(repr, row))}" for symbol, row in zip(self._symbols, rows, strict=True)]
        if self._fixed:
            lines = [line + flag for line, flag in zip(lines, self._fixed, strict=True)]
        comment = f"{self._header} energy={state.energy!r} step={step} time_fs={time_fs!r}"
        return "\n".join([str(len(lines)), comment, *lines, ""]).encode()

    def read(self, file: BinaryIO, end: int) -> Iterator[Atoms]:
        """The frames before byte `end` of a file opened at its start."""
        n_atoms = len(self._symbols)
        while file.tell() < end:
            count, comment = file.readline().decode().strip(), file.readline().decode().rstrip("\n")
            found = re.search(r" energy=(\S+) step=(\d+) time_fs=(\S+)$", comment)
            rows = [[float(x) for x in file.readline().split()[1:10]] for _ in range(n_atoms)]
            if found is None or count != str(n_atoms):
                raise SimulationError(f"the trajectory holds a frame that is not of this run: {comment!r}")
            values = np.array(rows).reshape(n_atoms, 3, 3)
            arrays = {name: values[:, k].copy() for k, name in enumerate(_COLUMNS)}
            yield make_frame(self._template, int(found[2]), float(found[3]), float(found[1]), arrays)
