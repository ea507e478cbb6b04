"""Surface energies from slabs of several thicknesses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from ase import Atoms
from ase.geometry import find_mic
from numpy.typing import NDArray

from mlcalc.ground.errors import Use
from mlcalc.ground.warn import warn

from .. import checks
from ..crystals.perfection import Perfection, offers_stress
from ..crystals.supercells import nearest_neighbor
from ..crystals.symmetry import SYMPREC
from ..crystals.vacuum import CLEAR_VACUUM, check_bulk
from ..errors import ConfigError, EvaluationError, PhysicsWarning
from ..evaluator import Evaluate, Evaluated, Evaluator
from ..relaxation.outcome import Relaxation
from .settings import DefectSettings
from .slabs import Plane, equivalent_faces, layer_counts
from .surface_result import J_PER_M2, SurfaceEnergy

_THICKNESSES = (15.0, 20.0, 25.0)  # Å
_THIN = 0.01  # change of the energy between the two thickest slabs, beyond which a warning is due
_MOST = 24  # terminations computed without being asked for

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class SurfaceSettings(DefectSettings):
    """What all slabs of a call share."""

    vacuum: float  # Å
    relaxed: bool = True
    fmax: float = 1e-3  # eV/Å
    steps: int = 500
    require: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.number("vacuum", self.vacuum, above=0.0, hint=" Å")


@dataclass
class _Cut:
    """The slabs of one termination, and what was found for them."""

    number: int
    text: str
    slabs: list[Atoms]
    names: list[str]
    same: bool  # whether both faces are equivalent
    found: list[Evaluated] = field(default_factory=list)
    ends: list[Relaxation] | None = None


def check_surface(
    atoms: Atoms, miller: Any, *, n_layers: Any, termination: int | None, vacuum: float, symprec: float
) -> None:
    """ConfigError for a surface that `surface_energy` would refuse."""
    _planned(atoms, miller, n_layers, termination, SurfaceSettings(vacuum=vacuum, symprec=symprec))


def _planned(
    atoms: Atoms, miller: Any, n_layers: Any, termination: int | None, settings: SurfaceSettings
) -> tuple[Plane, list[int], list[_Cut], list[str]]:
    """The plane, the numbers of layers, the terminations to be computed, and what is to be said of others."""
    check_bulk(atoms, "a surface energy")
    plane = Plane.of(atoms, miller, settings.symprec)
    counts = layer_counts(n_layers, plane.spacing, _THICKNESSES)
    return plane, counts, *_cuts(plane, counts, termination, settings)


def _tell_plane(plane: Plane, vacuum: float) -> None:
    """A PhysicsWarning for little vacuum, and for indices that mean another plane in the crystal's own cell."""
    if vacuum < CLEAR_VACUUM:
        warn(
            PhysicsWarning(
                f"the vacuum is {vacuum:g} Å, less than {CLEAR_VACUUM:g} Å, and slabs may see each other",
                setting="vacuum",
                value=vacuum,
                limit=CLEAR_VACUUM,
                remedies=["take more"],
            )
        )
    if plane.other_setting:
        warn(PhysicsWarning(plane.other_setting))


def _name(plane: Plane) -> str:
    return "".join(map(str, plane.miller))


