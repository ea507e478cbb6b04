"""Crystals, layers and wires relaxed with the part of their cell free that has a meaning, against ASE by hand."""

from __future__ import annotations

import re

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111
from ase.calculators.emt import EMT
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS

from mlcalc.md_protocols import PhysicsWarning, relax, relax_crystal, vacancy_energy
from mlcalc.md_protocols.relaxation.crystal import free_cell

TIGHT = {"fmax": 1e-4, "smax": 1e-7}


def slab() -> Atoms:
    atoms = fcc111("Cu", (1, 1, 3), a=3.7, vacuum=6.0, periodic=True)
    atoms.calc = EMT()
    return atoms


def by_hand(atoms: Atoms, mask: list[int]) -> np.ndarray:
    reference = atoms.copy()
    reference.calc = EMT()
    assert BFGS(FrechetCellFilter(reference, mask=mask), logfile=None).run(fmax=1e-5, steps=500)
    return np.asarray(reference.cell.lengths())


def test_a_layer_relaxes_in_its_plane() -> None:
    start = slab()
    found = relax_crystal(start, **TIGHT)
    assert (found.cell, found.converged) == ("in-plane", True)
    lengths = by_hand(start, [1, 1, 0, 0, 0, 1])
    np.testing.assert_allclose(found.atoms.cell.lengths(), lengths, atol=2e-4)
    assert abs(lengths[0] - start.cell.lengths()[0]) > 0.05  # what a cell that is held would have
    assert found.atoms.cell.lengths()[2] == pytest.approx(start.cell.lengths()[2])


def test_a_layer_without_a_third_direction_comes_back_as_it_was() -> None:
    flat = slab()
    flat.pbc = [True, True, False]
    flat.cell[2] = 0.0
    found = relax_crystal(flat, **TIGHT)
    assert found.atoms.pbc.tolist() == [True, True, False]
    np.testing.assert_array_equal(found.atoms.cell[2], 0.0)
    np.testing.assert_allclose(found.atoms.cell.lengths()[:2], relax_crystal(slab(), **TIGHT).atoms.cell.lengths()[:2])
    assert found.atoms.calc is flat.calc
    assert flat.cell.rank == 2  # what was given is as it was


def test_crystals_relax_as_a_whole_and_wires_in_their_cell() -> None:
    atoms = bulk("Cu", a=3.7)
    atoms.calc = EMT()
    np.testing.assert_allclose(relax_crystal(atoms, **TIGHT).atoms.cell.lengths(), by_hand(atoms, [1] * 6), atol=2e-4)
    wire = Atoms("Cu2", [[0, 0, 0], [0, 0.2, 2.4]], cell=[12.0, 12.0, 4.8], pbc=True, calculator=EMT())
    assert [free_cell(one) for one in (atoms, slab(), wire)] == ["full", "in-plane", "fixed"]
    found = relax_crystal(wire, fmax=0.01)
    np.testing.assert_array_equal(found.atoms.cell.array, wire.cell.array)
    assert found.atoms.get_distance(0, 1, mic=True) != pytest.approx(wire.get_distance(0, 1, mic=True), abs=1e-3)


def test_noise_that_parts_equivalent_sites_is_told() -> None:
    atoms = bulk("Cu", a=3.59, cubic=True)
    atoms.calc = EMT()
    atoms.rattle(5e-5, seed=1)
    with pytest.warns(PhysicsWarning) as said:
        parted = vacancy_energy(atoms, supercell=2, relaxed=False)
    told = r"noise lowers .* Fm-3m \(225\).*keep_symmetry=True.*pass symprec=0\.001"
    assert any(re.search(told, str(one.message)) for one in said)
    assert len(parted.sites) == 4
    kept = relax(atoms, cell="full", keep_symmetry=True, **TIGHT).atoms
    with pytest.warns(PhysicsWarning) as said:  # of the distance between images
        assert vacancy_energy(kept, supercell=2, relaxed=False).sites == (0,)
    assert not any("noise" in str(one.message) for one in said)
