"""The command line: what is wrong is told in one line with cause and remedy, with the right exit code."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from command_inputs import make_folder
from keywords import names_a_keyword

from mlcalc.cli import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("cli"))


WRONG: list[tuple[str, Sequence[str], int, str]] = [
    # usage: exit code 2
    ("no verb of this name", ["frobnicate"], 2, "No such command 'frobnicate'"),
    ("no such file", ["md", "missing.xyz", "--model", "m", "--steps", "1", "--output", "o"], 2, "does not exist"),
    ("a missing option", ["md", "copper.xyz"], 2, "Missing option"),
    ("no such ensemble", ["md", "copper.xyz", "--ensemble", "npz"], 2, "'npz' is not one of 'nve'"),
    ("a word for a number", ["md", "copper.xyz", "--steps", "many"], 2, "'many' is not a valid integer"),
    ("not NAME=VALUE", ["train", "copper.xyz", "--output", "o", "--set", "epochs"], 2, "of the form TABLE.NAME=VALUE"),
    ("a picture of unknown format", ["rdf", "copper.xyz", "--output", "g.bmp"], 2, "use .png"),
    # everything else: exit code 1, one line with cause and remedy
    ("no such model", ["eval", "cu-hvnett", "labeled.xyz"], 1, "no model 'cu-hvnett'.*or give the path of a"),
    ("not a model file", ["models", "copper.xyz"], 1, "copper.xyz"),
    ("a model for other elements", ["eval", "organic.safetensors", "labeled.xyz"], 1, "does not know Cu.*[Cc]hoose"),
    ("no labels", ["eval", "copper.safetensors", "copper.xyz"], 1, "frame 0 has no 'energy'.*name the key"),
    ("labels of another name", ["eval", "copper.safetensors", "labeled.xyz", "--energy-key", "E"], 1, "has no 'E'"),
    ("no stress there", ["eval", "copper.safetensors", "labeled.xyz", "--stress-key", "virial"], 1, "has no 'virial'"),
    ("a device that is not there", ["eval", "copper.safetensors", "labeled.xyz", "--device", "gpu"], 1, "this machine"),
    ("no structure in the file", ["rdf", "text.xyz"], 1, "ASE cannot read it.*check that the file"),
    ("no such frame", ["rdf", "copper.xyz", "--index", "7"], 1, "has no frame 7"),
    ("no such frame from the end", ["rdf", "labeled.xyz", "--index", "-13"], 1, "has no frame -13, only 12"),
    ("a step of zero", ["rdf", "labeled.xyz", "--index", "::0"], 1, "'::0' is neither a frame nor a slice"),
    ("not an index", ["rdf", "labeled.xyz", "--index", "last"], 1, "'last' is neither a frame nor a slice"),
    ("no frames selected", ["rdf", "labeled.xyz", "--index", "50:"], 1, "'50:' selects no frames"),
    ("g(r) of a molecule", ["rdf", "ethanol.xyz", "--kind", "rdf"], 1, "needs a density"),
    ("a pair that is not there", ["rdf", "copper.xyz", "--pair", "O", "H"], 1, "choose elements of the structure"),
    ("a negative distance", ["rdf", "copper.xyz", "--r-max", "-1"], 1, "--r-max is -1.0: it must be"),
    ("a folder without a run", ["rdf", "."], 1, "not the output folder of a run"),
    ("not TOML", ["train", "copper.xyz", "--output", "o"], 1, "not valid TOML"),
]
EVAL = ["eval", "copper.safetensors", "labeled.xyz"]
WRONG += [
    ("labels overwritten", [*EVAL, "--save", "labeled.xyz"], 2, "is an input of this command"),
    ("labels overwritten by another name", [*EVAL, "--plot", "./labeled.xyz"], 2, "is an input of this command"),
    ("the model overwritten", [*EVAL, "--save", "copper.safetensors"], 2, "is an input of this command"),
    ("labels saved as text", [*EVAL, "--save", "labels.txt"], 2, "use .npz"),
    ("a plot of unknown format", [*EVAL, "--plot", "plot.xyz"], 2, "use .png, .pdf or .svg"),
    ("a plot in no folder", [*EVAL, "--plot", "plots/parity.png"], 2, "'plots' does not exist: create it"),
    ("distances in no folder", ["rdf", "copper.xyz", "--output", "plots/g.png"], 2, "'plots' does not exist: create"),
    ("frames overwritten", ["rdf", "copper.xyz", "--output", "copper.xyz"], 2, "is an input of this command"),
]
RUN = ["md", "copper.xyz", "--model", "copper.safetensors", "--output", "o", "--steps", "5"]
HOT = [*RUN, "--temperature-K", "300"]
WRONG += [
    ("no temperature", RUN, 1, "needs a temperature: give --temperature-K"),
    ("negative temperature", [*RUN, "--temperature-K", "-3"], 1, "--temperature-K is -3.0: it must be"),
    ("a time step in other units", [*HOT, "--timestep-fs", "49"], 1, "49.*give --allow-large-timestep"),
    ("a thermostat faster than the steps", [*HOT, "--tau-fs", "0.1"], 1, "--tau-fs is 0.1|tau_fs"),
    ("a cell repeated zero times", [*HOT, "--supercell", "0", "1", "1"], 1, "each number must be at least 1"),
    ("another frame from the end", [*HOT, "--index", "-9"], 1, "has no frame -9, only 1"),
    ("a file for a folder", [*RUN[:4], "--output", "copper.xyz/o", *HOT[6:]], 1, "copper.xyz is a file; give the path"),
    ("atoms too close for the limit", [*HOT, "--min-distance", "3"], 1, "closer than 3 Å"),
    ("another frame", [*HOT, "--index", "4"], 1, "has no frame 4"),
    ("a molecule repeated", ["md", "ethanol.xyz", *HOT[2:], "--supercell", "2", "1", "1"], 1, "no cell vector along a"),
    ("atoms the model does not know", ["md", "ethanol.xyz", *HOT[2:]], 1, "does not know.*[cC]hoose a model"),
]


@pytest.fixture
def here(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory of its own with the files of the folder."""
    for file in folder.iterdir():
        (tmp_path / file.name).symlink_to(file)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [pytest.param(*case[1:], id=case[0]) for case in WRONG],
)
def test_what_is_wrong_is_told_in_one_line(
    here: Path, capsys: pytest.CaptureFixture[str], words: Sequence[str], code: int, text: str
) -> None:
    before = set(here.iterdir())
    assert main(words) == code
    told = capsys.readouterr()
    assert re.search(text, told.err, re.DOTALL), told.err
    assert "Traceback" not in told.err
    assert not told.out
    if code == 1:
        (line,) = told.err.splitlines()
        assert line.startswith("Error: ")
        assert "ASE cannot read" in line or not names_a_keyword(line), line
    assert all(path.is_dir() and not any(path.iterdir()) for path in set(here.iterdir()) - before)


