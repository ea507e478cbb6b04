"""Lattice thermal conductivity against phono3py run by hand."""

from __future__ import annotations

import json
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from click.testing import CliRunner
from scipy.spatial.transform import Rotation

from mlcalc.md_protocols.errors import ConfigError, EvaluationError, PhysicsWarning
from mlcalc.md_protocols.phonons.anharmonic.conductivity import thermal_conductivity
from mlcalc.md_protocols.phonons.anharmonic.conductivity_result import ThermalConductivity

phono3py = pytest.importorskip("phono3py")

A = 3.5899  # Å, where EMT copper has no pressure
KELVIN = (100.0, 300.0, 600.0, 1200.0)
SETTINGS: dict[str, Any] = {"supercell": 3, "mesh": (5, 5, 5), "temperatures": KELVIN}


def copper(a: float = A) -> Atoms:
    atoms = bulk("Cu", "fcc", a=a)
    atoms.calc = EMT()
    return atoms


@pytest.fixture(scope="module")
def found() -> ThermalConductivity:
    return thermal_conductivity(copper(), **SETTINGS)


def by_hand(isotopes: bool = False, larger: Any = None, cutoff: float | None = None) -> tuple[Any, int]:
    """Conductivity (T, 6) from phono3py, each supercell evaluated by itself, and the number of displacements."""
    from phonopy.structure.atoms import PhonopyAtoms

    atoms = copper()
    cell = PhonopyAtoms(symbols=["Cu"], cell=atoms.cell.array, scaled_positions=[[0, 0, 0]], masses=atoms.get_masses())
    solver = phono3py.Phono3py(cell, np.diag([3, 3, 3]), primitive_matrix=np.eye(3), phonon_supercell_matrix=larger)
    solver.generate_displacements(distance=0.03, cutoff_pair_distance=cutoff)

    def forces(cells: Any) -> Any:
        values = []
        for one in cells:
            if one is None:
                values.append(np.zeros((27, 3)))
                continue
            structure = Atoms(one.symbols, cell=one.cell, scaled_positions=one.scaled_positions, pbc=True)
            structure.calc = EMT()
            values.append(structure.get_forces())
        return np.array(values)

    solver.forces = forces(solver.supercells_with_displacements)
    solver.produce_fc3()
    solver.symmetrize_fc3()
    if larger is not None:
        solver.phonon_forces = forces(solver.phonon_supercells_with_displacements)
        solver.produce_fc2()
    solver.symmetrize_fc2()
    solver.mesh_numbers = [5, 5, 5]
    solver.init_phph_interaction(
        symmetrize_tetrahedra=True, average_degenerate_weights=True, exclude_gamma_acoustic=True
    )
    solver.run_thermal_conductivity(temperatures=KELVIN, is_isotope=isotopes)
    count = sum(one is not None for one in solver.supercells_with_displacements)
    return np.array(solver.thermal_conductivity.kappa)[0], count


def test_the_same_as_phono3py_by_hand(found: ThermalConductivity) -> None:
    expected, count = by_hand()
    np.testing.assert_allclose(found.kappa, expected, rtol=1e-6, atol=1e-8)
    assert found.n_structures == count + 1
    assert found.kappa[1, 0] > 1.0
    assert found.masses == pytest.approx([63.546])
    # Cubic: one number, and nothing off the diagonal.
    np.testing.assert_allclose(found.kappa[:, :3], found.mean[:, None] * np.ones(3), rtol=1e-5)
    assert np.abs(found.kappa[:, 3:]).max() < 1e-5 * found.mean.min()


def test_a_larger_phonon_supercell_and_a_cutoff_pass_through(found: ThermalConductivity) -> None:
    more = thermal_conductivity(copper(), **SETTINGS, phonon_supercell=4, cutoff_pair_distance=2.7)
    expected, count = by_hand(False, np.diag([4, 4, 4]), 2.7)
    np.testing.assert_allclose(more.kappa, expected, rtol=1e-6, atol=1e-8)
    assert more.n_structures == count + 3  # with one displacement of the larger cell and two undisplaced cells
    assert count + 1 < found.n_structures
    assert not np.allclose(more.kappa, found.kappa, rtol=1e-3)


def test_isotopes_scatter_too(found: ThermalConductivity) -> None:
    more = thermal_conductivity(copper(), **SETTINGS, isotopes=True)
    expected, _ = by_hand(True)
    # phono3py's scattering by isotopes depends on its choice of degenerate vectors, which rounding decides.
    np.testing.assert_allclose(more.mean, expected[:, :3].mean(axis=1), rtol=0.01)
    assert (more.mean < found.mean).all()
    assert more.mean[0] < 0.98 * found.mean[0]  # cold crystals feel them most


