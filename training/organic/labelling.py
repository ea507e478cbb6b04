"""What the teacher says of geometries, and which of them are kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.organic.errors import OrganicError
from training.organic.frames import SYMBOLS, Frames, join, max_by_frame
from training.organic.harvest import Harvest, harvest
from training.organic.held_out import HeldOut
from training.organic.recipes import Recipe, System
from training.organic.shards import KINDS, Shard
from training.organic.teacher import SHA256, SINGLE, Teacher

GENERATOR = 2  # raised whenever the shard of a number would come out otherwise; 1 had fewer close contacts


@dataclass(frozen=True)
class Filter:
    """Frames beyond these limits are left out: they are far from anything that the teacher can know."""

    max_force: float = 20.0  # eV/Å, on any atom
    max_spread: float = 0.7  # eV/Å, standard deviation of the members' forces on any atom (rms of components)


@dataclass(frozen=True)
class Labeller:
    """Makes labeled shards."""

    teacher: Teacher
    held_out: HeldOut
    limit: Filter = Filter()

    def shard(self, recipe: Recipe, split: str, number: int) -> tuple[Shard, dict[str, Any]]:
        """The shard of this number, always the same one, and the settings that are written beside it."""
        rng = recipe.rng(split, number)
        systems = recipe.singles(split, number, rng) + recipe.complexes(split, rng, self.teacher)
        shard, settings = self.label(harvest(systems, self.teacher, rng))
        return shard, {**settings, "seed": recipe.seed, "split": split, "shard": number}

    def label(self, found: Harvest) -> tuple[Shard, dict[str, Any]]:
        """Labels of all geometries that the limits let through; OrganicError where a molecule is held out."""
        for system in found.systems:
            self.held_out.refuse(system.molecule)
        if not found.geometries:
            raise OrganicError("there is no geometry to label: the molecules are none, or none survives relaxation")
        frames = rounded(join(found.geometries))
        energy, forces = self.teacher(frames)
        strong = max_by_frame(frames, np.linalg.norm(forces, axis=1)) > self.limit.max_force
        spread = self.teacher.spread(frames, forces)
        unsure = (max_by_frame(frames, spread) > self.limit.max_spread) & ~strong
        kept = np.flatnonzero(~(strong | unsure))
        atoms = ~(strong | unsure)[frames.owners]
        molecule, listed = _renumbered(np.array(found.owners)[kept], found.systems)
        kind = np.array([KINDS.index(found.kinds[k]) for k in kept], dtype=np.int64)
        shard = Shard(frames.choose(kept), energy[kept], forces[atoms], spread[atoms], molecule, kind, listed)
        return shard, self._settings(forces=int(strong.sum()), spread=int(unsure.sum()))

    def _settings(self, **left_out: int) -> dict[str, Any]:
        shifts = {symbol: float(self.teacher.shifts[number]) for number, symbol in SYMBOLS.items()}
        return {
            "generator": GENERATOR,
            "teacher": SINGLE,
            "sha256": SHA256[SINGLE],
            "shifts": shifts,
            "filter": asdict(self.limit),
            "left_out": left_out,
        }


def rounded(frames: Frames) -> Frames:
    """Frames at the positions that will be stored, which are those to be labeled."""
    return frames.at(frames.positions.astype(np.float32).astype(np.float64))


def _renumbered(owners: NDArray[np.int64], systems: Sequence[System]) -> tuple[NDArray[np.int64], list[dict[str, Any]]]:
    used = np.unique(owners)
    return np.searchsorted(used, owners), [systems[k].listed for k in used]
