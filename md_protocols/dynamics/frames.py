"""Frames and log rows of a run, as ASE structures, as text in files, and as arrays."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from numpy.typing import NDArray

from ..errors import SimulationError
from .integrators import PhaseSpace

Array = NDArray[np.float64]

_COLUMNS = ("positions", "momenta", "forces")  # 3 numbers each


class LogRow(NamedTuple):
    """One line of the log."""

    step: int
    time_fs: float
    potential_eV: float  # noqa: N815 - units as they are written
    kinetic_eV: float  # noqa: N815
    total_eV: float  # noqa: N815
    temperature_K: float  # noqa: N815
    conserved_eV: float  # noqa: N815

    def text(self) -> bytes:
        return (",".join(map(repr, self)) + "\n").encode()


LOG_HEADER = (",".join(LogRow._fields) + "\n").encode()


class Record(NamedTuple):
    """What a run has left: the fields of a Trajectory."""

    frames: list[Atoms]
    steps: NDArray[np.int64]
    times_fs: Array
    energies: Array
    kinetic_energies: Array
    temperatures: Array
    conserved: Array
    settings: Mapping[str, Any]
    completed: bool

    @classmethod
    def of(
        cls, frames: list[Atoms], rows: Sequence[Sequence[float]], settings: Mapping[str, Any], *, completed: bool
    ) -> Record:
        """Of frames and log rows, M of 7 numbers each in the order of LogRow."""
        steps, times, energies, kinetic, _, temperatures, conserved = np.array(rows, dtype=float).reshape(-1, 7).T
        return cls(
            frames, steps.astype(np.int64), times, energies, kinetic, temperatures, conserved, settings, completed
        )


def read_log(data: bytes) -> list[list[float]]:
    """Rows, M of 7 numbers each, of the text of a log, bit for bit."""
    return [list(map(float, line.split(","))) for line in data.decode().splitlines()[1:]]


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


def make_frame(template: Atoms, step: int, time_fs: float, energy: float, arrays: Mapping[str, Array]) -> Atoms:
    """A copy of the template moved to positions (N, 3) Å with momenta, and forces in eV/Å stored beside the energy."""
    frame: Atoms = template.copy()
    frame.arrays["positions"] = np.array(arrays["positions"])
    frame.arrays["momenta"] = np.array(arrays["momenta"])  # those of fixed atoms too, as they were
    frame.info |= {"step": step, "time_fs": time_fs}
    frame.calc = SinglePointCalculator(frame, energy=energy, forces=arrays["forces"])
    return frame


def frames_to_arrays(frames: Sequence[Atoms]) -> dict[str, NDArray[Any]]:
    """Stacked arrays of frames of one system."""
    first = frames[0] if frames else Atoms()
    mobile = np.ones(len(first), dtype=bool)
    for constraint in first.constraints:
        mobile[constraint.index] = False
    stack = (len(frames), len(first), 3)
    return {
        "numbers": first.numbers,
        "masses": first.get_masses(),
        "tags": first.get_tags(),
        "mobile": mobile,
        "cells": np.array([frame.cell.array for frame in frames]).reshape(-1, 3, 3),
        "pbc": first.pbc,
        "frame_steps": np.array([frame.info["step"] for frame in frames], dtype=np.int64),
        "frame_times_fs": np.array([frame.info["time_fs"] for frame in frames], dtype=float),
        "frame_energies": np.array([frame.get_potential_energy() for frame in frames], dtype=float),
        "positions": np.array([frame.positions for frame in frames]).reshape(stack),
        "momenta": np.array([frame.get_momenta() for frame in frames]).reshape(stack),
        "forces": np.array([frame.get_forces(apply_constraint=False) for frame in frames]).reshape(stack),
    }


def template_atoms(arrays: Mapping[str, NDArray[Any]]) -> Atoms:
    """Atoms with the numbers, masses, tags, pbc and fixed atoms of the arrays, at the origin."""
    atoms = Atoms(numbers=arrays["numbers"], positions=np.zeros((len(arrays["numbers"]), 3)), pbc=arrays["pbc"])
    if not np.array_equal(atoms.get_masses(), arrays["masses"]):
        atoms.set_masses(arrays["masses"])
    if arrays["tags"].any():
        atoms.set_tags(arrays["tags"])
    if not arrays["mobile"].all():
        atoms.set_constraint(FixAtoms(mask=~arrays["mobile"]))
    return atoms


def arrays_to_frames(arrays: Mapping[str, NDArray[Any]]) -> list[Atoms]:
    """The frames that `frames_to_arrays` took apart."""
    template = template_atoms(arrays)
    frames = []
    for k, step in enumerate(arrays["frame_steps"]):
        template.set_cell(arrays["cells"][k])
        per_atom = {name: arrays[name][k] for name in ("positions", "momenta", "forces")}
        time_fs, energy = float(arrays["frame_times_fs"][k]), float(arrays["frame_energies"][k])
        frames.append(make_frame(template, int(step), time_fs, energy, per_atom))
    return frames
