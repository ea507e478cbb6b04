"""The figure of docs/scaling.md: shares of useful work, as computed and as measured.

python benchmarks/lammps_figure.py MEASURED.json docs/scaling.png
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

DENSITY = 4 / 3.61**3  # atoms per Å^3 of copper
SIDES = np.geomspace(8, 400, 200)  # Å, of the cube that one of many ranks has


def useful(reach: float) -> np.ndarray:
    """Own atoms over all that are computed, for a cube with a rim."""
    return (SIDES / (SIDES + 2 * reach)) ** 3


def main(measured: Path, output: Path) -> None:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.use("agg")
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    atoms = DENSITY * SIDES**3
    for reach, label in (
        (30, "rim of 30 Å (HVNet, 3 layers)"),
        (25, "rim of 25 Å (ViSNet, 4 blocks)"),
        (5, "rim of 5 Å"),
    ):
        left.plot(atoms, useful(reach), label=label)
    left.plot(atoms, np.ones_like(atoms), "k--", label="states exchanged: nothing twice")
    left.set(
        xscale="log", xlabel="atoms per rank (density of copper)", ylabel="own atoms / computed atoms", ylim=(0, 1.5)
    )
    left.legend(fontsize=8, loc="upper left")
    rows = json.loads(measured.read_text())["rows"]
    single = {row["atoms"]: row["busiest_work_s"] for row in rows if row["ranks"] == 1}
    for kind, marker in (("strong", "o"), ("weak", "s")):
        points = sorted(
            (row["atoms"] // row["ranks"], efficiency(row, single))
            for row in rows
            if row["kind"] == kind and row["ranks"] == 2
        )
        right.plot(*zip(*points, strict=True), marker=marker, label=f"{kind} scaling, 2 ranks, states exchanged")
    halves = SIDES / 2 / np.minimum(SIDES, SIDES / 2 + 60)  # of a periodic cube, which a rim may cover
    right.plot(DENSITY * SIDES**3 / 2, halves, "C0", alpha=0.6, label="2 ranks, rim of 30 Å (computed)")
    right.set(xscale="log", xlabel="atoms per rank", ylabel="parallel efficiency (CPU time of work)", ylim=(0, 1.05))
    right.set_xlim(500, 1e5)
    right.legend(fontsize=8, loc="lower right")
    figure.savefig(output, dpi=150)


def efficiency(row: dict[str, object], single: dict[int, float]) -> float:
    """Work of one rank alone over that of the busiest of several, per own atom."""
    atoms, ranks, busiest = int(str(row["atoms"])), int(str(row["ranks"])), float(str(row["busiest_work_s"]))
    if row["kind"] == "weak":
        return single[atoms // ranks] / busiest
    return single[atoms] / ranks / busiest


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
