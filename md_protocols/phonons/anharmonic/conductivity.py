"""Lattice thermal conductivity from three-phonon scattering, by phono3py."""

from __future__ import annotations

import contextlib
import inspect
import io
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlcalc.ground.errors import Use
from mlcalc.ground.remedies import RELAX_FIRST
from mlcalc.ground.warn import warn

from ... import checks
from ...crystals.kinds import plain_crystal
from ...crystals.supercells import supercell_matrix
from ...crystals.symmetry import refuse_masses
from ...crystals.vacuum import refuse_vacuum
from ...errors import ConfigError, EvaluationError, PhysicsWarning
from ...evaluator import Evaluate, Evaluator
from ...progress import CountBar
from ..crystal import primitive_matrix, refuse_one_atom, to_ase, to_phonopy, without_calculator
from ..dispersion import IMAGINARY_LIMIT
from ..finite_displacements import phonon_dispersion
from ..meshes import given_mesh
from ..thermal import vibrating
from .conductivity_result import ThermalConductivity

Array = NDArray[np.float64]
_CHUNK = 200  # structures handed over at a time, between which the progress bar moves
_LARGEST = 1e6  # W/(m K); diamond and graphite have 1e4 where they have most
_METHODS = ("rta", "lbte")
_NOISY = 0.3  # share of the largest third-order constant: EMT copper at 0.03 Å has 0.06, constants of noise 1 and more
# Without these, rounding of forces by 1e-12 eV/Å turns vectors of degenerate modes and moves the result by percents.
_REPRODUCIBLE = dict.fromkeys(("symmetrize_tetrahedra", "average_degenerate_weights", "exclude_gamma_acoustic"), True)


def thermal_conductivity(
    atoms: Atoms,
    *,
    supercell: Any,
    mesh: int | Sequence[int],
    temperatures: Sequence[float] | Array = (100.0, 200.0, 300.0, 400.0, 500.0),
    phonon_supercell: Any = None,
    displacement: float = 0.03,
    cutoff_pair_distance: float | None = None,
    isotopes: bool = False,
    method: str = "rta",
    symprec: float = 1e-5,
    max_structures: int = 20_000,
    allow_float32: bool = False,
    allow_imaginary: bool = False,
    evaluate: Evaluate | None = None,
    progress: bool | None = None,
) -> ThermalConductivity:
    """The lattice thermal conductivity of a relaxed crystal from its second- and third-order force constants.

    Scattering of three phonons from displaced pairs of atoms (Togo, Chaput and Tanaka, Phys. Rev. B 91, 094306 (2015)),
    in the approximation of relaxation times ("rta") or by the linearized Boltzmann equation ("lbte"; Chaput, Phys. Rev.
    Lett. 110, 265506 (2013)); phono3py does both.  All displaced supercells are evaluated in batches.

    supercell: of the third order, as in `phonon_dispersion`; phonon_supercell: of the second, None for the same.
    mesh: numbers of q-points, to be converged.  displacement: Å.  cutoff_pair_distance: pairs farther apart (Å) are not
    displaced together.  isotopes: scattering by natural isotopes (Tamura); it depends a little, 0.3 % on coarse meshes,
    on the vectors of degenerate modes, which rounding decides.  Four-phonon scattering, boundaries and electrons are
    not in it.

    Raises ConfigError without phono3py, for settings, cells with vacuum, imaginary modes (unless allowed), single
    precision (unless allowed), and more displaced supercells than `max_structures`; EvaluationError for NaN and where
    nothing scatters.  An unrelaxed crystal and third-order constants that are noise give a PhysicsWarning.
    """
    solver_type = require_phono3py()
    kelvin = np.array(
        [checks.number("temperature", t, above=0.0, hint=" K") for t in np.atleast_1d(temperatures).tolist()]
    )
    if not len(kelvin):
        raise ConfigError("temperatures is empty: give at least one, in K", setting="temperatures", value=temperatures)
    numbers = given_mesh(mesh)
    if cutoff_pair_distance is not None:
        checks.number("cutoff_pair_distance", cutoff_pair_distance, above=0.0, hint=" Å")
    kind = checks.choice("method", method, _METHODS)
    step = checks.number("displacement", displacement, above=0.0, hint=" Å")
    matrix = supercell_matrix(supercell)
    larger = matrix if phonon_supercell is None else supercell_matrix(phonon_supercell)
    plain_crystal(atoms, "a thermal conductivity")
    for cells in (matrix, larger):
        refuse_one_atom(len(atoms), cells)
    refuse_vacuum(atoms, "a conductivity")
    refuse_masses(atoms, symprec, "phono3py")
    second = None if phonon_supercell is None else larger
    solver = _prepared(solver_type, atoms, (matrix, second), symprec=symprec, mesh=numbers)
    solver.generate_displacements(distance=step, cutoff_pair_distance=cutoff_pair_distance)
    sets = _supercells(solver, max_structures, second=second is not None)
    phonons = phonon_dispersion(
        atoms,
        supercell=larger,
        displacement=step,
        symprec=symprec,
        npoints=2,
        dimensions=3,
        allow_float32=allow_float32,
        evaluate=evaluate,
        progress=False,
    )
    _refuse_imaginary(phonons.lowest, phonons.lowest_qpoint, allow_imaginary)
    count = _fill(solver, sets, Evaluator(atoms.calc, evaluate), progress)
    settings = {"is_LBTE": kind == "lbte", "temperatures": kelvin, "is_isotope": bool(isotopes)}
    kappa, violation, lowest = _solved(solver, settings, allow_imaginary)
    _require_sense(kappa, numbers)
    _tell_noise(violation, step)
    return ThermalConductivity(
        temperatures=kelvin,
        kappa=kappa,
        method=kind,
        isotopes=bool(isotopes),
        mesh=numbers,
        supercell=matrix,
        phonon_supercell=larger,
        displacement=step,
        n_structures=count,
        n_atoms=len(solver.primitive),
        masses=np.array(solver.primitive.masses, dtype=float),
        asr_residual=phonons.asr_residual,
        fc3_residual=violation,
        lowest=min(lowest, phonons.lowest),
    )


