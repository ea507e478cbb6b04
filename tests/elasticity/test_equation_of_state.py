"""Equations of state against curves made up, lattice sums, ASE's fit and elastic constants."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import ase.eos
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.units import GPa
from lennard_jones import Pairs, lattice_constant, stiffness

from mlcalc import MLCalculator
from mlcalc.md_protocols.elasticity.constants import elastic_constants
from mlcalc.md_protocols.elasticity.equation_of_state import EquationOfState, equation_of_state
from mlcalc.md_protocols.errors import ConfigError, NotConvergedError, PhysicsWarning
from mlcalc.md_protocols.relaxation.relax import relax


class Curve(Calculator):
    """An energy that depends on the volume only, by a curve of ase.eos; `wrong` scales its pressure."""

    implemented_properties: ClassVar[list[str]] = ["energy", "forces", "stress"]

    def __init__(self, kind: str, *, E0: float, B0: float, BP: float, V0: float, wrong: float = 1.0) -> None:
        super().__init__()
        self.wrong = wrong
        self.curve = lambda volume: getattr(ase.eos, kind)(volume, E0, B0, BP, V0)

    def calculate(
        self, atoms: Atoms | None = None, properties: Any = ("energy",), system_changes: Any = all_changes
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        volume = self.atoms.get_volume()
        slope = (self.curve(volume * 1.00001) - self.curve(volume * 0.99999)) / (2e-5 * volume)
        stress = self.wrong * slope * np.array([1, 1, 1, 0, 0, 0])
        self.results = {"energy": self.curve(volume), "forces": np.zeros((len(self.atoms), 3)), "stress": stress}


def curved(kind: str = "birchmurnaghan", **changes: float) -> Atoms:
    atoms = bulk("Cu", cubic=True)  # 47.05 Å^3
    atoms.calc = Curve(kind, **({"E0": -1234.5, "B0": 140 * GPa, "BP": 5.2, "V0": 48.0} | changes))
    return atoms


ASE_NAMES = {"birch_murnaghan": "birchmurnaghan", "poirier_tarantola": "pouriertarantola"}


@pytest.mark.parametrize("eos", ["birch_murnaghan", "murnaghan", "vinet", "birch", "poirier_tarantola"])
def test_a_curve_made_up_is_found_again(eos: str) -> None:
    found = equation_of_state(curved(ASE_NAMES.get(eos, eos)), eos=eos)
    assert pytest.approx(48.0, rel=1e-6) == found.V0
    assert pytest.approx(-1234.5, abs=1e-8) == found.E0
    assert found.B0_GPa == pytest.approx(140, rel=1e-5)
    assert found.B0_prime == pytest.approx(5.2, rel=1e-4)
    assert found.residual < 1e-9
    assert found.pressure_deviation_GPa is not None
    assert found.pressure_deviation_GPa < 1e-4
    assert found.scale == pytest.approx((48 / bulk("Cu", cubic=True).get_volume()) ** (1 / 3), rel=1e-6)


def test_volumes_are_those_asked_for_and_pressures_follow_the_curve() -> None:
    atoms = curved()
    before = atoms.copy()
    found = equation_of_state(atoms, volume_range=0.1, n_volumes=7)
    assert atoms == before
    np.testing.assert_allclose(found.volumes / atoms.get_volume(), np.linspace(0.9, 1.1, 7))
    assert np.all(np.diff(found.pressures_GPa) < 0)
    assert found.pressure_GPa(48.0) == pytest.approx(0, abs=1e-4)
    step = 1e-4
    slope = (found.energy(46.0 + step) - found.energy(46.0 - step)) / (2 * step)
    assert found.pressure_GPa(46.0) * GPa == pytest.approx(-slope, rel=1e-5)
    assert found.pressure_GPa(46.0) > 1


def test_lattice_sums_give_the_same_bulk_modulus() -> None:
    def build(a: float) -> Atoms:
        return bulk("Cu", "fcc", a=a)

    a = lattice_constant(build, 1.55, 3.0, 4.5)
    c = stiffness(build(a), 1.55 * a)
    atoms = build(1.002 * a)
    atoms.calc = Pairs(1.55 * a)
    found = equation_of_state(atoms, volume_range=0.02)
    assert pytest.approx(a**3 / 4, rel=1e-5) == found.V0
    assert found.B0_GPa == pytest.approx((c[0, 0, 0, 0] + 2 * c[0, 0, 1, 1]) / 3, rel=1e-3)
    bulk_modulus = found.B0_GPa
    assert abs(elastic_constants(build_with(a, atoms)).moduli.bulk_hill / bulk_modulus - 1) < 1e-3
    assert found.scale == pytest.approx(1 / 1.002, rel=1e-5)


def build_with(a: float, like: Atoms) -> Atoms:
    atoms = bulk("Cu", "fcc", a=a)
    atoms.calc = like.calc
    return atoms


def test_fit_is_ases_and_independent_of_the_cell() -> None:
    atoms = bulk("Cu", "fcc", a=3.6)
    atoms.calc = EMT()
    found = equation_of_state(atoms, eos="vinet")
    v0, e0, b0 = ase.eos.EquationOfState(found.volumes, found.energies, eos="vinet").fit()
    assert (found.V0, found.E0, found.B0_GPa) == pytest.approx((v0, e0, b0 / GPa), rel=1e-4)
    four = bulk("Cu", "fcc", a=3.6, cubic=True)
    four.calc = EMT()
    large = equation_of_state(four, eos="vinet")
    assert (large.V0 / 4, large.E0 / 4, large.B0_GPa) == pytest.approx((found.V0, found.E0, found.B0_GPa), rel=1e-6)
    assert large.residual == pytest.approx(found.residual, rel=1e-3, abs=1e-12)


def test_atoms_move_at_each_volume() -> None:
    loose = bulk("Cu", "fcc", a=3.6, cubic=True)
    loose.rattle(0.03, seed=2)
    loose.calc = EMT()
    perfect = bulk("Cu", "fcc", a=3.6)
    perfect.calc = EMT()
    reference = equation_of_state(perfect, n_volumes=5)
    found = equation_of_state(loose, n_volumes=5, fmax=1e-5)
    assert pytest.approx(4 * reference.E0, abs=1e-7) == found.E0
    assert (found.relaxed, reference.relaxed) == ("ions", "ions")
    still = equation_of_state(loose, n_volumes=5, relax_ions=False)
    assert still.E0 > found.E0 + 1e-3
    assert still.relaxed == "nothing"
    with pytest.raises(NotConvergedError, match=r"volume 0\.9400 V"):
        equation_of_state(loose, n_volumes=5, steps=1)


def test_shape_follows_the_volume_where_the_crystal_is_not_cubic() -> None:
    atoms = Atoms("CuAu", cell=[2.75, 2.75, 3.7], pbc=True, scaled_positions=[[0, 0, 0], [0.5, 0.5, 0.5]])
    atoms.calc = EMT()
    atoms = relax(atoms, cell=True, fmax=1e-6, smax=1e-8).atoms
    moduli = elastic_constants(atoms).moduli
    assert moduli is not None
    assert moduli.bulk_voigt - moduli.bulk_reuss > 4
    kept, followed = (
        equation_of_state(atoms, volume_range=0.007, n_volumes=7, relax_shape=shape) for shape in (False, True)
    )
    assert kept.B0_GPa == pytest.approx(moduli.bulk_voigt, rel=1e-3)
    assert followed.B0_GPa == pytest.approx(moduli.bulk_reuss, rel=1e-3)
    assert followed.relaxed == "ions and shape"
    np.testing.assert_allclose(followed.volumes, kept.volumes, rtol=1e-12)


def test_what_is_wrong_is_told() -> None:
    with pytest.warns(PhysicsWarning, match=r"pressures of the stress differ .* by up to .*2 % of B0"):
        assert equation_of_state(curved(wrong=1.5)).pressure_deviation_GPa > 3
    atoms = curved()
    smooth = atoms.calc.curve
    atoms.calc.curve = lambda volume: smooth(volume) + 0.02 * np.sin(9 * volume)
    with pytest.warns(PhysicsWarning) as caught:
        found = equation_of_state(atoms)
    texts = [str(warning.message) for warning in caught if warning.category is PhysicsWarning]
    assert "curve misses the energies by" in texts[0]
    assert found.residual > 1e-3


def test_a_dent_is_no_minimum() -> None:
    atoms = curved(V0=50.6)
    smooth = atoms.calc.curve
    near, last = bulk("Cu", cubic=True).get_volume() * np.array([1.048, 1.06])
    depth = smooth(near) - smooth(last) + 1e-3  # so that the energy is lowest there, and not at the end
    atoms.calc.curve = lambda volume: smooth(volume) - depth * np.exp(-(((volume - near) / 0.1) ** 2))
    with pytest.raises(ConfigError, match=r"the curve has its minimum at 5\d\."):
        equation_of_state(atoms)


@pytest.mark.parametrize(
    ("atoms", "settings", "text"),
    [
        (
            curved(V0=55.0),
            {},
            r"no minimum within the volumes from 44\..* to 49\..*lowest at the largest volume.*relax",
        ),
        (curved(V0=40.0), {}, r"lowest at the smallest volume"),
        (curved(V0=49.85), {}, r"no minimum within the volumes"),
        (curved(B0=-0.5), {}, r"no minimum within"),
        (curved(), {"n_volumes": 4}, r"n_volumes is 4: .*at least 5"),
        (curved(), {"volume_range": 0.7}, r"volume_range is 0\.7: .*within 0\.5"),
        (curved(), {"volume_range": -1}, r"volume_range is -1"),
        (curved(), {"eos": "birchmurnaghan"}, r"unknown eos 'birchmurnaghan'.*Did you mean 'birch_murnaghan'"),
        (bulk("Cu"), {}, r"no calculator"),
        (Atoms("Cu", calculator=EMT()), {}, r"periodic in all directions"),
    ],
)
def test_bad_input_is_refused(atoms: Atoms, settings: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        equation_of_state(atoms, **settings)


def test_single_precision_is_refused() -> None:
    atoms = bulk("Cu", a=3.6363)
    atoms.calc = MLCalculator("cu-hvnet", dtype="float32")
    with pytest.raises(ConfigError, match=r"bulk moduli are differences"):
        equation_of_state(atoms)


def test_result_is_saved_loaded_and_drawn(tmp_path: Path) -> None:
    found = equation_of_state(curved())
    found.save(tmp_path / "eos.npz")
    again = EquationOfState.load(tmp_path / "eos.npz")
    for name, value in vars(found).items():
        if name == "atoms":
            assert again.atoms == found.atoms
        else:
            np.testing.assert_array_equal(value, getattr(again, name))
    assert again.to_json() == found.to_json()
    assert found.to_json()["V0_per_atom_A3"] == found.V0 / 4
    ax = found.plot()
    assert ax.get_xlabel() == "volume (Å$^3$/atom)"
    ax.figure.savefig(tmp_path / "eos.png")
    assert str(found).startswith("equation of state (birch_murnaghan, 11 volumes, ions relaxed)")


def test_volumes_lie_where_the_range_says() -> None:
    found = equation_of_state(curved(), volume_range=(-0.03, 0.09), n_volumes=7)
    given = abs(np.linalg.det(curved().cell.array))
    np.testing.assert_allclose(found.volumes / given - 1, np.linspace(-0.03, 0.09, 7), atol=1e-12)
    alone, pair = (equation_of_state(curved(), volume_range=width) for width in (0.05, (-0.05, 0.05)))
    np.testing.assert_array_equal(alone.volumes, pair.volumes)
    for wrong in ((0.05, -0.05), (-0.6, 0.1), (0.1,), "ab", (-0.1, np.nan), True):
        with pytest.raises(ConfigError, match="volume_range is .*give the lowest and the highest relative change"):
            equation_of_state(curved(), volume_range=wrong)
