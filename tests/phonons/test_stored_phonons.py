"""Results of phonons that earlier versions stored: they load under today's names, units and layouts.

The files are those of the version before supercells were rows: Cu, 2.5 x 2.6 x 2.9 Å, NearSprings(2.0, 2.5, 3.2), its
supercell phonopy's matrix [[2, 0, 0], [1, 2, 0], [0, 0, 2]], whose columns are the vectors.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from quartic_crystal import QuarticBonds, unit_force_constants
from spring_crystals import NearSprings

from mlcalc.md_protocols.errors import ResultFileError
from mlcalc.md_protocols.phonons import (
    EffectivePhonons,
    Grueneisen,
    HessianComparison,
    PhononConvergence,
    PhononDispersion,
    PhononDOS,
    QuasiHarmonic,
    ThermalConductivity,
    ThermalProperties,
    hessian_check,
    phonon_dispersion,
    supercell_convergence,
)

STORED = Path(__file__).parents[1] / "data" / "results"
ROWS = [[2, 1, 0], [0, 2, 0], [0, 0, 2]]
KINDS: dict[str, Any] = {
    "phonon_dispersion": PhononDispersion,
    "phonon_dos": PhononDOS,
    "phonon_thermal_properties": ThermalProperties,
    "phonon_convergence": PhononConvergence,
    "hessian_comparison": HessianComparison,
    "effective_phonons": EffectivePhonons,
    "grueneisen": Grueneisen,
    "quasi_harmonic": QuasiHarmonic,
    "thermal_conductivity": ThermalConductivity,
}


def stored(kind: str) -> Any:
    return KINDS[kind].load(STORED / f"{kind}.npz")


def springs() -> Atoms:
    atoms = Atoms("Cu", cell=[2.5, 2.6, 2.9], pbc=True)
    atoms.calc = NearSprings(2.0, 2.5, 3.2)
    return atoms


@pytest.fixture(scope="module")
def today() -> PhononDispersion:
    return phonon_dispersion(
        springs(), supercell=ROWS, npoints=2, path="0,0,0 0.5,0,0 0.5,0.25,0", mesh=2, stress_limit=None
    )


@pytest.mark.parametrize("kind", KINDS)
def test_each_loads_and_is_stored_again_without_loss(kind: str, tmp_path: Path) -> None:
    found = stored(kind)
    found.save(tmp_path / "again.npz")
    again = type(found).load(tmp_path / "again.npz")
    assert json.dumps(again.to_json(), allow_nan=False) == json.dumps(found.to_json())
    assert str(again) == str(found)
    assert 20 < len(repr(found)) < 400
    with np.load(STORED / f"{kind}.npz") as old, np.load(tmp_path / "again.npz") as new:
        assert len(new.files) >= len(old.files)  # nothing of what was there is dropped
    other = next(name for name in KINDS if name != kind)
    with pytest.raises(ResultFileError, match=f"expected a '{other}'"):
        KINDS[other].load(STORED / f"{kind}.npz")


def test_a_dispersion_has_its_supercell_by_rows(today: PhononDispersion) -> None:
    found = stored("phonon_dispersion")
    assert found.supercell.tolist() == today.supercell.tolist() == ROWS
    np.testing.assert_allclose(found.primitive_matrix, np.eye(3))
    np.testing.assert_allclose(found.force_constants, today.force_constants, atol=1e-6)
    np.testing.assert_allclose(found.frequencies, today.frequencies, atol=1e-3)
    np.testing.assert_allclose(found.phonopy().supercell.cell[0], [5.0, 2.6, 0.0])
    np.testing.assert_allclose(found.at([0.1, 0.2, 0.3]), today.at([0.1, 0.2, 0.3]), atol=1e-3)


def test_what_follows_from_a_dispersion(today: PhononDispersion) -> None:
    thermal = today.thermal_properties([0, 300], mesh=4)
    np.testing.assert_allclose(stored("phonon_thermal_properties").free_energy, thermal.free_energy, rtol=1e-4)
    assert stored("phonon_thermal_properties").left_out == 6
    states = stored("phonon_dos")
    np.testing.assert_allclose(states.by_element["Cu"], states.total)
    assert states.mesh == (2, 2, 2)
    compared = stored("phonon_convergence")
    assert compared.settings == ("[2 1 0; 0 2 0; 0 0 2]", "2×2×2")
    again = supercell_convergence(
        springs(), supercells=[ROWS, 2], npoints=2, mesh=2, path="0,0,0 0.5,0,0", stress_limit=None
    )
    assert again.settings == compared.settings
    assert compared.n_atoms.tolist() == again.n_atoms.tolist() == [8, 8]  # type: ignore[union-attr]
    np.testing.assert_allclose(compared.max_change, again.max_change, atol=1e-4)


def test_a_comparison_with_a_hessian() -> None:
    atoms = bulk("Cu", "fcc", a=3.6)
    atoms.calc = QuarticBonds(3.0, 50.0)

    def hessian(cell: Atoms, rows: list[int]) -> Any:
        return 3.0 * unit_force_constants(cell).reshape(len(cell), 3, len(cell), 3)[rows]

    phonons = phonon_dispersion(atoms, supercell=2, npoints=2, path="0,0,0 0.5,0,0.5")
    found, today = stored("hessian_comparison"), hessian_check(phonons, hessian=hessian)
    np.testing.assert_allclose(found.exact, today.exact, atol=1e-9)
    assert found.relative_difference == pytest.approx(today.relative_difference, rel=1e-6)
    assert found.displacement == 0.01


def test_effective_phonons_and_the_dispersions_in_them() -> None:
    found = stored("effective_phonons")
    for phonons in (found.phonons, found.start):
        assert phonons.supercell.tolist() == [[2, 1, 0], [0, 1, 0], [0, 0, 2]]
        np.testing.assert_allclose(phonons.phonopy().supercell.cell, phonons.supercell @ phonons.unitcell.cell.array)
    assert (found.temperature_K, found.n_structures, found.tolerance_THz) == (300.0, 6, 50.0)
    assert found.converged
    assert found.iterations.changes[0] == pytest.approx(1.6031222, abs=1e-6)
    assert found.mean_force < 1e-10
    np.testing.assert_allclose(found.phonons.frequencies, found.at(found.phonons.qpoints), atol=1e-5)


def test_numbers_of_expansion_and_conductivity() -> None:
    """As the version before told them."""
    modes = stored("grueneisen")
    assert modes.volume_range == (-0.01, 0.01)
    np.testing.assert_allclose(modes.average([100.0, 300.0]), [2.1016504487, 2.1750582952], rtol=1e-9)
    expanding = stored("quasi_harmonic")
    np.testing.assert_allclose(expanding.bulk_modulus_GPa, [131.0638605343, 130.7976036674, 129.3106764721], rtol=1e-9)
    assert expanding.supercell.tolist() == ROWS
    assert expanding.to_json()["volumes_A3_per_primitive_cell"][0] == pytest.approx(11.657686116545296)
    conducting = stored("thermal_conductivity")
    assert conducting.supercell.tolist() == [[3, 1, 0], [0, 3, 0], [0, 0, 3]]
    assert conducting.phonon_supercell.tolist() == np.diag([3, 3, 3]).tolist()
    assert conducting.mean[0] == pytest.approx(13.908244518)
