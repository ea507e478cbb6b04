"""Pictures of a dispersion: bands over the path, the density of states beside them, other people's points on top."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mlcalc.ground.warn import warn

from ..errors import ConfigError, PhysicsWarning
from .density import PhononDOS
from .paths import SampledPath

if TYPE_CHECKING:
    from phonopy import Phonopy

Array = NDArray[np.float64]
_NEAR = 1e-3  # 1/Å: a q-point closer to the path, or to one of its equivalents, lies on it


def band_figure(
    path: SampledPath,
    frequencies: Array,
    ax: Any = None,
    *,
    phonon: Phonopy,
    imaginary: bool,
    states: PhononDOS | None = None,
    overlay: Any = None,
    overlay_label: str = "reference",
    label: str | None = None,
    unit: str = "THz",
    color: str = "C0",
) -> Any:
    """Axes with the bands, (Q, bands) THz, along the path; in a figure of their own with the states beside them.

    phonon: of the crystal, for its symmetry.  imaginary: whether the axis goes below zero.
    overlay: points to compare with, (P, 2) of distance along the path (1/Å, as in `distances`) and frequency (THz), or
    (P, 4) of q (3) and frequency: these are drawn wherever the path meets q or an equivalent of it.
    unit: "THz", "meV" or "1/cm".
    """
    if unit not in _UNITS:
        raise ConfigError(f"unit is {unit!r}: choose one of {', '.join(_UNITS)}", setting="unit", value=unit)
    beside = None
    if ax is None:
        ax, beside = _new_axes(states is not None)
    scale, text = _UNITS[unit]
    edges = [(path.distances[start], path.distances[stop - 1]) for start, stop in path.segments]
    for k, (start, stop) in enumerate(path.segments):
        lines = ax.plot(path.distances[start:stop], scale * frequencies[start:stop], color=color, linewidth=1.1)
        if k == 0 and (label or overlay is not None):
            lines[0].set_label(label or "this work")
    if overlay is not None:
        points = overlay_points(path, phonon, overlay)
        ax.plot(points[:, 0], scale * points[:, 1], "o", color="0.15", ms=3.2, mfc="none", mew=0.9, label=overlay_label)
    positions, names = ticks(path)
    ax.set_xticks(positions, names)
    for x in positions:
        ax.axvline(x, color="0.75", linewidth=0.6, zorder=0)
    ax.axhline(0.0, color="0.75", linewidth=0.6, zorder=0)
    ax.set_xlim(edges[0][0], edges[-1][1])
    shown = frequencies.ravel() if overlay is None else np.append(frequencies, points[:, 1])
    low, high = scale * min(0.0, shown.min()), scale * shown.max()
    ax.set_ylim(1.05 * low if imaginary else 0.0, 1.06 * high)
    ax.set_ylabel(f"frequency ({text})")
    if label or overlay is not None:
        ax.legend(frameon=True, framealpha=0.9, edgecolor="none", fontsize="small", loc="best")
    if beside is not None and states is not None:
        _draw_dos(states, beside, scale, text)
        beside.set_ylim(ax.get_ylim())
    return ax


_UNITS = {"THz": (1.0, "THz"), "meV": (4.135667696923859, "meV"), "1/cm": (33.35640951981521, r"cm$^{-1}$")}


def ticks(path: SampledPath) -> tuple[list[float], list[str]]:
    """Distances and names of the path's corners; where it jumps, both names."""
    positions: list[float] = []
    names: list[str] = []
    for (start, stop), (first, last) in zip(path.segments, path.labels, strict=True):
        here = float(path.distances[start])
        if positions and names[-1] != _shown(first):
            names[-1] = f"{names[-1]}|{_shown(first)}"
        elif not positions:
            positions.append(here)
            names.append(_shown(first))
        positions.append(float(path.distances[stop - 1]))
        names.append(_shown(last))
    return positions, names


