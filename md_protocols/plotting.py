"""Axes to draw on without touching pyplot's global figures."""

from __future__ import annotations

from typing import Any


def axes(ax: Any) -> Any:
    """The axes given, or those of a new figure (`ax.figure.savefig(...)` writes it)."""
    if ax is not None:
        return ax
    from matplotlib.figure import Figure

    return Figure(figsize=(6.4, 4.0), layout="constrained").subplots()