def _cuts(
    plane: Plane, counts: Sequence[int], termination: int | None, settings: SurfaceSettings
) -> tuple[list[_Cut], list[str]]:
    """The terminations asked for that have an energy, and what is to be said of those that have none."""
    number = len(plane.terminations)
    chosen = list(range(number)) if termination is None else [checks.whole("termination", termination, at_least=0)]
    if chosen[-1] >= number or len(chosen) > _MOST:
        told = [f"{k}: {cut}" for k, cut in enumerate(plane.terminations[:8])]
        what = f"termination is {chosen[-1]}" if termination is not None else "all terminations are many slabs"
        raise ConfigError(
            f"{what}: the ({_name(plane)}) surface has {number} ({'; '.join(told)}{'; ...' if number > 8 else ''})",
            setting="termination",
            value=termination,
            limit=number - 1,
            remedies=[Use("termination", None, "for one of them")],
        )
    found, refused = [], []
    for k in chosen:
        slabs = [plane.slab(count, settings.vacuum, k) for count in counts]
        same = all(equivalent_faces(slab, settings.symprec) for slab in slabs)
        label = f", termination {k}" if len(chosen) > 1 else ""
        names = [f"the slab of {count} layers{label}" for count in counts]
        if same or len(set(plane.primitive.numbers.tolist())) == 1:
            found.append(_Cut(k, str(plane.terminations[k]), slabs, names, same))
        else:
            refused.append(f"termination {k}, {plane.terminations[k]}: left out, its two faces differ")
    if not found:
        raise ConfigError(
            f"the two faces of the ({_name(plane)}) slab differ"
            + (f" at each of its {number} terminations" if len(chosen) > 1 else "")
            + ": of a compound only the sum of the energies of both is then defined, and where there are charges the "
            "slab is polar",
            setting="miller",
            remedies=[
                "choose other Miller indices",
                *([Use("termination", None, "for another one")] if len(chosen) < number else []),
            ],
        )
    return found, refused


def _evaluate(atoms: Atoms, cuts: list[_Cut], evaluate: Evaluate | None) -> tuple[Evaluated, list[str]]:
    """The crystal and, in the same batch, all slabs; terminations that cannot be evaluated are told of and left out."""
    evaluator, stress = Evaluator(atoms.calc, evaluate), offers_stress(atoms, evaluate)
    slabs = [slab for cut in cuts for slab in cut.slabs]
    names = ["the perfect crystal", *(name for cut in cuts for name in cut.names)]
    try:
        bulk, *rest = evaluator([atoms.copy(), *slabs], stress=stress, names=names)
    except Exception:
        if len(cuts) == 1:
            raise
        bulk = evaluator.one(atoms.copy(), stress=stress, name=names[0])
        return bulk, _one_by_one(cuts, evaluator, stress)
    found = iter(rest)
    for cut in cuts:
        cut.found = [next(found) for _ in cut.slabs]
    return bulk, []


def _one_by_one(cuts: list[_Cut], evaluator: Evaluator, stress: bool) -> list[str]:
    """Each termination by itself: what is to be said of those that cannot be evaluated."""
    lost: list[tuple[_Cut, str]] = []
    for cut in cuts:
        try:
            cut.found = evaluator(cut.slabs, stress=stress, names=cut.names)
        except Exception as error:
            lost.append((cut, f"it cannot be evaluated ({error})"))
            if len(lost) == len(cuts):
                raise
    return _told(lost)


def _told(lost: Sequence[tuple[_Cut, str]]) -> list[str]:
    """Texts, each a PhysicsWarning too, for terminations that are left out."""
    texts = [f"termination {cut.number}, {cut.text}: left out, {reason}" for cut, reason in lost]
    for text in texts:
        warn(PhysicsWarning(text))
    return texts


def _relax(
    cuts: list[_Cut], atoms: Atoms, settings: SurfaceSettings, evaluate: Evaluate | None, progress: bool | None
) -> list[str]:
    """The slabs of all terminations in one lockstep of relaxations; what is to be said of those that failed."""
    slabs = [slab for cut in cuts for slab in cut.slabs]
    for slab in slabs:
        slab.calc = atoms.calc
    names = [name for cut in cuts for name in cut.names]
    reason = ""
    try:
        found = settings.relaxed_all(slabs, names, evaluate=evaluate, progress=progress)
    except EvaluationError as error:
        if len(cuts) == 1 or not error.results:
            raise
        found, reason = error.results, str(error)
    ends = iter(found)
    for cut in cuts:
        mine = [next(ends) for _ in cut.slabs]
        cut.ends = None if any(end.failed for end in mine) else mine
    lost = [cut for cut in cuts if cut.ends is None]
    if lost and len(lost) == len(cuts):
        raise EvaluationError(reason, found)
    return _told([(cut, f"it cannot be relaxed ({reason})") for cut in lost])


