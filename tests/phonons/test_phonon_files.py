"""phonopy's files: written and read by phonopy's own commands, and hostile ones refused without running them."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from spring_crystals import EMT_COPPER, Tampered

from mlcalc.md_protocols.errors import ConfigError, EvaluationError, ResultFileError
from mlcalc.md_protocols.phonons import (
    BornCharges,
    PhononDispersion,
    dispersion_of,
    phonon_dispersion,
    phonons_of_displacements,
    phonons_of_file,
    read_born,
)
from mlcalc.md_protocols.phonons.crystal import to_phonopy
from mlcalc.md_protocols.phonons.phonopy_yaml import read_phonopy

POINTS = [[0.5, 0, 0.5], [0.5, 0.5, 0.5], [0.1, 0.2, 0.3]]


def run_phonopy(command: str, *words: str, folder: Path) -> None:
    found = subprocess.run(
        [Path(sys.executable).with_name(command), *words], cwd=folder, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stdout + found.stderr


def frequencies_of_the_command(folder: Path, file: str, *words: str) -> Any:
    points = [f"{x:g}" for point in POINTS for x in point]
    run_phonopy("phonopy", file, *words, "--qpoints", *points, folder=folder)
    data = yaml.load((folder / "qpoints.yaml").read_text(), Loader=yaml.CSafeLoader)
    return np.array([[mode["frequency"] for mode in point["band"]] for point in data["phonon"]])


@pytest.fixture(scope="module")
def made(tmp_path_factory: Any) -> Path:
    """A folder with the phonopy_disp.yaml of a copper crystal, made by phonopy's command."""
    folder = tmp_path_factory.mktemp("phonopy")
    bulk("Cu", "fcc", a=EMT_COPPER, cubic=True).write(folder / "POSCAR")
    run_phonopy("phonopy-init", "-d", "--dim", "2", "2", "2", "-c", "POSCAR", folder=Path(folder))
    return Path(folder)


@pytest.fixture(scope="module")
def phonons(made: Path) -> PhononDispersion:
    return phonons_of_displacements(made / "phonopy_disp.yaml", EMT(), npoints=3, mesh=4)


def test_the_command_reads_our_forces(made: Path, phonons: PhononDispersion, tmp_path: Path) -> None:
    assert phonons.write_phonopy(tmp_path / "out") == ["FORCE_SETS", "FORCE_CONSTANTS", "phonopy_params.yaml"]
    (tmp_path / "phonopy_disp.yaml").write_bytes((made / "phonopy_disp.yaml").read_bytes())
    (tmp_path / "FORCE_SETS").write_bytes((tmp_path / "out/FORCE_SETS").read_bytes())
    found = frequencies_of_the_command(tmp_path, "phonopy_disp.yaml")
    np.testing.assert_allclose(phonons.at(POINTS), found, atol=1e-4)
    (tmp_path / "FORCE_SETS").unlink()
    (tmp_path / "FORCE_CONSTANTS").write_bytes((tmp_path / "out/FORCE_CONSTANTS").read_bytes())
    found = frequencies_of_the_command(tmp_path, "phonopy_disp.yaml")
    np.testing.assert_allclose(phonons.at(POINTS), found, atol=1e-4)
    found = frequencies_of_the_command(tmp_path / "out", "phonopy_params.yaml")
    np.testing.assert_allclose(phonons.at(POINTS), found, atol=1e-4)
    with pytest.raises(ConfigError, match="already holds FORCE_SETS"):
        phonons.write_phonopy(tmp_path / "out")


def test_the_same_as_from_the_structure(phonons: PhononDispersion, tmp_path: Path) -> None:
    atoms = bulk("Cu", "fcc", a=EMT_COPPER, cubic=True)
    atoms.calc = EMT()
    direct = phonon_dispersion(atoms, supercell=2, npoints=3, mesh=4)
    np.testing.assert_allclose(direct.at(POINTS), phonons.at(POINTS), atol=1e-4)
    assert (phonons.n_displacements, phonons.displacement) == (1, pytest.approx(0.01))
    phonons.write_phonopy(tmp_path)
    again = phonons_of_file(tmp_path / "phonopy_params.yaml", npoints=3, mesh=4)
    np.testing.assert_allclose(again.at(POINTS), phonons.at(POINTS), atol=1e-5)


