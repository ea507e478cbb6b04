"""Phonons at a temperature against crystals whose self-consistent harmonic answer is known without them."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from quartic_crystal import QuarticBonds, bond_variance, bonds, self_consistent_bond, sites_of, unit_force_constants

from mlcalc.md_protocols.errors import ConfigError, PhysicsWarning
from mlcalc.md_protocols.phonons.anharmonic.effective import effective_phonons
from mlcalc.md_protocols.phonons.anharmonic.effective_result import EffectivePhonons
from mlcalc.md_protocols.phonons.crystal import to_ase
from mlcalc.md_protocols.phonons.finite_displacements import phonon_dispersion
from mlcalc.md_protocols.phonons.harmonic_samples import drawn_displacements, jackknife

A = 3.6
X, L = [0.5, 0.0, 0.5], [0.5, 0.5, 0.5]


def crystal(k: float = 3.0, g: float = 0.0, cubic: float = 0.0, *, conventional: bool = False) -> Atoms:
    atoms = bulk("Cu", "fcc", a=A, cubic=conventional)
    atoms.calc = QuarticBonds(k, g, cubic, A)
    return atoms


def phonons_at(atoms: Atoms, kelvin: float, **settings: Any) -> EffectivePhonons:
    given = {"supercell": 2, "npoints": 2, "error_THz": 1.0, "mesh": 4}
    return effective_phonons(atoms, temperature_K=kelvin, **(given | settings))


def bond(result: EffectivePhonons) -> tuple[float, float]:
    """The bond's spring constant nearest to the force constants, and the largest deviation from it, eV/Å^2."""
    found = result.phonons.force_constants
    sites = to_ase(result.phonons.phonopy().supercell)
    unit = unit_force_constants(sites).reshape(len(sites), 3, len(sites), 3).transpose(0, 2, 1, 3)
    k = float((unit * found).sum() / (unit**2).sum())
    return k, float(np.abs(found - k * unit).max())


@pytest.mark.parametrize("kelvin", [0, 300, 900])
def test_a_harmonic_crystal_keeps_its_force_constants_at_any_temperature(kelvin: float) -> None:
    result = phonons_at(crystal(), kelvin, n_structures=6)
    k, rest = bond(result)
    assert k == pytest.approx(3.0, abs=1e-8)
    assert rest < 1e-8
    assert result.converged
    assert len(result.iterations.changes) == 1
    assert result.iterations.anharmonicity[0] < 1e-8
    assert result.standard_error([X, L]).max() < 1e-6
    # The broken twin: quartic bonds are not taken for harmonic ones.
    assert phonons_at(crystal(g=10.0), kelvin, n_structures=6).iterations.anharmonicity[0] > 1e-3


@pytest.mark.parametrize(
    ("k", "g", "kelvin", "statistics"),
    [
        (3.0, 60.0, 0.0, "quantum"),  # zero-point motion alone
        (3.0, 60.0, 300.0, "quantum"),
        (3.0, 120.0, 100.0, "classical"),
        (-0.3, 60.0, 600.0, "quantum"),  # unstable without vibrations
    ],
)
def test_quartic_bonds_come_to_the_self_consistent_spring(k: float, g: float, kelvin: float, statistics: str) -> None:
    sites = sites_of(crystal() * (2, 2, 2), A)
    classical = statistics == "classical"
    expected = self_consistent_bond(sites, k, g, kelvin, classical=classical)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "no force constants explain", PhysicsWarning)
        result = phonons_at(crystal(k, g), kelvin, n_structures=200, statistics=statistics)
    found, _ = bond(result)
    assert result.converged
    assert found == pytest.approx(expected, rel=0.04 if k < 0 else 0.015)
    # Broken twins: no vibrations, and the other statistics at a low temperature.
    assert abs(k / expected - 1) > 0.05
    if kelvin == 100.0:
        assert abs(self_consistent_bond(sites, k, g, kelvin) / expected - 1) > 0.05
    if k < 0:
        assert result.start.imaginary
        assert result.phonons.stable


