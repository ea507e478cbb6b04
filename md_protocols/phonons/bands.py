"""From force constants to a `PhononDispersion`: path, frequencies, the verdict on stability."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .. import checks
from ..errors import ConfigError, EvaluationError
from .born import BornCharges, primitive_charges, seen_along
from .crystal import plane_of, primitive_of, supercell_of, to_ase
from .dispersion import IMAGINARY_LIMIT, PhononDispersion
from .force_constants import Provenance, full_force_constants, translational_residual
from .meshes import mesh_numbers, run_mesh
from .paths import SampledPath, band_path, sample

if TYPE_CHECKING:
    from phonopy import Phonopy


Array = NDArray[np.float64]
_STABILITY_LENGTH = 40.0  # Å: longest wave resolved by the mesh on which stability is judged


@dataclass(frozen=True, eq=False)
class Sampling:
    """Where a calculation looks at frequencies."""

    path: SampledPath
    mesh: tuple[int, int, int]
    dimensions: int
    imaginary_limit: float  # THz


def sampling_of(
    phonon: Phonopy,
    *,
    dimensions: int,
    path: Any = None,
    npoints: int = 101,
    mesh: Any = None,
    imaginary_limit: float = IMAGINARY_LIMIT,
) -> Sampling:
    """The q-points of the path and the numbers of those of the mesh; ConfigError for what cannot be.

    Worked out before any forces: a misspelt path must not cost them.
    """
    limit = checks.number("imaginary_limit", imaginary_limit)
    sampled = sample(band_path(phonon, path, dimensions=dimensions), npoints, phonon.primitive.cell)
    numbers = mesh_numbers(phonon, mesh, dimensions=dimensions, length=_STABILITY_LENGTH)
    return Sampling(sampled, numbers, dimensions, limit)


def dispersion_of(
    phonon: Phonopy,
    *,
    path: Any = None,
    npoints: int = 101,
    dimensions: int | None = None,
    mesh: Any = None,
    imaginary_limit: float = IMAGINARY_LIMIT,
    pbc: Any = True,
    provenance: Provenance | None = None,
) -> PhononDispersion:
    """The dispersion of a Phonopy object with force constants (and, if it has them, Born charges), which is copied.

    path, npoints, dimensions, mesh, imaginary_limit: as in `phonon_dispersion`.  provenance: what was done before,
    to be recorded.
    """
    flat = plane_of(to_ase(phonon.unitcell), supercell_of(phonon), dimensions)
    sampling = sampling_of(
        phonon, dimensions=flat, path=path, npoints=npoints, mesh=mesh, imaginary_limit=imaginary_limit
    )
    return dispersion_on(phonon, sampling, pbc=pbc, provenance=provenance)


def dispersion_on(
    phonon: Phonopy, sampling: Sampling, *, pbc: Any = True, provenance: Provenance | None = None, kept: bool = False
) -> PhononDispersion:
    """`dispersion_of` where the places to look at are known.

    kept: the result works with the Phonopy object itself, which nobody else may change then; making it anew takes
    seconds.
    """
    if phonon.force_constants is None:
        raise ConfigError("the Phonopy object has no force constants: produce or set them first")
    constants = full_force_constants(phonon)
    if not np.isfinite(constants).all():
        raise EvaluationError("the force constants are not finite: check the forces they come from")
    violation = translational_residual(constants)
    done = provenance or Provenance()
    if done.asr_residual is None:
        done = replace(done, asr_residual=violation, asr_residual_after=violation)
    frequencies = path_frequencies(phonon, sampling.path)
    lowest, where = lowest_mode(phonon, sampling.path.qpoints, frequencies, sampling.mesh)
    nac = phonon.nac_params
    return PhononDispersion(
        unitcell=to_ase(phonon.unitcell, pbc),
        supercell=supercell_of(phonon),
        primitive_matrix=primitive_of(phonon),
        symprec=float(phonon.symmetry.tolerance),
        dimensions=sampling.dimensions,
        force_constants=constants,
        qpoints=sampling.path.qpoints,
        frequencies=frequencies,
        distances=sampling.path.distances,
        segments=sampling.path.segments,
        labels=sampling.path.labels,
        mesh=np.array(sampling.mesh, dtype=np.int64),
        lowest=lowest,
        lowest_qpoint=where,
        imaginary_limit=sampling.imaginary_limit,
        born=None if nac is None else BornCharges(nac["born"], nac["dielectric"]),
        phonopy_object=phonon if kept else None,
        **vars(done),
    )


def path_frequencies(phonon: Phonopy, sampled: SampledPath) -> Array:
    """(Q, bands) THz; at Γ and its equivalents, wherever in a segment, polar modes are split as seen along it."""
    segments = [sampled.qpoints[start:stop] for start, stop in sampled.segments]
    return np.concatenate([seen_along(phonon, points, points[-1] - points[0]) for points in segments])


def lowest_mode(phonon: Phonopy, qpoints: Array, frequencies: Array, mesh: tuple[int, int, int]) -> tuple[float, Array]:
    """The lowest frequency (THz) on path and mesh and its q; of the acoustic modes at Γ the three nearest to zero go.

    The mesh holds Γ and follows the crystal's symmetry.
    """
    found = run_mesh(phonon, mesh)
    points = np.concatenate([qpoints, found.qpoints])
    values = np.concatenate([frequencies, found.frequencies])
    at_gamma = np.linalg.norm(points - np.rint(points), axis=1) < 1e-6
    kept = values.copy()
    for k in np.flatnonzero(at_gamma):
        kept[k, np.argsort(np.abs(values[k]))[:3]] = np.inf
    if not np.isfinite(kept).any():  # a single q-point and a single atom: all modes are acoustic ones at Γ
        return 0.0, np.zeros(3)
    row = int(np.argmin(kept.min(axis=1)))
    return float(kept[row].min()), points[row]


def with_charges(phonon: Phonopy, born: BornCharges | None) -> None:
    """Give the Phonopy object the charges of its primitive cell's atoms."""
    if born is not None:
        parameters: Any = primitive_charges(born, phonon).nac()
        phonon.nac_params = parameters