def _energy(
    cut: _Cut, plane: Plane, counts: Sequence[int], bulk: Evaluated, settings: SurfaceSettings
) -> SurfaceEnergy:
    reference, perfection = bulk.energy / len(bulk.forces), Perfection.of(bulk, plane.primitive)
    first = cut.slabs[0].cell.array
    area = float(np.linalg.norm(np.cross(first[0], first[1])))
    sizes = np.array([len(slab) for slab in cut.slabs])
    energies = np.array([one.energy for one in cut.found])
    unrelaxed = (energies - sizes * reference) / (2 * area)
    ends: dict[str, Any] = {"relaxed": None, "each_converged": None, "max_forces": None, "slabs": tuple(cut.slabs)}
    if cut.ends is not None:
        energies = np.array([end.energy for end in cut.ends])
        ends = _ends(cut.ends) | {"relaxed": (energies - sizes * reference) / (2 * area)}
    return SurfaceEnergy(
        miller=plane.miller,
        n_layers=np.array(counts),
        n_atoms=sizes,
        thicknesses=plane.spacing * np.array(counts),
        area=area,
        unrelaxed=unrelaxed,
        **_line(sizes, energies, area),
        bulk_energy=reference,
        equivalent_faces=cut.same,
        vacuum=settings.vacuum,
        fmax=settings.fmax,
        perfect_max_force=perfection.max_force,
        perfect_max_stress_GPa=perfection.max_stress_GPa,
        termination=cut.number,
        cut=cut.text,
        spacegroup=plane.conventional.spacegroup,
        cellpar=plane.conventional.lengths,
        spacing=plane.spacing,
        **ends,
    )


def _ends(ends: Sequence[Relaxation]) -> dict[str, Any]:
    """What relaxations add to the result."""
    return {
        "each_converged": np.array([end.converged for end in ends]),
        "max_forces": np.array([end.max_force for end in ends]),
        "slabs": tuple(end.atoms for end in ends),
    }


def _line(sizes: NDArray[np.int64], energies: Array, area: float) -> dict[str, Any]:
    """Half the intercept per area, and the slope, of the line through the energies of slabs."""
    if len(sizes) < 2:
        return {"fitted": None, "fitted_bulk_energy": None}
    slope, intercept = np.polyfit(sizes, energies, 1)
    return {"fitted": float(intercept) / (2 * area), "fitted_bulk_energy": float(slope)}


def _tell_thin(result: SurfaceEnergy) -> None:
    values = result.unrelaxed if result.relaxed is None else result.relaxed
    if len(values) > 1 and abs(values[-1] - values[-2]) > _THIN * abs(values[-1]):
        warn(
            PhysicsWarning(
                f"the surface energy still changes from {values[-2] / J_PER_M2:.4f} to {values[-1] / J_PER_M2:.4f} "
                f"J/m^2 between {result.n_layers[-2]} and {result.n_layers[-1]} layers",
                limit=_THIN,
                remedies=[Use("n_layers", None, "for thicker slabs")],
            )
        )


def _tell_collapsed(cuts: Sequence[_Cut], results: Sequence[SurfaceEnergy], atoms: Atoms) -> None:
    """PhysicsWarning for slabs that are not surfaces of the crystal any more, and for energies that crystals lack."""
    several = atoms * (2, 2, 2)  # an atom may have images of itself only
    near = min(nearest_neighbor(several, k) for k in range(len(atoms)))
    for cut, result in zip(cuts, results, strict=True):
        name = f"termination {cut.number}" if len(cuts) > 1 else "the slab"
        if result.energy <= 0:
            warn(
                PhysicsWarning(
                    f"{name}: the surface energy is {result.energy_J_per_m2:.4f} J/m^2, not positive: the crystal "
                    "would gain by falling apart along it, so that it is not the stable phase of this potential, or "
                    "the slab is none of this crystal",
                    value=result.energy,
                    limit=0.0,
                )
            )
        if cut.ends is None:
            continue
        moved = max(_moved(slab, end.atoms) for slab, end in zip(cut.slabs, cut.ends, strict=True))
        if moved > near / 2:
            warn(
                PhysicsWarning(
                    f"{name}: an atom moved by {moved:.2f} Å, more than half the distance between neighbors "
                    f"({near:.2f} Å): the slab has become another structure, and the energy is not that of this "
                    "surface",
                    value=moved,
                    limit=near / 2,
                )
            )