def test_odd_terms_drop_out_and_the_mean_force_of_a_lattice_vanishes() -> None:
    even = phonons_at(crystal(g=60.0, conventional=True), 300, n_structures=8)
    odd = phonons_at(crystal(g=60.0, cubic=-8.0, conventional=True), 300, n_structures=8)
    np.testing.assert_allclose(odd.phonons.force_constants, even.phonons.force_constants, atol=1e-9)
    assert odd.iterations.anharmonicity[-1] > 1.01 * even.iterations.anharmonicity[-1]
    assert odd.mean_force < 1e-10


def test_standard_errors_are_those_of_other_seeds() -> None:
    start = phonon_dispersion(crystal(g=60.0), supercell=2, npoints=2)
    runs = [phonons_at(crystal(g=60.0), 300, n_structures=60, start=start, seed=s, max_iterations=4) for s in range(6)]
    spread = np.std([run.at([X, L]) for run in runs], axis=0, ddof=1)
    told = np.sqrt(np.mean([run.standard_error([X, L]) ** 2 for run in runs], axis=0))
    ratio = told / spread
    assert ratio.min() > 0.5
    assert ratio.max() < 3.0
    assert 0.7 < np.exp(np.log(ratio).mean()) < 2.0  # the twin: without the factor of the jackknife it is 0.1


def test_the_same_seed_gives_the_same_and_files_give_it_back(tmp_path: Path) -> None:
    first = phonons_at(crystal(g=60.0), 300, n_structures=8)
    again = phonons_at(crystal(g=60.0), 300, n_structures=8)
    other = phonons_at(crystal(g=60.0), 300, n_structures=8, seed=1)
    np.testing.assert_array_equal(first.phonons.force_constants, again.phonons.force_constants)
    assert np.abs(first.at(X) - other.at(X)).max() > 1e-3
    first.save(tmp_path / "e.npz")
    loaded = EffectivePhonons.load(tmp_path / "e.npz")
    assert json.dumps(loaded.to_json()) == json.dumps(first.to_json())
    np.testing.assert_array_equal(loaded.standard_error(X), first.standard_error(X))
    np.testing.assert_array_equal(loaded.phonons.displacements, first.phonons.displacements)
    assert str(loaded) == str(first)
    assert "X: " in str(first)
    assert len(first.phonons.write_phonopy(tmp_path / "phonopy")) == 3
    first.plot().figure.savefig(tmp_path / "e.png")


def test_displacements_have_the_variance_of_quantum_oscillators() -> None:
    phonon = phonon_dispersion(crystal(), supercell=2, npoints=2).phonopy()
    sites = sites_of(crystal() * (2, 2, 2), A)
    for kelvin, statistics in ((0.0, "quantum"), (300.0, "quantum"), (300.0, "classical")):
        constants = np.array(phonon.force_constants)
        u, soft = drawn_displacements(phonon, constants, kelvin, 1000, seed=0, statistics=statistics)
        assert soft == 0
        np.testing.assert_array_equal(u[1000:], -u[:1000])
        i, j, n = bonds(to_ase(phonon.supercell))
        s = np.einsum("ex,dex->de", n, u[:, j] - u[:, i])
        expected = bond_variance(sites, 3.0, kelvin, classical=statistics == "classical")
        assert (s**2).mean() == pytest.approx(expected, rel=0.02)
    assert bond_variance(sites, 3.0, 0.0) < 0.6 * expected  # the twin: temperature matters


def test_all_structures_of_an_iteration_come_in_one_batch_and_inputs_stay() -> None:
    atoms = crystal(g=60.0)
    calculator = atoms.calc
    sizes = []

    def evaluate(structures: list[Atoms]) -> list[Any]:
        sizes.append(len(structures))
        results = []
        for structure in structures:
            calculator.calculate(structure)
            results.append(type("R", (), calculator.results)())
        return results

    before = atoms.copy()
    start = phonon_dispersion(atoms, supercell=2, npoints=2)
    result = phonons_at(atoms, 300, n_structures=8, evaluate=evaluate, start=start)
    assert sizes == [8] * len(result.iterations.changes)
    assert before == atoms


