"""Surfaces of crystals that can be parted at several places: each by itself, the lowest named, whatever the origin."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, hcp10m10
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.neighborlist import neighbor_list
from ase.spacegroup import crystal
from defect_crystals import copper

from mlcalc.md_protocols.defects.slabs import Plane
from mlcalc.md_protocols.defects.stacking_faults import stacking_fault_energy
from mlcalc.md_protocols.defects.surface_result import SurfaceEnergy
from mlcalc.md_protocols.defects.surfaces import surface_energy
from mlcalc.md_protocols.errors import ConfigError, EvaluationError, PhysicsWarning

SHIFTS = (0.0, 0.1, 0.37)
A_SI = 5.432  # Å


class Bonds(Calculator):
    """-1 eV for each pair within the reach; ends that hang on one bond can be refused."""

    implemented_properties = ["energy", "forces"]  # noqa: RUF012 - as in ASE

    def __init__(self, reach: float = 2.7, refuse_ends: bool = False) -> None:
        super().__init__()
        self.reach, self.refuse_ends = reach, refuse_ends

    def calculate(
        self, atoms: Atoms | None = None, properties: Any = ("energy",), system_changes: Any = all_changes
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        counts = np.bincount(neighbor_list("i", self.atoms, self.reach), minlength=len(self.atoms))
        if self.refuse_ends and counts.min() == 1:
            raise ZeroDivisionError("float division by zero")
        self.results = {"energy": -0.5 * float(counts.sum()), "forces": np.zeros((len(self.atoms), 3))}


def shifted(atoms: Atoms, shift: float, calculator: Any) -> Atoms:
    moved = atoms.copy()
    moved.set_scaled_positions((moved.get_scaled_positions() + shift * np.array([1, 0.77, 0.61])) % 1)
    moved.calc = calculator
    return moved


@pytest.mark.parametrize("shift", SHIFTS)
def test_diamond_111_breaks_one_bond_or_three_whatever_the_origin(shift: float) -> None:
    atoms = shifted(bulk("Si", a=A_SI), shift, Bonds())
    per_bond = 1 / (2 * np.sqrt(3) / 4 * A_SI**2)  # eV/Å^2, of both faces
    found = surface_energy(atoms, n_layers=(3, 4), relaxed=False)
    np.testing.assert_allclose(found.unrelaxed, per_bond, rtol=1e-9)
    assert (found.termination, [other.termination for other in found.others]) == (0, [1])
    np.testing.assert_allclose(found.others[0].unrelaxed, 3 * per_bond, rtol=1e-9)
    assert "termination 0, cut between planes of Si and Si, 2.352 Å apart: the lowest" in str(found)
    assert "termination 1, cut between planes of Si and Si, 0.784 Å apart: 1.8" in str(found)
    chosen = surface_energy(atoms, n_layers=(3, 4), relaxed=False, termination=1)
    np.testing.assert_array_equal(chosen.unrelaxed, found.others[0].unrelaxed)
    assert chosen.others == ()


@pytest.mark.parametrize("shift", SHIFTS)
def test_prism_planes_of_hcp_equal_slabs_built_by_ase(shift: float) -> None:
    a, c = 2.54, 4.143
    metal = bulk("Cu", "hcp", a=a, c=c)
    metal.calc = EMT()
    # ASE's slab ends at the wide gap; without its outermost planes it ends at the narrow one.
    wide = hcp10m10("Cu", (1, 6, 6), a=a, c=c, vacuum=7.5)
    z = wide.positions[:, 2]
    narrow = wide[[k for k in range(len(wide)) if z.min() + 0.1 < z[k] < z.max() - 0.1]]
    expected = []
    for slab in (wide, narrow):
        slab.calc = EMT()
        energy = slab.get_potential_energy() - len(slab) / 2 * metal.get_potential_energy()
        expected.append(energy / (2 * np.linalg.norm(np.cross(slab.cell[0], slab.cell[1]))))
    with pytest.warns(PhysicsWarning, match="perfect crystal is not relaxed"):
        found = surface_energy(shifted(metal, shift, EMT()), miller=(1, 0, 0), n_layers=(7, 8), relaxed=False)
    both = [found.energy, found.others[0].energy]
    np.testing.assert_allclose(both, sorted(expected), rtol=5e-4)  # of slabs of other thicknesses
    assert both[1] > 1.2 * both[0]


@pytest.mark.parametrize("shift", SHIFTS)
def test_a_compound_is_cut_where_its_faces_are_the_same(shift: float) -> None:
    fluorite = crystal(["Ca", "F"], [(0, 0, 0), (0.25, 0.25, 0.25)], spacegroup=225, cellpar=[5.46] * 3 + [90] * 3)
    atoms = shifted(fluorite, shift, Bonds(2.4))  # Ca-F are 2.364 Å
    found = surface_energy(atoms, n_layers=3, relaxed=False)
    assert found.equivalent_faces
    # Of the eight bonds of Ca the two along the normal are cut, one in each direction.
    assert abs(found.energy - 2 / (2 * np.sqrt(3) / 4 * 5.46**2)) < 1e-9
    assert found.left_out == (
        "termination 1, cut between planes of Ca and F, 0.788 Å apart: left out, its two faces differ",
    )
    with pytest.raises(ConfigError, match=r"faces of the \(111\) slab differ: .* termination=\.\.\. for another"):
        surface_energy(atoms, n_layers=3, relaxed=False, termination=1)
    with pytest.raises(ConfigError, match=r"\(100\) slab differ: of a compound"):
        surface_energy(atoms, miller=(1, 0, 0), n_layers=3, relaxed=False)


def test_a_termination_that_cannot_be_evaluated_is_left_out_and_named() -> None:
    atoms = bulk("Si", a=A_SI)
    atoms.calc = Bonds(refuse_ends=True)
    with pytest.warns(PhysicsWarning, match=r"termination 1, .*0\.784 Å apart: left out, it cannot be evaluated"):
        found = surface_energy(atoms, n_layers=(3, 4), relaxed=False)
    assert (found.termination, found.others, len(found.left_out)) == (0, (), 1)
    with pytest.raises(Exception, match="division by zero"):
        surface_energy(atoms, n_layers=(3, 4), relaxed=False, termination=1)


class Weakening(Bonds):
    """Bonds, with a pull on all atoms that never ends, until dangling ends make it give out."""

    calls = 0

    def calculate(
        self, atoms: Atoms | None = None, properties: Any = ("energy",), system_changes: Any = all_changes
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        if np.bincount(neighbor_list("i", self.atoms, self.reach)).min() == 1:
            self.calls += 1
            self.results["forces"][:, 0] = [0.1, -0.1] * (len(self.atoms) // 2)
            if self.calls > 4:
                raise ArithmeticError("no neighbors left")


def test_a_termination_that_fails_on_its_way_is_left_out() -> None:
    atoms = bulk("Si", a=A_SI)
    atoms.calc = Weakening()
    with pytest.warns(PhysicsWarning, match=r"termination 1, .* left out, it cannot be relaxed .*no neighbors left"):
        found = surface_energy(atoms, n_layers=(3, 4))
    assert (found.termination, found.others, len(found.left_out)) == (0, (), 1)
    with pytest.raises(EvaluationError, match="no neighbors left"):
        surface_energy(atoms, n_layers=(3, 4), termination=1)


def test_terminations_are_relaxed_saved_and_loaded(tmp_path: Path) -> None:
    atoms = bulk("Si", a=A_SI)
    atoms.calc = Bonds()
    found = surface_energy(atoms, n_layers=(3, 4))
    found.save(tmp_path / "s.npz")
    again = SurfaceEnergy.load(tmp_path / "s.npz")
    assert again.to_json() == found.to_json()
    assert str(again) == str(found)
    assert [len(slab) for slab in again.others[0].slabs] == [6, 8]
    with pytest.raises(ConfigError, match=r"termination is 2: the \(111\) surface has 2 \(0: cut between"):
        surface_energy(atoms, n_layers=3, termination=2)
    with pytest.raises(ConfigError, match=r"termination is -1"):
        surface_energy(atoms, n_layers=3, termination=-1)


def test_crystals_with_one_atom_have_one_termination() -> None:
    for lattice, a in (("fcc", 3.6), ("bcc", 2.9)):
        for miller in ((1, 1, 1), (2, 1, 0), (3, 1, 1)):
            assert len(Plane.of(bulk("Cu", lattice, a=a, cubic=True), miller, 1e-3).terminations) == 1


class Moments(EMT):
    """EMT, and -1/2 eV for each moment squared, +1/10 for each tag."""

    def calculate(
        self, atoms: Atoms | None = None, properties: Any = ("energy",), system_changes: Any = all_changes
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        extra = -0.5 * (self.atoms.get_initial_magnetic_moments() ** 2).sum() + 0.1 * self.atoms.get_tags().sum()
        extra += self.atoms.info.get("shift", 0.0) * len(self.atoms)
        self.results["energy"] += extra
        self.results["free_energy"] = self.results["energy"]


def test_slabs_and_stacks_keep_moments_tags_and_info() -> None:
    plain, atoms = copper(), copper()
    atoms.set_initial_magnetic_moments([1.0] * 4)
    atoms.set_tags([2] * 4)
    atoms.info["shift"] = 0.3
    atoms.calc = Moments()
    expected = surface_energy(plain, n_layers=(4, 6), relaxed=False)
    found = surface_energy(atoms, n_layers=(4, 6), relaxed=False)
    np.testing.assert_allclose(found.unrelaxed, expected.unrelaxed, rtol=1e-9)
    assert found.slabs[0].get_tags().tolist() == [2] * 4
    with pytest.warns(PhysicsWarning, match="below zero"):
        faults = [stacking_fault_energy(one, n_layers=7, n_slips=3, relaxed=False) for one in (plain, atoms)]
    np.testing.assert_allclose(faults[1].unrelaxed, faults[0].unrelaxed, atol=1e-12)
    assert faults[1].fault.get_initial_magnetic_moments().tolist() == [1.0] * 7


def test_antiferromagnets_are_cut_with_their_order() -> None:
    atoms = bulk("Cr", a=2.88, cubic=True)
    atoms.set_initial_magnetic_moments([1.0, -1.0])
    plane = Plane.of(atoms, (1, 0, 0), 1e-3)
    assert (plane.indices, len(plane.primitive)) == ((1, 0, 0), 2)
    moments = plane.slab(3, 15.0).get_initial_magnetic_moments()
    assert sorted(moments.tolist()) == [-1.0] * 3 + [1.0] * 3
