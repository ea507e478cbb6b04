"""Errors of a model on labeled frames, against loops over single structures and known differences."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule
from small_networks import random_network

from mlcalc import MLCalculator
from mlcalc.assessment import Assessment, assess
from mlcalc.errors import DataError, ResultFileError, UnknownElementError
from mlcalc.models import Network
from mlcalc.training.data import Frame

SMALL = {"cutoff": 4.0, "hidden_channels": 8, "num_layers": 1, "num_rbf": 4}


@pytest.fixture(scope="module")
def network() -> Network:
    copper_and_oxygen = {"elements": ("O", "Cu"), "energy_shift": (-2.0, -3.7)}
    return random_network("hvnet", SMALL | copper_and_oxygen, seed=2)  # type: ignore[return-value]


def frames_of(network: Network) -> list[Frame]:
    """Frames of three sizes and two groups whose labels are the network's own results, stress only in crystals."""
    rng = np.random.default_rng(3)
    crystal = bulk("Cu", cubic=True)
    structures: list[tuple[str, Atoms]] = [("solid", crystal), ("solid", crystal.repeat((2, 1, 1)))]
    structures += [("gas", molecule("O2")), ("solid", crystal.copy())]
    frames = []
    for group, structure in structures:
        atoms = structure.copy()
        atoms.positions += rng.normal(scale=0.05, size=(len(atoms), 3))
        bare = atoms.copy()
        atoms.calc = MLCalculator(network, dtype="float64")
        stress = atoms.get_stress() if atoms.pbc.all() else None
        frames.append(Frame(bare, atoms.get_potential_energy(), atoms.get_forces(), stress, group))
    return frames


def test_a_model_has_no_errors_on_its_own_results(network: Network) -> None:
    errors = assess(network, frames_of(network)).overall
    assert errors.frames == 4
    assert errors.atoms == 4 + 8 + 2 + 4
    for value in (errors.energy_rmse, errors.total_energy_rmse, errors.forces_rmse, errors.stress_rmse):
        assert value < 1e-9


SHIFTS: list[tuple[str, Callable[[Frame], Frame], float]] = [
    ("energy", lambda frame: replace(frame, energy=frame.energy - 0.1 * len(frame.atoms)), 0.1),
    ("forces", lambda frame: replace(frame, forces=frame.forces + 0.2), 0.2),
    ("stress", lambda frame: replace(frame, stress=None if frame.stress is None else frame.stress - 0.3), 0.3),
]


@pytest.mark.parametrize(("quantity", "shift", "size"), SHIFTS, ids=[name for name, _, _ in SHIFTS])
def test_a_constant_error_comes_back(
    network: Network, quantity: str, shift: Callable[[Frame], Frame], size: float
) -> None:
    errors = assess(network, [shift(frame) for frame in frames_of(network)]).overall
    for name in ("energy", "forces", "stress"):
        expected = size if name == quantity else 0.0
        assert getattr(errors, f"{name}_mae") == pytest.approx(expected, abs=1e-9)
        assert getattr(errors, f"{name}_rmse") == pytest.approx(expected, abs=1e-9)


def test_mae_and_rmse_weigh_frames_and_components_equally(network: Network) -> None:
    frames = frames_of(network)
    offsets = [0.4, 0.0, -0.2, 0.0]  # eV per atom
    moved = [replace(f, energy=f.energy + e * len(f.atoms)) for f, e in zip(frames, offsets, strict=True)]
    moved[2] = replace(moved[2], forces=moved[2].forces + [1.0, 0.0, 0.0])
    errors = assess(network, moved).overall
    assert errors.energy_mae == pytest.approx(0.6 / 4)
    assert errors.energy_rmse == pytest.approx(math.sqrt(0.2 / 4))
    assert errors.total_energy_mae == pytest.approx((0.4 * 4 + 0.2 * 2) / 4)
    assert errors.forces_mae == pytest.approx(2 / (3 * 18))  # two atoms of eighteen, one component of three
    assert errors.forces_rmse == pytest.approx(math.sqrt(2 / (3 * 18)))


def test_errors_are_reported_by_group(network: Network) -> None:
    frames = frames_of(network)
    frames[2] = replace(frames[2], forces=frames[2].forces + 0.5)  # the one frame of the group "gas"
    groups = assess(network, frames).by_group
    assert list(groups) == ["solid", "gas"]
    assert [groups[name].frames for name in groups] == [3, 1]
    assert groups["gas"].forces_mae == pytest.approx(0.5)
    assert groups["solid"].forces_mae < 1e-9
    assert math.isnan(groups["gas"].stress_mae)
    assert not assess(network, [replace(frame, group="") for frame in frames]).by_group


def test_units_of_papers(network: Network) -> None:
    name, shift, size = SHIFTS[2]
    values = assess(network, [shift(frame) for frame in frames_of(network)]).to_json()
    assert values["stress_mae_GPa"] == pytest.approx(size / units.GPa)
    assert values["energy_mae_meV_per_atom"] == pytest.approx(0.0, abs=1e-6)
    assert values["groups"]["gas"]["stress_mae_GPa"] is None
    assert name == "stress"


def test_saved_and_loaded(network: Network, tmp_path: Path) -> None:
    assessment = assess(network, frames_of(network))
    assessment.save(tmp_path / "errors.npz")
    loaded = Assessment.load(tmp_path / "errors.npz")
    assert loaded.to_json() == assessment.to_json()
    assert loaded.groups == assessment.groups
    assert np.array_equal(loaded.forces, assessment.forces)
    (tmp_path / "other.npz").write_bytes(b"PK\x03\x04")
    with pytest.raises(ResultFileError, match="cannot be read as a assessment file"):
        Assessment.load(tmp_path / "other.npz")


def test_files_of_earlier_versions_load() -> None:
    found = Assessment.load(Path(__file__).parents[1] / "data" / "results" / "assessment.npz")
    assert found.groups == ("hot", "")
    assert found.overall.energy_mae == pytest.approx((0.01 / 2 + 0.02 / 3) / 2)
    assert found.overall.stress_mae == pytest.approx(0.001)
    assert list(found.by_group) == ["hot"]
    assert "errors on 2 frames, 5 atoms" in str(found)
    assert "stress  MAE 0.1602, RMSE 0.1602 GPa" in str(found)


def test_parity_plot_shows_what_is_labeled(network: Network) -> None:
    frames = frames_of(network)
    with_stress = assess(network, frames).plot()
    assert [axes.get_title().split()[0] for axes in with_stress.axes] == ["energy", "force", "stress"]
    points = sum(len(line.get_xdata()) for line in with_stress.axes[1].lines[:-1])
    assert points == 3 * 18
    without = assess(network, [replace(frame, stress=None) for frame in frames]).plot()
    assert len(without.axes) == 2


def test_frames_the_model_cannot_judge(network: Network) -> None:
    with pytest.raises(DataError, match="give at least one"):
        assess(network, [])
    with pytest.raises(UnknownElementError, match=r"frame 0: .*Au"):
        assess(network, [Frame(Atoms("Au"), 0.0, np.zeros((1, 3)))])
