"""One structure on its way to a minimum: ASE's optimizers, cell filters and constraints, moved step by step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from .errors import ConfigError
from .evaluations import Evaluated
from .lockstep import Mailbox

CELLS = ("fixed", "full", "isotropic", "in-plane")
OPTIMIZERS = ("lbfgs", "fire")
_MASKS = {"full": [1, 1, 1, 1, 1, 1], "isotropic": [1, 1, 1, 0, 0, 0], "in-plane": [1, 1, 0, 0, 0, 1]}
_PATIENCE = 60  # steps of L-BFGS without a new best before FIRE takes over
_RISE = 0.5  # eV per atom above the best, at which L-BFGS has gone astray
_MAXSTEP = 0.2  # Å

Array = NDArray[np.float64]


@dataclass(frozen=True)
class WalkSettings:
    """What all structures of a relaxation share, in ASE's units."""

    fmax: float  # eV/Å
    smax: float  # eV/Å^3
    cell: str
    pressure: float  # eV/Å^3
    symprec: float | None  # Å; None: the symmetry is left to itself
    optimizer: str
    steps: int


class Walk:
    """A copy of a structure under an optimizer, which `arrive` tells what was evaluated and `move` lets go on."""

    def __init__(self, atoms: Atoms, settings: WalkSettings) -> None:
        self.atoms = atoms.copy()
        self._settings = settings
        self._box = Mailbox()
        self.atoms.calc = self._box
        if settings.cell == "in-plane":
            _check_slab(atoms)
        if settings.symprec is not None:
            self.atoms.set_constraint([*self.atoms.constraints, _symmetry(atoms, settings.symprec)])
        self.optimizers: list[str] = []
        self._start("lbfgs" if settings.optimizer == "auto" else settings.optimizer)
        self.steps = 0
        self.energies: list[float] = []  # eV, enthalpies
        self.max_forces: list[float] = []
        self.max_stresses: list[float] = []
        self._best: tuple[float, Atoms, Evaluated] | None = None
        self._best_at = 0
        self._lowest = math.inf
        self.converged = False

    @property
    def ended(self) -> bool:
        return self.converged or self.steps >= self._settings.steps

    @property
    def can_go_back(self) -> bool:
        """Whether there is a better structure, and an optimizer left that takes smaller steps."""
        return self._settings.optimizer == "auto" and self.optimizers[-1] == "lbfgs" and self._best is not None

    def arrive(self, result: Evaluated) -> None:
        """Take in what was evaluated for the structure as it stands now; at the end restore the best one."""
        self._read(result)
        self.energies.append(result.energy + self._settings.pressure * self._volume())
        self.max_forces.append(self.max_force)
        if self.max_stress is not None:
            self.max_stresses.append(self.max_stress)
        excess = self._excess()
        self.converged = excess <= 1.0
        if self._best is None or excess < self._best[0]:
            self._best = excess, self.atoms.copy(), result
            self._best_at = self.steps
        if self.energies[-1] < self._lowest - 1e-9:
            self._lowest = self.energies[-1]
            self._best_at = self.steps
        if self.ended and not self.converged:
            self._restore_best()

    def move(self) -> None:
        """One step of the optimizer, from the structure that arrived last."""
        if self.can_go_back and self._astray():
            self.go_back()
        else:
            self._optimizer.step()
            self.steps += 1

    def go_back(self) -> None:
        """Begin again at the best structure met, with FIRE."""
        self._restore_best()
        self._start("fire")
        self._optimizer.step()
        self.steps += 1

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
                self.max_stress = float(np.abs(excess * _MASKS[self._settings.cell]).max())

    def _restore_best(self) -> None:
        if self._best is None:
            raise RuntimeError("no structure was evaluated yet")
        _, atoms, result = self._best
        self.atoms.set_cell(atoms.cell, apply_constraint=False)
        self.atoms.set_positions(atoms.positions, apply_constraint=False)
        self._read(result)

    def _start(self, optimizer: str) -> None:
        from ase.optimize import FIRE, LBFGS

        self.optimizers.append(optimizer)
        target: Any = self.atoms
        silent: Any = None
        if self._settings.cell != "fixed":
            target = self._filter()
        if optimizer == "lbfgs":
            self._optimizer = LBFGS(target, logfile=silent, maxstep=_MAXSTEP)
        else:
            self._optimizer = FIRE(target, logfile=silent, maxstep=_MAXSTEP / 2)

    def _filter(self) -> Any:
        from ase.filters import FrechetCellFilter

        cell = self._settings.cell
        return FrechetCellFilter(
            self.atoms,
            mask=_MASKS[cell],
            hydrostatic_strain=cell == "isotropic",
            scalar_pressure=self._settings.pressure,
        )

    def _volume(self) -> float:
        return float(abs(np.linalg.det(self.atoms.cell.array))) if self._settings.cell != "fixed" else 0.0


def _symmetry(atoms: Atoms, symprec: float) -> Any:
    """ASE's constraint that keeps the space group."""
    from ase.constraints import FixSymmetry

    if not atoms.pbc.all():
        raise ConfigError(
            f"keep_symmetry is for structures periodic in all directions, this one has pbc={atoms.pbc.tolist()}: the "
            "symmetry of molecules is not kept"
        )
    return FixSymmetry(atoms, symprec=symprec)


def _check_slab(atoms: Atoms) -> None:
    """ConfigError unless the slab's normal is z."""
    cell = atoms.cell.array
    scale = float(np.abs(cell).max())
    if max(abs(cell[0, 2]), abs(cell[1, 2]), abs(cell[2, 0]), abs(cell[2, 1])) > 1e-6 * scale:
        raise ConfigError(
            f"cell='in-plane' is for slabs with two cell vectors in the xy-plane and the third along z, this one has "
            f"{cell.tolist()}: rotate it, for example with ase.build.rotate"
        )
