"""What the verbs of phonons refuse before any forces, and what they keep of runs that fail."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from click.testing import CliRunner, Result
from spring_crystals import EMT_COPPER

from mlcalc.cli.phonon_runs import temperatures
from mlcalc.cli.verbs.conductivity import conductivity_command
from mlcalc.cli.verbs.effective_phonons import effective_phonons_command
from mlcalc.cli.verbs.phonons import phonons_command
from mlcalc.cli.verbs.qha import qha_command
from mlcalc.md_protocols.errors import PhysicsWarning
from mlcalc.md_protocols.phonons import phonon_dispersion, read_born
from mlcalc.md_protocols.phonons.figures import overlay_points

MODEL = ("--model", "cu-hvnet", "--supercell", 2, 2, 2, "--no-relax")
COMMANDS = {
    "phonons": (phonons_command, ()),
    "qha": (qha_command, ()),
    "effective_phonons": (effective_phonons_command, ("--temperature-K", 300)),
    "conductivity": (conductivity_command, ("--mesh", 3, 3, 3)),
}


def run(command: Any, *words: Any) -> Result:
    return CliRunner().invoke(command, [str(word) for word in words])


@pytest.fixture
def copper(tmp_path: Path) -> Path:
    path = tmp_path / "Cu.extxyz"
    bulk("Cu", "fcc", a=3.6363).write(path)
    return path


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((0, 100, 60), [0, 60]),
        ((0, 100, 50), [0, 50, 100]),
        ((0.0, 0.3, 0.1), [0.0, 0.1, 0.2, 0.3]),
        ((300, 300, 10), [300]),
        ((0, 10, 1e9), [0]),
    ],
)
def test_temperatures_end_where_they_should(given: tuple[float, float, float], expected: list[float]) -> None:
    np.testing.assert_allclose(temperatures(given, "--thermal"), expected)


@pytest.mark.parametrize(
    "wrong",
    [(10, 0, 1), (0, 10, 0), (-1, 10, 1), (0, 10, -1), (0, float("inf"), 1), (0, float("nan"), 1), (0, 1e9, 0.01)],
)
def test_what_is_no_range_of_temperatures(wrong: tuple[float, float, float]) -> None:
    with pytest.raises(click.BadParameter):
        temperatures(wrong, "--thermal")
    with pytest.raises(click.BadParameter, match="0 < T0"):
        temperatures((0, 10, 1), "--thermal", above=True)


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("there", ["phonons.npz", "qha.json", "grueneisen.png", "crystal.extxyz", "FORCE_SETS"])
def test_folders_with_results_are_left_alone(copper: Path, tmp_path: Path, name: str, there: str) -> None:
    command, words = COMMANDS[name]
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / there).write_text("results")
    found = run(command, copper, *MODEL, *words, "--output", folder)
    assert found.exit_code == 2
    assert f"holds results of an earlier run ({there})" in " ".join(found.output.split())
    assert [(path.name, path.read_text()) for path in folder.iterdir()] == [(there, "results")]


def test_bands_that_are_not_there_cost_no_forces(copper: Path, tmp_path: Path) -> None:
    for band in (3, 9, -1):
        found = run(phonons_command, copper, *MODEL, "--animate", f"0.5,0,0.5,{band}", "--output", tmp_path / "out")
        assert found.exit_code == 2
        assert "there are 3 bands, counted from 0" in " ".join(found.output.split())
        assert not list((tmp_path / "out").iterdir())


def test_what_fails_of_an_expansion_does_not_cost_the_rest(copper: Path, tmp_path: Path) -> None:
    """A minimum outside of the volumes: the parameters of the modes are kept, and the error is told."""
    words = ("--model", "cu-hvnet", "--supercell", 2, 2, 2, "--mesh", 6, 6, 6, "--temperatures", 0, 900, 450)
    words = (*words, "--volume-range", -0.02, 0.02, "--n-volumes", 5, "--output", tmp_path / "out")
    found = run(qha_command, copper, *words)
    assert found.exit_code != 0
    assert "widen volume_range" in str(found.exception)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "crystal.extxyz",
        *(f"grueneisen.{k}" for k in ("npz", "json", "png")),
    }
    assert "mode Grueneisen parameters" in found.stdout
    again = run(qha_command, copper, *words)
    assert again.exit_code == 2
    assert "results of an earlier run (crystal.extxyz, grueneisen.json" in " ".join(again.output.split())


def test_moments_of_a_file_are_left_out_and_told(tmp_path: Path) -> None:
    atoms = bulk("Cu", "fcc", a=3.6363)
    atoms.set_initial_magnetic_moments([1.0])
    atoms.write(tmp_path / "Cu.traj")
    found = run(phonons_command, tmp_path / "Cu.traj", *MODEL, "--npoints", 2, "--json")
    assert found.exit_code == 0, found.output
    assert "initial magnetic moments are left out" in found.stderr


def test_charges_are_read_with_the_tolerance_of_the_phonons(tmp_path: Path) -> None:
    """A salt with noise: within 1e-5 Å its eight atoms are all inequivalent, and two charges are too few."""
    atoms = bulk("NaCl", "rocksalt", a=5.69, cubic=True)
    atoms.rattle(1e-4, seed=1)
    lines = ["14.400", "2.43 0 0 0 2.43 0 0 0 2.43", "1.1 0 0 0 1.1 0 0 0 1.1", "-1.1 0 0 0 -1.1 0 0 0 -1.1"]
    (tmp_path / "BORN").write_text("\n".join(lines) + "\n")
    assert len(read_born(tmp_path / "BORN", atoms, symprec=1e-2).charges) == 2
    assert len(read_born(tmp_path / "BORN", atoms, symprec=1e-2, primitive_matrix=np.eye(3)).charges) == 8


def test_points_beside_the_path_are_told() -> None:
    atoms = bulk("Cu", "fcc", a=EMT_COPPER)
    atoms.calc = EMT()
    phonons = phonon_dispersion(atoms, supercell=2, npoints=3)
    with pytest.warns(PhysicsWarning, match=r"1 of 2 points of the overlay are not drawn: .*q = \[0\.1, 0\.2, 0\.3\]"):
        shown = overlay_points(phonons.path, phonons.phonopy(), [[0.5, 0, 0.5, 4.0], [0.1, 0.2, 0.3, 4.0]])
    assert set(shown[:, 1]) == {4.0}