def _solved(solver: Any, settings: dict[str, Any], allow_imaginary: bool) -> tuple[Array, float, float]:
    """Conductivity (T, 6), violation of the third-order sum rule (relative), lowest frequency (THz) from the forces."""
    # phono3py tells of its work on stdout; modes that nothing scatters overflow, which `_require_sense` refuses.
    with contextlib.redirect_stdout(io.StringIO()), np.errstate(over="ignore"):
        solver.produce_fc3()
        violation = _third_order_residual(np.asarray(solver.fc3))
        solver.symmetrize_fc3()
        if solver.phonon_supercell_matrix is not None:
            solver.produce_fc2()
        solver.symmetrize_fc2()
        solver.init_phph_interaction(**_REPRODUCIBLE)
        lowest, where = _lowest(solver)
        _refuse_imaginary(lowest, where, allow_imaginary)
        solver.run_thermal_conductivity(**settings)
    kappa = np.array(solver.thermal_conductivity.kappa, dtype=float)
    return kappa.reshape(-1, len(settings["temperatures"]), 6)[0], violation, lowest


def _require_sense(kappa: Array, mesh: tuple[int, ...]) -> None:
    """EvaluationError for what comes of modes that nothing scatters, whose lifetimes are infinite."""
    diagonal = kappa[:, :3]
    if np.isfinite(kappa).all() and diagonal.min() > 0 and diagonal.max() < _LARGEST:
        return
    raise EvaluationError(
        f"the conductivity came out as {diagonal.min():.3g} to {diagonal.max():.3g} W/(m K) on the mesh {mesh} (limit "
        f"{_LARGEST:g}): modes are not scattered at all. Take a finer mesh, and a supercell of which no atom is "
        "halfway between two images of another: there third-order force constants cancel",
        setting="mesh",
        value=mesh,
        limit=_LARGEST,
    )


def require_phono3py() -> Any:
    """phono3py's class; ConfigError where it is not installed, or too old to give the same result twice."""
    try:
        from phono3py import Phono3py
    except ImportError as error:
        raise ConfigError(
            "thermal conductivity needs phono3py, which is not installed: pip install 'mlcalc[conductivity]'"
        ) from error
    known = inspect.signature(Phono3py.init_phph_interaction).parameters
    if lacking := [name for name in _REPRODUCIBLE if name not in known]:
        raise ConfigError(
            f"this phono3py has no {' and no '.join(lacking)}, without which rounding changes the conductivity by "
            "percents: pip install --upgrade 'phono3py>=4.10,<5'"
        )
    return Phono3py


def _prepared(
    solver_type: Any, atoms: Atoms, supercells: tuple[Any, Any], *, symprec: float, mesh: tuple[int, int, int]
) -> Any:
    """A Phono3py object for the crystal and mesh; ConfigError for a mesh that breaks the crystal's symmetry.

    supercells: of the third and the second order, rows; phono3py's are columns.
    """
    crystal = to_phonopy(without_calculator(atoms))
    # A supercell of another shape than the crystal's: `phonon_dispersion` tells it, once.
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="(?i)(warning: )?point group symmetries", category=UserWarning)
        solver = solver_type(
            crystal,
            supercell_matrix=supercells[0].T,
            primitive_matrix=primitive_matrix(crystal, symprec, 3).T,
            phonon_supercell_matrix=None if supercells[1] is None else supercells[1].T,
            symprec=symprec,
            log_level=0,
        )
    try:
        solver.mesh_numbers = mesh
    except RuntimeError as error:
        raise ConfigError(
            f"the mesh {mesh} breaks the crystal's symmetry ({error}): give axes of the primitive cell that symmetry "
            "makes equal the same number",
            setting="mesh",
            value=mesh,
        ) from error
    return solver


