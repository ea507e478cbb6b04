"""What a relaxation found, and what is said when it did not converge or the structure collapsed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Annotated, Any

import numpy as np
from ase import Atoms
from ase.neighborlist import natural_cutoffs, neighbor_list
from ase.units import GPa
from numpy.typing import NDArray

from mlcalc.ground.errors import Remedy, Use
from mlcalc.ground.warn import warn

from .. import plotting
from ..errors import EvaluationError, NotConvergedError, PhysicsWarning
from ..results import Quantity, Result
from .walk import Walk, WalkSettings

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class Relaxation(Result):
    """Where a relaxation ended: the converged structure, or the best one met."""

    kind = "relaxation"

    atoms: Annotated[Atoms, Quantity("as relaxed, with its calculator (none after `load`)", json=False)]
    converged: Annotated[bool, Quantity("whether forces and stress are within fmax and smax")]
    energy: Annotated[float, Quantity("of the structure", "eV")]
    forces: Annotated[Array, Quantity("what constraints leave", "eV/Å", "(N, 3)", json=False)]
    stress: Annotated[Array | None, Quantity("None if the cell was fixed", "eV/Å^3", "(6,)")]
    max_force: Annotated[float, Quantity("largest norm of an atom's force", "eV/Å")]
    max_stress: Annotated[
        float | None, Quantity("largest component that is to vanish, the pressure taken off", "eV/Å^3")
    ]
    steps: Annotated[int, Quantity("taken")]
    fmax: Annotated[float, Quantity("target of the forces", "eV/Å")]
    smax: Annotated[float, Quantity("target of the stress", "eV/Å^3")]
    cell: Annotated[str, Quantity("which part of it was free: fixed, full, isotropic, in-plane or shape")]
    pressure_GPa: Annotated[float, Quantity("positive presses", "GPa")]  # noqa: N815 - the public keyword
    optimizers: Annotated[tuple[str, ...], Quantity("in the order in which they were used")]
    spacegroups: Annotated[
        tuple[str, str] | None, Quantity("before and after, of structures periodic in all directions")
    ]
    energies: Annotated[Array, Quantity("of all steps, enthalpies under pressure", "eV", "(steps + 1,)", json=False)]
    max_forces: Annotated[Array, Quantity("of all steps", "eV/Å", "(steps + 1,)", json=False)]
    max_stresses: Annotated[
        Array, Quantity("of all steps; empty if the cell was fixed", "eV/Å^3", "(steps + 1,)", json=False)
    ] = field(default_factory=lambda: np.empty(0))
    failed: Annotated[bool, Quantity("whether the calculator gave out on the way")] = False

    derived = MappingProxyType(
        {
            "energy_before": Quantity("of the start, an enthalpy under pressure", "eV"),
            "lattice": Quantity("vectors of the relaxed cell, as rows", "Å", "(3, 3)"),
            "volume": Quantity("of the relaxed cell; None unless periodic in all directions", "Å^3"),
        }
    )

    @property
    def energy_before(self) -> float:
        """Of the start, eV; an enthalpy under pressure."""
        return float(self.energies[0])

    @property
    def lattice(self) -> Array:
        """(3, 3) Å, vectors of the relaxed cell as rows."""
        return np.asarray(self.atoms.cell.array)

    @property
    def volume(self) -> float | None:
        """Å^3, of the relaxed cell; None unless it is periodic in all directions."""
        return float(abs(np.linalg.det(self.lattice))) if self.atoms.pbc.all() else None

    def __str__(self) -> str:
        end = "converged" if self.converged else "NOT converged"
        stress = "" if self.max_stress is None else f", largest stress {self.max_stress / GPa:.2g} GPa"
        return (
            f"{end} after {self.steps} steps ({', then '.join(self.optimizers)}): {self.energy:.6f} eV, "
            f"largest force {self.max_force:.2g} eV/Å{stress}"
        )

    def plot(self, ax: Any = None) -> Any:
        """Axes with the largest force (and stress) over the steps, logarithmic, and the energy above the lowest."""
        ax = plotting.axes(ax)
        steps = np.arange(len(self.energies))
        ax.semilogy(steps, np.maximum(self.max_forces, 1e-12), label="largest force (eV/Å)")
        ax.axhline(self.fmax, color="C0", linewidth=0.5, linestyle="--")
        if len(self.max_stresses):
            ax.semilogy(steps, np.maximum(self.max_stresses / GPa, 1e-12), color="C2", label="largest stress (GPa)")
            ax.axhline(self.smax / GPa, color="C2", linewidth=0.5, linestyle="--")
        above = self.energies - self.energies.min()
        shown = above > 0
        ax.semilogy(steps[shown], above[shown], color="C1", label="energy above the lowest (eV)")
        ax.set_ylim(bottom=min(self.fmax, self.smax / GPa) / 100)  # a force that vanishes by symmetry is not drawn
        ax.set_xlabel("step")
        ax.legend(frameon=False)
        return ax


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
        warn(
            PhysicsWarning(
                f"{name}: {pair} ended only {distances[k]:.3g} Å apart, less than {_CLOSEST:g} of the sum of their "
                "covalent radii, and potentials have false minima there",
                value=float(distances[k]),
                remedies=["begin from a structure without overlaps"],
            )
        )


def tell(
    results: Sequence[Relaxation], names: Sequence[str], runs: Sequence[str], settings: WalkSettings, require: bool
) -> None:
    """A PhysicsWarning, or a NotConvergedError if required, for relaxations that ended unconverged."""
    lost = [k for k, result in enumerate(results) if not result.converged]
    if not lost:
        return
    first, ran_away = results[lost[0]], runs[lost[0]]
    which = f"{names[lost[0]]}: " if len(results) > 1 else ""
    others = f" (so did {len(lost) - 1} others of {len(results)})" if len(lost) > 1 else ""
    text = (
        f"{which}the relaxation ended unconverged{others} after {first.steps} steps with a largest force of "
        f"{first.max_force:.3g} eV/Å (fmax {settings.fmax:g})"
        + ("" if first.max_stress is None else f" and stress of {first.max_stress:.3g} eV/Å^3 (smax {settings.smax:g})")
        + "; the structure returned is the best one met"
    )
    remedies: Sequence[Remedy] = (
        Use("steps", None, "for more of them"),
        Use("fmax", None, "for a looser target"),
        "look at the structure",
    )
    if ran_away:
        text += f"; {ran_away}, so that it has no minimum at this pressure, or the step was too far"
        remedies = ("begin nearer to the minimum", "take another pressure")
    known: dict[str, Any] = {"value": first.max_force, "limit": settings.fmax, "remedies": remedies}
    if require:
        raise NotConvergedError(text, results, setting="fmax", **known)
    warn(PhysicsWarning(text, setting="fmax", **known))
