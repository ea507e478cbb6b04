"""Phonons against crystals solved in closed form, and the faults that must not pass for phonons."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.data import atomic_masses
from spring_crystals import EMT_COPPER, THZ, NearSprings, Tampered, central_frequencies

from mlcalc.md_protocols.errors import ConfigError, EvaluationError, PhysicsWarning, ResultFileError
from mlcalc.md_protocols.phonons import (
    PhononDispersion,
    dispersion_of,
    displacement_convergence,
    phonon_dispersion,
    supercell_convergence,
)
from mlcalc.md_protocols.phonons.force_constants import force_constants_from

K = 3.0


def copper(a: float = EMT_COPPER, calculator: Any = None) -> Atoms:
    atoms = bulk("Cu", "fcc", a=a)
    atoms.calc = EMT() if calculator is None else calculator
    return atoms


@pytest.fixture(scope="module")
def phonons() -> PhononDispersion:
    return phonon_dispersion(copper(), supercell=3, npoints=21)


def chain(masses: list[float], spacing: float = 2.5) -> Atoms:
    length = spacing * len(masses)
    positions = [[spacing * k, 0, 0] for k in range(len(masses))]
    atoms = Atoms(["C", "Si"][: len(masses)], positions=positions, masses=masses, cell=[length, 15, 15], pbc=True)
    atoms.calc = NearSprings(K, spacing, 1.2 * spacing)
    return atoms


def test_a_chain_of_equal_masses() -> None:
    """omega = 2 sqrt(k/m) |sin(q a / 2)|."""
    found = phonon_dispersion(
        chain([12.0]), supercell=(8, 1, 1), dimensions=3, path=[[0, 0, 0], [0.5, 0, 0]], npoints=9
    )
    expected = 2 * np.sqrt(K / 12.0) * np.abs(np.sin(np.pi * found.qpoints[:, 0])) * THZ
    np.testing.assert_allclose(found.frequencies.max(axis=1), expected, rtol=1e-6, atol=1e-3)
    assert found.distances[-1] == pytest.approx(0.5 / 2.5)


def test_a_chain_of_two_masses() -> None:
    """omega^2 = k (1/m + 1/M) +- k sqrt((1/m + 1/M)^2 - 4 sin^2(q a / 2) / (m M))."""
    m, M = 12.0, 28.0
    found = phonon_dispersion(chain([m, M]), supercell=(6, 1, 1), dimensions=3, path="0,0,0 0.5,0,0", npoints=7)
    total, sine = 1 / m + 1 / M, np.sin(np.pi * found.qpoints[:, 0])
    for sign, band in ((1, 5), (-1, 4)):
        squared = K * total + sign * K * np.sqrt(total**2 - 4 * sine**2 / (m * M))
        np.testing.assert_allclose(found.frequencies[:, band], np.sqrt(np.abs(squared)) * THZ, rtol=1e-5, atol=1e-2)


@pytest.mark.parametrize("supercell", [3, [[-1, 1, 1], [1, -1, 1], [1, 1, -1]]])
def test_a_face_centered_crystal_of_springs(supercell: Any) -> None:
    """At X 4 k/m (twice) and 8 k/m, at L 2 k/m (twice) and 8 k/m; elsewhere the sum over neighbors."""
    a = 3.6
    atoms = copper(a, NearSprings(K, a / np.sqrt(2), 0.85 * a))
    found = phonon_dispersion(atoms, supercell=3 if supercell == 3 else 2 * np.array(supercell), npoints=5)
    unit = THZ * np.sqrt(K / atomic_masses[29])
    corners = dict(zip(np.array(found.labels)[:, 0], found.frequencies[found.segments[:, 0]], strict=True))
    np.testing.assert_allclose(corners["X"], unit * np.sqrt([4, 4, 8]), rtol=1e-4)
    np.testing.assert_allclose(corners["L"], unit * np.sqrt([2, 2, 8]), rtol=1e-4)
    steps = np.array([s for s in itertools.product((-0.5, 0, 0.5), repeat=3) if np.count_nonzero(s) == 2]) * a
    for q, frequencies in zip(found.qpoints, found.frequencies, strict=True):
        expected = central_frequencies(np.linalg.inv(found.primitive.cell.array) @ q, steps, K, atomic_masses[29])
        np.testing.assert_allclose(frequencies, expected, rtol=1e-4, atol=1e-4)


def test_one_batch_and_inputs_untouched() -> None:
    atoms = copper()
    asked = []

    def evaluate(structures: list[Atoms]) -> list[Any]:
        from mlcalc.md_protocols.evaluator import Evaluator

        asked.append(len(structures))
        return Evaluator(EMT())(structures)

    before = atoms.positions.copy(), atoms.cell.array.copy()
    found = phonon_dispersion(atoms, supercell=2, npoints=3, plusminus=True, evaluate=evaluate)
    assert asked == [1 + found.n_displacements] == [3]
    np.testing.assert_array_equal(before[0], atoms.positions)
    np.testing.assert_array_equal(before[1], atoms.cell.array)


def test_group_velocities_are_slopes(phonons: PhononDispersion) -> None:
    q, h = np.array([0.13, 0.05, 0.21]), 1e-4
    cell = phonons.primitive.cell.array
    # dnu/dq with q in 1/Å without 2 pi is domega/dk, in Å THz.
    slopes = [(phonons.at(q + cell @ (h * axis)) - phonons.at(q - cell @ (h * axis))) / (2 * h) for axis in np.eye(3)]
    np.testing.assert_allclose(phonons.group_velocities(q), 100 * np.transpose(slopes), rtol=1e-4, atol=1e-2)


def test_modes_of_an_animation_obey_the_calculator(phonons: PhononDispersion, tmp_path: Path) -> None:
    """The force on each atom is -m (2 pi nu)^2 times its displacement."""
    q, band = [1 / 3, 0, 1 / 3], 1
    frames = phonons.animate(q, band, tmp_path / "mode.extxyz", amplitude=1e-4, n_frames=4, supercell=3)
    rest = (frames[0].positions + frames[2].positions) / 2
    frames[1].calc = EMT()
    moved = frames[1].positions - rest
    squared = (phonons.at(q)[band] / THZ) ** 2
    np.testing.assert_allclose(frames[1].get_forces(), -squared * atomic_masses[29] * moved, atol=3e-3 * 1e-4 * 10)
    assert (tmp_path / "mode.extxyz").stat().st_size > 0
    with pytest.raises(ConfigError, match="band is 3"):
        phonons.animate(q, 3, tmp_path / "none.extxyz")


def test_saved_and_loaded(phonons: PhononDispersion, tmp_path: Path) -> None:
    phonons.save(tmp_path / "phonons.npz")
    again = PhononDispersion.load(tmp_path / "phonons.npz")
    np.testing.assert_array_equal(again.frequencies, phonons.frequencies)
    np.testing.assert_array_equal(again.force_constants, phonons.force_constants)
    np.testing.assert_allclose(again.at(phonons.qpoints), phonons.frequencies, atol=1e-5)
    assert json.dumps(again.to_json()) == json.dumps(phonons.to_json())
    assert str(again) == str(phonons)
    assert again.labels == phonons.labels
    rebuilt = dispersion_of(phonons.phonopy(), npoints=21)
    np.testing.assert_allclose(rebuilt.frequencies, phonons.frequencies, atol=1e-5)
    (tmp_path / "other.npz").write_bytes(b"no result")
    with pytest.raises(ResultFileError):
        PhononDispersion.load(tmp_path / "other.npz")


def noisy(sigma: float) -> Any:
    rng = np.random.default_rng(5)
    return Tampered(lambda forces: forces + rng.normal(scale=sigma, size=forces.shape))


def test_noise_shows_before_symmetrisation_only(phonons: PhononDispersion) -> None:
    found = phonon_dispersion(copper(calculator=noisy(1e-5)), supercell=3, npoints=3)
    assert phonons.asr_residual < 1e-9
    assert found.asr_residual > 5e-4
    assert found.asr_residual_after < 1e-12
    assert np.abs(found.at([0, 0, 0])).max() < 1e-4
    raw = phonon_dispersion(copper(calculator=noisy(1e-5)), supercell=3, npoints=3, symmetrize=False)
    assert raw.asr_residual == pytest.approx(found.asr_residual) == raw.asr_residual_after


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda forces: forces[::-1].copy(), "check their order"),
        (lambda forces: np.roll(forces, 1, axis=0), "check their order"),
        (lambda forces: -forces, "sign or unit"),
        (lambda forces: forces * 0.0367, "unit"),
        (lambda forces: forces * np.where(np.arange(len(forces)) == 1, np.nan, 1)[:, None], "not finite"),
    ],
)
def test_wrong_forces_are_refused(change: Any, text: str) -> None:
    with pytest.raises(EvaluationError, match=text):
        phonon_dispersion(copper(calculator=Tampered(change)), supercell=3)


def test_a_missing_displacement_is_refused(phonons: PhononDispersion) -> None:
    from mlcalc.md_protocols.evaluator import Evaluator

    with pytest.raises(EvaluationError, match="1 results for 2"):
        phonon_dispersion(copper(), supercell=2, evaluate=lambda structures: Evaluator(EMT())(structures[:-1]))
    phonon = phonons.phonopy()
    phonon.generate_displacements(distance=0.01, is_plusminus=True)
    with pytest.raises(ConfigError, match="a set of forces is missing"):
        force_constants_from(phonon, phonons.forces)


def test_an_unrelaxed_crystal_is_told(phonons: PhononDispersion) -> None:
    assert phonons.cautions == ()
    with pytest.warns(PhysicsWarning, match="under a stress of"):
        strained = phonon_dispersion(copper(EMT_COPPER * 1.01), supercell=2, npoints=3)
    assert strained.residual_stress is not None
    assert strained.residual_stress > 1e-3
    assert len(strained.cautions) == 1
    rattled = bulk("Cu", "fcc", a=EMT_COPPER, cubic=True)
    rattled.positions[0, 0] += 0.02
    rattled.calc = EMT()
    with pytest.warns(PhysicsWarning, match="forces of up to"):
        found = phonon_dispersion(rattled, supercell=1, npoints=3, stress_limit=None, mesh=2)
    assert found.residual_force is not None
    assert found.residual_force > 0.1


def test_residual_forces_are_taken_off() -> None:
    """One-sided displacements of an unrelaxed crystal then agree with two-sided ones, in which F(0) cancels."""
    atoms = bulk("Cu", "fcc", a=EMT_COPPER, cubic=True)
    atoms.positions[0, 0] += 0.02
    atoms.calc = EMT()
    settings: dict[str, Any] = {
        "supercell": 1,
        "npoints": 2,
        "mesh": 2,
        "stress_limit": None,
        "force_limit": 1.0,
        "symmetrize": False,
    }
    both = phonon_dispersion(atoms, plusminus=True, **settings).force_constants
    one = phonon_dispersion(atoms, plusminus=False, displacement=1e-3, **settings).force_constants
    raw = phonon_dispersion(atoms, plusminus=False, displacement=1e-3, subtract_residual=False, **settings)
    assert np.abs(one - both).max() < 0.05
    assert np.abs(raw.force_constants - both).max() > 50


def test_symmetry_lowered_by_noise_is_told() -> None:
    atoms = bulk("Cu", "fcc", a=EMT_COPPER, cubic=True)
    atoms.positions += np.random.default_rng(0).normal(scale=1e-4, size=(4, 3))
    atoms.calc = EMT()
    with pytest.warns(
        PhysicsWarning, match=r"P1 within 1e-05 Å takes \d\d displacements, Fm-3m within 0.001 Å would take 1"
    ):
        phonon_dispersion(atoms, supercell=1, npoints=3, stress_limit=None, force_limit=1.0, mesh=2)
    found = phonon_dispersion(atoms, supercell=1, npoints=3, stress_limit=None, force_limit=1.0, mesh=2, symprec=1e-3)
    assert found.n_displacements == 1
    assert found.cautions == ()


def test_a_stretched_crystal_has_imaginary_modes_and_no_thermodynamics(phonons: PhononDispersion) -> None:
    stretched = phonon_dispersion(copper(4.3), supercell=3, npoints=11, stress_limit=None)
    assert stretched.imaginary
    assert not stretched.stable
    assert stretched.lowest < -0.5
    assert phonons.stable
    assert phonons.lowest > 0
    np.testing.assert_allclose(stretched.at(stretched.lowest_qpoint).min(), stretched.lowest, atol=1e-6)
    with pytest.raises(ConfigError, match=r"imaginary modes \(lowest -"):
        stretched.thermal_properties([300])
    with pytest.raises(ConfigError, match="imaginary"):
        stretched.mean_square_displacements([300])
    assert stretched.thermal_properties([300], allow_imaginary=True, mesh=8).left_out > 0
    assert "IMAGINARY" in str(stretched)
    assert stretched.to_json()["stable"] is False


class Single(EMT):
    dtype = "float32"


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"supercell": 0}, "supercell is 0"),
        ({"supercell": 2.5}, "supercell"),
        ({"displacement": 0.0}, "displacement is 0"),
        ({"displacement": float("nan")}, "displacement"),
        ({"plusminus": "both"}, "plusminus"),
        ({"npoints": 1}, "npoints is 1"),
        ({"path": "Γ Q"}, "this Brillouin zone has"),
        ({"path": "Γ"}, "no segment"),
        ({"path": "Γ G X"}, "same point"),
        ({"path": "0,0 0,0,1"}, "three finite numbers"),
        ({"dimensions": 2}, "repeats the third cell vector"),
        ({"dimensions": 1}, "dimensions is 1"),
        ({"mesh": 2.5}, "mesh is 2.5"),
        ({"fc_calculator": "alm"}, "fc_calculator"),
        ({"symprec": -1}, "symprec"),
        ({"force_limit": 0}, "force_limit"),
        ({"stress_limit": -1.0}, "stress_limit"),
        ({"imaginary_limit": float("nan")}, "imaginary_limit"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], text: str) -> None:
    def evaluate(structures: list[Atoms]) -> list[Any]:
        raise AssertionError("forces were asked for")

    with pytest.raises(ConfigError, match=text):
        phonon_dispersion(copper(), evaluate=evaluate, **({"supercell": 2} | settings))


def test_calculators_and_structures_are_checked() -> None:
    with pytest.raises(ConfigError, match="single precision"):
        phonon_dispersion(copper(calculator=Single()), supercell=2)
    phonon_dispersion(copper(calculator=Single()), supercell=2, npoints=2, mesh=2, allow_float32=True)
    molecule = Atoms("Cu2", positions=[[0, 0, 0], [2, 0, 0]])
    molecule.calc = EMT()
    with pytest.raises(ConfigError, match="pbc"):
        phonon_dispersion(molecule, supercell=2)


def test_convergence_of_displacement_and_supercell(tmp_path: Path) -> None:
    found = displacement_convergence(copper(), supercell=2, displacements=(0.01, 0.003, 0.1), npoints=2, mesh=2)
    assert found.max_change[1] == 0 < found.max_change[0] < 0.01 < found.max_change[2]
    sizes = supercell_convergence(copper(), supercells=[2, 4, 3], npoints=2, mesh=2)
    assert sizes.reference == 1
    assert sizes.max_change[0] > sizes.max_change[2] > 0 == sizes.max_change[1]
    for result in (found, sizes):
        result.save(tmp_path / "c.npz")
        again = type(result).load(tmp_path / "c.npz")
        assert str(again) == str(result)
        assert again.to_json() == result.to_json()
        assert len(result.plot().get_xticks()) == 2
    with pytest.raises(ConfigError, match="at least two"):
        displacement_convergence(copper(), supercell=2, displacements=(0.01,))
