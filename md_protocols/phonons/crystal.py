"""Between ASE and phonopy: structures by arrays, displaced supercells, forces in the order of the displacements.

Supercells and primitive cells are rows here, as in ASE's `make_supercell`, and columns in phonopy: they are transposed
where a Phonopy object is made (`phonopy_crystal`) and asked (`supercell_of`, `primitive_of`).
phonopy's own reader of YAML files executes what a file tells it to, and is never called here.
"""

from __future__ import annotations

import inspect
import itertools
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlcalc.ground.errors import Use
from mlcalc.ground.warn import warn

from .. import checks
from ..crystals.kinds import distinguished, labels, plain_crystal
from ..crystals.supercells import supercell_matrix
from ..crystals.symmetry import no_symmetry, symmetry_operations
from ..crystals.vacuum import CLEAR_VACUUM, MIN_VACUUM, vacuum_gaps
from ..errors import ConfigError, EvaluationError, PhysicsWarning
from ..evaluator import Evaluated, Evaluator

if TYPE_CHECKING:
    from phonopy import Phonopy
    from phonopy.structure.atoms import PhonopyAtoms


Array = NDArray[np.float64]
_DISAGREEMENT = 0.3  # share of the largest change of a force: neglected terms stay far below, wrong orders far above


@dataclass(frozen=True, eq=False)
class Prepared:
    """A crystal that is ready for phonons."""

    crystal: Atoms  # without calculator
    phonon: Phonopy
    dimensions: int  # 3, or 2 for a slab in the plane of its first two vectors
    caution: str  # on constraints; empty where there are none


def prepared(
    atoms: Atoms, purpose: str, supercell: Any, *, primitive_matrix: Any, symprec: float, dimensions: int | None
) -> Prepared:
    """The crystal checked and handed to phonopy; settings as in `phonon_dispersion`, ConfigError for what cannot be."""
    caution = plain_crystal(atoms, purpose)
    crystal, matrix = without_calculator(atoms), supercell_matrix(supercell)
    refuse_one_atom(len(atoms), matrix)
    flat = plane_of(crystal, matrix, dimensions)
    phonon = phonopy_crystal(crystal, matrix, primitive=primitive_matrix, symprec=symprec, dimensions=flat)
    return Prepared(crystal, phonon, flat, caution)


def require_sound(atoms: Any, purpose: str = "a phonon calculation") -> None:
    """ConfigError for what phonopy and spglib must not see: they divide by zero, or end the interpreter."""
    checks.geometry(atoms, purpose)
    checks.lattice(atoms, purpose)


def refuse_one_atom(atoms: int, matrix: NDArray[np.int64]) -> None:
    """ConfigError for supercells of one atom, which moves with all of its images."""
    if atoms * round(float(np.linalg.det(matrix))) == 1:
        raise ConfigError(
            f"supercell is {matrix.tolist()}, which holds one atom: all of its images move with it, so that force "
            "constants and frequencies would be zero whatever the forces; take a larger one",
            setting="supercell",
            value=matrix.tolist(),
        )


def supercell_of(phonon: Phonopy) -> NDArray[np.int64]:
    """(3, 3) rows: the supercell's vectors in terms of the unit cell's."""
    return np.array(np.transpose(phonon.supercell_matrix), dtype=np.int64, order="C")


def primitive_of(phonon: Phonopy) -> Array:
    """(3, 3) rows: the primitive cell's vectors in terms of the unit cell's."""
    return np.array(np.transpose(phonon.primitive_matrix), dtype=float, order="C")


def to_phonopy(atoms: Atoms) -> PhonopyAtoms:
    """phonopy's structure with the same cell, positions and masses; further masses of an element have labels (Cu1)."""
    from phonopy.structure.atoms import PhonopyAtoms

    return PhonopyAtoms(
        symbols=labels(atoms),
        cell=atoms.cell.array,
        scaled_positions=atoms.get_scaled_positions(wrap=False),
        masses=atoms.get_masses(),
    )


def to_ase(atoms: PhonopyAtoms, pbc: Any = True) -> Atoms:
    """ASE's structure with the same cell, positions and masses."""
    return Atoms(
        numbers=atoms.numbers, cell=atoms.cell, scaled_positions=atoms.scaled_positions, masses=atoms.masses, pbc=pbc
    )


