"""What to say of a crystal whose phonons are not what they seem: forces, stress, symmetry that noise or cells lower."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError

from mlcalc.ground.errors import Use
from mlcalc.ground.remedies import RELAX_FIRST, RELAX_LAYER_FIRST

from ..crystals.conventional_cells import NOISE_SYMPRECS
from ..crystals.symmetry import symmetry_dataset
from ..errors import PhysicsWarning
from ..evaluator import Evaluator
from .crystal import phonopy_crystal, supercell_of, without_calculator

if TYPE_CHECKING:
    from phonopy import Phonopy


def stress_of(atoms: Atoms, evaluator: Evaluator, dimensions: int) -> float | None:
    """Largest component (eV/Å^3) of the cell's stress, for a slab in its plane; None where there is none to be had."""
    if "stress" not in getattr(evaluator.calculator, "implemented_properties", ()):
        return None
    try:
        stress = evaluator.one(without_calculator(atoms), stress=True, name="the cell").stress
    except (PropertyNotImplementedError, NotImplementedError):
        return None
    if stress is None:
        return None
    if dimensions == 3:
        return float(np.abs(stress).max())
    tensor = np.array([[stress[0], stress[5], stress[4]], [stress[5], stress[1], stress[3]], [*stress[[4, 3, 2]]]])
    first = atoms.cell.array[0] / np.linalg.norm(atoms.cell.array[0])
    second = np.cross(np.cross(first, atoms.cell.array[1]), first)
    axes = np.array([first, second / np.linalg.norm(second)])
    return float(np.abs(axes @ tensor @ axes.T).max())


def unrelaxed(
    force: float, stress: float | None, *, force_limit: float, stress_limit: float | None, dimensions: int
) -> PhysicsWarning | None:
    """What to say of a crystal with forces (eV/Å) or a stress (eV/Å^3) above the limits."""
    complaints = []
    if force > force_limit:
        complaints.append(f"forces of up to {force:.3g} eV/Å act on its atoms (limit {force_limit:g})")
    if stress_limit is not None and stress is not None and stress > stress_limit:
        complaints.append(f"it is under a stress of {stress:.3g} eV/Å^3 (limit {stress_limit:g})")
    if not complaints:
        return None
    first = RELAX_FIRST if dimensions == 3 else RELAX_LAYER_FIRST
    return PhysicsWarning(
        f"the crystal is not relaxed: {' and '.join(complaints)}, so its phonons are not those of a minimum",
        setting="force_limit" if force > force_limit else "stress_limit",
        value=force if force > force_limit else stress,
        limit=force_limit if force > force_limit else stress_limit,
        remedies=[replace(first, why="unless the strain is meant")],
    )


def another_shape(phonon: Phonopy) -> PhysicsWarning | None:
    """What to say of a supercell that has fewer of the point group's operations than the crystal."""
    whole, left = len(phonon.primitive_symmetry.pointgroup_operations), len(phonon.symmetry.pointgroup_operations)
    if left >= whole:
        return None
    return PhysicsWarning(
        f"the supercell has {left} of the crystal's {whole} point operations, so directions that symmetry makes equal "
        "come out different by what the supercell cuts off",
        setting="supercell",
        value=left,
        limit=whole,
        remedies=["repeat equivalent axes equally often"],
    )


def lowered_symmetry(atoms: Atoms, phonon: Phonopy, distance: float) -> PhysicsWarning | None:
    """What to say of a crystal that has more symmetry within a coarser tolerance."""
    here, name = _group(atoms, phonon.symmetry.tolerance)
    for symprec in NOISE_SYMPRECS:
        there, other = _group(atoms, symprec)
        if symprec > phonon.symmetry.tolerance and there > here:
            coarse = phonopy_crystal(atoms, supercell_of(phonon), primitive="P", symprec=symprec)
            coarse.generate_displacements(distance=distance)
            return PhysicsWarning(
                f"noise lowers the crystal's symmetry: {name} within {phonon.symmetry.tolerance:g} Å takes "
                f"{len(phonon.displacements)} displacements, {other} within {symprec:g} Å would take "
                f"{len(coarse.displacements)}, and modes that symmetry makes equal split",
                setting="symprec",
                value=phonon.symmetry.tolerance,
                limit=symprec,
                remedies=[
                    Use("keep_symmetry", True, python="relax with keep_symmetry=True"),
                    "standardize the structure with spglib",
                    Use("symprec", symprec),
                ],
            )
    return None


def _group(atoms: Atoms, symprec: float) -> tuple[int, str]:
    """How many operations the crystal has within this tolerance (Å), and the name of their group."""
    found = symmetry_dataset(atoms, symprec)
    return (0, "no group") if found is None else (len(found.rotations), str(found.international))
