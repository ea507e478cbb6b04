"""What is said of relaxations that ended badly: failed, collapsed, or unconverged."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from ase.neighborlist import natural_cutoffs, neighbor_list

from .errors import EvaluationError, NotConvergedError, PhysicsWarning
from .relaxation_result import Relaxation
from .relaxation_walk import Walk, WalkSettings

_CLOSEST = 0.4  # of the sum of the covalent radii: there are no bonds as short as that


def raise_failed(walks: Sequence[Walk], results: Sequence[Relaxation]) -> None:
    """EvaluationError with all results where the calculator failed for some."""
    failed = [walk.failure for walk in walks if walk.failure is not None]
    if not failed:
        return
    rest = f" ({len(failed)} of {len(walks)} structures failed; all results are in `results`)" if len(walks) > 1 else ""
    raise EvaluationError(f"{failed[0]}{rest}", results) from failed[0]


def tell_collapsed(results: Sequence[Relaxation], names: Sequence[str]) -> None:
    """A PhysicsWarning for a structure whose atoms fell into each other, where potentials have false minima."""
    for result, name in zip(results, names, strict=True):
        atoms = result.atoms
        first, second, distances = neighbor_list("ijd", atoms, natural_cutoffs(atoms, mult=_CLOSEST))
        if len(distances) == 0:
            continue
        k = int(np.argmin(distances))
        pair = " and ".join(f"{atoms.symbols[n]}{n}" for n in (first[k], second[k]))
        warnings.warn(
            f"{name}: {pair} ended only {distances[k]:.3g} Å apart, less than {_CLOSEST:g} of the sum of their "
            "covalent radii: potentials have false minima there; begin from a structure without overlaps",
            PhysicsWarning,
            stacklevel=4,
        )


def tell(
    results: Sequence[Relaxation], names: Sequence[str], runs: Sequence[str], settings: WalkSettings, require: bool
) -> None:
    """A PhysicsWarning, or a NotConvergedError if required, for relaxations that ended unconverged."""
    lost = [k for k, result in enumerate(results) if not result.converged]
    if not lost:
        return
    first = results[lost[0]]
    which = f"{names[lost[0]]}: " if len(results) > 1 else ""
    others = f" (so did {len(lost) - 1} others of {len(results)})" if len(lost) > 1 else ""
    text = (
        f"{which}the relaxation ended unconverged{others} after {first.steps} steps with a largest force of "
        f"{first.max_force:.3g} eV/Å (fmax {settings.fmax:g})"
        + ("" if first.max_stress is None else f" and stress of {first.max_stress:.3g} eV/Å^3 (smax {settings.smax:g})")
        + "; the structure returned is the best one met. "
        + (
            f"{runs[lost[0]][0].upper()}{runs[lost[0]][1:]}: it has no minimum at this pressure, or the step was too "
            "far; begin nearer to the minimum, or take another pressure"
            if runs[lost[0]]
            else "Allow more steps, loosen fmax, or look at the structure"
        )
    )
    if require:
        raise NotConvergedError(text, results)
    warnings.warn(text, PhysicsWarning, stacklevel=4)
