"""What the computations of defects share: relaxations to one target, displacements that break the symmetry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ase import Atoms

from .. import checks
from ..evaluator import Evaluate
from ..relaxation.outcome import Relaxation
from ..relaxation.relax import relax_many


@dataclass(frozen=True, kw_only=True)
class DefectSettings:
    """How defects are relaxed; ConfigError for a setting out of its range."""

    fmax: float  # eV/Å
    steps: int
    symprec: float  # Å
    require: bool  # whether an unconverged relaxation is an error

    def __post_init__(self) -> None:
        checks.number("fmax", self.fmax, above=0.0, hint=" eV/Å")
        checks.whole("steps", self.steps, at_least=0)
        checks.number("symprec", self.symprec, above=0.0, hint=" Å")

    def relaxed_all(
        self,
        starts: Sequence[Atoms],
        names: Sequence[str],
        *,
        evaluate: Evaluate | None,
        progress: bool | None,
        cell: str = "fixed",
        smax: float = 1e-6,
    ) -> list[Relaxation]:
        """All structures relaxed together."""
        return relax_many(
            starts,
            fmax=self.fmax,
            smax=smax,
            cell=cell,
            steps=self.steps,
            require=self.require,
            evaluate=evaluate,
            names=names,
            progress=progress,
        )


@dataclass(frozen=True, kw_only=True)
class RattledSettings(DefectSettings):
    """How vacancies are relaxed, from displacements at random."""

    rattle: float  # Å
    seed: int

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.number("rattle", self.rattle, at_least=0.0, hint=" Å")
        checks.whole("seed", self.seed, at_least=0)
