"""Relaxation against ASE's own optimizers, brute-force minima and faulty calculators."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms, FixBondLength
from ase.filters import FrechetCellFilter
from ase.io import read
from ase.optimize import BFGS, FIRE, LBFGS
from ase.units import GPa
from scipy.optimize import minimize_scalar

from mlcalc import MLCalculator
from mlcalc.md_protocols.crystals.symmetry import spacegroup
from mlcalc.md_protocols.errors import ConfigError, EvaluationError, NotConvergedError, PhysicsWarning
from mlcalc.md_protocols.evaluator import Evaluator
from mlcalc.md_protocols.relaxation.ase_parts import Mailbox, NotDeliveredError
from mlcalc.md_protocols.relaxation.outcome import Relaxation
from mlcalc.md_protocols.relaxation.relax import relax, relax_many


def crystal(rattle: float = 0.08, seed: int = 1, **cell: Any) -> Atoms:
    atoms = bulk("Cu", "fcc", **({"a": 3.65, "cubic": True} | cell))
    atoms.rattle(rattle, seed=seed)
    atoms.calc = EMT()
    return atoms


def bent() -> Atoms:
    """Three atoms next to the straight chain, which is a saddle."""
    return Atoms("Cu3", [[0, 0, 0], [2.3, 0.001, 0], [4.6, 0, 0]], calculator=EMT())


class Fragile(EMT):
    """EMT with a fault at every structure that is not among the first few asked for."""

    def __init__(self, fault: str, after: int, structures: int = 1000) -> None:
        super().__init__()
        self.fault, self.after, self.until = fault, after, after + structures
        self.seen: list[bytes] = []

    def calculate(self, atoms: Any = None, *arguments: Any, **keywords: Any) -> None:
        if (key := atoms.positions.tobytes()) not in self.seen:
            self.seen.append(key)
        faulty = self.after <= self.seen.index(key) < self.until
        if faulty and self.fault == "error":
            raise ArithmeticError("atoms 0 and 1 overlap")
        super().calculate(atoms, *arguments, **keywords)
        if faulty:
            self.results["forces"] = self.results["forces"] * np.nan


@pytest.mark.parametrize("optimizer", [BFGS, LBFGS])
def test_minimum_is_that_of_ases_optimizers(optimizer: Any) -> None:
    found = relax(crystal(), cell=True, fmax=1e-4, smax=1e-6)
    reference = crystal()
    optimizer(FrechetCellFilter(reference), logfile=None).run(fmax=1e-4, steps=500)
    assert found.converged
    assert found.energy == pytest.approx(reference.get_potential_energy(), abs=1e-7)
    np.testing.assert_allclose(found.atoms.cell.lengths(), reference.cell.lengths(), atol=1e-3)
    fixed = crystal()
    FIRE(fixed, logfile=None).run(fmax=1e-4, steps=500)
    for name in ("auto", "fire"):
        assert relax(crystal(), optimizer=name).energy == pytest.approx(fixed.get_potential_energy(), abs=1e-7)
    assert abs(fixed.get_potential_energy() - found.energy) > 1e-3  # a fixed cell is another minimum


@pytest.mark.parametrize("fmax", [1e-4, 1e-8])
def test_criteria_are_met_by_the_calculators_own_numbers(fmax: float) -> None:
    start = crystal()
    before = start.copy()
    found = relax(start, cell=True, fmax=fmax, smax=fmax / 10)
    assert np.linalg.norm(found.atoms.get_forces(), axis=1).max() <= fmax
    assert np.abs(found.atoms.get_stress()).max() <= fmax / 10
    assert found.energy == pytest.approx(found.atoms.get_potential_energy(), abs=1e-12)
    assert len(found.energies) == len(found.max_forces) == len(found.max_stresses) == found.steps + 1
    assert start == before
    assert found.spacegroups == ("P1 (1)", "Fm-3m (225)")


@pytest.mark.parametrize("pressure", [-6.0, 0.0, 15.0])
def test_pressure_presses(pressure: float) -> None:
    def enthalpy(a: float) -> float:
        atoms = bulk("Cu", "fcc", a=a)
        atoms.calc = EMT()
        return float(atoms.get_potential_energy() + pressure * GPa * atoms.get_volume())

    a = minimize_scalar(enthalpy, bracket=(3.4, 3.7), tol=1e-12).x
    for cell in ("full", "isotropic"):
        found = relax(crystal(0.0), cell=cell, pressure_GPa=pressure, fmax=1e-6, smax=1e-8)
        np.testing.assert_allclose(found.atoms.cell.lengths(), a, atol=2e-6)
        np.testing.assert_allclose(found.stress[:3] / GPa, -pressure, atol=1e-5)
        assert found.energies[-1] == pytest.approx(4 * enthalpy(a), abs=1e-8)


def test_only_what_is_free_moves() -> None:
    start = crystal(0.02, a=3.7)
    shapes = {
        cell: relax(start, cell=cell, fmax=1e-5, smax=1e-7).atoms.cell.array
        for cell in ("isotropic", "in-plane", "shape")
    }
    np.testing.assert_allclose(shapes["isotropic"] / shapes["isotropic"][0, 0], np.eye(3), atol=1e-12)
    np.testing.assert_allclose(shapes["in-plane"][2], [0, 0, 3.7], atol=1e-12)
    assert shapes["in-plane"][0, 0] < 3.69
    assert np.linalg.det(shapes["shape"]) == pytest.approx(3.7**3, rel=1e-12)
    long = crystal(0.0)
    long.set_cell([3.5, 3.6, 3.8], scale_atoms=True)
    found = relax(long, cell="shape", fmax=1e-5, smax=1e-7)
    np.testing.assert_allclose(found.atoms.cell.lengths(), (3.5 * 3.6 * 3.8) ** (1 / 3), atol=1e-5)
    assert np.abs(found.stress[:3]).max() > 1e-3  # the pressure stays


def test_space_group_is_kept_and_the_input_left_alone() -> None:
    start = bulk("Cu", "hcp", a=2.6, c=4.0)
    start.rattle(3e-4, seed=0)
    start.calc = EMT()
    before = start.copy()
    kept = relax(start, cell=True, keep_symmetry=True, symmetry_tolerance=5e-3, fmax=1e-6, smax=1e-7)
    assert start == before
    assert not kept.atoms.constraints
    assert spacegroup(kept.atoms, 1e-8).startswith("P6_3/mmc")
    assert not spacegroup(relax(start, cell=True, fmax=1e-3, smax=1e-4).atoms, 1e-8).startswith("P6_3/mmc")


def test_fixed_atoms_stay() -> None:
    slab = fcc111("Cu", (1, 1, 4), vacuum=6.0, periodic=True)
    slab.calc = EMT()
    slab.set_constraint(FixAtoms([0, 1]))
    found = relax(slab, fmax=1e-6)
    np.testing.assert_array_equal(found.atoms.positions[:2], slab.positions[:2])
    assert np.abs(found.atoms.get_forces(apply_constraint=False)[0, 2]) > 1e-3
    assert [type(c) for c in found.atoms.constraints] == [FixAtoms]
    with pytest.raises(ConfigError, match="keep_symmetry would move fixed atoms"):
        relax(slab, keep_symmetry=True)
    slab.set_constraint(FixAtoms([0, 3]))  # its two equivalent outer atoms
    held = relax(slab, keep_symmetry=True, fmax=1e-6)
    np.testing.assert_allclose(held.atoms.positions[[0, 3]], slab.positions[[0, 3]], atol=1e-9)
    slab.set_constraint(FixBondLength(0, 1))
    with pytest.raises(ConfigError, match="goes with FixAtoms only, and the structure has a FixBondLength"):
        relax(slab, keep_symmetry=True)


def test_does_not_climb_to_a_saddle() -> None:
    found = relax(bent(), fmax=1e-6)
    distances = found.atoms.get_all_distances()[np.triu_indices(3, 1)]
    np.testing.assert_allclose(distances, distances[0], atol=1e-5)
    plain = bent()
    LBFGS(plain, logfile=None).run(fmax=1e-6, steps=500)
    assert plain.get_potential_energy() > found.energy + 0.1  # what L-BFGS alone takes for a minimum
    straight = bent()
    straight.positions[1, 1] = 0.0
    assert relax(straight, fmax=1e-6).energy == pytest.approx(plain.get_potential_energy())  # no force says otherwise


def test_smallest_structures() -> None:
    atom = Atoms("Cu", calculator=EMT())
    assert (relax(atom).steps, relax(atom).converged, relax(atom).spacegroups) == (0, True, None)
    for a in (3.0, 4.3):
        found = relax(crystal(0.0, a=a, cubic=False), cell=True, keep_symmetry=a > 4, fmax=1e-6, smax=1e-8)
        assert found.atoms.get_volume() == pytest.approx(11.56538, abs=1e-4)
    ethanol = molecule("CH3CH2OH", calculator=EMT())
    assert relax(ethanol, fmax=1e-5).converged


def test_atoms_that_fell_into_each_other_are_told() -> None:
    pair = Atoms("Cu2", [[0, 0, 0], [0.5, 0, 0]], cell=[12, 12, 12], pbc=True, calculator=MLCalculator("cu-hvnet"))
    with pytest.warns(
        PhysicsWarning, match=r"the structure: Cu\d and Cu\d ended only 0\.\d+ Å apart, less than 0\.4 of"
    ):
        assert relax(pair).converged
    pair.positions[1, 0] = 2.0
    relax(pair)  # no warning


def test_overshoot_goes_back_to_the_best_and_on_by_fire() -> None:
    expected = relax(crystal(), fmax=1e-5)
    for fault in ("nan", "error"):
        start = crystal()
        start.calc = Fragile(fault, 2, 1)
        found = relax(start, fmax=1e-5)
        assert found.optimizers == ("lbfgs", "fire")
        assert len(found.energies) == found.steps + 1
        assert found.energy == pytest.approx(expected.energy, abs=1e-8)


@pytest.mark.parametrize(
    ("fault", "after", "optimizer", "text"),
    [
        ("nan", 0, "auto", r"the structure: the forces on 4 of 4 atoms are not finite"),
        ("nan", 3, "auto", r"the structure, step 4 of its relaxation: the forces on 4 of 4"),
        ("error", 3, "lbfgs", r"the structure, step 3 of its relaxation: atoms 0 and 1 overlap"),
        ("error", 3, "fire", r"the structure, step 3 of its relaxation: atoms 0 and 1 overlap"),
    ],
)
def test_no_usable_numbers_are_an_error(fault: str, after: int, optimizer: str, text: str) -> None:
    start = crystal()
    start.calc = Fragile(fault, after)
    before = start.copy()
    with pytest.raises(EvaluationError, match=text):
        relax(start, optimizer=optimizer)
    assert start == before


def test_batch_takes_the_steps_of_each_alone() -> None:
    starts, sizes = [crystal(0.02 * k, seed=k) for k in range(4)], []
    starts[2] = crystal(0.1, 3, cubic=False)

    def evaluate(structures: list[Atoms]) -> Any:
        sizes.append(len(structures))
        for atoms in structures:  # as a user may do it: the optimizers must not lose their own
            assert not atoms.constraints
            atoms.calc = EMT()
        return [Evaluator(EMT()).one(atoms, stress=True) for atoms in structures]  # EMT's sums depend on its past

    together = relax_many(starts, cell=True, fmax=1e-5, smax=1e-7, evaluate=evaluate)
    for one, start in zip(together, starts, strict=True):
        alone = relax(start, cell=True, fmax=1e-5, smax=1e-7, evaluate=evaluate)
        assert one.steps == alone.steps
        np.testing.assert_array_equal(one.energies, alone.energies)
        np.testing.assert_array_equal(one.atoms.positions, alone.atoms.positions)
    steps = np.array([one.steps for one in together])
    assert sizes[: steps.max() + 1] == [int((steps >= k).sum()) for k in range(steps.max() + 1)]
    assert relax_many([]) == []


def test_unconverged_is_told_and_the_best_kept() -> None:
    with pytest.warns(PhysicsWarning, match=r"ended unconverged after 3 steps with a largest force of .*fmax 1e-09"):
        found = relax(crystal(), fmax=1e-9, steps=3)
    assert not found.converged
    assert found.steps == 3
    assert found.max_force == found.max_forces.min()
    three, names = [crystal(0), crystal(), crystal()], ["frame a", "frame b", "frame c"]
    for atoms in three:
        atoms.calc = three[0].calc
    with pytest.raises(NotConvergedError, match=r"frame b: .*\(so did 1 others of 3\)") as caught:
        relax_many(three, fmax=1e-9, steps=2, require=True, names=names)
    assert [result.converged for result in caught.value.results] == [True, False, False]
    with pytest.warns(PhysicsWarning, match="after 0 steps"):
        assert relax(crystal(), steps=0).atoms.positions == pytest.approx(crystal().positions)


def test_result_is_saved_loaded_drawn_and_followed(tmp_path: Path) -> None:
    found = relax(crystal(), cell=True, trajectory=tmp_path / "way.extxyz")
    frames = read(tmp_path / "way.extxyz", ":")
    np.testing.assert_allclose([frame.get_potential_energy() for frame in frames], found.energies)
    again_in_place = relax(crystal(0.0), trajectory=tmp_path / "way.extxyz")
    assert len(read(tmp_path / "way.extxyz", ":")) == again_in_place.steps + 1
    found.save(tmp_path / "relax.npz")
    again = Relaxation.load(tmp_path / "relax.npz")
    for name, value in vars(found).items():
        if name == "atoms":
            assert again.atoms == found.atoms
        else:
            np.testing.assert_array_equal(value, getattr(again, name))
    ax = found.plot()
    assert len(ax.lines) == 5  # three quantities and two limits
    ax.figure.savefig(tmp_path / "relax.png")
    assert found.to_json()["volume_A3"] == pytest.approx(found.atoms.get_volume())
    assert str(found).startswith(f"converged after {found.steps} steps (lbfgs)")


class SinglePrecision(EMT):
    dtype = "float32"


@pytest.mark.parametrize(
    ("change", "settings", "text"),
    [
        ({}, {"fmax": 0.0}, r"fmax is 0\.0: .*greater than 0 eV/Å"),
        ({}, {"smax": np.nan}, r"smax is nan"),
        ({}, {"cell": "free"}, r"unknown cell 'free': choose one of 'fixed', 'full'"),
        ({}, {"optimizer": "bfgs"}, r"unknown optimizer 'bfgs'.*Did you mean 'lbfgs'"),
        ({}, {"steps": -1}, r"steps is -1"),
        (
            {},
            {"pressure_GPa": 1.0},
            r"with a cell that is 'fixed'.*pass cell='full', or pass cell='isotropic'",
        ),
        ({}, {"pressure_GPa": 1.0, "cell": "in-plane"}, r"pressure_GPa is 1 with a cell that is 'in-plane'"),
        ({"pbc": [True, True, False]}, {"cell": True}, r"pbc=\[True, True, False\]: a relaxation of the cell needs"),
        ({"pbc": False}, {"keep_symmetry": True}, r"keep_symmetry is for structures periodic in all directions"),
        ({"cell": [[0, 2, 2], [2, 0, 2], [2, 2, 0]]}, {"cell": "in-plane"}, r"two cell vectors in the xy-plane"),
        ({"calc": None}, {}, r"no calculator"),
        ({"calc": SinglePrecision()}, {"fmax": 1e-4}, r"fmax is 0\.0001 eV/Å, but .*single precision"),
    ],
)
def test_bad_input_is_refused(change: dict[str, Any], settings: dict[str, Any], text: str) -> None:
    atoms = crystal()
    for name, value in change.items():
        setattr(atoms, name, value)
    with pytest.raises(ConfigError, match=text):
        relax(atoms, **settings)


def test_lists_must_fit_together() -> None:
    with pytest.raises(ConfigError, match="2 calculators"):
        relax_many([crystal(), crystal()])
    with pytest.raises(ConfigError, match="there are 1 names for 2 structures"):
        relax_many([crystal()] * 2, names=["one"])


def test_mailbox_serves_nothing_but_what_was_delivered() -> None:
    atoms = crystal()
    (result,) = Evaluator(EMT())([atoms])
    box = atoms.calc = Mailbox()
    box.deliver(atoms, result)
    assert atoms.get_potential_energy() == result.energy
    box.deliver(atoms, Evaluator(EMT())([crystal(0.0)])[0])
    assert atoms.get_potential_energy() < result.energy  # not the earlier delivery
    atoms.positions[0] += 1e-12
    with pytest.raises(NotDeliveredError):
        atoms.get_forces()
