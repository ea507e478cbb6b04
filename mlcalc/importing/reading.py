"""Checkpoints of other programs read from disk: as data only, every length checked, nothing executed."""

from __future__ import annotations

import hashlib
import os
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mlcalc.errors import ModelFileError
from mlcalc.importing.pickle_scan import check_legacy_pickles, check_pickle, check_protocol
from mlcalc.md_protocols.errors import ConfigError
from mlcalc.model_file.foreign_files import EXECUTES, describe_download, opened, zip_kind

MAX_FILE = 2 * 2**30  # bytes; with the optimizer's state, checkpoints of these networks stay below
MAX_VALUES = 1_000_000
MAX_DEPTH = 40  # of lists and dicts in each other
_MAX_SHARING = 2  # how often a number may be used; the initial atomic references are those in use, if untrained
_FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The content of a checkpoint file."""

    path: Path
    sha256: str  # of the file
    content: dict[str, Any]  # tensors, numbers, texts, None, and lists, tuples and dicts of them

    @property
    def origin(self) -> str:
        """What error texts call it."""
        return f"checkpoint {self.path}"


def read_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """The dict in a PyTorch file; ModelFileError for every file that holds anything else or cannot be trusted."""
    try:
        source = Path(path).expanduser()
    except (TypeError, RuntimeError) as error:  # RuntimeError: no such user after ~
        raise ConfigError(f"the path of the checkpoint is {path!r} ({error}): give the path of a file") from None
    raw = _bytes_of(source)
    origin = f"checkpoint {source}"
    _check_format(source, raw, origin)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about storage classes of old files: nothing a user can act on
        try:
            content = torch.load(BytesIO(raw), map_location="cpu", weights_only=True, mmap=False)
        except Exception as error:  # whatever the readers of zip, pickle and storages raise
            # The text of torch is left out: it advises to load with weights_only=False.
            raise ModelFileError(
                f"{origin} cannot be read as tensors and plain values ({type(error).__name__}): it is damaged, or "
                "not a checkpoint written by torch.save. Copy or download it again"
            ) from error
    if not isinstance(content, dict):
        raise ModelFileError(
            f"{origin} holds a {type(content).__name__}, not a dict of weights by name: save the state_dict() of the "
            "network, or the dict that its training wrote"
        )
    plain = {_name(key, origin): value for key, value in _PlainCopy(origin)(content).items()}
    return Checkpoint(source, hashlib.sha256(raw).hexdigest(), plain)


def float_tensors(values: Mapping[Any, Any], origin: str) -> dict[str, Tensor]:
    """The weights in memory of their own; ModelFileError for anything but real, dense, finite floating point."""
    for problem_of in (_kind_problem, _value_problem):  # sizes before values: reading a forged size takes for ever
        for name, value in values.items():
            problem = problem_of(name, value)
            if problem:
                raise ModelFileError(
                    f"{origin}: {name!r} in its weights {problem}; every weight must be an ordinary, finite tensor of "
                    "real floating-point numbers. Take another checkpoint, or save its state_dict again where it was "
                    "made"
                )
        _check_sharing(values, origin)
    return {name: tensor.detach().clone() for name, tensor in values.items()}


def _kind_problem(name: Any, value: Any) -> str:
    """What is wrong with the kind or size of a named weight, or nothing."""
    if not isinstance(name, str):
        return f"is named by a {type(name).__name__}"
    if not isinstance(value, Tensor):
        return f"is a {type(value).__name__}, not a tensor"
    if value.layout != torch.strided or value.device.type != "cpu" or value.is_quantized:
        return f"is a tensor on {value.device.type} of layout {value.layout}, quantized: {value.is_quantized}"
    if value.dtype not in _FLOATS:
        return f"has dtype {str(value.dtype).removeprefix('torch.')}"
    stored = value.untyped_storage().nbytes() - value.storage_offset() * value.element_size()
    if value.numel() * value.element_size() > stored:
        return (
            f"claims {value.numel()} numbers of shape {tuple(value.shape)} where the file holds {max(stored, 0)} bytes"
        )
    return ""


def _value_problem(_: str, value: Tensor) -> str:
    wrong = int((~torch.isfinite(value)).sum())
    return f"holds {wrong} NaN or infinite values of {value.numel()}" if wrong else ""


def _check_sharing(tensors: Mapping[str, Tensor], origin: str) -> None:
    claimed = sum(tensor.nbytes for tensor in tensors.values())
    storages = [tensor.untyped_storage() for tensor in tensors.values()]
    held = sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())
    if claimed > _MAX_SHARING * held:
        raise ModelFileError(
            f"{origin}: its weights together claim {claimed} bytes where the file holds {held}: many of them are the "
            "same numbers, which no network here has. Save the state_dict again where it was made"
        )


def _bytes_of(path: Path) -> bytes:
    with opened(path, "checkpoint", "checkpoint file") as file:
        size = os.fstat(file.fileno()).st_size
        if size > MAX_FILE:
            raise ModelFileError(
                f"checkpoint {path} holds {size} bytes, more than the {MAX_FILE} that are read: save its "
                "state_dict and hyper_parameters without the optimizer's state"
            )
        raw = file.read(size + 1)
    if not raw:
        raise ModelFileError(f"checkpoint {path} is empty (0 bytes): copy or download it again")
    return raw


def _check_format(path: Path, raw: bytes, origin: str) -> None:
    """Refuses what is no torch.save file, or what loading it would execute, each by its name."""
    download = describe_download(path, raw[:512])
    if download:
        raise ModelFileError(download)
    if raw[8:9] == b"{" and int.from_bytes(raw[:8], "little") <= len(raw):
        raise ModelFileError(
            f"{path} is a safetensors file, not a PyTorch checkpoint: if mlcalc wrote it, use it as it is "
            "(mlcalc.load_model, --model); otherwise save its tensors with torch.save first"
        )
    if raw.startswith(b"PK"):
        _check_zip(path, raw, origin)
    elif raw[:1] == b"\x80" and raw[1:2] <= b"\x05":
        check_legacy_pickles(raw, origin)
    else:
        raise ModelFileError(
            f"{path} is not a PyTorch checkpoint: it begins with {raw[:8]!r}, neither a zip archive nor a pickle. "
            "Give the file that torch.save wrote, or download it again"
        )


def _check_zip(path: Path, raw: bytes, origin: str) -> None:
    try:
        with zipfile.ZipFile(BytesIO(raw)) as archive:
            entries = archive.infolist()
            names = [entry.filename for entry in entries]
            kind = zip_kind(path, "\n".join(names).encode())
            if kind != "checkpoint":
                what = f"{kind}; {EXECUTES}" if kind else "a zip archive, but not one written by torch.save"
                raise ModelFileError(f"{path} is {what}. Give the checkpoint that torch.save wrote")
            if len(set(names)) != len(names) or any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
                raise ModelFileError(
                    f"{origin} is a zip archive with compressed or repeated entries, which torch.save never writes: "
                    "it was packed by another program. Give the original file"
                )
            broken = archive.testzip()
            if broken is not None:
                raise ModelFileError(
                    f"{origin} is damaged: the checksum of {broken!r} in it is wrong. Copy or download it again"
                )
            for name in names:
                if name.endswith(".pkl"):
                    content = archive.read(name)
                    check_pickle(content, origin)
                    check_protocol(content, origin)
    except ModelFileError:
        raise
    except Exception as error:  # zipfile raises BadZipFile, struct.error, NotImplementedError, ... on damage
        raise ModelFileError(
            f"{origin} is truncated or damaged: its zip archive cannot be read ({type(error).__name__}). "
            "Copy or download it again"
        ) from error


class _PlainCopy:
    """Copies a content of plain values, with ordinary dicts at every level; refuses bottomless and endless ones."""

    def __init__(self, origin: str) -> None:
        self.origin, self.values = origin, 0

    def __call__(self, value: Any, depth: int = 0) -> Any:
        self.values += 1  # counted as often as used: lists of the same lists grow exponentially
        if depth > MAX_DEPTH or self.values > MAX_VALUES:
            limit = f"nested more than {MAX_DEPTH} deep" if depth > MAX_DEPTH else f"of more than {MAX_VALUES} values"
            raise ModelFileError(
                f"{self.origin} holds lists or dicts {limit}: save its state_dict and hyper_parameters alone where it "
                "was made"
            )
        # dict.items: a subclass restored from a file may carry attributes of these names
        if isinstance(value, dict):
            return {key: self(item, depth + 1) for key, item in dict.items(value)}
        if isinstance(value, list | tuple) and not isinstance(value, torch.Size):
            return type(value)(self(item, depth + 1) for item in value)
        return value


def _name(key: Any, origin: str) -> str:
    if isinstance(key, str):
        return key
    raise ModelFileError(
        f"{origin} holds a dict with a name of type {type(key).__name__} ({str(key)[:40]}), not a checkpoint of a "
        "network: give the file that holds its state_dict"
    )
