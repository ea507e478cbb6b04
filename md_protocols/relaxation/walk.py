"""One structure on its way to a minimum: ASE's optimizers, cell filters and constraints, moved step by step."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from numpy.typing import NDArray

from ..crystals.vacuum import check_slab
from ..evaluator import Evaluated
from .ase_parts import CellFilter, Mailbox, NotDeliveredError, keep_symmetry

CELLS = ("fixed", "full", "isotropic", "in-plane", "shape")
OPTIMIZERS = ("lbfgs", "fire")
_MASKS = {
    "full": [1, 1, 1, 1, 1, 1],
    "isotropic": [1, 1, 1, 0, 0, 0],
    "in-plane": [1, 1, 0, 0, 0, 1],
    "shape": [1, 1, 1, 1, 1, 1],
}
_PATIENCE = 60  # steps of L-BFGS without a new best before FIRE takes over
_RISE = 0.5  # eV per atom above the lowest, at which L-BFGS has gone astray
_MAXSTEP = 0.2  # Å
_MAXSTRAIN = 0.1  # of the cell in one step
_TINY = 0.1  # of the volume of spheres of covalent radii: atoms are inside each other there
_HUGE = 64.0  # times the volume at the start
_STIFFNESS = 70.0  # eV/Å^2, the curvature that L-BFGS begins with, as in ASE

Array = NDArray[np.float64]
Watcher = Callable[[Atoms, Evaluated], None]


@dataclass(frozen=True)
class WalkSettings:
    """What all structures of a relaxation share, in ASE's units."""

    fmax: float  # eV/Å
    smax: float  # eV/Å^3
    cell: str
    pressure: float  # eV/Å^3
    symmetry_tolerance: float | None  # Å; None: the symmetry is left to itself
    optimizer: str
    steps: int


@dataclass(frozen=True)
class _Best:
    excess: float
    positions: Array
    cell: Array
    result: Evaluated


