"""Shards and stores of labels for organic-visnet: nothing lost, nothing doubled, nothing half written."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from organic_shards import SETTINGS, make, random_shard

from training.organic import filling
from training.organic.errors import OrganicError
from training.organic.frames import Frames, join, max_by_frame, sum_by_frame
from training.organic.shards import (
    SPLITS,
    join_shards,
    open_store,
    read_shard,
    schedule,
    shard_path,
    shards_of,
    write_shard,
)
from training.organic.statistics import summary

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With 4 shards of training and one of each other split."""
    monkeypatch.setattr(filling, "report", lambda line: None)
    assert filling.fill(tmp_path, 50, make) == 54
    return tmp_path


def test_frames_are_slices_of_flat_arrays() -> None:
    frames = random_shard("train", 0).frames
    assert sum(len(numbers) for numbers, _ in frames) == len(frames.numbers)
    again = join(frames)
    np.testing.assert_array_equal(again.positions, frames.positions)
    np.testing.assert_array_equal(again.first_atom, frames.first_atom)
    values = np.random.default_rng(0).normal(size=len(frames.numbers))
    slow = [[values[frames.atoms_of(k)].sum(), values[frames.atoms_of(k)].max()] for k in range(len(frames))]
    np.testing.assert_allclose(np.array([sum_by_frame(frames, values), max_by_frame(frames, values)]).T, slow)


@pytest.mark.parametrize("first", [[0, 2], [1, 5], [0, 3, 3, 5], []])
def test_offsets_that_do_not_fit_are_refused(first: list[int]) -> None:
    with pytest.raises(OrganicError, match="first_atom must rise from 0 to the 5 atoms"):
        Frames(np.ones(5, dtype=np.int64), np.zeros((5, 3)), np.array(first, dtype=np.int64))


def test_shards_come_back_as_they_were_written(tmp_path: Path) -> None:
    shard = random_shard("train", 3)
    path = shard_path(tmp_path, "train", 3)
    write_shard(path, shard, SETTINGS)
    found, manifest = read_shard(path)
    for name, array in shard.arrays().items():
        np.testing.assert_array_equal(found.arrays()[name], array)
    assert (found.molecules, manifest["shifts"]) == (shard.molecules, SETTINGS["shifts"])


@pytest.mark.parametrize("name", ["energy", "forces", "forces_std", "molecule", "kind"])
def test_arrays_of_wrong_length_are_refused(tmp_path: Path, name: str) -> None:
    shard = random_shard("train", 3)
    path = shard_path(tmp_path, "train", 3)
    write_shard(path, replace(shard, **{name: getattr(shard, name)[:-1]}), SETTINGS)
    with pytest.raises(OrganicError, match=f"{name} has shape"):
        read_shard(path)


def test_damaged_shards_are_refused(tmp_path: Path) -> None:
    path = shard_path(tmp_path, "train", 0)
    write_shard(path, random_shard("train", 0), SETTINGS)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(OrganicError, match="not a whole shard"):
        read_shard(path)
    path.write_bytes(content)
    manifest = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps(manifest | {"molecules": manifest["molecules"][:1]}))
    with pytest.raises(OrganicError, match="1 are listed"):
        read_shard(path)


def test_other_splits_come_early_and_at_a_steady_rate() -> None:
    order = list(islice(schedule(), 12 * 20))
    assert order[:4] == [("train", 0), ("validation", 0), ("test", 0), ("train", 1)]
    for split, expected in zip(SPLITS, (200, 20, 20), strict=True):
        assert [number for name, number in order if name == split] == list(range(expected))