def test_what_is_not_met_is_told() -> None:
    with pytest.warns(PhysicsWarning, match=r"not self-consistent: after 1 iterations .* allow more iterations"):
        result = phonons_at(crystal(g=60.0), 300, n_structures=8, max_iterations=1)
    assert not result.converged
    assert "NOT CONVERGED" in str(result)
    assert len(result.cautions) == 1
    with pytest.warns(PhysicsWarning, match=r"statistical error .*limit 0\.001\): pass n_structures=\d+ or so"):
        phonons_at(crystal(g=60.0), 300, n_structures=8, error_THz=0.001)
    with pytest.warns(PhysicsWarning, match=r"imaginary modes .* there is no self-consistent harmonic crystal"):
        assert phonons_at(crystal(k=-0.3), 10, n_structures=8).phonons.imaginary


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"temperature_K": -1.0}, r"temperature_K is -1.0: .*at least 0 K"),
        ({"n_structures": 7}, r"n_structures is 7: it must be even"),
        ({"n_structures": 2}, r"n_structures is 2: .*at least 4"),
        ({"mixing": 1.5}, r"mixing is 1.5: .*at most 1"),
        ({"max_iterations": 0}, r"max_iterations is 0"),
        ({"tolerance_THz": 0.0}, r"tolerance_THz is 0.0"),
        ({"statistics": "bose"}, r"unknown statistics 'bose'"),
        ({"seed": -1}, r"seed is -1"),
        ({"temperature_K": 1e6}, r"displaced by up to .* too soft for this temperature; lower temperature_K"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        effective_phonons(crystal(), **({"supercell": 2, "temperature_K": 300.0, "npoints": 2} | settings))


def test_phonons_of_another_crystal_and_too_few_structures_are_refused() -> None:
    atoms = crystal()
    with pytest.raises(ConfigError, match=r"start has phonons of Cu in a supercell of 27 atoms, .* 8 in its"):
        phonons_at(atoms, 300, start=phonon_dispersion(atoms, supercell=3, npoints=2))
    low = bulk("Cu", "fcc", a=A, cubic=True)
    low.calc = atoms.calc
    low.positions += np.random.default_rng(0).uniform(-0.01, 0.01, (4, 3))
    with pytest.raises(ConfigError, match=r"4 structures of 16 atoms do not fix \d+ independent .*n_structures=\d+"):
        phonons_at(low, 300, supercell=[2, 2, 1], n_structures=4)


def test_a_start_of_the_same_formula_but_another_crystal_is_refused() -> None:
    """A body-centered start for a face-centered crystal; a moved atom; other masses.  A small strain is none."""
    start = phonon_dispersion(crystal(), supercell=2, npoints=2)
    centered = bulk("Cu", "bcc", a=2.86)
    centered.calc = crystal().calc
    with pytest.raises(ConfigError, match=r"start has phonons of another crystal: cell vectors, relative"):
        phonons_at(centered, 300, start=start)
    heavy = crystal()
    heavy.set_masses([65.0])
    with pytest.raises(ConfigError, match=r"another crystal: masses differ by 1\.45 u"):
        phonons_at(heavy, 300, start=start)
    four = crystal(conventional=True)
    starting = phonon_dispersion(four, supercell=2, npoints=2)
    four.positions[1] += [0, 0, 0.8]
    with pytest.raises(ConfigError, match=r"another crystal: positions of the atoms differ by 0\.8 Å"):
        phonons_at(four, 300, start=starting, n_structures=200)
    wider = bulk("Cu", "fcc", a=1.01 * A)
    wider.calc = crystal().calc
    assert phonons_at(wider, 300, start=start, n_structures=6, stress_limit=None).converged


def test_vibrations_that_vanish_are_refused() -> None:
    """Forces of displacements that are zero would fit force constants that are zero, and converge to them."""
    with pytest.raises(ConfigError, match="temperature_K is 0 and statistics 'classical'"):
        phonons_at(crystal(), 0, statistics="classical", n_structures=6)
    with pytest.raises(ConfigError, match=r"displaced by .* Å at most \(limit 0\.0001\)"):
        phonons_at(crystal(), 1e-6, statistics="classical", n_structures=6)


def test_jackknife_of_a_mean_is_the_standard_error() -> None:
    x = np.random.default_rng(1).normal(size=12)
    without = np.array([np.delete(x, k).mean() for k in range(12)])
    assert jackknife(without) == pytest.approx(x.std(ddof=1) / np.sqrt(12))
