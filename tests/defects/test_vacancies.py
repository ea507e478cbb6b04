"""Vacancy energies against sums over pairs, against ASE by hand, and between descriptions of one crystal."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, make_supercell
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS
from defect_crystals import InBatches, Wells, a15, alloy, copper, pair_potential, relaxed_a15

from mlcalc.md_protocols.crystals.symmetry import symmetry
from mlcalc.md_protocols.defects.hops import inequivalent_hops
from mlcalc.md_protocols.defects.vacancies import vacancy_energy
from mlcalc.md_protocols.defects.vacancy_result import VacancyEnergy
from mlcalc.md_protocols.errors import ConfigError, NotConvergedError, PhysicsWarning

pytestmark = pytest.mark.filterwarnings("ignore:the vacancy is .* from its nearest image:UserWarning")

MU = {"Cu": -0.1, "Au": -0.2}  # eV


def with_calculator(atoms: Atoms, calculator: Any) -> Atoms:
    atoms.calc = calculator
    return atoms


def unrelaxed(atoms: Atoms, supercell: Any, **settings: Any) -> np.ndarray:
    return vacancy_energy(atoms, supercell=supercell, relaxed=False, **settings).unrelaxed


def test_of_pair_potentials_is_the_cohesive_energy() -> None:
    """Taking an atom out breaks its bonds, 2 e, and putting it back into the crystal makes half of them, e."""
    for atoms, supercell in ((bulk("Cu", a=3.6), 4), (bulk("Cu", a=3.6, cubic=True), 2), (bulk("Mg"), 3)):
        atoms.calc = pair_potential()
        cohesive = -atoms.get_potential_energy() / len(atoms)
        with pytest.warns(PhysicsWarning, match="perfect crystal is not relaxed"):
            found = unrelaxed(atoms, supercell)
        np.testing.assert_allclose(found, [cohesive], atol=1e-10)
    emt = copper()  # energies of many bodies are no sums over pairs: the law is one that can fail
    assert abs(unrelaxed(emt, 2)[0] + emt.get_potential_energy() / 4) > 0.5


def test_every_inequivalent_site_has_its_own_energy() -> None:
    atoms = relaxed_a15()
    site_energies = atoms.calc.get_property("energies", atoms)
    found = vacancy_energy(atoms, supercell=2, relaxed=False)
    assert (found.sites, found.multiplicities, found.wyckoffs) == ((0, 2), (2, 6), ("a", "d"))
    assert found.spacegroup == "Pm-3n (223)"
    expected = atoms.get_potential_energy() / 8 - 2 * site_energies[[0, 2]]
    np.testing.assert_allclose(found.unrelaxed, expected, atol=1e-10)
    assert abs(np.diff(found.unrelaxed)[0]) > 0.01
    compound = with_calculator(atoms.copy(), pair_potential())
    compound.symbols[2:] = "Ag"
    two = vacancy_energy(compound, supercell=2, relaxed=False, chemical_potential={"Cu": -1.5, "Ag": -2.5})
    np.testing.assert_allclose(two.unrelaxed, [-1.5, -2.5] - 2 * site_energies[[0, 2]], atol=1e-10)
    assert two.potential_sources == ("given", "given")
    one = vacancy_energy(compound, supercell=2, relaxed=False, sites=[5], chemical_potential={"Ag": -2.5})
    assert (one.sites, one.orbits, one.symbols) == ((5,), (2,), ("Ag",))
    np.testing.assert_allclose(one.unrelaxed, two.unrelaxed[1:], atol=1e-10)


def test_equals_ase_by_hand() -> None:
    atoms = copper()
    perfect = with_calculator(atoms.repeat(3), EMT())
    energy = perfect.get_potential_energy()
    vacancy = atoms.repeat(3)
    del vacancy[40]  # any of them
    vacancy.calc = EMT()
    before = vacancy.get_potential_energy()
    BFGS(vacancy, logfile=None).run(fmax=1e-4)
    found = vacancy_energy(atoms, supercell=(3, 3, 3), fmax=1e-4)
    assert abs(found.unrelaxed[0] - (before - 107 / 108 * energy)) < 1e-10
    assert abs(found.relaxed[0] - (vacancy.get_potential_energy() - 107 / 108 * energy)) < 1e-6
    assert found.converged is True
    assert found.max_forces[0] < 1e-4
    assert 0.005 < found.unrelaxed[0] - found.relaxed[0] < 0.05  # the rest of the comparison would miss no relaxation
    assert found.relaxation_volumes.tolist() == [0.0]
    assert (found.n_atoms, len(found.structures[0])) == (108, 107)


def test_a_free_cell_equals_ase_by_hand() -> None:
    atoms = copper()
    vacancy = atoms.repeat(2)
    del vacancy[0]
    vacancy.calc = EMT()
    volume = vacancy.get_volume()
    BFGS(FrechetCellFilter(vacancy), logfile=None).run(fmax=1e-4)
    energy = vacancy.get_potential_energy() - 31 / 4 * atoms.get_potential_energy()
    full, fixed = (vacancy_energy(atoms, supercell=2, cell=cell, fmax=1e-4) for cell in ("full", "fixed"))
    assert abs(full.relaxed[0] - energy) < 1e-5
    assert abs(full.relaxation_volumes[0] - (vacancy.get_volume() - volume)) < 0.02
    assert full.relaxed[0] < fixed.relaxed[0] - 0.001
    assert full.relaxation_volumes[0] < -1


def test_does_not_depend_on_how_the_crystal_is_described() -> None:
    cubic = copper()
    primitive = with_calculator(bulk("Cu", a=cubic.cell[0, 0]), EMT())
    to_cubic = np.round(cubic.cell.array @ np.linalg.inv(primitive.cell.array)).astype(int)
    one = vacancy_energy(cubic, supercell=2)
    two = vacancy_energy(primitive, supercell=2 * to_cubic)
    doubled = vacancy_energy(with_calculator(cubic * (1, 1, 2), EMT()), supercell=(2, 2, 1))
    long = with_calculator(relaxed_a15() * (1, 1, 2), pair_potential())  # its own symmetry is tetragonal
    assert vacancy_energy(long, supercell=(2, 2, 1), relaxed=False).multiplicities == (4, 12)
    shifted = with_calculator(cubic.copy(), EMT())
    shifted.positions += [0.3, 7.1, -3.0]
    for other in (two, doubled, vacancy_energy(shifted, supercell=2)):
        np.testing.assert_allclose(other.unrelaxed, one.unrelaxed, atol=1e-9)
        np.testing.assert_allclose(other.relaxed, one.relaxed, atol=1e-5)
        assert other.spacegroup == "Fm-3m (225)"
    assert (one.multiplicities, two.multiplicities, doubled.multiplicities) == ((4,), (1,), (8,))
    hexagonal = with_calculator(bulk("Mg", a=3.2, c=5.2), pair_potential())
    ortho = with_calculator(make_supercell(hexagonal, [[1, 0, 0], [1, 2, 0], [0, 0, 1]]), pair_potential())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PhysicsWarning)  # an unrelaxed crystal will do
        np.testing.assert_allclose(
            unrelaxed(hexagonal, [[4, 0, 0], [4, 8, 0], [0, 0, 2]]), unrelaxed(ortho, (4, 4, 2)), atol=1e-9
        )


def test_displacements_break_the_symmetry_that_holds_a_saddle() -> None:
    atoms = bulk("Cu", a=3.6, cubic=True)
    atoms.calc = Wells(atoms.repeat(2), wells=3)
    held = vacancy_energy(atoms, supercell=2, rattle=0.0)
    assert held.each_converged.all()
    assert (
        max(abs(held.relaxed[0]), abs(held.unrelaxed[0])) < 1e-20
    )  # a saddle, with forces of zero: it looks converged
    free = vacancy_energy(atoms, supercell=2, fmax=1e-4)
    assert abs(free.relaxed[0] + 3 * Wells.k**2 / (4 * Wells.q)) < 1e-6
    assert abs(free.displacements[0] - np.sqrt(Wells.k / Wells.q)) < 1e-3


def test_batches_hold_all_sites_and_give_what_a_loop_gives() -> None:
    atoms = alloy()
    settings: dict[str, Any] = {"supercell": 2, "fmax": 0.03, "chemical_potential": MU}
    looped = vacancy_energy(atoms, **settings)
    batched = InBatches(EMT())
    atoms.calc = batched
    found = vacancy_energy(atoms, **settings)
    assert batched.sizes[:2] == [3, 2]  # the perfect crystal with both vacancies, then both vacancies
    assert set(batched.sizes[1:]) <= {1, 2}
    for name in ("unrelaxed", "relaxed", "max_forces"):
        np.testing.assert_array_equal(getattr(found, name), getattr(looped, name))
    given: list[int] = []

    def evaluate(structures: list[Atoms]) -> list[Any]:
        given.append(len(structures))
        return batched.evaluate(structures, forces=True, stress=False)

    np.testing.assert_array_equal(vacancy_energy(atoms, evaluate=evaluate, **settings).relaxed, found.relaxed)
    assert given == batched.sizes[: len(given)]


def test_layers() -> None:
    slab = with_calculator(fcc111("Cu", (1, 1, 3), a=copper().cell[0, 0], vacuum=8), EMT())
    with pytest.raises(ConfigError, match=r"with vacuum and several inequivalent sites does not give .* of Cu"):
        vacancy_energy(slab, supercell=(3, 3, 1))
    settings: dict[str, Any] = {"chemical_potential": {"Cu": -0.007}, "relaxed": False}
    with pytest.warns(PhysicsWarning, match=r"perfect crystal is not relaxed: it has forces"):
        two = vacancy_energy(slab, supercell=(3, 3, 1), **settings)
    assert (two.symbols, two.multiplicities) == (("Cu", "Cu"), (2, 1))
    slab.pbc = True
    with pytest.warns(PhysicsWarning, match=r"forces"):
        periodic = vacancy_energy(slab, supercell=(3, 3, 1), **settings)
    np.testing.assert_allclose(periodic.unrelaxed, two.unrelaxed, atol=1e-9)
    slab.pbc = [True, True, False]
    with pytest.raises(ConfigError, match=r"not periodic along c: the number there must be 1"):
        vacancy_energy(slab, supercell=3, **settings)


def test_a_single_layer_without_a_third_vector() -> None:
    layer = Atoms("Cu", cell=[[2.4, 0, 0], [1.2, 1.2 * np.sqrt(3), 0], [0, 0, 0]], pbc=[True, True, False])
    layer.calc = EMT()
    with pytest.warns(PhysicsWarning, match=r"not relaxed: it has a stress of 16 GPa .*relax_crystal\(atoms\)"):
        found = vacancy_energy(layer, supercell=(4, 4, 1))
    perfect = with_calculator(layer.repeat((4, 4, 1)), EMT())
    vacancy = with_calculator(perfect[1:], EMT())
    expected = vacancy.get_potential_energy() - 15 / 16 * perfect.get_potential_energy()
    assert abs(found.unrelaxed[0] - expected) < 1e-10
    assert (found.multiplicities, found.image_distance) == ((1,), pytest.approx(9.6))
    hops = inequivalent_hops(layer, symmetry(layer, 1e-3), 0, 1e-3)
    assert [hop.multiplicity for hop in hops] == [6]


def test_what_is_wrong_with_the_physics_is_said(recwarn: pytest.WarningsRecorder) -> None:
    stretched = with_calculator(bulk("Cu", a=3.8, cubic=True), EMT())
    with pytest.warns(PhysicsWarning, match=r"not relaxed: it has a stress of .* GPa \(limit 0\.1\).*relax it first"):
        found = vacancy_energy(stretched, supercell=3, relaxed=False)
    assert found.perfect_max_stress_GPa > 5
    with pytest.warns(PhysicsWarning, match=r"sites 0 and 3 are equivalent by symmetry"):
        same = vacancy_energy(copper(), supercell=3, sites=[0, 3], relaxed=False)
    assert same.orbits == (0, 0)
    assert abs(np.diff(same.unrelaxed)[0]) < 1e-10
    with pytest.warns(PhysicsWarning, match=r"unconverged after 2 steps with a largest force"):
        lost = vacancy_energy(copper(), supercell=3, steps=2, fmax=1e-5)
    assert lost.converged is False
    assert "NOT converged" in str(lost)
    with pytest.raises(NotConvergedError):
        vacancy_energy(copper(), supercell=3, steps=2, fmax=1e-5, require=True)
    with pytest.warns(PhysicsWarning, match=r"7\.18 Å from its nearest image, less than 10 Å"):
        vacancy_energy(copper(), supercell=2, relaxed=False)
    recwarn.clear()
    vacancy_energy(copper(), supercell=3)  # and nothing without a reason
    assert not recwarn.list


def test_displacements_left_over_are_said() -> None:
    with pytest.warns(PhysicsWarning, match=r"eV above that before: .*smaller forces"):
        vacancy_energy(copper(), supercell=3, fmax=0.5, rattle=0.05)


def test_settings_and_arrays_of_other_kinds(tmp_path: Path) -> None:
    atoms = copper()
    atoms.set_initial_magnetic_moments([1.0, 0.0, 0.0, 0.0])
    found = vacancy_energy(
        atoms,
        supercell=np.array([2, 2, 2]),
        seed=np.int64(3),
        sites=iter([np.int64(1)]),
        cell="FIXED",
        fmax=np.float64(0.01),
    )
    found.save(tmp_path / "v.npz")
    assert (found.cell, found.sites, found.seed) == ("fixed", (1,), 3)
    assert found.structures[0].get_initial_magnetic_moments().sum() == 8


def test_an_atom_that_goes_away_is_said() -> None:
    atoms = bulk("Cu", a=3.6, cubic=True)
    atoms.calc = Wells(atoms.repeat(2), wells=1)
    atoms.calc.q = 0.4  # minima at 1.6 Å
    with pytest.warns(PhysicsWarning, match=r"an atom moved by 1\.5\d Å, more than half .*another defect"):
        vacancy_energy(atoms, supercell=2)


def test_results_are_saved_loaded_and_drawn(tmp_path: Path) -> None:
    atoms = alloy()
    positions = atoms.positions.copy()
    for relaxed in (True, False):
        found = vacancy_energy(atoms, supercell=2, relaxed=relaxed, chemical_potential=MU, fmax=0.05)
        found.save(tmp_path / "v.npz")
        again = VacancyEnergy.load(tmp_path / "v.npz")
        assert again.to_json() == found.to_json()
        for name, value in vars(found).items():
            if name != "structures":
                np.testing.assert_array_equal(value, getattr(again, name), err_msg=name)
        for one, other in zip(found.structures, again.structures, strict=True):
            np.testing.assert_array_equal(one.positions, other.positions)
        found.plot().figure.savefig(tmp_path / "v.png")
    assert "Au0 (1a)" in str(found)
    np.testing.assert_array_equal(atoms.positions, positions)


def changed(**changes: Any) -> Atoms:
    atoms = copper()
    for name, value in changes.items():
        setattr(atoms, name, value)
    return atoms


@pytest.mark.parametrize(
    ("atoms", "settings", "text"),
    [
        (copper(), {"sites": [4]}, r"sites holds 4, but the unit cell has 4 atoms: indices run from 0 to 3"),
        (copper(), {"sites": [-1]}, r"an index in sites is -1: .*at least 0"),
        (copper(), {"sites": []}, r"sites is \[\]: give a sequence"),
        (copper(), {"sites": "0"}, r"sites is '0': give a sequence"),
        (copper(), {"sites": [0, 0]}, r"each index may stand there once"),
        (copper(), {"sites": [0.5]}, r"an index in sites is 0\.5"),
        (copper(), {"supercell": 0}, r"supercell is 0: .*at least 1"),
        (copper(), {"supercell": 2.5}, r"supercell is 2\.5: give a whole number"),
        (copper(), {"cell": "ful"}, r"unknown cell 'ful'.*Did you mean 'full'"),
        (copper(), {"fmax": 0.0}, r"fmax is 0\.0"),
        (copper(), {"smax": 0.0}, r"smax is 0\.0"),
        (copper(), {"rattle": -0.1}, r"rattle is -0\.1"),
        (copper(), {"seed": -1}, r"seed is -1"),
        (copper(), {"symprec": 0.0}, r"symprec is 0\.0"),
        (copper(), {"chemical_potential": {"Ag": 1.0}}, r"chemical_potential has 'Ag', which is not in the structure"),
        (copper(), {"chemical_potential": {"Xx": 1.0}}, r"'Xx'"),
        (copper(), {"chemical_potential": {"Cu": np.nan}}, r"chemical_potential\['Cu'\] is nan"),
        (
            with_calculator(a15("Cu2Ag6"), EMT()),
            {},
            r"compound .* chemical potential of Ag, Cu: pass chemical_potential=\.\.\. with",
        ),
        (with_calculator(a15("Cu2Ag6"), EMT()), {"chemical_potential": {"Cu": 1.0}}, r"chemical potential of Ag"),
        (with_calculator(bulk("Cu"), EMT()), {"supercell": 1}, r"without one atom nothing is left"),
        (changed(pbc=False), {}, r"pbc=\[False, False, False\], and a vacancy energy needs a crystal"),
        (changed(constraints=FixAtoms([0])), {}, r"the constraint FixAtoms, which has no meaning"),
        (changed(info={"charge": 1}), {}, r"a charge of 1 e, .*neutral cells"),
        (changed(cell=[3.6, 3.6, 0]), {}, r"its cell has no volume"),
        (changed(calc=None), {}, r"no calculator"),
        (changed(positions=np.full((4, 3), np.nan)), {}, r"positions of 4 atoms are not finite"),
        (Atoms("Cu", cell=[2.5, 0, 0], pbc=[1, 1, 0], calculator=EMT()), {}, r"its cell has no volume"),
        (with_calculator(bulk("Cu"), Wells(bulk("Cu"), 1)), {"cell": "full"}, r"Wells gives .*no stress"),
        ("Cu", {}, r"atoms is a str"),
    ],
)
def test_bad_input_is_refused(atoms: Any, settings: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        vacancy_energy(atoms, **{"supercell": 2, **settings})
