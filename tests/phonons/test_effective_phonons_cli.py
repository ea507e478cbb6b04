"""`mlcalc effective-phonons` from files to files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.build import bulk
from click.testing import CliRunner, Result

from mlcalc.cli.verbs.effective_phonons import effective_phonons_command
from mlcalc.md_protocols.phonons.anharmonic.effective_result import EffectivePhonons

WORDS = ("--model", "cu-hvnet", "--supercell", 2, 2, 2, "--temperature-K", 300, "--npoints", 2, "--n-structures", 12)


def run(*words: Any) -> Result:
    return CliRunner().invoke(effective_phonons_command, [str(word) for word in words])


@pytest.fixture
def copper(tmp_path: Path) -> Path:
    path = tmp_path / "Cu.extxyz"
    bulk("Cu", "fcc", a=3.6363).write(path)
    return path


def test_results_go_to_files_and_the_same_seed_repeats_them(copper: Path, tmp_path: Path) -> None:
    found = run(copper, *WORDS, "--output", tmp_path / "out")
    assert found.exit_code == 0, found.output
    assert "phonons of Cu at 300 K" in found.output
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {f"effective_phonons.{kind}" for kind in ("npz", "json", "png")} | {"crystal.extxyz"}
    result = EffectivePhonons.load(tmp_path / "out/effective_phonons.npz")
    # cu-hvnet is stiffer over thermal displacements than at small ones.
    assert (result.at([0.5, 0, 0.5]) > result.start.at([0.5, 0, 0.5]) + 0.3).all()
    said = run(tmp_path / "out/crystal.extxyz", *WORDS, "--no-relax", "--json")
    told = json.loads(said.stdout)
    again = [row["frequencies_THz"] for row in told["special_points"]]
    stored = [row["frequencies_THz"] for row in result.to_json()["special_points"]]
    np.testing.assert_allclose(again, stored, atol=1e-4)  # the structure file is rounded


def test_bad_words_are_refused(copper: Path, tmp_path: Path) -> None:
    taken = tmp_path / "crystal.extxyz"
    copper.rename(taken)
    for words, text in (
        ((taken, *WORDS, "--output", tmp_path), "would be overwritten"),
        ((taken, *WORDS[:-1], 7), "structures is 7: it must be even"),
        ((taken, *WORDS, "--start", taken), "cannot be read as a phonon_dispersion file"),
    ):
        found = run(*words)
        assert found.exit_code != 0
        assert text in " ".join((found.output + str(found.exception)).split())


def test_single_precision_is_asked_for_twice(copper: Path) -> None:
    refused = run(copper, *WORDS, "--no-relax", "--dtype", "float32")
    assert refused.exit_code != 0
    assert "allow-float32" in (refused.output + str(refused.exception)).replace("_", "-")
    single = run(copper, *WORDS, "--no-relax", "--dtype", "float32", "--allow-float32", "--json")
    double = run(copper, *WORDS, "--no-relax", "--json")
    assert single.exit_code == 0, single.output
    told = [json.loads(found.stdout)["special_points"][0]["frequencies_THz"] for found in (single, double)]
    np.testing.assert_allclose(told[0], told[1], atol=0.03)
