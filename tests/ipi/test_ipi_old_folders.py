"""Folders of earlier versions, whose settings had i-PI's words: they are read, and go on."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ipi_servers import IPI

from mlcalc import CalculatorFactory, MLCalculator
from mlcalc.md_protocols import ConfigError, IPIRun, run_ipi
from mlcalc.md_protocols.errors import ResultFileError
from mlcalc.md_protocols.folders.identity import describe_calculator
from mlcalc.md_protocols.ipi.runs import result
from mlcalc.md_protocols.ipi.runs.inputs import IPISettings

pytestmark = pytest.mark.skipif(not IPI.exists(), reason="i-PI is an extra")

# 20 steps of a run by version 0.1.0 of November 2026, and what it logged of 30 steps in all.
STORED = Path(__file__).parents[1] / "data" / "ipi_run_before_bussi.npz"
SETTINGS: dict[str, Any] = {"temperature_K": 300, "timestep_fs": 2.0, "seed": 3, "progress": False}
SETTINGS |= {"trajectory_interval": 5, "log_interval": 5, "checkpoint_interval": 10}


def crystal() -> Atoms:
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.05, seed=1)
    atoms.calc = EMT()
    return atoms


@pytest.mark.parametrize(
    ("calculator", "path"),
    [
        (CalculatorFactory("cu-hvnet"), "mlcalc.factory.CalculatorFactory"),
        (MLCalculator("cu-hvnet"), "mlcalc.calculator.MLCalculator"),
    ],
    ids=["factory", "calculator"],
)
def test_calculators_have_the_paths_that_folders_name(calculator: Any, path: str) -> None:
    assert describe_calculator(calculator)["class"] == path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder as the earlier version left it."""
    path = tmp_path / "r"
    path.mkdir()
    with np.load(STORED) as stored:
        for name in stored.files:
            if name.startswith("file:"):
                (path / name.removeprefix("file:")).write_bytes(stored[name].tobytes())
    return path


def test_a_folder_of_an_earlier_version_is_read(folder: Path) -> None:
    assert '"svr"' in (folder / "run.json").read_text()
    run = IPIRun.load(folder)
    assert (run.settings.thermostat, run.settings.temperature_K) == ("bussi", (300.0,))
    assert run.completed
    assert run.steps.tolist() == [0, 5, 10, 15, 20]
    with np.load(STORED) as stored:
        assert run.energies == pytest.approx(stored["energies"][:5], rel=1e-12)
        assert run.temperatures == pytest.approx(stored["temperatures"][:5], rel=1e-12)


def test_a_folder_of_an_earlier_version_goes_on(folder: Path) -> None:
    run = run_ipi(crystal(), output=folder, steps=30, thermostat="bussi", **SETTINGS)
    assert run.steps.tolist() == list(range(0, 31, 5))
    with np.load(STORED) as stored:
        assert run.energies == pytest.approx(stored["energies"], rel=1e-7)
        assert run.temperatures == pytest.approx(stored["temperatures"], rel=1e-7)
        assert np.abs(np.diff(stored["energies"])).min() > 1e-3


def test_another_thermostat_does_not_continue_it(folder: Path) -> None:
    with pytest.raises(ConfigError, match="thermostat: 'bussi' in the folder, 'langevin' now"):
        run_ipi(crystal(), output=folder, steps=30, thermostat="langevin", **SETTINGS)


def test_the_twin_without_todays_words_would_refuse_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(result, "upgraded", lambda stored: stored)
    with pytest.raises(ConfigError, match="thermostat: 'svr' in the folder"):
        run_ipi(crystal(), output=folder, steps=30, **SETTINGS)
    with pytest.raises(ResultFileError, match="not those of a run"):
        IPISettings.of({"thermostat": "svr"})


def test_ipi_is_told_in_its_own_word(tmp_path: Path) -> None:
    run = run_ipi(crystal(), output=tmp_path / "r", steps=2, **SETTINGS)
    assert run.settings.thermostat == "bussi"
    root = ET.fromstring((tmp_path / "r" / "input.xml").read_text())  # noqa: S314 - our own
    thermostat = root.find(".//thermostat")
    assert thermostat is not None
    assert thermostat.get("mode") == "svr"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"thermostat": "svr"}, "i-PI's word: pass thermostat='bussi' which is the same"),
        ({"ensemble": "bussi"}, "is a thermostat: pass thermostat='bussi' with the ensemble 'nvt'"),
        ({"thermostat": "berendsen"}, "choose one of 'bussi', 'langevin', 'pile_g', 'pile_l'"),
    ],
)
def test_other_words_are_refused_by_name(given: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=told):
        run_ipi(crystal(), output=tmp_path / "r", steps=2, **(SETTINGS | given))
    assert not (tmp_path / "r").exists()