def _third_order_residual(constants: Array) -> float:
    """Largest |sum_j Phi_ijk|, j the atom displaced second, as a share of the largest |Phi_ijk|.

    The sum over k, whose force is taken, says nothing: it vanishes wherever forces add up to zero.
    """
    largest = float(np.abs(constants).max())
    return float(np.abs(constants.sum(axis=1)).max()) / largest if largest > 0 else 0.0


def _tell_noise(violation: float, displacement: float) -> None:
    if violation > _NOISY:
        warn(
            PhysicsWarning(
                f"the third-order force constants violate their sum rule by {violation:.2g} of the largest of them "
                f"(limit {_NOISY:g}), so the conductivity may be off by any factor: noise of the forces or terms of "
                "higher order are as large",
                setting="displacement",
                value=displacement,
                limit=_NOISY,
                remedies=[
                    f"take another displacement than {displacement:g} Å (0.03 Å is usual), and forces in float64"
                ],
            )
        )


Cells = list[tuple[str, Any, Sequence[Any]]]


def _supercells(solver: Any, most: int, *, second: bool) -> Cells:
    """What forces are for, the perfect supercell, and the displaced ones; ConfigError for more than `most`."""
    sets: Cells = [("forces", solver.supercell, solver.supercells_with_displacements)]
    if second:
        sets.append(("phonon_forces", solver.phonon_supercell, solver.phonon_supercells_with_displacements))
    total = _count(sets)
    if total > checks.whole("max_structures", most, at_least=1):
        raise ConfigError(
            f"{total} displaced supercells would have to be evaluated, more than max_structures = {most}",
            setting="max_structures",
            value=total,
            limit=most,
            remedies=[
                Use("cutoff_pair_distance"),
                "take a smaller supercell",
                Use("max_structures", total, "if that many are meant"),
            ],
        )
    return sets


def _count(sets: Cells) -> int:
    return sum(1 + sum(cell is not None for cell in cells) for _, _, cells in sets)


def _fill(solver: Any, sets: Cells, evaluator: Evaluator, progress: bool | None) -> int:
    """Give the solver the forces of all its displaced supercells; how many structures that were."""
    total = _count(sets)
    with CountBar(progress, total, "conductivity", "supercell") as bar:
        for name, perfect, cells in sets:
            rest = evaluator.one(to_ase(perfect), name="the perfect supercell").forces
            bar.advance()
            places = [k for k, cell in enumerate(cells) if cell is not None]  # pairs beyond the cutoff are left out
            forces = np.zeros((len(cells), len(perfect), 3))
            for first in range(0, len(places), _CHUNK):
                chosen = places[first : first + _CHUNK]
                found = evaluator([to_ase(cells[k]) for k in chosen], names=[f"displacement {k + 1}" for k in chosen])
                for k, result in zip(chosen, found, strict=True):
                    forces[k] = result.forces - rest
                bar.advance(len(chosen))
            setattr(solver, name, forces)
    return total


def _lowest(solver: Any) -> tuple[float, Array]:
    """Lowest frequency (THz) on the mesh, with the q-point where it is."""
    solver.run_phonon_solver()
    frequencies = np.array(solver.get_phonon_data()[0])
    grid = solver.grid
    qpoints: Array = np.array(grid.addresses @ grid.QDinv.T, dtype=float)
    kept = np.where(vibrating(qpoints, frequencies), frequencies, np.inf)
    place = int(kept.min(axis=1).argmin())
    low = float(kept[place].min())
    return (low if np.isfinite(low) else 0.0), qpoints[place]


def _refuse_imaginary(lowest: float, qpoint: Array, allow: bool) -> None:
    if lowest < IMAGINARY_LIMIT and not allow:
        raise ConfigError(
            f"the crystal has imaginary modes (lowest {lowest:.3g} THz at q = {np.round(qpoint, 4).tolist()}, limit "
            f"{IMAGINARY_LIMIT:g} THz): it is not at a minimum, and its conductivity is not defined",
            setting="allow_imaginary",
            value=lowest,
            limit=IMAGINARY_LIMIT,
            remedies=[RELAX_FIRST, Use("allow_imaginary", True, "to leave these modes out")],
        )
