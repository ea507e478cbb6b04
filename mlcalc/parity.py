"""Parity plots: predictions against labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mlcalc.assessment import Assessment, Floats


class _Panel(NamedTuple):
    title: str
    unit: str  # of the axes
    reference: Floats
    prediction: Floats
    owners: Any  # (values,) index of the frame of each value
    note: str


def plot_parity(assessment: Assessment, axes: Sequence[Any] | None = None) -> Figure:
    """One square panel per quantity, colored by group, with the errors written in."""
    from matplotlib.figure import Figure

    panels = list(_panels(assessment))
    if axes is None:
        figure = Figure(figsize=(4.6 * len(panels), 4.4), layout="constrained")
        axes = [figure.add_subplot(1, len(panels), k + 1) for k in range(len(panels))]
    for axis, panel in zip(axes, panels, strict=False):
        _draw(axis, panel, np.array(assessment.groups))
    whole: Figure = axes[0].figure
    return whole


def _panels(assessment: Assessment) -> Iterator[_Panel]:
    from ase.units import GPa

    errors = assessment.overall
    frames = np.arange(len(assessment.atoms))
    reference = assessment.energy_reference / assessment.atoms
    zero = reference.mean()  # total energies are large numbers with all their change in the last digits
    yield _Panel(
        f"energy per atom, from {zero:.4f} eV",
        "eV",
        reference - zero,
        assessment.energy / assessment.atoms - zero,
        frames,
        f"MAE {1e3 * errors.energy_mae:.3g}, RMSE {1e3 * errors.energy_rmse:.3g} meV/atom",
    )
    yield _Panel(
        "force components",
        "eV/Å",
        assessment.forces_reference.ravel(),
        assessment.forces.ravel(),
        np.repeat(frames, 3 * assessment.atoms),
        f"MAE {1e3 * errors.forces_mae:.3g}, RMSE {1e3 * errors.forces_rmse:.3g} meV/Å",
    )
    labeled = np.isfinite(assessment.stress_reference).all(axis=1)
    if labeled.any():
        yield _Panel(
            "stress components",
            "GPa",
            assessment.stress_reference[labeled].ravel() / GPa,
            assessment.stress[labeled].ravel() / GPa,
            np.repeat(frames[labeled], 6),
            f"MAE {errors.stress_mae / GPa:.3g}, RMSE {errors.stress_rmse / GPa:.3g} GPa",
        )


def _draw(axis: Any, panel: _Panel, groups: Any) -> None:
    names = [name for name in dict.fromkeys(groups.tolist()) if name] or [""]
    for name in names:
        chosen = groups[panel.owners] == name
        # thousands of points: as pixels, a vector file stays small
        axis.plot(panel.reference[chosen], panel.prediction[chosen], ".", ms=3, alpha=0.6, label=name, rasterized=True)
    both = np.concatenate([panel.reference, panel.prediction])
    margin = 0.05 * (np.ptp(both) or 1.0)
    limits = (both.min() - margin, both.max() + margin)
    axis.plot(limits, limits, "-", color="0.3", lw=0.8, zorder=0)
    axis.set(xlim=limits, ylim=limits, aspect="equal", title=panel.title)
    axis.set(xlabel=f"reference ({panel.unit})", ylabel=f"model ({panel.unit})")
    axis.text(0.03, 0.97, panel.note, transform=axis.transAxes, va="top", fontsize="small")
    if names != [""]:
        axis.legend(fontsize="x-small", loc="lower right", markerscale=3)
