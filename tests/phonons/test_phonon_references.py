"""Phonons against ASE's own, phonopy run by hand, and published calculations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.phonons import Phonons
from ase.units import _e, _hplanck
from spring_crystals import EMT_COPPER, THZ

from mlcalc.md_protocols.errors import PhysicsWarning
from mlcalc.md_protocols.phonons import PhononDispersion, PhononDOS, ThermalProperties, dispersion_of, phonon_dispersion
from mlcalc.md_protocols.phonons.animation import mode_animation
from mlcalc.md_protocols.phonons.force_constants import force_constants_from
from mlcalc.md_protocols.phonons.paths import special_points
from mlcalc.md_protocols.phonons.phonopy_import import phonons_of_file
from mlcalc.md_protocols.phonons.phonopy_yaml import read_phonopy
from mlcalc.md_protocols.phonons.thermal import vibrating

DATA = Path(__file__).parents[3] / "shared" / "data" / "phonons"
stored = pytest.mark.skipif(not DATA.is_dir(), reason="the stored reference data are not here")


def copper() -> Atoms:
    atoms = bulk("Cu", "fcc", a=EMT_COPPER)
    atoms.calc = EMT()
    return atoms


@pytest.fixture(scope="module")
def emt() -> PhononDispersion:
    return phonon_dispersion(copper(), supercell=5, npoints=11)


@pytest.fixture(scope="module")
def salt() -> PhononDispersion:
    if not DATA.is_dir():
        pytest.skip("the stored reference data are not here")
    result: PhononDispersion = phonons_of_file(DATA / "NaCl/phonopy_params_NaCl-fd.yaml.xz")
    return result


def test_ase_gives_the_same_frequencies(emt: PhononDispersion, tmp_path: Path) -> None:
    atoms = copper()
    other = Phonons(atoms, EMT(), supercell=(5, 5, 5), delta=0.01, name=str(tmp_path / "phonon"))
    other.run()
    other.read(acoustic=True)
    points = np.array([[0.5, 0, 0.5], [0.5, 0.5, 0.5], [0.375, 0.375, 0.75], [0.2, 0, 0.2], [0.1, 0.25, 0.4]])
    energies = other.band_structure(points, verbose=False)
    np.testing.assert_allclose(emt.at(points), energies * _e / _hplanck / 1e12, atol=2e-3)


def by_hand(atoms: Atoms, supercell: Any) -> Any:
    """phonopy as its manual has it, forces one by one."""
    from phonopy import Phonopy
    from phonopy.structure.atoms import PhonopyAtoms

    cell = PhonopyAtoms(
        symbols=atoms.get_chemical_symbols(), cell=atoms.cell.array, scaled_positions=atoms.get_scaled_positions()
    )
    phonon = Phonopy(cell, supercell_matrix=np.diag(supercell), primitive_matrix="P")
    phonon.generate_displacements(distance=0.01)
    forces = []
    for displaced in phonon.supercells_with_displacements:
        structure = Atoms(displaced.symbols, cell=displaced.cell, positions=displaced.positions, pbc=True)
        structure.calc = EMT()
        forces.append(structure.get_forces())
    phonon.forces = np.array(forces)
    phonon.produce_force_constants(show_drift=False)
    phonon.symmetrize_force_constants(show_drift=False)
    return phonon


def test_phonopy_by_hand_gives_the_same() -> None:
    gold = bulk("AuCu", "cesiumchloride", a=3.05)
    gold.calc = EMT()
    from mlcalc.md_protocols.relaxation.relax import relax

    gold = relax(gold, fmax=1e-6, cell="isotropic", smax=1e-7).atoms
    found, phonon = phonon_dispersion(gold, supercell=3, npoints=5), by_hand(gold, [3, 3, 3])
    points = np.array([[0, 0, 0], [0.5, 0, 0], [0.5, 0.5, 0], [0.5, 0.5, 0.5], [0.1, 0.2, 0.3]])
    np.testing.assert_allclose(found.at(points), phonon.run_qpoints(points).frequencies, atol=1e-4)
    np.testing.assert_allclose(found.force_constants, phonon.force_constants, atol=1e-4)
    assert np.abs(found.force_constants - phonon.force_constants[:, :, ::-1, :]).max() > 0.1

    # The optical mode of two masses: each atom is pulled back by m (2 pi nu)^2 times its displacement.
    frames = mode_animation(found.phonopy(), [1 / 3, 0, 0], 5, amplitude=1e-4, n_frames=4, supercell=3)
    frames[1].calc = EMT()
    moved = frames[1].positions - (frames[0].positions + frames[2].positions) / 2
    pull = (found.at([1 / 3, 0, 0])[5] / THZ) ** 2 * frames[1].get_masses()[:, None] * moved
    np.testing.assert_allclose(frames[1].get_forces(), -pull, atol=0.02 * np.abs(pull).max())


def test_acoustic_modes_at_gamma_do_not_count() -> None:
    points, frequencies = np.array([[0.0, 0, 0], [0.5, 0, 0], [1.0, 0, 0]]), np.array([[1e-6, -1e-6, 2e-6, 5.0]] * 3)
    assert vibrating(points, frequencies).tolist() == [[False] * 3 + [True], [True] * 4, [False] * 3 + [True]]


def test_thermodynamics_of_phonopy(emt: PhononDispersion, tmp_path: Path) -> None:
    kelvin = [0.0, 5.0, 300.0, 1000.0]
    with pytest.warns(PhysicsWarning, match="at 5 K, below"):
        found = emt.thermal_properties(kelvin, mesh=12, extrapolate=False)
    phonon = emt.phonopy()
    phonon.run_mesh([12, 12, 12], is_gamma_center=True)
    other = phonon.run_thermal_properties(temperatures=kelvin, exclude_gamma_acoustic=True)
    kilojoule = 1000 / 6.02214076e23 / _e
    # The constants of nature in ASE are those of another year.
    np.testing.assert_allclose(found.free_energy, np.array(other.free_energy) * kilojoule, rtol=2e-5)
    for ours, theirs in ((found.entropy, other.entropy), (found.heat_capacity, other.heat_capacity)):
        np.testing.assert_allclose(ours, np.array(theirs) * kilojoule / 1000, rtol=1e-5, atol=1e-12)
    assert found.free_energy[0] == pytest.approx(found.zero_point_energy)
    assert found.heat_capacity[3] == pytest.approx(3 * 8.617333e-5, rel=0.01)  # Dulong and Petit
    found.save(tmp_path / "t.npz")
    assert ThermalProperties.load(tmp_path / "t.npz").to_json() == found.to_json()


def test_mean_square_displacements_of_phonopy(emt: PhononDispersion) -> None:
    phonon = emt.phonopy()
    phonon.run_mesh([6, 6, 6], is_gamma_center=True, is_mesh_symmetry=False, with_eigenvectors=True)
    other = phonon.run_thermal_displacement_matrices(temperatures=[0.0, 300.0], exclude_gamma_acoustic=True)
    found = emt.mean_square_displacements([0.0, 300.0], mesh=6, extrapolate=False)
    np.testing.assert_allclose(found, np.array(other.thermal_displacement_matrices), rtol=1e-6, atol=1e-12)


def test_the_density_of_states_counts_the_bands(salt: PhononDispersion, tmp_path: Path) -> None:
    found = salt.dos(mesh=8, pitch=0.02)
    assert np.trapezoid(found.total, found.frequencies) == pytest.approx(6, rel=0.01)
    np.testing.assert_allclose(sum(found.by_element.values()), found.total)
    assert np.trapezoid(found.by_element["Na"], found.frequencies) == pytest.approx(3, rel=0.01)
    found.save(tmp_path / "dos.npz")
    assert PhononDOS.load(tmp_path / "dos.npz").to_json() == found.to_json()


def test_the_density_of_states_of_an_element(emt: PhononDispersion) -> None:
    found = emt.dos(mesh=10, pitch=0.05)
    assert np.trapezoid(found.total, found.frequencies) == pytest.approx(3, rel=0.02)


@stored
def test_silicon() -> None:
    """PBE values as published with phonopy's data; the file's forces by phonopy alone."""
    found = phonons_of_file(DATA / "Si/phonopy_params_Si.yaml")
    named = special_points(found.phonopy())
    for name, expected in {
        "Γ": [0, 0, 0, 15.11, 15.11, 15.11],
        "X": [4.39, 4.39, 12.06, 12.06, 13.43, 13.43],
        "L": [3.33, 3.33, 11.14, 12.02, 14.33, 14.33],
    }.items():
        np.testing.assert_allclose(found.at(named[name]), expected, atol=0.01)
    phonon = read_phonopy(DATA / "Si/phonopy_params_Si.yaml").phonopy()
    phonon.produce_force_constants(show_drift=False)
    phonon.symmetrize_force_constants(show_drift=False)
    np.testing.assert_allclose(
        found.at([0.1, 0.2, 0.3]), phonon.run_qpoints([[0.1, 0.2, 0.3]]).frequencies[0], atol=1e-6
    )


@stored
def test_rock_salt_splits_its_polar_modes(salt: PhononDispersion) -> None:
    """TO 4.6 and LO 7.4 THz of this PBE calculation; Lyddane, Sachs and Teller: (LO/TO)^2 = eps_0 / eps_inf."""
    first = salt.frequencies[0]  # Γ as seen from X
    assert first[3] == pytest.approx(first[4], abs=1e-4)
    assert (first[3], first[5]) == (pytest.approx(4.616, abs=2e-3), pytest.approx(7.396, abs=2e-3))
    np.testing.assert_allclose(salt.at([0, 0, 0])[3:], first[3], atol=1e-3)
    np.testing.assert_allclose(salt.at([0, 0, 0], direction=[0.5, 0, 0.5]), first, atol=1e-6)
    np.testing.assert_allclose(salt.at([1e-4, 0, 1e-4])[5], first[5], atol=2e-3)
    # LO^2 - TO^2 = Z^2 e^2 / (eps0 eps V mu), by hand.
    assert salt.born is not None
    z, mass = salt.born.charges[0, 0, 0], 1 / (1 / 22.989769 + 1 / 35.453)
    volume = salt.primitive.get_volume()
    squared = 4 * np.pi * 14.399645 * z**2 / (salt.born.dielectric[0, 0] * volume * mass)
    expected = np.sqrt(first[3] ** 2 + squared * 15.633302**2)
    assert first[5] == pytest.approx(expected, rel=2e-3)


@stored
def test_charges_come_from_the_unit_cell_too(salt: PhononDispersion) -> None:
    from mlcalc.md_protocols.errors import ConfigError
    from mlcalc.md_protocols.phonons import BornCharges
    from mlcalc.md_protocols.phonons.born import primitive_charges

    assert salt.born is not None
    of_cell = BornCharges(np.repeat(salt.born.charges, 4, axis=0), salt.born.dielectric)
    found = primitive_charges(of_cell, salt.phonopy())
    np.testing.assert_allclose(found.charges, salt.born.charges, atol=1e-3)
    with pytest.raises(ConfigError, match="Born charges of 3 atoms"):
        primitive_charges(BornCharges(np.zeros((3, 3, 3)), np.eye(3)), salt.phonopy())
    with pytest.raises(ConfigError, match="add up to"):
        BornCharges(np.array([np.eye(3), np.eye(3)]), np.eye(3))


@stored
def test_molybdenum_disulfide() -> None:
    """The published band.yaml, from the published forces."""
    import yaml
    from phonopy.file_IO import parse_FORCE_SETS

    folder = DATA / "MoS2_monolayer"
    phonon = read_phonopy(folder / "phonopy_disp.yaml").phonopy()
    sets = parse_FORCE_SETS(filename=folder / "FORCE_SETS", natom=len(phonon.supercell))
    forces = np.array([entry["forces"] for entry in sets["first_atoms"]])
    # The published curves are those of force constants as they came out.
    found = dispersion_of(phonon, provenance=force_constants_from(phonon, forces, dimensions=2, symmetrize=False))
    assert found.dimensions == 2
    bands = yaml.load((folder / "band.yaml").read_text(), Loader=yaml.CSafeLoader)["phonon"]
    points = np.array([entry["q-position"] for entry in bands])
    published = np.array([[mode["frequency"] for mode in entry["band"]] for entry in bands])
    np.testing.assert_allclose(found.at(points), published, atol=1e-5)
    symmetrized = dispersion_of(phonon, provenance=force_constants_from(phonon, forces, dimensions=2))
    change = np.abs(symmetrized.at(points) - published)
    assert 1e-4 < change.max() < 5e-3  # of the bending mode near Γ, whose square is nearly zero
    assert change[np.abs(published) > 0.3].max() < 1e-3
    turned = force_constants_from(phonon, forces[:, ::-1], dimensions=2)
    assert np.abs(dispersion_of(phonon, provenance=turned).at(points) - published).max() > 1
