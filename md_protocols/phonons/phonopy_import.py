"""Phonons of what phonopy's files hold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms

from ..errors import ResultFileError
from ..evaluator import Evaluate, Evaluator, refuse_float32
from .bands import dispersion_on, sampling_of, with_charges
from .born import BornCharges
from .crystal import phonopy_crystal, plane_of, refuse_one_atom
from .dispersion import IMAGINARY_LIMIT
from .finite_displacements import Settings, measured
from .force_constants import force_constants_from
from .harmonic_samples import Fit
from .phonopy_yaml import PhonopyFile, read_phonopy

if TYPE_CHECKING:
    from phonopy import Phonopy

    from .dispersion import PhononDispersion


def phonons_of_displacements(
    file: str | Path,
    calc: Any,
    *,
    symprec: float = 1e-5,
    dimensions: int | None = None,
    born: BornCharges | None = None,
    allow_float32: bool = False,
    evaluate: Evaluate | None = None,
    progress: bool | None = None,
    symmetrize: bool = True,
    fc_calculator: str | None = None,
    rotational: bool = False,
    subtract_residual: bool = True,
    force_limit: float = 1e-3,
    stress_limit: float | None = 1e-3,
    path: Any = None,
    npoints: int = 101,
    mesh: Any = None,
    imaginary_limit: float = IMAGINARY_LIMIT,
) -> PhononDispersion:
    """The phonons of a phonopy_disp.yaml: all of its displaced supercells evaluated in one batch.

    Its `write_phonopy(folder)` gives the FORCE_SETS that the `phonopy` command reads for that file.  Settings are those
    of `phonon_dispersion`; born: in place of the file's charges; displacements of all atoms are fitted by symfc.

    Raises ResultFileError for a file that is not sound; see `read_phonopy`.
    """
    settings = Settings(symmetrize, fc_calculator, rotational, subtract_residual, force_limit, stress_limit)
    found = read_phonopy(file)
    if found.dataset is None:
        raise ResultFileError(f"{file} holds no displacements: make it with phonopy-init -d")
    evaluator = Evaluator(calc, evaluate)
    refuse_float32(evaluator, "force constants", allow_float32)
    phonon, flat = _ready(found, symprec, dimensions, born, file)
    sampling = sampling_of(
        phonon, dimensions=flat, path=path, npoints=npoints, mesh=mesh, imaginary_limit=imaginary_limit
    )
    return measured(
        phonon,
        found.unitcell,
        evaluator,
        sampling,
        replace(settings, fc_calculator=settings.fc_calculator or _solver(found.dataset)),
        with_stress=evaluate is None,
        progress=progress,
        displacement=_length(found.dataset),
    )


def phonons_of_file(
    file: str | Path,
    *,
    symprec: float = 1e-5,
    dimensions: int | None = None,
    born: BornCharges | None = None,
    symmetrize: bool = True,
    rotational: bool = False,
    path: Any = None,
    npoints: int = 101,
    mesh: Any = None,
    imaginary_limit: float = IMAGINARY_LIMIT,
) -> PhononDispersion:
    """The dispersion of a phonopy_params.yaml (also .xz) that holds forces; settings as in `phonon_dispersion`.

    born: in place of the file's charges.  ResultFileError for a file that is not sound or holds no forces.
    """
    found = read_phonopy(file)
    forces = _forces_of(found.dataset)
    if forces is None:
        raise ResultFileError(f"{file} holds no forces for its displacements: expected a phonopy_params.yaml")
    phonon, flat = _ready(found, symprec, dimensions, born, file)
    sampling = sampling_of(
        phonon, dimensions=flat, path=path, npoints=npoints, mesh=mesh, imaginary_limit=imaginary_limit
    )
    done = force_constants_from(
        phonon,
        forces,
        symmetrize=symmetrize,
        fc_calculator=_solver(found.dataset),
        rotational=rotational,
        dimensions=flat,
    )
    return dispersion_on(phonon, sampling, provenance=replace(done, displacement=_length(found.dataset)), kept=True)


def _ready(
    found: PhonopyFile, symprec: float, dimensions: int | None, born: BornCharges | None, file: str | Path
) -> tuple[Phonopy, int]:
    """The Phonopy object of a file, its displacements checked, and how many dimensions it has."""
    refuse_one_atom(len(found.unitcell), found.supercell)
    flat = plane_of(found.unitcell, found.supercell, dimensions)
    phonon = found.phonopy(symprec=symprec, dimensions=flat)
    _require_enough(phonon, found.dataset, file)
    with_charges(phonon, born)
    return phonon, flat


def _require_enough(phonon: Phonopy, dataset: Any, file: str | Path) -> None:
    """ResultFileError where displacements do not fix all force constants: some are missing, or symmetry is lower."""
    remedy = "make the file anew with phonopy-init -d, and do not shorten it"
    if "displacements" in dataset:
        unknown, count = Fit(phonon).parameters, len(dataset["displacements"])
        equations = 3 * (len(phonon.supercell) - 1) * count
        if equations < unknown:
            raise ResultFileError(
                f"{file}: {count} displacements of {len(phonon.supercell)} atoms do not fix {unknown} independent "
                f"force constants: at least {-(-unknown * count // equations)} are needed; {remedy}"
            )
        return
    symmetry, inverse = phonon.symmetry, np.linalg.inv(phonon.supercell.cell)
    orbits = np.array(symmetry.get_map_atoms())
    spanned = dict.fromkeys(orbits.tolist(), 0)
    moved: dict[int, list[Any]] = {}
    for entry in dataset["first_atoms"]:
        moved.setdefault(entry["number"], []).append(np.asarray(entry["displacement"]) @ inverse)
    for atom, steps in moved.items():
        turned = np.concatenate([symmetry.get_site_symmetry(atom) @ (step / np.abs(step).max()) for step in steps])
        orbit = int(orbits[atom])
        spanned[orbit] = max(spanned[orbit], int(np.linalg.matrix_rank(turned, tol=1e-4)))
    for atom, rank in spanned.items():
        if rank < 3:
            raise ResultFileError(
                f"{file}: atom {atom + 1} of the supercell and those equal to it are displaced in {rank} of 3 "
                f"directions, counting what the crystal's symmetry makes of them: displacements are missing; {remedy}"
            )


def _solver(dataset: Any) -> str | None:
    """phonopy's own for displacements of one atom each, else symfc."""
    return "symfc" if "displacements" in dataset else None


