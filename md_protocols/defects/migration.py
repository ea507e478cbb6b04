"""Migration of vacancies: end points, the band between them, the barrier."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from .. import checks
from ..crystals.perfection import Perfection, offers_stress
from ..crystals.supercells import image_distance
from ..errors import NotConvergedError, PhysicsWarning
from ..evaluator import Evaluate, Evaluated, Evaluator
from ..relaxation.outcome import Relaxation
from ..relaxation.relax import relax_many
from .elastic_band import Band, relax_band
from .hops import _Jump, _jump
from .migration_result import MigrationBarrier
from .sites import check_vacancies, rattled, tell_small


@dataclass(frozen=True)
class MigrationSettings:
    """How a barrier is computed; see `vacancy_migration`."""

    images: int
    spring: float
    climb: bool
    fmax: float
    relax_fmax: float
    steps: int
    rattle: float
    seed: int
    symprec: float
    require: bool

    @classmethod
    def checked(cls, **given: Any) -> MigrationSettings:
        """The settings as plain values; ConfigError where one is out of its range."""
        return cls(
            images=checks.whole("images", given["images"], at_least=1),
            spring=checks.number("spring", given["spring"], above=0.0, hint=" eV/Å^2"),
            climb=bool(given["climb"]),
            fmax=checks.number("fmax", given["fmax"], above=0.0, hint=" eV/Å"),
            relax_fmax=checks.number("relax_fmax", given["relax_fmax"], above=0.0, hint=" eV/Å"),
            steps=checks.whole("steps", given["steps"], at_least=0),
            rattle=checks.number("rattle", given["rattle"], at_least=0.0, hint=" Å"),
            seed=checks.whole("seed", given["seed"], at_least=0),
            symprec=checks.number("symprec", given["symprec"], above=0.0, hint=" Å"),
            require=bool(given["require"]),
        )


def vacancy_migration(
    atoms: Atoms,
    *,
    supercell: Any,
    site: int | None = None,
    hop: int | None = None,
    images: int = 5,
    spring: float = 0.1,
    climb: bool = True,
    fmax: float = 0.01,
    relax_fmax: float = 1e-3,
    steps: int = 500,
    rattle: float = 0.02,
    seed: int = 0,
    symprec: float = 1e-3,
    require: bool = False,
    evaluate: Evaluate | None = None,
    progress: bool | None = None,
) -> MigrationBarrier:
    """The energy barrier of a neighbor's jump into a vacancy: minimum-energy path by a climbing-image elastic band.

    atoms: the unit cell of the perfect, relaxed crystal.  supercell: as for `vacancy_energy`; its size is kept.
    site: of the vacancy, an index in the unit cell; None where all sites are equivalent.
    hop: which of the inequivalent jumps of an atom of the same element, as the result lists them (`hops`), shortest
    first, up to 1.25 times the shortest; None for the first, with a PhysicsWarning if there are others.
    images: between the end points; an odd number has one in the middle.
    climb: the highest image goes to the saddle; without it the barrier is the highest point of the fit.
    spring: constant of the springs between images, eV/Å^2; the path does not depend on it once converged.
    fmax: forces of the band, eV/Å, within `steps`; relax_fmax: of the end points.
    rattle: atoms near the jump start displaced at random (standard deviation, Å, with this `seed`), end points and
    images alike, so that no symmetry holds the path on a ridge; 0 keeps the symmetry.

    Both end points are relaxed together, and each step of the band evaluates all images in one batch.  Methods: see
    `relax_band`.  A PhysicsWarning says where the crystal is not relaxed, images of the vacancy are nearer than 10 Å,
    an end point or the band ends unconverged (with `require` a NotConvergedError), or the path has no barrier, or
    several.  NotConvergedError, in any case, where the relaxed end points are not a jump apart.

    Raises ConfigError (a setting or the structure), EvaluationError, NotConvergedError.
    """

    settings = MigrationSettings.checked(
        images=images,
        spring=spring,
        climb=climb,
        fmax=fmax,
        relax_fmax=relax_fmax,
        steps=steps,
        rattle=rattle,
        seed=seed,
        symprec=symprec,
        require=require,
    )
    return migration_barrier(atoms, supercell, settings, site, hop, evaluate=evaluate, progress=progress)


_RATTLED = 2.0  # in units of the jump's length
_DIP = 1e-3  # eV: a deeper minimum between the end points means several barriers

Array = NDArray[np.float64]


def migration_barrier(
    atoms: Atoms,
    supercell: Any,
    settings: MigrationSettings,
    site: int | None,
    hop: int | None,
    *,
    evaluate: Evaluate | None,
    progress: bool | None,
) -> MigrationBarrier:
    """See `vacancy_migration`."""
    check_vacancies(atoms, "vacancy migration")
    jump = _jump(atoms, supercell, settings.symprec, site, hop)
    tell_small(image_distance(jump.perfect))
    evaluator = Evaluator(atoms.calc, evaluate)
    stress = offers_stress(atoms, evaluate)
    perfection = Perfection.of(
        evaluator.one(jump.perfect, stress=stress, name="the perfect supercell"), atoms, evaluate
    )
    perfection.tell()
    ends = _relaxed(_starts(atoms, jump, settings), settings, evaluate, progress)
    _check_ends(ends, jump)
    band = relax_band(
        _interpolated(ends, jump, settings),
        (_evaluated(ends[0]), _evaluated(ends[1])),
        evaluator,
        spring=settings.spring,
        fmax=settings.fmax,
        steps=settings.steps,
        climb=settings.climb,
        progress=progress,
    )
    result = _barrier(jump, ends, band, perfection, settings)
    _tell(result, band, settings)
    return result


def _starts(atoms: Atoms, jump: _Jump, settings: MigrationSettings) -> list[Atoms]:
    """The end points, displaced at random near the jump."""
    center = jump.first.positions[jump.jumper] - np.array(jump.hop.vector) / 2
    reach = _RATTLED * jump.hop.distance
    starts = [rattled(end, center, reach, settings.rattle, settings.seed) for end in (jump.first, jump.last)]
    for start in starts:
        start.calc = atoms.calc
    return starts


def _relaxed(
    starts: list[Atoms], settings: MigrationSettings, evaluate: Evaluate | None, progress: bool | None
) -> tuple[Relaxation, Relaxation]:
    """Both end points, relaxed together."""
    first, last = relax_many(
        starts,
        fmax=settings.relax_fmax,
        steps=settings.steps,
        require=settings.require,
        evaluate=evaluate,
        names=["the vacancy before the jump", "the vacancy after the jump"],
        progress=progress,
    )
    return first, last


def _check_ends(ends: tuple[Relaxation, Relaxation], jump: _Jump) -> None:
    """NotConvergedError where the relaxed end points are not a jump apart: there is no path between them."""
    first, last = (end.atoms.positions[jump.jumper] for end in ends)
    off = float(np.linalg.norm(last - first + jump.hop.vector))
    if off > jump.hop.distance / 2:
        raise NotConvergedError(
            f"the relaxed end points are not those of a jump of {jump.hop.distance:.2f} Å: the atom is {off:.2f} Å "
            "off, so the vacancy is not stable at one of the two places; look at the relaxed structures in `results`",
            ends,
        )


def _evaluated(end: Relaxation) -> Evaluated:
    return Evaluated(end.energy, end.forces, None)


def _interpolated(ends: tuple[Relaxation, Relaxation], jump: _Jump, settings: MigrationSettings) -> list[Atoms]:
    """Straight lines between the relaxed end points, displaced at random in between."""
    first, last = (end.atoms.copy() for end in ends)
    path = [first]
    for k in range(1, settings.images + 1):
        image = first.copy()
        image.positions += k / (settings.images + 1) * (last.positions - first.positions)
        center, reach = image.positions[jump.jumper], _RATTLED * jump.hop.distance
        path.append(rattled(image, center, reach, settings.rattle, settings.seed + k))
    return [*path, last]


def _barrier(
    jump: _Jump,
    ends: tuple[Relaxation, Relaxation],
    band: Band,
    perfection: Perfection,
    settings: MigrationSettings,
) -> MigrationBarrier:
    from ase.utils.forcecurve import fit_raw

    positions = [image.positions for image in band.images]
    fit = fit_raw(band.energies, band.forces, positions, jump.perfect.cell, jump.perfect.pbc)
    saddle = int(np.argmax(band.energies))
    above = band.energies - band.energies[0]
    # Only a climbing image is at the saddle: without one it lies between images, where the fit through them has it.
    top = float(above[saddle]) if settings.climb else max(float(above[saddle]), float(np.max(fit.fit_energies)))
    return MigrationBarrier(
        images=band.images,
        energies=band.energies,
        path=np.array(fit.path),
        fit_path=np.array(fit.fit_path),
        fit_energies=np.array(fit.fit_energies),
        saddle=saddle,
        barrier=top,
        barrier_backward=top - float(above[-1]),
        converged=band.converged and all(end.converged for end in ends),
        max_force=band.max_force,
        steps=band.steps,
        fmax=settings.fmax,
        spring=settings.spring,
        climb=settings.climb,
        site=jump.site,
        symbol=jump.perfect.symbols[jump.site],
        neighbor=jump.hop.neighbor,
        hop_vector=np.array(jump.hop.vector),
        hop_distance=jump.hop.distance,
        hops=jump.hops,
        supercell=jump.matrix,
        n_atoms=len(jump.perfect),
        image_distance=image_distance(jump.perfect),
        perfect_max_force=perfection.max_force,
        perfect_max_stress_GPa=perfection.max_stress_GPa,
        rattle=settings.rattle,
        seed=settings.seed,
    )


def _tell(result: MigrationBarrier, band: Band, settings: MigrationSettings) -> None:
    """What the path says of itself; NotConvergedError for an unconverged band that was required to be."""
    if not band.converged:
        text = (
            f"the elastic band ended unconverged after {band.steps} steps with a largest force of {band.max_force:.3g} "
            f"eV/Å (fmax {settings.fmax:g}): the barrier is not that of a saddle point; allow more steps or loosen fmax"
        )
        if settings.require:
            raise NotConvergedError(text, [result])
        warnings.warn(text, PhysicsWarning, stacklevel=4)
    energies, saddle = result.energies, result.saddle
    if saddle in (0, len(energies) - 1):
        warnings.warn(
            "the path has no barrier: an end point is its highest image, so that vacancy is not stable or the images "
            "are too few",
            PhysicsWarning,
            stacklevel=4,
        )
    inner = energies[1:-1]
    dips = [k for k in range(1, len(inner) - 1) if inner[k] < min(inner[:k].max(), inner[k + 1 :].max()) - _DIP]
    if dips:
        warnings.warn(
            f"the path has a minimum between its end points, at image {dips[0] + 1}: it has several barriers, of which "
            "the highest is given; follow each of its parts by itself with relax_band",
            PhysicsWarning,
            stacklevel=4,
        )
