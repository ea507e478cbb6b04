"""The calculator's steps that stay on the device, here with a device that is the CPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import units
from ase.build import bulk
from ase.md.verlet import VelocityVerlet

from mlcalc import MLCalculator
from mlcalc.errors import StructureError
from mlcalc.gpu.calculator_steps import DeviceSteps
from mlcalc.gpu.trajectory import DeviceTrajectory


def on_device(skin: float = 0.5) -> MLCalculator:
    calc = MLCalculator("cu-hvnet", skin=skin)
    assert calc._steps is None  # no GPU, no such steps
    engine = calc.engine
    trajectory = DeviceTrajectory(engine.potential, device=torch.device("cpu"), dtype=engine.dtype, skin=skin)
    calc._steps = DeviceSteps(engine, trajectory, min_distance=calc.min_distance, max_edges=calc.neighbors.max_edges)
    return calc


def test_a_run_gives_the_numbers_of_the_host() -> None:
    atoms = bulk("Cu", cubic=True) * (2, 2, 2)
    atoms.set_velocities(np.random.default_rng(1).normal(scale=0.05, size=(len(atoms), 3)))  # about 1500 K
    atoms.calc, reference = on_device(), MLCalculator("cu-hvnet")
    run = VelocityVerlet(atoms, 5 * units.fs)
    for _ in range(30):
        run.run(1)
        other = atoms.copy()
        other.calc = reference
        assert atoms.get_potential_energy() == pytest.approx(other.get_potential_energy(), abs=1e-9)
        np.testing.assert_allclose(atoms.get_forces(), other.get_forces(), rtol=0, atol=1e-10)
        np.testing.assert_allclose(atoms.get_stress(), other.get_stress(), rtol=0, atol=1e-12)
        assert atoms.calc.edges == reference.edges
    assert atoms.calc._steps is not None
    assert atoms.calc._steps._trajectory.rebuilds > 1  # lists of neighbors were searched anew on the way
    assert atoms.calc.neighbors.rebuilds == 1  # by the host for the first structure only


def test_other_atoms_cells_and_errors() -> None:
    atoms = bulk("Cu", cubic=True) * (2, 2, 2)
    atoms.rattle(0.05, seed=1)
    atoms.calc = on_device()
    for change in (
        lambda: atoms.rattle(0.05, seed=2),
        lambda: atoms.set_cell(atoms.cell.array * 1.01, scale_atoms=True),
        lambda: atoms.pop(3),
        lambda: atoms.rattle(0.02, seed=3),
        lambda: atoms.set_pbc((True, True, False)),
        lambda: atoms.rattle(0.02, seed=4),
    ):
        change()
        other = atoms.copy()
        other.calc = MLCalculator("cu-hvnet")
        np.testing.assert_allclose(atoms.get_forces(), other.get_forces(), rtol=0, atol=1e-10)
    before = atoms.positions.copy()
    atoms.positions[5] = atoms.positions[9] + 0.1
    with pytest.raises(StructureError, match="0.1"):
        atoms.get_forces()
    assert atoms.calc.results == {}
    atoms.positions[:] = before
    np.testing.assert_allclose(atoms.get_forces(), other.get_forces(), rtol=0, atol=1e-10)
    atoms.positions[2, 1] = np.nan
    with pytest.raises(StructureError, match="atom 2"):
        atoms.get_forces()
