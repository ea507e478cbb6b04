"""Files that exist are not replaced unawares, and are when that is asked for; what did not converge exits with 1."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.io import read, write
from click.testing import CliRunner
from command_inputs import make_folder

from mlcalc.cli import commands, main
from mlcalc.cli.commands import Running
from mlcalc.cli.outputs import ResultFolder
from mlcalc.cli.relaxing import relaxed_first
from mlcalc.cli.verbs import VERBS


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("outputs"))


def words_for(folder: Path, verb: str, output: Path) -> list[str]:
    """The verb on an ordinary input, with everything that it requires."""
    copper, model = str(folder / "copper.xyz"), str(folder / "copper.safetensors")
    cells = ["--supercell", "2", "2", "2"]
    more = {
        "rdf": [copper, "--output", str(output / "g.csv")],
        "relax": [copper, "--output", str(output)],
        "eos": [copper],
        "elastic": [copper],
        "vacancy": [copper, *cells],
        "surface": [copper],
        "phonons": [copper, *cells],
        "effective-phonons": [copper, *cells, "--temperature-K", "300"],
        "qha": [copper, *cells],
        "conductivity": [copper, *cells, "--mesh", "3", "3", "3"],
        "eval": [model, str(folder / "labeled.xyz"), "--save", str(output / "e.npz")],
        "import": [str(folder / "text.xyz"), str(output / "m.safetensors")],
    }[verb]
    model_words = [] if verb in ("rdf", "eval", "import") else ["--model", model]
    output_words = [] if verb in ("rdf", "relax", "eval", "import") else ["--output", str(output)]
    return [verb, *more, *model_words, *output_words]


EARLIER = {
    "rdf": "g.csv",
    "relax": "relaxed.extxyz",
    "eos": "eos.json",
    "elastic": "elastic.npz",
    "vacancy": "migration.png",
    "surface": "surface_1_1_1.npz",
    "phonons": "FORCE_SETS",
    "effective-phonons": "effective_phonons.npz",
    "qha": "grueneisen.png",
    "conductivity": "crystal.extxyz",
    "eval": "e.npz",
    "import": "m.safetensors",
}


@pytest.mark.parametrize("verb", EARLIER)
def test_what_exists_is_refused_before_any_work(
    folder: Path, tmp_path: Path, verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / EARLIER[verb]).write_text("earlier")
    for work in ("mlcalc.calculator.MLCalculator.__init__", "mlcalc.model_file.model_file.load_model"):
        monkeypatch.setattr(work, lambda *_, **__: pytest.fail("loaded"))
    assert main(words_for(folder, verb, tmp_path)) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "give --overwrite" in told
    assert EARLIER[verb] in told
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(EARLIER[verb], "earlier")]


def test_every_verb_with_results_takes_overwrite_and_runs_do_not() -> None:
    context = commands.make_context("mlcalc", [], resilient_parsing=True)
    having = {name for name in VERBS if "overwrite" in {p.name for p in commands.get_command(context, name).params}}
    assert having == {*EARLIER, "sample"}  # which writes one structure


def test_overwriting_removes_the_files_of_the_earlier_run_once_there_are_new_ones(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("relax-0.npz", "relax.json", "notes.txt"):
        (tmp_path / name).write_text("earlier")
    words = [*words_for(folder, "relax", tmp_path), "--steps", "0", "--overwrite"]
    assert main([*words, "--index", "7"]) == 1  # fails: all is left as it was
    assert {path.name for path in tmp_path.iterdir()} == {"relax-0.npz", "relax.json", "notes.txt"}
    main(words)
    assert {path.name for path in tmp_path.iterdir()} == {
        *("notes.txt", "relaxed.extxyz", "relax.json", "relax.npz", "relax.png"),
    }
    capsys.readouterr()
    assert main(["relax", str(tmp_path / "relaxed.extxyz"), *words[2:]]) == 2
    assert "would be overwritten" in " ".join(capsys.readouterr().err.split())


def test_rdf_in_json_and_over_a_file(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["rdf", str(folder / "copper.xyz"), "--r-max", "4", "--bins", "20", "--output", str(tmp_path / "g.csv")]
    assert main([*words, "--json"]) == 0
    told = capsys.readouterr()
    values = json.loads(told.out)
    assert "wrote" in told.err
    rows = np.loadtxt(tmp_path / "g.csv", delimiter=",", skiprows=1)
    np.testing.assert_allclose(values["g"], rows[:, 1], rtol=1e-6)
    assert main(words) == 2
    assert main([*words, "--overwrite"]) == 0
    assert "RadialDistribution" in capsys.readouterr().out


def test_relaxations_that_do_not_converge_exit_with_1_and_say_so_in_json(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--supercell", "2", "2", "2", "--no-relax", "--steps", "0", "--output", str(tmp_path / "v"), "--json"]
    assert main(["vacancy", str(folder / "copper.xyz"), "--model", str(folder / "copper.safetensors"), *words]) == 1
    assert json.loads(capsys.readouterr().out)["converged"] is False
    assert json.loads((tmp_path / "v" / "vacancy.json").read_text())["converged"] is False
    assert len(read(tmp_path / "v" / "vacancies.extxyz")) == 31


def relaxed(atoms: Atoms, results: ResultFolder, **settings: Any) -> Atoms:
    atoms.calc = EMT()
    return relaxed_first(atoms, "a test", results, **({"wanted": True, "as_json": False} | settings))


def test_the_crystal_is_relaxed_first_and_the_change_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = bulk("Cu", a=3.5, cubic=True)
    found = relaxed(start, ResultFolder(tmp_path))
    told = capsys.readouterr()
    a = found.cell.lengths()[0]
    assert a == pytest.approx(3.589, abs=2e-3)  # EMT's copper
    assert np.abs(found.get_forces()).max() < 1e-4
    assert np.abs(found.get_stress()).max() < 1e-6
    assert f"relaxed first: a, b, c are {a:.4f}, {a:.4f}, {a:.4f} Å, changed by {100 * (a / 3.5 - 1):+.2f}" in told.out
    assert (told.err, len(told.out.splitlines())) == ("", 1)
    assert read(tmp_path / "crystal.extxyz").cell.lengths()[0] == pytest.approx(a, abs=1e-6)
    assert start.cell.lengths()[0] == 3.5
    relaxed(start, ResultFolder(None), as_json=True)
    assert capsys.readouterr().err.startswith("relaxed first: ")
    assert relaxed(start, ResultFolder(None), wanted=False) is start


def test_a_layer_is_relaxed_in_its_plane_and_a_wire_not_at_all(capsys: pytest.CaptureFixture[str]) -> None:
    layer = bulk("Cu", a=3.5, cubic=True)
    layer.center(vacuum=8.0, axis=2)
    found = relaxed(layer, ResultFolder(None))
    assert found.cell[2, 2] == layer.cell[2, 2]
    assert found.cell.lengths()[0] != pytest.approx(3.5, abs=1e-3)
    assert "relaxed first: a, b are " in capsys.readouterr().out
    wire = layer.copy()
    wire.center(vacuum=8.0, axis=1)
    assert (relaxed(wire, ResultFolder(None)).cell.array == wire.cell.array).all()
    assert "positions only" in capsys.readouterr().out


def test_single_precision_has_the_looser_target(folder: Path, tmp_path: Path) -> None:
    atoms = bulk("Cu", a=3.5, cubic=True)
    asked = []

    class Single(EMT):
        dtype = "float32"

    def relax(*_: Any, fmax: float, **__: Any) -> Any:
        asked.append(fmax)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mlcalc.cli.relaxing.relax_crystal", relax)
        for calculator in (Single(), EMT()):
            atoms.calc = calculator
            with pytest.raises(KeyboardInterrupt):
                relaxed_first(atoms, "a test", ResultFolder(None), wanted=True, as_json=False)
    assert asked == [1e-3, 1e-4]


def test_warnings_are_lines_in_the_words_of_the_verb(folder: Path, tmp_path: Path) -> None:
    moments = bulk("Cu", cubic=True)
    moments.set_initial_magnetic_moments([1.0] * 4)
    write(tmp_path / "Cu.traj", moments)
    words = [str(tmp_path / "Cu.traj"), "--model", str(folder / "copper.safetensors"), "--supercell", "1", "1", "1"]
    command = commands.get_command(commands.make_context("mlcalc", [], resilient_parsing=True), "phonons")
    running = Running()
    done = CliRunner().invoke(command, [*words, "--thermal", "0", "10", "5", "--no-relax"], obj=running)
    assert "Warning: " in done.stderr
    assert "initial magnetic moments are left out" in done.stderr
    assert running.context is not None
    assert running.context.command is command
