"""The climbing-image nudged elastic band of ASE, with all images evaluated in one batch per step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from ..evaluator import Evaluated, Evaluator
from ..progress import CountBar
from ..relaxation.ase_parts import Mailbox

_MAXSTEP = 0.1  # Å
_LOOSE = 5.0  # times band_fmax: the band need not be better before its highest image climbs

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Band:
    """Where the search for a minimum-energy path ended."""

    images: tuple[Atoms, ...]  # (K,) without calculators, end points included
    energies: Array  # (K,) eV
    forces: Array  # (K, N, 3) eV/Å, of the potential alone
    converged: bool
    max_force: float  # eV/Å, largest force of the band on an atom
    steps: int


def relax_band(
    images: Sequence[Atoms],
    ends: tuple[Evaluated, Evaluated],
    evaluator: Evaluator,
    *,
    spring: float,
    band_fmax: float,
    steps: int,
    climb: bool = True,
    progress: bool | None = None,
) -> Band:
    """The minimum-energy path through the images, whose first and last stay where they are.

    Improved tangents (Henkelman and Jónsson, J. Chem. Phys. 113, 9978 (2000)), springs of constant `spring` (eV/Å^2),
    FIRE.  Until the forces of the band are below 5 band_fmax no image climbs; then the highest one does (Henkelman,
    Uberuaga and Jónsson, J. Chem. Phys. 113, 9901 (2000)) until all are below `band_fmax` (eV/Å), within `steps`.
    """
    from ase.mep import NEB

    path = [atoms.copy() for atoms in images]
    boxes = [Mailbox() for _ in path]
    for atoms, box in zip(path, boxes, strict=True):
        atoms.calc = box
    for k, end in zip((0, -1), ends, strict=True):
        boxes[k].deliver(path[k], end)
    neb = NEB(path, k=spring, climb=False, method="improvedtangent")
    optimizer = _optimizer(neb)
    names = [f"image {k}" for k in range(1, len(path) - 1)]
    taken = 0
    with CountBar(progress, steps, "elastic band", "step") as bar:
        while True:
            found = evaluator(path[1:-1], names=names)
            for atoms, box, result in zip(path[1:-1], boxes[1:-1], found, strict=True):
                box.deliver(atoms, result)
            worst = _largest(neb)
            if climb and not neb.climb and worst <= _LOOSE * band_fmax:
                neb.climb = True
                optimizer = _optimizer(neb)  # its velocities belong to the other band
                worst = _largest(neb)
            converged = worst <= band_fmax and bool(neb.climb) == climb
            if converged or taken >= steps:
                break
            bar.describe(f"largest force {worst:.2g} eV/Å{', climbing' if neb.climb else ''}")
            optimizer.step()
            taken += 1
            bar.advance()
    evaluated = [ends[0], *found, ends[1]]
    return Band(
        images=tuple(atoms.copy() for atoms in path),
        energies=np.array([result.energy for result in evaluated]),
        forces=np.array([result.forces for result in evaluated]),
        converged=converged,
        max_force=worst,
        steps=taken,
    )


def _optimizer(neb: Any) -> Any:
    from ase.optimize import FIRE

    silent: Any = None
    return FIRE(neb, logfile=silent, maxstep=_MAXSTEP)


def _largest(neb: Any) -> float:
    """Largest norm of an atom's force in the band, eV/Å."""
    return float(np.linalg.norm(neb.get_forces().reshape(-1, 3), axis=1).max())
