"""Output files, refused before anything is computed where they could not be written in the end."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import click

PICTURES = (".png", ".pdf", ".svg")


def check_output(path: str | None, option: str, suffixes: Sequence[str], inputs: Sequence[str] = ()) -> None:
    """BadParameter for a suffix not among these, a folder that is not there, or the name of one of the inputs."""
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
    else:
        return
    raise click.BadParameter(f"{path!r}: {complaint}", param_hint=option)


def refuse_used(folder: Path | None, patterns: Sequence[str]) -> None:
    """BadParameter for an output folder that holds files of an earlier run, which these would replace or mix with."""
    used = sorted({path.name for pattern in patterns for path in folder.glob(pattern)}) if folder is not None else []
    if used:
        named = ", ".join(used[:4]) + (", ..." if len(used) > 4 else "")
        raise click.BadParameter(
            f"{str(folder)!r} holds results of an earlier run ({named}): choose another folder, or remove them first",
            param_hint="--output",
        )


def _same(one: Path, other: Path) -> bool:
    """Whether two names are one file, links included."""
    if one.exists() and other.exists():
        return one.samefile(other)
    return one.resolve() == other.resolve()
