"""What the workers of a cluster do: one calculator each, kept, and chunks of structures."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from ase import Atoms

from mlcalc.calculator import MLCalculator
from mlcalc.engine.batches import Batches
from mlcalc.errors import NonFiniteResultError, OutOfMemoryError, StructureError
from mlcalc.evaluation import Evaluation, evaluate_batches
from mlcalc.md_protocols.errors import PhysicsWarning

__all__ = ["Chunk", "Factory", "Outcome", "Work"]

_KEPT = 2  # calculators, for runs that go back and forth between two models
_calculators: dict[Factory, MLCalculator] = {}
# One chunk at a time per process, however many threads its worker has: warnings are caught for the whole process.
_turn = threading.Lock()


class Factory(Protocol):
    """Makes a calculator on a worker, as CalculatorFactory does; hashable."""

    def __call__(self) -> MLCalculator:
        """A new calculator."""
        ...

    def describe(self) -> dict[str, Any]:
        """What the numbers depend on, as JSON values."""
        ...


@dataclass(frozen=True, eq=False)
class Chunk:
    """Some structures of a list, and their places in it."""

    places: tuple[int, ...]
    structures: tuple[Atoms, ...]

    @classmethod
    def of(cls, places: Sequence[int], structures: Sequence[Atoms]) -> Chunk:
        """Structures stripped of calculators, constraints and everything else that a model does not see."""
        return cls(tuple(places), tuple(_stripped(structures[place]) for place in places))

    def split(self, parts: int) -> list[Chunk]:
        """The chunk in so many parts, or in single structures where it has fewer."""
        length = -(-len(self.places) // parts)
        starts = range(0, len(self.places), length)
        return [Chunk(self.places[k : k + length], self.structures[k : k + length]) for k in starts]


@dataclass(frozen=True, eq=False)
class Outcome:
    """What became of a chunk, by places in the list."""

    results: dict[int, Evaluation] = field(default_factory=dict)
    failures: dict[int, Exception] = field(default_factory=dict)
    cautions: tuple[PhysicsWarning, ...] = ()  # which a worker's own stderr would hide


@dataclass(frozen=True)
class Work:
    """What is asked of every structure."""

    factory: Factory
    forces: bool
    stress: bool

    def __call__(self, chunk: Chunk) -> Outcome:
        """The outcome of the chunk: errors of single structures are part of it, others are raised."""
        with _turn, warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always", PhysicsWarning)
            results, failures = self._evaluated(_calculator(self.factory), chunk)
        cautions = tuple(one.message for one in told if isinstance(one.message, PhysicsWarning))
        return Outcome(results, failures, cautions)

    def _evaluated(self, calculator: MLCalculator, chunk: Chunk) -> tuple[dict[int, Evaluation], dict[int, Exception]]:
        neighbors = calculator.neighbors
        limit = neighbors.max_edges
        # not the calculator's own batches: what these have warned of, they would not tell the next run
        batches = Batches(calculator.engine, None, neighbors.backend, calculator.min_distance, limit or 2**62)

        def evaluated(places: Sequence[int], structures: Sequence[Atoms]) -> list[Evaluation]:
            names = [f"structure {place}" for place in places]
            return evaluate_batches(
                calculator.engine, batches, structures, forces=self.forces, stress=self.stress, names=names
            )

        return _each_or_all(evaluated, chunk)


def _each_or_all(
    evaluated: Callable[[Sequence[int], Sequence[Atoms]], list[Evaluation]], chunk: Chunk
) -> tuple[dict[int, Evaluation], dict[int, Exception]]:
    """Results and errors: all structures at once, or one by one where that fails."""
    failing = (StructureError, NonFiniteResultError, OutOfMemoryError)
    results: dict[int, Evaluation] = {}
    failures: dict[int, Exception] = {}
    try:
        return dict(zip(chunk.places, evaluated(chunk.places, chunk.structures), strict=True)), failures
    except failing as error:
        if len(chunk.places) == 1:
            return results, {chunk.places[0]: error}
    for place, atoms in zip(chunk.places, chunk.structures, strict=True):
        try:
            results[place] = evaluated([place], [atoms])[0]
        except failing as error:
            failures[place] = error
    return results, failures


def _calculator(factory: Factory) -> MLCalculator:
    """The calculator of this process, made when it is first asked for."""
    if factory not in _calculators:
        while len(_calculators) >= _KEPT:
            del _calculators[next(iter(_calculators))]
        _calculators[factory] = factory()
    return _calculators[factory]


def _stripped(atoms: Atoms) -> Atoms:
    bare = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell.array, pbc=atoms.pbc)
    if "momenta" in atoms.arrays:  # their being finite is checked as everywhere
        bare.arrays["momenta"] = atoms.arrays["momenta"].copy()
    return bare