COPPER = ["copper.xyz", "--model", "copper.safetensors", "--no-relax"]
CELLS = ["--supercell", "2", "2", "2"]
REMEDIES = [
    ("eos", [*COPPER, "--clamped", "--relax-shape"], r"leave --(clamped|relax-shape) out"),
    ("eos", [*COPPER, "--dtype", "float32"], r"give --(allow-float32|dtype float64)"),
    ("elastic", [*COPPER, "--dtype", "float32"], r"give --(allow-float32|dtype float64)"),
    ("phonons", [*COPPER, *CELLS, "--dtype", "float32"], r"give --(allow-float32|dtype float64)"),
    ("effective-phonons", [*COPPER, *CELLS, "--temperature-K", "300", "--n-structures", "7"], r"--n-structures is 7"),
    ("vacancy", [*COPPER, *CELLS, "--migration", "--hop", "9"], r"--hop is 9"),
    ("surface", [*COPPER, "--termination", "9"], r"--termination is 9|give --termination"),
    ("eos", ["ethanol.xyz", "--model", "organic.safetensors"], r'make the file say so \(extended XYZ: pbc="T T T"\)'),
    ("relax", [*COPPER[:3], "--dtype", "float32", "--output", "r.xyz"], r"give --(dtype float64|fmax \S+)"),
]


@pytest.mark.parametrize(("verb", "words", "text"), REMEDIES, ids=[f"{k} {case[0]}" for k, case in enumerate(REMEDIES)])
def test_remedies_are_options_of_the_verb(
    here: Path, capsys: pytest.CaptureFixture[str], verb: str, words: Sequence[str], text: str
) -> None:
    assert main([verb, *words]) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert re.search(text, line), line
    remedies = re.split(r"[:;] (?=give|leave|make|take|choose)", line)[-1]
    assert not names_a_keyword(remedies), line


def test_the_same_commands_without_the_mistake_work(here: Path) -> None:
    assert main([*HOT, "--no-plot"]) == 0
    assert main(["eval", "copper.safetensors", "labeled.xyz"]) == 0
    assert main(["rdf", "copper.xyz"]) == 0


def test_debug_shows_the_traceback(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--debug", "models", "nothing"], ["models", "nothing", "--debug"]):
        assert main(words) == 1
        told = capsys.readouterr().err
        assert "Traceback" in told
        assert "UnknownModelError" in told
