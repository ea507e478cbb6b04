"""The command line: its results are those of the library, and its runs can be stopped and continued."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.io import read
from command_inputs import make_folder

from mlcalc import MLCalculator, load_model, sample
from mlcalc.cli import commands, main
from mlcalc.cli.verbs import VERBS
from mlcalc.md_protocols import Trajectory, run_nvt
from mlcalc.models import network_settings

ROOT = Path(__file__).parents[2]
PNG = b"\x89PNG"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("cli"))


def start(*words: str | Path, cwd: Path) -> subprocess.Popen[str]:
    """The command line in a process of its own."""
    command = [sys.executable, "-c", "import sys; from mlcalc.cli import main; sys.exit(main())", *map(str, words)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=cwd, env=environment, stdout=pipe, stderr=pipe, text=True)


def md(folder: Path, output: Path, *more: str, steps: int = 20) -> list[str]:
    """Words of a short run of copper."""
    words = ["md", str(folder / "copper.xyz"), "--model", str(folder / "copper.safetensors"), "--output", str(output)]
    return [*words, "--temperature-K", "300", "--steps", str(steps), "--seed", "3", *more]


HEAVY = ("torch", "ase", "numpy", "scipy", "matplotlib", "phonopy", "tqdm")
HELP = f"""
import os, sys
from mlcalc.cli import main
from mlcalc.cli.verbs import VERBS

def loaded():
    return [name for name in {HEAVY} if name in sys.modules]

codes = [main(["--help"]), main(["--version"]), main(["frobnicate"])]
os.environ |= {{"_MLCALC_COMPLETE": "bash_complete", "COMP_WORDS": "mlcalc e", "COMP_CWORD": "1"}}
try:
    main([])
except SystemExit as done:
    codes.append(done.code)
