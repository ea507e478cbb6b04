"""Sums over all modes: densities of states that hold them all, displacements without the mesh's gap at Γ."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.units import _e, _hplanck, kB
from spring_crystals import EMT_COPPER, THZ

from mlcalc.md_protocols.errors import ConfigError, PhysicsWarning
from mlcalc.md_protocols.phonons import PhononDispersion, PhononDOS, dispersion_of, phonon_dispersion
from mlcalc.md_protocols.phonons.crystal import phonopy_crystal
from mlcalc.md_protocols.phonons.density import _below_in_tetrahedra, _pieces

K, MASS = 2.0, 50.0
WATSON = 0.5054620197  # of the simple cubic lattice, (2 pi)^-3 int d3q / (3 - sum cos q), Watson (1939)


def integral(values: Any, found: PhononDOS) -> float:
    return float(np.trapezoid(values, found.frequencies))


def cubic(onsite: float, neighbor: Any, size: int = 3, edges: Any = (3.0, 3.0, 3.0)) -> PhononDispersion:
    """A simple crystal whose force constants are multiples of the unit matrix: three equal bands.

    neighbor: of all six neighbors, or of those along each axis.
    """
    atoms = Atoms("Cu", cell=edges, masses=[MASS], pbc=True)
    phonon = phonopy_crystal(atoms, size)
    places = np.rint(phonon.supercell.scaled_positions * size).astype(int)
    steps = (places[:, None] - places[None]) % size
    near = np.isin(steps, (0, 1, size - 1)).all(axis=2) & ((steps != 0).sum(axis=2) == 1)
    constants = onsite * np.eye(len(places)) + near * ((steps != 0) @ np.broadcast_to(neighbor, 3))
    phonon.force_constants = constants[:, :, None, None] * np.eye(3)
    return dispersion_of(phonon, npoints=2)


@pytest.fixture(scope="module")
def alloy() -> PhononDispersion:
    positions = [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    atoms = Atoms("AuCu3", scaled_positions=positions, cell=[3.72] * 3, pbc=True)
    atoms.calc = EMT()
    return phonon_dispersion(atoms, supercell=1, npoints=2, stress_limit=None)


@pytest.fixture(scope="module")
def copper() -> PhononDispersion:
    atoms = bulk("Cu", "fcc", a=EMT_COPPER)
    atoms.calc = EMT()
    return phonon_dispersion(atoms, supercell=2, npoints=2)


@pytest.mark.parametrize("mesh", [1, 2, 5])
def test_bands_without_width_count(mesh: int) -> None:
    """Einstein's crystal: three modes, all of them in the bin of their frequency."""
    found = cubic(K, 0.0).dos(mesh=mesh)
    assert integral(found.total, found) == pytest.approx(3, abs=1e-9)
    assert found.frequencies[found.total.argmax()] == pytest.approx(THZ * np.sqrt(K / MASS), rel=1e-3)


@pytest.mark.parametrize("settings", [{}, {"mesh": 1}, {"mesh": (3, 4, 2)}, {"pitch": 0.3}, {"sigma": 1e-6}])
def test_all_bands_are_there(alloy: PhononDispersion, copper: PhononDispersion, settings: dict[str, Any]) -> None:
    found = alloy.dos(**({"mesh": 4} | settings))
    assert integral(found.total, found) == pytest.approx(12, abs=1e-6)
    assert integral(found.by_element["Au"], found) == pytest.approx(3, abs=1e-6)
    assert integral(found.by_element["Cu"], found) == pytest.approx(9, abs=1e-6)
    found = copper.dos(**({"mesh": 8} | settings))
    assert integral(found.total, found) == pytest.approx(3, abs=1e-6)


def test_bins_are_those_of_phonopys_curve(alloy: PhononDispersion, copper: PhononDispersion) -> None:
    """phonopy's tetrahedra (around another diagonal), sampled so finely that few bands slip through."""
    for phonons in (copper, alloy):
        found = phonons.dos(mesh=4, pitch=0.25)
        phonon = phonons.phonopy()
        phonon.run_mesh([4, 4, 4], is_gamma_center=True, is_mesh_symmetry=False, with_eigenvectors=True)
        other: Any = phonon.run_projected_dos(freq_pitch=0.002)
        points, curves = np.array(other.frequency_points), np.array(other.projected_dos)
        edges = np.append(found.frequencies, found.frequencies[-1] + 0.25) - 0.125
        for element, values in found.by_element.items():
            curve = curves[[symbol == element for symbol in phonon.primitive.symbols]].sum(axis=0)
            below = np.append(0.0, np.cumsum(0.002 * curve)[:-1])
            expected = np.diff(np.interp(edges, points, below)) / 0.25
            same = np.abs(values - expected) < 0.01 * values.max()
            assert same.mean() > 0.9  # flat bands of the alloy slip through all the same


