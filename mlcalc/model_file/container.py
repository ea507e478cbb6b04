"""The .safetensors container under a model file, read with every length checked; its tensors are left as bytes."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from mlcalc.errors import ModelFileError
from mlcalc.model_file.foreign_files import IMPORT_REMEDY, describe_foreign, opened
from mlcalc.model_file.info import canonical_json, strict_json

MAX_HEADER = 4 * 2**20  # bytes
MAX_FILE = 512 * 2**20  # bytes; the networks of this program stay far below
MAX_DIMENSIONS = 8

_SIZES = {"BOOL": 1, "U8": 1, "I8": 1, "I16": 2, "I32": 4, "I64": 8, "F32": 4, "F64": 8}  # bytes of a number


@dataclass(frozen=True)
class TensorEntry:
    """Where a tensor lies in the data of a file."""

    dtype: str  # code of the safetensors format
    shape: tuple[int, ...]
    begin: int  # bytes from the start of the data
    end: int

    def size(self) -> int:
        """Bytes that dtype and shape ask for."""
        return math.prod(self.shape) * _SIZES[self.dtype]


@dataclass(frozen=True, eq=False)
class Container:
    """The bytes of a safetensors file, checked for consistent lengths only."""

    metadata: dict[str, str]
    table: dict[str, TensorEntry]
    content: bytes  # the whole file
    data_start: int

    def file_sha256(self) -> str:
        """Hash of the file."""
        return hashlib.sha256(self.content).hexdigest()

    def content_sha256(self, header: Any) -> str:
        """Hash of a header and of every tensor's name, dtype, shape and bytes, whatever their order in the file."""
        digest = hashlib.sha256(canonical_json(header).encode())
        data = memoryview(self.content)[self.data_start :]
        for name, entry in sorted(self.table.items()):
            digest.update(b"\n" + canonical_json([name, entry.dtype, list(entry.shape)]).encode() + b"\n")
            digest.update(data[entry.begin : entry.end])
        return digest.hexdigest()


def read_container(path: Path) -> Container:
    """The file, read once and only after its size and header length were found possible."""
    with opened(path, "model file", ".safetensors model file") as file:
        return _read(file, path, os.fstat(file.fileno()).st_size)  # of this file, not of one that replaces it


def _read(file: BinaryIO, path: Path, size: int) -> Container:
    if size == 0:
        raise ModelFileError(f"model file {path} is empty (0 bytes): copy or download it again")
    head = file.read(min(size, 4096))
    length = int.from_bytes(head[:8], "little")
    if len(head) < 9 or head[8:9] != b"{" or length > MAX_HEADER:
        file.seek(max(0, size - 65536))
        raise ModelFileError(describe_foreign(path, head, file.read(65536), length, MAX_HEADER))
    if 8 + length > size:
        raise ModelFileError(
            f"model file {path} is truncated, or lies about its header: it holds {size} bytes, "
            f"its header alone {8 + length}. Copy or download it again"
        )
    metadata, table = _parse_header(path, (head + file.read(max(0, 8 + length - len(head))))[8 : 8 + length])
    if "mlcalc" not in metadata:
        raise ModelFileError(
            f"{path} is a safetensors file of another program: it has no mlcalc header (its metadata: "
            f"{sorted(metadata) or 'none'}), so nothing says which network its weights belong to: {IMPORT_REMEDY}"
        )
    _check_extent(path, table, size - 8 - length)
    if size > MAX_FILE:
        raise ModelFileError(
            f"model file {path} holds {size} bytes, more than the {MAX_FILE} that are read: check what it is"
        )
    file.seek(0)
    content = file.read(size)
    if len(content) != size:
        raise ModelFileError(f"model file {path} was changed while it was read: load it again when it is complete")
    return Container(metadata, table, content, 8 + length)


def _parse_header(path: Path, raw: bytes) -> tuple[dict[str, str], dict[str, TensorEntry]]:
    try:
        header = strict_json(raw.decode())
        metadata = header.pop("__metadata__", {})
        if not all(isinstance(value, str) for value in metadata.values()):
            raise ValueError("metadata are not texts")
        return metadata, {name: _tensor_entry(name, value) for name, value in header.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelFileError(
            f"the header of model file {path} cannot be read ({error}): the file is damaged or was edited. "
            "Copy or download it again"
        ) from error


def _tensor_entry(name: str, value: dict[str, Any]) -> TensorEntry:
    if set(value) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"tensor {name!r} is described by {sorted(value)}")
    begin, end = value["data_offsets"]
    numbers = (*value["shape"], begin, end)
    if len(value["shape"]) > MAX_DIMENSIONS or not all(type(x) is int and 0 <= x <= 2**48 for x in numbers):
        raise ValueError(f"tensor {name!r} has an impossible shape or impossible offsets")
    if value["dtype"] not in _SIZES:
        raise ValueError(f"tensor {name!r} has dtype {value['dtype']!r}, allowed are {', '.join(_SIZES)}")
    return TensorEntry(value["dtype"], tuple(value["shape"]), begin, end)


def _check_extent(path: Path, table: Mapping[str, TensorEntry], available: int) -> None:
    position = 0
    for name, entry in sorted(table.items(), key=lambda item: (item[1].begin, item[1].end)):
        if entry.begin != position or entry.end - entry.begin != entry.size():
            raise ModelFileError(
                f"the header of model file {path} contradicts itself: tensor {name!r} of dtype {entry.dtype} and shape "
                f"{entry.shape} takes {entry.size()} bytes from {position}, the header says {entry.begin} to "
                f"{entry.end}. The file is damaged or was edited: copy or download it again"
            )
        position = entry.end
    if position != available:
        missing = position - available
        problem = f"is truncated: {missing} bytes are missing" if missing > 0 else f"has {-missing} bytes too many"
        raise ModelFileError(
            f"model file {path} {problem} at its end ({available} bytes of tensors, the header says {position}). "
            "Copy or download it again"
        )