del os.environ["_MLCALC_COMPLETE"]
print(codes, loaded(), sep="|", file=sys.stderr)
codes = [main([verb, "--help"]) for verb in VERBS]
print(codes, loaded(), sep="|", file=sys.stderr)
codes = [main(["models"]), main(["models", "cu-hvnet"])]
print(codes, loaded(), sep="|", file=sys.stderr)
main(["doctor"])
print([], loaded(), sep="|", file=sys.stderr)
"""


def test_help_and_completion_load_nothing_heavy_and_headers_no_torch(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", HELP]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    told = [line.split("|") for line in done.stderr.splitlines() if line.startswith("[")]
    (first, nothing), (helps, without), (models, still), (_, after) = told
    assert (json.loads(first), nothing) == ([0, 0, 2, 0], "[]")
    assert set(json.loads(helps)) == {0}
    assert len(json.loads(helps)) == len(VERBS)
    assert json.loads(models) == [0, 0]
    for name in ("torch", "matplotlib", "phonopy"):
        assert name not in without
        assert name not in still
    assert "torch" in after  # work does load it, so the lines above are not without it for want of a list
    for word in ("plain,eos", "plain,effective-phonons", "--ensemble", "--r-max", "--group-by", "meV/Å", "Examples:"):
        assert word in done.stdout


def test_the_list_of_verbs_is_what_they_say(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for name, verb in VERBS.items():
        assert f"{name} {verb.help}" in text
        assert commands.get_command(click.Context(commands), name).name == name


def test_numbers_of_a_model_have_sensible_digits(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "cu-hvnet"]) == 0
    numbers = re.findall(r"\b\d+\.\d+\b", capsys.readouterr().out)
    assert len(numbers) > 10
    assert max(len(number.replace(".", "").lstrip("0")) for number in numbers) <= 8


def test_models_describes_a_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(folder / "copper.safetensors")
    assert main(["models", file, "--json"]) == 0
    described = json.loads(capsys.readouterr().out)
    network = load_model(file)
    kind, settings = network_settings(network)
    assert described["kind"] == kind
    assert described["elements"] == ["Cu"]
    assert described["info"]["settings"]["num_rbf"] == settings["num_rbf"]
    assert described["contents_sha256"] == network.info.sha256
    assert main(["models", file]) == 0
    text = capsys.readouterr().out
    assert "cutoff_A: 4\n" in text
    assert described["contents_sha256"] in text


def test_models_lists_what_is_bundled(capsys: pytest.CaptureFixture[str]) -> None:
    from mlcalc.bundled import bundled_models

    assert main(["models"]) == 0
    listed = capsys.readouterr().out
    assert main(["models", "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)) == list(bundled_models())
    for name in bundled_models():
        assert name in listed


def test_md_is_run_nvt_in_a_folder(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = ("--supercell", "2", "1", "1", "--trajectory-interval", "5", "--tau-fs", "50", "--timestep-fs", "2")
    assert main(md(folder, tmp_path / "run", *more)) == 0
    atoms = read(folder / "copper.xyz").repeat((2, 1, 1))
    atoms.calc = MLCalculator(folder / "copper.safetensors", dtype="float64")
    expected = run_nvt(atoms, temperature_K=300, timestep_fs=2, steps=20, seed=3, tau_fs=50, trajectory_interval=5)
    stored = Trajectory.load(tmp_path / "run")
    assert len(stored.frames) == 5
    np.testing.assert_allclose(stored.energies, expected.energies, rtol=0, atol=1e-9)
    np.testing.assert_allclose(stored.temperatures, expected.temperatures, rtol=1e-9)
    text = capsys.readouterr().out
    for words in ("20 (0.04 ps), 8 atoms", f"{expected.temperatures.mean():.1f} K mean", "drift", "ns/day", "md.png"):
        assert words in text
    assert (tmp_path / "run" / "md.png").read_bytes().startswith(PNG)


def test_md_continues(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bussi = ("--ensemble", "bussi", "--trajectory-interval", "2", "--no-plot")
    assert main(md(folder, tmp_path / "whole", *bussi, steps=20)) == 0
    assert main(md(folder, tmp_path / "parts", *bussi, steps=8)) == 0
    assert main(md(folder, tmp_path / "parts", *bussi, steps=20)) == 0
    for name in ("trajectory.extxyz", "log.csv"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    capsys.readouterr()
    assert main(md(folder, tmp_path / "parts", *bussi, steps=20)) == 0  # nothing left to do
    assert "ns/day" not in capsys.readouterr().out
    other_seed = [word if word != "3" else "4" for word in md(folder, tmp_path / "parts", *bussi, steps=20)]
    assert main(other_seed) == 1
    assert "seed: 3 in the folder, 4 now" in capsys.readouterr().err


def test_md_of_a_molecule_at_constant_energy(folder: Path, tmp_path: Path) -> None:
    words = ["md", str(folder / "ethanol.xyz"), "--model", "ethanol-visnet", "--ensemble", "nve"]
    words += ["--temperature-K", "600", "--timestep-fs", "0.25", "--steps", "100", "--output", str(tmp_path)]
    assert main(words) == 0
    stored = Trajectory.load(tmp_path)
    assert np.ptp(stored.total_energies) < 0.01 * np.ptp(stored.energies)
    assert (tmp_path / "md.png").read_bytes().startswith(PNG)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_md_ends_after_a_step_when_told_to(folder: Path, tmp_path: Path, number: signal.Signals, code: int) -> None:
    run = tmp_path / "run"
    process = start(*md(folder, run, "--trajectory-interval", "1", "--no-plot", steps=100_000), cwd=tmp_path)
    try:
        while process.poll() is None and not (run / "log.csv").exists():
            time.sleep(0.05)
        process.send_signal(number)
        _, error = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == code
    assert "Traceback" not in error
    stopped = Trajectory.load(run)
    assert not stopped.completed
    assert stopped.steps.tolist() == list(range(len(stopped.steps)))
    assert main(md(folder, run, "--trajectory-interval", "1", "--no-plot", steps=len(stopped.steps) + 2)) == 0
    continued = Trajectory.load(run)
    assert continued.completed
    assert len(continued.steps) == len(stopped.steps) + 3
    assert np.array_equal(continued.energies[: len(stopped.steps)], stopped.energies)


SWALLOWED = """
import os, signal, sys
import click
from mlcalc.cli import commands, main

@commands.command("signaled")
@click.option("--then", default="")
def signaled(then):
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    except BaseException as error:
        raise (ImportError("half a module") if then == "error" else SystemExit(3)) from error

