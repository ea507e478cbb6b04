"""Files and folders of earlier versions, read and continued; what a run returns without reading its own files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from ase.build import molecule
from bussi_runs import bussi, contents
from springs import copper

from mlcalc import MLCalculator
from mlcalc.md_protocols import ConfigError, InteratomicDistances, RadialDistribution, Trajectory, run_nvt
from mlcalc.md_protocols.dynamics import recording
from mlcalc.md_protocols.folders.identity import differences

DATA = Path(__file__).parents[1] / "data"


def test_a_trajectory_of_an_earlier_version() -> None:
    run = Trajectory.load(DATA / "results" / "trajectory.npz")
    assert run.steps.tolist() == [0, 1, 2, 3]
    np.testing.assert_array_equal(run.times_fs, [0.0, 1.0, 2.0, 3.0])
    assert run.energies.tolist() == [7.003050073464104, 7.0108942130821195, 7.018223154608513, 7.024965592364811]
    assert run.conserved[-1] == 7.274505281165427
    assert (run.settings["seed"], run.settings["ensemble"], run.completed) == (3, "bussi", True)
    last = run.frames[-1]
    np.testing.assert_allclose(last.positions[5], [-1.80097814e-03, 1.80732389, 5.41364076], atol=1e-8)
    np.testing.assert_allclose(
        last.get_forces(apply_constraint=False)[5], [0.66158481, -0.64410879, -7.1599e-4], atol=1e-8
    )
    assert (last.get_tags().tolist(), last.constraints[0].index.tolist()) == ([1] * 8, [0])


def test_distributions_of_an_earlier_version() -> None:
    g = RadialDistribution.load(DATA / "results" / "radial_distribution.npz")
    assert (g.pair, g.n_frames) == (("Cu", "Cu"), 2)
    np.testing.assert_array_equal(g.coordination, [0, 0, 0, 0, 1, 12, 12, 18])
    assert (g.g[5], g.standard_error[4]) == (2.715277900414084, 0.3682418613080204)
    h = InteratomicDistances.load(DATA / "results" / "interatomic_distances.npz")
    assert (h.beyond, h.h[4], h.n_frames) == (0.0277777777777779, 0.7777777777777778, 1)


def ethanol():
    atoms = molecule("CH3CH2OH")
    atoms.calc = MLCalculator("ethanol-visnet", dtype="float32")
    return atoms


def test_a_run_of_an_earlier_version_goes_on(tmp_path: Path) -> None:
    """Its checkpoint says "sha256" for what is now contents_sha256."""
    folder = tmp_path / "run"
    shutil.copytree(DATA / "runs" / "ethanol", folder)
    assert "sha256" in json.loads((folder / "run.json").read_text())["calculator"]["parameters"]
    settings = {"temperature_K": 300, "timestep_fs": 0.5, "seed": 1, "thermostat": "bussi", "progress": False}
    run = run_nvt(ethanol(), steps=4, output=folder, **settings)
    expected = [-4210.187533856248, -4210.182628852359, -4210.16640749242, -4210.143279896755, -4210.118874607175]
    np.testing.assert_allclose(run.energies, expected, atol=1e-3)  # in float32, perhaps on another processor
    assert run.energies[:3].tolist() == expected[:3]
    parameters = json.loads((DATA / "runs" / "ethanol" / "run.json").read_text())["calculator"]["parameters"]
    now = ethanol().calc.describe()
    assert differences(parameters, now) == []
    other = differences(parameters | {"sha256": "0" * 64}, now)
    assert [line.partition(":")[0] for line in other] == ["contents_sha256"]


def test_a_folder_with_two_hashes_of_old_is_not_guessed_at() -> None:
    old = {"sha256": "a"}
    assert differences(old, {"file_sha256": "a"}) == []
    assert len(differences(old, {"file_sha256": "b"})) == 1
    assert len(differences(old, {"file_sha256": "a", "contents_sha256": "a"})) == 3


@pytest.mark.parametrize("room", [256e6, 400.0], ids=["kept", "let go"])
def test_what_a_run_returns_is_what_its_folder_holds(
    room: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "_MOST_BYTES", room)
    pieces = [bussi(tmp_path / "run", steps=steps) for steps in (7, 8, 20)]
    whole = bussi(tmp_path / "whole")
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")
    for run, folder in ((pieces[-1], "run"), (whole, "whole")):
        stored = Trajectory.load(tmp_path / folder)
        for name in ("steps", "times_fs", "energies", "kinetic_energies", "temperatures", "conserved"):
            np.testing.assert_array_equal(getattr(run, name), getattr(stored, name))
        assert run.settings == stored.settings
        assert len(run.frames) == len(stored.frames)
        for one, other in zip(run.frames, stored.frames, strict=True):
            assert one == other
            assert one.info == other.info
            assert one.get_potential_energy() == other.get_potential_energy()
            np.testing.assert_array_equal(one.get_momenta(), other.get_momenta())
            np.testing.assert_array_equal(
                one.get_forces(apply_constraint=False), other.get_forces(apply_constraint=False)
            )


def test_a_run_does_not_parse_what_it_wrote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*arguments: object) -> None:
        raise AssertionError("the files are read")

    monkeypatch.setattr("mlcalc.md_protocols.dynamics.frames.FrameText.read", read)
    assert bussi(tmp_path).steps[-1] == 20
    monkeypatch.setattr(recording, "_MOST_BYTES", 0.0)
    with pytest.raises(AssertionError, match="the files are read"):
        bussi(tmp_path / "another")


def test_a_trajectory_in_json_and_in_a_few_lines() -> None:
    run = run_nvt(copper(), temperature_K=300, timestep_fs=2.0, steps=20, thermostat="bussi")
    shown = json.loads(json.dumps(run.to_json()))
    assert shown["settings"]["timestep_fs"] == 2.0
    assert (shown["n_steps"], shown["n_atoms"], shown["duration_fs"], shown["completed"]) == (20, 32, 40.0, True)
    assert shown["mean_temperature_K"] == pytest.approx(run.temperatures.mean())
    slope = np.polyfit(run.times_fs, run.conserved, 1)[0]
    assert shown["drift_meV_per_atom_per_ps"] == pytest.approx(1e6 * slope / 32)
    assert not {"frames", "positions", "energies_eV"} & shown.keys()
    text = str(run)
    assert "20 steps (0.04 ps) of Cu32, 21 frames" in text
    assert "canonical" in text
    assert "meV/atom/ps" in text
    assert max(map(len, text.splitlines())) < 120
    assert repr(run).startswith("<Trajectory: 20 steps (0.04 ps) of Cu32")
    empty = Trajectory([], *(np.zeros(0, dtype=int),), *(np.zeros(0),) * 5, settings={})
    assert "0 steps" in str(empty)
    assert json.loads(json.dumps(empty.to_json()))["drift_meV_per_atom_per_ps"] is None


def test_a_link_in_the_folder_costs_nothing(tmp_path: Path) -> None:
    """The lock file and temporaries are never those that a link points to."""
    (tmp_path / "precious").write_text("mine")
    for make in (Path.symlink_to, Path.hardlink_to):
        folder = tmp_path / make.__name__
        folder.mkdir()
        make(folder / "run.lock", tmp_path / "precious")
        with pytest.raises(Exception, match="cannot be used as a lock: it is"):
            bussi(folder)
        (folder / "run.lock").unlink()
        make(folder / "checkpoint.npz.tmp", tmp_path / "precious")
        bussi(folder)
    assert (tmp_path / "precious").read_text() == "mine"


def test_what_a_killed_process_left_half_written_goes(tmp_path: Path) -> None:
    bussi(tmp_path, steps=3)
    (tmp_path / ".checkpoint.npz.0123456789abcdef.tmp").write_bytes(b"half")
    (tmp_path / ".notes.0123456789abcdef.tmp").write_bytes(b"another's")
    bussi(tmp_path, steps=4)
    assert sorted(path.name for path in tmp_path.glob(".*")) == [".notes.0123456789abcdef.tmp"]
    with pytest.raises(ConfigError, match="already holds 4 steps"):
        bussi(tmp_path, steps=3)
