"""A text file that only grows, and that can be cut back to an earlier, verified length."""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import NamedTuple

from ..errors import SimulationError

_CHUNK = 1 << 24  # bytes read at once


class Mark(NamedTuple):
    """A place in a file: how many bytes come before it, and their CRC-32."""

    offset: int = 0  # bytes
    crc: int = 0


def verify(path: Path, mark: Mark) -> None:
    """SimulationError if the file is shorter than the mark or holds other bytes before it."""
    length, crc = 0, 0
    if path.exists():
        with path.open("rb") as file:
            while chunk := file.read(min(_CHUNK, mark.offset - length)):
                length, crc = length + len(chunk), zlib.crc32(chunk, crc)
    if length == mark.offset and crc == mark.crc:
        return
    state = "it is missing" if not path.exists() else "it is shorter" if length < mark.offset else "its bytes differ"
    raise SimulationError(
        f"{path} does not hold what the checkpoint beside it says (first {mark.offset} bytes, CRC-32 {mark.crc:08x}): "
        f"{state}; it was left untouched",
        remedies=["restore it", "move it away and start in another folder"],
    )


class AppendFile:
    """Bytes appended with one system call each, so that readers and sudden deaths see whole records."""

    def __init__(self, path: Path, mark: Mark) -> None:
        self.path = path
        verify(path, mark)
        self._file = path.open("r+b" if path.exists() else "x+b", buffering=0)
        if self._file.seek(0, os.SEEK_END) != mark.offset:
            self._file.truncate(mark.offset)
            self._file.seek(mark.offset)
        self.mark = mark

    def append(self, data: bytes) -> None:
        """Write the record; after a full disk the file may hold a part of it, which the next start cuts off."""
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            raise SimulationError(
                f"{self.path} could not be written: {error.strerror or error}",
                remedies=["make space and run the same call again, it continues from the last checkpoint"],
            ) from error
        self.mark = Mark(self.mark.offset + len(data), zlib.crc32(data, self.mark.crc))

    def sync(self) -> None:
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()