raise SystemExit(main(["signaled", "--then", sys.argv[1]]))
"""


@pytest.mark.parametrize("then", ["error", "exit"])
def test_a_signal_that_an_import_turned_into_an_error_is_still_a_signal(then: str, tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", SWALLOWED, then]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (143, "Terminated.\n")


def test_a_large_timestep_can_be_meant(folder: Path, tmp_path: Path) -> None:
    words = md(folder, tmp_path / "run", "--timestep-fs", "11", "--no-plot", steps=2)
    assert main(words) == 1
    assert main([*words, "--allow-large-timestep", "--min-distance", "0.5"]) == 0


def test_rdf_of_chosen_frames_of_a_run(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(tmp_path / "run")
    assert main(md(folder, tmp_path / "run", "--no-plot", steps=3)) == 0
    capsys.readouterr()
    for index, text in (("500", "has no frame 500, only 4"), ("-5", "has no frame -5"), ("::0", "step other than 0")):
        assert main(["rdf", run, "--index", index]) == 1
        assert text in capsys.readouterr().err
    for index in ("3", "-4", "::2"):
        assert main(["rdf", run, "--index", index]) == 0


def test_rdf_of_a_run_and_of_a_file(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(md(folder, tmp_path / "run", "--no-plot")) == 0
    assert main(["rdf", str(tmp_path / "run"), "--output", str(tmp_path / "g.png"), "--pair", "Cu", "Cu"]) == 0
    assert (tmp_path / "g.png").read_bytes().startswith(PNG)
    capsys.readouterr()
    assert main(["rdf", str(folder / "copper.xyz"), "--r-max", "4", "--bins", "40"]) == 0
    rows = np.array([line.split() for line in capsys.readouterr().out.splitlines()[1:]], dtype=float)
    shells = 4 / 3 * np.pi * (np.arange(1, 41) ** 3 - np.arange(40) ** 3) * 0.1**3
    neighbors = rows[:, 1] * shells * 4 / bulk("Cu", cubic=True).get_volume()
    assert neighbors.sum() == pytest.approx(12 + 6, rel=1e-6)  # the first two shells of fcc


def test_rdf_of_a_molecule_is_a_distribution(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "h.csv"
    assert main(["rdf", str(folder / "ethanol.xyz"), "--bins", "50", "--output", str(output)]) == 0
    with output.open(newline="") as file:
        rows = np.array([[float(row["r_A"]), float(row["h"])] for row in csv.DictReader(file)])
    assert rows[:, 1].sum() * (rows[1, 0] - rows[0, 0]) == pytest.approx(1.0)


def test_eval_against_single_points(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, frames, plot = str(folder / "copper.safetensors"), str(folder / "labeled.xyz"), tmp_path / "parity.png"
    assert main(["eval", model, frames, "--json", "--plot", str(plot)]) == 0
    result = json.loads(capsys.readouterr().out)
    calculator = MLCalculator(model, dtype="float64")
    energy, forces = [], []
    for atoms in read(frames, ":"):
        reference = atoms.calc.results
        single = atoms.copy()
        single.calc = calculator
        energy.append((single.get_potential_energy() - reference["energy"]) / 4)
        forces.append(single.get_forces() - reference["forces"])
    assert result["energy_mae_meV_per_atom"] == pytest.approx(1e3 * np.abs(energy).mean())
    assert result["energy_rmse_meV_per_atom"] == pytest.approx(1e3 * np.sqrt(np.square(energy).mean()))
    assert result["forces_mae_meV_per_A"] == pytest.approx(1e3 * np.abs(forces).mean())
    assert result["forces_rmse_meV_per_A"] == pytest.approx(1e3 * np.sqrt(np.square(forces).mean()))
    hot = np.abs(np.array(forces)[::3]).mean()
    assert result["groups"]["hot"]["forces_mae_meV_per_A"] == pytest.approx(1e3 * hot)
    assert plot.read_bytes().startswith(PNG)
    assert main(["eval", model, frames, "--group-by", "none"]) == 0
    text = capsys.readouterr().out
    assert f"{1e3 * np.abs(forces).mean():.4g}" in text
    assert "hot" not in text


def test_eval_reads_npz(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ethanol = molecule("CH3CH2OH")
    positions = np.stack([ethanol.positions, ethanol.positions * 1.01])
    labels = {"energy": np.array([-4000.0, -4001.0]), "forces": np.zeros_like(positions)}
    np.savez(tmp_path / "ethanol.npz", numbers=ethanol.numbers, positions=positions, **labels)
    assert main(["eval", str(folder / "organic.safetensors"), str(tmp_path / "ethanol.npz"), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["frames"] == 2
    assert result["total_energy_mae_meV"] == pytest.approx(9 * result["energy_mae_meV_per_atom"])


CONFIG = """
name = "tiny"
[model]
kind = "hvnet"
cutoff = 4.0
hidden_channels = 8
num_layers = 1
num_rbf = 4
[data]
train = "labeled.xyz"
validation = 2
[optimizer]
epochs = 50
batch_size = 5
"""


def test_train_then_eval(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = folder / "tiny.toml"
    config.write_text(CONFIG)
    words = ["train", str(config), "--output", str(tmp_path / "run"), "--json"]
    assert main([*words, "--set", "optimizer.epochs=2", "--set", "name=smaller"]) == 0
    model = json.loads(capsys.readouterr().out)["model"]
    assert model.endswith("smaller.safetensors")
    assert main(["eval", model, str(folder / "labeled.xyz"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["frames"] == 12


def test_signal_handlers_are_left_as_they_were() -> None:
    before = signal.getsignal(signal.SIGTERM)
    assert main(["--version"]) == 0
    assert signal.getsignal(signal.SIGTERM) is before


def test_samples_are_listed_written_and_not_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample"]) == 0
    assert "ethanol" in capsys.readouterr().out
    path = tmp_path / "e.xyz"
    assert main(["sample", "ethanol", "--output", str(path)]) == 0
    written = path.read_bytes()
    assert sample("ethanol").get_chemical_formula() == "C2H6O"
    assert len(read(path)) == 9
    assert main(["sample", "copper", "--output", str(path)]) == 2
    assert path.read_bytes() == written
    assert main(["sample", "copper", "--output", str(path), "--overwrite"]) == 0
    assert main(["sample", "unobtainium"]) == 2
