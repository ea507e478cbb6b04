"""Files written whole or not at all, and arrays without pickles."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def write_atomically(path: Path, data: bytes) -> None:
    """Replace a file by the data: after a crash it holds either the old or the new content."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def archive(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """The content of an .npz file, without pickles."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def load_arrays(path: Path, names: Iterable[str]) -> dict[str, NDArray[Any]]:
    """These arrays of an .npz file."""
    # Opened here, because np.load leaves a broken archive open.
    with path.open("rb") as file, np.load(file, allow_pickle=False) as data:
        return {name: data[name] for name in names}
