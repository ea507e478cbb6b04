"""The computation behind `vacancy_migration`."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.geometry import find_mic
from numpy.typing import NDArray

from . import checks
from .elastic_band import Band, relax_band
from .errors import ConfigError, NotConvergedError, PhysicsWarning
from .evaluations import Evaluate, Evaluated, Evaluator
from .migration import MigrationBarrier
from .phonons.crystal import supercell_matrix
from .relaxation import Relaxation, relax_many
from .vacancy_cells import (
    Hop,
    check_vacancies,
    image_distance,
    inequivalent_hops,
    inequivalent_sites,
    perfect_supercell,
    rattled,
    symmetry,
    tell_small,
    without,
)
from .vacancy_perfection import Perfection, offers_stress
from .vacancy_settings import MigrationSettings

_RATTLED = 2.0  # in units of the jump's length
_DIP = 1e-3  # eV: a deeper minimum between the end points means several barriers

Array = NDArray[np.float64]


@dataclass(frozen=True)
class _Jump:
    """Which atom jumps where."""

    site: int  # of the vacancy, in the unit cell
    hop: Hop
    hops: tuple[Hop, ...]
    matrix: NDArray[np.int64]  # of the supercell
    perfect: Atoms
    first: Atoms  # the vacancy before the jump
    last: Atoms  # and after it: the same atoms in one order
    jumper: int  # index of the atom in them


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


def check_jump(atoms: Atoms, supercell: Any, site: int | None, hop: int | None, symprec: float) -> None:
    """ConfigError for a jump that `vacancy_migration` would refuse."""
    check_vacancies(atoms, "vacancy migration")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PhysicsWarning)  # the computation tells of other jumps
        _jump(atoms, supercell, symprec, site, hop)


def _jump(atoms: Atoms, supercell: Any, symprec: float, site: int | None, hop: int | None) -> _Jump:
    data = symmetry(atoms, symprec)
    place = _site(atoms, data, site)
    hops = inequivalent_hops(atoms, data, place, symprec)
    chosen = hops[_hop(hops, hop)]
    perfect = perfect_supercell(atoms, supercell)
    first, last, jumper = _end_points(perfect, place, chosen)
    return _Jump(place, chosen, tuple(hops), supercell_matrix(supercell), perfect, first, last, jumper)


def _site(atoms: Atoms, data: Any, site: int | None) -> int:
    if site is not None:
        return inequivalent_sites(atoms, data, [site])[0].index
    sites = inequivalent_sites(atoms, data, None)
    if len(sites) > 1:
        named = ", ".join(f"{one.index} ({one.symbol})" for one in sites)
        raise ConfigError(f"the crystal has {len(sites)} inequivalent sites: choose one with site=, of {named}")
    return sites[0].index


def _hop(hops: list[Hop], hop: int | None) -> int:
    listed = "; ".join(f"{k}: {one.distance:.4f} Å, {one.multiplicity} equivalent" for k, one in enumerate(hops))
    if hop is None:
        if len(hops) > 1:
            warnings.warn(
                f"there are {len(hops)} inequivalent jumps of similar length ({listed}), and only the first is "
                "followed: the others may have a lower barrier; choose with hop=",
                PhysicsWarning,
                stacklevel=4,
            )
        return 0
    if checks.whole("hop", hop, at_least=0) >= len(hops):
        raise ConfigError(f"hop is {hop}: the inequivalent jumps are {listed}")
    return hop


def _end_points(perfect: Atoms, site: int, jump: Hop) -> tuple[Atoms, Atoms, int]:
    """The vacancy before and after the jump, and the index of the atom that jumps: the same atoms in one order."""
    place = perfect.positions[site]
    away = find_mic(perfect.positions - (place + jump.vector), perfect.cell, perfect.pbc)[1]
    neighbor = int(np.argmin(away))
    if neighbor == site:
        raise ConfigError(
            f"in the supercell of {len(perfect)} atoms the neighbor of the vacancy is its own image: take a larger one"
        )
    first = without(perfect, site)
    jumper = neighbor - (neighbor > site)
    last = first.copy()
    last.positions[jumper] -= jump.vector  # along the jump, whichever image of the atom is the nearest
    return first, last, jumper


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
        perfect_max_stress_GPa=perfection.max_stress,
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
