"""The picture of elastic constants: the matrix, and Young's modulus over directions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .elastic_tensor import young_modulus

if TYPE_CHECKING:
    from .elastic_result import ElasticConstants

_LABELS = ("xx", "yy", "zz", "yz", "xz", "xy")
_PLANES = {"xy": (0, 1), "xz": (0, 2), "yz": (1, 2)}


def draw_stiffness(result: ElasticConstants, ax: Any = None) -> Any:
    """Axes with the matrix; on a new figure with Young's modulus beside it where the crystal is stable.

    Both are in the axes of the conventional cell.
    """
    if ax is None:
        from matplotlib.figure import Figure

        directions = result.stable and not result.slab
        figure = Figure(figsize=(9.0 if directions else 4.8, 4.2), layout="constrained")
        ax = figure.add_subplot(1, 2 if directions else 1, 1)
        if directions:
            _draw_young(result, figure.add_subplot(1, 2, 2, projection="polar"))
    _draw_matrix(result.conventional, ax)
    return ax


def _draw_matrix(stiffness: Any, ax: Any) -> None:
    bound = float(np.abs(stiffness).max())
    ax.imshow(stiffness, cmap="RdBu_r", vmin=-bound, vmax=bound)
    for i, row in enumerate(stiffness):
        for j, value in enumerate(row):
            dark = abs(value) > 0.6 * bound
            text = f"{value:.1f}" if abs(value) >= 0.05 else "0"
            ax.text(j, i, text, ha="center", va="center", fontsize=9, color="white" if dark else "black")
    ax.set_xticks(range(6), _LABELS)
    ax.set_yticks(range(6), _LABELS)
    ax.set_xlabel("strain")
    ax.set_ylabel("stress")
    ax.set_title("elastic constants (GPa)", fontsize="medium")


def _draw_young(result: ElasticConstants, ax: Any) -> None:
    from matplotlib.ticker import MaxNLocator

    angles = np.linspace(0.0, 2 * np.pi, 361)
    for (name, (first, second)), style in zip(_PLANES.items(), ("-", "--", ":"), strict=True):
        directions = np.zeros((len(angles), 3))
        directions[:, first], directions[:, second] = np.cos(angles), np.sin(angles)
        ax.plot(angles, young_modulus(result.conventional, directions), style, label=f"{name} plane")
    ax.set_ylim(bottom=0.0)
    ax.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    ax.set_title("Young's modulus (GPa)", fontsize="medium")
    ax.tick_params(labelsize=8)
    ax.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, -0.22), ncols=3, fontsize="small")
