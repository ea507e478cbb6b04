"""Phonons of a crystal at several volumes, all displaced supercells in one batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlcalc.ground.errors import Use
from mlcalc.ground.remedies import RELAX_FIRST
from mlcalc.ground.warn import warn

from ... import checks
from ...crystals.kinds import plain_crystal
from ...crystals.supercells import supercell_matrix
from ...crystals.vacuum import refuse_vacuum
from ...errors import ConfigError, PhysicsWarning
from ...evaluator import Evaluate, Evaluator, refuse_float32
from ...progress import CountBar
from ...relaxation.relax import relax_many
from ..bands import dispersion_on, sampling_of
from ..crystal import (
    displaced_forces_of,
    phonopy_crystal,
    primitive_matrix,
    refuse_one_atom,
    to_phonopy,
    without_calculator,
)
from ..dispersion import PhononDispersion
from ..force_constants import force_constants_from

if TYPE_CHECKING:
    from phonopy import Phonopy

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class VolumePhonons:
    """The phonons of one crystal at several volumes, per primitive cell."""

    volumes: Array  # (V,) Å^3
    energies: Array  # (V,) eV, of the atoms at rest
    phonons: tuple[PhononDispersion, ...]  # (V,)
    phonopy_objects: tuple[Phonopy, ...]  # (V,) that the dispersions work with: not to be changed

    def refuse_imaginary(self, what: str) -> None:
        """ConfigError that names the first volume whose crystal is not at a minimum."""
        for volume, phonons in zip(self.volumes, self.phonons, strict=True):
            if phonons.imaginary:
                raise ConfigError(
                    f"at {volume:.4g} Å^3 per primitive cell the crystal has imaginary modes (lowest "
                    f"{phonons.lowest:.3g} THz at q = {np.round(phonons.lowest_qpoint, 4).tolist()}): {what} is not "
                    "defined there",
                    setting="volume_range",
                    value=phonons.lowest,
                    limit=phonons.imaginary_limit,
                    remedies=[Use("volume_range", None, python="take a smaller volume_range"), "the stable structure"],
                )


def volume_limits(volume_range: Any) -> tuple[float, float]:
    """The lowest and the highest relative change of the volume; one number x stands for (-x, x)."""
    if np.ndim(volume_range) == 0:
        x = checks.number("volume_range", volume_range, above=0.0)
        volume_range = (-x, x)
    if np.shape(volume_range) != (2,):
        raise ConfigError(
            f"volume_range is {volume_range!r}: give the lowest and the highest relative change of the volume, such as "
            "(-0.03, 0.07), or one number",
            setting="volume_range",
            value=volume_range,
        )
    lowest = checks.number("volume_range[0]", volume_range[0], above=-0.5)
    return lowest, checks.number("volume_range[1]", volume_range[1], above=lowest)


def phonons_of_volumes(
    atoms: Atoms,
    factors: Sequence[float] | Array,
    *,
    supercell: Any,
    displacement: float,
    relax_ions: bool,
    fmax: float,
    force_limit: float,
    symprec: float,
    npoints: int,
    path: Any,
    allow_float32: bool,
    evaluate: Evaluate | None,
    progress: bool | None,
) -> VolumePhonons:
    """Phonons at the volume of the crystal times each factor, its shape kept and, with `relax_ions`, its atoms relaxed.

    fmax: target of that relaxation.  Atoms and supercells of all volumes are evaluated together; a PhysicsWarning tells
    of residual forces above `force_limit`.
    """
    if constrained := plain_crystal(atoms, "phonons at several volumes"):
        warn(PhysicsWarning(constrained))
    refuse_vacuum(atoms, "what follows from phonons at several volumes")
    matrix = supercell_matrix(supercell)
    refuse_one_atom(len(atoms), matrix)
    checks.number("fmax", fmax, above=0.0, hint=" eV/Å")
    checks.number("force_limit", force_limit, above=0.0, hint=" eV/Å")
    step = checks.number("displacement", displacement, above=0.0, hint=" Å")
    evaluator = Evaluator(atoms.calc, evaluate)
    refuse_float32(evaluator, "force constants", allow_float32)
    scales = [checks.number("volume factor", float(f), above=0.0) ** (1 / 3) for f in factors]
    crystals = [_scaled(atoms, scale) for scale in scales]
    names = [f"volume {factor:.4f}: " for factor in factors]
    start = evaluator(crystals, names=names)
    if relax_ions and max(float(np.abs(result.forces).max()) for result in start) > fmax:
        crystals = _at_rest(crystals, names, atoms.calc, fmax=fmax, evaluate=evaluate, progress=progress)
    primitive = primitive_matrix(to_phonopy(crystals[0]), symprec, 3)  # of atoms that are at rest
    made = [phonopy_crystal(c, matrix, primitive=primitive, symprec=symprec, dimensions=3) for c in crystals]
    samplings = [sampling_of(phonon, dimensions=3, path=path, npoints=npoints) for phonon in made]
    for phonon in made:
        phonon.generate_displacements(distance=step)
    count = sum(1 + len(phonon.supercells_with_displacements or ()) for phonon in made)
    with CountBar(progress, count, "phonons at all volumes", "supercell") as bar:
        found = displaced_forces_of(made, evaluator, names)
        bar.advance(count)
    residuals = [float(np.linalg.norm(perfect.forces, axis=1).max()) for _, perfect in found]
    _tell_residual(max(residuals), force_limit)
    results = []
    for phonon, sampling, residual, (forces, perfect) in zip(made, samplings, residuals, found, strict=True):
        done = force_constants_from(phonon, forces - perfect.forces)
        provenance = replace(done, displacement=step, residual_force=residual)
        results.append(dispersion_on(phonon, sampling, provenance=provenance, kept=True))
    size = [len(phonon.primitive) / len(phonon.supercell) for phonon in made]
    return VolumePhonons(
        volumes=np.array([float(phonon.primitive.volume) for phonon in made]),
        energies=np.array([share * perfect.energy for share, (_, perfect) in zip(size, found, strict=True)]),
        phonons=tuple(results),
        phonopy_objects=tuple(made),
    )


def _at_rest(
    crystals: list[Atoms],
    names: list[str],
    calc: Any,
    *,
    fmax: float,
    evaluate: Evaluate | None,
    progress: bool | None,
) -> list[Atoms]:
    """The crystals with their atoms relaxed, all in step, in cells that stay."""
    for crystal in crystals:
        crystal.calc = calc
    found = relax_many(crystals, names=names, fmax=fmax, require=True, evaluate=evaluate, progress=progress)
    return [without_calculator(relaxed.atoms) for relaxed in found]


def _tell_residual(residual: float, force_limit: float) -> None:
    if residual > force_limit:
        warn(
            PhysicsWarning(
                f"forces of up to {residual:.3g} eV/Å act on the atoms at rest (limit {force_limit:g}), so these "
                "phonons are not those of minima",
                setting="force_limit",
                value=residual,
                limit=force_limit,
                remedies=[RELAX_FIRST, Use("relax_ions", True, python="leave relax_ions on")],
            )
        )


def _scaled(atoms: Atoms, scale: float) -> Atoms:
    crystal = without_calculator(atoms)
    crystal.set_constraint()
    crystal.set_cell(atoms.cell.array * scale, scale_atoms=True)
    return crystal