def test_hot_crystals_conduct_as_one_over_the_temperature(found: ThermalConductivity) -> None:
    product = found.mean * found.temperatures
    assert product[3] == pytest.approx(product[2], rel=0.02)
    assert abs(product[0] / product[2] - 1) > 0.05  # and cold ones do not


def test_the_whole_boltzmann_equation(found: ThermalConductivity) -> None:
    whole = thermal_conductivity(copper(), **(SETTINGS | {"method": "lbte"}))
    assert whole.method == "lbte"
    assert whole.mean[1] == pytest.approx(found.mean[1], rel=0.5)
    assert not np.allclose(whole.kappa, found.kappa, rtol=1e-4)


def test_rounding_of_forces_does_not_change_it(found: ThermalConductivity) -> None:
    random = np.random.default_rng(0)

    class Rounded(EMT):
        def calculate(self, *words: Any, **more: Any) -> None:
            super().calculate(*words, **more)
            self.results["forces"] = self.results["forces"] + 1e-12 * random.normal(size=(len(self.atoms), 3))

    atoms = copper()
    atoms.calc = Rounded()
    np.testing.assert_allclose(thermal_conductivity(atoms, **SETTINGS).mean, found.mean, rtol=1e-6)


def test_an_old_phono3py_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phono3py.Phono3py, "init_phph_interaction", lambda self: None)
    with pytest.raises(ConfigError, match="no average_degenerate_weights"):
        thermal_conductivity(copper(), **SETTINGS)


def test_residual_forces_are_taken_off(found: ThermalConductivity) -> None:
    class Pushed(EMT):
        def calculate(self, *words: Any, **more: Any) -> None:
            super().calculate(*words, **more)
            self.results["forces"] = self.results["forces"] + 5e-4

    atoms = copper()
    atoms.calc = Pushed()
    np.testing.assert_allclose(thermal_conductivity(atoms, **SETTINGS).kappa, found.kappa, rtol=1e-6, atol=1e-8)


def test_unsound_crystals_are_refused() -> None:
    with (
        pytest.warns(PhysicsWarning, match="not relaxed"),
        pytest.raises(ConfigError, match=r"imaginary modes \(lowest -"),
    ):
        thermal_conductivity(copper(4.6), **SETTINGS)

    class Broken(EMT):
        def calculate(self, *words: Any, **more: Any) -> None:
            super().calculate(*words, **more)
            self.results["forces"] = self.results["forces"] * np.nan

    atoms = copper()
    atoms.calc = Broken()
    with pytest.raises(EvaluationError, match="not finite"):
        thermal_conductivity(atoms, **SETTINGS)
    atoms = copper()
    atoms.calc.dtype = "float32"
    with pytest.raises(ConfigError, match="allow_float32"):
        thermal_conductivity(atoms, **SETTINGS)


