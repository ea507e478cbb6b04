"""Folders of shards filled one by one: a killed run loses the shard it was at, and the same command continues."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from training.organic.files import load_arrays
from training.organic.shards import Shard, schedule, shard_path, write_shard

Make = Callable[[str, int], tuple[Shard, dict[str, Any]]]  # of split and number: a shard, and settings to be written


def fill(folder: Path, frames_wanted: int, make: Make) -> int:
    """The frames of a folder, after shards were made in order until there are as many as wanted.

    Shards that are there already are counted and not made again.
    """
    folder.mkdir(parents=True, exist_ok=True)
    total = 0
    for split, number in schedule():
        if total >= frames_wanted:
            break
        path = shard_path(folder, split, number)
        if path.is_file():
            total += frames_in(path)
            continue
        begin = time.perf_counter()
        shard, settings = make(split, number)
        write_shard(path, shard, settings)
        seconds = time.perf_counter() - begin
        total += len(shard.frames)
        report(
            f"{path.name}: {len(shard.frames)} frames of {len(shard.molecules)} systems in {seconds:.0f} s, "
            f"{len(shard.frames) / seconds:.1f} a second, left out {settings.get('left_out')}; {total} in all"
        )
    return total


def frames_in(path: Path) -> int:
    """How many frames a shard holds."""
    return len(load_arrays(path, ["energy"])["energy"])


def report(line: str) -> None:
    """A line for the log, with the time."""
    print(time.strftime("%Y-%m-%d %H:%M:%S"), line, flush=True)
