"""Steps of a run of the calculator on the device, for as long as its atoms stay the same."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from mlcalc.gpu.neighbors import Periodicity
from mlcalc.gpu.step import ResidentPotential, Step, resident_choice
from mlcalc.models import Potential


class DeviceTrajectory:
    """Hands structures that resemble each other to one `ResidentPotential`, and makes a new one for other atoms.

    ConfigError where the potential cannot stay on the device, at once.  One instance serves one thread.
    """

    def __init__(
        self, potential: Potential, *, device: torch.device, dtype: torch.dtype, skin: float, kernels: str = "auto"
    ) -> None:
        self._potential, self._device, self._dtype = potential, device, dtype
        self._skin = skin
        self._choice = resident_choice(potential, device, dtype, kernels=kernels)
        self._key: tuple[bytes, Periodicity, bool] | None = None
        self._resident: ResidentPotential | None = None
        self.why = self._choice.why  # not by faster kernels
        self.name = "one CUDA graph per step" + (", Triton kernels" if self._choice.kernels == "triton" else "")

    @property
    def rebuilds(self) -> int:
        """Searches for neighbors since the atoms are what they are."""
        return 0 if self._resident is None else self._resident.neighbors.rebuilds

    def step(
        self,
        numbers: NDArray[np.integer],
        positions: NDArray[np.float64],
        cell: NDArray[np.float64],
        pbc: NDArray[np.bool_],
        *,
        stress: bool,
    ) -> Step:
        """Energy, forces and, if asked for, stress of a validated structure; errors as those of ResidentPotential."""
        a, b, c = (bool(flag) for flag in pbc)
        key = (np.asarray(numbers, dtype=np.int64).tobytes(), (a, b, c), stress)
        if self._resident is None or key != self._key:
            self._resident, self._key = self._made(numbers, (a, b, c), stress), key
        there = torch.tensor(positions, dtype=torch.float64)
        return self._resident(there, torch.tensor(cell, dtype=torch.float64))

    def _made(self, numbers: NDArray[np.integer], pbc: Periodicity, stress: bool) -> ResidentPotential:
        return ResidentPotential(
            self._potential,
            torch.tensor(np.asarray(numbers), dtype=torch.int64),
            pbc,
            device=self._device,
            dtype=self._dtype,
            skin=self._skin,
            stress=stress,
            choice=self._choice,
        )
