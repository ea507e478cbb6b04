"""Supercells and primitive cells are rows, as in ASE's `make_supercell`, and columns in phonopy alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from ase import Atoms
from ase.build import bulk, make_supercell
from ase.calculators.emt import EMT
from spring_crystals import EMT_COPPER, NearSprings

from mlcalc.md_protocols.crystals.supercells import perfect_supercell
from mlcalc.md_protocols.errors import ConfigError, EvaluationError, PhysicsWarning, ResultFileError
from mlcalc.md_protocols.evaluator import Evaluator
from mlcalc.md_protocols.phonons import (
    PhononDispersion,
    effective_phonons,
    grueneisen,
    phonon_dispersion,
    phonon_dispersion_from_hessian,
    phonons_of_displacements,
    phonons_of_file,
    quasi_harmonic,
    supercell_convergence,
    thermal_conductivity,
)
from mlcalc.md_protocols.phonons.crystal import phonopy_crystal, plane_of
from mlcalc.md_protocols.phonons.phonopy_yaml import read_phonopy

EDGES = [3.5, 3.6, 3.9]  # Å
ROWS = np.array([[2, 1, 0], [0, 2, 0], [0, 0, 2]])
Q = [[0.1, 0.2, 0.3], [0.5, 0.0, 0.0], [0.25, 0.4, 0.1]]


def box() -> Atoms:
    atoms = Atoms("Cu", cell=EDGES, pbc=True)
    atoms.calc = NearSprings(2.0, 3.4, 4.2)
    return atoms


@pytest.fixture(scope="module")
def phonons() -> PhononDispersion:
    return phonon_dispersion(box(), supercell=ROWS, npoints=2)


def by_hand(columns: Any) -> Any:
    """phonopy as its manual has it, with its own matrix; forces one by one."""
    from phonopy import Phonopy
    from phonopy.structure.atoms import PhonopyAtoms

    cell = PhonopyAtoms(symbols=["Cu"], cell=np.diag(EDGES), scaled_positions=[[0, 0, 0]])
    phonon = Phonopy(cell, supercell_matrix=columns, primitive_matrix="P")
    phonon.generate_displacements(distance=0.01)
    forces = []
    for displaced in phonon.supercells_with_displacements:
        structure = Atoms(displaced.symbols, cell=displaced.cell, positions=displaced.positions, pbc=True)
        structure.calc = NearSprings(2.0, 3.4, 4.2)
        forces.append(structure.get_forces())
    phonon.forces = np.array(forces)
    phonon.produce_force_constants(show_drift=False)
    phonon.symmetrize_force_constants(show_drift=False)
    return phonon


def lattice(cell: Any) -> set[tuple[float, ...]]:
    """Places of the lattice's points near the origin."""
    steps = np.array(list(np.ndindex(5, 5, 5))) - 2
    return {tuple(np.round(point, 6) + 0.0) for point in steps @ np.asarray(cell) if np.abs(point).max() < 8}


def test_rows_are_vectors_as_in_ase(phonons: PhononDispersion) -> None:
    expected = make_supercell(box(), ROWS)
    assert expected.cell.array[0].tolist() == [7.0, 3.6, 0.0]
    found = phonons.phonopy().supercell
    np.testing.assert_allclose(found.cell, expected.cell.array)
    np.testing.assert_allclose(perfect_supercell(box(), ROWS).cell.array, expected.cell.array)  # of a vacancy
    np.testing.assert_array_equal(phonons.supercell, ROWS)
    assert phonons.to_json()["supercell"] == ROWS.tolist()
    turned = phonon_dispersion(box(), supercell=ROWS.T, npoints=2)  # the broken twin
    assert turned.phonopy().supercell.cell[0].tolist() == [7.0, 0.0, 0.0]
    assert lattice(turned.phonopy().supercell.cell) != lattice(expected.cell.array)


