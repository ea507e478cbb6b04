"""Notices a run that has gone wrong within the step in which it happens."""

from __future__ import annotations

import math
from collections import deque

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlcalc.ground.errors import Use

from ..checks import listed
from .integrators import PhaseSpace

_KEPT = 10  # good steps remembered
_HOT = 20.0  # times the reference temperature


class Guard:
    """Keeps the last good steps and says what is wrong with a bad one.

    Limits: any non-finite energy or force; a force above `max_force`; a temperature above `max_temperature_K`, by
    default 20 times the largest of the target, the initial temperature and 500 K.
    """

    def __init__(
        self, atoms: Atoms, reference_K: float, *, max_temperature_K: float | None, max_force: float, timestep_fs: float
    ) -> None:
        self._symbols = atoms.get_chemical_symbols()
        self._max_temperature = max_temperature_K or _HOT * max(reference_K, 500.0)
        self._max_force = max_force
        self.remedies = (
            Use("timestep_fs", None, python=f"try a smaller timestep_fs (now {timestep_fs:g})"),
            "relax the structure first",
            "check that the potential knows such structures",
        )
        self.good: deque[tuple[int, PhaseSpace]] = deque(maxlen=_KEPT)

    def keep(self, step: int, state: PhaseSpace) -> None:
        self.good.append((step, state.copy()))

    def complaint(self, state: PhaseSpace, temperature_K: float) -> str | None:
        """What is wrong after the forces of a new step, or None."""
        largest = float(np.maximum.reduce(np.abs(state.forces), axis=None))
        # Written so that NaN, for which every comparison is false, does not pass.
        if largest <= self._max_force and math.isfinite(state.energy) and temperature_K <= self._max_temperature:
            return None
        bad = np.flatnonzero(~np.isfinite(state.forces).all(axis=1)).tolist()
        if bad:
            what = (
                f"the forces on {len(bad)} of {len(self._symbols)} atoms are not finite ({listed(bad, self._symbols)})"
            )
        elif not math.isfinite(state.energy):
            what = f"the energy is {state.energy}"
        elif not largest <= self._max_force:
            what = (
                f"a force of {largest:.4g} eV/Å exceeds the limit of {self._max_force:g} ({self._worst(state.forces)})"
            )
        else:
            what = (
                f"the temperature of {temperature_K:.4g} K exceeds the limit of {self._max_temperature:.4g} K "
                f"(fastest and most strongly pushed: {self._worst(state.momenta)}; {self._worst(state.forces)})"
            )
        return what + self._last_good()

    def _worst(self, values: NDArray[np.float64]) -> str:
        order = np.argsort(-np.linalg.norm(np.nan_to_num(values), axis=1))[:3]
        return listed(order.tolist(), self._symbols)

    def _last_good(self) -> str:
        if not self.good:
            return ""
        forces = self.good[-1][1].forces
        return f"; one step earlier the largest force was {np.abs(forces).max():.4g} eV/Å on {self._worst(forces)}"
