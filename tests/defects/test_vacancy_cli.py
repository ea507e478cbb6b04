"""`mlcalc vacancy` and `mlcalc surface`: their numbers are those of the library, and their mistakes are told early."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.io import read, write
from click.testing import CliRunner, Result

from mlcalc import MLCalculator
from mlcalc.cli.verbs.surface import surface_command
from mlcalc.cli.verbs.vacancy import vacancy_command
from mlcalc.md_protocols.defects.migration_result import MigrationBarrier
from mlcalc.md_protocols.defects.surfaces import surface_energy
from mlcalc.md_protocols.defects.vacancies import vacancy_energy
from mlcalc.md_protocols.defects.vacancy_result import VacancyEnergy
from mlcalc.md_protocols.defects.vacancy_series import VacancySeries

A = 3.6362  # Å, near the minimum of cu-hvnet


@pytest.fixture(scope="module")
def structure(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("crystals") / "Cu.extxyz"
    write(path, bulk("Cu", a=A, cubic=True))
    return path


def run(command: Any, structure: Path, *words: str) -> Result:
    return CliRunner().invoke(command, [str(structure), "--model", "cu-hvnet", *words])


def crystal() -> Atoms:
    atoms = bulk("Cu", a=A, cubic=True)
    atoms.calc = MLCalculator("cu-hvnet")
    return atoms


@pytest.mark.filterwarnings("ignore::mlcalc.md_protocols.errors.PhysicsWarning")
def test_energy_equals_the_library(structure: Path, tmp_path: Path) -> None:
    expected = vacancy_energy(crystal(), supercell=2, fmax=0.02)
    words = ("--supercell", "2", "2", "2", "--fmax", "0.02", "--no-relax", "--output", str(tmp_path / "out"))
    perfect, calculator = crystal().repeat(2), MLCalculator("cu-hvnet")
    energies = [calculator.get_potential_energy(atoms) for atoms in (perfect, perfect[1:])]
    np.testing.assert_allclose(expected.unrelaxed, energies[1] - 31 / 32 * energies[0], atol=1e-8)
    shown = run(vacancy_command, structure, *words)
    assert shown.exit_code == 0, shown.output
    assert "7.27 Å from its nearest image" in shown.stderr
    assert f"{expected.relaxed[0]:.4f} eV relaxed" in shown.stdout
    found = VacancyEnergy.load(tmp_path / "out" / "vacancy.npz")
    np.testing.assert_allclose(found.relaxed, expected.relaxed, atol=1e-9)
    assert json.loads((tmp_path / "out" / "vacancy.json").read_text()) == found.to_json() | {"converged": True}
    assert (tmp_path / "out" / "vacancy.png").read_bytes()[:4] == b"\x89PNG"
    frames = read(tmp_path / "out" / "vacancies.extxyz", ":")
    assert [len(frame) for frame in frames] == [31]
    np.testing.assert_allclose(frames[0].positions, found.structures[0].positions, atol=1e-7)


def test_migration_series_and_relaxed_crystals(structure: Path, tmp_path: Path) -> None:
    output = str(tmp_path / "out")
    loose = ("--fmax", "0.05", "--output", output, "--json")
    words = ("--supercell", "2", "2", "2", "--migration", "--n-images", "1", "--band-fmax", "0.2", "--unrelaxed")
    shown = run(vacancy_command, structure, *words, *loose)
    assert shown.exit_code == 0, shown.output
    values = json.loads(shown.stdout)
    barrier = MigrationBarrier.load(tmp_path / "out" / "migration.npz")
    assert values["migration"] == barrier.to_json()
    assert values["relaxed_eV"] is None
    assert values["perfect_max_stress_GPa"] < 0.01
    assert [len(frame) for frame in read(tmp_path / "out" / "migration.extxyz", ":")] == [31] * 3
    assert len(read(tmp_path / "out" / "crystal.extxyz")) == 4
    series = ("--series", "1,2", "--fmax", "0.05", "--output", str(tmp_path / "more"), "--json")
    used = run(vacancy_command, structure, *series[:-2], output)
    assert (used.exit_code, "results of an earlier run (crystal.extxyz, migration.extxyz" in used.output) == (2, True)
    shown = run(vacancy_command, structure, *series)
    assert shown.exit_code == 0, shown.output
    limit = VacancySeries.load(tmp_path / "more" / "vacancy_series.npz")
    assert json.loads(shown.stdout) == limit.to_json()
    assert limit.n_atoms.tolist() == [4, 32]
    again = run(vacancy_command, tmp_path / "more" / "crystal.extxyz", *series)
    assert again.exit_code == 2
    assert "is an input of this command and would be overwritten" in again.output


@pytest.mark.filterwarnings("ignore:the surface energy still changes:UserWarning")
def test_surfaces_equal_the_library(structure: Path, tmp_path: Path) -> None:
    words = (
        "--miller",
        "1",
        "0",
        "0",
        "--n-layers",
        "4,6",
        "--unrelaxed",
        "--no-relax",
        "--output",
        str(tmp_path / "out"),
    )
    shown = run(surface_command, structure, *words, "--stacking-fault", "--json")
    assert shown.exit_code == 0, shown.output
    values = json.loads(shown.stdout)
    expected = surface_energy(crystal(), miller=(1, 0, 0), n_layers=(4, 6), relaxed=False)
    shown = run(surface_command, structure, *words)
    assert (shown.exit_code, "results of an earlier run (stacking_fault.extxyz" in shown.output) == (2, True)
    np.testing.assert_allclose(values["surface_1_0_0"]["unrelaxed_eV_per_A2"], expected.unrelaxed, atol=1e-9)
    assert values["stacking_fault"]["n_layers"] == 12
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {f"{kind}.{end}" for kind in values for end in ("npz", "json", "png", "extxyz")}
    assert "surface (100)" in run(surface_command, structure, *words[:-2]).stdout


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ((), "give --supercell A B C, or --series"),
        (("--supercell", "2", "2", "2", "--series", "2,3"), "exclude each other"),
        (("--series", "2,3", "--migration"), "--migration needs --supercell"),
        (("--series", "2,3", "--unrelaxed"), "leave out --unrelaxed"),
        (("--series", "2;3"), "'2;3': use whole numbers and commas"),
        (("--supercell", "2", "2", "2", "--sites", "a"), "'a': use whole numbers and commas"),
        (("--supercell", "2", "2", "2", "--mu", "Cu"), "'Cu': use the form Mo=-10.1"),
        (("--supercell", "2", "2", "2", "--mu", "Cu=1", "--mu", "Cu=2"), "'Cu' stands there twice"),
        (("--supercell", "2", "2", "2", "--mu", "Cu=nan"), "'Cu=nan': use the form Mo=-10.1"),
        (("--supercell", "2", "2", "2", "--site", "0"), "--site is for --migration: use --sites"),
        (("--supercell", "2", "2", "2", "--hop", "0"), "--hop is for --migration"),
        (("--supercell", "2", "2", "2", "--output", "there/is/none"), "its parent folder does not exist"),
    ],
)
def test_mistakes_are_told_before_any_work(structure: Path, words: tuple[str, ...], text: str) -> None:
    shown = run(vacancy_command, structure, *words)
    assert shown.exit_code == 2
    assert text in " ".join(shown.output.split())


def test_mistakes_about_surfaces_are_told(structure: Path) -> None:
    shown = run(surface_command, structure, "--n-layers", "4-6")
    assert (shown.exit_code, "use whole numbers and commas" in shown.output) == (2, True)
    structure.rename(structure.parent / "crystal.extxyz")
    words = ("--output", str(structure.parent), "--overwrite")
    shown = run(surface_command, structure.parent / "crystal.extxyz", *words)
    assert (shown.exit_code, "is an input of this command" in " ".join(shown.output.split())) == (2, True)
