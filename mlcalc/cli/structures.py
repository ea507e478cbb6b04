"""Structures and trajectories from files, with errors that say what to do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ase import Atoms


def read_structure(path: str, index: int = -1) -> Atoms:
    """One structure of a file, with its velocities where it has them; DataError if there is none."""
    frames = _read(path, index)
    return frames[0]


def read_trajectory(path: str, index: str = ":") -> list[Atoms]:
    """The structures of a file that an ASE index such as `:`, `100:` or `::10` selects; DataError if none."""
    return _read(path, index)


def _read(path: str, index: Any) -> list[Atoms]:
    from ase.io import read

    from mlcalc.errors import DataError

    try:
        images = read(Path(path), index=index, do_not_split_by_at_sign=True)
    except (IndexError, StopIteration) as error:  # readers raise one or the other
        raise DataError(f"{path}: has no frame {index} (counted from 0, or from -1 at the end)") from error
    except Exception as error:  # ASE's readers raise whatever the format's parser raises
        raise DataError(
            f"{path}: ASE cannot read it as a structure ({type(error).__name__}: {error}); check that the file is "
            "whole and that its extension names its format (xyz, extxyz, cif, vasp, traj, ...)"
        ) from error
    frames = images if isinstance(images, list) else [images]
    if not frames:
        raise DataError(f"{path}: index {index!r} selects no frames")
    return frames
