"""Parts for ASE's optimizers: a calculator given its results, the filter of cells, the constraint of symmetry."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.constraints import FixAtoms
from ase.filters import FrechetCellFilter
from numpy.typing import NDArray

from mlcalc.ground.errors import Use
from mlcalc.ground.remedies import NO_CONSTRAINTS

from ..errors import ConfigError
from ..evaluator import Evaluated


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


Array = NDArray[np.float64]


class CellFilter(FrechetCellFilter):
    """ASE's filter, whose matrix functions take milliseconds, asked once for each structure."""

    _known: dict[str, tuple[bytes, Array]]

    def __init__(self, atoms: Atoms, **settings: Any) -> None:
        self._known = {}
        super().__init__(atoms, **settings)  # type: ignore[no-untyped-call]

    def get_positions(self) -> Array:
        return self._remembered("positions", super().get_positions)

    def get_forces(self, **keywords: Any) -> Array:
        return self._remembered("forces", partial(super().get_forces, **keywords))

    def _remembered(self, name: str, compute: Callable[[], Array]) -> Array:
        key = self.atoms.positions.tobytes() + self.atoms.cell.array.tobytes()
        if name not in self._known or self._known[name][0] != key:
            with warnings.catch_warnings():  # large strains, which the walk minds itself
                warnings.filterwarnings("ignore", "logm result may be inaccurate", RuntimeWarning)
                self._known[name] = key, compute()
        return self._known[name][1].copy()


def keep_symmetry(atoms: Atoms, tolerance: float) -> None:
    """Bring the structure onto the space group it has within the tolerance (Å), and add the constraint that keeps it.

    Raises ConfigError for structures that are not periodic, and for constraints that the symmetry does not respect.
    """
    from ase.constraints import FixSymmetry

    if not atoms.pbc.all():
        raise ConfigError(
            f"keep_symmetry is for structures periodic in all directions, this one has pbc={atoms.pbc.tolist()}: the "
            "symmetry of molecules is not kept",
            setting="keep_symmetry",
            value=True,
            remedies=[Use("keep_symmetry", False)],
        )
    others = list(atoms.constraints)
    atoms.set_constraint()  # or fixed atoms would not take part in the refinement
    symmetry = FixSymmetry(atoms, symprec=tolerance)
    for constraint in others:
        if not isinstance(constraint, FixAtoms):
            raise ConfigError(
                f"keep_symmetry goes with FixAtoms only, and the structure has a {type(constraint).__name__}",
                setting="keep_symmetry",
                value=True,
                remedies=[NO_CONSTRAINTS, Use("keep_symmetry", False)],
            )
        fixed = np.unique(constraint.get_indices())
        if not all(np.isin(np.asarray(images)[fixed], fixed).all() for images in symmetry.symm_map):
            raise ConfigError(
                "keep_symmetry would move fixed atoms: the symmetry takes them to atoms that are free",
                setting="keep_symmetry",
                value=True,
                remedies=["fix all equivalent atoms", Use("keep_symmetry", False)],
            )
    atoms.set_constraint([*others, symmetry])