class Walk:
    """A copy of a structure under an optimizer, which `arrive` tells what was evaluated and `move` lets go on."""

    def __init__(self, atoms: Atoms, settings: WalkSettings, name: str = "the structure") -> None:
        self.name = name
        self._settings = settings
        self._bare = atoms.copy()
        self._bare.set_constraint()
        self.atoms = atoms.copy()
        self._box = Mailbox()
        self.atoms.calc = self._box
        if settings.cell == "in-plane":
            check_slab(atoms)
        if settings.symmetry_tolerance is not None:
            keep_symmetry(self.atoms, settings.symmetry_tolerance)
        self.optimizers: list[str] = []
        self._last: tuple[Array, Array] | None = None  # positions and forces before the last step of L-BFGS
        self._start("lbfgs" if settings.optimizer == "auto" else settings.optimizer)
        self.steps = 0
        self.energies: list[float] = []  # eV, enthalpies
        self.max_forces: list[float] = []
        self.max_stresses: list[float] = []
        self._best: _Best | None = None
        self._best_at = 0
        self._lowest = math.inf
        self.converged = False
        self.ended = False
        self.ran_away = ""  # what became of the volume, where a cell found no minimum
        self.failure: Exception | None = None  # of the calculator, where nothing else could be tried
        self._limits = _volume_limits(atoms)

    @property
    def evaluated(self) -> bool:
        """Whether there is a structure with an energy."""
        return self._best is not None

    @property
    def can_go_back(self) -> bool:
        """Whether there is a better structure, and an optimizer left that takes smaller steps."""
        return self._settings.optimizer == "auto" and self.optimizers[-1] == "lbfgs" and self._best is not None

    def where(self) -> Atoms:
        """A copy of the structure as it stands, without constraints and calculator."""
        bare: Atoms = self._bare.copy()
        bare.cell[:] = self.atoms.cell.array
        bare.positions[:] = self.atoms.positions
        return bare

    def arrive(self, result: Evaluated) -> None:
        """Take in what was evaluated for the structure as it stands now; at the end restore the best one."""
        self._read(result)
        self._record()
        excess = self._excess()
        self.converged = excess <= 1.0
        if self._best is None or excess < self._best.excess:
            self._best = _Best(excess, self.atoms.positions.copy(), self.atoms.cell.array.copy(), result)
            self._best_at = self.steps
        if self.energies[-1] < self._lowest - 1e-9:
            self._lowest = self.energies[-1]
            self._best_at = self.steps
        self.ended = self.converged or self.steps >= self._settings.steps
        if self.ended and not self.converged:
            self._restore_best()

    def move(self) -> None:
        """One step of the optimizer, from the structure that arrived last."""
        if self.can_go_back and self._astray():
            self._back_to_fire()
        self.steps += 1
        if self._stepped() and not self._runs_away():
            return
        if self.can_go_back:
            self._back_to_fire()
            if self._stepped() and not self._runs_away():
                return
        self.ended = True
        self._restore_best()
        self._record()

    def go_back(self) -> None:
        """Give up the structure as it stands, which could not be evaluated, for the best one met, and go on by FIRE."""
        self._back_to_fire()
        self._record()
        self.ended = self.steps >= self._settings.steps

    def fail(self, error: Exception) -> None:
        """End with the best structure met, since the one that stands could not be evaluated."""
        self.failure = error
        self.stop()

    def stop(self) -> None:
        """End here, with the best structure met."""
        self.ended = True
        if self._best is not None:
            self._restore_best()

    def _runs_away(self) -> bool:
        """Whether the cell has left all volumes that a minimum can have."""
        if self._settings.cell == "fixed":
            return False
        smallest, largest = self._limits
        volume = self._volume()
        if smallest <= volume <= largest:
            return False
        what = "shrank below a tenth of its atoms' volume" if volume < smallest else "grew to 64 times its volume"
        self.ran_away = f"the cell {what} in step {self.steps}"
        return True

    def _stepped(self) -> bool:
        """Whether the optimizer moved the structure to a place that makes sense."""
        if self.optimizers[-1] == "lbfgs":
            self._mind_curvature()
        try:
            with np.errstate(all="ignore"):
                self._optimizer.step()
        except NotDeliveredError:
            raise
        except (ValueError, RuntimeError, ArithmeticError, np.linalg.LinAlgError):
            return False  # a strain without a logarithm, or one that ASE's FixSymmetry refuses
        return bool(np.isfinite(self.atoms.positions).all() and np.isfinite(self.atoms.cell.array).all())

    def _mind_curvature(self) -> None:
        """Begin L-BFGS anew where the energy curves downwards along its last step: it would climb to the saddle.

        The first step then goes along the forces, twice as far as the last one, until the curvature is positive.
        """
        x, force = self._target.get_positions(), self._target.get_forces()
        last, self._last = self._last, (x, force)
        if last is None:
            return
        step, gain = x - last[0], force - last[1]
        length = np.linalg.norm(step, axis=1).max()
        if length > 0 and float(np.vdot(gain, step)) >= 0:
            self._new_lbfgs(min(_STIFFNESS, float(np.linalg.norm(force, axis=1).max() / (2 * length))))
            self._downwards = True
        elif self._downwards:
            self._new_lbfgs(_STIFFNESS)

    def _astray(self) -> bool:
        rise = self.energies[-1] - self._lowest
        return rise > _RISE * len(self.atoms) or self.steps - self._best_at > _PATIENCE

    def _excess(self) -> float:
        """The largest of force and stress in units of what is asked for: at most 1 is converged."""
        stress = 0.0 if self.max_stress is None else self.max_stress / self._settings.smax
        return max(self.max_force / self._settings.fmax, stress)

    def _read(self, result: Evaluated) -> None:
        self._box.deliver(self.atoms, result)
        self.energy = result.energy
        self.forces: Array = self.atoms.get_forces()
        self.max_force = float(np.linalg.norm(self.forces, axis=1).max())
        self.stress: Array | None = None
        self.max_stress: float | None = None
        if self._settings.cell != "fixed":
            self.stress = np.array(self.atoms.get_stress())
            excess = self.stress + self._settings.pressure * np.array([1, 1, 1, 0, 0, 0])
            if self._settings.cell == "isotropic":
                self.max_stress = abs(float(excess[:3].mean()))
            else:
                if self._settings.cell == "shape":
                    excess[:3] -= excess[:3].mean()
                self.max_stress = float(np.abs(excess * _MASKS[self._settings.cell]).max())

    def _record(self) -> None:
        self.energies.append(self.energy + self._settings.pressure * self._volume())
        self.max_forces.append(self.max_force)
        if self.max_stress is not None:
            self.max_stresses.append(self.max_stress)

    def _back_to_fire(self) -> None:
        self._restore_best()
        self._start("fire")

    def _restore_best(self) -> None:
        if self._best is None:
            raise RuntimeError("no structure was evaluated yet")
        self.atoms.set_cell(self._best.cell, apply_constraint=False)
        self.atoms.set_positions(self._best.positions, apply_constraint=False)
        self._read(self._best.result)

    def _start(self, optimizer: str) -> None:
        from ase.optimize import FIRE

        self.optimizers.append(optimizer)
        self._target: Any = self.atoms if self._settings.cell == "fixed" else self._filter()
        self._maxstep = _MAXSTEP if self._settings.cell == "fixed" else min(_MAXSTEP, _MAXSTRAIN * len(self.atoms))
        if optimizer == "lbfgs":
            self._last = None
            self._new_lbfgs(_STIFFNESS)
        else:
            silent: Any = None
            self._optimizer: Any = FIRE(self._target, logfile=silent, maxstep=self._maxstep / 2)

    def _new_lbfgs(self, stiffness: float) -> None:
        from ase.optimize import LBFGS

        silent: Any = None
        self._optimizer = LBFGS(self._target, logfile=silent, maxstep=self._maxstep, alpha=stiffness)
        self._downwards = False

    def _filter(self) -> Any:
        cell = self._settings.cell
        return CellFilter(
            self.atoms,
            mask=_MASKS[cell],
            hydrostatic_strain=cell == "isotropic",
            constant_volume=cell == "shape",
            scalar_pressure=self._settings.pressure,
        )

    def _volume(self) -> float:
        return float(abs(np.linalg.det(self.atoms.cell.array))) if self._settings.cell != "fixed" else 0.0


def _volume_limits(atoms: Atoms) -> tuple[float, float]:
    """Å^3: a tenth of the volume of spheres of covalent radii, and 64 times the cell's, or what holds the start."""
    start = float(abs(np.linalg.det(atoms.cell.array)))
    spheres = float((4 / 3 * np.pi * covalent_radii[atoms.numbers] ** 3).sum())
    return min(_TINY * spheres, start / 2), _HUGE * start
