"""Relaxation of positions and cells: ASE's optimizers, on one structure or many in one batch."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.units import GPa
from numpy.typing import NDArray

from . import checks, plotting
from .errors import ConfigError, NotConvergedError, PhysicsWarning
from .evaluations import Evaluate, Evaluator
from .packed_atoms import pack_atoms, unpack_atoms
from .progress import CountBar
from .relaxation_walk import CELLS, OPTIMIZERS, Walk, WalkSettings
from .storage import load_arrays, save_arrays

Array = NDArray[np.float64]
_SMALLEST_FLOAT32 = 1e-3  # eV/Å: forces in single precision are right to about 1e-5, and minima lie in their noise


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
    cell: str  # which part of the cell was free: "fixed", "full", "isotropic" or "in-plane"
    pressure_GPa: float  # noqa: N815 - the public keyword
    optimizers: tuple[str, ...]  # in the order in which they were used
    spacegroups: tuple[str, str] | None  # before and after, of structures periodic in all directions
    energies: Array  # (steps + 1,) eV, enthalpies under pressure
    max_forces: Array  # (steps + 1,) eV/Å
    max_stresses: Array = field(default_factory=lambda: np.empty(0))  # (steps + 1,) eV/Å^3; empty if the cell was fixed

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
        above = self.energies - self.energies.min()
        shown = above > 0
        ax.semilogy(steps[shown], above[shown], color="C1", label="energy above the lowest (eV)")
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
        plain = ("converged", "energy", "max_force", "max_stress", "steps", "fmax", "smax", "cell", "pressure_GPa")
        info = {name: getattr(self, name) for name in (*plain, "optimizers", "spacegroups")}
        save_arrays(path, "relaxation", arrays, info)

    @classmethod
    def load(cls, path: str | Path) -> Relaxation:
        """The relaxation of a file written by `save`."""
        arrays, info = load_arrays(path, "relaxation")
        names = ("forces", "energies", "max_forces", "max_stresses")
        info["optimizers"] = tuple(info["optimizers"])
        info["spacegroups"] = None if info["spacegroups"] is None else tuple(info["spacegroups"])
        info |= {name: arrays[name] for name in names} | {"stress": arrays.get("stress")}
        return cls(atoms=unpack_atoms("atoms", arrays), **info)


def relax(
    atoms: Atoms,
    *,
    fmax: float = 1e-4,
    cell: bool | str = False,
    smax: float = 1e-5,
    pressure_GPa: float = 0.0,
    keep_symmetry: bool = False,
    symprec: float = 1e-3,
    optimizer: str = "auto",
    steps: int = 500,
    require: bool = False,
    evaluate: Evaluate | None = None,
    progress: bool | None = None,
) -> Relaxation:
    """The nearest minimum of the energy: forces below `fmax` (eV/Å) and, with a free cell, stress below `smax`.

    cell: False or "fixed"; True or "full" for all of it; "isotropic" for its size; "in-plane" for the xy-part of a
    slab with its normal along z.  The free components of the stress then come within `smax` (eV/Å^3) of
    `pressure_GPa`, and the enthalpy E + p V is what falls.
    keep_symmetry: forces and stress are projected on the space group found within `symprec` (Å; ASE's FixSymmetry).
    optimizer: "lbfgs"; "fire"; "auto" for L-BFGS, then, should it go astray, FIRE from the best structure met.

    ASE's constraints are respected.  A relaxation that ends unconverged after `steps` says so: `converged` is False and
    a PhysicsWarning is given, or with `require` a NotConvergedError that holds the result.  The atoms are copied.

    Raises ConfigError (a setting or the structure), EvaluationError (no usable numbers), NotConvergedError.
    """
    return relax_many(
        [atoms],
        fmax=fmax,
        cell=cell,
        smax=smax,
        pressure_GPa=pressure_GPa,
        keep_symmetry=keep_symmetry,
        symprec=symprec,
        optimizer=optimizer,
        steps=steps,
        require=require,
        evaluate=evaluate,
        progress=progress,
    )[0]


def relax_many(
    structures: Sequence[Atoms],
    *,
    fmax: float = 1e-4,
    cell: bool | str = False,
    smax: float = 1e-5,
    pressure_GPa: float = 0.0,
    keep_symmetry: bool = False,
    symprec: float = 1e-3,
    optimizer: str = "auto",
    steps: int = 500,
    require: bool = False,
    evaluate: Evaluate | None = None,
    names: Sequence[str] | None = None,
    progress: bool | None = None,
) -> list[Relaxation]:
    """`relax` of many structures that share one calculator: each step evaluates all that still move in one batch.

    Each takes the steps it would take alone.  names: of the structures, for warnings and errors.
    """
    settings = WalkSettings(
        fmax=checks.number("fmax", fmax, above=0.0, hint=" eV/Å"),
        smax=checks.number("smax", smax, above=0.0, hint=" eV/Å^3"),
        cell=_cell(cell),
        pressure=checks.number("pressure_GPa", pressure_GPa) * GPa,
        symprec=checks.number("symprec", symprec, above=0.0, hint=" Å") if keep_symmetry else None,
        optimizer=checks.choice("optimizer", optimizer, ("auto", *OPTIMIZERS)),
        steps=checks.whole("steps", steps, at_least=0),
    )
    if settings.pressure and settings.cell not in ("full", "isotropic"):
        raise ConfigError(
            f"pressure_GPa is {pressure_GPa:g} with cell={settings.cell!r}: a pressure acts on the volume, so let the "
            "cell go with cell='full' or 'isotropic'"
        )
    names = [f"structure {k}" for k in range(len(structures))] if names is None else names
    for atoms in structures:
        needs = ("energy", "forces") if settings.cell == "fixed" else ("energy", "forces", "stress")
        (checks.structure if settings.cell == "fixed" else checks.crystal)(atoms, "a relaxation", needs)
    if not structures:
        return []
    evaluator = _evaluator(structures, evaluate)
    if evaluator.float32 and fmax < _SMALLEST_FLOAT32:
        raise ConfigError(
            f"fmax is {fmax:g} eV/Å, but the calculator works in single precision, whose noise may never get there: "
            f"take one in float64, or an fmax of at least {_SMALLEST_FLOAT32:g}"
        )
    walks = [Walk(atoms, settings) for atoms in structures]
    _walk(walks, evaluator, settings, list(names), progress)
    results = [_result(walk, atoms, settings) for walk, atoms in zip(walks, structures, strict=True)]
    _tell(results, list(names), settings, require)
    return results


def _cell(cell: Any) -> str:
    if isinstance(cell, bool | np.bool_):
        return "full" if cell else "fixed"
    return checks.choice("cell", cell, CELLS)


def _evaluator(structures: Sequence[Atoms], evaluate: Evaluate | None) -> Evaluator:
    calculators = {id(atoms.calc): atoms.calc for atoms in structures}
    if len(calculators) > 1 and evaluate is None:
        raise ConfigError(
            f"the structures have {len(calculators)} calculators: relax those of each calculator in a call of their own"
        )
    return Evaluator(structures[0].calc, evaluate)


def _walk(
    walks: Sequence[Walk], evaluator: Evaluator, settings: WalkSettings, names: list[str], progress: bool | None
) -> None:
    """Let all structures move until each has converged or has used up its steps."""
    moving = list(range(len(walks)))
    with CountBar(progress, len(walks), "relax", "structure") as bar:
        while moving:
            found = _evaluated([walks[k] for k in moving], evaluator, settings, [names[k] for k in moving])
            for k, result in zip(moving, found, strict=True):
                if result is not None:
                    walks[k].arrive(result)
            still = [k for k in moving if not walks[k].ended]
            bar.advance(len(moving) - len(still))
            for k in still:
                walks[k].move()
            moving = still
            if moving:
                worst = max(walks[k].max_forces[-1] for k in moving)
                bar.describe(f"step {walks[moving[0]].steps}, largest force {worst:.2g} eV/Å")


def _evaluated(walks: Sequence[Walk], evaluator: Evaluator, settings: WalkSettings, names: list[str]) -> list[Any]:
    """Results; None for a structure that an overshooting optimizer broke and that goes back to its best."""
    stress = settings.cell != "fixed"
    try:
        return list(evaluator([walk.atoms for walk in walks], stress=stress, names=names))
    except Exception:
        if not any(walk.can_go_back for walk in walks):
            raise
    found: list[Any] = []
    for walk, name in zip(walks, names, strict=True):  # which one is it?
        try:
            found.append(evaluator.one(walk.atoms, stress=stress, name=name))
        except Exception:
            if not walk.can_go_back:
                raise
            walk.go_back()
            found.append(None)
    return found


def _result(walk: Walk, atoms: Atoms, settings: WalkSettings) -> Relaxation:
    end = walk.atoms.copy()
    end.set_constraint(atoms.constraints)
    end.calc = atoms.calc
    return Relaxation(
        atoms=end,
        converged=walk.converged,
        energy=walk.energy,
        forces=walk.forces,
        stress=walk.stress,
        max_force=walk.max_force,
        max_stress=walk.max_stress,
        steps=walk.steps,
        fmax=settings.fmax,
        smax=settings.smax,
        cell=settings.cell,
        pressure_GPa=settings.pressure / GPa,
        optimizers=tuple(walk.optimizers),
        spacegroups=_spacegroups(atoms, end),
        energies=np.array(walk.energies),
        max_forces=np.array(walk.max_forces),
        max_stresses=np.array(walk.max_stresses),
    )


def _spacegroups(before: Atoms, after: Atoms) -> tuple[str, str] | None:
    if not before.pbc.all():
        return None
    return spacegroup(before), spacegroup(after)


def spacegroup(atoms: Atoms, symprec: float = 1e-3) -> str:
    """The space group as `Fm-3m (225)`, found within `symprec` (Å); "unknown" where spglib finds none."""
    import spglib

    try:
        found = spglib.get_spacegroup((atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers), symprec=symprec)
    except Exception:  # spglib raises its own errors since 2.7, and returned None before
        found = None
    return str(found or "unknown")


def _tell(results: Sequence[Relaxation], names: Sequence[str], settings: WalkSettings, require: bool) -> None:
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
        + "; the structure returned is the best one met. Allow more steps, loosen fmax, or look at the structure"
    )
    if require:
        raise NotConvergedError(text, results)
    warnings.warn(text, PhysicsWarning, stacklevel=4)