def test_phonopy_by_hand_has_the_transposed(phonons: PhononDispersion) -> None:
    other = by_hand(ROWS.T)
    np.testing.assert_allclose(phonons.force_constants, other.force_constants, atol=1e-6)
    np.testing.assert_allclose(phonons.at(Q), other.run_qpoints(Q).frequencies, atol=1e-4)
    twin = by_hand(ROWS)
    np.testing.assert_allclose(twin.supercell.cell[0], [7.0, 0.0, 0.0])
    assert np.abs(phonons.force_constants - twin.force_constants).max() > 0.1


def test_files_of_phonopy_are_turned_at_their_door(phonons: PhononDispersion, tmp_path: Path) -> None:
    phonons.write_phonopy(tmp_path / "out")
    file = tmp_path / "out/phonopy_params.yaml"
    data = yaml.load(file.read_text(), Loader=yaml.CSafeLoader)
    assert data["supercell_matrix"] == ROWS.T.tolist()  # phonopy's own convention
    assert read_phonopy(file).supercell.tolist() == ROWS.tolist()
    for found in (
        phonons_of_file(file, npoints=2),
        phonons_of_displacements(file, box().calc, npoints=2),
    ):
        np.testing.assert_array_equal(found.supercell, ROWS)
        np.testing.assert_allclose(found.at(Q), phonons.at(Q), atol=1e-4)
    data["supercell_matrix"] = ROWS.tolist()  # the broken twin: rows in a file of phonopy
    file.write_text(yaml.safe_dump(data))
    with pytest.raises(ResultFileError):
        phonons_of_file(file)


def test_stored_and_loaded(phonons: PhononDispersion, tmp_path: Path) -> None:
    phonons.save(tmp_path / "p.npz")
    again = PhononDispersion.load(tmp_path / "p.npz")
    np.testing.assert_array_equal(again.supercell, ROWS)
    np.testing.assert_allclose(again.at(Q), phonons.at(Q), atol=1e-6)


