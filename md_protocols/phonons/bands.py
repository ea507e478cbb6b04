"""From force constants to a `PhononDispersion`: path, frequencies, the verdict on stability."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .. import checks
from ..errors import ConfigError, EvaluationError
from .born import BornCharges, primitive_charges, seen_along
from .crystal import plane_of, to_ase
from .dispersion import IMAGINARY_LIMIT, PhononDispersion
from .force_constants import full_force_constants, translational_residual
from .meshes import mesh_numbers, run_mesh
from .paths import SampledPath, band_path, sample

if TYPE_CHECKING:
    from phonopy import Phonopy


Array = NDArray[np.float64]
_STABILITY_LENGTH = 40.0  # Å: longest wave resolved by the mesh on which stability is judged
_FACTS = (
    "asr_residual asr_residual_after symmetrized rotational rotational_violation residual_force residual_stress "
    "displacement n_displacements displaced_atoms displacements forces cautions"
).split()


def dispersion_of(
    phonon: Phonopy,
    *,
    path: Any = None,
    points: int = 101,
    dimensions: int | None = None,
    mesh: Any = None,
    imaginary_limit: float = IMAGINARY_LIMIT,
    pbc: Any = True,
    **facts: Any,
) -> PhononDispersion:
    """The dispersion of a Phonopy object with force constants (and, if it has them, Born charges), which is copied.

    path, points, dimensions, mesh, imaginary_limit: as in `phonon_dispersion`.  facts: further fields of the result, on
    what was done before (`_FACTS`); ConfigError for other names, which would be recorded and not done.
    """
    if strange := sorted(set(facts) - set(_FACTS)):
        raise ConfigError(
            f"unknown settings {', '.join(strange)}: what can be recorded is {', '.join(_FACTS)}; charges are those of "
            "the Phonopy object, and what is done with forces is a setting of what makes its force constants"
        )
    if phonon.force_constants is None:
        raise ConfigError("the Phonopy object has no force constants: produce or set them first")
    constants = full_force_constants(phonon)
    if not np.isfinite(constants).all():
        raise EvaluationError("the force constants are not finite: check the forces they come from")
    unitcell = to_ase(phonon.unitcell, pbc)
    supercell = np.array(phonon.supercell_matrix, dtype=np.int64)
    flat = plane_of(unitcell, supercell, dimensions)
    sampled, numbers = where_to_look(phonon, path=path, points=points, mesh=mesh, dimensions=flat)
    born = (
        None if phonon.nac_params is None else BornCharges(phonon.nac_params["born"], phonon.nac_params["dielectric"])
    )
    result: dict[str, Any] = {
        "unitcell": unitcell,
        "supercell_matrix": supercell,
        "primitive_matrix": np.array(phonon.primitive_matrix, dtype=float),
        "symprec": float(phonon.symmetry.tolerance),
        "dimensions": flat,
        "force_constants": constants,
        "qpoints": sampled.qpoints,
        "frequencies": path_frequencies(phonon, sampled),
        "distances": sampled.distances,
        "segments": sampled.segments,
        "labels": sampled.labels,
        "mesh": np.array(numbers, dtype=np.int64),
        "imaginary_limit": checks.number("imaginary_limit", imaginary_limit),
        "asr_residual": translational_residual(constants),
        "asr_residual_after": translational_residual(constants),
        "symmetrized": False,
        "born": born,
    }
    result["lowest"], result["lowest_qpoint"] = lowest_mode(phonon, sampled.qpoints, result["frequencies"], numbers)
    return PhononDispersion(**(result | facts))


def where_to_look(
    phonon: Phonopy, *, path: Any = None, points: int = 101, mesh: Any = None, dimensions: int = 3
) -> tuple[SampledPath, tuple[int, int, int]]:
    """The q-points of the path, and the numbers of those of the mesh; ConfigError for what cannot be."""
    sampled = sample(band_path(phonon, path, dimensions=dimensions), points, phonon.primitive.cell)
    return sampled, mesh_numbers(phonon, mesh, dimensions=dimensions, length=_STABILITY_LENGTH)


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
