"""What a folder of shards holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from training.organic.frames import SYMBOLS, max_by_frame
from training.organic.shards import KINDS, read_shard


def summary(paths: Sequence[Path]) -> Iterator[str]:
    """Lines of a report: frames by kind with their forces and the teacher's spread, sizes, elements, molecules."""
    shards = [read_shard(path)[0] for path in paths]
    sizes = np.concatenate([shard.frames.sizes for shard in shards])
    keys = {key for shard in shards for entry in shard.molecules for key in entry["keys"]}
    yield f"{len(sizes)} frames, {sizes.sum()} atoms, {len(keys)} molecules, {len(paths)} shards"
    yield "atoms a frame: mean {:.1f}, 5 % to 95 % {:.0f} to {:.0f}, at most {}".format(
        sizes.mean(), *np.percentile(sizes, [5, 95]), sizes.max()
    )
    numbers, counts = np.unique(np.concatenate([shard.frames.numbers for shard in shards]), return_counts=True)
    yield "elements: " + ", ".join(
        f"{SYMBOLS[z]} {100 * n / counts.sum():.1f} %" for z, n in zip(numbers, counts, strict=True)
    )
    families = Counter(entry["family"] for shard in shards for entry in shard.molecules)
    yield "systems: " + ", ".join(f"{family} {count}" for family, count in families.most_common())
    yield "kind         frames  rms force  largest force, 50 % 95 % 100 %   rms spread, 50 % 95 %   (eV/Å)"
    kinds = np.concatenate([shard.kind for shard in shards])
    largest = np.concatenate([max_by_frame(s.frames, np.linalg.norm(s.forces, axis=1)) for s in shards])
    spread = np.concatenate(
        [np.sqrt(np.add.reduceat(s.forces_std**2, s.frames.first_atom[:-1]) / s.frames.sizes) for s in shards]
    )
    square = np.concatenate([np.add.reduceat((s.forces**2).sum(1), s.frames.first_atom[:-1]) for s in shards])
    for place, name in enumerate((*KINDS, "all")):
        chosen = kinds == place if name != "all" else np.ones(len(kinds), dtype=bool)
        if chosen.any():
            rms = np.sqrt(square[chosen].sum() / (3 * sizes[chosen].sum()))
            most, unsure = np.percentile(largest[chosen], [50, 95, 100]), np.percentile(spread[chosen], [50, 95])
            yield (
                f"{name:12s} {chosen.sum():6d}  {rms:9.2f}  {most[0]:18.1f} {most[1]:5.1f} {most[2]:5.1f}"
                f"   {unsure[0]:16.3f} {unsure[1]:.3f}"
            )
