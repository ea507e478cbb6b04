"""Elastic constants against lattice sums, energies, rotations, spring networks and textbook averages."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keating
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from ase.units import GPa
from lennard_jones import Pairs, lattice_constant, pair, stiffness
from scipy.spatial.transform import Rotation

from mlcalc import MLCalculator
from mlcalc.md_protocols.elasticity import tensor as elastic_tensor
from mlcalc.md_protocols.elasticity.constants import elastic_constants
from mlcalc.md_protocols.elasticity.result import ElasticConstants
from mlcalc.md_protocols.errors import ConfigError, NotConvergedError, PhysicsWarning
from mlcalc.md_protocols.relaxation.relax import relax

VOIGT = [(0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)]
CUTOFF = {"fcc": 1.55, "bcc": 1.85}  # in lattice constants, between shells


def lattice(kind: str) -> tuple[Atoms, np.ndarray]:
    """A Bravais crystal of the pair potential without stress, and its C by lattice sums."""

    def build(a: float) -> Atoms:
        return bulk("Cu", kind, a=a)

    a = lattice_constant(build, CUTOFF[kind], 2.5, 5.0)
    atoms = build(a)
    atoms.calc = Pairs(CUTOFF[kind] * a)
    full = stiffness(atoms, CUTOFF[kind] * a)
    return atoms, np.array([[full[i, j, k, m] for k, m in VOIGT] for i, j in VOIGT])


def hcp() -> Atoms:
    atoms = bulk("Cu", "hcp", a=2.5386211, c=4.1430112)  # EMT's minimum
    atoms.calc = EMT()
    return relax(atoms, cell=True, fmax=1e-7, smax=1e-8).atoms


def copper_model() -> Atoms:
    atoms = bulk("Cu", a=3.6363)
    atoms.calc = MLCalculator("cu-hvnet")
    return relax(atoms, cell=True, fmax=1e-6, smax=1e-9).atoms


def turned(atoms: Atoms, rotation: np.ndarray) -> Atoms:
    copy = atoms.copy()
    copy.set_cell(atoms.cell.array @ rotation.T, scale_atoms=True)
    copy.calc = atoms.calc
    return copy


def test_pairs_agree_with_lattice_sums_and_cauchy() -> None:
    atoms, expected = lattice("fcc")
    found = elastic_constants(atoms)
    np.testing.assert_allclose(found.stiffness, expected, atol=1e-5 * expected.max())
    assert expected[0, 1] == pytest.approx(expected[3, 3])  # Cauchy's relation of central forces
    assert found.stiffness[0, 1] == pytest.approx(found.stiffness[3, 3], rel=1e-5)
    assert np.abs(found.residual_stress).max() < 1e-9
    assert found.stable
    with pytest.warns(PhysicsWarning, match="residual|under a stress"):
        pressed = elastic_constants(turned(atoms, 0.97 * np.eye(3)))
    assert abs(pressed.stiffness[0, 1] - pressed.stiffness[3, 3]) > 1.0  # under pressure it does not hold


def test_error_falls_with_the_fourth_power_of_the_strain() -> None:
    atoms, expected = lattice("fcc")
    found = [elastic_constants(atoms, strain=h) for h in (0.01, 0.02)]
    errors = [np.abs(result.raw - expected).max() for result in found]
    assert 12 < errors[1] / errors[0] < 20
    assert found[1].nonlinearity > 10 * errors[1]


def test_crystal_that_is_not_stable_is_flagged() -> None:
    atoms, expected = lattice("bcc")
    assert expected[0, 0] < expected[0, 1]
    with pytest.warns(PhysicsWarning, match=r"not stable: the lowest eigenvalue of C is -.*Mouhat"):
        found = elastic_constants(atoms)
    assert not found.stable
    assert found.eigenvalues[0] == pytest.approx(expected[0, 0] - expected[0, 1], rel=1e-4)
    assert (found.moduli, found.debye_temperature_K) == (None, None)
    for use in (
        lambda: found.compliance,
        lambda: found.young_modulus([1, 0, 0]),
        lambda: found.sound_velocities([1, 1, 0]),
    ):
        with pytest.raises(ConfigError, match="not stable"):
            use()
    assert "NOT stable" in str(found)


def test_tensor_turns_with_the_crystal() -> None:
    atoms, c = lattice("fcc")
    rotation = Rotation.from_euler("zyx", [20, 35, -50], degrees=True).as_matrix()
    here, there = elastic_constants(atoms), elastic_constants(turned(atoms, rotation))
    np.testing.assert_allclose(there.stiffness, elastic_tensor.rotated(here.stiffness, rotation), atol=1e-4)
    assert np.abs(there.stiffness - elastic_tensor.rotated(here.stiffness, rotation.T)).max() > 1.0
    assert there.symmetry_violation < 1e-4
    np.testing.assert_allclose(there.eigenvalues, here.eigenvalues, atol=1e-4)
    for one in (here, there):
        assert one.constants == pytest.approx(
            {"C11": c[0, 0], "C12": c[0, 1], "C13": c[0, 1], "C22": c[0, 0], "C23": c[0, 1], "C33": c[0, 0]}
            | dict.fromkeys(("C44", "C55", "C66"), c[3, 3]),
            rel=1e-5,
        )
    assert "in the axes of the structure:" in str(there)
    assert "in the axes of the structure:" not in str(here)
    axis = rotation @ [1, 1, 1]
    assert there.young_modulus(axis) == pytest.approx(float(here.young_modulus([1, 1, 1])), rel=1e-6)


def test_relaxed_ions_of_diamond_as_keating_found_them() -> None:
    found = elastic_constants(keating.diamond())
    c11, c12, c44, c44_clamped = keating.constants()
    assert tuple(found.stiffness[[0, 0, 3], [0, 1, 3]]) == pytest.approx((c11, c12, c44), rel=1e-4)
    assert found.clamped[3, 3] == pytest.approx(c44_clamped, rel=1e-4)
    assert 2 * c44 * (c11 + c12) == pytest.approx((c11 - c12) * (c11 + 3 * c12))  # Keating's identity
    assert found.ions_relaxed


def test_hexagonal_tensor_and_its_relaxed_ions() -> None:
    found = elastic_constants(hcp())
    c = found.raw
    pattern = np.zeros((6, 6), dtype=bool)
    pattern[:3, :3] = pattern[[3, 4, 5], [3, 4, 5]] = True
    assert np.abs(c[~pattern]).max() < 1e-3
    for one, other in ((c[0, 0], c[1, 1]), (c[0, 2], c[1, 2]), (c[3, 3], c[4, 4]), (c[5, 5], (c[0, 0] - c[0, 1]) / 2)):
        assert one == pytest.approx(other, abs=5e-3)
    assert found.spacegroup == "P6_3/mmc (194)"
    assert found.clamped[0, 0] - found.stiffness[0, 0] > 10  # atoms between the layers give way
    assert found.clamped[2, 2] == pytest.approx(found.stiffness[2, 2], abs=1e-2)  # and not along c, by symmetry
    assert elastic_tensor.eigenvalues(found.clamped - found.stiffness)[0] > -1e-2  # they can only soften
    still = elastic_constants(hcp(), relax_ions=False)
    np.testing.assert_allclose(still.stiffness, found.clamped, atol=1e-8)
    assert not still.ions_relaxed


@pytest.mark.parametrize("make", [hcp, copper_model])
def test_energies_of_strained_cells_bend_as_the_stress_says(make: Callable[[], Atoms]) -> None:
    atoms = make()
    found = elastic_constants(atoms)

    def energy(strain: np.ndarray) -> float:
        strained = turned(atoms, np.eye(3) + strain)
        return relax(strained, fmax=1e-6).energy if len(atoms) > 1 else strained.get_potential_energy()

    strain = 0.004 * np.array([[0.8, 0.3, 0.1], [0.3, -0.7, -0.2], [0.1, -0.2, 0.2]])
    voigt = np.array([strain[i, j] * (1 if i == j else 2) for i, j in VOIGT])
    second = (energy(strain) + energy(-strain) - 2 * energy(0 * strain)) / atoms.get_volume() / GPa
    assert second == pytest.approx(voigt @ found.stiffness @ voigt, rel=1e-3)
    tensorial = voigt * [1, 1, 1, 0.5, 0.5, 0.5]  # the broken twin: shear strains without the factor 2
    assert abs(second / (tensorial @ found.stiffness @ tensorial) - 1) > 0.05
    if len(atoms) > 1:
        assert abs(second / (voigt @ found.clamped @ voigt) - 1) > 0.05


def test_slab_has_constants_that_do_not_know_the_vacuum() -> None:
    found = []
    for vacuum in (8.0, 16.0):
        layer = Atoms(
            "Cu", cell=[[2.6, 0, 0], [1.3, 1.3 * np.sqrt(3), 0], [0, 0, vacuum]], pbc=True, calculator=Pairs(3.4)
        )
        layer = relax(layer, cell="in-plane", fmax=1e-7, smax=1e-10).atoms
        found.append(elastic_constants(layer, slab=True))
    one, other = found
    np.testing.assert_allclose(one.in_plane_N_per_m, other.in_plane_N_per_m, rtol=1e-6, atol=1e-6)
    assert one.stiffness[0, 0] == pytest.approx(2 * other.stiffness[0, 0])
    r = other.atoms.cell.lengths()[0]
    per_m = 16.02176634  # N/m of 1 eV/Å^2
    expected = 9 / 8 * pair(r)[2] * r**2 / (r**2 * np.sqrt(0.75)) * per_m  # 1/2A phi'' r^2 times the sum of cos^4
    assert one.in_plane_N_per_m[0, 0] == pytest.approx(expected, rel=1e-4)
    assert one.in_plane_N_per_m[2, 2] == pytest.approx(one.in_plane_N_per_m[0, 0] / 3, rel=1e-6)
    assert one.stable
    assert one.moduli is None
    with pytest.warns(PhysicsWarning, match="not stable"):  # vacuum does not resist
        as_bulk = elastic_constants(layer)
    with pytest.raises(ConfigError, match="slab=True"):
        _ = as_bulk.in_plane_N_per_m


ISOTROPIC = np.diag([2.0, 2, 2, 1, 1, 1]) * 30 + np.pad(np.full((3, 3), 50.0), (0, 3))  # lambda 50, mu 30 GPa
HEXAGONAL = np.array(  # zinc, J. F. Nye
    [[161, 34.2, 50.1, 0, 0, 0], [34.2, 161, 50.1, 0, 0, 0], [50.1, 50.1, 61, 0, 0, 0]]
    + [[0, 0, 0, 38.3, 0, 0], [0, 0, 0, 0, 38.3, 0], [0, 0, 0, 0, 0, 63.4]]
)


def test_averages_of_an_isotropic_solid_are_its_moduli() -> None:
    found = elastic_tensor.moduli(ISOTROPIC)
    for name in ("bulk_voigt", "bulk_reuss", "bulk_hill"):
        assert getattr(found, name) == pytest.approx(50 + 2 / 3 * 30)
    for name in ("shear_voigt", "shear_reuss", "shear_hill"):
        assert getattr(found, name) == pytest.approx(30)
    assert found.young_hill == pytest.approx(30 * (3 * 50 + 2 * 30) / 80)
    assert found.poisson_hill == pytest.approx(50 / (2 * 80))
    assert found.universal_anisotropy == pytest.approx(0, abs=1e-12)
    rng = np.random.default_rng(0).normal(size=(20, 3))
    np.testing.assert_allclose(elastic_tensor.young_modulus(ISOTROPIC, rng), found.young_hill)
    velocities = elastic_tensor.sound_velocities(ISOTROPIC, 8000.0, rng)
    np.testing.assert_allclose(velocities**2 * 8000e-9, np.tile([30, 30, 110], (20, 1)))


def test_averages_agree_with_integrals_over_orientations() -> None:
    found = elastic_tensor.moduli(HEXAGONAL)
    turns = Rotation.random(20000, random_state=1).as_matrix()[:, 0]  # first rows: uniform directions
    mean = np.mean(1 / elastic_tensor.young_modulus(HEXAGONAL, turns))
    assert mean == pytest.approx(1 / (3 * found.shear_reuss) + 1 / (9 * found.bulk_reuss), rel=0.01)
    assert found.shear_reuss < found.shear_hill < found.shear_voigt
    assert found.universal_anisotropy > 0.1


def test_debye_temperature_and_point_group_of_copper() -> None:
    copper = bulk("Cu", a=3.615)
    cubic = np.diag([176 - 125.0, 51, 51, 82, 82, 82]) + np.pad(np.full((3, 3), 125.0), (0, 3))  # 0 K
    assert elastic_tensor.density(copper) == pytest.approx(8935, rel=2e-3)
    found = elastic_tensor.debye_temperature(copper, elastic_tensor.moduli(cubic))
    assert found == pytest.approx(345, abs=20)  # from heat capacities at 0 K; Hill's average is within a few percent
    velocities = np.sqrt(np.array([30, 30, 110]) * 1e9 / elastic_tensor.density(copper))  # of the isotropic solid
    per_m3, mean = 4e30 / 3.615**3, np.mean(velocities**-3.0) ** (-1 / 3)
    expected = 1.054571817e-34 / 1.380649e-23 * (6 * np.pi**2 * per_m3) ** (1 / 3) * mean  # Debye's own form
    assert elastic_tensor.debye_temperature(copper, elastic_tensor.moduli(ISOTROPIC)) == pytest.approx(
        expected, rel=1e-6
    )
    assert len(elastic_tensor.point_group(copper, 1e-5)) == 48
    np.testing.assert_allclose(
        elastic_tensor.symmetrized(cubic, elastic_tensor.point_group(copper, 1e-5)), cubic, atol=1e-9
    )
    lopsided = cubic + np.diag([9.0, 0, 0, 0, 0, 0])
    mean = elastic_tensor.symmetrized(lopsided, elastic_tensor.point_group(copper, 1e-5))
    np.testing.assert_allclose(np.diag(mean)[:3], 179)


class Skewed(Pairs):
    """Pairs whose xx stress is 10 % too large: the broken twin of every check."""

    def calculate(self, *arguments: Any, **keywords: Any) -> None:
        super().calculate(*arguments, **keywords)
        self.results["stress"] = self.results["stress"] * [1.1, 1, 1, 1, 1, 1]


def test_what_is_wrong_is_told() -> None:
    atoms, _ = lattice("fcc")
    atoms.calc = Skewed(atoms.calc.cutoff)
    with pytest.warns(PhysicsWarning) as caught:
        found = elastic_constants(atoms)
    texts = " ".join(str(warning.message) for warning in caught)
    assert "C differs from its transpose by" in texts
    assert "C breaks the symmetry of the crystal by" in texts
    assert found.asymmetry > 1
    loose = hcp()
    loose.positions[0] += [0.02, 0, 0]
    with pytest.warns(PhysicsWarning) as caught:
        elastic_constants(loose, relax_ions=False)
    told = [str(warning.message) for warning in caught if warning.category is PhysicsWarning]
    assert "largest force in the unstrained structure" in told[0]
    with pytest.raises(NotConvergedError, match=r"strain xx \+0\.005: the relaxation ended unconverged"):
        elastic_constants(hcp(), steps=1)


def test_result_is_saved_loaded_and_drawn(tmp_path: Path) -> None:
    atoms, _ = lattice("fcc")
    before = atoms.copy()
    found = elastic_constants(atoms, symmetrize=False)
    assert atoms == before
    np.testing.assert_array_equal(found.raw, found.stiffness)
    found.save(tmp_path / "elastic.npz")
    again = ElasticConstants.load(tmp_path / "elastic.npz")
    for name, value in vars(found).items():
        if name == "atoms":
            assert again.atoms == found.atoms
        else:
            np.testing.assert_array_equal(value, getattr(again, name))
    assert again.to_json() == found.to_json()
    ax = found.plot()
    assert len(ax.figure.axes) == 2
    ax.figure.savefig(tmp_path / "elastic.png")
    assert found.plot(ax) is ax
    assert "bulk modulus" in str(found)


@pytest.mark.parametrize(
    ("change", "settings", "text"),
    [
        ({}, {"strain": 0.0}, r"strain is 0\.0"),
        ({}, {"strain": 0.2}, r"strain is 0\.2, .*at most 0\.05"),
        ({}, {"symprec": 0.0}, r"symprec is 0\.0"),
        ({"pbc": [True, True, False]}, {}, r"pbc=\[True, True, False\]: a computation of elastic constants needs"),
        ({"constraints": [FixAtoms([0])]}, {}, r"the structure has constraints \(FixAtoms\)"),
        ({}, {"slab": True}, r"two cell vectors in the xy-plane"),
        ({"calc": None}, {}, "no calculator"),
    ],
)
def test_bad_input_is_refused(change: dict[str, Any], settings: dict[str, Any], text: str) -> None:
    atoms, _ = lattice("fcc")
    for name, value in change.items():
        setattr(atoms, name, value)
    with pytest.raises(ConfigError, match=text):
        elastic_constants(atoms, **settings)


def test_single_precision_is_refused() -> None:
    atoms = bulk("Cu", a=3.6363)
    atoms.calc = MLCalculator("cu-hvnet", dtype="float32")
    with pytest.raises(ConfigError, match=r"elastic constants are differences.*allow_float32=True"):
        elastic_constants(atoms)
