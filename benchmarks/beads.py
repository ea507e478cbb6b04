"""Beads of a path integral in one batch and one by one: what batches of i-PI gain.

    python -m benchmarks.beads [--device cuda] [--model aspirin-visnet] [--beads 16]

Both ways go through what answers i-PI's requests (md_protocols.ipi), for positions that differ as those of beads at
300 K do and that move from call to call.  Ways run in turns; medians, lowest and highest.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import click
import numpy as np
import torch

from benchmarks.systems import ASPIRIN
from mlcalc import MLCalculator
from mlcalc.md_protocols.ipi.responder import IPI_UNITS, Answer, Responder

_SPREAD = 0.05  # Å; between the beads of a proton
_MOTION = 0.002  # Å and step


@click.command(context_settings={"show_default": True})
@click.option("--model", default="aspirin-visnet", help="Name or file; its elements must have those of aspirin.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu")
@click.option("--beads", default=16, type=click.IntRange(2))
@click.option("--rounds", default=20, type=click.IntRange(3))
def main(*, model: str, device: str, beads: int, rounds: int) -> None:
    """Print a table in Markdown."""
    machine = torch.cuda.get_device_name() if device == "cuda" else f"{torch.get_num_threads()} threads"
    click.echo(f"{beads} beads of {len(ASPIRIN)} atoms, {model}, {machine}; ms\n")
    click.echo("| dtype | kernels | one by one | one batch | ratio |\n|---|---|---|---|---|")
    for dtype in ("float32", "float64"):
        for kernels in ("auto", "torch"):
            calculator = MLCalculator(model, dtype=dtype, device=device, kernels=kernels)
            respond = Responder([calculator], ASPIRIN)
            single, batch = times(respond, beads, rounds)
            ratio = statistics.median(single) / statistics.median(batch)
            click.echo(f"| {dtype} | {kernels} | {shown(single)} | {shown(batch)} | {ratio:.1f} |")


def times(respond: Responder, beads: int, rounds: int) -> tuple[list[float], list[float]]:
    """Seconds of each round, one by one and in one batch; RuntimeError where they disagree."""
    rng = np.random.default_rng(0)
    positions = ASPIRIN.positions + rng.normal(scale=_SPREAD, size=(beads, len(ASPIRIN), 3))
    cells = np.repeat(100 * np.eye(3)[None], beads, axis=0)
    found: dict[str, list[float]] = {"single": [], "batch": []}
    for k in range(rounds + 2):  # two to compile and to warm up
        positions += rng.normal(scale=_MOTION, size=positions.shape)
        where = positions * IPI_UNITS.angstrom
        single = timed(lambda: [respond(cells[b : b + 1], where[b : b + 1])[0] for b in range(beads)])  # noqa: B023
        batch = timed(lambda: respond(cells, where))  # noqa: B023
        worst = max(float(np.abs(a.forces - b.forces).max()) for a, b in zip(single[1], batch[1], strict=True))
        if not worst < 1e-5:  # hartree/bohr
            raise RuntimeError(f"forces of the two ways differ by {worst:g} hartree/bohr")
        if k > 1:
            found["single"].append(single[0])
            found["batch"].append(batch[0])
    return found["single"], found["batch"]


def timed(act: Callable[[], list[Answer]]) -> tuple[float, Any]:
    begun = time.perf_counter()
    answers = act()  # on the CPU when they are there, wherever they were computed
    return time.perf_counter() - begun, answers


def shown(seconds: list[float]) -> str:
    values = sorted(1e3 * value for value in seconds)
    return f"{statistics.median(values):.1f} ({values[0]:.1f}-{values[-1]:.1f})"


if __name__ == "__main__":
    main()
