"""Energies, forces and virials of the i-PI client against ASE's numbers, finite differences and i-PI's own units."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.emt import EMT
from ase.units import Bohr, Hartree
from ipi_servers import Shifted, copper, water
from springs import Springs

from mlcalc.md_protocols.errors import ConfigError, EvaluationError
from mlcalc.md_protocols.ipi.responder import ASE_UNITS, IPI_UNITS, AtomicUnits, Responder

ANGSTROM, EV = IPI_UNITS.angstrom, IPI_UNITS.electronvolt


def asked(responder: Responder, *structures: Atoms, units: AtomicUnits = IPI_UNITS) -> list[Any]:
    """As a server would: cells with vectors in columns, all in bohr."""
    cells = np.array([atoms.cell.array.T * units.angstrom for atoms in structures])
    return responder(cells, np.array([atoms.positions * units.angstrom for atoms in structures]), units)


def strained(atoms: Atoms, a: int, b: int, by: float) -> Atoms:
    found, strain = atoms.copy(), np.eye(3)
    strain[a, b] += by
    found.set_cell(atoms.cell.array @ strain.T)
    found.positions = atoms.positions @ strain.T
    return found


def by_differences(energy: Any, atoms: Atoms, h: float = 1e-5) -> np.ndarray:
    """Minus the derivative of the energy by the strain, of fourth order in h."""
    result = np.zeros((3, 3))
    for a in range(3):
        for b in range(3):
            e = [energy(strained(atoms, a, b, k * h)) for k in (-2, -1, 1, 2)]
            result[a, b] = -(e[0] - 8 * e[1] + 8 * e[2] - e[3]) / (12 * h)
    return result


def test_units_are_i_pis() -> None:
    units = pytest.importorskip("ipi.utils.units", reason="i-PI is an extra")
    assert units.unit_to_internal("length", "angstrom", 1.0) == IPI_UNITS.angstrom
    assert units.unit_to_internal("energy", "electronvolt", 1.0) == IPI_UNITS.electronvolt
    assert (1 / Bohr, 1 / Hartree) == (ASE_UNITS.angstrom, ASE_UNITS.electronvolt)
    assert abs(IPI_UNITS.electronvolt * Hartree - 1) > 1e-8  # so that a check to 1e-12 tells them apart


def test_numbers_are_the_calculators() -> None:
    atoms = copper()
    answer = asked(Responder([EMT()], atoms), atoms)[0]
    atoms.calc = EMT()
    assert answer.energy == pytest.approx(atoms.get_potential_energy() * EV, rel=1e-13)
    np.testing.assert_allclose(answer.forces, atoms.get_forces() * EV / ANGSTROM, rtol=0, atol=1e-14)
    virial = -atoms.get_stress(voigt=False) * atoms.get_volume() * EV
    np.testing.assert_allclose(answer.virial, virial, rtol=0, atol=1e-14)
    assert answer.extras == ""


@pytest.mark.parametrize("batch", [1, 3])
def test_the_virial_of_a_crystal_is_the_energys_derivative(batch: int) -> None:
    structures = [copper() for _ in range(batch)]
    for k, atoms in enumerate(structures):
        atoms.rattle(0.03, seed=k)
    found = asked(Responder([EMT()], structures[0]), *structures)
    for atoms, answer in zip(structures, found, strict=True):
        slope = by_differences(EMT().get_potential_energy, atoms) * EV
        np.testing.assert_allclose(answer.virial, slope, rtol=0, atol=1e-8)
        assert np.abs(slope).max() > 1e-2  # zeros, as ASE's client sends by default, would be seen
        assert np.abs(slope[0, 1] + slope[1, 0]) > 1e-4


def test_the_virial_of_a_cluster_is_the_energys_derivative() -> None:
    atoms = water()
    springs = Springs(water(), 1.5)
    atoms.positions *= 1.04
    found = asked(Responder([springs], water()), _boxed(atoms))[0]
    slope = by_differences(springs.get_potential_energy, atoms) * EV
    np.testing.assert_allclose(found.virial, slope, rtol=0, atol=1e-9)
    assert np.abs(slope).max() > 1e-3


def _boxed(atoms: Atoms) -> Atoms:
    """i-PI has a cell in any case."""
    found = atoms.copy()
    found.cell = np.eye(3) * 50
    return found


def test_twins_are_seen() -> None:
    """A transposed cell, other constants and a missing virial differ by far more than what the checks let pass."""
    atoms = copper()
    responder = Responder([EMT()], atoms)
    right = asked(responder, atoms)[0]
    cell = atoms.cell.array[None] * ANGSTROM
    assert abs(responder(cell, atoms.positions[None] * ANGSTROM)[0].energy - right.energy) > 1e-3
    wrong = responder(np.transpose(cell, (0, 2, 1)), atoms.positions[None] * ANGSTROM, ASE_UNITS)[0]
    assert np.abs(wrong.forces - right.forces).max() > 1e-11
    none = asked(Responder([EMT()], atoms, virial="none"), atoms)[0]
    assert np.abs(none.virial - right.virial).max() > 1e-2
    assert json.loads(none.extras) == {"virial": "not computed: zeros"}


def test_atoms_outside_the_cell_and_left_handed_cells() -> None:
    atoms = copper()
    right = asked(Responder([EMT()], atoms), atoms)[0]
    away = atoms.copy()
    away.positions[1] += 3 * atoms.cell[0] - 2 * atoms.cell[2]
    left = atoms.copy()
    left.set_cell(atoms.cell.array[[1, 0, 2]])
    for other in (away, left):
        answer = asked(Responder([EMT()], atoms), other)[0]
        np.testing.assert_allclose(answer.virial, right.virial, rtol=0, atol=1e-11)
        np.testing.assert_allclose(answer.forces, right.forces, rtol=0, atol=1e-11)


class Batched(EMT):
    """Takes lists, and counts what it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.lists: list[int] = []

    def evaluate(self, structures: list[Atoms], *, forces: bool, stress: bool) -> list[Any]:
        self.lists.append(len(structures))
        return [
            type("R", (), {"energy": EMT().get_potential_energy(a), "forces": EMT().get_forces(a), "stress": s})
            for a in structures
            for s in [EMT().get_stress(a)]
        ]