def test_a_store_holds_every_frame_once(folder: Path) -> None:
    paths = shards_of(folder, "train")
    count = join_shards(paths, folder / "store")
    arrays, manifest = open_store(folder / "store")
    expected = [(path, shard, k) for path in paths for shard in [read_shard(path)[0]] for k in range(len(shard.frames))]
    assert count == len(arrays["energy"]) == len(expected) == 36
    for frame, (path, shard, k) in enumerate(expected):
        atoms = slice(*arrays["first_atom"][frame : frame + 2])
        numbers, positions = shard.frames[k]
        np.testing.assert_array_equal(arrays["numbers"][atoms], numbers)
        np.testing.assert_array_equal(arrays["positions"][atoms], positions.astype(np.float32))
        np.testing.assert_array_equal(arrays["forces"][atoms], -positions.astype(np.float32))
        assert arrays["energy"][frame] == shard.energy[k]
        smiles = manifest["molecules"][arrays["molecule"][frame]]["smiles"]
        assert smiles == shard.molecules[shard.molecule[k]]["smiles"]
        assert smiles.startswith(f"train{int(path.stem[-5:])}.")


def test_shards_of_other_teachers_do_not_join(folder: Path) -> None:
    path = shard_path(folder, "train", 9)
    write_shard(path, random_shard("train", 9), {"shifts": {"H": -13.7}})
    with pytest.raises(OrganicError, match="different shifts"):
        join_shards(shards_of(folder, "train"), folder / "store")


def test_the_reader_of_the_readme_reads_a_store(folder: Path) -> None:
    join_shards(shards_of(folder, "train"), folder / "train")
    (program,) = re.findall(r"```python\n(.*?)```", (ROOT / "training/organic/README.md").read_text(), re.DOTALL)
    assert len(program.splitlines()) <= 20
    names: dict[str, object] = {"folder": folder}
    exec(program, names)  # noqa: S102 - our own documentation
    read = names["frames"]
    shard, _ = read_shard(shards_of(folder, "train")[0])
    atoms, energy, forces = read[4]  # type: ignore[index]
    np.testing.assert_array_equal(atoms.positions, shard.frames[4][1])
    np.testing.assert_allclose(forces, -atoms.positions)
    shift = sum(SETTINGS["shifts"][symbol] for symbol in atoms.symbols)
    assert energy == pytest.approx(shard.energy[4] - shift, abs=1e-9)


def test_the_summary_counts(folder: Path) -> None:
    lines = list(summary(shards_of(folder, "train")))
    shards = [read_shard(path)[0] for path in shards_of(folder, "train")]
    atoms = sum(len(shard.frames.numbers) for shard in shards)
    assert lines[0] == f"36 frames, {atoms} atoms, 3 molecules, 4 shards"
    rms = np.sqrt(np.mean(np.concatenate([shard.forces for shard in shards]) ** 2))
    assert re.fullmatch(rf"all +36 +{rms:.2f} .*", lines[-1])


def test_what_is_there_is_not_made_again(folder: Path) -> None:
    def never(split: str, number: int) -> None:
        raise AssertionError(f"{split} {number} was made again")

    assert filling.fill(folder, 54, never) == 54  # type: ignore[arg-type]
    with pytest.raises(AssertionError, match="train 4 was made again"):
        filling.fill(folder, 55, never)  # type: ignore[arg-type]


def _killed(root: Path, how: str) -> list[int]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    command = [sys.executable, str(ROOT / "tests/helpers/organic_shards.py"), str(root), how]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [int(kills) for kills in json.loads(done.stdout)]


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".npz", ".json")}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_runs_end_with_the_same_files(tmp_path: Path) -> None:
    kills = _killed(tmp_path, "carefully")
    assert min(kills) >= 1
    whole = _contents(tmp_path / "whole")
    assert len(whole) == 2 * 7
    for k in range(len(kills)):
        assert _contents(tmp_path / f"killed-{k}") == whole


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_files_written_in_place_are_caught(tmp_path: Path) -> None:
    """The broken twin: a kill between two parts leaves a shard that is not whole, or one that cannot be counted."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    command = [sys.executable, str(ROOT / "tests/helpers/organic_shards.py"), str(tmp_path), "careless"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    whole = _contents(tmp_path / "whole")
    same = [_contents(path) == whole for path in tmp_path.glob("killed-*")]
    assert done.returncode != 0 or not all(same)