def _length(dataset: Any) -> float:
    """The longest displacement, Å."""
    if "displacements" in dataset:
        return float(np.linalg.norm(dataset["displacements"], axis=2).max())
    return float(max(np.linalg.norm(entry["displacement"]) for entry in dataset["first_atoms"]))


def read_born(
    path: str | Path,
    atoms: Atoms,
    *,
    supercell: Any = 1,
    primitive_matrix: Any = "auto",
    dimensions: int | None = None,
    symprec: float = 1e-5,
) -> BornCharges:
    """The charges of a BORN file as phonopy's command reads it: those of inequivalent atoms of the primitive cell.

    The settings are those of the phonons that the charges are for: they decide which atoms are equivalent.
    """
    from phonopy.file_IO import parse_BORN

    phonon = phonopy_crystal(atoms, supercell, primitive=primitive_matrix, symprec=symprec, dimensions=dimensions)
    try:
        found = parse_BORN(phonon.primitive, symprec=symprec, filename=str(path))
    except FileNotFoundError:
        raise ResultFileError(f"{path}: there is no such file") from None
    except Exception as error:  # whatever a malformed line makes phonopy raise
        raise ResultFileError(f"{path} cannot be read as a BORN file: {' '.join(str(error).split())}") from error
    return BornCharges(found["born"], found["dielectric"])


def _forces_of(dataset: dict[str, Any] | None) -> Any:
    if dataset is None:
        return None
    if "displacements" in dataset:
        return dataset.get("forces")
    entries = dataset["first_atoms"]
    return np.array([e["forces"] for e in entries]) if all("forces" in e for e in entries) else None
