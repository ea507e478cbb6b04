"""Result files without pickle, written in one piece, and what is put into them: arrays, plain values, structures."""

from __future__ import annotations

import contextlib
import errno
import glob
import io
import json
import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from ..errors import ResultFileError

_FORMAT = 1
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
_LONGEST_NAME = 200  # characters of the file's name in that of a temporary one; systems allow 255 bytes


def write_atomically(path: Path, data: bytes) -> None:
    """Replace a file by the data: after a crash or power loss it holds either the old or the new content.

    Written beside it under a random name that did not exist, so that no link laid there is followed.  OSError names
    the file; what was there before is unchanged then.
    """
    temporary = path.with_name(f".{path.name[:_LONGEST_NAME]}.{secrets.token_hex(8)}.tmp")
    try:
        with os.fdopen(os.open(temporary, _NEW_FILE, 0o666), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):  # of a full disk, say, which does not tell which file it was
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def remove_leftovers(path: Path) -> None:
    """Remove what a process that was killed while writing this file left beside it; for the owner of the file."""
    pattern = f".{glob.escape(path.name[:_LONGEST_NAME])}.{'[0-9a-f]' * 16}.tmp"
    for temporary in path.parent.glob(pattern):
        temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make created and renamed names of a folder durable, where the system can."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows cannot open folders
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # of file systems that cannot
            raise
    finally:
        os.close(descriptor)


def save_arrays(path: str | Path, kind: str, arrays: Mapping[str, NDArray[Any]], info: Mapping[str, Any]) -> None:
    """Write arrays and JSON values as one .npz file, atomically; each member carries a CRC."""
    # The names are repeated, because one flipped bit in a zip directory can hide members from view.
    header = json.dumps({"format": _FORMAT, "kind": kind, "info": info, "arrays": sorted(arrays)}, sort_keys=True)
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, header=np.array(header), **arrays)
    write_atomically(Path(path), buffer.getvalue())


def load_arrays(path: str | Path, kind: str) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Arrays and JSON values of a file written by `save_arrays`; ResultFileError for any other file."""
    path = Path(path)
    try:
        # Opened here, because np.load leaves a broken archive open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        header = bounded_json(str(arrays.pop("header")))
        found, version, info = header["kind"], header["format"], header["info"]
        if sorted(arrays) != header["arrays"]:
            raise ValueError(f"it should hold {header['arrays']}, and does {sorted(arrays)}")
    except FileNotFoundError:
        raise ResultFileError(f"{path}: there is no such file") from None
    except Exception as error:  # a damaged zip file can raise almost anything
        raise ResultFileError(
            f"{path} cannot be read as a {kind} file: it is damaged or of another kind ({error}); it was left untouched"
        ) from error
    if found != kind or version != _FORMAT:
        raise ResultFileError(
            f"{path} holds a {found!r} of format {version!r}, expected a {kind!r} of format {_FORMAT}",
            value=found,
            limit=kind,
            remedies=["load it with its own class", "load it with the version that wrote it"],
        )
    return arrays, info


_DEEPEST = 100  # our files have less than ten levels
_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]')


def bounded_json(text: str, **hooks: Any) -> Any:
    """The value of a JSON text, read with json.loads and its hooks; ValueError for more than 100 levels too.

    Not left to RecursionError: symfc raises the limit of recursion for the whole process, and the stack overflows.
    """
    if _depth(text) > _DEEPEST:
        raise ValueError("nested too deeply")
    return json.loads(text, **hooks)


def _depth(text: str) -> int:
    """How deeply brackets outside of strings are nested."""
    deepest = depth = 0
    for match in _BRACKETS.finditer(text):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(match[0], 0)
        deepest = max(deepest, depth)
    return deepest


_FIELDS = ("numbers", "positions", "cell", "pbc", "masses")
_OPTIONAL = ("tags", "initial_magmoms", "initial_charges")  # where the structure has them


def pack_atoms(name: str, atoms: Atoms) -> dict[str, NDArray[Any]]:
    """Arrays named `name.numbers`, `name.positions`, ...: with tags, initial magnetic moments and charges.

    Velocities, constraints, `info`, the calculator and any other arrays are not kept.
    """
    values = (atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc, atoms.get_masses())
    packed = {f"{name}.{field}": np.array(value) for field, value in zip(_FIELDS, values, strict=True)}
    return packed | {f"{name}.{field}": atoms.arrays[field].copy() for field in _OPTIONAL if field in atoms.arrays}


def unpack_atoms(name: str, arrays: Mapping[str, NDArray[Any]]) -> Atoms:
    """The structure that `pack_atoms` packed under this name."""
    atoms = Atoms(**{field: arrays[f"{name}.{field}"] for field in _FIELDS})
    for field in _OPTIONAL:
        if f"{name}.{field}" in arrays:
            atoms.set_array(field, arrays[f"{name}.{field}"])
    return atoms
