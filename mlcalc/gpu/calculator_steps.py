"""Steps of a calculator's run on a GPU, without a graph made on the host."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from mlcalc.engine.engine import Engine
from mlcalc.graphs.neighbors import NeighborList
from mlcalc.graphs.validation import resolve_cell, validate_structure
from mlcalc.md_protocols.errors import ConfigError
from mlcalc.memory import is_out_of_memory
from mlcalc.models import Prediction

if TYPE_CHECKING:
    from mlcalc.gpu.trajectory import DeviceTrajectory


class DeviceSteps:
    """Predictions of structures that resemble the one before; None where the host has to look at a structure.

    The host looks at the first structure of a run, for its warnings, and at those that something is wrong with, for
    errors that name the atoms.
    """

    def __init__(
        self, engine: Engine, trajectory: DeviceTrajectory, *, min_distance: float, max_edges: int | None
    ) -> None:
        self._engine, self._trajectory = engine, trajectory
        self._min_distance, self._max_edges = min_distance, math.inf if max_edges is None else max_edges
        self._known: tuple[bytes, bytes] | None = None
        self.edges = 0
        self.name = trajectory.name

    @classmethod
    def of(cls, engine: Engine, neighbors: NeighborList, *, min_distance: float) -> DeviceSteps | None:
        """Those of an engine on a GPU, or None where its network cannot stay there."""
        if engine.device.type != "cuda" or engine.kernels not in ("auto", "fused"):
            return None
        from mlcalc.gpu.trajectory import DeviceTrajectory

        try:
            trajectory = DeviceTrajectory(
                engine.potential, device=engine.device, dtype=engine.dtype, skin=neighbors.skin
            )
        except ConfigError:  # the engine's path says why
            return None
        return cls(engine, trajectory, min_distance=min_distance, max_edges=neighbors.max_edges)

    def prediction(self, atoms: Atoms, *, stress: bool) -> Prediction | None:
        """Energy, energies, forces and stress on the CPU."""
        known = atoms.numbers.tobytes(), atoms.pbc.tobytes()
        if known != self._known:
            self._known = known
            return None
        validate_structure(atoms, elements=self._engine.scope.elements, min_distance=self._min_distance)
        cell, pbc = resolve_cell(atoms)
        try:
            step = self._trajectory.step(atoms.numbers, np.array(atoms.positions), cell, pbc, stress=stress)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            return None
        values = (step.energies, step.forces) + (() if step.stress is None else (step.stress,))
        energies, forces, *stresses = (_to_cpu(value) for value in values)
        finite = np.isfinite(step.energy) and bool(torch.isfinite(forces).all())
        if step.shortest < self._min_distance or step.edges > self._max_edges or not finite:
            return None
        self.edges = step.edges
        energy = torch.tensor([step.energy], dtype=torch.float64)
        return Prediction(energy, energies, forces, stresses[0][None] if stresses else None)


def _to_cpu(value: Tensor) -> Tensor:
    return value.detach().to("cpu", torch.float64).clone()
