"""`mlcalc phonons` from files to files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.build import bulk
from ase.io import read
from click.testing import CliRunner, Result

from mlcalc import MLCalculator
from mlcalc.cli.verbs.phonons import phonons_command
from mlcalc.md_protocols.phonons import PhononDispersion, phonon_dispersion

A = 3.6363  # Å, near the model's own


def run(*words: Any) -> Result:
    return CliRunner().invoke(phonons_command, [str(word) for word in words])


@pytest.fixture(scope="module")
def copper(tmp_path_factory: Any) -> Path:
    path = Path(tmp_path_factory.mktemp("phonons")) / "Cu.extxyz"
    bulk("Cu", "fcc", a=A).write(path)
    return path


def test_everything_at_once(copper: Path, tmp_path: Path) -> None:
    overlay = tmp_path / "points.dat"
    overlay.write_text("# q1 q2 q3 THz\n0.5 0 0.5 7.2\n0.25 0.25 0.5 6.0\n")
    words = ("--supercell", 2, 2, 2, "--npoints", 11, "--mesh", 6, 6, 6, "--thermal", 0, 300, 150, "--convergence")
    files = ("--overlay", overlay, "--animate", "0.5,0,0.5,2", "--output", tmp_path / "out")
    found = run(copper, "--model", "cu-hvnet", *words, *files)
    assert found.exit_code == 0, found.output
    assert "stable" in found.output
    assert "per primitive cell" in found.output
    assert "displacement convergence" in found.output
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names >= set("phonons.npz phonons.json phonons.png dos.npz thermal.json mode.extxyz FORCE_SETS".split())
    result = PhononDispersion.load(tmp_path / "out/phonons.npz")
    atoms = result.unitcell.copy()
    atoms.calc = MLCalculator("cu-hvnet", dtype="float64")
    again = phonon_dispersion(atoms, supercell=2, npoints=11)
    np.testing.assert_allclose(result.frequencies, again.frequencies, atol=1e-6)
    assert json.loads((tmp_path / "out/phonons.json").read_text())["stable"] is True
    assert len(read(tmp_path / "out/mode.extxyz", ":")) == 24
    repeated = run(copper, "--model", "cu-hvnet", *words, "--output", tmp_path / "out")
    assert repeated.exit_code == 2
    assert "already holds results of an earlier run (FORCE_CONSTANTS, FORCE_SETS" in repeated.output


def test_json_and_no_relaxation(copper: Path, tmp_path: Path) -> None:
    strained = tmp_path / "strained.extxyz"
    bulk("Cu", "fcc", a=A * 0.98).write(strained)
    words = ("--model", "cu-hvnet", "--supercell", 2, 2, 2, "--npoints", 3, "--json")
    as_it_is, relaxed = run(strained, *words, "--no-relax"), run(strained, *words)
    assert as_it_is.exit_code == relaxed.exit_code == 0
    assert "under a stress" in as_it_is.stderr
    assert "Warning" not in relaxed.stderr
    found, other = json.loads(as_it_is.stdout), json.loads(relaxed.stdout)
    assert found["residual_stress_eV_per_A3"] > 1e-2
    assert other["residual_stress_eV_per_A3"] < 1e-5
    assert found["highest_THz"] > other["highest_THz"] + 0.2
    assert len(found["cautions"]) == 1


def test_displacements_made_by_phonopy(tmp_path: Path) -> None:
    bulk("Cu", "fcc", a=A, cubic=True).write(tmp_path / "POSCAR", format="vasp")
    command = Path(sys.executable).with_name("phonopy-init")
    words = [command, "-d", "--dim", "1", "1", "1", "-c", "POSCAR"]
    subprocess.run(words, cwd=tmp_path, check=True, capture_output=True)
    file = tmp_path / "phonopy_disp.yaml"
    more = ("--npoints", 3, "--mesh", 4, 4, 4, "--output", tmp_path / "out")
    found = run("--phonopy", file, "--model", "cu-hvnet", *more)
    assert found.exit_code == 0, found.output
    lines = (tmp_path / "out/FORCE_SETS").read_text().split("\n")
    assert lines[0].strip() == "4"
    text = file.read_text()
    file.write_text(text + "\nextra: !!python/object/apply:os.system ['touch " + str(tmp_path / "mark") + "']\n")
    hostile = run("--phonopy", file, "--model", "cu-hvnet")
    assert "nothing of it was run" in str(hostile.exception)
    assert not (tmp_path / "mark").exists()


def test_a_refused_sum_does_not_cost_the_phonons(tmp_path: Path) -> None:
    path = tmp_path / "stretched.extxyz"
    bulk("Cu", "fcc", a=4.2).write(path)
    words = ("--model", "cu-hvnet", "--supercell", 2, 2, 2, "--npoints", 5, "--no-relax", "--mesh", 4, 4, 4)
    found = run(path, *words, "--thermal", 0, 300, 100, "--output", tmp_path / "out")
    assert "imaginary modes" in str(found.exception)
    assert "IMAGINARY MODES" in found.output
    assert PhononDispersion.load(tmp_path / "out/phonons.npz").imaginary
    as_json = run(path, *words, "--thermal", 0, 300, 100, "--json")
    assert "imaginary modes" in str(as_json.exception)
    assert json.loads(as_json.stdout)["stable"] is False


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["CU"], "Missing option '--supercell'"),
        ([], "Missing argument 'STRUCTURE'"),
        (["CU", "--supercell", 2, 2, 2, "--animate", "0,0,0,1"], "give --output too"),
        (["CU", "--supercell", 2, 2, 2, "--animate", "0,0,1", "--output", "out"], "use q1,q2,q3,band"),
        (["CU", "--supercell", 2, 2, 2, "--thermal", 300, 0, 10], "T0 <= T1"),
        (["CU", "--phonopy", "CU"], "leave STRUCTURE and --supercell out"),
        (["--phonopy", "CU", "--convergence"], "makes its own displacements"),
        (["none.xyz", "--supercell", 2, 2, 2], "does not exist"),
        (["CU", "--supercell", 2, 2, 2, "--output", "no/such/folder"], "parent folder does not exist"),
    ],
)
def test_usage(copper: Path, tmp_path: Path, monkeypatch: Any, words: list[Any], text: str) -> None:
    monkeypatch.chdir(tmp_path)
    found = run("--model", "cu-hvnet", *[copper if word == "CU" else word for word in words])
    assert found.exit_code == 2
    assert text in " ".join(found.output.split())
    assert not list(tmp_path.glob("out/*"))


def test_points_of_another_format_are_refused(copper: Path, tmp_path: Path) -> None:
    from mlcalc.errors import DataError

    for text, complaint in (("1 2 3\n", "3 columns"), ("a b\n", "expected columns")):
        (tmp_path / "points.dat").write_text(text)
        words = ("--model", "cu-hvnet", "--supercell", 2, 2, 2, "--npoints", 2, "--no-relax", "--mesh", 2, 2, 2)
        found = run(copper, *words, "--overlay", tmp_path / "points.dat", "--output", tmp_path / f"out{len(text)}")
        assert isinstance(found.exception, DataError)
        assert complaint in str(found.exception)
        assert not (tmp_path / f"out{len(text)}/phonons.npz").exists()
