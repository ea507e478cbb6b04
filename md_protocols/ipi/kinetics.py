"""Temperatures from kinetic energies.

i-PI's own adds kT/2 of its thermostat for each degree of freedom that is fixed or removed, also where there is no
thermostat; here they are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
from ase import units
from numpy.typing import NDArray

_Energies = TypeVar("_Energies", float, NDArray[np.float64])


def degrees_of_freedom(structure: Mapping[str, Any], settings: Mapping[str, Any]) -> tuple[int, int]:
    """Coordinates that move, and how many of those of the centroid are removed."""
    mobile = 3 * int(np.count_nonzero(structure["mobile"]))
    return mobile, 3 if settings["remove_drift"] and not settings["fixed"] else 0


def ring_temperature(kinetic: _Energies, freedom: tuple[int, int], beads: int) -> _Energies:
    """K, of the classical ring polymer whose mean kinetic energy per bead is given in eV; 0 where nothing moves."""
    mobile, removed = freedom
    return 2.0 * kinetic * beads / (max(mobile * beads - removed, 1) * units.kB)
