"""Files that run code when they are loaded the usual way."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn


class Payload:
    """Creates a file when it is unpickled by a loader that executes code."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.marker,))


class Plus(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 1


def hostile(marker: Path) -> dict[str, tuple[bytes, str]]:
    """Files that run code when loaded the usual way, and what is said of them."""
    zipped, legacy, script, exported = io.BytesIO(), io.BytesIO(), io.BytesIO(), io.BytesIO()
    torch.save(Payload(marker), zipped)
    torch.save(Payload(marker), legacy, _use_new_zipfile_serialization=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch deprecates what it still reads
        torch.jit.save(torch.jit.script(Plus()), script)
        torch.export.save(torch.export.export(Plus(), (torch.ones(2),)), exported)
    return {
        "zip": (zipped.getvalue(), "PyTorch checkpoint .*never loaded directly: .*mlcalc import SRC"),
        "pickle": (legacy.getvalue(), "is a pickle .*never loaded directly: .*mlcalc import SRC"),
        "script": (script.getvalue(), "TorchScript.*executes code.*never does: load it where.*mlcalc import"),
        "exported": (exported.getvalue(), r"exported program \(.pt2\).*executes code.*load it where.*mlcalc import"),
    }
