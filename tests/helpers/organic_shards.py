"""Shards of random molecules with labels of a harmonic potential, and a folder of them filled by a process that dies.

Called as a program so that the children are forks of a process without threads.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from training.organic import filling, shards
from training.organic.frames import Frames
from training.organic.shards import Shard

WANTED = 60  # frames
SETTINGS = {"shifts": {"H": -13.6, "C": -1029.5, "O": -2041.3}}


def random_shard(split: str, number: int, frames: int = 9) -> Shard:
    """Always the same shard for the same number: energies are half the squares of the coordinates."""
    rng = np.random.default_rng([len(split), number])
    sizes = rng.integers(2, 8, frames)
    first = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    positions = rng.normal(size=(first[-1], 3)).astype(np.float32).astype(np.float64)
    energy = np.array([0.5 * (positions[a:b] ** 2).sum() for a, b in pairwise(first)])
    listed = [
        {"smiles": f"{split}{number}.{k}", "keys": [f"{k}"], "split": split, "family": "random"} for k in range(3)
    ]
    return Shard(
        Frames(rng.choice([1, 6, 8], first[-1]).astype(np.int64), positions, first),
        energy,
        -positions,
        rng.random(first[-1]).astype(np.float32).astype(np.float64),
        rng.integers(0, 3, frames),
        rng.integers(0, len(shards.KINDS), frames),
        listed,
    )


def make(split: str, number: int) -> tuple[Shard, dict[str, Any]]:
    """What `fill` asks for."""
    return random_shard(split, number), SETTINGS | {"split": split, "shard": number}


def write_carelessly(path: Path, data: bytes) -> None:
    """A file written in place and in two parts, for a kill to come between."""
    with path.open("wb") as file:
        file.write(data[: len(data) // 2])
    with path.open("ab") as file:
        file.write(data[len(data) // 2 :])


def die_after(events: int) -> None:
    """SIGKILL to ourselves at the so-manieth file operation."""
    left = events

    def count(event: str, _arguments: tuple[Any, ...]) -> None:
        nonlocal left
        if event in {"open", "os.rename", "os.mkdir"}:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)


def kill_and_continue(folder: Path, rng: random.Random) -> int:
    """How often filling was killed before the folder was full."""
    kills = 0
    while True:
        child = os.fork()
        if child == 0:
            die_after(rng.randint(2, 12 + 3 * kills))
            filling.fill(folder, WANTED, make)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        rng.random()  # the child drew from a copy
        if os.WIFSIGNALED(status):
            kills += 1
        elif os.WEXITSTATUS(status) == 0:
            return kills
        else:
            raise SystemExit(f"filling {folder} failed after {kills} kills")


def main(root: Path, careless: bool) -> None:
    filling.report = lambda line: None  # type: ignore[assignment]
    filling.fill(root / "whole", WANTED, make)
    if careless:
        shards.write_atomically = write_carelessly  # type: ignore[assignment]
    rng = random.Random(3)  # noqa: S311 - where to kill, not a secret
    sys.stdout.write(json.dumps([kill_and_continue(root / f"killed-{k}", rng) for k in range(4)]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), careless=sys.argv[2] == "careless")
