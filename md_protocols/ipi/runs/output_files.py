"""Output files of i-PI: read, and cut back to the step of a checkpoint."""

from __future__ import annotations

import os
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.geometry.cell import cellpar_to_cell
from ase.io import read
from numpy.typing import NDArray

from ...errors import ResultFileError
from ..responder import IPI_UNITS

_STEP = re.compile(rb"Step:\s*(\d+)")
_CELL = re.compile(r"CELL[({[](abcABC|GENH|H)[])}]:\s*((?:[-+0-9.Ee]+\s+){6,9})")
_TAIL = 1 << 14  # bytes
_COLUMN = re.compile(r"#\s*(?:column|cols\.)\s*[\d-]+\s*-->\s*(\S+)")


def checkpoint_step(path: Path) -> int | None:
    """Steps done in a checkpoint; None where it is not whole, as after a kill in the middle of writing it."""
    try:
        root = ET.parse(path).getroot()  # noqa: S314 - written by i-PI in our own folder
        found = root.find("step")
        return 0 if found is None or not found.text else int(found.text)
    except (OSError, ET.ParseError, ValueError):
        return None


def steps_recorded(path: Path) -> Iterator[tuple[int, int]]:
    """Step and end, in bytes, of every whole record of a log or a trajectory."""
    return _frames(path) if path.name.endswith("xyz") else _rows(path)


def cut_back(path: Path, step: int) -> None:
    """Remove what was recorded after the step, and a record that is not whole."""
    end = _header_end(path)
    for recorded, offset in steps_recorded(path):
        if recorded > step:
            break
        end = offset
    if end < path.stat().st_size:
        os.truncate(path, end)


def last_step(path: Path) -> int:
    """Step of the last whole record; -1 without one."""
    last = -1
    for step, _ in steps_recorded(path):
        last = step
    return last


def tail(path: Path) -> list[float] | None:
    """The numbers of the last whole row of a log, without reading all of it; None where there is none."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL))
        lines = file.read().split(b"\n")[1:-1]
    rows = [line for line in lines if line.strip() and not line.startswith(b"#")]
    try:
        return [float(word) for word in rows[-1].split()] if rows else None
    except ValueError:
        return None


def read_log(path: Path) -> dict[str, NDArray[np.float64]]:
    """Columns by i-PI's name, unit included; ResultFileError for something else."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        names = [match.group(1) for match in map(_COLUMN.match, lines) if match]
        rows = np.array([line.split() for line in lines if line.strip() and not line.startswith("#")], dtype=float)
        rows = rows.reshape(-1, len(names))
    except (OSError, ValueError) as error:
        raise ResultFileError(f"{path} is no log of i-PI ({error})") from error
    return {name: rows[:, k] for k, name in enumerate(names)}


def read_frames(path: Path, template: Atoms) -> list[Atoms]:
    """Whole frames of a trajectory of positions in Å, with info["step"]; ResultFileError for something else."""
    frames = []
    try:
        end = max((offset for _, offset in _frames(path)), default=0)
        with path.open("rb") as file:
            text = file.read(end).decode()
        for found in read(StringIO(text), ":", format="extxyz") if text else []:
            step = _STEP.search(found.info["ipi_comment"].encode())
            if step is None or (found.numbers != template.numbers).any():
                raise ValueError("the comment has no step, or the atoms are others")
            atoms = template.copy()
            atoms.positions[:] = found.positions
            if atoms.pbc.any():
                atoms.set_cell(found.cell)
            atoms.info["step"] = int(step.group(1))
            frames.append(atoms)
    except (OSError, ValueError, KeyError) as error:
        raise ResultFileError(f"{path} is no trajectory of i-PI for these atoms ({error})") from error
    return frames


def is_ipi_xyz(path: Path) -> bool:
    """Whether the file is an xyz of i-PI, whose cell and units stand in its own kind of comment."""
    try:
        with path.open(encoding="utf-8") as file:
            file.readline()
            return _CELL.search(file.readline()) is not None
    except (OSError, UnicodeDecodeError):
        return False


def read_ipi_xyz(path: Path) -> list[Atoms]:
    """Periodic structures of i-PI's xyz, in Å; ResultFileError where it is none, or of other quantities or units."""
    frames = []
    try:
        with path.open(encoding="utf-8") as file:
            while (line := file.readline()).strip():
                comment = file.readline()
                rows = [file.readline().split() for _ in range(int(line))]
                positions = np.array([row[1:4] for row in rows], dtype=float) * _unit(comment, "positions")
                cell = _cell(comment) * _unit(comment, "cell")
                frames.append(Atoms([row[0] for row in rows], positions=positions, cell=cell, pbc=True))
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise ResultFileError(
            f"{path} cannot be read as an xyz of i-PI ({type(error).__name__}: {error}): give positions in angstrom "
            "or atomic_unit, or another format"
        ) from error
    return frames


def _unit(comment: str, quantity: str) -> float:
    """Å per unit of positions or cell: atomic units where i-PI says nothing."""
    found = re.search(quantity + r"\{(\w*)\}", comment)
    name = found.group(1) if found else ""
    lengths = {"angstrom": 1.0, "atomic_unit": 1 / IPI_UNITS.angstrom, "": 1 / IPI_UNITS.angstrom}
    if quantity == "positions" and not found and "{" in comment.replace("cell{", ""):
        raise ValueError(f"the comment {comment.strip()!r} does not say that these are positions")
    return lengths[name]


def _cell(comment: str) -> NDArray[np.float64]:
    """Vectors in rows, in the file's unit of length."""
    found = _CELL.search(comment)
    if found is None:
        raise ValueError(f"the comment {comment.strip()!r} has no CELL")
    numbers = np.array(found.group(2).split(), dtype=float)
    if found.group(1) == "abcABC":
        return np.asarray(cellpar_to_cell(numbers[:6]))
    return numbers[:9].reshape(3, 3).T


def _header_end(path: Path) -> int:
    if path.name.endswith("xyz"):
        return 0
    end = 0
    with path.open("rb") as file:
        for line in file:
            if not line.startswith(b"#"):
                break
            end += len(line)
    return end


def _rows(path: Path) -> Iterator[tuple[int, int]]:
    end = 0
    with path.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                return
            end += len(line)
            if line.startswith(b"#") or not line.strip():
                continue
            try:
                yield round(float(line.split()[0])), end
            except ValueError:
                return


def _frames(path: Path) -> Iterator[tuple[int, int]]:
    end = 0
    with path.open("rb") as file:
        while True:
            first, comment = file.readline(), file.readline()
            step = _STEP.search(comment)
            if step is None or not first.strip().isdigit():
                return
            lines = [file.readline() for _ in range(int(first))]
            if lines and not lines[-1].endswith(b"\n"):
                return
            end += len(first) + len(comment) + sum(map(len, lines))
            yield int(step.group(1)), end
