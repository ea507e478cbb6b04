"""Effective phonons: force constants that are consistent with the displacements at a temperature."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlcalc.ground.errors import Use
from mlcalc.ground.warn import warn

from ... import checks
from ...errors import ConfigError, PhysicsWarning
from ...evaluator import Evaluate, Evaluator, refuse_float32
from ...progress import CountBar
from ..bands import dispersion_on, sampling_of, with_charges
from ..born import BornCharges
from ..crystal import prepared, supercell_of, to_ase
from ..dispersion import IMAGINARY_LIMIT, PhononDispersion
from ..finite_displacements import Settings, by_displacements
from ..force_constants import Provenance, translational_residual
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
        or not np.array_equal(start.supercell, supercell_of(phonon))
        or not np.array_equal(there.numbers, here.numbers)
    ):
        raise ConfigError(
            f"start has phonons of {there.get_chemical_formula()} in a supercell of {len(start.force_constants)} "
            f"atoms, the crystal here has {len(phonon.supercell)} in its supercell: give phonons of the same unit cell "
            "and supercell",
            setting="start",
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
                "give phonons of the same unit cell, in the same orientation and order",
                setting="start",
                value=value,
                limit=limit,
            )


Array = NDArray[np.float64]
_BLOCKS = 10  # of the jackknife
_STATISTICS = ("quantum", "classical")


def effective_phonons(
    atoms: Atoms,
    *,
    supercell: Any,
    temperature_K: float,
    n_structures: int = 40,
    max_iterations: int = 20,
    tolerance_THz: float = 0.02,
    error_THz: float = 0.1,
    mixing: float = 0.7,
    seed: int = 0,
    start: PhononDispersion | None = None,
    statistics: str = "quantum",
    displacement: float = 0.01,
    path: Any = None,
    npoints: int = 101,
    mesh: Any = None,
    primitive_matrix: Any = "auto",
    dimensions: int | None = None,
    symprec: float = 1e-5,
    born: BornCharges | None = None,
    force_limit: float = 1e-3,
    stress_limit: float | None = 1e-3,
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

    supercell, displacement (of the start), path, npoints, mesh, primitive_matrix, dimensions, symprec, born,
    force_limit, stress_limit, imaginary_limit, allow_float32 (of the start): as in `phonon_dispersion`;
    stress_limit=None for a cell expanded on purpose.
    n_structures: per iteration, in one batch; half of them drawn, each also with all displacements reversed, by which
    odd terms of the energy drop out of the fit.  The same random numbers serve in every iteration, so that they
    converge.
    tolerance_THz: iterations end when no frequency on the mesh changes by more, or after `max_iterations`.
    error_THz: largest standard error of a frequency on the mesh that passes without a warning.
    mixing: share of the new force constants in the next iteration's.
    start: phonons to start from, None for those of small displacements; imaginary modes are drawn with |frequency|.
    statistics: "quantum", with zero-point motion, or "classical".

    Raises ConfigError for settings, too few structures and modes so soft that atoms would leave their places.
    PhysicsWarnings and cautions: not converged, large standard errors, imaginary modes, forces that are hardly
    harmonic, mean forces on the atoms.
    """
    kelvin = checks.number("temperature_K", temperature_K, at_least=0.0, hint=" K")
    settings = _settings(
        n_structures,
        max_iterations,
        tolerance=tolerance_THz,
        error=error_THz,
        mixing=mixing,
        seed=seed,
        statistics=statistics,
    )
    if kelvin == 0 and settings.statistics == "classical":
        raise ConfigError(
            "temperature_K is 0 and statistics 'classical': atoms would not move at all",
            setting="statistics",
            value="classical",
            remedies=[Use("statistics", "quantum", "with zero-point motion"), "take a temperature above 0"],
        )
    of_start = Settings(force_limit=force_limit, stress_limit=stress_limit)
    ready = prepared(
        atoms,
        "phonons at a temperature",
        supercell,
        primitive_matrix=primitive_matrix,
        symprec=symprec,
        dimensions=dimensions,
    )
    evaluator, phonon = Evaluator(atoms.calc, evaluate), ready.phonon
    with_charges(phonon, born)
    sampling = sampling_of(
        phonon, dimensions=ready.dimensions, path=path, npoints=npoints, mesh=mesh, imaginary_limit=imaginary_limit
    )
    fit = Fit(phonon)
    _enough(fit, len(phonon.supercell), settings.pairs)
    if start is None:
        refuse_float32(evaluator, "force constants", allow_float32)
        start = by_displacements(
            ready,
            evaluator,
            sampling,
            of_start,
            displacement=displacement,
            with_stress=evaluate is None,
            progress=progress,
            kept=False,
        )
    else:
        require_same_crystal(start, phonon)
        if ready.caution:
            warn(PhysicsWarning(ready.caution))
    found = _self_consistent(
        phonon,
        start.force_constants,
        evaluator,
        fit=fit,
        kelvin=kelvin,
        settings=settings,
        mesh=sampling.mesh,
        progress=progress,
    )
    replicas = np.array(left_out(fit, found.displacements, found.forces, min(_BLOCKS, settings.pairs)))
    spread = jackknife(np.array([mesh_frequencies(phonon, constants, sampling.mesh) for constants in replicas]))
    phonon.force_constants = found.constants
    force, error = mean_forces(phonon, found.forces)
    result = EffectivePhonons(
        phonons=dispersion_on(
            phonon, sampling, pbc=atoms.pbc, provenance=_provenance(start, ready.crystal, found), kept=True
        ),
        start=start,
        temperature_K=kelvin,
        statistics=settings.statistics,
        n_structures=2 * settings.pairs,
        seed=settings.seed,
        mixing=settings.mixing,
        tolerance_THz=settings.tolerance,
        iterations=found.iterations,
        replicas=replicas[:, np.array(phonon.primitive.p2s_map)],
        standard_error_max=float(spread.max()),
        standard_error_rms=float(np.sqrt((spread**2).mean())),
        mean_force=force,
        mean_force_standard_error=error,
        soft_modes=found.soft,
    )
    told = cautions_of(result, settings.error)
    for caution in told:
        warn(caution)
    return replace(result, cautions=(*start.cautions, *(str(caution) for caution in told)))


