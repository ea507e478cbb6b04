"""The folder that keeps results of a cluster evaluation: whole, of one evaluation only, never overwritten."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from mlcalc.cluster.store import ResultStore
from mlcalc.evaluation import Evaluation
from mlcalc.md_protocols.errors import ConfigError, ResultFileError, SimulationError

ABOUT = {"calculator": {"sha256": "abc", "dtype": "float64"}, "forces": True, "stress": False}


def structures() -> list[Atoms]:
    return [molecule(name) for name in ("H2O", "CH4", "H2", "C2H6")]


def results() -> list[Evaluation]:
    rng = np.random.default_rng(1)
    return [
        Evaluation(energy=rng.normal(), energies=rng.normal(size=n), forces=rng.normal(size=(n, 3)))
        for n in map(len, structures())
    ]


def assert_same_bits(one: Evaluation, other: Evaluation) -> None:
    for field in fields(Evaluation):
        values, reference = getattr(one, field.name), getattr(other, field.name)
        assert type(values) is type(reference)
        np.testing.assert_array_equal(values, reference)


def filled(folder: Path) -> None:
    with ResultStore(folder, structures(), ABOUT) as store:
        store.add({2: results()[2], 0: results()[0]})
        store.add({})
        store.add({3: results()[3]})


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_results_come_back_bit_for_bit_at_their_places(tmp_path: Path) -> None:
    filled(tmp_path / "out")
    with ResultStore(tmp_path / "out", structures(), ABOUT) as store:
        assert sorted(store.results) == [0, 2, 3]
        for place, found in store.results.items():
            assert_same_bits(found, results()[place])
    assert not (tmp_path / "out" / "run.lock").exists()
    with pytest.raises(AssertionError):
        assert_same_bits(results()[0], replace(results()[0], energy=np.nextafter(results()[0].energy, 0)))


@pytest.mark.parametrize(
    "result",
    [
        Evaluation(energy=1.0, forces=np.ones((2, 3)), stress=np.arange(6.0)),
        Evaluation(energy=-0.1),
        Evaluation(dipole=np.arange(3.0)),
        Evaluation(electronic_spatial_extent=1.5),
        Evaluation(vector=np.ones(3)),
        Evaluation(scalar=2.0),
    ],
)
def test_every_quantity_is_kept(tmp_path: Path, result: Evaluation) -> None:
    two = [molecule("H2"), molecule("N2")]
    with ResultStore(tmp_path, two, ABOUT) as store:
        store.add({0: result, 1: result})
    with ResultStore(tmp_path, two, ABOUT) as store:
        assert_same_bits(store.results[0], result)
        assert_same_bits(store.results[1], result)


def moved() -> list[Atoms]:
    changed = structures()
    changed[1].positions[0, 0] += 1e-15
    changed[1].positions[0, 0] = np.nextafter(changed[1].positions[0, 0], 1)
    return changed


def periodic() -> list[Atoms]:
    changed = structures()
    changed[2].pbc = True
    return changed


@pytest.mark.parametrize(
    ("changed", "about", "text"),
    [
        (moved(), ABOUT, "1 of 4 structures differ, first structure 1"),
        (periodic(), ABOUT, "first structure 2"),
        (structures()[::-1], ABOUT, "4 of 4 structures differ"),
        (structures()[:3], ABOUT, "4 structures in the folder, 3 now"),
        (structures(), ABOUT | {"stress": True}, "stress: False in the folder, True now"),
        (structures(), ABOUT | {"calculator": {"sha256": "xyz", "dtype": "float64"}}, "calculator.sha256: 'abc'"),
    ],
)
def test_another_evaluation_is_refused(tmp_path: Path, changed: list[Atoms], about: dict[str, Any], text: str) -> None:
    filled(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(ConfigError, match=text):
        ResultStore(tmp_path, changed, about)
    assert contents(tmp_path) == before


def test_what_a_model_does_not_see_may_change(tmp_path: Path) -> None:
    filled(tmp_path)
    relabeled = structures()
    relabeled[0].info["name"] = "water"
    relabeled[0].set_initial_charges([0.1, 0.0, -0.1])
    with ResultStore(tmp_path, relabeled, ABOUT) as store:
        assert len(store.results) == 3


def test_damaged_and_foreign_files_are_refused(tmp_path: Path) -> None:
    filled(tmp_path / "a")
    path = next((tmp_path / "a").glob("results-*.npz"))
    whole = path.read_bytes()
    for damaged in (whole[:-30], whole[:200] + bytes([whole[200] ^ 1]) + whole[201:], b""):
        path.write_bytes(damaged)
        before = contents(tmp_path / "a")
        with pytest.raises(ResultFileError, match="cannot be read as a cluster results file"):
            ResultStore(tmp_path / "a", structures(), ABOUT)
        assert contents(tmp_path / "a") == before
    path.write_bytes(whole)
    (tmp_path / "a" / "results-000000000-x.npz.tmp").write_bytes(whole[:100])  # of a process that was killed
    with ResultStore(tmp_path / "a", structures(), ABOUT) as store:
        assert len(store.results) == 3
    other = tmp_path / "b"
    with ResultStore(other, structures()[:1], ABOUT):
        (other / path.name).write_bytes(whole)
    with pytest.raises(ResultFileError, match="holds results of another evaluation"):
        ResultStore(other, structures()[:1], ABOUT)
    (tmp_path / "a" / "evaluation.npz").unlink()
    with pytest.raises(ConfigError, match=r"holds results but no evaluation.npz"):
        ResultStore(tmp_path / "a", structures(), ABOUT)


def test_one_process_at_a_time_and_only_in_folders(tmp_path: Path) -> None:
    with ResultStore(tmp_path, structures(), ABOUT), pytest.raises(SimulationError, match="another run is using"):
        ResultStore(tmp_path, structures(), ABOUT)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ConfigError, match="cannot be the output folder"):
        ResultStore(tmp_path / "file", structures(), ABOUT)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_full_disk_keeps_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(tmp_path)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with ResultStore(tmp_path, structures(), ABOUT) as store:
        monkeypatch.setattr("mlcalc.cluster.store.save_arrays", full)
        with pytest.raises(SimulationError, match=r"No space left on device.*make space"):
            store.add({1: results()[1]})
    monkeypatch.undo()
    with ResultStore(tmp_path, structures(), ABOUT) as store:
        assert sorted(store.results) == [0, 2, 3]
