"""ASE's optimizers, many at a time: each moves when the energies and forces of all have come in one batch."""

from __future__ import annotations

from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

from .evaluations import Evaluated


class NotDeliveredError(RuntimeError):
    """An optimizer that asked for a structure that was not evaluated: a fault of the program."""


class Mailbox(Calculator):
    """Hands out what was delivered for exactly this structure, and refuses to compute anything itself.

    So an optimizer that asked for more than one evaluation per step would be an error, not a wrong number.
    """

    implemented_properties = ["energy", "free_energy", "forces", "stress"]  # noqa: RUF012 - as in ASE

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._delivered: dict[str, Any] = {}
        self._structure: Atoms | None = None

    def deliver(self, atoms: Atoms, result: Evaluated) -> None:
        """Results for this structure, served until it moves."""
        self._structure = Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        self._delivered = {"energy": result.energy, "free_energy": result.energy, "forces": result.forces.copy()}
        if result.stress is not None:
            self._delivered["stress"] = result.stress.copy()
        self.results = {}  # ASE would go on serving an earlier delivery for the same positions

    def calculate(
        self, atoms: Atoms | None = None, properties: Any = ("energy",), system_changes: Any = all_changes
    ) -> None:
        super().calculate(atoms, properties, system_changes)  # type: ignore[no-untyped-call]
        there = self._structure
        if (
            there is None
            or self.atoms is None
            or not np.array_equal(there.numbers, self.atoms.numbers)
            or not np.array_equal(there.positions, self.atoms.positions)
            or not np.array_equal(there.cell.array, self.atoms.cell.array)
        ):
            raise NotDeliveredError("an optimizer asked for a structure that was not evaluated")
        self.results = dict(self._delivered)
