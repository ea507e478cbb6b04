"""Mode Grueneisen parameters against frequencies of crystals at two volumes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT

from mlcalc.md_protocols.errors import ConfigError
from mlcalc.md_protocols.phonons import phonon_dispersion
from mlcalc.md_protocols.phonons.anharmonic.grueneisen import Grueneisen, grueneisen

A = 3.5899  # Å, where EMT copper has no pressure
STRAIN = 0.01


def copper(structure: str = "fcc", a: float = A) -> Atoms:
    atoms = bulk("Cu", structure, a=a)
    atoms.calc = EMT()
    return atoms


@pytest.fixture(scope="module")
def found() -> Grueneisen:
    return grueneisen(copper(), supercell=3, volume_range=STRAIN, mesh=(6, 6, 6), npoints=5)


def logarithms(factor: float, qpoints: Any) -> Any:
    crystal = phonon_dispersion(copper(a=A * factor ** (1 / 3)), supercell=3, npoints=2, stress_limit=None)
    return np.log([np.sort(crystal.at(q)) for q in qpoints])


def test_finite_differences_of_frequencies(found: Grueneisen) -> None:
    inner = np.flatnonzero(np.abs(found.mesh_qpoints).max(axis=1) > 1e-6)
    q = found.mesh_qpoints[inner]
    differences = logarithms(1 + STRAIN, q) - logarithms(1 - STRAIN, q)
    expected = -differences / np.log((1 + STRAIN) / (1 - STRAIN))
    order = np.argsort(found.mesh_frequencies[inner], axis=1)
    gamma = np.take_along_axis(found.mesh_gamma[inner], order, axis=1)
    assert np.abs(gamma - expected).max() < 0.02
    assert np.ptp(expected) > 0.3  # parameters that are all alike would pass without being compared


def test_hot_mean_is_the_plain_one(found: Grueneisen) -> None:
    kept = found.mesh_frequencies > 0.1
    weights = kept * found.mesh_weights[:, None]
    assert found.average(1e5)[0] == pytest.approx((weights * found.mesh_gamma).sum() / weights.sum(), rel=1e-6)


def test_path_and_mesh_are_finite(found: Grueneisen) -> None:
    assert np.isfinite(found.gamma).all()
    assert np.isfinite(found.mesh_gamma).all()
    assert 1.0 < np.median(found.gamma) < 3.0


def test_imaginary_modes_are_refused() -> None:
    with pytest.raises(ConfigError, match="imaginary"):
        grueneisen(copper("bcc", 2.86), supercell=3, npoints=3)


def test_file_and_picture(found: Grueneisen, tmp_path: Any) -> None:
    found.save(tmp_path / "g.npz")
    again = Grueneisen.load(tmp_path / "g.npz")
    assert again.to_json() == found.to_json()
    assert str(again) == str(found)
    found.plot().figure.savefig(tmp_path / "g.png")