def test_primitive_cells_are_rows_too() -> None:
    """A base-centered cell, whose primitive matrix is not symmetric."""
    atoms = Atoms("Cu2", scaled_positions=[[0, 0, 0], [0.5, 0.5, 0]], cell=[5.0, 5.6, 3.9], pbc=True)
    atoms.calc = NearSprings(2.0, 3.4, 4.2)
    rows = np.array([[0.5, 0.5, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    found = phonon_dispersion(atoms, supercell=2, npoints=2, primitive_matrix=rows, stress_limit=None)
    np.testing.assert_allclose(found.primitive.cell.array, rows @ atoms.cell.array, atol=1e-12)
    np.testing.assert_allclose(found.primitive_matrix, rows)
    with pytest.raises(ConfigError, match="cannot make the primitive cell"):
        # b/2 with a, which is no translation: what the transposed one would be
        phonon_dispersion(atoms, supercell=2, primitive_matrix=rows.T @ np.diag([2, 0.5, 1]), stress_limit=None)
    chosen = phonon_dispersion(atoms, supercell=2, npoints=2, stress_limit=None)  # "auto"
    assert len(chosen.primitive) == 1
    np.testing.assert_allclose(chosen.primitive.cell.array, chosen.primitive_matrix @ atoms.cell.array, atol=1e-12)


def test_effective_phonons_start_from_their_own_supercell(phonons: PhononDispersion) -> None:
    settings: dict[str, Any] = {"temperature_K": 10.0, "n_structures": 20, "npoints": 2, "mesh": 2}
    settings |= {"error_THz": 50.0, "tolerance_THz": 50.0}
    found = effective_phonons(box(), supercell=ROWS, start=phonons, **settings)
    np.testing.assert_array_equal(found.phonons.supercell, ROWS)
    with pytest.raises(ConfigError, match="give phonons of the same unit cell and supercell"):
        effective_phonons(box(), supercell=ROWS.T, start=phonons, **settings)


def test_conductivity_has_rows_too() -> None:
    """In the crystals of the second and of the third order."""
    pytest.importorskip("phono3py")
    atoms = bulk("Cu", "fcc", a=EMT_COPPER)
    atoms.calc = EMT()
    rows, asked = np.array([[3, 1, 0], [0, 3, 0], [0, 0, 3]]), []

    def evaluate(structures: list[Atoms]) -> list[Any]:
        asked.append(structures[0].cell.array)
        if len(asked) == 2:
            raise EvaluationError("that is enough")
        return list(Evaluator(EMT())(structures))

    with pytest.warns(PhysicsWarning, match="point operations"), pytest.raises(EvaluationError, match="enough"):
        thermal_conductivity(atoms, supercell=rows, mesh=3, evaluate=evaluate, cutoff_pair_distance=2.6)
    for cell in asked:
        np.testing.assert_allclose(cell, rows @ atoms.cell.array, atol=1e-9)
        assert np.abs(cell - rows.T @ atoms.cell.array).max() > 1  # the broken twin


ONE = bulk("Cu", "fcc", a=EMT_COPPER)


@pytest.mark.parametrize(
    "protocol",
    [
        lambda atoms, **more: phonon_dispersion(atoms, supercell=1, **more),
        lambda atoms, **more: phonon_dispersion_from_hessian(atoms, supercell=(1, 1, 1)),
        lambda atoms, **more: effective_phonons(atoms, supercell=np.eye(3, dtype=int), temperature_K=300, **more),
        lambda atoms, **more: quasi_harmonic(atoms, supercell=1, **more),
        lambda atoms, **more: grueneisen(atoms, supercell=1, **more),
        lambda atoms, **more: thermal_conductivity(atoms, supercell=1, mesh=3, **more),
        lambda atoms, **more: supercell_convergence(atoms, supercells=[1, 2], **more),
    ],
)
def test_supercells_of_one_atom_are_refused(protocol: Any) -> None:
    """All images move with the atom: force constants vanish, and "stable, highest 0 THz" would be said of anything."""

    def evaluate(structures: list[Atoms]) -> Any:
        raise AssertionError("forces were asked for")

    atoms = ONE.copy()
    atoms.calc = EMT()
    with pytest.raises(ConfigError, match="which holds one atom") as caught:
        protocol(atoms, evaluate=evaluate)
    assert caught.value.setting == "supercell"


def test_two_atoms_are_enough_for_forces() -> None:
    """The control."""
    atoms = ONE.copy()
    atoms.calc = EMT()
    with pytest.warns(UserWarning, match="point operations"):
        found = phonon_dispersion(atoms, supercell=(2, 1, 1), npoints=3)
    assert found.highest > 1.0


def not_finite(atoms: Atoms) -> None:
    atoms.positions[0, 1] = np.nan


def without_cell(atoms: Atoms) -> None:
    atoms.set_cell([0, 0, 0])


def flat_cell(atoms: Atoms) -> None:
    atoms.set_cell([[1, 0, 0], [2, 0, 0], [0, 0, 1]])


def infinite_cell(atoms: Atoms) -> None:
    atoms.cell[1, 1] = np.inf


def no_element(atoms: Atoms) -> None:
    atoms.numbers[0] = 200


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (not_finite, "positions of 1 atoms are not finite"),
        (without_cell, "no volume"),
        (flat_cell, "no volume"),
        (infinite_cell, "the cell is not finite"),
        (no_element, "of no element"),
        (lambda atoms: atoms.set_pbc(False), "pbc"),
    ],
)
def test_unsound_structures_never_come_to_phonopy(damage: Any, text: str) -> None:
    """spglib ends the interpreter on NaN, and divides by the volume of the cell."""
    atoms = bulk("Cu", "fcc", a=EMT_COPPER, cubic=True)
    atoms.calc = EMT()
    damage(atoms)
    for ask in (
        lambda: phonon_dispersion(atoms, supercell=2),
        lambda: phonopy_crystal(atoms, 2),
        lambda: plane_of(atoms, np.diag([2, 2, 1]), None),
        lambda: effective_phonons(atoms, supercell=2, temperature_K=300),
        lambda: grueneisen(atoms, supercell=2),
        lambda: thermal_conductivity(atoms, supercell=2, mesh=3),
    ):
        with pytest.raises(ConfigError, match=text):
            ask()
