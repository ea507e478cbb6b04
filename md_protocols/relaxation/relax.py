"""Relaxation of positions and cells: ASE's optimizers, on one structure or many in one batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.units import GPa

from mlcalc.ground.errors import Use

from .. import checks
from ..crystals.symmetry import spacegroup
from ..errors import ConfigError, EvaluationError
from ..evaluator import Evaluate, Evaluated, Evaluator
from ..progress import CountBar
from .outcome import Relaxation, raise_failed, tell, tell_collapsed
from .walk import CELLS, OPTIMIZERS, Walk, WalkSettings

_SHOWN = 1e-3  # Å, of the space groups before and after: what is left of forces moves atoms by less
_SMALLEST_FLOAT32 = 1e-3  # eV/Å: forces in single precision are right to about 1e-5, and minima lie in their noise


def relax(
    atoms: Atoms,
    *,
    fmax: float = 1e-4,
    cell: bool | str = False,
    smax: float = 1e-5,
    pressure_GPa: float = 0.0,
    keep_symmetry: bool = False,
    symmetry_tolerance: float = 1e-3,
    optimizer: str = "auto",
    steps: int = 500,
    require: bool = False,
    trajectory: str | Path | None = None,
    evaluate: Evaluate | None = None,
    progress: bool | None = None,
) -> Relaxation:
    """The nearest minimum of the energy: forces below `fmax` (eV/Å) and, with a free cell, stress below `smax`.

    It has converged when the norm of the force on every atom, after constraints, is at most `fmax`, and every free
    component of the stress is within `smax` (eV/Å^3; 1e-5 is 0.0016 GPa) of what the pressure asks for.

    cell: False or "fixed"; True or "full" for all of it; "isotropic" for its size, where the mean of xx, yy and zz
    counts; "in-plane" for the xy-part of a slab with its normal along z, whose stress is that of the whole cell,
    vacuum included; "shape" for all of it at constant volume, where differences of normal stresses and shear count.
    pressure_GPa: positive presses.  The stress goes to -p in ASE's sign, and the enthalpy E + p V is what falls.
    keep_symmetry: the structure is brought onto the space group that it has within `symmetry_tolerance` (Å), and forces
    and stress are projected on it (ASE's FixSymmetry).
    optimizer: "lbfgs"; "fire"; "auto" for L-BFGS, then, should it go astray, FIRE from the best structure met, which
    is the one of the smallest forces and stress.  L-BFGS begins anew where the energy curves downwards.
    trajectory: an extended XYZ file to be written with the structures of all steps, raw forces and stress.

    A PhysicsWarning tells of atoms that ended closer than any bond, where potentials have false minima.

    A start whose forces vanish by symmetry stays where it is, saddle or minimum: no force tells them apart.

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
        symmetry_tolerance=symmetry_tolerance,
        optimizer=optimizer,
        steps=steps,
        require=require,
        trajectories=None if trajectory is None else [trajectory],
        evaluate=evaluate,
        names=["the structure"],
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
    symmetry_tolerance: float = 1e-3,
    optimizer: str = "auto",
    steps: int = 500,
    require: bool = False,
    trajectories: Sequence[str | Path] | None = None,
    evaluate: Evaluate | None = None,
    names: Sequence[str] | None = None,
    when_stopped: Callable[[list[Relaxation | None]], None] | None = None,
    progress: bool | None = None,
) -> list[Relaxation]:
    """`relax` of many structures that share one calculator: each step evaluates all that still move in one batch.

    Each takes the steps it would take alone.  names: of the structures, for warnings and errors; trajectories: a file
    for each of them.  when_stopped: called with the best structures met, None for those that were not evaluated yet,
    when Ctrl-C or another signal ends the call.

    A structure that can no longer be evaluated ends where it was best, and the others go on; then comes an
    EvaluationError whose `results` hold all of them.  One that cannot be evaluated at its start is an error at once.
    """
    tolerance = checks.number("symmetry_tolerance", symmetry_tolerance, above=0.0, hint=" Å")
    settings = WalkSettings(
        fmax=checks.number("fmax", fmax, above=0.0, hint=" eV/Å"),
        smax=checks.number("smax", smax, above=0.0, hint=" eV/Å^3"),
        cell=_cell(cell),
        pressure=checks.number("pressure_GPa", pressure_GPa) * GPa,
        symmetry_tolerance=tolerance if keep_symmetry else None,
        optimizer=checks.choice("optimizer", optimizer, ("auto", *OPTIMIZERS)),
        steps=checks.whole("steps", steps, at_least=0),
    )
    structures = list(structures)
    _check_structures(structures, settings, names, trajectories)
    if not structures:
        return []
    evaluator = _evaluator(structures, evaluate)
    if evaluator.float32 and fmax < _SMALLEST_FLOAT32:
        raise ConfigError(
            f"fmax is {fmax:g} eV/Å, but the calculator works in single precision, whose noise may never get there",
            setting="fmax",
            value=fmax,
            limit=_SMALLEST_FLOAT32,
            remedies=[
                Use("dtype", "float64", python="take one in float64"),
                Use("fmax", _SMALLEST_FLOAT32, "at least"),
            ],
        )
    names = [f"structure {k}" for k in range(len(structures))] if names is None else names
    walks = [Walk(atoms, settings, name) for atoms, name in zip(structures, names, strict=True)]
    try:
        _walk(walks, evaluator, settings, progress, [] if trajectories is None else list(map(Path, trajectories)))
    except BaseException as stop:
        if when_stopped is not None and not isinstance(stop, Exception):
            when_stopped(_stopped(walks, structures, settings))
        raise
    results = [_result(walk, atoms, settings) for walk, atoms in zip(walks, structures, strict=True)]
    raise_failed(walks, results)
    tell_collapsed(results, names)
    tell(results, list(names), [walk.ran_away for walk in walks], settings, require)
    return results


