"""Between ASE and phonopy: structures by arrays, displaced supercells, forces in the order of the displacements.

phonopy's own reader of YAML files executes what a file tells it to, and is never called here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from .. import checks
from ..errors import ConfigError
from ..evaluations import Evaluator

if TYPE_CHECKING:
    from phonopy import Phonopy
    from phonopy.structure.atoms import PhonopyAtoms

Array = NDArray[np.float64]


def supercell_matrix(supercell: Any) -> NDArray[np.int64]:
    """(3, 3) whole numbers from one number, three, or nine; ConfigError for anything else."""
    values = np.asarray(supercell)
    if values.dtype.kind not in "iu" or values.shape not in ((), (3,), (3, 3)):
        raise ConfigError(f"supercell is {supercell!r}: give a whole number, three of them, or a 3 x 3 matrix of them")
    matrix = np.asarray(np.diag(np.broadcast_to(values, 3)) if values.ndim < 2 else values, dtype=np.int64)
    if round(float(np.linalg.det(matrix))) < 1 or (values.ndim < 2 and values.min() < 1):
        raise ConfigError(f"supercell is {supercell!r}: its numbers, or its determinant, must be at least 1")
    return matrix


def to_phonopy(atoms: Atoms) -> PhonopyAtoms:
    """phonopy's structure with the same cell, positions and masses."""
    from phonopy.structure.atoms import PhonopyAtoms

    return PhonopyAtoms(
        symbols=atoms.get_chemical_symbols(),
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
    atoms: Atoms, supercell: Any, *, primitive: Any = "auto", symprec: float = 1e-5, symmetry: bool = True
) -> Phonopy:
    """A Phonopy object for the crystal; its units are THz, Å and eV/Å^2."""
    from phonopy import Phonopy
    from phonopy.structure.cells import guess_primitive_matrix

    symprec = checks.number("symprec", symprec, above=0.0, hint=" Å")
    unitcell = to_phonopy(atoms)
    if isinstance(primitive, str) and primitive == "auto":  # phonopy's own "auto" warns of its being the default
        primitive = guess_primitive_matrix(unitcell, symprec=symprec)
    return Phonopy(
        unitcell,
        supercell_matrix=supercell_matrix(supercell),
        primitive_matrix=primitive,
        symprec=symprec,
        is_symmetry=symmetry,
    )


def displaced_forces(phonon: Phonopy, evaluator: Evaluator) -> tuple[Array, Array]:
    """Forces (D, N, 3) eV/Å of all displaced supercells in one batch, and those of the perfect supercell (N, 3)."""
    displaced: Sequence[Any] = phonon.supercells_with_displacements or ()
    cells = [phonon.supercell, *displaced]
    names = ["the perfect supercell", *(f"displacement {k}" for k in range(1, len(cells)))]
    found = evaluator([to_ase(cell) for cell in cells], names=names)
    return np.array([result.forces for result in found[1:]]), found[0].forces