def phonopy_crystal(
    atoms: Atoms,
    supercell: Any,
    *,
    primitive: Any = "auto",
    symprec: float = 1e-5,
    dimensions: int | None = None,
) -> Phonopy:
    """A Phonopy object for the crystal; its units are THz, Å and eV/Å^2.

    supercell: as in `phonon_dispersion`, rows.  primitive: "auto" for the cell given where it is primitive, else the
    standard primitive cell (for a slab one with the same third vector); or a matrix, rows, or a letter of centering.
    dimensions: 2 or 3 where that is known.
    """
    from phonopy import Phonopy

    require_sound(atoms)
    symprec = checks.number("symprec", symprec, above=0.0, hint=" Å")
    unitcell, matrix = to_phonopy(atoms), supercell_matrix(supercell)
    more = _kinds_apart(Phonopy, unitcell)
    try:
        if isinstance(primitive, str) and primitive == "auto":
            flat = plane_of(atoms, matrix, None) if dimensions is None else dimensions
            primitive = primitive_matrix(unitcell, symprec, flat)
        columns: Any = primitive if isinstance(primitive, str) else np.array(primitive, dtype=float).T
        with warnings.catch_warnings():
            # A supercell of another shape than the crystal's: `phonon_dispersion` tells it, once.
            warnings.filterwarnings("ignore", message="Warning: Point group symmetries", category=UserWarning)
            return Phonopy(
                unitcell,
                supercell_matrix=matrix.T,
                primitive_matrix=columns,
                symprec=symprec,
                **more,
            )
    except ConfigError:
        raise
    except Exception as error:  # whatever phonopy and spglib raise for cells that do not fit, bare assertions included
        raise ConfigError(
            f"phonopy cannot make the primitive cell {np.array(primitive).tolist()!r} and the supercell "
            f"{matrix.tolist()} of these {len(atoms)} atoms within symprec={symprec:g} Å "
            f"({' '.join(str(error).split()) or type(error).__name__})",
            setting="primitive_matrix",
            remedies=[
                Use("primitive_matrix", "auto", python="leave primitive_matrix at 'auto'"),
                "make a file of phonopy with `--pa auto`",
                Use(
                    "primitive_matrix",
                    None,
                    "that takes an atom to one of its own kind and mass",
                    python="give a matrix",
                ),
                Use("symprec", None, "below the distances between atoms", python="take a smaller symprec"),
            ],
        ) from error


def _kinds_apart(known: Any, unitcell: PhonopyAtoms) -> dict[str, Any]:
    """phonopy's switch that tells atoms of one element by their labels, where there are any."""
    if not distinguished(unitcell.symbols):
        return {}
    name = "distinguish_symbol_index"
    if name not in inspect.signature(known).parameters:
        raise ConfigError(
            f"elements of several masses ({', '.join(dict.fromkeys(unitcell.symbols))}) need phonopy 4.10 or newer, "
            "which tells them apart in the symmetry: pip install --upgrade phonopy, or set one mass per element"
        )
    return {name: True}


def primitive_matrix(unitcell: PhonopyAtoms, symprec: float, dimensions: int) -> Array:
    """(3, 3) rows: the vectors of the primitive cell; the identity where the cell is one itself."""
    from phonopy.structure.cells import guess_primitive_matrix

    more = _kinds_apart(guess_primitive_matrix, unitcell)
    guess: Array = guess_primitive_matrix(unitcell, symprec=symprec, **more)
    volume = float(np.linalg.det(guess))
    if abs(abs(volume) - 1.0) < 1e-3:
        return np.eye(3)
    if dimensions == 2:  # the standard cell may have its vacuum along any axis
        operations = symmetry_operations(to_ase(unitcell), symprec)
        if operations is None:
            raise no_symmetry(symprec)
        rotations, translations = operations
        pure = (rotations == np.eye(3, dtype=int)).all(axis=(1, 2))
        return plane_primitive(unitcell.cell, translations[pure])
    return guess.T if volume > 0 else -guess.T


def displaced_forces(phonon: Phonopy, evaluator: Evaluator) -> tuple[Array, Array]:
    """Forces (D, N, 3) eV/Å of all displaced supercells in one batch, and those of the perfect supercell (N, 3).

    EvaluationError where energies and forces contradict each other: forces in another order, of another sign or unit.
    """
    forces, perfect = displaced_forces_of([phonon], evaluator)[0]
    return forces, perfect.forces


def displaced_forces_of(
    phonons: Sequence[Phonopy], evaluator: Evaluator, names: Sequence[str] = ("",)
) -> list[tuple[Array, Evaluated]]:
    """`displaced_forces` of several crystals, all in one batch, with what belongs to each perfect supercell."""
    cells: list[Any] = []
    labels: list[str] = []
    for phonon, name in zip(phonons, names, strict=True):
        displaced: Sequence[Any] = phonon.supercells_with_displacements or ()
        cells += [phonon.supercell, *displaced]
        labels += [f"{name}{kind}" for kind in _labels(len(displaced))]
    found = evaluator([to_ase(cell) for cell in cells], names=labels)
    results, first = [], 0
    for phonon in phonons:
        count = 1 + len(phonon.supercells_with_displacements or ())
        perfect, *moved = found[first : first + count]
        for k, result in enumerate(moved, first + 1):
            move = cells[k].positions - phonon.supercell.positions
            _require_agreement(move, perfect, result, labels[k], evaluator.float32)
        results.append((np.array([result.forces for result in moved]), perfect))
        first += count
    return results