def _cell(cell: Any) -> str:
    if isinstance(cell, bool | np.bool_):
        return "full" if cell else "fixed"
    return checks.choice("cell", cell, CELLS)


def _check_structures(
    structures: Sequence[Atoms], settings: WalkSettings, names: Sequence[str] | None, files: Sequence[Any] | None
) -> None:
    if settings.pressure and settings.cell not in ("full", "isotropic"):
        raise ConfigError(
            f"pressure_GPa is {settings.pressure / GPa:g} with a cell that is {settings.cell!r}, and a pressure acts "
            "on the volume",
            setting="cell",
            value=settings.cell,
            remedies=[Use("cell", "full"), Use("cell", "isotropic")],
        )
    for what, given in (("names", names), ("trajectories", files)):
        if given is not None and len(given) != len(structures):
            raise ConfigError(f"there are {len(given)} {what} for {len(structures)} structures: give one for each")
    for atoms in structures:
        if settings.cell == "fixed":
            checks.structure(atoms, "a relaxation")
        else:
            checks.crystal(atoms, "a relaxation of the cell", ("energy", "forces", "stress"))


def _evaluator(structures: Sequence[Atoms], evaluate: Evaluate | None) -> Evaluator:
    calculators = {id(atoms.calc): atoms.calc for atoms in structures}
    if len(calculators) > 1 and evaluate is None:
        raise ConfigError(
            f"the structures have {len(calculators)} calculators",
            remedies=["relax those of each calculator in a call of their own"],
        )
    return Evaluator(structures[0].calc, evaluate)


def _walk(
    walks: Sequence[Walk],
    evaluator: Evaluator,
    settings: WalkSettings,
    progress: bool | None,
    files: Sequence[Path],
) -> None:
    """Let all structures move until each has converged or has used up its steps."""
    moving = list(range(len(walks)))
    with CountBar(progress, len(walks), "relax", "structure") as bar:
        while moving:
            found = _evaluated([walks[k] for k in moving], evaluator, settings)
            for k, result in zip(moving, found, strict=True):
                if result is not None:
                    if files:
                        _write_frame(files[k], walks[k], result)
                    walks[k].arrive(result)
            for k in moving:
                if not walks[k].ended:
                    walks[k].move()
            still = [k for k in moving if not walks[k].ended]
            bar.advance(len(moving) - len(still))
            moving = still
            if moving:
                worst = max(walks[k].max_forces[-1] for k in moving)
                bar.describe(f"step {walks[moving[0]].steps}, largest force {worst:.2g} eV/Å")


def _evaluated(walks: Sequence[Walk], evaluator: Evaluator, settings: WalkSettings) -> list[Evaluated | None]:
    """Results; None for a structure that an overshooting optimizer broke and that goes back to its best."""
    stress = settings.cell != "fixed"
    try:
        return list(evaluator([walk.where() for walk in walks], stress=stress, names=[walk.name for walk in walks]))
    except Exception:
        if walks[0].steps == 0:
            raise
    found: list[Evaluated | None] = []
    for walk in walks:  # which one is it?
        name = f"{walk.name}, step {walk.steps} of its relaxation"
        try:
            found.append(evaluator.one(walk.where(), stress=stress, name=name))
        except Exception as error:
            if walk.can_go_back:
                walk.go_back()
            else:
                walk.fail(error if isinstance(error, EvaluationError) else EvaluationError(f"{name}: {error}"))
            found.append(None)
    return found


def _stopped(walks: Sequence[Walk], structures: Sequence[Atoms], settings: WalkSettings) -> list[Relaxation | None]:
    """What there is when the call is ended from outside."""
    results: list[Relaxation | None] = []
    for walk, atoms in zip(walks, structures, strict=True):
        if not walk.ended:
            walk.stop()
        results.append(_result(walk, atoms, settings) if walk.evaluated else None)
    return results


def _write_frame(path: Path, walk: Walk, result: Evaluated) -> None:
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.io import write

    frame = walk.where()
    values = {"energy": result.energy, "forces": result.forces}
    if result.stress is not None:
        values["stress"] = result.stress
    frame.calc = SinglePointCalculator(frame, **values)
    write(path, frame, format="extxyz", append=walk.steps > 0)


def _result(walk: Walk, atoms: Atoms, settings: WalkSettings) -> Relaxation:
    end = walk.atoms.copy()
    end.set_constraint(atoms.copy().constraints)
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
        spacegroups=(spacegroup(atoms, _SHOWN), spacegroup(end, _SHOWN)) if atoms.pbc.all() else None,
        energies=np.array(walk.energies),
        max_forces=np.array(walk.max_forces),
        max_stresses=np.array(walk.max_stresses),
        failed=walk.failure is not None,
    )
