"""Quasi-harmonic crystals against phonopy by hand, other cells of the same crystal and thermodynamic identities."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.units import kJ, mol

from mlcalc.md_protocols.errors import ConfigError
from mlcalc.md_protocols.phonons.anharmonic.grueneisen import grueneisen
from mlcalc.md_protocols.phonons.anharmonic.quasi_harmonic import QuasiHarmonic, quasi_harmonic
from mlcalc.md_protocols.phonons.anharmonic.volumes import phonons_of_volumes

A = 3.5899  # Å, where EMT copper has no pressure
CUBIC_IN_PRIMITIVE = 2 * np.array([[-1, 1, 1], [1, -1, 1], [1, 1, -1]])  # 2 x 2 x 2 cubic cells
MESH, KELVIN = (8, 8, 8), np.arange(0.0, 401.0, 20.0)
FINE = np.arange(0.0, 421.0, 4.0)  # phonopy takes differences over the spacing
FIELDS = ("volumes", "gibbs_energy", "bulk_modulus_GPa", "thermal_expansion", "heat_capacity", "entropy", "grueneisen")


def copper(cubic: bool = False, structure: str = "fcc", a: float = A) -> Atoms:
    atoms = bulk("Cu", structure, a=a, cubic=cubic)
    atoms.calc = EMT()
    return atoms


def run(atoms: Atoms, supercell: Any = CUBIC_IN_PRIMITIVE, **more: Any) -> QuasiHarmonic:
    return quasi_harmonic(
        atoms, **({"supercell": supercell, "temperatures": KELVIN, "mesh": MESH, "n_volumes": 7} | more)
    )


@pytest.fixture(scope="module")
def found() -> QuasiHarmonic:
    return run(copper())


def test_conventional_cell_gives_the_same(found: QuasiHarmonic) -> None:
    other = run(copper(cubic=True), 2)
    assert other.n_atoms == found.n_atoms == 1
    for name in FIELDS:
        expected = getattr(found, name)
        assert np.abs(getattr(other, name) - expected).max() < 1e-4 * np.abs(expected).max(), name


@pytest.fixture(scope="module")
def pieces() -> tuple[Any, list[float], list[Any]]:
    """Volumes, energies and thermal properties by phonopy's own mesh."""
    setup: dict[str, Any] = {
        "displacement": 0.01,
        "relax_ions": False,
        "fmax": 1e-4,
        "symprec": 1e-5,
        "force_limit": 1e-3,
    }
    setup |= {"npoints": 2, "path": None, "allow_float32": False, "evaluate": None, "progress": False}
    volumes = phonons_of_volumes(copper(), 1 + np.linspace(-0.03, 0.07, 7), supercell=CUBIC_IN_PRIMITIVE, **setup)
    energies, thermal = [], []
    for volume, phonons in zip(volumes.volumes, volumes.phonons, strict=True):
        phonon = phonons.phonopy()
        phonon.run_mesh(MESH, is_gamma_center=True)
        phonon.run_thermal_properties(temperatures=FINE, cutoff_frequency=1e-3)
        thermal.append(phonon.thermal_properties)
        energies.append(copper(a=(4 * volume) ** (1 / 3)).get_potential_energy())
    return volumes.volumes, energies, thermal


def by_hand(pieces: tuple[Any, list[float], list[Any]], cells: float) -> tuple[Any, Any]:
    """phonopy's own QHA; cells: of electronic energy to each one of phonons."""
    from phonopy import PhonopyQHA

    volumes, energies, thermal = pieces
    with pytest.warns(DeprecationWarning, match="PhonopyQHA"):
        qha = PhonopyQHA(
            volumes=volumes,
            electronic_energies=cells * np.array(energies),
            temperatures=FINE,
            free_energy=np.array([t.free_energy for t in thermal]).T,
            cv=np.array([t.heat_capacity for t in thermal]).T,
            entropy=np.array([t.entropy for t in thermal]).T,
            t_max=400.0,
        )
    return qha, kJ / mol


