"""Force constants of finite displacements, before and after symmetrisation, against the Hessian."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from click.testing import CliRunner
from quartic_crystal import QuarticBonds, unit_force_constants

from mlcalc import MLCalculator
from mlcalc.cli.verbs.phonons import phonons_command
from mlcalc.md_protocols.errors import PhysicsWarning
from mlcalc.md_protocols.phonons.finite_displacements import phonon_dispersion
from mlcalc.md_protocols.phonons.hessian_check import HessianComparison, hessian_check, phonon_dispersion_from_hessian

A = 3.63629266  # Å, the model's own


def bonds_hessian(k: float) -> Any:
    """The Hessian of harmonic bonds, in closed form."""

    def rows_of(atoms: Atoms, rows: list[int]) -> Any:
        return k * unit_force_constants(atoms).reshape(len(atoms), 3, len(atoms), 3)[rows]

    return rows_of


def bonded(k: float = 3.0, g: float = 0.0) -> Atoms:
    atoms = bulk("Cu", "fcc", a=3.6, cubic=True)
    atoms.calc = QuarticBonds(k, g)
    return atoms


def test_harmonic_bonds_agree_to_rounding_and_other_hessians_do_not() -> None:
    phonons = phonon_dispersion(bonded(), supercell=2, points=5)
    found = hessian_check(phonons, hessian=bonds_hessian(3.0))
    assert found.relative_difference < 1e-10
    assert found.relative_raw_difference < 1e-10
    assert np.abs(found.frequency_changes).max() < 1e-5
    exact = phonon_dispersion_from_hessian(bonded(), supercell=2, points=5, hessian=bonds_hessian(3.0))
    np.testing.assert_allclose(exact.frequencies, phonons.frequencies, atol=1e-5)
    # Broken twins: a spring constant 1 % off, and rows of other atoms.
    assert hessian_check(phonons, hessian=bonds_hessian(3.03)).relative_difference == pytest.approx(0.03 / 3.03)

    def shifted(atoms: Atoms, rows: list[int]) -> Any:
        return bonds_hessian(3.0)(atoms, [row + 1 for row in rows])

    assert hessian_check(phonons, hessian=shifted).relative_difference > 0.1


def test_quartic_bonds_deviate_by_the_fourth_derivative() -> None:
    """Displacing one atom by u along x, the slope of the force is (Phi + sum_bonds n_x^4 g u^2): exact for these."""
    step, g = 0.02, 50.0
    atoms = bonded(g=g)
    found = hessian_check(
        phonon_dispersion(atoms, supercell=2, displacement=step, points=2), hessian=bonds_hessian(3.0)
    )
    # 8 of the 12 bonds have n_x^2 = 1/2; phonopy displaces along x alone.
    assert found.finite[0, 0, 0, 0] - found.exact[0, 0, 0, 0] == pytest.approx(8 * 0.25 * g * step**2, rel=1e-6)


def test_the_bundled_copper_with_displacements_against_its_hessian(tmp_path: Path) -> None:
    """The deviation of cu-hvnet is the square of the displacement; what is left without it is below 1e-4."""
    atoms = bulk("Cu", "fcc", a=A, cubic=True)
    atoms.calc = MLCalculator("cu-hvnet", dtype="float64")
    checked = {
        d: hessian_check(phonon_dispersion(atoms, supercell=2, displacement=d, points=3), calculator=atoms.calc)
        for d in (0.01, 0.003)
    }
    large, small = checked[0.01], checked[0.003]
    assert large.relative_difference / small.relative_difference == pytest.approx((10 / 3) ** 2, rel=0.05)
    assert small.relative_difference < 1e-3
    limit = (small.finite * 0.01**2 - large.finite * 0.003**2) / (0.01**2 - 0.003**2)
    assert np.abs(limit - small.exact).max() < 1e-4 * np.abs(small.exact).max()
    assert np.abs(large.finite - small.exact).max() > 1e-3 * np.abs(small.exact).max()  # the twin: without the limit
    small.save(tmp_path / "h.npz")
    again = HessianComparison.load(tmp_path / "h.npz")
    assert again.to_json() == small.to_json()
    np.testing.assert_array_equal(again.raw, small.raw)
    small.plot().figure.savefig(tmp_path / "h.png")


def test_a_strained_crystal_is_told() -> None:
    atoms = bulk("Cu", "fcc", a=3.55)
    atoms.calc = MLCalculator("cu-hvnet", dtype="float64")
    with pytest.warns(PhysicsWarning, match=r"the crystal is not relaxed: it is under a stress"):
        found = phonon_dispersion_from_hessian(atoms, supercell=2, points=2)
    assert found.cautions
    assert found.residual_stress is not None


def test_the_command_reports_the_comparison(tmp_path: Path) -> None:
    path = tmp_path / "Cu.extxyz"
    bulk("Cu", "fcc", a=A).write(path)
    words = [
        str(path),
        "--model",
        "cu-hvnet",
        "--supercell",
        "2",
        "2",
        "2",
        "--npoints",
        "3",
        "--no-relax",
        "--hessian",
    ]
    said = CliRunner().invoke(phonons_command, words)
    assert said.exit_code == 0, said.output
    assert "at 0.01 Å and the Hessian of 8 atoms differ by" in said.output
    told = json.loads(CliRunner().invoke(phonons_command, [*words, "--json"]).stdout)["hessian"]
    assert 1e-3 < told["relative_difference"] < 1e-2
    refused = CliRunner().invoke(phonons_command, ["--phonopy", str(path), "--model", "cu-hvnet", "--hessian"])
    assert refused.exit_code == 2
    assert "--hessian compares phonons of STRUCTURE" in refused.output
