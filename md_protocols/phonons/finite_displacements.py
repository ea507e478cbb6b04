"""Phonons of a crystal by finite displacements, with the checks that make a calculator's forces physics."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from .. import checks
from ..crystals.kinds import plain_crystal
from ..errors import ConfigError, PhysicsWarning
from ..evaluator import Evaluate, Evaluator, refuse_float32
from ..progress import CountBar
from .bands import dispersion_of, where_to_look, with_charges
from .born import BornCharges
from .cautions import another_shape, lowered_symmetry, stress_of, unrelaxed
from .crystal import displaced_forces, phonopy_crystal, plane_of, without_calculator
from .dispersion import IMAGINARY_LIMIT, PhononDispersion
from .force_constants import _SOLVERS, force_constants_from

if TYPE_CHECKING:
    from phonopy import Phonopy


Array = NDArray[np.float64]


def phonon_dispersion(
    atoms: Atoms,
    *,
    supercell: Any,
    displacement: float = 0.01,
    path: Any = None,
    points: int = 101,
    primitive_matrix: Any = "auto",
    dimensions: int | None = None,
    symprec: float = 1e-5,
    born: BornCharges | None = None,
    plusminus: bool | str = "auto",
    symmetrize: bool = True,
    fc_calculator: str | None = None,
    rotational: bool = False,
    subtract_residual: bool = True,
    fmax: float = 1e-3,
    smax: float | None = 1e-3,
    mesh: Any = None,
    imaginary_limit: float = IMAGINARY_LIMIT,
    allow_float32: bool = False,
    evaluate: Evaluate | None = None,
    progress: bool | None = None,
) -> PhononDispersion:
    """The phonon dispersion of a relaxed crystal, from forces in supercells with one atom displaced (by phonopy).

    Phi_ij = -(F_j(u_i) - F_j(0)) / u_i; all displaced supercells and the perfect one are evaluated in one batch.

    supercell: repetitions of the cell, one number, three, or a 3 x 3 matrix whose columns, as in phonopy, are the
    supercell's vectors.  displacement: Å.
    path: None for the recommended one, or as in `band_path`; points: on each of its segments.
    dimensions: 2 for a slab in the plane of the first two cell vectors; found by itself where the third is not repeated
    and its vacuum is wider than 8 Å.
    born: adds the non-analytical correction of polar crystals (Gonze and Lee, Phys. Rev. B 55, 10355 (1997)).
    plusminus: displace to both sides; "auto" where symmetry does not make them equal.
    symmetrize: force constants are made to follow the acoustic sum rule and Phi_ij = Phi_ji^T; what they violated
    before is the result's asr_residual.  rotational: enforce the rotational sum rules too (`sum_rules`).
    fc_calculator: None for phonopy's own solver, or "symfc".
    subtract_residual: take the perfect supercell's forces F(0) off; else F(0) is taken for zero.
    fmax (eV/Å), smax (eV/Å^3, None for no limit): forces and stress of the crystal above them give a PhysicsWarning.
    mesh: numbers of q-points on which stability is judged beside the path; imaginary_limit: THz.

    Raises ConfigError for settings, the structure and calculators in single precision (unless allowed), EvaluationError
    for NaN and for forces that contradict the energies, e.g. in another order of the atoms.
    """
    constrained = plain_crystal(atoms, "a phonon calculation")
    evaluator = Evaluator(atoms.calc, evaluate)
    refuse_float32(evaluator, "force constants", allow_float32)
    crystal = without_calculator(atoms)
    phonon = phonopy_crystal(crystal, supercell, primitive=primitive_matrix, symprec=symprec, dimensions=dimensions)
    flat = plane_of(crystal, np.array(phonon.supercell_matrix), dimensions)
    with_charges(phonon, born)
    distance = checks.number("displacement", displacement, above=0.0, hint=" Å")
    phonon.generate_displacements(distance=distance, is_plusminus=_plusminus(plusminus))
    return measured(
        phonon,
        atoms,
        evaluator,
        dimensions=flat,
        settings=Settings(symmetrize, fc_calculator, rotational, subtract_residual, fmax, smax),
        cautions=(constrained, lowered_symmetry(crystal, phonon, distance)),
        with_stress=evaluate is None,
        progress=progress,
        path=path,
        points=points,
        mesh=mesh,
        imaginary_limit=imaginary_limit,
        displacement=distance,
    )


@dataclass(frozen=True)
class Settings:
    """What is done with forces; see `phonon_dispersion`."""

    symmetrize: bool = True
    fc_calculator: str | None = None
    rotational: bool = False
    subtract_residual: bool = True
    fmax: float = 1e-3  # eV/Å
    smax: float | None = 1e-3  # eV/Å^3

    def __post_init__(self) -> None:
        checks.number("fmax", self.fmax, above=0.0, hint=" eV/Å")
        if self.smax is not None:
            checks.number("smax", self.smax, above=0.0, hint=" eV/Å^3")
        if self.fc_calculator is not None:
            checks.choice("fc_calculator", self.fc_calculator, _SOLVERS)


def measured(
    phonon: Phonopy,
    atoms: Atoms,
    evaluator: Evaluator,
    *,
    dimensions: int,
    settings: Settings,
    cautions: Sequence[str] = (),
    with_stress: bool = True,
    progress: bool | None = None,
    displacement: float | None = None,
    path: Any = None,
    points: int = 101,
    mesh: Any = None,
    imaginary_limit: float = IMAGINARY_LIMIT,
) -> PhononDispersion:
    """The dispersion from the forces on the Phonopy object's displaced supercells, with the warnings that are due.

    atoms: the unit cell.  cautions: texts to pass on, where not empty.
    """
    looked = {"path": path, "points": points, "mesh": mesh}
    where_to_look(phonon, dimensions=dimensions, **looked)  # a misspelt path must not cost the forces
    checks.number("imaginary_limit", imaginary_limit)
    count = len(phonon.supercells_with_displacements or ())
    with CountBar(progress, 1 + count, "phonons", "supercell") as bar:
        forces, perfect = displaced_forces(phonon, evaluator)
        bar.advance(1 + count)
    residual = float(np.linalg.norm(perfect, axis=1).max())
    stress = stress_of(atoms, evaluator, dimensions) if with_stress else None
    facts = force_constants_from(
        phonon,
        forces - perfect if settings.subtract_residual else forces,
        symmetrize=settings.symmetrize,
        fc_calculator=settings.fc_calculator,
        rotational=settings.rotational,
        dimensions=dimensions,
    )
    texts = (*cautions, another_shape(phonon), unrelaxed(residual, stress, settings.fmax, settings.smax))
    told = tuple(text for text in texts if text)
    for text in told:
        warnings.warn(text, PhysicsWarning, stacklevel=3)
    result = dispersion_of(
        phonon,
        dimensions=dimensions,
        pbc=atoms.pbc,
        residual_force=residual,
        residual_stress=stress,
        cautions=told,
        displacement=displacement,
        imaginary_limit=imaginary_limit,
        **looked,
        **facts,
    )
    result.__dict__["_phonon"] = phonon  # nobody else holds it, and making it anew takes seconds
    return result


def _plusminus(value: bool | str) -> Any:
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if value == "auto":
        return value
    raise ConfigError(f"plusminus is {value!r}: it must be True, False or 'auto'")
