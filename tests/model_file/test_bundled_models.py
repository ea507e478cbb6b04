"""The bundled models: their errors are those their cards state, and they conserve energy."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from ase.eos import EquationOfState

from mlcalc import evaluate, load_model
from mlcalc.assessment import assess
from mlcalc.training import Frame, StressSource, read_frames

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared/data"
sys.path.insert(0, str(ROOT / "validation"))
from nve import TIMESTEP_FS, conservation  # noqa: E402

VASP = StressSource(
    "virial_kbar_raw", unit="kbar", compression_positive=True, order=("xx", "yy", "zz", "xy", "xz", "yz")
)
TEST_SETS = {
    "cu-hvnet": ("mlearn_Cu/Cu_test.xyz", {"stress": VASP, "group_key": "group"}),
    "ethanol-visnet": ("rmd17/ethanol_test.npz", {}),
    "aspirin-visnet": ("rmd17/aspirin_test.npz", {}),
}
TARGETS: dict[str, dict[str, float]] = {  # stated before these models were trained
    "cu-hvnet": {"forces_rmse": 0.060, "energy_mae": 0.005},  # eV/Å, eV/atom
    "ethanol-visnet": {"forces_mae": 0.015, "total_energy_mae": 0.003},  # eV/Å, eV
}


def labeled_frames(name: str) -> list[Frame]:
    file, keys = TEST_SETS[name]
    if not (DATA / file).exists():
        pytest.skip(f"reference data {DATA / file} are not here")
    return read_frames(DATA / file, **keys)


@pytest.mark.parametrize("name", TEST_SETS)
def test_errors_on_held_out_frames(name: str) -> None:
    errors = assess(name, labeled_frames(name))
    stated = load_model(name).info.errors
    measured = errors.to_json()
    for key in ("energy_mae_meV_per_atom", "forces_mae_meV_per_A", "forces_rmse_meV_per_A"):
        assert measured[key] == pytest.approx(stated[key], rel=1e-3)
    for key, limit in TARGETS.get(name, {}).items():
        assert getattr(errors.overall, key) <= limit


@pytest.mark.parametrize("name", TEST_SETS)
def test_float32_is_accurate_enough_for_dynamics(name: str) -> None:
    frames = [frame.atoms for frame in labeled_frames(name)[::10]]
    double, single = evaluate(name, frames), evaluate(name, frames, dtype="float32")
    for atoms, one, other in zip(frames, double, single, strict=True):
        assert np.abs(one.forces - other.forces).max() < 1e-4 * max(1.0, np.abs(one.forces).max())
        assert abs(one.energy - other.energy) < 1e-5 * len(atoms)


def test_copper_is_a_crystal() -> None:
    """PBE: a0 3.635 Å, bulk modulus 138 GPa."""
    lattice = np.linspace(3.55, 3.72, 9)
    cells = [bulk("Cu", a=a) for a in lattice]
    energies = [result.energy for result in evaluate("cu-hvnet", cells)]
    volume, _, modulus = EquationOfState([cell.get_volume() for cell in cells], energies, eos="birchmurnaghan").fit()
    assert (4 * volume) ** (1 / 3) == pytest.approx(3.635, abs=0.03)
    assert modulus * 160.21766 == pytest.approx(138, rel=0.15)


@pytest.mark.parametrize("name", TEST_SETS)
def test_energy_error_shrinks_with_the_square_of_the_time_step(name: str) -> None:
    """Velocity Verlet with exact forces of a smooth energy; a wrong force or a jump breaks the order."""
    step = TIMESTEP_FS[name]
    runs = [conservation(name, picoseconds=0.1, timestep_fs=factor * step) for factor in (0.5, 1.0)]
    assert runs[1].fluctuation / runs[0].fluctuation == pytest.approx(4.0, rel=0.15)


@pytest.mark.slow
@pytest.mark.parametrize("name", TEST_SETS)
def test_no_drift_in_20_ps(name: str) -> None:
    run = conservation(name, picoseconds=20.0, timestep_fs=TIMESTEP_FS[name])
    assert abs(run.drift) <= 0.05  # meV/atom/ps
    assert 150 < run.temperature < 450
