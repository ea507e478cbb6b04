"""What a relaxation found, and what is said when it did not converge or the structure collapsed."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.neighborlist import natural_cutoffs, neighbor_list
from ase.units import GPa
from numpy.typing import NDArray

from .. import plotting
from ..errors import EvaluationError, NotConvergedError, PhysicsWarning
from ..folders.storage import load_arrays, pack_atoms, save_arrays, unpack_atoms
from .walk import Walk, WalkSettings

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Relaxation:
    """Where a relaxation ended: the converged structure, or the best one met."""

    atoms: Atoms  # with the calculator that relaxed it (none after `load`)
    converged: bool
    energy: float  # eV
    forces: Array  # (N, 3) eV/Å, what constraints leave
    stress: Array | None  # (6,) eV/Å^3, ASE's sign and Voigt order; None if the cell was fixed
    max_force: float  # eV/Å, largest norm of an atom's force
    max_stress: float | None  # eV/Å^3, largest component that is to vanish, the pressure taken off
    steps: int
    fmax: float  # eV/Å, what was asked for
    smax: float  # eV/Å^3
    cell: str  # which part of the cell was free: "fixed", "full", "isotropic", "in-plane" or "shape"
    pressure_GPa: float  # noqa: N815 - the public keyword
    optimizers: tuple[str, ...]  # in the order in which they were used
    spacegroups: tuple[str, str] | None  # before and after, of structures periodic in all directions
    energies: Array  # (steps + 1,) eV, enthalpies under pressure
    max_forces: Array  # (steps + 1,) eV/Å
    max_stresses: Array = field(default_factory=lambda: np.empty(0))  # (steps + 1,) eV/Å^3; empty if the cell was fixed
    failed: bool = False  # whether the calculator gave out on the way

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

    def to_json(self) -> dict[str, Any]:
        """Plain values with units in their names."""
        return {
            "converged": self.converged,
            "energy_eV": self.energy,
            "energy_before_eV": float(self.energies[0]),
            "max_force_eV_per_A": self.max_force,
            "max_stress_GPa": None if self.max_stress is None else self.max_stress / GPa,
            "steps": self.steps,
            "optimizers": list(self.optimizers),
            "cell": self.cell,
            "pressure_GPa": self.pressure_GPa,
            "spacegroups": None if self.spacegroups is None else list(self.spacegroups),
            "cell_A": self.atoms.cell.array.tolist(),
            "volume_A3": float(abs(np.linalg.det(self.atoms.cell.array))) if self.atoms.pbc.all() else None,
        }

    def save(self, path: str | Path) -> None:
        """Write everything to one .npz file, without pickle."""
        names = ("forces", "energies", "max_forces", "max_stresses")
        arrays = {name: getattr(self, name) for name in names} | pack_atoms("atoms", self.atoms)
        if self.stress is not None:
            arrays["stress"] = self.stress
        plain = (
            "converged",
            "energy",
            "max_force",
            "max_stress",
            "steps",
            "fmax",
            "smax",
            "cell",
            "pressure_GPa",
            "failed",
        )
        info = {name: getattr(self, name) for name in (*plain, "optimizers", "spacegroups")}
        save_arrays(path, "relaxation", arrays, info)

    @classmethod
    def load(cls, path: str | Path) -> Relaxation:
        """The relaxation of a file written by `save`."""
        arrays, info = load_arrays(path, "relaxation")
        names = ("forces", "energies", "max_forces", "max_stresses")
        info["optimizers"] = tuple(info["optimizers"])
        info.setdefault("failed", False)
        info["spacegroups"] = None if info["spacegroups"] is None else tuple(info["spacegroups"])
        info |= {name: arrays[name] for name in names} | {"stress": arrays.get("stress")}
        return cls(atoms=unpack_atoms("atoms", arrays), **info)


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