@dataclass(frozen=True)
class _Settings:
    pairs: int
    max_iterations: int
    tolerance: float
    error: float
    mixing: float
    seed: int
    statistics: str


def _settings(
    n_structures: int, max_iterations: int, *, tolerance: float, error: float, mixing: float, seed: int, statistics: str
) -> _Settings:
    """The settings of the iterations, checked."""
    whole = checks.whole("n_structures", n_structures, at_least=4)
    if whole % 2:
        raise ConfigError(
            f"n_structures is {whole}: it must be even, for each is used with its displacements reversed",
            setting="n_structures",
            value=whole,
        )
    count = checks.whole("max_iterations", max_iterations, at_least=1)
    thz = checks.number("tolerance_THz", tolerance, above=0.0, hint=" THz")
    limit = checks.number("error_THz", error, above=0.0, hint=" THz")
    share = checks.number("mixing", mixing, above=0.0)
    if share > 1.0:
        raise ConfigError(
            f"mixing is {mixing!r}: it is a share of the new force constants, at most 1",
            setting="mixing",
            value=mixing,
            limit=1.0,
        )
    kind = checks.choice("statistics", statistics, _STATISTICS)
    return _Settings(
        pairs=whole // 2,
        max_iterations=count,
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
            "their error",
            setting="n_structures",
            value=2 * pairs,
            limit=max(need, 2 * pairs + 2),
            remedies=[
                Use("n_structures", max(need, 2 * pairs + 2), "at least, and several times that for good errors")
            ],
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
    with CountBar(progress, settings.max_iterations, f"phonons at {kelvin:g} K", "iteration") as bar:
        for k in range(settings.max_iterations):
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


def _provenance(start: PhononDispersion, crystal: Atoms, found: _Found) -> Provenance:
    residual = translational_residual(found.constants)
    same = np.allclose(start.unitcell.cell, crystal.cell) and np.allclose(start.unitcell.positions, crystal.positions)
    return Provenance(
        asr_residual=residual,
        asr_residual_after=residual,
        symmetrized=True,
        n_displacements=len(found.displacements),
        displacements=found.displacements,
        forces=found.forces,
        residual_force=start.residual_force if same else None,
        residual_stress=start.residual_stress if same else None,
    )
