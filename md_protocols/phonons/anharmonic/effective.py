"""Effective phonons: force constants that are consistent with the displacements at a temperature."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from ... import checks
from ...crystals.kinds import plain_crystal
from ...errors import ConfigError, PhysicsWarning
from ...evaluator import Evaluate, Evaluator
from ...progress import CountBar
from ..bands import dispersion_of, where_to_look, with_charges
from ..born import BornCharges
from ..crystal import phonopy_crystal, plane_of, to_ase, without_calculator
from ..dispersion import IMAGINARY_LIMIT, PhononDispersion
from ..finite_displacements import phonon_dispersion
from ..force_constants import translational_residual
from ..harmonic_samples import (
    Fit,
    drawn_displacements,
    jackknife,
    left_out,
    mean_forces,
    mesh_frequencies,
    misfit,
    require_vibrations,
)
from .effective_result import EffectivePhonons, Iterations, cautions_of

if TYPE_CHECKING:
    from phonopy import Phonopy


_STRAINED = 0.05  # relative change of the cell's vectors: expanded on purpose, but the same crystal
_MOVED = 0.5  # Å
_MASS = 0.01  # u


def require_same_crystal(start: PhononDispersion, phonon: Phonopy) -> None:
    """ConfigError for phonons of another crystal or supercell; a strain of a few per cent is none."""
    here, there = phonon.unitcell, start.unitcell
    if (
        len(start.force_constants) != len(phonon.supercell)
        or not np.array_equal(start.supercell_matrix, phonon.supercell_matrix)
        or not np.array_equal(there.numbers, here.numbers)
    ):
        raise ConfigError(
            f"start has phonons of {there.get_chemical_formula()} in a supercell of {len(start.force_constants)} "
            f"atoms, the crystal here has {len(phonon.supercell)} in its supercell: give phonons of the same unit cell "
            "and supercell"
        )
    strain = np.linalg.solve(there.cell.array, here.cell) - np.eye(3)
    away = here.scaled_positions - there.get_scaled_positions(wrap=False)
    away -= away[0]
    away = (away - np.rint(away)) @ here.cell
    for what, value, limit, unit in (
        ("cell vectors, relative", float(np.abs(strain).max()), _STRAINED, ""),
        ("positions of the atoms", float(np.linalg.norm(away, axis=1).max()), _MOVED, " Å"),
        ("masses", float(np.abs(here.masses - there.get_masses()).max()), _MASS, " u"),
    ):
        if not value <= limit:
            raise ConfigError(
                f"start has phonons of another crystal: {what} differ by {value:.3g}{unit} (limit {limit:g}{unit}); "
                "give phonons of the same unit cell, in the same orientation and order"
            )


Array = NDArray[np.float64]
_BLOCKS = 10  # of the jackknife
_STATISTICS = ("quantum", "classical")


def effective_phonons(
    atoms: Atoms,
    *,
    supercell: Any,
    temperature_K: float,
    structures: int = 40,
    iterations: int = 20,
    tolerance_THz: float = 0.02,
    error_THz: float = 0.1,
    mixing: float = 0.7,
    seed: int = 0,
    start: PhononDispersion | None = None,
    statistics: str = "quantum",
    displacement: float = 0.01,
    path: Any = None,
    points: int = 101,
    mesh: Any = None,
    primitive_matrix: Any = "auto",
    dimensions: int | None = None,
    symprec: float = 1e-5,
    born: BornCharges | None = None,
    fmax: float = 1e-3,
    smax: float | None = 1e-3,
    imaginary_limit: float = IMAGINARY_LIMIT,
    allow_float32: bool = False,
    evaluate: Evaluate | None = None,
    progress: bool | None = None,
) -> EffectivePhonons:
    """Phonons of a crystal at a temperature and this volume, by stochastic self-consistent harmonic sampling.

    Force constants Phi are sought for which the least-squares fit of F = -Phi u to displacements u drawn from the
    thermal distribution of Phi itself gives Phi again, i.e. Phi = < d2V/du du >_Phi: the self-consistent harmonic
    approximation (Errea, Calandra and Mauri, Phys. Rev. B 89, 064302 (2014), there by the gradient of the free energy),
    fitted as in Hellman et al., Phys. Rev. B 84, 180301 (2011), with symfc.  Atoms vibrate about the positions given.

    supercell, displacement (of the start), path, points, mesh, primitive_matrix, dimensions, symprec, born, fmax, smax,
    imaginary_limit, allow_float32 (of the start): as in `phonon_dispersion`; smax=None for a cell expanded on purpose.
    structures: per iteration, in one batch; half of them drawn, each also with all displacements reversed, by which odd
    terms of the energy drop out of the fit.  The same random numbers serve in every iteration, so that these converge.
    tolerance_THz: iterations end when no frequency on the mesh changes by more.
    error_THz: largest standard error of a frequency on the mesh that passes without a warning.
    mixing: share of the new force constants in the next iteration's.
    start: phonons to start from, None for those of small displacements; imaginary modes are drawn with |frequency|.
    statistics: "quantum", with zero-point motion, or "classical".

    Raises ConfigError for settings, too few structures and modes so soft that atoms would leave their places.
    PhysicsWarnings and cautions: not converged, large standard errors, imaginary modes, forces that are hardly
    harmonic, mean forces on the atoms.
    """
    constrained = plain_crystal(atoms, "phonons at a temperature")
    kelvin = checks.number("temperature_K", temperature_K, at_least=0.0, hint=" K")
    settings = _settings(
        structures,
        iterations,
        tolerance=tolerance_THz,
        error=error_THz,
        mixing=mixing,
        seed=seed,
        statistics=statistics,
    )
    if kelvin == 0 and settings.statistics == "classical":
        raise ConfigError(
            "temperature_K is 0 and statistics 'classical': atoms would not move at all; take statistics='quantum', "
            "with zero-point motion, or a temperature above 0"
        )
    imaginary_limit = checks.number("imaginary_limit", imaginary_limit)
    evaluator = Evaluator(atoms.calc, evaluate)
    crystal = without_calculator(atoms)
    phonon = phonopy_crystal(crystal, supercell, primitive=primitive_matrix, symprec=symprec, dimensions=dimensions)
    flat = plane_of(crystal, np.array(phonon.supercell_matrix), dimensions)
    with_charges(phonon, born)
    looked = {"path": path, "points": points, "mesh": mesh}
    _, numbers = where_to_look(phonon, dimensions=flat, **looked)
    fit = Fit(phonon)
    _enough(fit, len(phonon.supercell), settings.pairs)
    if start is None:
        shared = {"primitive_matrix": primitive_matrix, "dimensions": dimensions, "symprec": symprec, "born": born}
        shared |= {"fmax": fmax, "smax": smax, "imaginary_limit": imaginary_limit, "displacement": displacement}
        shared["allow_float32"] = allow_float32
        start = phonon_dispersion(atoms, supercell=supercell, evaluate=evaluate, progress=progress, **shared, **looked)
    else:
        require_same_crystal(start, phonon)
        if constrained:
            warnings.warn(constrained, PhysicsWarning, stacklevel=2)
    found = _self_consistent(
        phonon,
        start.force_constants,
        evaluator,
        fit=fit,
        kelvin=kelvin,
        settings=settings,
        mesh=numbers,
        progress=progress,
    )
    replicas = np.array(left_out(fit, found.displacements, found.forces, min(_BLOCKS, settings.pairs)))
    spread = jackknife(np.array([mesh_frequencies(phonon, constants, numbers) for constants in replicas]))
    phonon.force_constants = found.constants
    looked["imaginary_limit"] = imaginary_limit
    shown = dispersion_of(phonon, dimensions=flat, pbc=atoms.pbc, **looked, **_facts(start, crystal, found))
    result = EffectivePhonons(
        phonons=shown,
        start=start,
        temperature=kelvin,
        statistics=settings.statistics,
        structures=2 * settings.pairs,
        seed=settings.seed,
        mixing=settings.mixing,
        tolerance=settings.tolerance,
        iterations=found.iterations,
        replicas=replicas[:, np.array(phonon.primitive.p2s_map)],
        standard_error_max=float(spread.max()),
        standard_error_rms=float(np.sqrt((spread**2).mean())),
        mean_force=mean_forces(phonon, found.forces),
        soft_modes=found.soft,
    )
    texts = cautions_of(result, settings.error)
    for text in texts:
        warnings.warn(text, PhysicsWarning, stacklevel=2)
    return replace(result, cautions=(*start.cautions, *texts))


@dataclass(frozen=True)
class _Settings:
    pairs: int
    iterations: int
    tolerance: float
    error: float
    mixing: float
    seed: int
    statistics: str


def _settings(
    structures: int, iterations: int, *, tolerance: float, error: float, mixing: float, seed: int, statistics: str
) -> _Settings:
    """The settings of the iterations, checked."""
    whole = checks.whole("structures", structures, at_least=4)
    if whole % 2:
        raise ConfigError(f"structures is {whole}: it must be even, for each is used with its displacements reversed")
    count = checks.whole("iterations", iterations, at_least=1)
    thz = checks.number("tolerance_THz", tolerance, above=0.0, hint=" THz")
    limit = checks.number("error_THz", error, above=0.0, hint=" THz")
    share = checks.number("mixing", mixing, above=0.0)
    if share > 1.0:
        raise ConfigError(f"mixing is {mixing!r}: it is a share of the new force constants, at most 1")
    kind = checks.choice("statistics", statistics, _STATISTICS)
    return _Settings(
        pairs=whole // 2,
        iterations=count,
        tolerance=thz,
        error=limit,
        mixing=share,
        seed=checks.whole("seed", seed, at_least=0),
        statistics=kind,
    )


def _enough(fit: Fit, atoms: int, pairs: int) -> None:
    """ConfigError where the forces, less those of one block of the jackknife, are fewer than the unknowns."""
    kept = pairs - -(-pairs // min(_BLOCKS, pairs))
    if 3 * (atoms - 1) * kept < fit.parameters:
        need = 2 * (-(-fit.parameters // (3 * (atoms - 1))) + 1)
        raise ConfigError(
            f"{2 * pairs} structures of {atoms} atoms do not fix {fit.parameters} independent force constants and "
            f"their error: give at least structures={max(need, 2 * pairs + 2)}, and several times that for good errors"
        )


@dataclass(frozen=True, eq=False)
class _Found:
    constants: Array  # (N, N, 3, 3) eV/Å^2
    displacements: Array  # (D, N, 3) Å, of the last iteration
    forces: Array  # (D, N, 3) eV/Å
    iterations: Iterations
    soft: int


def _self_consistent(
    phonon: Phonopy,
    constants: Array,
    evaluator: Evaluator,
    *,
    fit: Fit,
    kelvin: float,
    settings: _Settings,
    mesh: tuple[int, int, int],
    progress: bool | None,
) -> _Found:
    """The force constants that come out of the displacements that they themselves make."""
    rows = []
    with CountBar(progress, settings.iterations, f"phonons at {kelvin:g} K", "iteration") as bar:
        for k in range(settings.iterations):
            u, soft = drawn_displacements(
                phonon, constants, kelvin, settings.pairs, seed=settings.seed, statistics=settings.statistics
            )
            largest = require_vibrations(u, to_ase(phonon.unitcell))
            forces = _forces(phonon, evaluator, u, k)
            fitted = fit(u, forces)
            share = misfit(fitted, u, forces)
            after = mesh_frequencies(phonon, fitted, mesh)
            change = after - mesh_frequencies(phonon, constants, mesh)
            rows.append([np.abs(change).max(), np.sqrt((change**2).mean()), after.min(), share, largest])
            bar.advance()
            bar.describe(f"change {rows[-1][0]:.3g} THz")
            if rows[-1][0] <= settings.tolerance:
                break
            constants = (1.0 - settings.mixing) * constants + settings.mixing * fitted
    return _Found(fitted, u, forces, Iterations(*np.array(rows).T), soft)


def _forces(phonon: Phonopy, evaluator: Evaluator, displacements: Array, iteration: int) -> Array:
    """(D, N, 3) eV/Å of all displaced supercells, in one batch."""
    perfect = to_ase(phonon.supercell)
    moved = []
    for u in displacements:
        cell = perfect.copy()
        cell.positions += u
        moved.append(cell)
    names = [f"iteration {iteration + 1}, structure {k + 1}" for k in range(len(moved))]
    return np.array([result.forces for result in evaluator(moved, names=names)])


def _facts(start: PhononDispersion, crystal: Atoms, found: _Found) -> dict[str, Any]:
    """Further fields of the dispersion."""
    residual = translational_residual(found.constants)
    same = np.allclose(start.unitcell.cell, crystal.cell) and np.allclose(start.unitcell.positions, crystal.positions)
    return {
        "asr_residual": residual,
        "asr_residual_after": residual,
        "symmetrized": True,
        "n_displacements": len(found.displacements),
        "displacements": found.displacements,
        "forces": found.forces,
        "residual_force": start.residual_force if same else None,
        "residual_stress": start.residual_stress if same else None,
    }
