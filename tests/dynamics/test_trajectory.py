"""Trajectories as result objects: kept at full precision, drawn, refused when damaged."""

from __future__ import annotations

import errno
import pickle
from pathlib import Path

import numpy as np
import pytest
from ase.constraints import FixAtoms
from springs import copper

from mlcalc.md_protocols import ResultFileError, Trajectory, radial_distribution, run_nve, run_nvt
from mlcalc.md_protocols.folders.storage import load_arrays, save_arrays, write_atomically


def trajectory() -> Trajectory:
    atoms = copper(1)
    atoms.set_constraint(FixAtoms([1]))
    atoms.set_masses([60.0, 61.0, 62.0, 63.0])
    atoms.set_tags([0, 1, 2, 3])
    return run_nvt(atoms, temperature_K=200, timestep_fs=1.0, steps=12, trajectory_interval=5, log_interval=1)


def test_saved_and_loaded_bit_for_bit(tmp_path: Path) -> None:
    run = trajectory()
    run.save(tmp_path / "run")  # no suffix is forced on the name
    again = Trajectory.load(tmp_path / "run")
    for name in ("steps", "times_fs", "energies", "kinetic_energies", "temperatures", "conserved", "total_energies"):
        np.testing.assert_array_equal(getattr(run, name), getattr(again, name))
    assert again.settings == run.settings
    assert again.completed is run.completed is True
    for one, other in zip(run.frames, again.frames, strict=True):
        assert one == other
        np.testing.assert_array_equal(one.get_momenta(), other.get_momenta())
        np.testing.assert_array_equal(one.get_forces(apply_constraint=False), other.get_forces(apply_constraint=False))
        np.testing.assert_array_equal(one.get_masses(), other.get_masses())
        np.testing.assert_array_equal(one.get_tags(), other.get_tags())
        assert one.get_potential_energy() == other.get_potential_energy()
        assert other.constraints[0].index.tolist() == [1]
        assert one.info == other.info
    np.testing.assert_array_equal(again.frame_times_fs, [0, 5, 10, 12])


def test_the_stored_numbers_belong_together() -> None:
    run = run_nve(copper(), timestep_fs=2.0, steps=10, temperature_K=300)
    for k, frame in enumerate(run.frames):
        assert frame.get_potential_energy() == run.energies[k]
        assert frame.get_kinetic_energy() == pytest.approx(run.kinetic_energies[k], rel=1e-12)
        fresh = frame.copy()
        fresh.calc = copper().calc
        np.testing.assert_allclose(fresh.get_forces(), frame.get_forces(), atol=1e-12)


def test_drawn_with_units_without_pyplot(tmp_path: Path) -> None:
    run = trajectory()
    ax = run.plot()
    assert ax.get_xlabel() == "time (ps)"
    assert ax.get_ylabel() == "temperature (K)"
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), run.temperatures)
    assert "not canonical" in ax.get_title()
    ax.figure.savefig(tmp_path / "run.png")
    assert ax.get_legend().get_window_extent().y1 < ax.get_window_extent().y0  # below: it covers no curve
    assert (tmp_path / "run.png").stat().st_size > 5000


def test_other_and_damaged_files_are_refused(tmp_path: Path) -> None:
    run, path = trajectory(), tmp_path / "run.npz"
    run.save(path)
    good = path.read_bytes()
    damages = {
        "cut": good[:-100],
        "empty": b"",
        "html": b"<!DOCTYPE html>",
        "pickle": pickle.dumps({"a": 1}),
        "flipped": good[:3000] + bytes([good[3000] ^ 1]) + good[3001:],
    }
    for name, data in damages.items():
        path.write_bytes(data)
        with pytest.raises(ResultFileError, match=r"run\.npz cannot be read as a trajectory file: it is damaged"):
            Trajectory.load(path)
        assert path.read_bytes() == data, name
    with pytest.raises(ResultFileError, match=r"there is no such file"):
        Trajectory.load(tmp_path / "nothing.npz")
    with pytest.raises(ResultFileError, match=r"holds no checkpoint\.npz: it is not the output folder of a run"):
        Trajectory.load(tmp_path)
    radial_distribution(copper(), r_max=3.0, bins=3).save(path)
    with pytest.raises(ResultFileError, match=r"expected a 'trajectory'"):
        Trajectory.load(path)


def test_no_flipped_bit_changes_a_number_silently(tmp_path: Path) -> None:
    path, rng = tmp_path / "g.npz", np.random.default_rng(4)
    arrays = {"x": rng.normal(size=(5, 3)), "n": np.arange(4)}
    save_arrays(path, "test", arrays, {"a": 1.5})
    good, refused = path.read_bytes(), 0
    for _ in range(600):
        data = bytearray(good)
        data[rng.integers(len(data))] ^= 1 << rng.integers(8)
        path.write_bytes(data)
        try:
            found, info = load_arrays(path, "test")
        except ResultFileError:
            refused += 1
            continue
        assert info == {"a": 1.5}
        assert found.keys() == arrays.keys()
        assert all(np.array_equal(found[name], arrays[name]) for name in arrays)
    assert refused > 300


def test_progress_goes_to_stderr_only_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    run_nve(copper(1), timestep_fs=1.0, steps=3, temperature_K=10)
    assert capsys.readouterr() == ("", "")
    run_nve(copper(1), timestep_fs=1.0, steps=3, temperature_K=10, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "3/3" in err
    assert "ns/day" in err
    assert "K, E" in err
    run_nve(copper(1), timestep_fs=1.0, steps=3, temperature_K=10, progress=False)
    assert capsys.readouterr() == ("", "")


def test_a_full_disk_is_named_and_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "kept.json"
    path.write_text("old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*kept.json'"):
        write_atomically(path, b"new")
    assert (path.read_text(), list(tmp_path.iterdir())) == ("old", [path])
