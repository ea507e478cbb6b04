"""Migration of vacancies: end points, the band between them, the barrier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlcalc.ground.errors import Use
from mlcalc.ground.warn import warn

from .. import checks
from ..crystals.perfection import Perfection, offers_stress
from ..crystals.supercells import image_distance
from ..crystals.symmetry import SYMPREC
from ..errors import NotConvergedError, PhysicsWarning
from ..evaluator import Evaluate, Evaluated, Evaluator
from ..relaxation.outcome import Relaxation
from .elastic_band import Band, relax_band
from .hops import Jump, chosen_jump
from .migration_result import MigrationBarrier
from .settings import RattledSettings
from .sites import check_vacancies, rattled, tell_small

_RATTLED = 2.0  # in units of the jump's length
_DIP = 1e-3  # eV: a deeper minimum between the end points means several barriers
Array = NDArray[np.float64]
_MORE_STEPS = (Use("steps", None, "for more of them"), Use("band_fmax", None, "for a looser target"))


@dataclass(frozen=True, kw_only=True)
class MigrationSettings(RattledSettings):
    """How a barrier is computed; see `vacancy_migration`."""

    n_images: int
    spring: float  # eV/Å^2
    climb: bool
    band_fmax: float  # eV/Å

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.whole("n_images", self.n_images, at_least=1)
        checks.number("spring", self.spring, above=0.0, hint=" eV/Å^2")
        checks.number("band_fmax", self.band_fmax, above=0.0, hint=" eV/Å")


def vacancy_migration(
    atoms: Atoms,
    *,
    supercell: Any,
    site: int | None = None,
    hop: int | None = None,
    n_images: int = 5,
    spring: float = 0.1,
    climb: bool = True,
    band_fmax: float = 0.01,
    fmax: float = 1e-3,
    steps: int = 500,
    rattle: float = 0.02,
    seed: int = 0,
    symprec: float = SYMPREC,
    require: bool = False,
    evaluate: Evaluate | None = None,
    progress: bool | None = None,
) -> MigrationBarrier:
    """The energy barrier of a neighbor's jump into a vacancy: minimum-energy path by a climbing-image elastic band.

    atoms: the unit cell of the perfect, relaxed crystal.  supercell: as for `vacancy_energy`; its size is kept.
    site: of the vacancy, an index in the unit cell; None where all sites are equivalent.
    hop: which of the inequivalent jumps of an atom of the same element, as the result lists them (`hops`), shortest
    first, up to 1.25 times the shortest; None for the first, with a PhysicsWarning if there are others.
    n_images: between the end points; an odd number has one in the middle.
    climb: the highest image goes to the saddle; without it the barrier is the highest point of the fit.
    spring: constant of the springs between images, eV/Å^2; the path does not depend on it once converged.
    band_fmax: largest force of the band, eV/Å, within `steps`; fmax: of the end points.
    rattle: atoms near the jump start displaced at random (standard deviation, Å, with this `seed`), end points and
    images alike, so that no symmetry holds the path on a ridge; 0 keeps the symmetry.

    Both end points are relaxed together, and each step of the band evaluates all images in one batch.  Methods: see
    `relax_band`.  A PhysicsWarning says where the crystal is not relaxed, images of the vacancy are nearer than 10 Å,
    an end point or the band ends unconverged (with `require` a NotConvergedError), or the path has no barrier, or
    several.  NotConvergedError, in any case, where the relaxed end points are not a jump apart.

    Raises ConfigError (a setting or the structure), EvaluationError, NotConvergedError.
    """
    settings = MigrationSettings(
        n_images=n_images,
        spring=spring,
        climb=climb,
        band_fmax=band_fmax,
        fmax=fmax,
        steps=steps,
        rattle=rattle,
        seed=seed,
        symprec=symprec,
        require=require,
    )
    check_vacancies(atoms, "vacancy migration")
    jump = chosen_jump(atoms, supercell, symprec, site, hop)
    tell_small(image_distance(jump.perfect))
    evaluator = Evaluator(atoms.calc, evaluate)
    stress = offers_stress(atoms, evaluate)
    perfection = Perfection.of(
        evaluator.one(jump.perfect, stress=stress, name="the perfect supercell"), atoms, evaluate
    )
    perfection.tell()
    names = ["the vacancy before the jump", "the vacancy after the jump"]
    first, last = settings.relaxed_all(_starts(atoms, jump, settings), names, evaluate=evaluate, progress=progress)
    _check_ends((first, last), jump)
    band = relax_band(
        _interpolated((first, last), jump, settings),
        (_evaluated(first), _evaluated(last)),
        evaluator,
        spring=spring,
        band_fmax=band_fmax,
        steps=steps,
        climb=climb,
        progress=progress,
    )
    result = _barrier(jump, (first, last), band, perfection, settings)
    _tell(result, band, settings)
    return result


def _starts(atoms: Atoms, jump: Jump, settings: MigrationSettings) -> list[Atoms]:
    """The end points, displaced at random near the jump."""
    center = jump.first.positions[jump.jumper] - np.array(jump.hop.vector) / 2
    reach = _RATTLED * jump.hop.distance
    starts = [rattled(end, center, reach, settings.rattle, settings.seed) for end in (jump.first, jump.last)]
    for start in starts:
        start.calc = atoms.calc
    return starts


def _check_ends(ends: tuple[Relaxation, Relaxation], jump: Jump) -> None:
    """NotConvergedError where the relaxed end points are not a jump apart: there is no path between them."""
    first, last = (end.atoms.positions[jump.jumper] for end in ends)
    off = float(np.linalg.norm(last - first + jump.hop.vector))
    if off > jump.hop.distance / 2:
        raise NotConvergedError(
            f"the relaxed end points are not those of a jump of {jump.hop.distance:.2f} Å: the atom is {off:.2f} Å "
            "off, so the vacancy is not stable at one of the two places",
            ends,
            value=off,
            limit=jump.hop.distance / 2,
            remedies=["look at the relaxed structures in `results`"],
        )


def _evaluated(end: Relaxation) -> Evaluated:
    return Evaluated(end.energy, end.forces, None)


def _interpolated(ends: tuple[Relaxation, Relaxation], jump: Jump, settings: MigrationSettings) -> list[Atoms]:
    """Straight lines between the relaxed end points, displaced at random in between."""
    first, last = (end.atoms.copy() for end in ends)
    path = [first]
    for k in range(1, settings.n_images + 1):
        image = first.copy()
        image.positions += k / (settings.n_images + 1) * (last.positions - first.positions)
        center, reach = image.positions[jump.jumper], _RATTLED * jump.hop.distance
        path.append(rattled(image, center, reach, settings.rattle, settings.seed + k))
    return [*path, last]


def _barrier(
    jump: Jump,
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
        band_fmax=settings.band_fmax,
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
            f"the elastic band ended unconverged after {result.steps} steps with a largest force of "
            f"{result.max_force:.3g} eV/Å (band_fmax {settings.band_fmax:g}), and the barrier is not that of a saddle "
            "point"
        )
        known: dict[str, Any] = {"value": result.max_force, "limit": settings.band_fmax, "remedies": _MORE_STEPS}
        if settings.require:
            raise NotConvergedError(text, [result], setting="band_fmax", **known)
        warn(PhysicsWarning(text, setting="band_fmax", **known))
    energies, saddle = result.energies, result.saddle
    if saddle in (0, len(energies) - 1):
        warn(
            PhysicsWarning(
                "the path has no barrier: an end point is its highest image, so that vacancy is not stable or the "
                "images are too few"
            )
        )
    inner = energies[1:-1]
    dips = [k for k in range(1, len(inner) - 1) if inner[k] < min(inner[:k].max(), inner[k + 1 :].max()) - _DIP]
    if dips:
        warn(
            PhysicsWarning(
                f"the path has a minimum between its end points, at image {dips[0] + 1}, and several barriers, of "
                "which the highest is given",
                remedies=["follow each of its parts by itself with relax_band"],
            )
        )
