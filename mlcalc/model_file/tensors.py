"""Tensors into a model file's container, in one fixed byte order, and out of it."""

from __future__ import annotations

import struct
import sys
from collections.abc import Mapping

import safetensors.torch
import torch
from torch import Tensor

from mlcalc.model_file.container import Container, TensorEntry
from mlcalc.model_file.info import canonical_json

_CODES = {
    torch.bool: "BOOL",
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.int16: "I16",
    torch.int32: "I32",
    torch.int64: "I64",
    torch.float32: "F32",
    torch.float64: "F64",
}


def unpack(container: Container) -> dict[str, Tensor]:
    """The tensors, in memory of their own."""
    return safetensors.torch.load(container.content)


def pack(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> Container:
    """Container of the tensors; the same input always gives the same bytes.

    The safetensors library orders metadata at random, which would change the hash of the file from save to save.
    """
    order = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))  # keeps every tensor aligned
    table, data, begin = {}, [], 0
    for name in order:
        raw = _little_endian_bytes(tensors[name])
        table[name] = TensorEntry(_CODES[tensors[name].dtype], tuple(tensors[name].shape), begin, begin + len(raw))
        data.append(raw)
        begin += len(raw)
    entries = {
        name: {"dtype": entry.dtype, "shape": list(entry.shape), "data_offsets": [entry.begin, entry.end]}
        for name, entry in table.items()
    }
    header = canonical_json({"__metadata__": dict(metadata), **entries}).encode()
    header += b" " * (-len(header) % 8)
    content = b"".join([struct.pack("<Q", len(header)), header, *data])
    return Container(dict(metadata), table, content, 8 + len(header))


def storable(dtype: torch.dtype) -> bool:
    """Whether a model file may hold tensors of this dtype."""
    return dtype in _CODES


def _little_endian_bytes(tensor: Tensor) -> bytes:
    array = tensor.detach().cpu().contiguous().numpy()
    return (array.byteswap() if sys.byteorder == "big" else array).tobytes()
