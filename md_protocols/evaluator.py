"""Energies, forces and stresses of many structures: in batches where the calculator offers them, else one by one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlcalc.ground.errors import MLCalcError, Use

from .checks import listed
from .errors import CalculatorError, ConfigError, EvaluationError

Array = NDArray[np.float64]
_CHECK = "check the structure and the potential"
Evaluate = Callable[[list[Atoms]], Sequence[Any]]  # results with .energy, .forces and, where needed, .stress


@dataclass(frozen=True, eq=False)
class Evaluated:
    """What a calculator says of one structure; all of it is finite.  Forces and stress are raw, without constraints."""

    energy: float  # eV
    forces: Array  # (N, 3) eV/Å
    stress: Array | None  # (6,) eV/Å^3, ASE's sign and Voigt order; None where it was not asked for


class Evaluator:
    """Calls a calculator on lists of structures, with the checks that every protocol needs.

    A calculator with a method `evaluate(structures, *, forces, stress)` that returns objects with `.energy`, `.forces`
    and `.stress` (as MLCalculator has) gets each list whole; any other is asked one structure after the other.
    evaluate: a callable from a list of structures to such objects, used instead.
    Whatever else than this package's errors they raise becomes an EvaluationError with the name of the structure, for
    which a batch that failed is evaluated one by one.
    """

    def __init__(self, calculator: Any, evaluate: Evaluate | None = None) -> None:
        self.calculator = calculator
        self._evaluate = evaluate
        self._offered = evaluate is None and getattr(calculator, "evaluate", None) is not None
        self.calls = 0  # structures evaluated so far

    @property
    def batched(self) -> bool:
        """Whether lists are handed over whole."""
        return self._evaluate is not None or self._offered

    @property
    def float32(self) -> bool:
        """Whether the calculator says of itself that it works in single precision."""
        return getattr(self.calculator, "dtype", None) == "float32"

    def __call__(
        self, structures: Sequence[Atoms], *, stress: bool = False, names: Sequence[str] | None = None
    ) -> list[Evaluated]:
        """One result per structure, in order; EvaluationError, with the structure's name, for what is no number."""
        if not structures:
            return []
        names = [f"structure {k}" for k in range(len(structures))] if names is None else names
        found = self._results(list(structures), stress, names)
        if len(found) != len(structures):
            raise EvaluationError(f"evaluate returned {len(found)} results for {len(structures)} structures")
        self.calls += len(structures)
        return [
            _checked(result, atoms, name, stress) for result, atoms, name in zip(found, structures, names, strict=True)
        ]

    def one(self, atoms: Atoms, *, stress: bool = False, name: str = "the structure") -> Evaluated:
        """The result of a single structure."""
        return self([atoms], stress=stress, names=[name])[0]

    def _results(self, structures: list[Atoms], stress: bool, names: Sequence[str]) -> Sequence[Any]:
        if not self.batched:
            return [self._named(atoms, stress, name) for atoms, name in zip(structures, names, strict=True)]
        try:
            return self._batch(structures, stress)
        except Exception as error:
            if isinstance(error, MLCalcError):
                raise
            if len(structures) == 1:
                raise _failure(error, names[0]) from error
        # Which one is it?
        return [
            result
            for atoms, name in zip(structures, names, strict=True)
            for result in self._results([atoms], stress, [name])
        ]

    def _batch(self, structures: list[Atoms], stress: bool) -> Sequence[Any]:
        if self._evaluate is not None:
            return self._evaluate(structures)
        found: Sequence[Any] = self.calculator.evaluate(structures, forces=True, stress=stress)
        return found

    def _named(self, atoms: Atoms, stress: bool, name: str) -> Evaluated:
        try:
            return self._asked(atoms, stress)
        except Exception as error:
            if isinstance(error, MLCalcError):
                raise
            raise _failure(error, name) from error

    def _asked(self, atoms: Atoms, stress: bool) -> Evaluated:
        copy = atoms.copy()
        copy.calc = self.calculator
        return Evaluated(
            copy.get_potential_energy(),
            copy.get_forces(apply_constraint=False),
            copy.get_stress(apply_constraint=False) if stress else None,
        )


def _failure(error: Exception, name: str) -> EvaluationError:
    kind = EvaluationError if isinstance(error, ValueError | ArithmeticError) else CalculatorError
    return kind(
        f"{name}: {error or 'no reason given'} ({type(error).__name__} of the calculator)",
        remedies=["check the structure and the calculator"],
    )


def _checked(result: Any, atoms: Atoms, name: str, stress: bool) -> Evaluated:
    if result.energy is None or result.forces is None or (stress and result.stress is None):
        lacking = "energy" if result.energy is None else "forces" if result.forces is None else "stress"
        raise EvaluationError(
            f"{name}: the calculator gave no {lacking}", value=lacking, remedies=["choose a calculator that has it"]
        )
    energy, forces = float(result.energy), np.asarray(result.forces, dtype=float)
    tensor = None if not stress else np.asarray(result.stress, dtype=float)
    if (
        forces.shape == (len(atoms), 3)
        and math.isfinite(energy + squared(forces))
        and (tensor is None or (tensor.shape == (6,) and math.isfinite(squared(tensor))))
    ):
        return Evaluated(energy, forces, tensor)
    _refuse(energy, forces, tensor, atoms, name)
    return Evaluated(energy, forces, tensor)  # of large, finite numbers, whose squares are not


def squared(values: Array) -> float:
    """The sum of the squares: where it is finite so are all values, and it is had several times faster."""
    return float(np.vdot(values, values))


def _refuse(energy: float, forces: Array, tensor: Array | None, atoms: Atoms, name: str) -> None:
    """EvaluationError for what is no number or has another shape."""
    if forces.shape != (len(atoms), 3):
        raise EvaluationError(f"{name}: forces have the shape {forces.shape}, expected {(len(atoms), 3)}")
    if not math.isfinite(energy):
        raise EvaluationError(f"{name}: the energy is {energy}", value=energy, remedies=[_CHECK])
    bad = np.flatnonzero(~np.isfinite(forces).all(axis=1)).tolist()
    if bad:
        raise EvaluationError(
            f"{name}: the forces on {len(bad)} of {len(atoms)} atoms are not finite "
            f"({listed(bad, atoms.get_chemical_symbols())})",
            value=bad,
            remedies=[_CHECK],
        )
    if tensor is not None and (tensor.shape != (6,) or not np.isfinite(tensor).all()):
        raise EvaluationError(f"{name}: the stress is {tensor.tolist()}, expected six finite numbers, eV/Å^3")


def refuse_float32(evaluator: Evaluator, what: str, allow: bool) -> None:
    """ConfigError where second derivatives would be rounding noise."""
    if evaluator.float32 and not allow:
        raise ConfigError(
            f"{what} are differences of forces, which single precision rounds at 1e-5 eV/Å",
            setting="dtype",
            value="float32",
            limit="float64",
            remedies=[
                Use("dtype", "float64", python="take a calculator in float64, MLCalculator(..., dtype='float64')"),
                Use("allow_float32", True, "with larger displacements"),
            ],
        )
