"""Force constants of finite displacements against those of the analytic Hessian."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT

from mlcalc import MLCalculator
from mlcalc.md_protocols.errors import ConfigError, EvaluationError
from mlcalc.md_protocols.phonons.finite_displacements import phonon_dispersion
from mlcalc.md_protocols.phonons.hessian_check import HessianComparison, hessian_check, phonon_dispersion_from_hessian


@pytest.fixture(scope="module")
def copper() -> Atoms:
    atoms = bulk("Cu", a=3.63)
    atoms.calc = MLCalculator("cu-hvnet", kernels="torch")
    return atoms


def differences(atoms: Atoms, step: float) -> HessianComparison:
    phonons = phonon_dispersion(atoms, supercell=2, displacement=step, plusminus=True, npoints=3, stress_limit=None)
    return hessian_check(phonons, calc=atoms.calc)


def test_finite_displacements_converge_to_the_hessian_with_the_square_of_the_step(
    copper: Atoms, tmp_path: Path
) -> None:
    rough, fine = differences(copper, 0.004), differences(copper, 0.001)
    assert fine.relative_difference < 1e-4
    assert rough.relative_difference / fine.relative_difference == pytest.approx(16, rel=0.1)  # also the broken twin
    assert fine.asr_residual < 1e-9
    fine.save(tmp_path / "c.npz")
    again = HessianComparison.load(tmp_path / "c.npz")
    np.testing.assert_array_equal(again.exact, fine.exact)
    assert again.to_json() == fine.to_json()
    assert "8 atoms" in str(fine)
    fine.plot().figure.savefig(tmp_path / "c.png")


def test_dispersion_of_the_hessian_equals_that_of_small_displacements(copper: Atoms) -> None:
    exact = phonon_dispersion_from_hessian(copper, supercell=2, npoints=5, stress_limit=None)
    finite = phonon_dispersion(copper, supercell=2, displacement=0.001, plusminus=True, npoints=5, stress_limit=None)
    q = [[0.5, 0.5, 0.0], [0.5, 0.5, 0.5], [0.2, 0.1, 0.0]]
    np.testing.assert_allclose(exact.at(q), finite.at(q), atol=1e-3)
    assert exact.asr_residual < 1e-9


def test_what_is_no_hessian_is_refused(copper: Atoms) -> None:
    without = bulk("Cu", a=3.6)
    without.calc = EMT()
    with pytest.raises(ConfigError, match=r"EMT has no Hessian: .*hessian=\.\.\."):
        phonon_dispersion_from_hessian(without, supercell=2)

    def short(atoms: Atoms, rows: list[int]) -> Any:
        return np.zeros((1, 3, 4, 3))

    def broken(atoms: Atoms, rows: list[int]) -> Any:
        return np.full((len(rows), 3, len(atoms), 3), np.nan)

    for hessian, text in ((short, r"shape \(1, 3, 4, 3\), expected \(1, 3, 8, 3\)"), (broken, r"not finite")):
        with pytest.raises(EvaluationError, match=text):
            phonon_dispersion_from_hessian(copper, supercell=2, hessian=hessian, stress_limit=None)
