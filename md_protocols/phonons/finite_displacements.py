"""Phonons of a crystal by finite displacements, with the checks that make a calculator's forces physics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlcalc.ground.warn import warn

from .. import checks
from ..errors import ConfigError, PhysicsWarning
from ..evaluator import Evaluate, Evaluator, refuse_float32
from ..progress import CountBar
from .bands import Sampling, dispersion_on, sampling_of, with_charges
from .born import BornCharges
from .cautions import another_shape, lowered_symmetry, stress_of, unrelaxed
from .crystal import Prepared, displaced_forces, prepared
from .dispersion import IMAGINARY_LIMIT, PhononDispersion
from .force_constants import SOLVERS, force_constants_from

if TYPE_CHECKING:
    from phonopy import Phonopy


Array = NDArray[np.float64]


def phonon_dispersion(
    atoms: Atoms,
    *,
    supercell: Any,
    displacement: float = 0.01,
    path: Any = None,
    npoints: int = 101,
    primitive_matrix: Any = "auto",
    dimensions: int | None = None,
    symprec: float = 1e-5,
    born: BornCharges | None = None,
    plusminus: bool | str = "auto",
    symmetrize: bool = True,
    fc_calculator: str | None = None,
    rotational: bool = False,
    subtract_residual: bool = True,
    force_limit: float = 1e-3,
    stress_limit: float | None = 1e-3,
    mesh: Any = None,
    imaginary_limit: float = IMAGINARY_LIMIT,
    allow_float32: bool = False,
    evaluate: Evaluate | None = None,
    progress: bool | None = None,
) -> PhononDispersion:
    """The phonon dispersion of a relaxed crystal, from forces in supercells with one atom displaced (by phonopy).

    Phi_ij = -(F_j(u_i) - F_j(0)) / u_i; all displaced supercells and the perfect one are evaluated in one batch.

    supercell: repetitions of the cell, one number, three, or a 3 x 3 matrix whose rows, as in ASE's `make_supercell`,
    are the supercell's vectors in terms of the cell's.  displacement: Å.
    path: None for the recommended one, or as in `band_path`; npoints: on each of its segments.
    primitive_matrix: rows too, or a letter of centering; "auto" for the cell given where it is primitive.
    dimensions: 2 for a slab in the plane of the first two cell vectors; found by itself where the third is not repeated
    and its vacuum is wider than 8 Å.
    born: adds the non-analytical correction of polar crystals (Gonze and Lee, Phys. Rev. B 55, 10355 (1997)).
    plusminus: displace to both sides; "auto" where symmetry does not make them equal.
    symmetrize: force constants are made to follow the acoustic sum rule and Phi_ij = Phi_ji^T; what they violated
    before is the result's asr_residual.  rotational: enforce the rotational sum rules too (`sum_rules`).
    fc_calculator: None for phonopy's own solver, or "symfc".
    subtract_residual: take the perfect supercell's forces F(0) off; else F(0) is taken for zero.
    force_limit (eV/Å), stress_limit (eV/Å^3, None for none): forces and stress of the crystal above them are told.
    mesh: numbers of q-points on which stability is judged beside the path; imaginary_limit: THz.

    Raises ConfigError for settings, the structure, a supercell of one atom and calculators in single precision (unless
    allowed), EvaluationError for NaN and for forces that contradict the energies, e.g. in another order of the atoms.
    """
    settings = Settings(symmetrize, fc_calculator, rotational, subtract_residual, force_limit, stress_limit)
    ready = prepared(
        atoms,
        "a phonon calculation",
        supercell,
        primitive_matrix=primitive_matrix,
        symprec=symprec,
        dimensions=dimensions,
    )
    evaluator = Evaluator(atoms.calc, evaluate)
    refuse_float32(evaluator, "force constants", allow_float32)
    with_charges(ready.phonon, born)
    sampling = sampling_of(
        ready.phonon,
        dimensions=ready.dimensions,
        path=path,
        npoints=npoints,
        mesh=mesh,
        imaginary_limit=imaginary_limit,
    )
    return by_displacements(
        ready,
        evaluator,
        sampling,
        settings,
        displacement=displacement,
        plusminus=plusminus,
        with_stress=evaluate is None,
        progress=progress,
    )


def by_displacements(
    ready: Prepared,
    evaluator: Evaluator,
    sampling: Sampling,
    settings: Settings,
    *,
    displacement: float,
    plusminus: bool | str = "auto",
    with_stress: bool = True,
    progress: bool | None = None,
    kept: bool = True,
) -> PhononDispersion:
    """`phonon_dispersion` of a crystal that is prepared; kept: as in `dispersion_on`."""
    distance = checks.number("displacement", displacement, above=0.0, hint=" Å")
    ready.phonon.generate_displacements(distance=distance, is_plusminus=_plusminus(plusminus))
    cautions = [PhysicsWarning(ready.caution)] if ready.caution else []
    if lowered := lowered_symmetry(ready.crystal, ready.phonon, distance):
        cautions.append(lowered)
    return measured(
        ready.phonon,
        ready.crystal,
        evaluator,
        sampling,
        settings,
        cautions=cautions,
        with_stress=with_stress,
        progress=progress,
        displacement=distance,
        kept=kept,
    )


@dataclass(frozen=True)
class Settings:
    """What is done with forces; see `phonon_dispersion`."""

    symmetrize: bool = True
    fc_calculator: str | None = None
    rotational: bool = False
    subtract_residual: bool = True
    force_limit: float = 1e-3  # eV/Å
    stress_limit: float | None = 1e-3  # eV/Å^3

    def __post_init__(self) -> None:
        require_limits(self.force_limit, self.stress_limit)
        if self.fc_calculator is not None:
            checks.choice("fc_calculator", self.fc_calculator, SOLVERS)


def require_limits(force_limit: float, stress_limit: float | None) -> None:
    """ConfigError for limits of force (eV/Å) and stress (eV/Å^3, None for none) that are none."""
    checks.number("force_limit", force_limit, above=0.0, hint=" eV/Å")
    if stress_limit is not None:
        checks.number("stress_limit", stress_limit, above=0.0, hint=" eV/Å^3")


def measured(
    phonon: Phonopy,
    crystal: Atoms,
    evaluator: Evaluator,
    sampling: Sampling,
    settings: Settings,
    *,
    cautions: Sequence[PhysicsWarning] = (),
    with_stress: bool = True,
    progress: bool | None = None,
    displacement: float | None = None,
    kept: bool = True,
) -> PhononDispersion:
    """The dispersion from the forces on the Phonopy object's displaced supercells, with the warnings that are due.

    crystal: the unit cell.  cautions: to be given with the others.  kept: as in `dispersion_on`.
    """
    count = len(phonon.supercells_with_displacements or ())
    with CountBar(progress, 1 + count, "phonons", "supercell") as bar:
        forces, perfect = displaced_forces(phonon, evaluator)
        bar.advance(1 + count)
    residual = float(np.linalg.norm(perfect, axis=1).max())
    stress = stress_of(crystal, evaluator, sampling.dimensions) if with_stress else None
    done = force_constants_from(
        phonon,
        forces - perfect if settings.subtract_residual else forces,
        symmetrize=settings.symmetrize,
        fc_calculator=settings.fc_calculator,
        rotational=settings.rotational,
        dimensions=sampling.dimensions,
    )
    strained = unrelaxed(
        residual,
        stress,
        force_limit=settings.force_limit,
        stress_limit=settings.stress_limit,
        dimensions=sampling.dimensions,
    )
    told = [caution for caution in (*cautions, another_shape(phonon), strained) if caution is not None]
    for caution in told:
        warn(caution)
    provenance = replace(
        done,
        residual_force=residual,
        residual_stress=stress,
        displacement=displacement,
        cautions=tuple(str(caution) for caution in told),
    )
    return dispersion_on(phonon, sampling, pbc=crystal.pbc, provenance=provenance, kept=kept)


def _plusminus(value: bool | str) -> Any:
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if value == "auto":
        return value
    raise ConfigError(f"plusminus is {value!r}: it must be True, False or 'auto'", setting="plusminus", value=value)
