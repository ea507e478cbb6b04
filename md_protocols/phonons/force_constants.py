"""Force constants from displaced forces, and their sum rules."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .. import checks
from ..errors import ConfigError
from .sum_rules import enforced, rotational_violation

if TYPE_CHECKING:
    from phonopy import Phonopy

Array = NDArray[np.float64]
SOLVERS = ("traditional", "symfc")


@dataclass(frozen=True, eq=False, repr=False)
class Provenance:
    """Where force constants come from and what was done with them; the fields are those of `PhononDispersion`."""

    asr_residual: float | None = None  # eV/Å^2; None: that of the force constants given
    asr_residual_after: float | None = None  # eV/Å^2
    symmetrized: bool = False
    rotational: bool = False
    rotational_violation: dict[str, float] | None = None
    residual_force: float | None = None  # eV/Å
    residual_stress: float | None = None  # eV/Å^3
    displacement: float | None = None  # Å
    n_displacements: int = 0
    displaced_atoms: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    displacements: Array = field(default_factory=lambda: np.empty((0, 3)))  # Å
    forces: Array = field(default_factory=lambda: np.empty((0, 0, 3)))  # eV/Å
    cautions: tuple[str, ...] = ()

    def __repr__(self) -> str:
        step = "" if self.displacement is None else f" of {self.displacement:g} Å"
        kept = "symmetrized" if self.symmetrized else "not symmetrized"
        return f"<Provenance: {self.n_displacements} displacements{step}, {kept}, {len(self.cautions)} cautions>"


def full_force_constants(phonon: Phonopy) -> Array:
    """(N, N, 3, 3) eV/Å^2 of all atoms of the supercell, whichever form phonopy holds."""
    from phonopy.harmonic.force_constants import compact_fc_to_full_fc

    constants = np.array(phonon.force_constants, dtype=float, order="C")
    if constants.shape[0] != constants.shape[1]:
        constants = np.array(compact_fc_to_full_fc(phonon.primitive, constants), dtype=float)
    return constants


def translational_residual(constants: Array) -> float:
    """Largest |sum_j Phi_ij| in eV/Å^2: zero where moving the whole crystal costs nothing (acoustic sum rule)."""
    return float(max(np.abs(constants.sum(axis=1)).max(), np.abs(constants.sum(axis=0)).max()))


def force_constants_from(
    phonon: Phonopy,
    forces: Array,
    *,
    symmetrize: bool = True,
    fc_calculator: str | None = None,
    rotational: bool = False,
    dimensions: int = 3,
) -> Provenance:
    """Give the Phonopy object the force constants of its displacements' forces (D, N, 3), and tell what was done.

    ConfigError where there are not as many sets of forces as displacements.
    """
    count, atoms = len(phonon.supercells_with_displacements or ()), len(phonon.supercell)
    if forces.shape != (count, atoms, 3):
        raise ConfigError(
            f"the forces have the shape {forces.shape}: there are {count} displacements of {atoms} atoms, so it must "
            f"be {(count, atoms, 3)}; a set of forces is missing or belongs to another supercell"
        )
    solver: Any = None if fc_calculator is None else checks.choice("fc_calculator", fc_calculator, SOLVERS)
    phonon.forces = forces
    with symfc_recursion():
        phonon.produce_force_constants(fc_calculator=solver, show_drift=False)
    before = translational_residual(full_force_constants(phonon))
    if symmetrize:
        phonon.symmetrize_force_constants(show_drift=False)
    if rotational:
        phonon.force_constants = enforced(phonon)
    violation = rotational_violation(phonon) if dimensions == 2 or rotational else None
    constants = full_force_constants(phonon)
    dataset: Any = phonon.dataset
    first = dataset.get("first_atoms")
    return Provenance(
        asr_residual=before,
        asr_residual_after=translational_residual(constants),
        symmetrized=bool(symmetrize),
        rotational=bool(rotational),
        rotational_violation=violation,
        n_displacements=count,
        displaced_atoms=np.array([] if first is None else [entry["number"] for entry in first], dtype=np.int64),
        displacements=np.array(
            dataset["displacements"] if first is None else [entry["displacement"] for entry in first], dtype=float
        ),
        forces=np.array(forces, dtype=float),
    )


_SYMFC = 100_000  # what its import sets, for its walks through trees of blocks
_lock = threading.Lock()
_before: list[int] = []  # the limit that each call inside found; the first one's is the process's own


@contextmanager
def symfc_recursion() -> Iterator[None]:
    """Leaves sys.getrecursionlimit() as it was: importing symfc raises it, once, for the whole process.

    Beyond the usual limit a deeply nested JSON text ends the interpreter, where it should raise RecursionError.  Where
    several threads are inside, the last one to leave takes it back.
    """
    with _lock:
        _before.append(sys.getrecursionlimit())
        sys.setrecursionlimit(max(_before[0], _SYMFC))
    try:
        yield
    finally:
        with _lock:
            found = _before[0]
            _before.pop()
            if not _before:
                sys.setrecursionlimit(found)