def test_supercells_in_which_third_order_forces_cancel_are_refused() -> None:
    # Every atom of 2 x 2 x 2 primitive cells is halfway between images of every other one.
    with pytest.raises(EvaluationError, match="third-order force constants cancel"):
        thermal_conductivity(copper(), **(SETTINGS | {"supercell": 2}))


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"mesh": (2.5, 3, 3)}, "mesh is"),
        ({"mesh": (5, 5, 4)}, "breaks the crystal's symmetry"),
        ({"temperatures": (0.0,)}, "temperature is 0.0"),
        ({"temperatures": ()}, "temperatures is empty"),
        ({"method": "rtx"}, "Did you mean 'rta'"),
        ({"max_structures": 3}, "max_structures = 3"),
        ({"cutoff_pair_distance": -1.0}, "cutoff_pair_distance"),
    ],
)
def test_bad_settings_are_refused(changed: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        thermal_conductivity(copper(), **(SETTINGS | changed))


def test_noise_in_third_order_constants_is_told(found: ThermalConductivity) -> None:
    class Noisy(EMT):
        """Forces with noise that still adds up to zero, so that second-order sums do not show it."""

        amplitude = 0.0

        def calculate(self, *words: Any, **more: Any) -> None:
            super().calculate(*words, **more)
            rng = np.random.default_rng(zlib.crc32(self.atoms.positions.tobytes()))
            noise = rng.normal(0.0, self.amplitude, self.results["forces"].shape)
            self.results["forces"] = self.results["forces"] + noise - noise.mean(axis=0)

    atoms = copper()
    atoms.calc = Noisy()
    atoms.calc.amplitude = 1e-6
    quiet = thermal_conductivity(atoms, **SETTINGS)
    assert 0 < found.fc3_residual < 0.1
    assert quiet.fc3_residual < 0.1
    np.testing.assert_allclose(quiet.mean, found.mean, rtol=0.01)
    atoms.calc.amplitude = 1e-4
    with pytest.warns(PhysicsWarning, match="third-order force constants violate"):
        loud = thermal_conductivity(atoms, **(SETTINGS | {"displacement": 0.003}))
    assert loud.fc3_residual > 1.0
    assert loud.mean[1] < 0.5 * found.mean[1]  # what the warning is for


def test_cells_with_vacuum_are_refused() -> None:
    sheet = Atoms("Cu", cell=[[2.35, 0, 0], [-1.175, 2.0352, 0], [0, 0, 12.0]], pbc=True)
    sheet.calc = EMT()
    with pytest.raises(ConfigError, match=r"vacuum .* along c: .* goes by the volume"):
        thermal_conductivity(sheet, **(SETTINGS | {"supercell": (3, 3, 1), "mesh": (5, 5, 1)}))


def test_nothing_but_a_warning_is_said_of_unequal_supercells(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.warns(PhysicsWarning, match="point operations"):
        thermal_conductivity(copper(), **(SETTINGS | {"supercell": (2, 3, 3), "mesh": (3, 3, 3)}), progress=False)
    assert capsys.readouterr().out == ""  # stdout is for --json


def test_the_tensor_turns_with_the_crystal() -> None:
    def tensor(turn: Any) -> Any:
        atoms = bulk("Cu", "fcc", a=A, cubic=True)
        cell = atoms.cell.array * np.array([1.0, 1.0, 1.03])  # tetragonal
        atoms.set_cell(cell @ turn.T, scale_atoms=True)
        atoms.calc = EMT()
        with pytest.warns(PhysicsWarning, match="not relaxed"):
            kappa = thermal_conductivity(atoms, supercell=2, mesh=(5, 5, 5), temperatures=300.0).kappa[0]
        return kappa[[[0, 5, 4], [5, 1, 3], [4, 3, 2]]]

    turn = Rotation.from_euler("xyz", [20, 35, 50], degrees=True).as_matrix()
    straight = tensor(np.eye(3))
    assert abs(straight[0, 0] / straight[2, 2] - 1) > 0.1
    np.testing.assert_allclose(tensor(turn), turn @ straight @ turn.T, rtol=1e-6, atol=1e-6)


def test_without_phono3py_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "phono3py", None)
    with pytest.raises(ConfigError, match=r"mlcalc\[conductivity\]"):
        thermal_conductivity(copper(), **SETTINGS)


def test_files_give_it_back(found: ThermalConductivity, tmp_path: Path) -> None:
    found.save(tmp_path / "kappa.npz")
    again = ThermalConductivity.load(tmp_path / "kappa.npz")
    assert set(vars(again)) == set(vars(found))
    for name, value in vars(found).items():
        assert np.array_equal(getattr(again, name), value), name
    assert type(again.mesh) is tuple
    told = json.loads(json.dumps(found.to_json()))
    assert told["kappa_W_per_m_K"][1][0] == found.kappa[1, 0]
    assert "300 K" in str(found)
    assert found.plot().get_xscale() == "log"


def test_command_with_a_bundled_model(tmp_path: Path) -> None:
    from mlcalc.cli.verbs.conductivity import conductivity_command

    bulk("Cu", "fcc", a=3.63).write(tmp_path / "Cu.extxyz")
    words = f"--model cu-hvnet --supercell 3 3 3 --mesh 3 3 3 --temperatures 300 500 100 --output {tmp_path / 'out'}"
    said = CliRunner().invoke(conductivity_command, [str(tmp_path / "Cu.extxyz"), *words.split(), "--json"])
    assert said.exit_code == 0, said.output
    told = json.loads(said.stdout)
    assert told["temperatures_K"] == [300, 400, 500]
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {f"conductivity.{kind}" for kind in ("npz", "json", "png")} | {"crystal.extxyz"}
    stored = ThermalConductivity.load(tmp_path / "out/conductivity.npz")
    assert told["kappa_W_per_m_K"] == stored.kappa.tolist()
