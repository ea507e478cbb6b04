"""`mlcalc doctor`: what it reports is there, and what is wrong does not pass."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from potentials import Morse
from small_networks import random_network

from mlcalc import load_model, save_model
from mlcalc.cli import main
from mlcalc.doctor import backends, examine, gemm_rate, machine, sample_structures
from mlcalc.errors import UnavailablePropertyError
from mlcalc.models import Graph, build_network

NETWORK = random_network("hvnet", {"elements": ("Cu",), "cutoff": 4.0, "hidden_channels": 8, "num_layers": 2})


def copper() -> Atoms:
    return bulk("Cu", cubic=True) * 2


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlcalc.doctor._PATIENCE", 0.01)
    monkeypatch.setattr("mlcalc.doctor._SIZES", (1, 30))


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-4), ("float64", 1e-8)])
def test_a_sound_model_agrees_with_the_reference(dtype: str, tolerance: float) -> None:
    found = examine(NETWORK, [copper()], dtype=dtype)
    assert found.agrees
    assert 0 < found.force_difference <= tolerance or found.path == "torch autograd"
    (timing,) = found.timings
    assert (timing.atoms, timing.edges) == (32, 32 * 18)
    assert timing.ns_per_day == pytest.approx(86.4 / timing.ms_per_step, rel=1e-9)
    assert found.largest_atoms > 32
    assert found.gemm_GFLOPs > 0


class Sloppy(Morse):
    """Morse pairs whose strength depends on what else has been computed: every second call is off."""

    calls = [0]  # noqa: RUF012 - of all of them

    def __call__(self, graph: Graph) -> torch.Tensor:
        self.calls[0] += 1
        return super().__call__(graph) * (1 + 1e-5 * self.calls[0])


@pytest.mark.usefixtures("quick")
def test_a_path_that_gives_other_forces_does_not_pass() -> None:
    found = examine(Sloppy(), [copper()])
    assert not found.agrees
    assert not replace(found, force_difference=float("nan")).agrees
    assert examine(Morse(), [copper()]).agrees


def test_samples_are_structures_that_the_model_knows() -> None:
    samples = sample_structures(load_model("ethanol-visnet", verify=False))
    assert samples[0].get_chemical_formula() == "C2H6O"
    assert [len(atoms) for atoms in samples] == [9, 72, 1125]
    distances = samples[1].get_all_distances() + 9 * np.eye(72)
    assert distances.min() > 0.8  # copies do not overlap
    crystals = sample_structures(load_model("cu-hvnet", verify=False))
    assert all(atoms.pbc.all() for atoms in crystals)
    assert len(crystals[-1]) == 1000
    assert len(sample_structures(Morse())[0]) > 1
    assert sample_structures(NETWORK, copper())[0] == copper()


@pytest.mark.usefixtures("quick")
def test_the_command_reports_in_words_and_json(tmp_path, capsys) -> None:
    model, structure = tmp_path / "small.safetensors", tmp_path / "cu.xyz"
    save_model(NETWORK, model)
    copper().write(structure)
    assert main(["doctor", str(model), "--structure", str(structure)]) == 0
    words = capsys.readouterr().out
    for expected in (
        "processor",
        "torch ",
        "path ",
        "agrees with autograd in float64",
        "ns/day at 1 fs",
        "largest system",
    ):
        assert expected in words
    assert main(["doctor", str(model), "--structure", str(structure), "--dtype", "float64", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["machine"]["threads"] == torch.get_num_threads()
    (examined,) = report["examinations"]
    assert examined["agrees"] is True
    assert examined["timings"][0]["atoms"] == 32
    assert examined["force_difference_eV_per_A"] <= examined["force_tolerance_eV_per_A"]
    assert main(["doctor", str(model), "--structure", str(structure), "--kernels", "torch", "--dtype", "float64"]) == 0
    assert "torch autograd (kernels='torch' was asked for)" in capsys.readouterr().out


def test_a_difference_makes_the_command_fail(monkeypatch: pytest.MonkeyPatch, quick: None, tmp_path, capsys) -> None:
    model = tmp_path / "small.safetensors"
    save_model(NETWORK, model)
    monkeypatch.setattr("mlcalc.doctor.TOLERANCES", {"float32": 1e-14, "float64": 1e-30})
    assert main(["doctor", str(model), "--dtype", "float32"]) == 1
    assert "DOES NOT AGREE" in capsys.readouterr().out


def test_without_a_model_the_machine_is_told(capsys) -> None:
    assert main(["doctor"]) == 0
    assert "cores" in capsys.readouterr().out
    assert main(["doctor", "--structure", __file__]) == 2
    assert "--structure needs a model" in capsys.readouterr().err


def test_models_of_other_quantities_are_refused() -> None:
    homo = build_network("visnet", {"elements": ("H",), "quantity": "homo", "hidden_channels": 8, "num_heads": 2})
    with pytest.raises(UnavailablePropertyError, match="needs a potential"):
        examine(homo, [Atoms("H2", [[0, 0, 0], [0, 0, 1]])])


def test_missing_packages_are_named_with_what_they_bring() -> None:
    program = "import sys; sys.modules['numba'] = None\nfrom mlcalc.cli import main\nraise SystemExit(main(['doctor']))"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    (line,) = [line for line in told.splitlines() if line.startswith("numba ")]
    assert "it brings: fused kernels on the CPU" in line


def test_the_machine_is_this_one() -> None:
    here = machine()
    assert here.cores >= 1
    assert here.threads == torch.get_num_threads()
    assert 0 < here.available_GiB <= here.memory_GiB + 1
    assert {package.name: package.version for package in backends()}["torch"] is not None
    assert gemm_rate(torch.float32, torch.device("cpu"), size=64) > 0
