"""Files written whole or not at all, and arrays kept at full precision without pickle."""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import ResultFileError
from .nested_json import bounded_json

_FORMAT = 1


def write_atomically(path: Path, data: bytes) -> None:
    """Replace a file by the data: after a crash or power loss it holds either the old or the new content."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:  # of a full disk, say, which does not tell which file it was
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make created and renamed names of a folder durable, where the system can."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows cannot open folders
        return
    try:
        os.fsync(descriptor)
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
            f"{path} holds a {found!r} of format {version!r}, expected a {kind!r} of format {_FORMAT}: "
            "load it with its own class, or with the version that wrote it"
        )
    return arrays, info
