"""Pictures of a report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.cases import FITS, PEERS, Measurement
from benchmarks.report import Report

_COLORS = {peer: f"C{k}" for k, peer in enumerate(PEERS)}


def plot(report: Report, path: Path) -> None:
    """Time per call of every code on every system, and time and memory of copper against N, as a PNG."""
    groups = report.groups()
    copper = [r for r in report.measurements if r.case.system.startswith("cu-") and r.status == FITS]
    figure = Figure(figsize=(9, 1.2 + 0.75 * len(groups) + (4 if copper else 0)), layout="constrained")
    if copper:
        grid = figure.add_gridspec(2, 2, height_ratios=[max(1.0, 0.75 * len(groups)), 4])
        _bars(figure.add_subplot(grid[0, :]), groups)
        _scaling(figure.add_subplot(grid[1, 0]), copper, "seconds per call", lambda r: r.wall)
        _scaling(figure.add_subplot(grid[1, 1]), copper, "peak memory, MiB", lambda r: r.peak_bytes / 2**20)
    else:
        _bars(figure.add_subplot(), groups)
    figure.savefig(path, dpi=130)


def _bars(ax: Axes, groups: dict[tuple[str, str, str], list[Measurement]]) -> None:
    for k, results in enumerate(groups.values()):
        height = 0.8 / len(results)
        for n, result in enumerate(results):
            y = k + n * height
            if result.status == FITS:
                low, high = np.quantile(result.wall_s, [0.25, 0.75]) * 1e3
                wall = result.wall * 1e3
                errors = [[max(0.0, wall - low)], [max(0.0, high - wall)]]
                ax.barh(y, wall, height, color=_COLORS[result.case.peer], xerr=errors, ecolor="0.3")
            else:
                words = f"{result.case.peer}: {result.status}"
                ax.text(0.01, y, words, fontsize=7, va="center", transform=ax.get_yaxis_transform())
    labels = [f"{system}\n{network}, {dtype}" for system, network, dtype in groups]
    ax.set_yticks([k + 0.4 for k in range(len(groups))], labels, fontsize=8)
    shown = {result.case.peer for results in groups.values() for result in results if result.status == FITS}
    for peer in PEERS:
        if peer in shown:
            ax.barh(0, 0, color=_COLORS[peer], label=peer)
    ax.set(xscale="log", xlabel="energy and forces, ms per call (wall, median and quartiles)")
    ax.invert_yaxis()
    ax.legend(fontsize=8)


def _scaling(ax: Axes, results: list[Measurement], label: str, value: Callable[[Measurement], float]) -> None:
    series: dict[tuple[str, str, str], list[Measurement]] = {}
    for result in results:
        series.setdefault((result.case.network, result.case.dtype, result.case.peer), []).append(result)
    for (network, dtype, peer), points in series.items():
        ax.plot([r.atoms for r in points], [value(r) for r in points], "o-", label=f"{network} {dtype} {peer}")
    ax.set(xscale="log", yscale="log", xlabel="Cu atoms", ylabel=label)
    ax.legend(fontsize=6)