def _labels(displacements: int) -> list[str]:
    return ["the perfect supercell", *(f"displacement {k}" for k in range(1, displacements + 1))]


def _require_agreement(move: Array, before: Evaluated, after: Evaluated, name: str, float32: bool) -> None:
    """The work of the forces over the displacement must be the change of the energy, within a share of it."""
    from_energies = after.energy - before.energy
    from_forces = -0.5 * float(np.sum((before.forces + after.forces) * move))
    change = np.linalg.norm(after.forces - before.forces, axis=1).max() * np.linalg.norm(move, axis=1).max() / 2
    rounding = (1e-6 if float32 else 1e-11) * abs(before.energy) + 1e-9
    if abs(from_energies - from_forces) > _DISAGREEMENT * change + 10 * rounding:
        raise EvaluationError(
            f"{name}: the energy changes by {from_energies:.3g} eV, but the work of the forces is {from_forces:.3g} "
            "eV: the forces are those of other atoms (check their order), of another sign or unit, or not the energy's "
            "derivatives"
        )


def without_calculator(atoms: Atoms) -> Atoms:
    """The structure alone, with its masses and without constraints."""
    return Atoms(
        numbers=atoms.numbers,
        positions=atoms.positions,
        cell=atoms.cell,
        pbc=atoms.pbc,
        masses=atoms.get_masses(),
    )


def plane_of(atoms: Atoms, supercell: NDArray[np.int64], dimensions: int | None) -> int:
    """2 for a slab in the plane of the first two cell vectors, repeated there only, with vacuum along the third; or 3.

    supercell: (3, 3) rows.  dimensions: 2 or 3 to choose it; ConfigError where 2 cannot be.  PhysicsWarning for a
    vacuum of less than 8 Å.
    """
    require_sound(atoms)
    if dimensions not in (None, 2, 3):
        raise ConfigError(
            f"dimensions is {dimensions!r}: it must be 2, 3 or None (found from the structure)",
            setting="dimensions",
            value=dimensions,
        )
    flat = supercell[2].tolist() == [0, 0, 1] and supercell[:2, 2].tolist() == [0, 0]
    if dimensions == 2 and not flat:
        raise ConfigError(
            f"dimensions is 2, but the supercell {supercell.tolist()} repeats the third cell vector or mixes it in: "
            "use numbers such as (4, 4, 1), with the normal of the slab along the third axis",
            setting="supercell",
            value=supercell.tolist(),
        )
    if dimensions is not None:
        return dimensions
    gap = float(vacuum_gaps(atoms)[2])
    if not flat or gap <= MIN_VACUUM:
        return 3
    if gap <= CLEAR_VACUUM:
        warn(
            PhysicsWarning(
                f"the cell has {gap:.3g} Å without atoms along c and is taken for that of a layer, whose copies may "
                f"feel each other within {CLEAR_VACUUM:g} Å",
                remedies=["take more vacuum", Use("dimensions", 3, "for a crystal of layers")],
            )
        )
    return 2


def plane_primitive(cell: Array, translations: Array) -> Array:
    """(3, 3) rows: the vectors of a slab's primitive cell with the same third vector, in terms of the cell's.

    translations: (T, 3) fractional, all pure translations of the crystal.
    """
    within = translations[np.abs(translations[:, 2] - np.rint(translations[:, 2])) < 1e-5]
    steps = [np.array([i, j, 0.0]) for i, j in itertools.product((-1, 0, 1), repeat=2)]
    vectors = (np.append(t[:2], 0.0) + s for t in within for s in steps)
    candidates = sorted(vectors, key=lambda v: float(np.linalg.norm(v @ cell)))
    area = np.linalg.norm(np.cross(cell[0], cell[1])) / len(within)
    for first, second in itertools.combinations([v for v in candidates if np.linalg.norm(v @ cell) > 1e-3], 2):
        crossed = np.cross(first @ cell, second @ cell)
        if abs(np.linalg.norm(crossed) - area) < 1e-3 * area:
            pair = (first, second) if crossed @ np.cross(cell[0], cell[1]) > 0 else (second, first)
            return np.array([*pair, [0.0, 0.0, 1.0]])
    return np.eye(3)
