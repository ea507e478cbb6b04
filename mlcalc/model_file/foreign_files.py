"""What a file is that turned out not to be a model file, told from its bytes without loading it."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from mlcalc.errors import ModelFileError

IMPORT_REMEDY = (
    "checkpoints of the original HermNet and ViSNet codes are converted by `mlcalc import SRC DST.safetensors` "
    "(mlcalc.import_checkpoint, then mlcalc.save_model)"
)
EXECUTES = (
    "loading such a file executes code that it contains, so this program never does: load it where the model was made, "
    "save its state_dict with torch.save, and convert that with `mlcalc import` (mlcalc.import_checkpoint)"
)


def describe_foreign(path: Path, head: bytes, tail: bytes, length: int, max_header: int) -> str:
    """Error text for a file that is not in the safetensors format: what it looks like, and what to do."""
    findings = (
        (head.startswith(b"PK"), f"{path} is {_described_zip(path, head + tail)}"),
        (
            head.startswith(b"\x80") and head[1:2] in (b"\2", b"\3", b"\4", b"\5"),
            f"{path} is a pickle (an old PyTorch checkpoint), which is never loaded directly: {IMPORT_REMEDY}",
        ),
        (
            path.suffix in {".pt", ".pth", ".ckpt", ".pkl", ".pickle"},
            f"{path} is named like a PyTorch checkpoint, which is never loaded directly: {IMPORT_REMEDY}",
        ),
        (len(head) < 9, f"model file {path} is truncated: it holds only {len(head)} bytes. Copy or download it again"),
    )
    other = (
        f"{path} is not a model file, or its first bytes are damaged: a safetensors header of {length} bytes was "
        f"announced (limit {max_header}) or does not start with '{{'. Give a .safetensors model file"
    )
    return describe_download(path, head) or next((text for found, text in findings if found), other)


def describe_download(path: Path, head: bytes) -> str:
    """Error text for what a failed download leaves in place of a file, or nothing."""
    start = head.lstrip()[:512].lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return f"{path} is a web page (HTML), not a model file: the download went wrong. Download the file itself again"
    if start.startswith(b"version https://git-lfs"):
        return (
            f"{path} is a git-lfs pointer, not the model file it stands for: "
            "run `git lfs pull` in its repository, or download the file itself"
        )
    return ""


def zip_kind(path: Path, window: bytes) -> str:
    """What the names of its entries say a zip archive is; "checkpoint" for a PyTorch checkpoint, or nothing."""
    if b"constants.pkl" in window or b"/code/" in window:
        return "a TorchScript archive, not a model file"
    if path.suffix == ".pt2" or any(
        mark in window for mark in (b"archive_format", b"serialized_exported_program", b"models/model.json")
    ):
        return "an exported program (.pt2), not a model file"
    return "checkpoint" if b"data.pkl" in window else ""


def _described_zip(path: Path, window: bytes) -> str:
    kind = zip_kind(path, window)
    if kind == "checkpoint":
        return f"a PyTorch checkpoint (zip with a pickle in it), which is never loaded directly: {IMPORT_REMEDY}"
    if kind:
        return f"{kind}; {EXECUTES}"
    return "a zip archive, not a model file: unpack it and give the .safetensors file in it"


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
