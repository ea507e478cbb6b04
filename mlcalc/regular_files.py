"""Files opened for reading only once they are known to be files."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from mlcalc.errors import ModelFileError


@contextmanager
def opened(path: Path, kind: str, wanted: str) -> Iterator[BinaryIO]:
    """The file, open for its bytes; else, and for what the disk does while it is read, a ModelFileError.

    Errors speak of a `kind`, as "model file", and ask for what is `wanted`, as ".safetensors model file".
    """
    try:
        _check_regular(path, wanted)  # opening a pipe would wait for ever
        with path.open("rb") as file:
            yield file
    except FileNotFoundError:
        raise ModelFileError(f"{kind} {path} does not exist: check the path") from None
    except PermissionError:
        raise ModelFileError(f"{kind} {path} may not be read (permission denied): ask for read access") from None
    except OSError as error:
        raise ModelFileError(
            f"{kind} {path} cannot be read ({error.strerror or error}): check the path and the disk"
        ) from error


def _check_regular(path: Path, wanted: str) -> None:
    try:
        mode = path.stat().st_mode
    except ValueError as error:  # a null character
        raise OSError(str(error)) from error
    if stat.S_ISDIR(mode):
        raise ModelFileError(f"{path} is a folder: name the {wanted} in it")
    if not stat.S_ISREG(mode):
        raise ModelFileError(f"{path} is not a regular file (a device, pipe or socket): name a {wanted}")
