"""The trainer: labels read in the right convention, learning, resuming to the step, clear errors."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from ase.units import GPa
from small_training import SETTINGS, emt_frames

from mlcalc import load_model
from mlcalc.assessment import assess
from mlcalc.errors import DataError, OverlapError, TrainingError
from mlcalc.md_protocols.errors import ConfigError, SimulationError
from mlcalc.model_file.header import read_model_info
from mlcalc.training import StressSource, Trainer, load_training_config, read_frames, train
from mlcalc.training.data import Frame, element_energies, primitive_frame, split_frames
from mlcalc.training.samples import errors_of, loss_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "frames.xyz", emt_frames(20))
    (tmp_path / "small.toml").write_text(SETTINGS, encoding="utf-8")
    return tmp_path


def test_learns_and_writes_a_model_that_says_what_it_is(folder: Path) -> None:
    config = load_training_config(folder / "small.toml", {"optimizer.epochs": 60})
    untrained = Trainer(config, folder / "untrained").validation_errors()
    path = train(config, folder / "run", progress=False)
    model = load_model(path)
    errors = assess(model, read_frames(folder / "frames.xyz")).overall
    assert errors.forces_mae < 0.5 * untrained.forces_mae
    assert errors.energy_mae < 0.02
    assert errors.stress_mae < 0.5 * untrained.stress_mae
    info = read_model_info(path)
    assert info.provenance["training"]["data"]["train"] == "frames.xyz"
    assert info.envelope["frames"] == 16
    assert info.envelope["shortest_distance_A"]["Cu-Cu"] < 2.55
    assert info.errors["forces_mae_meV_per_A"] == pytest.approx(1e3 * errors.forces_mae, rel=1e-6)
    for name in ("training.png", "test.png", "test.json", "small.md", "log.csv"):
        assert (folder / "run" / name).stat().st_size > 0
    assert info.sha256 in (folder / "run" / "small.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "model", [{"kind": "hpnet"}, {"kind": "htnet"}, {"sub_network": "painn"}, {"variant": "dgl", "neighbor_norm": 1.0}]
)
def test_every_network_learns(folder: Path, model: dict[str, Any]) -> None:
    changes = {f"model.{name}": value for name, value in model.items()} | {"loss.stress": 0.0, "optimizer.epochs": 12}
    trainer = Trainer(load_training_config(folder / "small.toml", changes), folder / "run")
    before = trainer.validation_errors()
    trainer.run(progress=False)
    after = trainer.validation_errors()
    assert after.energy_mae + after.forces_mae < 0.8 * (before.energy_mae + before.forces_mae)


def test_only_potentials_are_trained(folder: Path) -> None:
    config = load_training_config(folder / "small.toml", {"model.kind": "visnet", "model.head": "dipole"})
    with pytest.raises(ConfigError, match="head is 'dipole': only potentials are trained here, with head = 'scalar'"):
        Trainer(config, folder / "run")


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(load_model(folder / "small.safetensors").state_dict())


@pytest.mark.parametrize("stop_after", [1, 5, 9])  # inside and at the end of epochs
def test_a_resumed_run_equals_an_uninterrupted_one(folder: Path, stop_after: int) -> None:
    config = load_training_config(folder / "small.toml")
    train(config, folder / "whole", progress=False)
    first = Trainer(config, folder / "parts")
    for _ in range(stop_after):
        first._step()
        if first.state.step % first.steps_per_epoch == 0:
            first._finish_epoch(_NoBar())
    first._save()
    first.close()
    train(config, folder / "parts", progress=False)
    whole, parts = weights(folder / "whole"), weights(folder / "parts")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert (folder / "whole/log.csv").read_bytes() == (folder / "parts/log.csv").read_bytes()


class _NoBar:
    def set_postfix_str(self, text: str) -> None:
        self.text = text


def test_sigterm_leaves_a_checkpoint_and_the_same_command_finishes(folder: Path) -> None:
    config = load_training_config(folder / "small.toml", {"optimizer.epochs": 40})
    train(config, folder / "whole", progress=False)
    program = (
        "import sys; from mlcalc.training import *\n"
        f"c = load_training_config({str(folder / 'small.toml')!r}, {{'optimizer.epochs': 40}})\n"
        f"train(c, {str(folder / 'parts')!r}, progress=False)"
    )
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    for _ in range(2):
        process = subprocess.Popen([sys.executable, "-c", program], env=environment, stderr=subprocess.PIPE, text=True)
        log = folder / "parts/log.csv"
        before = len(log.read_text().splitlines()) if log.exists() else 0
        while process.poll() is None and (not log.exists() or len(log.read_text().splitlines()) < before + 3):
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        _, text = process.communicate(timeout=60)
        if process.returncode == 0:
            break
        assert "the same command continues from there" in text
    train(config, folder / "parts", progress=False)
    whole, parts = weights(folder / "whole"), weights(folder / "parts")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_other_settings_or_a_foreign_checkpoint_are_refused(folder: Path) -> None:
    config = load_training_config(folder / "small.toml", {"optimizer.epochs": 1})
    train(config, folder / "run", progress=False)
    with pytest.raises(ConfigError, match=r"optimizer.epochs = 1, now it is 2: restore the setting"):
        train(load_training_config(folder / "small.toml", {"optimizer.epochs": 2}), folder / "run", progress=False)
    with pytest.raises(ConfigError, match="already holds a training run"):
        train(config, folder / "run", resume=False, progress=False)
    checkpoint = folder / "run/checkpoint.safetensors"
    content = checkpoint.read_bytes()
    checkpoint.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="not a training checkpoint.*move it away"):
        train(config, folder / "run", progress=False)
    assert checkpoint.read_bytes() == content[: len(content) // 2]


def test_divergence_is_reported_and_the_checkpoint_survives(folder: Path) -> None:
    config = load_training_config(folder / "small.toml")
    trainer = Trainer(config, folder / "run")
    trainer._step()
    trainer._save()
    before = trainer.checkpoint.read_bytes()
    with torch.no_grad():
        next(trainer.network.parameters()).fill_(float("nan"))
    with pytest.raises(TrainingError, match=r"step 1: loss nan.*Lower learning_rate"):
        trainer.run(progress=False)
    assert trainer.checkpoint.read_bytes() == before


def test_gradient_of_the_loss_by_finite_differences(folder: Path) -> None:
    """The loss holds forces and stress, so its gradient needs second derivatives: the usual place for a bug."""
    trainer = Trainer(load_training_config(folder / "small.toml"), folder / "run")
    network, batch = trainer.network.double(), trainer._batch(0)
    loss = loss_of(network, batch, trainer.config.loss)
    loss.backward()
    rng = np.random.default_rng(0)
    for parameter in network.parameters():
        if parameter.grad is None:
            continue
        direction = torch.tensor(rng.normal(size=parameter.shape))
        expected = float((parameter.grad * direction).sum())
        values = []
        for step in (1e-5, -1e-5):
            parameter.data.add_(direction, alpha=step)
            values.append(loss_of(network, batch, trainer.config.loss).item())
            parameter.data.sub_(direction, alpha=step)
        assert (values[0] - values[1]) / 2e-5 == pytest.approx(expected, rel=1e-5, abs=1e-7)


def test_stress_conventions() -> None:
    """The EMT stress of a strained crystal, as VASP would print it (kbar, compression positive, xy yz zx order)."""
    atoms = bulk("Cu", cubic=True, a=3.4)
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + [[0, 0.01, 0.02], [0, 0, 0.03], [0, 0, 0]]), scale_atoms=True)
    atoms.calc = EMT()
    ase_stress = atoms.get_stress()
    assert (ase_stress[:3] < 0).all()  # ASE: a compressed crystal has negative stress
    kbar = -ase_stress / GPa * 10
    vasp = kbar[[0, 1, 2, 5, 3, 4]]
    source = StressSource("virial", unit="kbar", compression_positive=True, order=("xx", "yy", "zz", "xy", "yz", "xz"))
    np.testing.assert_allclose(source.read(" ".join(map(str, vasp))), ase_stress, rtol=1e-12)
    assert not np.allclose(replace(source, compression_positive=False).read(vasp), ase_stress)
    with pytest.raises(DataError, match=r"holds 5 numbers: six are needed"):
        source.read(vasp[:5])
    with pytest.raises(DataError, match="'bar' is unknown: choose from"):
        StressSource("virial", unit="bar")
    with pytest.raises(DataError, match="each of xx, yy"):
        StressSource("virial", order=("xx",) * 6)


def test_element_energies_recover_a_sum_of_atomic_energies() -> None:
    truth = {"H": -13.6, "O": -2041.3}
    frames = []
    for symbols in ("H2", "O2", "H2O", "H2O2"):
        atoms = Atoms(symbols)
        energy = sum(truth[symbol] for symbol in atoms.symbols)
        frames.append(Frame(atoms, energy, np.zeros((len(atoms), 3))))
    assert element_energies(frames, ("H", "O")) == pytest.approx((truth["H"], truth["O"]))
    one_molecule = element_energies(frames[2:3], ("H", "O"))  # underdetermined, but the sum is known
    assert 2 * one_molecule[0] + one_molecule[1] == pytest.approx(frames[2].energy)


def test_split_is_seeded_disjoint_and_complete() -> None:
    frames = [Frame(Atoms("H"), float(k), np.zeros((1, 3))) for k in range(30)]
    one, two = split_frames(frames, 10, seed=3)
    assert sorted(frame.energy for frame in one + two) == list(range(30))
    assert len(two) == 10
    assert [frame.energy for frame in split_frames(frames, 10, seed=3)[1]] == [frame.energy for frame in two]
    assert [frame.energy for frame in split_frames(frames, 10, seed=4)[1]] != [frame.energy for frame in two]
    with pytest.raises(DataError, match="30 validation frames were asked of 30"):
        split_frames(frames, 30, seed=0)


def test_npz_and_errors(tmp_path: Path) -> None:
    arrays = {
        "numbers": np.array([8, 1, 1]),
        "positions": np.random.default_rng(0).normal(size=(4, 3, 3)),
        "energy": np.arange(4.0),
        "forces": np.zeros((4, 3, 3)),
    }
    np.savez(tmp_path / "good.npz", **arrays)
    frames = read_frames(tmp_path / "good.npz")
    assert [frame.energy for frame in frames] == [0.0, 1.0, 2.0, 3.0]
    np.testing.assert_array_equal(frames[2].atoms.positions, arrays["positions"][2])
    np.savez(tmp_path / "nan.npz", **{**arrays, "forces": np.full((4, 3, 3), np.nan)})
    np.savez(tmp_path / "short.npz", **{k: v for k, v in arrays.items() if k != "forces"})
    np.savez(tmp_path / "object.npz", **{**arrays, "energy": np.array([None] * 4)})
    (tmp_path / "text.npz").write_text("no zip")
    whole = (tmp_path / "good.npz").read_bytes()
    (tmp_path / "half.npz").write_bytes(whole[: len(whole) // 2])
    np.savez(tmp_path / "shape.npz", **{**arrays, "positions": arrays["positions"][:3]})
    (tmp_path / "junk.xyz").write_text("this is\nnot a structure\n")
    write(tmp_path / "bare.xyz", Atoms("H2", [[0, 0, 0], [0, 0, 0.74]]))
    for name, text in {
        "nan.npz": r"nan\.npz: frame 0 has a NaN.*remove or repair",
        "short.npz": r"short\.npz: .*forces.*needs numbers, positions",
        "object.npz": r"object\.npz: not a readable npz",
        "text.npz": r"text\.npz: not a readable npz",
        "half.npz": r"half\.npz: not a readable npz",
        "shape.npz": r"shape\.npz: the arrays have shapes .*\(3, 3, 3\).*expected",
        "missing.xyz": r"missing\.xyz: there is no such file",
        "junk.xyz": r"junk\.xyz: ASE cannot read it",
        "bare.xyz": r"bare\.xyz: frame 0 has no 'energy'; it has.*name the key",
    }.items():
        with pytest.raises(DataError, match=text):
            read_frames(tmp_path / name)


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        ({"optimizer.learning_rat": 1.0}, r"unknown setting 'learning_rat'; did you mean 'learning_rate'"),
        ({"optimiser.epochs": 1}, r"unknown setting 'optimiser'; did you mean 'optimizer'"),
        ({"optimizer.batch_size": 0}, "batch_size = 0"),
        ({"optimizer.epochs": -3}, "epochs = -3"),
        ({"optimizer.learning_rate": float("nan")}, "learning_rate = nan"),
        ({"loss.forces": -1.0}, r"small\.toml \[loss\]: forces = -1"),
        ({"optimizer": 3}, "optimizer = 3 is not allowed: give a table of settings"),
        ({"optimizer.epochs.x": 3}, "epochs is a value, not a table"),
        ({"optimizer.epochs": "many"}, "epochs = 'many' is not allowed: give a whole number"),
        ({"optimizer.epochs": 2.5}, r"epochs = 2\.5 is not allowed: give a whole number"),
        ({"data.validation": True}, "validation = True is not allowed: give a whole number or a text"),
        ({"data.stress.key": 1}, "key = 1 is not allowed: give a text"),
        ({"name": "a/b"}, "name = 'a/b' is not allowed: give a file name without folders"),
        ({"optimizer.seed": -1}, "seed = -1 is not allowed"),
    ],
)
def test_wrong_settings(folder: Path, overrides: dict[str, float], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        load_training_config(folder / "small.toml", overrides)


def test_unreadable_settings(folder: Path) -> None:
    (folder / "bad.toml").write_text("name = \n")
    with pytest.raises(ConfigError, match=r"bad\.toml: not valid TOML"):
        load_training_config(folder / "bad.toml")
    with pytest.raises(ConfigError, match="there is no such training file"):
        load_training_config(folder / "missing.toml")
    (folder / "kindless.toml").write_text(SETTINGS.replace('kind = "hvnet"', ""))
    with pytest.raises(ConfigError, match="no kind: give one"):
        load_training_config(folder / "kindless.toml")


def test_validation_errors_are_those_of_the_averaged_weights(folder: Path) -> None:
    trainer = Trainer(load_training_config(folder / "small.toml"), folder / "run")
    for _ in range(6):
        trainer._step()
    raw = errors_of(trainer.network, trainer.validation, 4)
    averaged = trainer.validation_errors()
    assert averaged != raw
    assert errors_of(trainer.network, trainer.validation, 4) == raw  # and the weights being trained are back
    trainer.network.load_state_dict(trainer.state.average)
    assert errors_of(trainer.network, trainer.validation, 4) == averaged


def test_log_holds_a_row_per_epoch(folder: Path) -> None:
    train(load_training_config(folder / "small.toml"), folder / "run", progress=False)
    with (folder / "run/log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3]
    assert all(float(row["forces_mae"]) > 0 for row in rows)


def labeled(atoms: Atoms) -> Frame:
    atoms.calc = EMT()
    return Frame(atoms.copy(), atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress())


def test_primitive_cells_carry_the_same_labels() -> None:
    """EMT is the judge: energy per atom and stress of the strained supercell are those of its one-atom cell."""
    strain = np.array([[0.02, 0.05, 0.0], [0.0, -0.03, 0.01], [0.04, 0.0, 0.06]])  # not symmetric: a turned crystal
    atoms = bulk("Cu", cubic=True) * (2, 3, 2)
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
    frame = labeled(atoms)
    one = primitive_frame(frame)
    assert len(one.atoms) == 1
    expected = labeled(one.atoms * (4, 4, 4))
    assert one.energy == pytest.approx(expected.energy / 64, abs=1e-9)
    np.testing.assert_allclose(one.stress, expected.stress, atol=1e-9)
    turned = replace(frame, atoms=frame.atoms.copy())
    turned.atoms.rotate(30, "z", rotate_cell=True)  # stress no longer that of the label
    assert not np.allclose(labeled(primitive_frame(turned).atoms * (4, 4, 4)).stress, frame.stress, atol=1e-4)


def test_frames_that_are_no_perfect_crystals_stay_as_they_are() -> None:
    rattled = bulk("Cu", cubic=True) * 2
    rattled.rattle(0.01, seed=0)
    vacancy = bulk("Cu", cubic=True) * 2
    del vacancy[0]
    silicon = Frame(bulk("Si", cubic=True), -40.0, np.zeros((8, 3)))  # two atoms per primitive cell
    for frame in (labeled(rattled), labeled(vacancy), silicon, Frame(Atoms("Cu"), 0.0, np.zeros((1, 3)))):
        assert primitive_frame(frame) is frame


def test_a_run_is_not_continued_on_other_data(folder: Path) -> None:
    config = load_training_config(folder / "small.toml", {"optimizer.epochs": 1})
    train(config, folder / "run", progress=False)
    write(folder / "frames.xyz", emt_frames(21)[1:])
    with pytest.raises(ConfigError, match=r"was started with (labels|network)\S* = .*restore the setting"):
        Trainer(config, folder / "run")


def test_a_second_process_and_foreign_files_are_refused(folder: Path) -> None:
    config = load_training_config(folder / "small.toml", {"optimizer.epochs": 1})
    first = Trainer(config, folder / "run")
    with pytest.raises(SimulationError, match="another run is using .*wait for it, or use another folder"):
        Trainer(config, folder / "run")
    first.close()
    (folder / "mine").mkdir()
    diary = folder / "mine/log.csv"
    diary.write_text("day,count\n1,5\n")
    with pytest.raises(ConfigError, match=r"no checkpoint that it belongs to: choose another folder"):
        Trainer(config, folder / "mine")
    assert diary.read_text() == "day,count\n1,5\n"


def test_a_torn_log_row_does_not_stop_a_resume(folder: Path) -> None:
    config = load_training_config(folder / "small.toml")
    train(config, folder / "run", progress=False)
    log = folder / "run/log.csv"
    whole = log.read_text()
    log.write_text(whole + "41")
    train(config, folder / "run", progress=False)
    assert log.read_text() == whole


def test_stress_may_be_mixed_with_molecules(tmp_path: Path) -> None:
    molecule = Atoms("Cu2", [[0, 0, 0], [2.3, 0, 0]])
    molecule.calc = SinglePointCalculator(molecule, energy=0.1, forces=np.zeros((2, 3)), stress=np.zeros(6))
    write(tmp_path / "frames.xyz", [*emt_frames(6), molecule, molecule, molecule])
    (tmp_path / "small.toml").write_text(SETTINGS, encoding="utf-8")
    assert read_frames(tmp_path / "frames.xyz")[-1].stress is None
    path = train(load_training_config(tmp_path / "small.toml"), tmp_path / "run", progress=False)
    assert np.isfinite(assess(path, read_frames(tmp_path / "frames.xyz")).overall.stress_mae)


def test_bad_training_frames_are_named(folder: Path) -> None:
    frames = emt_frames(20)
    frames[3].positions[1] = frames[3].positions[0]
    write(folder / "frames.xyz", frames)
    with pytest.raises(
        OverlapError, match=r"(training|validation) frame \d+ .*atoms 0 and 1 are 0 Å apart.*remove the"
    ):
        Trainer(load_training_config(folder / "small.toml"), folder / "run")
    with pytest.raises(ConfigError, match="hold Cu, but .* elements are H: add them"):
        Trainer(load_training_config(folder / "small.toml", {"model.elements": ["H"]}), folder / "other")


def test_training_from_the_weights_of_a_model(folder: Path) -> None:
    path = train(load_training_config(folder / "small.toml"), folder / "first", progress=False)
    changes = {"initial": str(path), "model": {"kind": "hvnet"}}
    second = Trainer(load_training_config(folder / "small.toml", changes), folder / "second")
    start = load_model(path).state_dict()
    assert all(torch.equal(start[name], tensor) for name, tensor in second.network.state_dict().items())
    before = second.validation_errors()
    second.run(progress=False)
    assert second.validation_errors() != before
    changes["model"] = {"kind": "hvnet", "cutoff": 5.0}
    with pytest.raises(ConfigError, match=r"settings of its own: give \[model\] kind = .hvnet. and nothing else"):
        Trainer(load_training_config(folder / "small.toml", changes), folder / "third")


def test_isotropic_offset_of_stress() -> None:
    plain = StressSource("stress", unit="kbar")
    shifted = replace(plain, offset=26.0)
    difference = plain.read(np.arange(6.0)) - shifted.read(np.arange(6.0))
    np.testing.assert_allclose(difference, [2.6 * GPa] * 3 + [0.0] * 3, atol=1e-15)