def test_random_displacements(tmp_path: Path) -> None:
    bulk("Cu", "fcc", a=EMT_COPPER, cubic=True).write(tmp_path / "POSCAR")
    words = ("--rd", "4", "--random-seed", "1", "--amplitude", "0.01", "--dim", "2", "2", "2", "-c", "POSCAR")
    run_phonopy("phonopy-init", *words, folder=tmp_path)
    found = phonons_of_displacements(tmp_path / "phonopy_disp.yaml", EMT(), npoints=3, mesh=4)
    assert found.displacements.shape == (4, 32, 3)
    atoms = bulk("Cu", "fcc", a=EMT_COPPER, cubic=True)
    atoms.calc = EMT()
    direct = phonon_dispersion(atoms, supercell=2, npoints=3, mesh=4)
    np.testing.assert_allclose(found.at(POINTS), direct.at(POINTS), atol=0.03)
    found.write_phonopy(tmp_path / "out")
    other = frequencies_of_the_command(tmp_path / "out", "phonopy_params.yaml", "--fc-calculator", "symfc")
    np.testing.assert_allclose(found.at(POINTS), other, atol=1e-4)
    found.save(tmp_path / "random.npz")
    assert PhononDispersion.load(tmp_path / "random.npz").displacements.shape == (4, 32, 3)


def test_forces_in_another_order_are_refused(made: Path) -> None:
    with pytest.raises(EvaluationError, match="order"):
        phonons_of_displacements(made / "phonopy_disp.yaml", Tampered(lambda forces: forces[::-1].copy()))


def changed(made: Path, target: Path, change: Any) -> Path:
    data = yaml.load((made / "phonopy_disp.yaml").read_text(), Loader=yaml.CSafeLoader)
    change(data)
    target.write_text(yaml.safe_dump(data))
    return target


def swap(data: Any) -> None:
    points = data["supercell"]["points"]
    points[0], points[9] = points[9], points[0]


def twice(data: Any) -> None:
    data["displacements"][0]["atom"] = 33


def other_units(data: Any) -> None:
    data["physical_unit"]["length"] = "au"


def infinite(data: Any) -> None:
    data["displacements"][0]["displacement"][1] = float("inf")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (swap, "2 atoms of its supercell are not where phonopy puts them"),
        (twice, "atom 33, but the supercell has 32"),
        (other_units, "units"),
        (infinite, "finite number"),
        (lambda data: data.pop("unit_cell"), "'unit_cell' is missing"),
        (lambda data: data.pop("supercell_matrix"), "'supercell_matrix' is missing"),
        (lambda data: data.pop("displacements"), "holds no displacements"),
        (lambda data: data["supercell"]["points"].pop(), "its supercell has 31 atoms"),
        (lambda data: data["unit_cell"]["points"][0].update(symbol="Qq"), "element 'Qq'"),
        (lambda data: data["unit_cell"]["lattice"].pop(), "lattice has 2 entries"),
        (lambda data: data["displacements"][0].update(displacement=["a", 0, 0]), "'a'"),
        (lambda data: data.update(displacements=[]), "displacements is empty"),
        (lambda data: data["unit_cell"]["points"][1].update(magnetic_moment=1.0), "unit_cell has magnetic moments"),
    ],
)
def test_damaged_files_are_refused(made: Path, tmp_path: Path, change: Any, text: str) -> None:
    path = changed(made, tmp_path / "phonopy_disp.yaml", change)
    with pytest.raises(ResultFileError, match=text):
        phonons_of_displacements(path, EMT())


def test_displacements_that_do_not_fix_the_constants_cost_no_forces(tmp_path: Path) -> None:
    """One of the two that a salt needs; one without length; random ones that are too few.  Both and enough are read."""
    from phonopy import Phonopy

    def evaluate(structures: list[Atoms]) -> Any:
        raise EvaluationError("forces were asked for")

    file = tmp_path / "phonopy_disp.yaml"
    phonon = Phonopy(to_phonopy(bulk("NaCl", "rocksalt", a=5.6)), np.diag([2, 2, 2]), primitive_matrix=np.eye(3))
    phonon.generate_displacements(0.01)
    phonon.save(file)
    with pytest.raises(EvaluationError, match="asked for"):  # the control: complete
        phonons_of_displacements(file, EMT(), evaluate=evaluate)
    whole = yaml.load(file.read_text(), Loader=yaml.CSafeLoader)
    for change, text in (
        (lambda data: data["displacements"].pop(), "displaced in 0 of 3 directions"),
        (lambda data: data["displacements"][0].update(displacement=[0.0, 0.0, 0.0]), "has no length"),
    ):
        data = copy.deepcopy(whole)
        change(data)
        file.write_text(yaml.safe_dump(data))
        with pytest.raises(ResultFileError, match=text):
            phonons_of_displacements(file, EMT(), evaluate=evaluate)
    crystal = bulk("NaCl", "rocksalt", a=5.6, cubic=True)
    crystal.rattle(0.1, seed=1)
    phonon = Phonopy(to_phonopy(crystal), np.diag([1, 1, 2]), primitive_matrix=np.eye(3))
    phonon.generate_displacements(0.01, number_of_snapshots=2, random_seed=1)
    phonon.save(file)
    with pytest.raises(ResultFileError, match=r"2 displacements of 16 atoms do not fix \d+ independent"):
        phonons_of_displacements(file, EMT(), evaluate=evaluate)