def _moved(before: Atoms, after: Atoms) -> float:
    """The largest displacement (Å) in a slab, whose center of mass may drift."""
    away = find_mic(after.positions - before.positions, before.cell, pbc=True)[0]
    return float(np.linalg.norm(away - away.mean(axis=0), axis=1).max())


def surface_energy(
    atoms: Atoms,
    *,
    miller: Sequence[int] = (1, 1, 1),
    n_layers: int | Sequence[int] | None = None,
    termination: int | None = None,
    vacuum: float = 15.0,
    relaxed: bool = True,
    fmax: float = 1e-3,
    steps: int = 500,
    symprec: float = SYMPREC,
    require: bool = False,
    evaluate: Evaluate | None = None,
    progress: bool | None = None,
) -> SurfaceEnergy:
    """The energy of an ideal surface per area, gamma = (E_slab - N E_bulk / N_bulk) / (2 A), of 1 x 1 slabs.

    atoms: the unit cell of the perfect, relaxed crystal.  miller: indices of its conventional cell, as spglib chooses
    it (`spacegroup`, `cellpar`); three of them for hexagonal crystals too.  PhysicsWarning where that is another
    setting of the cell given, and ConfigError where noise in the positions makes it another plane.
    n_layers: of the primitive cell, between the lattice planes of the surface; several numbers for several slabs; None
    for slabs of about 15, 20 and 25 Å.  vacuum: between slabs, Å; it must exceed the range of the potential.
    fitted: half the intercept of the line through E_slab(N) (Fiorentini and Methfessel, J. Phys. Condens. Matter 8,
    6525 (1996)), which needs no bulk energy; a slope other than that energy tells of slabs too thin.

    termination: between which planes of atoms the crystal is parted.  A crystal with several atoms in its primitive
    cell can be parted at several places, which cost different energies: those that no symmetry makes the same are
    counted from 0, the widest gap first.  None for all of them, in one batch: the result is that of the lowest energy,
    and `others` holds the rest.  Atoms whose heights differ by less than 0.05 Å are not parted.

    All slabs are evaluated in one batch and relaxed in step, with fixed cells: no reconstruction larger than 1 x 1 is
    found.  A compound needs slabs whose two faces are equivalent: terminations that lack them are left out (`left_out`)
    and refused where no other is there; with an element of two different faces the energy is their mean, with a
    PhysicsWarning.  One says also where the crystal is not relaxed, the vacuum is below 8 Å, a relaxation ends
    unconverged, the two thickest slabs differ by more than 1 %, or a termination could not be evaluated.

    Raises ConfigError (a setting or the structure), EvaluationError, NotConvergedError.
    """
    settings = SurfaceSettings(vacuum=vacuum, symprec=symprec, relaxed=relaxed, fmax=fmax, steps=steps, require=require)
    plane, counts, cuts, left_out = _planned(atoms, miller, n_layers, termination, settings)
    _tell_plane(plane, vacuum)
    bulk, lost = _evaluate(atoms, cuts, evaluate)
    left_out += lost
    cuts = [cut for cut in cuts if cut.found]
    Perfection.of(bulk, atoms).tell()
    if settings.relaxed:
        left_out += _relax(cuts, atoms, settings, evaluate, progress)
        cuts = [cut for cut in cuts if cut.ends is not None]
    results = [_energy(cut, plane, counts, bulk, settings) for cut in cuts]
    lowest, *others = sorted(results, key=lambda result: result.energy)
    if not lowest.equivalent_faces:
        warn(PhysicsWarning(f"the two faces of the ({_name(plane)}) slab differ: the energy is the mean of both"))
    _tell_thin(lowest)
    _tell_collapsed(cuts, results, atoms)
    return replace(lowest, others=tuple(others), left_out=tuple(left_out))
