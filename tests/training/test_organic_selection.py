"""Committees choose what they disagree on, and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from organic_shards import SETTINGS, random_shard
from small_networks import random_network

from mlcalc import evaluate, load_model, save_model
from training.organic.__main__ import main
from training.organic.candidates import Candidates, read_candidates, write_candidates
from training.organic.errors import OrganicError
from training.organic.frames import Frames, join
from training.organic.selection import committee, disagreement, explored, most_disputed, student
from training.organic.shards import shard_path, write_shard

MODEL = {"cutoff": 4.0, "hidden_channels": 16, "num_layers": 2, "num_heads": 2, "num_rbf": 8, "lmax": 1}
ELEMENTS = {"elements": ("H", "C", "O"), "energy_shift": (-13.6, -1029.5, -2041.3)}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three small networks that differ."""
    folder = tmp_path_factory.mktemp("models")
    paths = [folder / f"student-{seed}.safetensors" for seed in range(3)]
    for seed, path in enumerate(paths):
        save_model(random_network("visnet", MODEL | ELEMENTS, seed=seed), path)
    return paths


@pytest.fixture(scope="module")
def candidates() -> Candidates:
    """Forty molecules, each displaced at random from nothing to much: three atoms or four."""
    rng = np.random.default_rng(5)
    water = (np.array([8, 1, 1]), np.array([[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]))
    formaldehyde = (np.array([8, 6, 1, 1]), np.array([[0, 0, 1.2], [0, 0, 0], [0, 0.94, -0.59], [0, -0.94, -0.59]]))
    geometries = []
    for k in range(40):
        numbers, positions = (water, formaldehyde)[k % 2]
        geometries.append((numbers, positions + rng.normal(0, 0.002 * k, positions.shape)))
    listed = [{"smiles": smiles, "keys": [], "split": "train", "family": "small"} for smiles in ("O", "C=O")]
    return Candidates(join(geometries), np.arange(40) % 2, listed)


def test_disagreement_is_the_largest_deviation_of_any_atom() -> None:
    frames = random_shard("train", 0).frames
    forces = np.random.default_rng(1).normal(size=(4, len(frames.numbers), 3))
    slow = []
    for k in range(len(frames)):
        of_atoms = []
        for atom in range(len(frames.numbers))[frames.atoms_of(k)]:
            mean = sum(forces[m, atom] for m in range(4)) / 4
            of_atoms.append(np.sqrt(sum(np.sum((forces[m, atom] - mean) ** 2) for m in range(4)) / 4))
        slow.append(max(of_atoms))
    np.testing.assert_allclose(disagreement(frames, forces), slow)
    assert not np.allclose(disagreement(frames, forces[:3]), slow)  # the fourth member has a say


@pytest.mark.parametrize("shape", [(1, 5, 3), (5, 3)])
def test_one_model_is_no_committee(shape: tuple[int, ...]) -> None:
    frames = Frames(np.ones(5, dtype=np.int64), np.zeros((5, 3)), np.array([0, 5]))
    with pytest.raises(OrganicError, match="two or more"):
        disagreement(frames, np.zeros(shape))


def test_the_most_disputed_come_first_and_few_of_each_molecule() -> None:
    scores = np.array([0.5, 3.0, np.nan, 0.9, 9.0, 0.8, 0.05, 0.7])
    molecule = np.array([0, 1, 1, 0, 2, 0, 3, 3])
    chosen = most_disputed(scores, molecule, 10, per_molecule=2, lowest=0.1, highest=5.0)
    np.testing.assert_array_equal(chosen, [1, 3, 5, 7])
    np.testing.assert_array_equal(most_disputed(scores, molecule, 2, per_molecule=1, highest=5.0), [1, 3])
    assert len(most_disputed(scores, molecule, 10, per_molecule=9, lowest=20.0)) == 0


def test_students_give_what_evaluate_gives(models: list[Path], candidates: Candidates) -> None:
    energies, forces = student(models[0], "float64", "torch")(candidates.frames)
    structures = [Atoms(numbers, positions) for numbers, positions in candidates.frames]
    expected = evaluate(load_model(models[0]), structures, kernels="torch")
    np.testing.assert_allclose(energies, [e.energy for e in expected], rtol=0, atol=1e-9)
    np.testing.assert_allclose(forces, np.concatenate([e.forces for e in expected]), rtol=0, atol=1e-9)


def test_the_command_chooses_by_the_committee(models: list[Path], candidates: Candidates, tmp_path: Path) -> None:
    write_candidates(tmp_path / "candidates.npz", candidates)
    command = ["--folder", str(tmp_path), "select", str(tmp_path / "candidates.npz"), str(tmp_path / "chosen.npz")]
    limits = ["--count", "6", "--per-molecule", "4", "--lowest", "0", "--highest", "1000", "--kernels", "torch"]
    assert main([*command, *limits, "--models", *map(str, models)]) == 0
    chosen = read_candidates(tmp_path / "chosen.npz")
    scores = committee(
        [student(path, kernels="torch") for path in models], read_candidates(tmp_path / "candidates.npz").frames
    )
    best = most_disputed(scores, candidates.molecule, 6, per_molecule=4)
    assert len(chosen.frames) == 6
    np.testing.assert_array_equal(chosen.molecule, candidates.molecule[best])
    np.testing.assert_allclose(chosen.frames.positions, candidates.frames.choose(best).positions, atol=1e-6)
    assert chosen.molecules == candidates.molecules
    assert scores[best].min() > np.median(scores)


def test_models_that_agree_choose_nothing(
    models: list[Path], candidates: Candidates, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The broken committee: the same model twice."""
    write_candidates(tmp_path / "candidates.npz", candidates)
    command = ["--folder", str(tmp_path), "select", str(tmp_path / "candidates.npz"), str(tmp_path / "chosen.npz")]
    assert main([*command, "--kernels", "torch", "--models", str(models[0]), str(models[0])]) == 1
    assert "none of 40 frames is disputed" in capsys.readouterr().err
    assert not (tmp_path / "chosen.npz").exists()


def test_exploration_moves_on_from_the_starts(models: list[Path], candidates: Candidates) -> None:
    starts = candidates.choose(np.array([0, 1, 3]))
    found = explored(student(models[0], kernels="torch"), starts, [300.0], samples=3, seed=1, spacing=8)
    assert len(found.frames) == 9
    np.testing.assert_array_equal(found.molecule, [0, 1, 1] * 3)
    for k, (numbers, positions) in enumerate(found.frames):
        np.testing.assert_array_equal(numbers, starts.frames[k % 3][0])
        assert np.abs(positions - starts.frames[k % 3][1]).max() > 0.01
    again = explored(student(models[0], kernels="torch"), starts, [300.0], samples=3, seed=1, spacing=8)
    np.testing.assert_array_equal(found.frames.positions, again.frames.positions)


def test_shards_can_be_searched_too(tmp_path: Path) -> None:
    shard = random_shard("train", 1)
    write_shard(shard_path(tmp_path, "train", 1), shard, SETTINGS)
    found = read_candidates(shard_path(tmp_path, "train", 1))
    np.testing.assert_array_equal(found.frames.positions, shard.frames.positions)
    np.testing.assert_array_equal(found.molecule, shard.molecule)


def test_files_of_other_content_are_refused(candidates: Candidates, tmp_path: Path) -> None:
    path = tmp_path / "candidates.npz"
    write_candidates(path, Candidates(candidates.frames, candidates.molecule + 1, candidates.molecules))
    with pytest.raises(OrganicError, match="40 frames of 2 molecules"):
        read_candidates(path)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(OrganicError, match="not a whole file of candidates"):
        read_candidates(path)
