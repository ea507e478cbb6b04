"""Settings of phonons: done or refused, never only recorded."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from spring_crystals import EMT_COPPER, NearSprings

from mlcalc.md_protocols.errors import ConfigError
from mlcalc.md_protocols.phonons import (
    BornCharges,
    PhononDispersion,
    dispersion_of,
    effective_phonons,
    phonon_dispersion,
    phonon_dispersion_from_hessian,
    phonons_of_displacements,
    phonons_of_file,
)

Z = np.array([np.eye(3), -np.eye(3)])
BORN = BornCharges(Z, 2.4 * np.eye(3))


def salt() -> Atoms:
    atoms = bulk("NaCl", "rocksalt", a=5.6)
    atoms.calc = NearSprings(5.0, 2.8, 3.4)
    return atoms


@pytest.fixture(scope="module")
def plain() -> PhononDispersion:
    return phonon_dispersion(salt(), supercell=2, npoints=3)


@pytest.fixture(scope="module")
def polar() -> PhononDispersion:
    return phonon_dispersion(salt(), supercell=2, npoints=3, born=BORN)


def copper() -> Atoms:
    atoms = bulk("Cu", "fcc", a=EMT_COPPER)
    atoms.calc = EMT()
    return atoms


def test_charges_act_in_each_way_to_phonons(plain: PhononDispersion, polar: PhononDispersion, tmp_path: Path) -> None:
    def hessian(cell: Atoms, rows: list[int]) -> Any:
        return plain.force_constants[rows].transpose(0, 2, 1, 3)

    plain.write_phonopy(tmp_path / "plain")
    exact = phonon_dispersion_from_hessian(salt(), supercell=2, hessian=hessian, npoints=3, born=BORN)
    read = phonons_of_file(tmp_path / "plain/phonopy_params.yaml", npoints=3, born=BORN)
    for found in (exact, read):
        assert found.born is not None
        np.testing.assert_allclose(found.frequencies, polar.frequencies, atol=1e-4)
    assert read.displacement == pytest.approx(0.01)
    assert np.abs(plain.frequencies - polar.frequencies).max() > 0.5  # what would be lost
    settings: dict[str, Any] = {"born": BORN}
    with pytest.raises(TypeError, match="born"):  # charges are those of the Phonopy object
        dispersion_of(plain.phonopy(), npoints=3, **settings)


@pytest.mark.parametrize("name", ["symmetrize", "rotational", "displacement", "pionts"])
def test_what_a_hessian_leaves_no_choice_of(name: str) -> None:
    with pytest.raises(TypeError, match=name):
        phonon_dispersion_from_hessian(salt(), supercell=2, **{name: 1})


@pytest.mark.parametrize("name", ["displacement", "pionts"])
def test_misspelt_settings_cost_no_forces(plain: PhononDispersion, name: str, tmp_path: Path) -> None:
    plain.write_phonopy(tmp_path / "plain")

    def evaluate(structures: list[Atoms]) -> Any:
        raise AssertionError("forces were asked for")

    file = tmp_path / "plain/phonopy_params.yaml"
    with pytest.raises(TypeError, match=name):
        phonons_of_displacements(file, salt().calc, evaluate=evaluate, **{name: 3})
    with pytest.raises(TypeError, match=name):
        phonons_of_file(file, **{name: 3})


def test_rotational_rules_are_enforced_for_files_too(plain: PhononDispersion, tmp_path: Path) -> None:
    plain.write_phonopy(tmp_path / "plain")
    file = tmp_path / "plain/phonopy_params.yaml"
    found = phonons_of_file(file, npoints=3, rotational=True)
    assert found.rotational
    assert found.rotational_violation is not None
    assert max(found.rotational_violation.values()) < 1e-8


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"primitive_matrix": "Q"}, "primitive cell 'Q'"),
        ({"symprec": 5.0}, "symprec=5 Å"),
        ({"symprec": -1.0}, "above|gr"),
    ]
    + [({"primitive_matrix": 0.3 * np.eye(3)}, "primitive cell")],
)
def test_cells_that_phonopy_cannot_make(wrong: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        phonon_dispersion(copper(), supercell=2, **wrong)


LOOKS = ("plane_of", "band_path", "sample", "mesh_numbers", "phonopy_crystal")


def calls(action: Callable[[], Any]) -> Counter[str]:
    """How often the functions of `LOOKS` are called by the action."""
    found: Counter[str] = Counter()

    def count(frame: Any, event: str, _: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_name in LOOKS and "phonons" in code.co_filename:
            found[code.co_name] += 1

    sys.setprofile(count)
    try:
        action()
    finally:
        sys.setprofile(None)
    return found


def test_a_calculation_looks_once() -> None:
    """plane_of was asked three times, path and mesh were worked out twice; six and four times at a temperature."""
    atoms = copper()
    once = dict.fromkeys(LOOKS, 1)
    assert calls(lambda: phonon_dispersion(atoms, supercell=2, npoints=3)) == once
    assert calls(lambda: phonon_dispersion_from_hessian(atoms, supercell=2, npoints=3, hessian=nothing)) == once
    settings: dict[str, Any] = {"tolerance_THz": 50.0, "error_THz": 50.0, "n_structures": 6, "npoints": 3}
    assert calls(lambda: effective_phonons(atoms, supercell=2, temperature_K=300, **settings)) == once
    twice = calls(lambda: [phonon_dispersion(atoms, supercell=2, npoints=3) for _ in range(2)])  # the control
    assert twice == dict.fromkeys(LOOKS, 2)


def nothing(cell: Atoms, rows: list[int]) -> Any:
    return np.zeros((len(rows), 3, len(cell), 3))
