"""MLCalculator.evaluate: lists of structures, the same numbers as one by one."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT

from mlcalc import MLCalculator, evaluate, load_model
from mlcalc.errors import OverlapError, StructureError, UnknownElementError
from mlcalc.md_protocols.evaluator import Evaluator


def crystals() -> list[Atoms]:
    frames = [bulk("Cu", cubic=True), bulk("Cu"), bulk("Cu", cubic=True).repeat((2, 1, 1)), bulk("Cu", "bcc", a=2.9)]
    for k, atoms in enumerate(frames):
        atoms.rattle(0.05, seed=k)
    return frames


def test_equals_single_calls_and_the_function() -> None:
    calculator = MLCalculator("cu-hvnet")
    found = calculator.evaluate(crystals(), forces=True, stress=True)
    function = evaluate(load_model("cu-hvnet"), crystals(), forces=True, stress=True)
    for result, other, atoms in zip(found, function, crystals(), strict=True):
        atoms.calc = MLCalculator("cu-hvnet")
        assert result.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-10)
        np.testing.assert_allclose(result.forces, atoms.get_forces(), atol=1e-10)
        np.testing.assert_allclose(result.stress, atoms.get_stress(), atol=1e-11)
        np.testing.assert_allclose(result.energies, atoms.get_potential_energies(), atol=1e-10)
        assert result.energy == pytest.approx(other.energy, abs=1e-10)
        np.testing.assert_allclose(result.forces, other.forces, atol=1e-10)
        np.testing.assert_allclose(result.stress, other.stress, atol=1e-11)
    assert len({round(result.energy / len(atoms), 6) for result, atoms in zip(found, crystals(), strict=True)}) == 4


def test_results_and_structures_are_left_alone() -> None:
    calculator = MLCalculator("cu-hvnet")
    atoms = crystals()[0]
    atoms.calc = calculator
    energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    others = crystals()[1:]
    before = [other.copy() for other in others]
    found = calculator.evaluate(others, stress=True)
    assert others == before
    assert calculator.results["energy"] == energy
    np.testing.assert_array_equal(calculator.results["forces"], forces)
    assert calculator.atoms == atoms
    found[1].forces[:] = 0.0  # the caller's own
    assert np.abs(calculator.evaluate(others)[1].forces).max() > 1e-3
    assert found[0].stress is not None
    assert calculator.evaluate(others)[0].stress is None
    assert calculator.evaluate([]) == []


def pickled(calculator: MLCalculator) -> MLCalculator:
    return pickle.loads(pickle.dumps(calculator))  # noqa: S301 - of bytes made here


@pytest.mark.parametrize("duplicate", [copy.deepcopy, pickled])
def test_copies_of_the_calculator_evaluate_too(duplicate: Callable[[MLCalculator], MLCalculator]) -> None:
    calculator = MLCalculator("cu-hvnet")
    used = calculator.evaluate(crystals(), stress=True)
    twin = duplicate(calculator)
    for one, other in zip(used, twin.evaluate(crystals(), stress=True), strict=True):
        assert one.energy == pytest.approx(other.energy, abs=1e-11)
        np.testing.assert_allclose(one.forces, other.forces, rtol=0, atol=1e-12)
        np.testing.assert_allclose(one.stress, other.stress, rtol=0, atol=1e-12)
    assert (twin.dtype, twin.min_distance) == (calculator.dtype, calculator.min_distance)


def test_settings_of_the_calculator_hold() -> None:
    rough = MLCalculator("cu-hvnet", dtype="float32")
    fine = MLCalculator("cu-hvnet")
    assert (rough.dtype, fine.dtype) == ("float32", "float64")
    difference = np.abs(rough.evaluate(crystals())[0].forces - fine.evaluate(crystals())[0].forces).max()
    assert 1e-9 < difference < 1e-4
    close = bulk("Cu", a=1.2)
    assert fine.evaluate([close])[0].energy is not None
    with pytest.raises(OverlapError, match=r"0\.8485\d* Å apart, closer than 1\.5 Å"):
        MLCalculator("cu-hvnet", min_distance=1.5).evaluate([close])


def test_errors_name_the_structure() -> None:
    calculator = MLCalculator("cu-hvnet")
    with pytest.raises(UnknownElementError, match="structure 1"):
        calculator.evaluate([crystals()[0], bulk("Au")])
    with pytest.raises(StructureError, match=r"structure 1.*pbc"):
        calculator.evaluate([crystals()[0], Atoms("Cu2", [[0, 0, 0], [0, 0, 2.4]])], stress=True)
    assert calculator.evaluate([Atoms("Cu2", [[0, 0, 0], [0, 0, 2.4]])])[0].stress is None


def test_protocols_find_it() -> None:
    calculator = MLCalculator("ethanol-visnet")
    frames = [molecule("CH3CH2OH") for _ in range(3)]
    for k, atoms in enumerate(frames):
        atoms.rattle(0.02, seed=k)
    evaluator = Evaluator(calculator)
    assert evaluator.batched
    assert not evaluator.float32
    assert not Evaluator(EMT()).batched
    for found, atoms in zip(evaluator(frames), frames, strict=True):
        atoms.calc = MLCalculator("ethanol-visnet")
        assert found.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-9)
        np.testing.assert_allclose(found.forces, atoms.get_forces(), atol=1e-9)
    assert evaluator.calls == 3
