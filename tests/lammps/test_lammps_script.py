"""Scripts of LAMMPS with the line `pair_style mlcalc`, and the command that runs them."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

MISSING = [name for name in ("lammps", "mpi4py") if importlib.util.find_spec(name) is None]
if MISSING:
    pytest.skip(f"not installed: {', '.join(MISSING)}", allow_module_level=True)

from mlcalc.cli.verbs.lammps import lammps_command  # noqa: E402 - only where LAMMPS is
from mlcalc.ground.errors import Use, Wording, in_python  # noqa: E402
from mlcalc.lammps import library  # noqa: E402
from mlcalc.lammps.coupling import Coupling  # noqa: E402
from mlcalc.lammps.remedies import keep_remedies  # noqa: E402
from mlcalc.lammps.script import script_parts  # noqa: E402
from mlcalc.md_protocols.errors import ConfigError  # noqa: E402 - only where LAMMPS is

ROOT = Path(__file__).parents[2]
HELPERS = ROOT / "tests" / "helpers"
EXAMPLE = ROOT / "examples" / "lammps_copper" / "in.copper"
BOX = "lattice fcc 3.6\nregion b block 0 {n} 0 2 0 2\ncreate_box 1 b\ncreate_atoms 1 box\nmass 1 63.546\n"
MODEL = ("--model", "cu-hvnet", "--elements", "Cu")


def command(folder: Path, script: str, *options: str) -> subprocess.CompletedProcess[str]:
    """`mlcalc lammps` on a script, in a folder."""
    (folder / "in.test").write_text(script)
    program = [sys.executable, str(HELPERS / "lammps_runs.py"), "command", "in.test", *MODEL, *options]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{HELPERS}{os.pathsep}{HELPERS.parents[1]}"}
    return subprocess.run(
        program, capture_output=True, text=True, timeout=600, check=False, env=environment, cwd=folder
    )


def energies(log: str) -> list[float]:
    """Of step 0 in a log with thermo_style custom step pe."""
    rows = [line.split() for line in log.splitlines()]
    return [float(row[1]) for row in rows if len(row) == 2 and row[0] == "0"]


def test_a_script_becomes_parts_that_hold_what_came_before() -> None:
    first, second, third = script_parts("a\npair_style mlcalc # ours\nb\n  pair_style   mlcalc\nc", "in")
    assert first == "a\n"
    assert second.splitlines() == ["jump SELF mlcalc_1", "a", "pair_style mlcalc # ours", "label mlcalc_1", "b"]
    assert third.splitlines()[0] == "jump SELF mlcalc_2"
    assert third.splitlines()[-2:] == ["label mlcalc_2", "c"]


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("pair_style eam/alloy\n", "in has no line `pair_style mlcalc`.*after create_box"),
        ("# pair_style mlcalc\n", "in has no line"),
        ("pair_style mlcalc/cut 5\n", "in has no line"),
        ("units metal\npair_style mlcalc Cu\n", "in, line 2.*takes no arguments.*'Cu'"),
        ("pair_style mlcalc\nrun 1\nclear # all\nrun 1", "in, line 3: `clear` removes the model"),
    ],
)
def test_scripts_that_would_run_without_the_model_are_refused(script: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        script_parts(script, "in")


def test_the_example_runs_on_two_ranks_and_goes_on(tmp_path: Path) -> None:
    options = ("--ranks", "2", "--quiet", "--var", "n=3", "--var", "steps=4")
    done = command(tmp_path, EXAMPLE.read_text(), *options)
    assert (done.returncode, done.stderr) == (0, "")
    log = (tmp_path / "log.lammps").read_text()
    assert "2 ranks, exchanging the states of atoms" in log
    assert "cu-hvnet (sha256" in log
    assert (tmp_path / "copper.restart").exists()
    assert "108" in (tmp_path / "copper.dump").read_text().splitlines()
    assert not list(tmp_path.glob("mlcalc-lammps-*"))


def test_two_systems_with_a_clear_between_and_a_jump_backward(tmp_path: Path) -> None:
    thermo = (
        "thermo_style custom step pe\nfix 1 all nve\nvariable i loop 2\nlabel again\nrun 0\nnext i\njump SELF again\n"
    )
    script = "".join(
        f"units metal\n{BOX.format(n=n)}pair_style mlcalc\n{thermo}clear\n".replace("again", f"again{n}")
        for n in (2, 3)
    ).removesuffix("clear\n")
    done = command(tmp_path, script, "--quiet")
    assert (done.returncode, done.stderr) == (0, "")
    small, same, large, again = energies((tmp_path / "log.lammps").read_text())
    assert (small, large) == (same, again)
    assert small / 32 == pytest.approx(large / 48, abs=1e-6)  # the perfect crystal, per atom


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ("fix 1 all nve\njump SELF start\n", "`pair_style mlcalc` was reached a second time"),
        pytest.param(
            "fix 1 all nwe\nrun 0\n",
            "Error: LAMMPS ended with ERROR: Unrecognized fix style 'nwe'",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "fix 1 all nve\nneigh_modify delay 5\nrun 1\nwrite_data later.data\n",
            "neigh_modify every 1 delay 5",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_errors_are_told_once_and_nothing_follows(tmp_path: Path, lines: str, told: str) -> None:
    script = f"units metal\n{BOX.format(n=2)}label start\npair_style mlcalc\n{lines}"
    done = command(tmp_path, script, "--quiet", *(("--ranks", "2") if "neigh" in lines else ()))
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1
    assert told in done.stderr
    assert not (tmp_path / "later.data").exists()


def test_options_are_checked(tmp_path: Path) -> None:
    (tmp_path / "in.test").write_text("pair_style mlcalc")
    done = CliRunner().invoke(lammps_command, [str(tmp_path / "in.test"), *MODEL, "--var", "a b=1"])
    assert isinstance(done.exception, ConfigError)
    assert "--var 'a b=1' is no NAME=VALUE" in str(done.exception)


def test_an_mpiexec_of_another_library_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = SimpleNamespace(COMM_WORLD=SimpleNamespace(size=1), Get_library_version=lambda: "MPICH Version: 5")
    monkeypatch.setattr(library, "check_installed", lambda: None)
    monkeypatch.setitem(sys.modules, "mpi4py", SimpleNamespace(MPI=alone))
    assert library.load_mpi() is alone
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "4")
    with pytest.raises(ConfigError, match="mpiexec started 4 processes, but each finds itself alone"):
        library.load_mpi()


@pytest.mark.parametrize(
    ("wording", "told"),
    [
        (None, "pass min_distance=0.1, or look at it"),
        (lambda remedy: f"give --{remedy.setting}", "give --min_distance, or look"),
    ],
)
def test_an_error_that_ends_the_processes_is_worded_for_whoever_started_them(
    wording: Wording | None, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    MPI = library.load_mpi()
    monkeypatch.setattr(MPI, "Finalize", lambda: None)
    monkeypatch.setattr(os, "_exit", sys.exit)
    coupling = object.__new__(Coupling)
    coupling._lmp, coupling._ranks = SimpleNamespace(flush_buffers=lambda: None), SimpleNamespace(rank=0)
    coupling.wording = wording or in_python
    error = ConfigError("too near", remedies=[Use("max_edges", 5), Use("min_distance", 0.1), "look at it"])
    keep_remedies(error)
    with pytest.raises(SystemExit):
        coupling._end(error)
    said = capsys.readouterr().err
    assert said.startswith(f"Error: too near: {told}")
    assert "max_edges" not in said
    assert "max_edges" in str(ConfigError("too near", remedies=[Use("max_edges", 5)]))  # the twin: nothing dropped