def test_a_batch_is_one_call_and_its_padding_is_computed_once() -> None:
    structures = [copper() for _ in range(3)]
    for k, atoms in enumerate(structures):
        atoms.rattle(0.03, seed=k)
    calculator = Batched()
    responder = Responder([calculator], structures[0])
    found = asked(responder, *structures, structures[-1], structures[-1])
    assert calculator.lists == [3]
    assert [answer.energy for answer in found[2:]] == [found[2].energy] * 3
    single = [asked(Responder([EMT()], atoms), atoms)[0] for atoms in structures]
    assert [answer.energy for answer in found[:3]] == [answer.energy for answer in single]


def test_a_committee() -> None:
    atoms, factors = copper(), (0.9, 1.0, 1.3)
    answer = asked(Responder([Shifted(f) for f in factors], atoms), atoms)[0]
    one = asked(Responder([EMT()], atoms), atoms)[0]
    extras = json.loads(answer.extras)
    assert answer.energy == pytest.approx(one.energy * np.mean(factors), rel=1e-12)
    np.testing.assert_allclose(answer.virial, one.virial * np.mean(factors), rtol=1e-12)
    np.testing.assert_allclose(extras["committee_pot"], one.energy * np.array(factors), rtol=1e-12)
    np.testing.assert_allclose(extras["committee_force"][2], one.forces.ravel() * 1.3, rtol=0, atol=1e-14)
    np.testing.assert_allclose(extras["committee_virial"][0], one.virial * 0.9, rtol=1e-12)
    assert extras["energy_spread"] == pytest.approx(abs(one.energy) * np.std(factors, ddof=1), rel=1e-12)
    largest = np.linalg.norm(one.forces, axis=1).max()
    assert extras["forces_spread"] == pytest.approx(largest * np.std(factors, ddof=1), rel=1e-12)


def test_a_dipole() -> None:
    atoms = copper()
    answer = asked(Responder([EMT()], atoms, dipole=Shifted(1.0)), atoms)[0]
    np.testing.assert_allclose(json.loads(answer.extras)["dipole"], atoms.positions[0] * 0.1 * ANGSTROM, atol=1e-14)
    assert np.linalg.norm(atoms.positions[0]) > 1e-3


def test_a_dipole_that_is_none() -> None:
    class Bad(EMT):
        def get_dipole_moment(self, atoms: Atoms) -> np.ndarray:
            return np.array([0.0, np.nan, 0.0])

    with pytest.raises(EvaluationError, match="the dipole moment is"):
        asked(Responder([EMT()], copper(), dipole=Bad()), copper())


@pytest.mark.parametrize(
    ("virial", "pbc", "says"),
    [
        ("forces", True, "holds for clusters only"),
        ("auto", [True, True, False], "needs all three directions periodic, or none"),
        ("stress", False, "needs all three directions periodic, or none"),
    ],
)
def test_a_virial_that_cannot_be_had(virial: str, pbc: Any, says: str) -> None:
    atoms = copper()
    atoms.pbc = pbc
    with pytest.raises(ConfigError, match=says):
        Responder([EMT()], atoms, virial=virial)