@pytest.mark.filterwarnings("ignore:at 20 K, below")  # the mesh as it is: phonopy has no longer waves
def test_phonopy_by_hand(pieces: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlcalc.md_protocols.phonons.thermal.long_waves", lambda *_: [])
    found, (qha, unit) = run(copper()), by_hand(pieces, 1.0)
    same = slice(None, None, 5)  # of its temperatures
    np.testing.assert_allclose(found.volumes, np.array(qha.volume_temperature)[same], rtol=1e-7)
    np.testing.assert_allclose(found.gibbs_energy, np.array(qha.gibbs_temperature)[same], rtol=0, atol=1e-6)
    np.testing.assert_allclose(found.bulk_modulus_GPa, np.array(qha.bulk_modulus_temperature)[same], rtol=1e-4)
    expansion, warm = np.array(qha.thermal_expansion)[same], KELVIN > 70
    np.testing.assert_allclose(found.thermal_expansion[warm], expansion[warm], rtol=3e-3)
    assert np.abs(found.thermal_expansion - expansion)[~warm].max() < 2e-7  # differences over 4 K where it curves
    capacity = np.array(qha.heat_capacity_P_polyfit)[same] * unit / 1e3
    np.testing.assert_allclose(found.heat_capacity, capacity, rtol=1e-3, atol=1e-7)
    gamma = np.array(qha.gruneisen_temperature)[same]
    np.testing.assert_allclose(found.grueneisen[warm], gamma[warm], rtol=3e-3)


def test_energies_of_another_cell_would_be_seen(found: QuasiHarmonic, pieces: Any) -> None:
    qha, _ = by_hand(pieces, 4.0)  # the conventional cell's energy with the primitive cell's phonons
    assert abs(np.array(qha.thermal_expansion)[75] / found.thermal_expansion[15] - 1) > 0.5


def test_expansion_follows_from_mode_parameters(found: QuasiHarmonic) -> None:
    k = 5  # 100 K
    crystal = copper(a=(4 * found.volumes[k]) ** (1 / 3))
    modes = grueneisen(crystal, supercell=CUBIC_IN_PRIMITIVE, mesh=MESH, npoints=3, volume_range=0.005)
    assert found.grueneisen[k] == pytest.approx(modes.average(KELVIN[k])[0], rel=0.02)


@pytest.mark.parametrize("kelvin", [[100.0], [20.0, 300.0, 320.0], [0.0, 100.0, 200.0, 400.0]])
def test_the_spacing_of_temperatures_does_not_matter(found: QuasiHarmonic, kelvin: list[float]) -> None:
    """Secants over 100 K would have 14 % less expansion at 100 K."""
    other = run(copper(), temperatures=kelvin)
    rows = [KELVIN.tolist().index(t) for t in kelvin]
    for name in FIELDS:
        np.testing.assert_allclose(getattr(other, name), getattr(found, name)[rows], rtol=1e-9, err_msg=name)
    assert str(other)
    assert other.plot()


def test_derivatives_are_those_of_the_volumes(found: QuasiHarmonic) -> None:
    """alpha = d ln V / dT and C_p = T dS/dT along the minima; a secant over 100 K is the broken twin."""
    near = run(copper(), temperatures=[98.0, 100.0, 102.0, 298.0, 300.0, 302.0])
    for k in (1, 4):
        alpha = np.log(near.volumes[k + 1] / near.volumes[k - 1]) / 4.0
        assert near.thermal_expansion[k] == pytest.approx(alpha, rel=2e-3)
        capacity = near.temperatures[k] * (near.entropy[k + 1] - near.entropy[k - 1]) / 4.0
        assert near.heat_capacity[k] == pytest.approx(capacity, rel=2e-3)
    secant = np.log(found.volumes[10] / found.volumes[0]) / 200.0
    assert abs(secant / near.thermal_expansion[1] - 1) > 0.1


def test_cold_crystals_have_sound_parameters() -> None:
    """Differences of temperatures gave 296434 at 5 K among 5, 300 and 310 K."""
    cold = run(copper(), temperatures=[0.0, 5.0, 300.0, 310.0], mesh=(16, 16, 16))
    assert cold.grueneisen[0] == 0
    assert 0.5 < cold.grueneisen[1] < 3


def test_minimum_outside_the_volumes() -> None:
    with pytest.raises(ConfigError, match="widen volume_range"):
        run(copper(), volume_range=(-0.06, -0.02))


def test_imaginary_modes_name_the_volume() -> None:
    with pytest.raises(ConfigError, match="Å\\^3 per primitive cell the crystal has imaginary modes"):
        run(copper(structure="bcc", a=2.86), 3)


@pytest.mark.parametrize(
    "wrong",
    [{"temperatures": [300, 200, 100]}, {"temperatures": []}, {"n_volumes": 3}, {"eos": "linear"}]
    + [{"volume_range": (0.05, -0.05)}],
)
def test_settings_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        run(copper(), **wrong)


def test_file_and_picture(found: QuasiHarmonic, tmp_path: Any) -> None:
    found.save(tmp_path / "q.npz")
    again = QuasiHarmonic.load(tmp_path / "q.npz")
    assert again.to_json() == found.to_json()
    assert str(again) == str(found)
    assert np.array_equal(again.free_energies, found.free_energies)
    found.plot().figure.savefig(tmp_path / "q.png")
