"""The geometries of a shard: minima and the ways to them, dynamics, normal modes, distortions, approaches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from training.organic.connectivity import RELAXED
from training.organic.distortions import rattled, stretched, turned
from training.organic.dynamics import sample
from training.organic.frames import Evaluate, Geometry, join
from training.organic.modes import displaced, hessians
from training.organic.recipes import System
from training.organic.relaxation import relax

_RELAXATION = (0, 6, 40)  # steps after which frames are taken
_TEMPERATURES = (300.0, 300.0, 300.0, 400.0, 500.0, 600.0, 800.0, 1000.0)  # K, of single molecules
_COMPLEX_TEMPERATURES = (200.0, 300.0, 300.0, 400.0, 500.0)  # K
_SAMPLES = 5
_MODES = 3  # displacements by heat, and as many with zero-point motion
_TORSIONS, _STRETCHES, _RATTLES = 3, 3, 2
_SAME = 0.05  # Å; minima whose sorted interatomic distances differ by less are one


@dataclass
class Harvest:
    """Geometries collected so far, of which system and of which kind each."""

    systems: Sequence[System]
    geometries: list[Geometry] = field(default_factory=list)
    owners: list[int] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)

    def add(self, owner: int, kind: str, positions: NDArray[np.float64]) -> None:
        """Keep a geometry unless its atoms are bonded otherwise than those of the molecule."""
        system = self.systems[owner]
        if np.isfinite(positions).all() and system.bonds.holds(positions):
            self.geometries.append((system.numbers, positions))
            self.owners.append(owner)
            self.kinds.append(kind)


def harvest(systems: Sequence[System], evaluate: Evaluate, rng: np.random.Generator) -> Harvest:
    """All geometries of the systems; those whose molecules do not survive relaxation have approaches at most."""
    found = Harvest(systems)
    minima = _minima(found, evaluate)
    _add_dynamics(found, minima, evaluate, rng)
    singles = [k for k, system in enumerate(systems) if not system.approaches and minima[k]]
    _add_modes(found, singles, minima, evaluate, rng)
    for k in singles:
        _add_distortions(found, k, minima[k], rng)
    for k, system in enumerate(systems):
        for positions in system.approaches:
            found.add(k, "approach", positions)
    return found


def _minima(found: Harvest, evaluate: Evaluate) -> list[list[NDArray[np.float64]]]:
    """Loosely relaxed geometries of each system that kept their bonds; frames on the way are harvested once each."""
    starts = [(k, start) for k, system in enumerate(found.systems) for start in system.starts]
    minima: list[list[NDArray[np.float64]]] = [[] for _ in found.systems]
    if not starts:
        return minima
    frames = join((found.systems[k].numbers, start) for k, start in starts)
    kept = relax(evaluate, frames, _RELAXATION[-1], _RELAXATION)
    fingerprints: list[list[NDArray[np.float64]]] = [[] for _ in found.systems]
    for place, (k, _) in enumerate(starts):
        first, middle, last = (kept[step][frames.atoms_of(place)] for step in _RELAXATION)
        if not found.systems[k].bonds.holds(last, RELAXED):
            continue
        minima[k].append(last)
        fingerprint = _fingerprint(last)
        if all(np.abs(fingerprint - other).max() > _SAME for other in fingerprints[k]):
            fingerprints[k].append(fingerprint)
            found.add(k, "relaxation", first)
            found.add(k, "relaxation", middle)
            found.add(k, "minimum", last)
    return minima


def _fingerprint(positions: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.sort(np.linalg.norm(positions[:, None] - positions[None], axis=-1).ravel())


def _add_dynamics(
    found: Harvest, minima: list[list[NDArray[np.float64]]], evaluate: Evaluate, rng: np.random.Generator
) -> None:
    replicas = [
        (k, _off_minimum(found.systems[k], positions, rng)) for k, several in enumerate(minima) for positions in several
    ]
    if not replicas:
        return
    frames = join((found.systems[k].numbers, positions) for k, positions in replicas)
    temperatures = np.array(
        [rng.choice(_COMPLEX_TEMPERATURES if found.systems[k].approaches else _TEMPERATURES) for k, _ in replicas]
    )
    taken = sample(evaluate, frames, temperatures, equilibration=26, spacing=16, samples=_SAMPLES, rng=rng)
    for positions in taken:
        for place, (k, _) in enumerate(replicas):
            found.add(k, "dynamics", positions[frames.atoms_of(place)])


def _off_minimum(system: System, positions: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Half of the single molecules begin with turned torsions, which short dynamics would not reach."""
    if system.approaches or rng.random() < 0.5:
        return positions
    other = turned(system.molecule, positions, rng)
    return other if system.bonds.holds(other, RELAXED) and system.bonds.at_ease(other) else positions


def _add_modes(
    found: Harvest,
    singles: Sequence[int],
    minima: list[list[NDArray[np.float64]]],
    evaluate: Evaluate,
    rng: np.random.Generator,
) -> None:
    geometries = [(found.systems[k].numbers, minima[k][0]) for k in singles]
    if not geometries:
        return
    for k, geometry, hessian in zip(singles, geometries, hessians(evaluate, geometries), strict=True):
        for _ in range(_MODES):
            found.add(k, "modes", displaced(geometry, hessian, rng.uniform(300, 1000), rng, quantum=False))
            found.add(k, "modes", displaced(geometry, hessian, 300.0, rng, quantum=True))


def _add_distortions(found: Harvest, k: int, minima: list[NDArray[np.float64]], rng: np.random.Generator) -> None:
    molecule = found.systems[k].molecule

    def start() -> NDArray[np.float64]:
        return rattled(minima[rng.integers(len(minima))], 0.02, rng)

    for _ in range(_TORSIONS):
        found.add(k, "torsion", turned(molecule, start(), rng))
    for _ in range(_STRETCHES):
        found.add(k, "stretch", stretched(molecule, start(), rng))
    for _ in range(_RATTLES):
        found.add(k, "rattle", rattled(start(), rng.uniform(0.02, 0.08), rng))
