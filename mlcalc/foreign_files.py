"""What a file is that turned out not to be a model file, told from its bytes without loading it."""

from __future__ import annotations

from pathlib import Path

IMPORT_REMEDY = (
    "this version reads its own .safetensors files only. Load the weights where the model was made, into a network of "
    "mlcalc.models, and write it with mlcalc.save_model"
)
_NEVER_READ = (
    "loading such a file executes code that it contains, so this program never does: "
    "load it where the model was made, put the weights into a network of mlcalc.models, and write it with "
    "mlcalc.save_model"
)


def describe_foreign(path: Path, head: bytes, tail: bytes, length: int, max_header: int) -> str:
    """Error text for a file that is not in the safetensors format: what it looks like, and what to do."""
    start = head.lstrip()[:512].lower()
    findings = (
        (
            start.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")),
            f"{path} is a web page (HTML), not a model file: the download went wrong. Download the file itself again",
        ),
        (
            start.startswith(b"version https://git-lfs"),
            f"{path} is a git-lfs pointer, not the model file it stands for: "
            "run `git lfs pull` in its repository, or download the file itself",
        ),
        (head.startswith(b"PK"), f"{path} is {_zip_kind(path, head + tail)}"),
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
    return next((text for found, text in findings if found), other)


def _zip_kind(path: Path, window: bytes) -> str:
    if b"constants.pkl" in window or b"/code/" in window:
        return f"a TorchScript archive, not a model file; {_NEVER_READ}"
    if path.suffix == ".pt2" or any(
        mark in window for mark in (b"archive_format", b"serialized_exported_program", b"models/model.json")
    ):
        return f"an exported program (.pt2), not a model file; {_NEVER_READ}"
    if b"data.pkl" in window:
        return f"a PyTorch checkpoint (zip with a pickle in it), which is never loaded directly: {IMPORT_REMEDY}"
    return "a zip archive, not a model file: unpack it and give the .safetensors file in it"
