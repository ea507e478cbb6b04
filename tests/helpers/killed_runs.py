"""Runs that are killed at random file operations and force calls, and continued until they end; results as JSON.

Called as a program so that the children are forks of a process without threads.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from pathlib import Path
from typing import Any

from springs import copper

from mlcalc.md_protocols import run_nve, run_nvt
from mlcalc.md_protocols.folders.storage import load_arrays

STEPS = 19
FOLDERS = 2  # per ensemble
ENSEMBLES = ("nve", "berendsen", "bussi")


def run(ensemble: str, folder: Path, steps: int = STEPS) -> None:
    settings: dict[str, Any] = {"temperature_K": 300.0, "timestep_fs": 2.0, "seed": 3, "output": folder}
    settings |= {"trajectory_interval": 3, "log_interval": 2, "checkpoint_interval_s": 0.0}
    if ensemble == "nve":
        run_nve(copper(1), steps=steps, **settings)
    else:
        run_nvt(copper(1), steps=steps, thermostat=ensemble, **settings)


def die_after(events: int) -> None:
    """SIGKILL to ourselves at the so-manieth file operation, which is between any two writes, renames and syncs."""
    left = events

    def count(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        if event in {"open", "os.rename", "os.mkdir", "os.remove", "os.truncate"}:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)


def overhang(folder: Path) -> bool:
    """Whether the files hold more than the checkpoint knows of, so that continuing without a cut would repeat it."""
    if not (folder / "checkpoint.npz").exists():
        return False
    _, info = load_arrays(folder / "checkpoint.npz", "checkpoint")
    return any(
        (folder / name).exists() and (folder / name).stat().st_size > info[mark][0]
        for name, mark in (("log.csv", "log"), ("trajectory.extxyz", "frames"))
    )


def kill_and_continue(ensemble: str, folder: Path, rng: random.Random) -> tuple[int, int]:
    """How many times the run was killed before it came to its end, and how often that left an overhang."""
    kills = overhangs = 0
    while True:
        child = os.fork()
        if child == 0:
            die_after(rng.randint(1, 40))
            run(ensemble, folder)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        rng.random()  # the child drew from a copy
        if os.WIFSIGNALED(status):
            kills += 1
            overhangs += overhang(folder)
        elif os.WEXITSTATUS(status) == 0:
            return kills, overhangs
        else:
            raise SystemExit(f"{ensemble} in {folder} failed after {kills} kills")


def main(root: Path) -> None:
    rng, report = random.Random(7), {}  # noqa: S311 - where to kill, not a secret
    for ensemble in ENSEMBLES:
        run(ensemble, root / f"{ensemble}-whole")
        report[ensemble] = [kill_and_continue(ensemble, root / f"{ensemble}-{k}", rng) for k in range(FOLDERS)]
    sys.stdout.write(json.dumps(report))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
