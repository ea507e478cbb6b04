"""Surfaces and stacking faults against broken bonds counted by hand, and against slabs that ASE builds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc100, fcc110, fcc111, hcp0001
from ase.calculators.emt import EMT
from ase.calculators.morse import MorsePotential
from ase.constraints import FixAtoms
from ase.optimize import BFGS
from defect_crystals import InBatches, copper, nearest_pairs, pair_potential

from mlcalc.md_protocols.defects.stacking_faults import StackingFault, stacking_fault_energy
from mlcalc.md_protocols.defects.surface_result import J_PER_M2, SurfaceEnergy
from mlcalc.md_protocols.defects.surfaces import surface_energy
from mlcalc.md_protocols.errors import ConfigError, NotConvergedError, PhysicsWarning

R0, EPSILON = 2.55, 0.3  # Å, eV: of nearest_pairs()
FCC = {"a": R0 * np.sqrt(2)}


def fcc(cubic: bool = False) -> Atoms:
    atoms = bulk("Cu", "fcc", cubic=cubic, **FCC)
    atoms.calc = nearest_pairs(EPSILON, R0)
    return atoms


@pytest.mark.parametrize(
    ("miller", "broken", "area"),  # bonds cut and area per atom of the surface, in units of r0^2
    [((1, 1, 1), 3, np.sqrt(3) / 2), ((1, 0, 0), 4, 1.0), ((1, 1, 0), 6, np.sqrt(2)), ((2, 0, 0), 4, 1.0)],
)
def test_each_broken_bond_costs_half_of_it_on_either_side(miller: Any, broken: int, area: float) -> None:
    expected = broken * EPSILON / 2 / (area * R0**2)
    for cubic in (False, True):
        found = surface_energy(fcc(cubic), miller=miller, n_layers=(4, 6, 7))
        np.testing.assert_allclose(found.unrelaxed, expected, rtol=1e-9)
        np.testing.assert_allclose(found.relaxed, expected, rtol=1e-9)  # bonds are at their minimum
        assert abs(found.fitted / expected - 1) < 1e-9
        assert abs(found.fitted_bulk_energy + 6 * EPSILON) < 1e-9
        assert abs(found.area - area * R0**2) < 1e-9
        assert (found.n_atoms.tolist(), found.equivalent_faces) == ([4, 6, 7], True)
    assert found.energy_J_per_m2 == pytest.approx(expected * 16.02176634)


@pytest.mark.parametrize(("build", "miller"), [(fcc111, (1, 1, 1)), (fcc100, (1, 0, 0)), (fcc110, (1, 1, 0))])
def test_equals_slabs_built_and_relaxed_by_ase(build: Any, miller: Any) -> None:
    atoms = copper()
    slab = build("Cu", (1, 1, 8), a=atoms.cell[0, 0], vacuum=7.5)
    slab.calc = EMT()
    area = np.linalg.norm(np.cross(slab.cell[0], slab.cell[1]))

    def energy() -> float:
        return float((slab.get_potential_energy() - 2 * atoms.get_potential_energy()) / (2 * area))

    unrelaxed = energy()
    BFGS(slab, logfile=None).run(fmax=1e-3)
    found = surface_energy(atoms, miller=miller, n_layers=8)
    assert found.fitted is None
    np.testing.assert_allclose([found.unrelaxed[0], found.relaxed[0]], [unrelaxed, energy()], atol=1e-7)
    assert found.relaxed[0] < found.unrelaxed[0]


def test_hexagonal_crystals_and_default_layers() -> None:
    a, c = 3.2, 5.2
    atoms = bulk("Mg", a=a, c=c)
    atoms.calc = pair_potential()
    slab = hcp0001("Mg", (1, 1, 10), a=a, c=c, vacuum=7.5)
    slab.calc = pair_potential()
    energy = slab.get_potential_energy() - 5 * atoms.get_potential_energy()
    with pytest.warns(PhysicsWarning, match=r"perfect crystal is not relaxed"):
        found = surface_energy(atoms, miller=(0, 0, 1), relaxed=False)
    assert found.n_layers.tolist() == [3, 4, 5]  # of two planes each: 15, 20 and 25 Å
    np.testing.assert_allclose(found.thicknesses, [15.6, 20.8, 26.0])
    np.testing.assert_allclose(found.energy, energy / (np.sqrt(3) * a**2), rtol=1e-6)


def test_slabs_of_compounds_need_equal_faces() -> None:
    chloride = Atoms("CsCl", cell=[4.0] * 3, scaled_positions=[[0, 0, 0], [0.5] * 3], pbc=True)
    chloride.calc = nearest_pairs(r0=4.0 * np.sqrt(3) / 2)
    with pytest.raises(ConfigError, match=r"two faces of the \(100\) slab differ: .*slab is polar"):
        surface_energy(chloride, miller=(1, 0, 0))
    with pytest.warns(PhysicsWarning):  # the second shell pulls
        found = surface_energy(chloride, miller=(1, 1, 0), relaxed=False)
    assert found.equivalent_faces


def test_what_is_wrong_with_a_slab_is_said() -> None:
    with pytest.warns(PhysicsWarning, match=r"vacuum is 3 Å, less than 8 Å"):
        surface_energy(fcc(), vacuum=3.0, n_layers=4)
    with pytest.warns(PhysicsWarning, match=r"still changes .* between 1 and 2 layers: .*for thicker slabs"):
        surface_energy(copper(), n_layers=(1, 2), relaxed=False)
    with pytest.warns(PhysicsWarning, match=r"unconverged after 1 steps"):
        found = surface_energy(copper(), n_layers=8, fmax=1e-6, steps=1)
    assert "NOT converged" in str(found)
    with pytest.raises(NotConvergedError):
        surface_energy(copper(), n_layers=8, fmax=1e-6, steps=1, require=True)


def test_results_are_saved_loaded_and_drawn(tmp_path: Path) -> None:
    atoms = copper()
    for name, found, kind in (
        ("relaxed", surface_energy(atoms, n_layers=(6, 8)), SurfaceEnergy),
        ("unrelaxed", surface_energy(atoms, n_layers=6, relaxed=False), SurfaceEnergy),
        ("fault", stacking_fault_energy(fcc(), relaxed=False), StackingFault),
    ):
        found.save(tmp_path / f"{name}.npz")
        again = kind.load(tmp_path / f"{name}.npz")
        assert again.to_json() == found.to_json()
        assert str(again) == str(found)
        found.plot().figure.savefig(tmp_path / f"{name}.png")
    assert atoms == copper()


def test_a_stacking_fault_breaks_no_bond_of_nearest_neighbors_but_others() -> None:
    """The first pairs that tell fcc from hcp have a length of sqrt(8/3) r0."""
    found = stacking_fault_energy(fcc(), relaxed=False, n_layers=7)
    assert abs(found.intrinsic) < 1e-12
    assert found.unstable > 0.01  # the atoms ride over each other
    shell = {"epsilon": 0.1, "r0": R0, "rho0": 3.0, "rcut1": 1.68, "rcut2": 1.70}
    atoms = fcc()
    atoms.calc = MorsePotential(**shell)  # up to 1.70 r0: beyond 1.633, short of 1.732
    pair = 0.1 * np.exp(3.0 * (1 - np.sqrt(8 / 3))) * (np.exp(3.0 * (1 - np.sqrt(8 / 3))) - 2)
    with pytest.warns(PhysicsWarning) as said:
        longer = stacking_fault_energy(atoms, relaxed=False, n_layers=7)
    # Two planes at the fault have hexagonal surroundings: each of their atoms gains one pair along the normal.
    assert abs(longer.intrinsic * longer.area - 2 * pair) < 1e-9
    assert any("below zero" in str(one.message) for one in said)


def test_the_fault_equals_the_stacking_spelled_out() -> None:
    atoms = copper()
    a = atoms.cell[0, 0]
    shift = np.array([a / np.sqrt(2) / 2, a / np.sqrt(2) * np.sqrt(3) / 6, 0])

    def energy(stacking: str) -> float:
        cell = [[a / np.sqrt(2), 0, 0], [a / np.sqrt(8), a / np.sqrt(2) * np.sqrt(3) / 2, 0], [0, 0, 0]]
        cell[2][2] = len(stacking) * a / np.sqrt(3)
        places = [("ABC".index(x)) * shift + [0, 0, k * a / np.sqrt(3)] for k, x in enumerate(stacking)]
        crystal = Atoms(f"Cu{len(stacking)}", positions=places, cell=cell, pbc=True, calculator=EMT())
        return float(crystal.get_potential_energy())

    with pytest.warns(PhysicsWarning, match=r"below zero: fcc is not the stable stacking"):
        found = stacking_fault_energy(atoms, relaxed=False, n_layers=12)
    fault = energy("ABCBCABC") - 8 / 3 * energy("ABC")  # C is followed by B once
    assert abs(found.intrinsic * found.area - fault) < 1e-9
    on_top = energy("ABCA") - 4 / 3 * energy("ABC")  # the slip in the other direction would put A on A
    assert on_top > fault + 0.1


@pytest.mark.parametrize(
    ("atoms", "settings", "text"),
    [
        (fcc(), {"miller": (0, 0, 0)}, r"miller is \(0, 0, 0\): give three whole numbers, not all zero"),
        (fcc(), {"miller": (1, 1)}, r"miller is \(1, 1\)"),
        (fcc(), {"miller": (1, 0.5, 0)}, r"miller is"),
        (fcc(), {"n_layers": 0}, r"layers is 0"),
        (fcc(), {"n_layers": []}, r"layers is \[\]: give one whole number"),
        (fcc(), {"n_layers": (4, 4)}, r"several that differ"),
        (fcc(), {"n_layers": "4"}, r"layers is '4'"),
        (fcc(), {"vacuum": 0}, r"vacuum is 0"),
        (fcc(), {"fmax": 0}, r"fmax is 0"),
        (fcc(), {"symprec": -1.0}, r"symprec is -1"),
    ],
)
def test_bad_input_of_surfaces_is_refused(atoms: Atoms, settings: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        surface_energy(atoms, **settings)


def test_bad_crystals_are_refused() -> None:
    slab, fixed, tungsten = fcc(), fcc(), bulk("W")
    slab.pbc, tungsten.calc = [True, True, False], nearest_pairs()
    fixed.set_constraint(FixAtoms([0]))
    for function in (surface_energy, stacking_fault_energy):
        with pytest.raises(ConfigError, match=r"periodic in all directions"):
            function(slab)
        with pytest.raises(ConfigError, match=r"the constraint FixAtoms"):
            function(fixed)
    with pytest.raises(ConfigError, match=r"is Im-3m \(229\) with 1 atoms .*fcc elements only"):
        stacking_fault_energy(tungsten)
    for settings, text in (
        ({"n_layers": 3}, "n_layers is 3"),
        ({"n_slips": 2}, "n_slips is 2"),
        ({"fmax": 0}, "fmax is 0"),
    ):
        with pytest.raises(ConfigError, match=text):
            stacking_fault_energy(fcc(), **settings)


def test_batches() -> None:
    atoms = copper()
    atoms.calc = InBatches(EMT())
    found = surface_energy(atoms, n_layers=(6, 8, 10), miller=(1, 0, 0))
    assert atoms.calc.sizes[:2] == [4, 3]
    looped = surface_energy(copper(), n_layers=(6, 8, 10), miller=(1, 0, 0))
    np.testing.assert_array_equal(found.relaxed, looped.relaxed)
    assert abs(J_PER_M2 * 16.02176634 - 1) < 1e-7
