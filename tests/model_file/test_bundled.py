"""Bundled models: found by name, each file exactly the one that was released."""

from __future__ import annotations

import hashlib
import json
import runpy
from pathlib import Path

import pytest
from model_bytes import good_file

from mlcalc import bundled
from mlcalc.bundled import bundled_models
from mlcalc.errors import ModelFileError, UnknownModelError
from mlcalc.model_file.model_file import load_model


@pytest.fixture
def release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of two bundled models in place of the package's."""
    folder = tmp_path / "bundled"
    folder.mkdir()
    (folder / "cu-hvnet.safetensors").write_bytes(good_file("hvnet"))
    (folder / "water-visnet.safetensors").write_bytes(good_file("visnet"))
    bundled.write_index(folder)
    monkeypatch.setattr(bundled, "FOLDER", folder)
    monkeypatch.setattr(bundled, "INDEX", folder / "index.json")
    return folder


def test_the_index_is_that_of_the_files() -> None:
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in bundled.FOLDER.glob("*.safetensors")}
    assert json.loads(bundled.INDEX.read_text()) == files, "run `python -m mlcalc.bundled`"


@pytest.mark.parametrize("name", list(bundled_models()))
def test_every_bundled_model_loads_and_says_where_it_comes_from(name: str) -> None:
    path = bundled_models()[name]
    info = load_model(name).info
    assert info.name == name
    assert info.description
    assert info.envelope
    assert info.errors
    assert {"data", "licence", "citation", "seed"} <= set(info.provenance)
    assert path.stat().st_size < 5e6
    assert path.with_suffix(".md").is_file(), "each bundled model has a card"


def test_models_are_found_by_name_and_path(release: Path) -> None:
    assert bundled_models() == {
        "cu-hvnet": release / "cu-hvnet.safetensors",
        "water-visnet": release / "water-visnet.safetensors",
    }
    by_name, by_path = load_model("cu-hvnet"), load_model(release / "cu-hvnet.safetensors")
    assert by_name.info == by_path.info == load_model(str(release / "cu-hvnet.safetensors")).info


def test_a_name_means_the_bundled_model_whatever_lies_in_the_folder(
    release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("cu-hvnet").write_bytes(good_file("visnet"))
    assert load_model("cu-hvnet").info.kind == "hvnet"
    assert load_model("./cu-hvnet").info.kind == "visnet"
    assert load_model(Path("cu-hvnet")).info.kind == "visnet"


@pytest.mark.usefixtures("release")
def test_unknown_names_are_answered_with_the_closest() -> None:
    with pytest.raises(
        UnknownModelError,
        match=r"no model 'cu-hvnt'. Did you mean 'cu-hvnet'\? Bundled models: cu-hvnet, water-visnet; or give the path",
    ):
        load_model("cu-hvnt")
    with pytest.raises(UnknownModelError, match=r"no model 'zzz'. Bundled models: cu-hvnet, water-visnet; or give"):
        load_model("zzz")


def test_an_exchanged_file_is_refused_though_it_is_a_good_model(release: Path) -> None:
    path = release / "cu-hvnet.safetensors"
    path.write_bytes(good_file("visnet"))
    assert load_model(path).info.kind == "visnet"  # as a path it is some model; under the name it is the wrong one
    with pytest.raises(
        ModelFileError, match=r"has sha256 [0-9a-f]{64}, this package was released with .*install mlcalc"
    ):
        load_model("cu-hvnet")


def test_a_damaged_installation_says_so(release: Path) -> None:
    (release / "cu-hvnet.safetensors").unlink()
    with pytest.raises(ModelFileError, match=r"cu-hvnet.safetensors does not exist"):
        load_model("cu-hvnet")
    (release / "index.json").write_text("{")
    with pytest.raises(ModelFileError, match=r"list of bundled models, .*index.json, cannot be read .*install mlcalc"):
        load_model("cu-hvnet")


def test_maintainers_rewrite_the_index_with_one_command(release: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (release / "water-visnet.safetensors").unlink()
    runpy.run_module("mlcalc.bundled", run_name="__main__")
    assert f"1 models in {release / 'index.json'}" in capsys.readouterr().out
    assert list(bundled_models()) == ["cu-hvnet"]
    index = (release / "index.json").read_bytes()
    (release / "bad.safetensors").write_bytes(good_file("hvnet")[:-1])
    with pytest.raises(ModelFileError, match=r"bad.safetensors is truncated"):
        runpy.run_module("mlcalc.bundled", run_name="__main__")
    assert (release / "index.json").read_bytes() == index
