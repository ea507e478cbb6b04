"""`mlcalc relax`, `mlcalc elastic` and `mlcalc eos` on the bundled copper model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.io import read, write
from click.testing import CliRunner, Result

from mlcalc import MLCalculator
from mlcalc.cli.verbs.elastic import elastic_command
from mlcalc.cli.verbs.eos import eos_command
from mlcalc.cli.verbs.relax import relax_command
from mlcalc.md_protocols.elasticity.constants import elastic_constants
from mlcalc.md_protocols.elasticity.equation_of_state import EquationOfState
from mlcalc.md_protocols.elasticity.result import ElasticConstants
from mlcalc.md_protocols.errors import NotConvergedError
from mlcalc.md_protocols.relaxation.outcome import Relaxation
from mlcalc.md_protocols.relaxation.relax import relax

COMMANDS = {"relax": relax_command, "elastic": elastic_command, "eos": eos_command}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    frames = [bulk("Cu", cubic=True) for _ in range(3)]
    for k, atoms in enumerate(frames):
        atoms.rattle(0.03 * k, seed=k)
    write(tmp_path / "frames.extxyz", frames)
    write(tmp_path / "primitive.extxyz", bulk("Cu"))
    return tmp_path


def run(folder: Path, verb: str, structure: str, *words: str) -> Result:
    return CliRunner().invoke(COMMANDS[verb], [str(folder / structure), "--model", "cu-hvnet", *words])


def copper() -> Atoms:
    atoms = bulk("Cu")
    atoms.calc = MLCalculator("cu-hvnet")
    return relax(atoms, cell=True, fmax=1e-5, smax=1e-6).atoms


def test_frames_are_relaxed_in_one_batch(folder: Path) -> None:
    done = run(folder, "relax", "frames.extxyz", "--index", ":", "--output", str(folder / "out"))
    assert done.exit_code == 0, done.output
    assert "3 of 3 structures converged" in done.output
    frames = read(folder / "out" / "relaxed.extxyz", ":")
    calculator = MLCalculator("cu-hvnet")
    for k, frame in enumerate(frames):
        alone = read(folder / "frames.extxyz", k)
        alone.calc = calculator
        expected = relax(alone)
        assert frame.get_potential_energy() == pytest.approx(expected.energy, abs=1e-9)
        assert np.linalg.norm(frame.get_forces(), axis=1).max() <= 1e-4
        assert Relaxation.load(folder / "out" / f"relax-{k}.npz").steps == expected.steps
    told = json.loads((folder / "out" / "relax.json").read_text())
    assert told["converged"] is True
    assert len(told["structures"]) == 3
    assert (folder / "out" / "relax.png").stat().st_size > 10_000


def test_one_structure_comes_as_a_file_and_json(folder: Path) -> None:
    words = [
        "--cell",
        "full",
        "--pressure-GPa",
        "5",
        "--keep-symmetry",
        "--output",
        str(folder / "one.extxyz"),
        "--json",
    ]
    done = run(folder, "relax", "primitive.extxyz", *words)
    (told,) = json.loads(done.stdout)["structures"]
    assert (done.exit_code, told["pressure_GPa"], told["spacegroups"]) == (0, 5.0, ["Fm-3m (225)"] * 2)
    frame = read(folder / "one.extxyz")
    assert frame.get_stress()[:3] / 0.006241509 == pytest.approx([-5, -5, -5], abs=2e-3)
    assert frame.get_volume() == pytest.approx(told["volume_A3"])


def test_unconverged_is_written_all_the_same_and_exits_with_1(folder: Path) -> None:
    words = ["--steps", "2", "--output", str(folder / "best.xyz")]
    done = run(folder, "relax", "frames.extxyz", *words)
    assert done.exit_code == 1
    assert "Warning: the relaxation ended unconverged after 2 steps" in done.stderr
    assert "NOT converged" in done.stdout
    assert not read(folder / "best.xyz").info["converged"]
    words = ["--index", ":", "--steps", "2", "--output", str(folder / "some")]
    assert run(folder, "relax", "frames.extxyz", *words).exit_code == 1  # one of three is enough
    assert len(read(folder / "some" / "relaxed.extxyz", ":")) == 3


def test_elastic_constants_of_a_structure_relaxed_first(folder: Path) -> None:
    done = run(folder, "elastic", "primitive.extxyz", "--output", str(folder / "el"))
    assert done.exit_code == 0, done.output
    assert done.stderr == ""
    expected = elastic_constants(copper())
    found = ElasticConstants.load(folder / "el" / "elastic.npz")
    np.testing.assert_allclose(found.stiffness, expected.stiffness, atol=0.02)
    assert f"{found.stiffness[0, 0]:.2f}" in done.stdout
    assert json.loads((folder / "el" / "elastic.json").read_text())["stable"] is True
    assert (folder / "el" / "elastic.png").exists()
    assert read(folder / "el" / "structure.extxyz").get_volume() == pytest.approx(expected.atoms.get_volume(), rel=1e-4)
    stressed = run(folder, "elastic", "primitive.extxyz", "--no-relax", "--json")
    assert "Warning: elastic constants: the unstrained structure is under a stress of 3.1" in stressed.stderr
    assert json.loads(stressed.stdout)["stiffness_GPa"][0][0] > found.stiffness[0, 0] + 10


def test_equation_of_state(folder: Path) -> None:
    done = run(folder, "eos", "primitive.extxyz", "--eos", "vinet", "--n-volumes", "7", "--output", str(folder / "eos"))
    assert done.exit_code == 0, done.output
    found = EquationOfState.load(folder / "eos" / "eos.npz")
    assert (found.eos, len(found.volumes)) == ("vinet", 7)
    assert copper().get_volume() == pytest.approx(found.V0, rel=2e-3)
    assert f"B0   {found.B0_GPa:.3f} GPa" in done.stdout
    assert sorted(path.name for path in (folder / "eos").iterdir()) == [
        "crystal.extxyz",
        "eos.json",
        "eos.npz",
        "eos.png",
    ]
    kept = (folder / "eos" / "eos.json").read_bytes()
    again = run(folder, "eos", "primitive.extxyz", "--volume-range", "-0.03", "0.03", "--output", str(folder / "eos"))
    assert again.exit_code == 2
    assert "holds results of an earlier run (crystal.extxyz, eos.json, eos.npz, eos.png)" in again.output
    assert (folder / "eos" / "eos.json").read_bytes() == kept
    (folder / "eos" / "structure.extxyz").touch()
    other = run(folder, "elastic", "primitive.extxyz", "--output", str(folder / "eos"))
    assert "earlier run (crystal.extxyz, structure.extxyz)" in other.output
    narrow = run(folder, "eos", "primitive.extxyz", "--no-relax", "--volume-range", "-0.002", "0.002")
    assert "no minimum within the volumes" in str(narrow.exception)


@pytest.mark.parametrize(
    ("verb", "words", "text"),
    [
        ("relax", ["--output", "primitive.extxyz"], "is an input of this command and would be overwritten"),
        ("relax", [], "Missing option '--output'"),
        ("relax", ["--output", "missing/out.extxyz"], "does not exist: create it first"),
        ("relax", ["--output", "frames.extxyz/out"], "parent folder does not exist|Not a directory|is a file"),
        ("relax", ["--output", "x.extxyz", "--cell", "free"], "Invalid value for '--cell'"),
        ("elastic", ["--output", "frames.extxyz"], "is a file: choose a folder"),
        ("eos", ["--eos", "cubic"], "Invalid value for '--eos'"),
    ],
)
def test_wrong_words_are_refused_before_any_work(
    folder: Path, monkeypatch: pytest.MonkeyPatch, verb: str, words: list[str], text: str
) -> None:
    monkeypatch.chdir(folder)
    done = CliRunner().invoke(COMMANDS[verb], ["primitive.extxyz", "--model", "no-such-model", *words])
    assert done.exit_code == 2, done.output
    assert any(choice in done.stderr for choice in text.split("|")), done.stderr


def test_structure_in_the_output_folder_is_not_overwritten(folder: Path) -> None:
    (folder / "relaxed.extxyz").write_text((folder / "primitive.extxyz").read_text())
    done = run(folder, "relax", "relaxed.extxyz", "--output", str(folder))
    assert done.exit_code == 2
    assert "would be overwritten" in done.stderr


def test_errors_are_those_of_the_library(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = run(folder, "relax", "primitive.extxyz", "--dtype", "float32", "--output", str(folder / "x.extxyz"))
    assert "single precision" in str(done.exception)
    assert not (folder / "x.extxyz").exists()
    best = relax(copper(), fmax=1e-9, steps=0)
    fails = NotConvergedError("the relaxation ended unconverged", results=[best])
    monkeypatch.setattr("mlcalc.cli.relaxing.relax_crystal", lambda *_, **__: (_ for _ in ()).throw(fails))
    done = run(folder, "eos", "primitive.extxyz", "--output", str(folder / "unconverged"))
    assert done.exception is fails
    assert read(folder / "unconverged" / "crystal.extxyz").info["converged"] is False
