"""Runs and reports as results: files, JSON, and what temperatures of beads are called."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.emt import EMT
from ipi_servers import IPI

from mlcalc.md_protocols import ConfigError, IPIRun, ServeReport, run_ipi
from mlcalc.md_protocols.results import quantities

pytestmark = pytest.mark.skipif(not IPI.exists(), reason="i-PI is an extra")

P = 4  # beads


def crystal() -> Atoms:
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.05, seed=1)
    atoms.calc = EMT()
    return atoms


@pytest.fixture(scope="module")
def beads(tmp_path_factory: pytest.TempPathFactory) -> IPIRun:
    return run_ipi(
        crystal(),
        output=tmp_path_factory.mktemp("beads") / "r",
        temperature_K=300,
        timestep_fs=1.0,
        steps=40,
        beads=P,
        log_interval=2,
        progress=False,
    )


def test_a_run_of_beads_is_kept_in_a_file(beads: IPIRun, tmp_path: Path) -> None:
    beads.save(tmp_path / "run.npz")
    again = IPIRun.load(tmp_path / "run.npz")
    assert (again.folder, again.settings, again.completed) == (beads.folder, beads.settings, True)
    assert again.freedom == beads.freedom == (12, 3)
    assert again.columns.keys() == beads.columns.keys()
    for name, values in beads.columns.items():
        np.testing.assert_array_equal(again.columns[name], values)
    assert str(again) == str(beads)
    assert len(again.frames(bead=1)) == len(beads.frames(bead=1)) == 41
    with pytest.raises(ConfigError, match="no bead 4 of replica 0"):
        beads.frames(bead=4)
    with pytest.raises(ConfigError, match="no column 'pot': choose one of step, time"):
        beads.column("pot")


def test_temperatures_of_beads_are_named_as_those_of_the_ring_polymer(beads: IPIRun) -> None:
    kinetic = beads.column("kinetic_md")
    assert beads.temperatures == pytest.approx(2 * kinetic * P / ((12 * P - 3) * units.kB), rel=1e-12)
    told = beads.to_json()
    assert json.loads(json.dumps(told)) == told
    half = len(beads.steps) // 2
    (means,) = told["means_of_second_half"]
    assert means["ring_polymer_temperature_K"] == pytest.approx(beads.temperatures[half:].mean(), rel=1e-12)
    assert means["kinetic_cv{electronvolt}"] == pytest.approx(beads.column("kinetic_cv")[half:].mean(), rel=1e-12)
    assert "temperature_K" not in means
    assert (told["steps"], told["settings"]["temperature_K"], told["settings"]["thermostat"]) == (40, [300], "pile_g")
    assert "columns" not in told
    assert f"{P} beads: 40 steps" in str(beads)
    mean = beads.temperatures[half:].mean()
    assert f"ring polymer temperature {mean:.1f} K ({P} beads times {mean / P:.1f} K)" in str(beads)
    assert beads.column("temperature").mean() == pytest.approx(beads.temperatures.mean() / P, rel=0.05)  # i-PI's own
    assert f"quantum kinetic energy {beads.column('kinetic_cv')[half:].mean():.4f} eV" in str(beads)
    assert beads.plot().get_ylabel() == "ring polymer temperature (K)"


def test_one_bead_has_a_temperature(tmp_path: Path) -> None:
    run = run_ipi(crystal(), output=tmp_path / "r", temperature_K=300, steps=2, progress=False)
    assert "temperature_K" in run.to_json()["means_of_second_half"][0]
    assert "ring" not in str(run)
    assert "quantum" not in str(run)


@pytest.mark.parametrize("kind", [IPIRun, ServeReport])
def test_every_field_says_what_it_is(kind: type) -> None:
    assert all(quantity.meaning for quantity in quantities(kind).values())
    assert len(quantities(kind)) == len(fields(kind))


def test_a_report_is_kept_in_a_file(tmp_path: Path) -> None:
    report = ServeReport("exit", 4, 16, 1, 2, 0.5, 1.25)
    report.save(tmp_path / "report.npz")
    again = ServeReport.load(tmp_path / "report.npz")
    assert again.to_json() == report.to_json()
    assert report.to_json() == {
        "ending": "exit", "requests": 4, "structures": 16, "connections": 1, "restarts": 2, "compute_s": 0.5,
        "total_s": 1.25,
    }  # fmt: skip
    assert "4 requests with 16 structures in 1.2 s (125 ms each)" in str(report)
