"""The structures that are timed: all built here, none from licensed data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.build import bulk, molecule, mx2
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from benchmarks.peptide import peptide
from examples.aspirin_environments import ASPIRIN

VOLUME_PER_WATER = 29.92  # Å^3, at 1 g/cm^3
_APART = 2.75  # Å, between oxygens; a little less than the first maximum of liquid water


@dataclass(frozen=True)
class System:
    """One or more structures that are evaluated together."""

    name: str
    family: str  # "molecular" (ViSNet) or "solid" (HVNet)
    atoms: int  # of one structure
    note: str
    build: Callable[[], list[Atoms]]
    elements: tuple[str, ...]


def water(molecules: int, *, seed: int = 0) -> Atoms:
    """Rigid water molecules at 1 g/cm^3 in a periodic cube: spread out evenly, turned at random, none overlapping.

    It has the density and the number of neighbors of the liquid, not its hydrogen bonds.
    """
    rng = np.random.default_rng(seed)
    edge = (molecules * VOLUME_PER_WATER) ** (1 / 3)
    oxygens = _spread(molecules, edge, rng)
    rigid = molecule("H2O")
    shape = rigid.positions - rigid.positions[0]
    placed: NDArray[np.float64] = np.empty((0, 3))
    for oxygen in oxygens:
        trials = np.stack([turn.apply(shape) for turn in Rotation.random(12, rng=rng)]) + oxygen
        room = [_distances(trial, placed, edge).min(initial=np.inf) for trial in trials]
        placed = np.concatenate([placed, trials[int(np.argmax(room))]])
    return Atoms(rigid.symbols.get_chemical_formula("reduce") * molecules, positions=placed, cell=[edge] * 3, pbc=True)


def _spread(points: int, edge: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Points in a periodic cube, at least about `_APART` from each other: a lattice with vacancies, pushed apart."""
    side = int(np.ceil(points ** (1 / 3)))
    lattice = np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"), axis=-1).reshape(-1, 3) * edge / side
    x = rng.permutation(lattice)[:points] + rng.normal(scale=0.1, size=(points, 3))
    for _ in range(150):
        apart = x[:, None] - x[None]
        apart -= edge * np.round(apart / edge)
        r = np.linalg.norm(apart, axis=2) + np.eye(points) * edge
        push = np.where(r < _APART + 0.2, (_APART + 0.2 - r) / r, 0.0)
        x = x + 0.3 * (push[:, :, None] * apart).sum(1)
    return x


def _distances(a: NDArray[np.float64], b: NDArray[np.float64], edge: float) -> NDArray[np.float64]:
    apart = a[:, None] - b[None]
    found: NDArray[np.float64] = np.linalg.norm(apart - edge * np.round(apart / edge), axis=2)
    return found


def copper(cells: int) -> Atoms:
    """Bulk copper, 4 cells^3 atoms, each displaced by 0.05 Å (rms per component)."""
    atoms: Atoms = bulk("Cu", a=3.615, cubic=True) * cells
    atoms.rattle(0.05, seed=cells)
    return atoms


def molybdenum_diselenide() -> Atoms:
    """A periodic 1H monolayer of 288 atoms, displaced by 0.03 Å."""
    atoms: Atoms = mx2("MoSe2", a=3.3, thickness=3.34, size=(12, 8, 1), vacuum=12.0)
    atoms.pbc = True
    atoms.rattle(0.03, seed=1)
    return atoms


def _rattled(atoms: Atoms, copies: int = 1) -> list[Atoms]:
    found = []
    for seed in range(copies):
        moved = atoms.copy()
        moved.rattle(0.05, seed=seed)
        found.append(moved)
    return found


def _molecular(name: str, atoms: int, note: str, build: Callable[[], list[Atoms]], elements: str) -> System:
    return System(name, "molecular", atoms, note, build, tuple(elements))


def _water(molecules: int) -> System:
    note = "random water at 1 g/cm³, periodic"
    return _molecular(f"water-{3 * molecules}", 3 * molecules, note, lambda: [water(molecules)], "HO")


def _copper(cells: int) -> System:
    atoms = 4 * cells**3
    return System(f"cu-{atoms}", "solid", atoms, "rattled fcc, periodic", lambda: [copper(cells)], ("Cu",))


SYSTEMS: dict[str, System] = {
    system.name: system
    for system in (
        _molecular("ethanol-9", 9, "molecule", lambda: _rattled(molecule("CH3CH2OH")), "HCO"),
        _molecular("aspirin-21", 21, "molecule", lambda: _rattled(ASPIRIN), "HCO"),
        _molecular("aspirin-21x64", 21, "64 molecules through evaluate()", lambda: _rattled(ASPIRIN, 64), "HCO"),
        _molecular("peptide-175", 175, "Ace-(Ala-Gly)9-Ala-Nme, ideal alpha helix", lambda: _rattled(helix()), "HCNO"),
        _water(64),
        _water(84),
        _water(333),
        _water(512),
        _copper(3),
        _copper(6),
        _copper(10),
        _copper(20),
        System("mose2-288", "solid", 288, "rattled 1H monolayer", lambda: [molybdenum_diselenide()], ("Mo", "Se")),
    )
}


def helix() -> Atoms:
    """175 atoms, as many as Chignolin with its caps."""
    return peptide("AG" * 9 + "A")