def overlay_points(path: SampledPath, phonon: Phonopy, overlay: Any) -> Array:
    """(P', 2) distances along the path and frequencies (THz) of points to draw."""
    points = np.atleast_2d(np.asarray(overlay, dtype=float))
    if points.shape[1] == 2 and np.isfinite(points).all():
        return points
    if points.shape[1] != 4 or not np.isfinite(points).all():
        raise ConfigError(
            f"overlay has the shape {points.shape}: give finite rows of (distance, frequency) or (q1, q2, q3, "
            "frequency)",
            setting="overlay",
            value=points.shape,
        )
    places = [distances_of(path, phonon, row[:3]) for row in points]
    found = [(where, row[3]) for row, met in zip(points, places, strict=True) for where in met]
    if not found:
        raise ConfigError("no q-point of the overlay, nor an equivalent of one, lies on the path", setting="overlay")
    away = [row[:3].tolist() for row, met in zip(points, places, strict=True) if not met]
    if away:
        warn(
            PhysicsWarning(
                f"{len(away)} of {len(points)} points of the overlay are not drawn: neither they nor their equivalents "
                f"lie on the path (first: q = {away[0]})",
                setting="overlay",
            )
        )
    return np.array(found)


def distances_of(path: SampledPath, phonon: Phonopy, q: Sequence[float] | Array) -> list[float]:
    """The places along the path (1/Å) where it meets q or an equivalent of it."""
    reciprocal = np.linalg.inv(phonon.primitive.cell).T
    stars = _star(phonon, np.asarray(q, dtype=float))
    found: list[float] = []
    for start, stop in path.segments:
        first, last = path.qpoints[start] @ reciprocal, path.qpoints[stop - 1] @ reciprocal
        along = last - first
        for star in stars:
            shifts = np.rint(0.5 * (path.qpoints[start] + path.qpoints[stop - 1]) - star)
            for extra in np.ndindex(3, 3, 3):
                point = (star + shifts + np.array(extra) - 1) @ reciprocal - first
                share = float(point @ along / (along @ along))
                if -1e-6 <= share <= 1 + 1e-6 and np.linalg.norm(point - share * along) < _NEAR:
                    found.append(float(path.distances[start]) + share * float(np.linalg.norm(along)))
    return sorted({round(x, 9) for x in found})


def _star(phonon: Phonopy, q: Array) -> Array:
    """q and its equivalents by the point group and time reversal."""
    rotations = np.array(phonon.primitive_symmetry.pointgroup_operations)
    # A rotation W of fractional positions takes fractional q to q W^-1; the group holds all inverses.
    points = np.concatenate([q @ rotations, -(q @ rotations)])
    return np.unique(np.round(points, 9), axis=0)


def _new_axes(dos: bool) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 4.2), layout="constrained")
    if not dos:
        return figure.subplots(), None
    bands, beside = figure.subplots(1, 2, width_ratios=[4, 1], sharey=True)
    return bands, beside


def _draw_dos(states: PhononDOS, ax: Any, scale: float, text: str) -> None:
    ax.fill_betweenx(scale * states.frequencies, 0.0, states.total / scale, color="0.9", linewidth=0)
    ax.plot(states.total / scale, scale * states.frequencies, color="0.25", linewidth=1.0, label="total")
    if len(states.by_element) > 1:
        for k, (element, values) in enumerate(states.by_element.items()):
            ax.plot(values / scale, scale * states.frequencies, color=f"C{k + 1}", linewidth=1.0, label=element)
        ax.legend(frameon=False, handlelength=1.0, fontsize="small")
    ax.set_xlim(left=0.0)
    ax.set_xlabel(f"DOS (1/{text})")
    ax.tick_params(axis="y", labelleft=False)


def _shown(label: str) -> str:
    """seekpath's names as they are printed: S_0 becomes S with an index."""
    name, _, index = label.partition("_")
    return f"{name}$_{{{index}}}$" if index else label
