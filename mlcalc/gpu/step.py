"""A whole energy-and-forces call of molecular dynamics on the device: one replay and one wait per step."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from mlcalc.errors import NonFiniteError, NonFiniteResultError
from mlcalc.gpu.cells import DevicePairs, squared_lengths
from mlcalc.gpu.gradients import stress_of
from mlcalc.gpu.neighbors import DeviceNeighborList, Motion, Periodicity
from mlcalc.gpu.obstacles import capture_obstacle
from mlcalc.gpu.padding import Sizes, bucket
from mlcalc.gpu.partition import Parts, element_of, filled
from mlcalc.gpu.precision import check_matmul, matmul_precision
from mlcalc.gpu.recording import Recorder
from mlcalc.gpu.static import Choice, StaticNetwork, choose
from mlcalc.gpu.step_buffers import StepBuffers
from mlcalc.graphs.search import squared_threshold
from mlcalc.md_protocols.errors import ConfigError
from mlcalc.models import HVNet, Potential

_MARGIN = 1.05  # room for this many times the edges of the moment, so that their number may change
_ATTEMPTS = 4  # a new list, then more room for edges, with one to spare


_HEAD = 3  # numbers of a row before the edges: energy, motion and shortest distance, both squared


@dataclass(frozen=True, eq=False)
class Step:
    """What one call gives; tensors stay where they were computed."""

    energy: float  # eV
    energies: Tensor  # (N,) eV, float64
    forces: Tensor  # (N, 3) eV/Å, float64
    stress: Tensor | None  # (6,) eV/Å^3, float64
    edges: int  # pairs within the cutoff, both directions counted
    shortest: float  # Å, smallest distance of two atoms; infinity where none are within cutoff and skin


class ResidentPotential:
    """Energies and forces of one system whose neighbor list, padded graph and network never leave the device.

    A call copies the positions in, replays one captured graph (distances of the candidate pairs, those within the
    cutoff written behind each other into a buffer of fixed size, the network, its gradient) and reads back one row
    of numbers: the energy, how far atoms have moved since the list was made, and how many edges there were.  Where the
    list was outdated, or the buffer too small, the result is thrown away and the call repeated with a new one.

    On the CPU nothing is captured, but all else is the same.  One instance serves one thread and one trajectory; the
    `choice` of another one with the same potential, device and precision saves the trial.
    """

    def __init__(
        self,
        potential: Potential,
        numbers: Tensor,
        pbc: Periodicity,
        *,
        device: torch.device,
        dtype: torch.dtype,
        skin: float = 1.0,
        stress: bool = False,
        matmul: str = "ieee",
        kernels: str = "auto",
        choice: Choice | None = None,
    ) -> None:
        choice = choice or resident_choice(potential, device, dtype, matmul=matmul, kernels=kernels)
        self._network, self.kernels, self.why = cast("StaticNetwork", choice.network), choice.kernels, choice.why
        self._shift = float(getattr(potential, "structure_shift", 0.0))
        self._numbers, self._pbc, self._stress = numbers.to(device), pbc, stress
        self._device, self._matmul = device, matmul
        self._recorder = Recorder(device)
        self.neighbors = DeviceNeighborList(self._network.potential.cutoff, skin=skin)
        self.captures = 0  # so far
        self._region = torch.zeros_like(self._numbers)  # of each atom: the part of the edge buffer for its edges
        self._room = [0]  # edges in each of these parts
        if self._network.partition is not None:
            self._region = element_of(self._numbers, cast("HVNet", self._network.potential))
            self._room *= len(cast("HVNet", self._network.potential).elements)
        self._buffers: StepBuffers | None = None
        self._motion: Motion | None = None  # in the cell of the last call; None after a search
        self._cell = torch.zeros(3, 3, dtype=torch.float64)
        self._run: Callable[[], Tensor] | None = None

    def __call__(self, positions: Tensor, cell: Tensor) -> Step:
        """Energy and forces for positions (N, 3) Å on any device and a cell (3, 3) Å on the CPU, float64.

        Raises NonFiniteError for such positions, NonFiniteResultError.
        """
        there = positions.to(self._device, torch.float64)
        for _ in range(_ATTEMPTS):
            run, buffers = self._recorded(there, cell)
            motion = self._followed(cell, buffers)
            buffers.positions.copy_(there)
            row = run()
            energy, moved, shortest, *edges = row[: _HEAD + len(self._room)].tolist()  # the one wait
            if not (motion.limit > 0 and moved <= motion.limit**2):  # true for NaN
                self._search(there, cell)
            elif any(found > room for found, room in zip(edges, self._room, strict=True)):
                self._run = None
            elif math.isfinite(energy):
                return self._step(row, cell, energy, math.sqrt(shortest), int(sum(edges)))
            else:
                break
        raise NonFiniteResultError(
            f"the model returned NaN or infinity as energy for a structure of {len(self._numbers)} atoms, or atoms "
            "moved without end: the structure lies outside what the model can describe. Look at the last good frame"
        )

    def _followed(self, cell: Tensor, buffers: StepBuffers) -> Motion:
        """The motion allowed in this cell, which is copied to the device where it has changed."""
        if self._motion is None or not torch.equal(cell, self._cell):
            self._motion, self._cell = self.neighbors.allowed_motion(cell), cell.clone()
            buffers.deform(cell, self._motion.deformation)
        return self._motion

    def _step(self, row: Tensor, cell: Tensor, energy: float, shortest: float, edges: int) -> Step:
        atoms = len(self._numbers)
        values = row[_HEAD + len(self._room) :].clone()  # the next replay writes over the row
        energies, forces, strain = values.split([atoms, 3 * atoms, len(values) - 4 * atoms])
        return Step(
            energy + self._shift,
            energies + self._shift / atoms,
            forces.view(atoms, 3),
            stress_of(strain.view(1, 3, 3), cell[None])[0] if self._stress else None,
            edges,
            shortest,
        )

    def _search(self, positions: Tensor, cell: Tensor) -> DevicePairs:
        if not bool(torch.isfinite(positions).all()):
            raise NonFiniteError("positions hold NaN or infinity: the trajectory has broken down, or was read wrongly")
        found, self._motion = self.neighbors.search(positions, cell, self._pbc), None
        if self._buffers is None or not self._buffers.load(found, positions):
            self._run = None
        return found

    def _recorded(self, positions: Tensor, cell: Tensor) -> tuple[Callable[[], Tensor], StepBuffers]:
        if self._run is not None and self._buffers is not None:
            return self._run, self._buffers
        found = self.neighbors.candidates or self._search(positions, cell)
        lengths = squared_lengths(positions, cell.to(self._device), found.i, found.j, found.shifts)
        regions = self._region[found.i[lengths < squared_threshold(self.neighbors.cutoff)]]
        edges = torch.bincount(regions, minlength=len(self._room)).tolist()
        self._room = [max(room, _roomy(count)) for room, count in zip(self._room, edges, strict=True)]
        buffers = StepBuffers(self._numbers, self._region, self._room, self.neighbors.cutoff, len(found.i))
        buffers.load(found, self.neighbors.positions)
        buffers.positions.copy_(positions)
        buffers.deform(cell, torch.eye(3, dtype=torch.float64))
        self._motion = None
        parts = self._parts(buffers.sizes)
        with matmul_precision(self._matmul):
            self._run = self._recorder.record(lambda: self._row(buffers, parts))
        self._buffers = buffers
        self.captures += 1
        return self._run, buffers

    def _row(self, buffers: StepBuffers, parts: Parts | None) -> Tensor:
        """Everything a step gives, behind each other: the head, edges by region, energies, forces, strain gradient."""
        graph, shortest, counts = buffers.graph()
        found, atoms = self._network.gradients(graph, parts, strain=self._stress), len(self._numbers)
        head = [found.energy[:1], buffers.motion()[None], shortest[None], counts]
        tail = [] if found.strain is None else [found.strain[0].flatten()]
        return torch.cat([*head, found.energies[:atoms], found.forces[:atoms].flatten(), *tail])

    def _parts(self, sizes: Sizes) -> Parts | None:
        """Atoms by element, padded; edges by element as `StepBuffers` lays them out."""
        if self._network.partition is None:
            return None
        kinds = range(len(self._room))
        atoms = tuple(filled(self._region == kind, sizes.atoms, sizes.atoms - 1) for kind in kinds)
        return Parts(atoms, torch.arange(sum(self._room), device=self._device).split(self._room))


def resident_choice(
    potential: Potential, device: torch.device, dtype: torch.dtype, *, matmul: str = "ieee", kernels: str = "auto"
) -> Choice:
    """How a network runs that stays on the device; ConfigError where it cannot."""
    check_matmul(matmul, dtype)
    obstacle = capture_obstacle(potential)
    if not obstacle:
        choice = choose(potential, device, dtype, matmul=matmul, kernels=kernels)
        if choice.network is not None:
            return choice
        obstacle = choice.why
    raise ConfigError(f"{type(potential).__name__} cannot stay on the device: {obstacle}")


def _roomy(edges: int) -> int:
    return bucket(int(_MARGIN * edges) + 1)
