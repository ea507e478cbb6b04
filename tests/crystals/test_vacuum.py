"""Vacuum along any axis, whatever the shape of the cell and the origin."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, graphene

from mlcalc.errors import ConfigError
from mlcalc.md_protocols.crystals.vacuum import MIN_VACUUM, refuse_vacuum, vacuum_axes, vacuum_gaps, vacuum_names


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("gap", [4.9, 5.1, 12.0])
def test_the_gap_is_found_along_any_axis(axis: int, gap: float) -> None:
    cell = np.array([[3.0, 0.0, 0.0], [1.0, 3.2, 0.0], [0.4, -0.7, 3.1]])
    normal = np.linalg.inv(cell)[:, axis]
    cell[axis] *= gap / (cell[axis] @ normal / np.linalg.norm(normal))  # one atom: the height is the gap
    atoms = Atoms("Cu", positions=[[0.3, 0.2, -7.1]], cell=cell, pbc=True)
    others = [other for other in range(3) if other != axis]
    assert vacuum_gaps(atoms)[axis] == pytest.approx(gap)
    assert (vacuum_gaps(atoms)[others] < 4.0).all()
    assert vacuum_axes(atoms).tolist() == [other == axis and gap > MIN_VACUUM for other in range(3)]


def test_a_slab_has_the_vacuum_it_was_built_with() -> None:
    slab = fcc111("Cu", (2, 2, 4), vacuum=4.5, periodic=True)
    slab.positions[:, 2] += 6.0  # across the face of the cell
    assert vacuum_gaps(slab)[2] == pytest.approx(9.0)
    assert vacuum_names(slab) == ["c"]
    with pytest.raises(ConfigError, match=r"more than 5 Å without atoms.* along c: a conductivity goes by the volume"):
        refuse_vacuum(slab, "a conductivity")


def test_crystals_have_none_and_molecules_only_vacuum() -> None:
    assert not vacuum_axes(bulk("Cu")).any()
    refuse_vacuum(bulk("Cu"), "a conductivity")
    layered = graphene(vacuum=None)
    assert vacuum_axes(layered).tolist() == [False, False, True]
    assert vacuum_axes(Atoms("CO", [[0, 0, 0], [0, 0, 1.1]])).all()
