"""Phonons of a crystal at several volumes, all displaced supercells in one batch."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from ... import checks
from ...crystals.kinds import plain_crystal
from ...crystals.supercells import supercell_matrix
from ...crystals.vacuum import refuse_vacuum
from ...errors import ConfigError, PhysicsWarning
from ...evaluator import Evaluate, Evaluator, refuse_float32
from ...progress import CountBar
from ...relaxation.relax import relax_many
from ..bands import dispersion_of
from ..crystal import displaced_forces_of, phonopy_crystal, primitive_matrix, to_phonopy, without_calculator
from ..dispersion import PhononDispersion
from ..force_constants import force_constants_from

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class VolumePhonons:
    """The phonons of one crystal at several volumes, per primitive cell."""

    volumes: Array  # (V,) Å^3
    energies: Array  # (V,) eV, of the atoms at rest
    phonons: tuple[PhononDispersion, ...]  # (V,)

    def refuse_imaginary(self, what: str) -> None:
        """ConfigError that names the first volume whose crystal is not at a minimum."""
        for volume, phonons in zip(self.volumes, self.phonons, strict=True):
            if phonons.imaginary:
                raise ConfigError(
                    f"at {volume:.4g} Å^3 per primitive cell the crystal has imaginary modes (lowest "
                    f"{phonons.lowest:.3g} THz at q = {np.round(phonons.lowest_qpoint, 4).tolist()}): {what} is not "
                    "defined there; take a smaller range of volumes, or the stable structure"
                )


def phonons_of_volumes(
    atoms: Atoms,
    factors: Sequence[float] | Array,
    *,
    supercell: Any,
    displacement: float,
    relax_ions: bool,
    fmax: float,
    symprec: float,
    mesh: Any,
    points: int,
    path: Any,
    allow_float32: bool,
    evaluate: Evaluate | None,
    progress: bool | None,
) -> VolumePhonons:
    """Phonons at the volume of the crystal times each factor, its shape kept and, with `relax_ions`, its atoms relaxed.

    Atoms and supercells of all volumes are evaluated together; a PhysicsWarning tells of residual forces above `fmax`.
    """
    if constrained := plain_crystal(atoms, "phonons at several volumes"):
        warnings.warn(constrained, PhysicsWarning, stacklevel=3)
    refuse_vacuum(atoms, "what follows from phonons at several volumes")
    evaluator = Evaluator(atoms.calc, evaluate)
    refuse_float32(evaluator, "force constants", allow_float32)
    scales = [checks.number("volume factor", float(f), above=0.0) ** (1 / 3) for f in factors]
    crystals = [_scaled(atoms, scale) for scale in scales]
    names = [f"volume {factor:.4f}: " for factor in factors]
    start = evaluator(crystals, names=names)
    if relax_ions and max(float(np.abs(result.forces).max()) for result in start) > fmax / 10:
        for crystal in crystals:
            crystal.calc = atoms.calc
        settings: Any = {"fmax": fmax / 10, "require": True, "evaluate": evaluate, "progress": progress}
        crystals = [without_calculator(found.atoms) for found in relax_many(crystals, names=names, **settings)]
    matrix = supercell_matrix(supercell)
    primitive = primitive_matrix(to_phonopy(crystals[0]), symprec, 3)  # of atoms that are at rest
    made = []
    for crystal in crystals:
        phonon = phonopy_crystal(crystal, matrix, primitive=primitive, symprec=symprec, dimensions=3)
        phonon.generate_displacements(distance=checks.number("displacement", displacement, above=0.0, hint=" Å"))
        made.append(phonon)
    count = sum(1 + len(phonon.supercells_with_displacements or ()) for phonon in made)
    with CountBar(progress, count, "phonons at all volumes", "supercell") as bar:
        found = displaced_forces_of(made, evaluator, names)
        bar.advance(count)
    residual = max(float(np.linalg.norm(perfect.forces, axis=1).max()) for _, perfect in found)
    if residual > fmax:
        warnings.warn(
            f"forces of up to {residual:.3g} eV/Å act on the atoms at rest (limit {fmax:g}), so these phonons are not "
            "those of minima: relax the crystal first, and leave relax_ions on",
            PhysicsWarning,
            stacklevel=3,
        )
    results = []
    for phonon, (forces, perfect) in zip(made, found, strict=True):
        facts = force_constants_from(phonon, forces - perfect.forces)
        results.append(
            dispersion_of(
                phonon,
                dimensions=3,
                path=path,
                points=points,
                mesh=mesh,
                displacement=displacement,
                residual_force=float(np.linalg.norm(perfect.forces, axis=1).max()),
                **facts,
            )
        )
        results[-1].__dict__["_phonon"] = phonon  # making it anew takes seconds
    size = [len(phonon.primitive) / len(phonon.supercell) for phonon in made]
    return VolumePhonons(
        volumes=np.array([float(phonon.primitive.volume) for phonon in made]),
        energies=np.array([share * perfect.energy for share, (_, perfect) in zip(size, found, strict=True)]),
        phonons=tuple(results),
    )


def _scaled(atoms: Atoms, scale: float) -> Atoms:
    crystal = without_calculator(atoms)
    crystal.set_constraint()
    crystal.set_cell(atoms.cell.array * scale, scale_atoms=True)
    return crystal
