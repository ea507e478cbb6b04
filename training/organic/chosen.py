"""From molecules to candidates, and from the candidates that a committee chose to a labeled shard."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from training.organic.candidates import Candidates, read_candidates
from training.organic.connectivity import connectivity
from training.organic.distortions import stretched, turned
from training.organic.embedding import molecule_of
from training.organic.errors import OrganicError
from training.organic.frames import join
from training.organic.harvest import Harvest
from training.organic.labelling import Labeller
from training.organic.recipes import Recipe, System
from training.organic.shards import Shard
from training.organic.teacher import Teacher


def starts(recipe: Recipe, teacher: Teacher, shard: int) -> Candidates:
    """Geometries that exploration begins from: those of the molecules and complexes of a training shard.

    With a number beyond the labeled shards these are molecules that no student has seen.
    """
    rng = recipe.rng("candidates", shard)
    systems = recipe.singles("train", shard, rng) + recipe.complexes("train", rng, teacher)
    found = Harvest(systems)
    for k, system in enumerate(systems):
        for positions in system.starts:
            found.add(k, "selected", positions)
            found.add(k, "selected", turned(system.molecule, positions, rng))
        found.add(k, "selected", stretched(system.molecule, system.starts[0], rng))
        for positions in system.approaches:
            found.add(k, "selected", positions)
    return Candidates(join(found.geometries), np.array(found.owners), [system.listed for system in systems])


def label_candidates(path: Path, labeller: Labeller) -> tuple[Shard, dict[str, Any]]:
    """Labels of all candidates of a file that are whole molecules; only training's may be labeled this way."""
    candidates = read_candidates(path)
    systems = [_system(path, entry) for entry in candidates.molecules]
    found = Harvest(systems)
    for (numbers, positions), owner in zip(candidates.frames, candidates.molecule, strict=True):
        if not np.array_equal(numbers, systems[owner].numbers):
            raise OrganicError(
                f"{path}: a frame has other atoms than {systems[owner].listed['smiles']}, or another order"
            )
        found.add(int(owner), "selected", positions)
    shard, settings = labeller.label(found)
    broken = len(candidates.frames) - len(found.geometries)
    left_out = {**settings["left_out"], "broken": broken}
    return shard, {**settings, "left_out": left_out, "split": "train", "selected": path.name}


def _system(path: Path, entry: dict[str, Any]) -> System:
    if entry["split"] != "train":
        raise OrganicError(f"{path}: {entry['smiles']} is of the {entry['split']} set: only training's can be chosen")
    molecule = molecule_of(entry["smiles"])
    return System(molecule, [], connectivity(molecule), entry)
