"""`mlcalc import`: what it prints, what it writes, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from checkpoint_files import CUTOFF, PYG_SETTINGS, dgl_hermnet, lightning, visnet, written
from import_cases import SHARED, energy, needs_shared

from mlcalc import import_checkpoint, load_model
from mlcalc.cli import main


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one checkpoint of each family, where the commands run."""
    written(tmp_path / "water.pt", dgl_hermnet())
    written(tmp_path / "water.ckpt", lightning(visnet(), dataset="rMD17"))
    written(tmp_path / "pyg.pt", visnet())
    (tmp_path / "settings.json").write_text(json.dumps(PYG_SETTINGS))
    (tmp_path / "list.json").write_text("[1, 2]")
    (tmp_path / "page.pt").write_text("<html></html>")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_hermnet_checkpoint(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--cutoff", str(CUTOFF), "--energy-shift", "H=-1.5,O=-7.25", "--legacy-mic", "--n-ref", "3"]
    assert main(["import", "water.pt", "water.safetensors", *words]) == 0
    model = load_model("water.safetensors")
    given = {"cutoff": CUTOFF, "energy_shift": {"H": -1.5, "O": -7.25}, "legacy_mic": True, "n_ref": 3}
    expected = import_checkpoint("water.pt", **given)
    assert model.config == expected.config
    assert energy(model) == energy(expected)
    text, errors = capsys.readouterr()
    for line in (
        "recognized: HermNet HVNet, DGL version, state_dict",
        "elements: H, O",
        "cutoff_A: 4",
        "  O: -7.25",
        "  legacy_mic: True",
        "conventions:",
        "caveats:",
        "licence: unknown",
        "wrote water.safetensors",
    ):
        assert line in text.splitlines()
    assert f"source_sha256: {expected.info.provenance['source_sha256']}" in text
    assert all(f"  - {caveat}" in text.splitlines() for caveat in expected.caveats())
    assert not errors


def test_a_lightning_checkpoint_as_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--elements", "H, O", "--units", "kcal/mol", "--max-num-neighbors", "32", "--json"]
    assert main(["import", "water.ckpt", "water.safetensors", *words]) == 0
    summary = json.loads(capsys.readouterr().out)
    model = load_model("water.safetensors")
    assert summary["settings"]["max_num_neighbors"] == model.config.max_num_neighbors == 32
    assert summary["contents_sha256"] == model.info.sha256
    assert summary["source_sha256"] == model.info.provenance["source_sha256"]
    assert summary["elements"] == ["H", "O"]


def test_warnings_are_lines_on_stderr(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", "water.ckpt", "water.safetensors"]) == 0
    errors = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in errors] == ["Warning", "Warning"]
    assert "elements was not given" in errors[0]
    assert "give --units kcal/mol to convert them" in errors[1]


def test_settings_from_a_file_or_in_place(folder: Path) -> None:
    for number, words in enumerate(("settings.json", json.dumps(PYG_SETTINGS))):
        target = f"{number}.safetensors"
        assert main(["import", "pyg.pt", target, "--elements", "H,O", "--settings", words]) == 0
        assert load_model(target).config.lmax == PYG_SETTINGS["lmax"]


def test_elements_by_number(folder: Path) -> None:
    words = ["--cutoff", str(CUTOFF), "--elements", "1, 8", "--energy-shift", "1=-1.5,8=-7.25"]
    assert main(["import", "water.pt", "water.safetensors", *words]) == 0
    assert load_model("water.safetensors").config.energy_shift == (-1.5, -7.25)


def test_an_existing_file_is_only_replaced_by_force(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "there.safetensors").write_text("mine")
    words = ["import", "water.pt", "there.safetensors", "--cutoff", "4", "--energy-shift", "-1.5"]
    assert main(words) == 2
    assert "exists: choose another name, or give --overwrite" in capsys.readouterr().err
    assert (folder / "there.safetensors").read_text() == "mine"
    assert main([*words, "--overwrite"]) == 0
    assert load_model("there.safetensors").config.structure_shift == -1.5


GIVEN = ["--cutoff", "4", "--energy-shift", "0"]
WRONG = {
    "nothing given": (["water.pt", "a.safetensors"], 1, r"Give also: cutoff (Å"),
    "no settings": (["pyg.pt", "a.safetensors"], 1, "lmax (1 or 2); num_heads"),
    "no such file": (["none.pt", "a.safetensors"], 1, "none.pt does not exist: check the path"),
    "a web page": (["page.pt", "a.safetensors"], 1, "a web page (HTML)"),
    "no such unit": (["water.pt", "a.safetensors", *GIVEN, "--units", "K"], 1, "units is 'K': for energy choose"),
    "no such element": (["water.pt", "a.safetensors", *GIVEN, "--elements", "H,Xx"], 1, "'Xx' is not an element"),
    "another ending": (["water.pt", "a.pt", *GIVEN], 2, "use .safetensors"),
    "no such folder": (["water.pt", "no/a.safetensors", *GIVEN], 2, "'no' does not exist: create it first"),
    "no number": (["water.pt", "a.safetensors", "--cutoff", "five"], 2, "'five' is not a valid float"),
    "no shift": (["water.pt", "a.safetensors", "--energy-shift", "H=x"], 2, "neither a number nor of the form"),
    "a shift twice": (
        ["water.pt", "a.safetensors", "--energy-shift", "H=1,O=0,H=2"],
        2,
        "--energy-shift: 'H=1,O=0,H=2' names H twice",
    ),
    "a shift by number, twice": (["water.pt", "a.safetensors", "--energy-shift", "1=1,01=2"], 2, "names 1 twice"),
    "a shift by both names": (
        ["water.pt", "a.safetensors", *GIVEN[:2], "--energy-shift", "H=1,8=0,1=2"],
        1,
        "energy_shift names H twice",
    ),
    "a shift of no element": (
        ["water.pt", "a.safetensors", *GIVEN[:2], "--energy-shift", "H=1,Xx=0"],
        1,
        "energy_shift is ['Xx'] ('Xx' is not an element",
    ),
    "a shift of no number": (
        ["water.pt", "a.safetensors", *GIVEN[:2], "--energy-shift", "H=1,800=0"],
        1,
        "energy_shift is [800] (800 is not an element",
    ),
    "no such number": (["water.pt", "a.safetensors", *GIVEN, "--elements", "1,800"], 1, "elements is (1, 800)"),
    "no JSON": (["pyg.pt", "a.safetensors", "--settings", "{lmax: 2}"], 2, "--settings: not JSON"),
    "no JSON object": (["pyg.pt", "a.safetensors", "--settings", "list.json"], 2, "--settings: not a JSON object"),
    "no such settings": (
        ["pyg.pt", "a.safetensors", "--settings", "none.json"],
        2,
        "--settings: File 'none.json' does",
    ),
    "a setting twice": (
        ["pyg.pt", "a.safetensors", "--settings", '{"lmax": 1, "lmax": 2}'],
        2,
        "--settings: not JSON with one value for each name (repeated name 'lmax')",
    ),
    "one name": (["water.pt"], 2, "Missing argument"),
}


@pytest.mark.parametrize("name", WRONG)
def test_errors_are_one_line_and_write_nothing(folder: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    words, code, text = WRONG[name]
    before = sorted(path.name for path in folder.iterdir())
    assert main(["import", *words]) == code
    out, errors = capsys.readouterr()
    told = [line for line in errors.splitlines() if line.startswith("Error: ")]
    assert len(told) == 1
    assert text in told[0]
    assert "Traceback" not in errors
    assert not out
    assert sorted(path.name for path in folder.iterdir()) == before


def test_help_names_every_argument_of_the_function(capsys: pytest.CaptureFixture[str]) -> None:
    import inspect

    assert main(["import", "--help"]) == 0
    text = capsys.readouterr().out
    for name in inspect.signature(import_checkpoint).parameters:
        assert name == "path" or f"--{name.replace('_', '-')}" in text


@needs_shared
def test_the_published_copper_weights(folder: Path) -> None:
    source = SHARED / "data/hvnet_pretrained/Cu.pt"
    assert main(["import", str(source), "cu.safetensors", "--cutoff", "5.0", "--energy-shift", "0"]) == 0
    model = load_model("cu.safetensors")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert model.config.num_rbf == 30
