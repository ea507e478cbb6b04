"""Polar modes at Γ wherever a path meets it, directions that are none, and what an animation cannot repeat."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from spring_crystals import NearSprings

from mlcalc.md_protocols.errors import ConfigError
from mlcalc.md_protocols.phonons import BornCharges, PhononDispersion, dispersion_of, phonon_dispersion

Z = np.array([np.eye(3), -np.eye(3)])


def salt() -> Atoms:
    atoms = bulk("NaCl", "rocksalt", a=5.6)
    atoms.calc = NearSprings(5.0, 2.8, 3.4)
    return atoms


@pytest.fixture(scope="module")
def polar() -> PhononDispersion:
    return phonon_dispersion(salt(), supercell=2, npoints=2, born=BornCharges(Z, 2.4 * np.eye(3)))


@pytest.mark.parametrize(
    ("path", "row"),
    [("-0.5,0,-0.5 0.5,0,0.5", 2), ("0.5,0,0.5 1,0,1", 4), ("0,0,0 0.5,0,0.5", 0), ("1/2,1/2,1 1,1,1", 4)],
)
def test_gamma_is_split_wherever_a_segment_meets_it(polar: PhononDispersion, path: str, row: int) -> None:
    found = dispersion_of(polar.phonopy(), path=path, npoints=5)
    here = found.frequencies[row]
    beside = polar.at(found.qpoints[row] + 1e-3 * (found.qpoints[1] - found.qpoints[0]))
    np.testing.assert_allclose(here, beside, atol=0.02)
    assert here[5] - here[4] > 0.5
    without = polar.at(found.qpoints[row])  # the broken twin
    assert without[5] - without[4] < 1e-3


def test_the_splitting_is_that_of_its_formula(polar: PhononDispersion) -> None:
    """omega_LO^2 - omega_TO^2 = Z^2 e^2 / (eps0 eps V) (1/m + 1/M) of a cubic crystal (Lyddane, Sachs and Teller)."""
    coulomb = 14.399645  # e^2 / (4 pi eps0), eV Å
    masses, volume = polar.primitive.get_masses(), polar.primitive.get_volume()
    expected = 4 * np.pi * coulomb / (2.4 * volume) * (1 / masses).sum()
    unit = 15.633302  # THz for 1 eV/Å^2 and 1 u
    for q in ([0, 0, 0], [1, 0, 1]):
        found = polar.at(q, direction=[1, 1, 0])
        assert found[5] ** 2 - found[4] ** 2 == pytest.approx(unit**2 * expected, rel=1e-4)


@pytest.mark.parametrize(
    "wrong", [[0, 0, 0], [np.nan, 0, 1], [1, 0], "x", [[1, 0, 0]], [0, 0, 1e-20], 1.0, [np.inf, 0, 0]]
)
def test_what_is_no_direction(polar: PhononDispersion, wrong: Any) -> None:
    with pytest.raises(ConfigError, match="direction is"):
        polar.at([0, 0, 0], direction=wrong)


@pytest.mark.parametrize("wrong", [[0, 0], "x", [[0, 0, 0], [1]], [np.nan, 0, 0], 1.0])
def test_what_is_no_q_point(polar: PhononDispersion, wrong: Any) -> None:
    for method in (polar.at, polar.group_velocities):
        with pytest.raises(ConfigError, match="q-points"):
            method(wrong)


def test_animations_repeat_along_the_axes_only(polar: PhononDispersion, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="along its axes only"):
        polar.animate([0.5, 0, 0.5], 0, tmp_path / "m.extxyz", supercell=[[1, 1, 0], [-1, 1, 0], [0, 0, 1]])
    assert not (tmp_path / "m.extxyz").exists()
    frames = polar.animate([0.5, 0, 0.5], 0, tmp_path / "m.extxyz", supercell=np.diag([2, 1, 2]), n_frames=2)
    assert len(frames[0]) == 8