def test_gaussians_have_their_width() -> None:
    found = cubic(K, 0.0).dos(mesh=2, sigma=0.2, pitch=0.01)
    center = THZ * np.sqrt(K / MASS)
    expected = 3 * np.exp(-0.5 * ((found.frequencies - center) / 0.2) ** 2) / (0.2 * np.sqrt(2 * np.pi))
    np.testing.assert_allclose(found.total, expected, atol=2e-3 * expected.max())


@pytest.mark.parametrize(
    "wrong",
    [{"sigma": x} for x in (-0.1, 0, np.nan, "x")] + [{"pitch": x} for x in (0, -1, np.nan, 1e3, 1e-9)],
)
def test_settings_of_densities_are_checked(copper: PhononDispersion, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        copper.dos(mesh=4, **wrong)


def test_displacements_without_the_gap_of_the_mesh() -> None:
    """m omega^2 = 2 k (3 - sum cos q a), so that <u^2> = kT / 2k times Watson's integral at high temperature."""
    phonons, kelvin = cubic(6 * K, -K), 3e4  # quantum mechanics adds 7e-6
    expected = kB * kelvin / (2 * K) * WATSON
    for mesh, tolerance in ((4, 5e-3), (10, 5e-4), (None, 5e-4)):
        found = phonons.mean_square_displacements([kelvin], mesh=mesh)[0, 0]
        np.testing.assert_allclose(found, expected * np.eye(3), atol=tolerance * expected)
    plain = phonons.mean_square_displacements([kelvin], extrapolate=False)[0, 0]
    assert 0.02 < 1 - plain[0, 0] / expected < 0.05  # the broken twin


@pytest.mark.parametrize("kelvin", [0.0, 30.0, 300.0])
def test_displacements_converge_fast_in_the_mesh(copper: PhononDispersion, kelvin: float) -> None:
    coarse, fine = (copper.mean_square_displacements([kelvin], mesh=n)[0, 0, 0, 0] for n in (6, 18))
    assert coarse == pytest.approx(fine, rel=6e-3)


def test_meshes_that_hold_nothing(copper: PhononDispersion) -> None:
    for extrapolate in (True, False):
        with pytest.raises(ConfigError, match="holds no modes"):
            copper.mean_square_displacements([300], mesh=1, extrapolate=extrapolate)
    with pytest.raises(ConfigError, match="holds no modes"):
        copper.thermal_properties([300], mesh=1)
    with pytest.warns(PhysicsWarning, match=r"are 3\.7 % of the modes"):
        copper.thermal_properties([300], mesh=3, extrapolate=False)
    assert copper.thermal_properties([300], mesh=5).left_out == 0


@pytest.mark.parametrize("at_once", [50, 1000])
def test_densities_are_the_same_in_pieces(
    copper: PhononDispersion, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    """Memory goes with the tetrahedra and how many edges of bins cut each of them."""
    whole = copper.dos(mesh=4, pitch=0.02)
    monkeypatch.setattr("mlcalc.md_protocols.phonons.density._AT_ONCE", at_once)
    np.testing.assert_allclose(copper.dos(mesh=4, pitch=0.02).total, whole.total, rtol=1e-10, atol=1e-12)
    counts = np.random.default_rng(0).integers(0, 20, 500)
    pieces = _pieces(counts)
    assert [one.stop for one in pieces] == [two.start for two in pieces[1:]] + [500]
    assert max(counts[piece].sum() for piece in pieces) < at_once + 20


def test_a_tetrahedron_that_lies_on_an_edge_is_below_it() -> None:
    edges, corners = np.array([0.0, 1.0, 2.0]), [np.array([[0, 1, 2, 3]] * 6)]
    found = _below_in_tetrahedra(edges, np.full((4, 1), 1.0), np.ones((4, 1, 1)), iter(corners))
    assert found[:, 0].tolist() == pytest.approx([0.0, 0.25, 0.25])  # six tetrahedra of a mesh of four points


@pytest.mark.parametrize("share", [200, 1000, 5000])
def test_cold_crystals_have_debyes_heat_capacity(share: int) -> None:
    """C_V = (2 pi^2 / 5) kB V (kB T / hbar v)^3 and S = C_V / 3, far below the quanta of the mesh."""
    phonons = cubic(6 * K, -K)
    velocity = 3.0 * np.sqrt(K / MASS) * THZ * 2 * np.pi  # Å/ps; omega = (v / a) |q a| for long waves
    quantum = velocity / 3.0 / (2 * np.pi) * 0.004135667696923859 / kB  # K, h v / (2 pi a)
    kelvin = quantum / share * 10
    expected = 2 * np.pi**2 / 5 * (kelvin / quantum) ** 3
    found = phonons.thermal_properties([kelvin])
    assert found.heat_capacity[0] / kB == pytest.approx(expected, rel=2e-2)
    assert found.entropy[0] / kB == pytest.approx(expected / 3, rel=2e-2)
    with pytest.warns(PhysicsWarning, match=r"wrong by more than 1 %"):
        plain = phonons.thermal_properties([kelvin], extrapolate=False)
    assert plain.entropy[0] < 0.99 * found.entropy[0]


@pytest.mark.parametrize(
    ("springs", "edges"),
    [((8, 8, 0.044), (2.46, 2.6, 3.35)), ((10, 9, 0.01), (2.46, 2.6, 6)), ((0.02, 0.02, 15), (7.4, 4.9, 2.5))],
)
def test_cold_layers_and_chains_have_debyes_heat_capacity(springs: Any, edges: Any) -> None:
    """A mesh that resolves waves of one length along all axes would have 20 to 60 % more."""
    k = np.array(springs)
    phonons = cubic(2 * k.sum(), -k, edges=edges)
    for kelvin in (0.02, 0.2):
        quanta = 2 * np.pi * np.sqrt(k / MASS) * THZ * _hplanck * 1e12 / _e / (2 * np.pi)  # eV: hbar v / a
        expected = 2 * np.pi**2 / 5 * np.prod(kB * kelvin / quanta)
        found = phonons.thermal_properties([kelvin])
        assert found.heat_capacity[0] / kB == pytest.approx(expected, rel=3e-2)
        assert found.entropy[0] / kB == pytest.approx(expected / 3, rel=3e-2)
    with pytest.warns(PhysicsWarning, match="finer steps along the stiff axes"):
        coarse = phonons.thermal_properties([kelvin], mesh=(40, 40, 40))
    assert abs(coarse.heat_capacity[0] / found.heat_capacity[0] - 1) > 0.1


@pytest.mark.parametrize("mesh", [3, 5, None])
def test_entropies_are_slopes_of_the_free_energy(copper: PhononDispersion, mesh: Any) -> None:
    """Without jumps, from 0 K on: the same waves count at all temperatures."""
    kelvin = np.r_[0.0, 0.25, 0.5, np.arange(1.0, 600.0, 1.0)]
    found = copper.thermal_properties(kelvin, mesh=mesh)
    slopes = -np.diff(found.free_energy) / np.diff(kelvin)
    means = (found.entropy[1:] + found.entropy[:-1]) / 2
    np.testing.assert_allclose(slopes, means, rtol=2e-3, atol=3e-4 * kB)
    assert found.free_energy[0] == found.zero_point_energy
    alone = copper.thermal_properties([300.0], mesh=mesh)
    assert alone.free_energy[0] == pytest.approx(found.free_energy[kelvin == 300][0], rel=1e-9)


def test_warm_crystals_need_no_longer_waves(copper: PhononDispersion) -> None:
    warm = copper.thermal_properties([100.0, 1000.0])
    cold = copper.thermal_properties([0.0, 1.0, 100.0, 1000.0])  # the lowest temperature is all that asks for more
    for name in ("free_energy", "entropy", "heat_capacity"):
        np.testing.assert_allclose(getattr(warm, name), getattr(cold, name)[2:], rtol=3e-4)
    assert cold.entropy[0] == cold.heat_capacity[0] == 0
    assert cold.zero_point_energy == pytest.approx(warm.zero_point_energy, rel=1e-5)
