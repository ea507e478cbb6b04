"""Output files: refused before anything is computed where they could not be written, or would replace others."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from ase import Atoms
from ase.io import write

PICTURES = (".png", ".pdf", ".svg")


def check_output(
    path: str | None, option: str, suffixes: Sequence[str], inputs: Sequence[str] = (), *, overwrite: bool
) -> None:
    """BadParameter for a suffix not among these, a folder that is not there, one of the inputs, or a file there is."""
    if path is None:
        return
    target = Path(path)
    if any(_same(target, Path(name)) for name in inputs):
        complaint = "is an input of this command and would be overwritten: choose another name"
    elif target.suffix.lower() not in suffixes:
        *others, last = suffixes
        complaint = f"use {', '.join(others)} or {last}" if others else f"use {last}"
    elif not target.parent.is_dir():
        complaint = f"the folder {str(target.parent)!r} does not exist: create it first"
    elif not os.access(target if target.exists() else target.parent, os.W_OK):
        complaint = "no permission to write there: choose another folder"
    elif target.exists() and not overwrite:
        complaint = "exists: choose another name, or give --overwrite"
    else:
        return
    raise click.BadParameter(f"{path!r}: {complaint}", param_hint=option)


class ResultFolder:
    """The folder of --output, or nothing where there is none; `written` has the names of its files so far.

    What an earlier command left there stays until the first file is written: with --overwrite it goes then, for files
    of two runs side by side would be taken for those of one.
    """

    def __init__(self, path: Path | None, earlier: Sequence[Path] = ()) -> None:
        self.path = path
        self.written: list[str] = []
        self._earlier = list(earlier)

    def file(self, name: str) -> Path:
        """The path of a file about to be written; only where there is a folder."""
        if self.path is None:
            raise ValueError("there is no folder")
        for path in self._earlier:
            path.unlink(missing_ok=True)
        self._earlier = []
        self.written.append(name)
        return self.path / name

    def result(self, result: Any, name: str, **drawn: Any) -> None:
        """Write name.npz, name.json and name.png of a result; `drawn` are settings of its plot."""
        if self.path is None:
            return
        result.save(self.file(f"{name}.npz"))
        self.file(f"{name}.json").write_text(json.dumps(in_json(result), indent=1) + "\n", encoding="utf-8")
        result.plot(**drawn).figure.savefig(self.file(f"{name}.png"), dpi=150)

    def structures(self, frames: Iterable[Atoms], name: str, **info: Any) -> None:
        """Write structures as extended XYZ, without their calculators and constraints, with more words on each."""
        if self.path is None:
            return
        plain = [frame.copy() for frame in frames]
        for frame in plain:
            frame.set_constraint()
            frame.info |= info
        write(self.file(name), plain, format="extxyz")

    def tell(self, as_json: bool) -> None:
        """Print what was written; on stderr beside JSON."""
        if self.path is not None and self.written:
            click.echo(f"files: {self.path}: {', '.join(self.written)}", err=as_json)


def result_folder(
    output: str | None, patterns: Sequence[str], inputs: Sequence[str], *, overwrite: bool
) -> ResultFolder:
    """The folder of --output, made where it is missing.

    BadParameter where it cannot be one, where files of these patterns are in it without `overwrite`, or where they are
    inputs of the command.
    """
    if output is None:
        return ResultFolder(None)
    folder = made_folder(output)
    earlier = sorted({path for pattern in patterns for path in folder.glob(pattern)})
    taken = next((name for name in inputs for path in earlier if _same(path, Path(name))), None)
    if taken is not None:
        raise click.BadParameter(
            f"{taken!r} is an input of this command and would be overwritten: choose another folder",
            param_hint="--output",
        )
    if earlier and not overwrite:
        named = ", ".join(path.name for path in earlier[:4]) + (", ..." if len(earlier) > 4 else "")
        raise click.BadParameter(
            f"{output!r} already holds results of an earlier run ({named}): choose another folder, or give --overwrite",
            param_hint="--output",
        )
    return ResultFolder(folder, earlier)


def in_json(result: Any) -> dict[str, Any]:
    """The JSON of a result, with one word on whether all of it has converged where it relaxes anything."""
    found: dict[str, Any] = result.to_json()
    relaxed = getattr(result, "converged", None) is not None
    return found | {"converged": converged(result)} if relaxed else found


def converged(result: Any) -> bool:
    """Whether all relaxations behind a result have converged; true where there are none."""
    found = getattr(result, "converged", None)
    return found is None or bool(np.all(found))


def made_folder(output: str) -> Path:
    """The output folder, made where it is missing; BadParameter where it cannot be one."""
    folder = Path(output)
    if folder.exists() and not folder.is_dir():
        raise click.BadParameter(f"{output!r} is a file: choose a folder", param_hint="--output")
    if not folder.resolve().parent.is_dir():
        raise click.BadParameter(
            f"{output!r}: its parent folder does not exist: create it first", param_hint="--output"
        )
    folder.mkdir(exist_ok=True)
    return folder


def _same(one: Path, other: Path) -> bool:
    """Whether two names are one file, links included."""
    if one.exists() and other.exists():
        return one.samefile(other)
    return one.resolve() == other.resolve()