def test_an_unchanged_copy_is_read(made: Path, tmp_path: Path) -> None:
    """The control of the test above."""
    path = changed(made, tmp_path / "phonopy_disp.yaml", lambda data: None)
    assert len(read_phonopy(path).phonopy().supercells_with_displacements) == 1


@pytest.mark.parametrize(
    "attack",
    [
        "!!python/object/apply:os.system ['touch {mark}']",
        "!!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path ['{mark}']]",
        "!!python/name:os.system ''",
        "!!python/module:os ''",
    ],
)
def test_hostile_files_are_refused_and_not_run(made: Path, tmp_path: Path, attack: str) -> None:
    mark = tmp_path / "mark"
    path = tmp_path / "phonopy_disp.yaml"
    path.write_text((made / "phonopy_disp.yaml").read_text() + "\nextra: " + attack.format(mark=mark) + "\n")
    with pytest.raises(ResultFileError, match="nothing of it was run"):
        read_phonopy(path)
    assert not mark.exists()


def test_the_attack_is_a_real_one(tmp_path: Path) -> None:
    """The control: the loader that we do not use runs it."""
    mark = tmp_path / "mark"
    yaml.load(f"x: !!python/object/apply:os.system ['touch {mark}']", Loader=yaml.UnsafeLoader)  # noqa: S506
    assert mark.exists()


@pytest.mark.parametrize("text", ["", "- 1\n- 2\n", "a: [1, 2", "\x00\x01", "just words"])
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "phonopy_disp.yaml"
    path.write_text(text)
    with pytest.raises(ResultFileError):
        read_phonopy(path)
    with pytest.raises(ResultFileError, match="no such file"):
        read_phonopy(tmp_path / "none.yaml")


def test_nested_aliases_are_not_expanded(made: Path, tmp_path: Path) -> None:
    levels = "bcdefghijklmnopqrstuvwx"
    bomb = "zz: &a [1, 1]\n" + "".join(f"z{y}: &{y} [*{x}, *{x}]\n" for x, y in zip("a" + levels, levels, strict=False))
    text = (made / "phonopy_disp.yaml").read_text().replace("supercell_matrix:", "old:", 1)
    path = tmp_path / "phonopy_disp.yaml"
    path.write_text(bomb + text + "\nsupercell_matrix: *x\n")
    with pytest.raises(ResultFileError, match="2 entries where 3 are expected"):
        read_phonopy(path)


def test_charges_go_through_phonopys_format(tmp_path: Path) -> None:
    """BORN files hold inequivalent atoms only; phonopy's own reader gives the rest."""
    atoms: Atoms = bulk("NaCl", "rocksalt", a=5.69, cubic=True)
    lines = ["14.400", "2.43 0 0 0 2.43 0 0 0 2.43", "1.1 0 0 0 1.1 0 0 0 1.1", "-1.1 0 0 0 -1.1 0 0 0 -1.1"]
    (tmp_path / "BORN").write_text("\n".join(lines) + "\n")
    found = read_born(tmp_path / "BORN", atoms)
    np.testing.assert_allclose(found.charges[:, 1, 1], [1.1, -1.1])
    assert found.dielectric[2, 2] == 2.43
    (tmp_path / "short").write_text("14.400\n2.43 0 0 0 2.43 0 0 0 2.43\n1.1 0 0\n")
    with pytest.raises(ResultFileError, match="BORN"):
        read_born(tmp_path / "short", atoms)
    with pytest.raises(ResultFileError, match="no such file"):
        read_born(tmp_path / "none", atoms)


def test_charges_are_written_for_the_command(tmp_path: Path) -> None:
    from spring_crystals import NearSprings

    atoms = bulk("NaCl", "rocksalt", a=5.6)
    atoms.calc = NearSprings(2.0, 2.8, 3.3)
    born = BornCharges(np.array([np.eye(3), -np.eye(3)]), 2.5 * np.eye(3))
    found = phonon_dispersion(atoms, supercell=2, born=born, npoints=3, mesh=2)
    plain = dispersion_of(_without_charges(found), npoints=3, mesh=2)
    assert found.frequencies[0, -1] > plain.frequencies[0, -1] + 0.5
    assert "BORN" in found.write_phonopy(tmp_path / "out")
    other = frequencies_of_the_command(tmp_path / "out", "phonopy_params.yaml")
    np.testing.assert_allclose(found.at(POINTS), other, atol=1e-4)
    found.save(tmp_path / "polar.npz")
    again = PhononDispersion.load(tmp_path / "polar.npz")
    np.testing.assert_allclose(again.at(POINTS), found.at(POINTS), atol=1e-5)


def _without_charges(phonons: PhononDispersion) -> Any:
    phonon = phonons.phonopy()
    phonon.nac_params = None
    return phonon
