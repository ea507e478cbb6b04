"""Structures and trajectories from files, with errors that say what to do."""

from __future__ import annotations

from pathlib import Path

from ase import Atoms
from ase.io import read

from mlcalc.errors import CellError, DataError
from mlcalc.md_protocols.errors import ConfigError, ResultFileError
from mlcalc.md_protocols.ipi.runs.output_files import is_ipi_xyz, read_ipi_xyz

_FULL = 1e-3  # how far a share may be from 1


def read_structure(path: str, index: int = -1) -> Atoms:
    """One structure of a file, with its velocities where it has them; DataError if there is none."""
    return _read(path, index, str(index))[0]


def read_trajectory(path: str, index: str = ":") -> list[Atoms]:
    """The structures of a file that an index such as `7`, `100:` or `::10` selects; DataError if none."""
    return _read(path, parse_index(index), index)


def parse_index(index: str) -> int | slice:
    """The number or slice that a word such as `-1`, `100:` or `::10` means; ConfigError if none."""
    try:
        parts = [int(part) if part else None for part in index.split(":")]
        if len(parts) > 3 or parts[2:] == [0] or parts == [None]:
            raise ValueError(index)
    except ValueError:
        raise ConfigError(
            f"--index {index!r} is neither a frame nor a slice: use forms like 7, -1, 100: or ::10, with a step other "
            "than 0"
        ) from None
    return int(parts[0] or 0) if len(parts) == 1 else slice(*parts)


def select_frames(frames: list[Atoms], selection: int | slice, path: str, index: str) -> list[Atoms]:
    """The frames selected; DataError if none are."""
    if isinstance(selection, slice):
        chosen = frames[selection]
    elif -len(frames) <= selection < len(frames):
        chosen = [frames[selection]]
    else:
        raise DataError(
            f"{path}: has no frame {index}, only {len(frames)} (counted from 0, or from -1 at the end): choose another "
            "--index"
        )
    if not chosen:
        raise DataError(f"{path}: index {index!r} selects no frames: choose another --index")
    return chosen


def repeated(atoms: Atoms, supercell: tuple[int, int, int] | None, path: str) -> Atoms:
    """The structure repeated along its cell vectors; ConfigError or CellError where it cannot be."""
    if not supercell:
        return atoms
    if min(supercell) < 1:
        raise ConfigError(f"--supercell {' '.join(map(str, supercell))}: each number must be at least 1")
    flat = [axis for axis, times in enumerate(supercell) if times > 1 and not atoms.cell[axis].any()]
    if flat:
        raise CellError(f"{path} has no cell vector along {'abc'[flat[0]]}: it cannot be repeated there")
    larger: Atoms = atoms.repeat(supercell)
    return larger


def _read(path: str, selection: int | slice, index: str) -> list[Atoms]:
    # Readers take a negative number that is out of range for the nearest frame: those are counted here.
    images: Atoms | list[Atoms]
    counted = isinstance(selection, int) and selection < -1
    try:
        if is_ipi_xyz(Path(path)):  # ASE reads these without their cell and in whatever unit
            images, counted = read_ipi_xyz(Path(path)), True
        else:
            images = read(Path(path), index=slice(None) if counted else selection, do_not_split_by_at_sign=True)
    except ResultFileError as error:
        raise DataError(error.text, remedies=error.remedies) from error
    except (IndexError, StopIteration) as error:  # readers raise one or the other
        if selection == -1:  # the default: there is none at all
            raise DataError(f"{path}: holds no structure: check that the file is whole") from error
        raise DataError(f"{path}: has no frame {index} (counted from 0, or from -1 at the end)") from error
    except Exception as error:  # ASE's readers raise whatever the format's parser raises
        raise DataError(
            f"{path}: ASE cannot read it as a structure ({type(error).__name__}: {error}); check that the file is "
            "whole and that its extension names its format (xyz, extxyz, cif, vasp, traj, ...)"
        ) from error
    frames = images if isinstance(images, list) else [images]
    for atoms in frames:
        _refuse_partial(atoms, path)
    return select_frames(frames, selection if counted else slice(None), path, index)


def _refuse_partial(atoms: Atoms, path: str) -> None:
    """DataError for sites that are not fully occupied by one element, for which ASE takes the first one in full."""
    occupancy = atoms.info.get("occupancy")
    sites = occupancy.values() if isinstance(occupancy, dict) else ()
    for site in sites:
        if isinstance(site, dict) and (len(site) > 1 or any(abs(float(share) - 1) > _FULL for share in site.values())):
            shares = ", ".join(f"{symbol} {float(share):g}" for symbol, share in site.items())
            raise DataError(
                f"{path}: a site is occupied in part ({shares}): a structure of whole atoms is needed; make an ordered "
                "one, such as a supercell with the elements distributed over its sites"
            )
