"""The figure that `mlcalc md` draws."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlcalc.md_protocols import Trajectory, interatomic_distances, radial_distribution

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

R_MAX, BINS = 8.0, 400  # Å
ATOMS_COUNTED = 500_000  # over all frames: seconds, whatever the length of the run


def md_figure(trajectory: Trajectory) -> Figure:
    """Temperature and energies over time, and the distances of the second half of the run."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    # Pads in inches: the label right of one panel stays away from the next.
    figure = Figure(figsize=(11, 4.6), layout=ConstrainedLayoutEngine(w_pad=0.15, h_pad=0.08))
    over_time, distances = figure.subplots(1, 2)
    trajectory.plot(over_time)
    plot_distances(trajectory, distances)
    return figure


def plot_distances(trajectory: Trajectory, axes: Axes) -> None:
    """h(r) of a molecule, g(r) of a periodic structure, over the second half of the frames."""
    frames = trajectory.frames[len(trajectory.frames) // 2 :]
    frames = frames[:: max(1, len(frames) * len(frames[0]) // ATOMS_COUNTED)]
    if frames[0].pbc.all():
        radial_distribution(frames, r_max=R_MAX, bins=BINS).plot(axes)
    elif len(frames[0]) > 1 and not frames[0].pbc.any():
        span = max(float(frame.get_all_distances().max()) for frame in frames[:: max(1, len(frames) // 20)])
        interatomic_distances(frames, r_max=min(R_MAX, 1.2 * span), bins=BINS).plot(axes)
    else:
        axes.set_axis_off()  # a free atom, a wire, a slab: neither function is defined
