"""Velocity Verlet: order, energy, and equality with independent answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from ase.md.verlet import VelocityVerlet as AseVelocityVerlet
from springs import Springs, copper, dimer

from mlcalc.md_protocols import ConfigError, run_nve
from mlcalc.md_protocols.dynamics.integrators import PhaseSpace, VelocityVerlet
from mlcalc.md_protocols.dynamics.settings import MDSettings
from mlcalc.md_protocols.dynamics.simulation import Simulation

Integrator = type[VelocityVerlet]


class ExplicitEuler(VelocityVerlet):
    """A broken twin: first order, and not even stable."""

    def step(self, state: PhaseSpace) -> None:
        state.positions += self._drift * state.momenta
        state.momenta += 2 * self._half_kick * state.forces
        state.energy, state.forces = self._forces(state.positions)


class OldForces(VelocityVerlet):
    """A broken twin: the second half kick uses the forces of the old positions."""

    def step(self, state: PhaseSpace) -> None:
        state.momenta += 2 * self._half_kick * state.forces
        state.positions += self._drift * state.momenta
        state.energy, state.forces = self._forces(state.positions)


def simulation(atoms: Atoms, timestep_fs: float, integrator: Integrator = VelocityVerlet) -> Simulation:
    settings = MDSettings("nve", timestep_fs, 300.0, None, 5, 1, 1, remove_drift=True, remove_rotation=False)
    run = Simulation(atoms, settings, max_temperature_K=1e9, max_force=1e9)
    run.verlet = integrator(run.kinetics, run.forces, timestep_fs)
    run.start()
    return run


def energy_error(atoms: Atoms, timestep_fs: float, integrator: Integrator) -> float:
    run = simulation(atoms, timestep_fs, integrator)
    totals = []
    for _ in range(int(600 / timestep_fs)):
        run.advance()
        totals.append(run.row().total_eV)
    return float(np.std(totals))


@pytest.mark.parametrize(("integrator", "second_order"), [(VelocityVerlet, True), (OldForces, False)])
def test_energy_error_shrinks_with_the_square_of_the_timestep(integrator: Integrator, second_order: bool) -> None:
    atoms = copper()
    ratio = energy_error(atoms, 4.0, integrator) / energy_error(atoms, 2.0, integrator)
    assert (abs(ratio - 4.0) < 0.4) == second_order


@pytest.mark.parametrize(("integrator", "stable"), [(VelocityVerlet, True), (ExplicitEuler, False)])
def test_energy_does_not_drift(integrator: Integrator, stable: bool) -> None:
    run = simulation(copper(), 2.0, integrator)
    start = run.row().total_eV
    for _ in range(1500 if stable else 100):
        run.advance()
    assert (abs(run.row().total_eV - start) / len(run.atoms) < 1e-4) == stable  # eV per atom over 3 ps


@pytest.mark.parametrize(("calculator", "steps"), [("springs", 400), ("emt", 120)])
def test_same_trajectory_as_ase(calculator: str, steps: int) -> None:
    atoms = copper()
    if calculator == "emt":
        atoms.calc = EMT()
    momenta = np.random.default_rng(1).normal(scale=1.5, size=(32, 3))
    atoms.set_momenta(momenta - momenta.mean(axis=0))
    ours = run_nve(atoms, timestep_fs=3.0, steps=steps)
    if calculator == "emt":
        atoms.calc = EMT()
    dynamics = AseVelocityVerlet(atoms, timestep=3.0 * units.fs)
    dynamics.run(steps)
    np.testing.assert_allclose(ours.frames[-1].positions, atoms.positions, rtol=0, atol=1e-10)
    np.testing.assert_allclose(ours.frames[-1].get_momenta(), atoms.get_momenta(), rtol=0, atol=1e-10)
    assert abs(ours.energies[-1] - atoms.get_potential_energy()) < 1e-10


def test_harmonic_dimer_follows_the_exact_discrete_solution() -> None:
    """Velocity Verlet on a spring is x_n = x_0 cos(n theta) with cos(theta) = 1 - (omega dt)^2 / 2."""
    atoms, timestep_fs, steps = dimer(0.1), 0.5, 400
    run = run_nve(atoms, timestep_fs=timestep_fs, steps=steps)
    lengths = np.array([frame.get_distance(0, 1) for frame in run.frames])
    first, second = atoms.get_masses()
    omega = np.sqrt(3.0 * (1 / first + 1 / second))
    theta = np.arccos(1 - (omega * timestep_fs * units.fs) ** 2 / 2)
    expected = 1.0 + 0.1 * np.cos(theta * run.steps)
    np.testing.assert_allclose(lengths, expected, rtol=0, atol=1e-10)
    assert np.abs(lengths - 1.0 - 0.1 * np.cos(omega * run.times_fs * units.fs)).max() > 1e-4  # the continuous one
    np.testing.assert_allclose(run.times_fs, timestep_fs * np.arange(steps + 1))


def test_time_reversal_brings_the_atoms_back() -> None:
    atoms = copper()
    there = run_nve(atoms, timestep_fs=2.0, steps=200, temperature_K=300, seed=2)
    turned = there.frames[-1].copy()
    turned.set_momenta(-there.frames[-1].get_momenta())
    turned.calc = atoms.calc
    back = run_nve(turned, timestep_fs=2.0, steps=200)
    np.testing.assert_allclose(back.frames[-1].positions, atoms.positions, rtol=0, atol=1e-9)


def test_one_calculator_call_per_step_and_the_input_stays_as_it_was() -> None:
    atoms = copper()
    calculator, before = atoms.calc, atoms.copy()
    state = np.random.get_state()[1].copy()  # noqa: NPY002 - the global generator must not be touched
    run_nve(atoms, timestep_fs=2.0, steps=50, temperature_K=300)
    assert atoms.calc is calculator
    assert calculator.calls == 51
    assert atoms == before
    assert "momenta" not in atoms.arrays
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002


class Shared(Springs):
    """Springs that another user always asks in between, as a thread may."""

    def get_property(self, name: str, atoms: Atoms | None = None, allow_calculation: bool = True) -> Any:
        value = super().get_property(name, atoms, allow_calculation)
        super().get_property("energy", self.other)
        return value


def test_energy_and_forces_belong_together_whoever_else_uses_the_calculator() -> None:
    alone = run_nve(copper(), timestep_fs=2.0, steps=20, temperature_K=300)
    atoms, perfect = copper(), bulk("Cu", "fcc", a=3.6, cubic=True) * (2, 2, 2)
    atoms.calc = Shared(perfect, 3.0)
    atoms.calc.other = perfect
    shared = run_nve(atoms, timestep_fs=2.0, steps=20, temperature_K=300)
    np.testing.assert_array_equal(shared.energies, alone.energies)
    assert alone.energies.min() > 0.1  # the other structure has none


def test_initial_velocities_have_exactly_the_temperature_and_no_drift() -> None:
    run = run_nve(copper(), timestep_fs=1.0, steps=0, temperature_K=350, seed=11)
    momenta = run.frames[0].get_momenta()
    np.testing.assert_allclose(momenta.sum(axis=0), 0, atol=1e-12)
    assert abs(run.temperatures[0] - 350) < 1e-9
    kinetic = (momenta**2 / (2 * run.frames[0].get_masses()[:, None])).sum()
    assert abs(2 * kinetic / ((3 * 32 - 3) * units.kB) - 350) < 1e-9
    other = run_nve(copper(), timestep_fs=1.0, steps=0, temperature_K=350, seed=12)
    assert np.abs(other.frames[0].get_momenta() - momenta).max() > 0.1


def test_own_momenta_are_kept_without_their_drift() -> None:
    atoms = copper()
    momenta = np.random.default_rng(0).normal(size=(32, 3)) + 0.5
    atoms.set_momenta(momenta)
    run = run_nve(atoms, timestep_fs=1.0, steps=0, temperature_K=999)
    np.testing.assert_allclose(run.frames[0].get_momenta(), momenta - momenta.mean(axis=0), atol=1e-12)


@pytest.mark.parametrize("given", ["drift", "round-off", "rotation"])
def test_round_off_is_no_momentum_of_its_own(given: str) -> None:
    atoms = Atoms("OHH", positions=[[0, 0, 0], [0, 0, 1.0], [0.9, 0.1, 0]])
    atoms.calc = Springs(atoms, 2.0)
    if given == "drift":
        atoms.set_velocities(np.full((3, 3), 0.1234567))
    elif given == "rotation":
        atoms.set_velocities(np.cross([0.01, 0.02, 0.03], atoms.positions - atoms.get_center_of_mass()))
    else:
        atoms.set_momenta(np.random.default_rng(0).normal(scale=1e-16, size=(3, 3)))
    settings = {"timestep_fs": 1.0, "steps": 0, "remove_rotation": True}
    assert abs(run_nve(atoms, **settings, temperature_K=300).temperatures[0] - 300) < 1e-9
    assert run_nve(atoms, **settings).kinetic_energies[0] == 0.0
    atoms.set_momenta(np.random.default_rng(0).normal(scale=1e-6, size=(3, 3)))  # cold, but its own
    assert 0 < run_nve(atoms, **settings, temperature_K=300).temperatures[0] < 1e-3


def test_fixed_atoms_stay_and_are_not_counted() -> None:
    atoms = copper()
    atoms.set_constraint(FixAtoms([0, 5, -1]))
    run = run_nve(atoms, timestep_fs=2.0, steps=100, temperature_K=300)
    moved = np.abs(run.frames[-1].positions - atoms.positions).max(axis=1)
    np.testing.assert_array_equal(np.flatnonzero(moved == 0), [0, 5, 31])
    kinetic = run.kinetic_energies[0]
    assert abs(2 * kinetic / (3 * 29 * units.kB) - 300) < 1e-9
    assert np.std(run.total_energies) < 0.01 * np.std(run.energies)


def test_removed_rotation_stays_away() -> None:
    atoms = Atoms("OHH", positions=[[0, 0, 0], [0, 0, 1.0], [0.9, 0.1, 0]])
    atoms.calc = copper().calc.__class__(atoms, 2.0)
    run = run_nve(atoms, timestep_fs=0.25, steps=200, temperature_K=500, remove_rotation=True)
    kept = run_nve(atoms, timestep_fs=0.25, steps=200, temperature_K=500)
    assert np.abs(run.frames[-1].get_angular_momentum()).max() < 1e-10
    assert np.abs(kept.frames[-1].get_angular_momentum()).max() > 1e-2
    assert abs(2 * run.kinetic_energies[0] / (3 * units.kB) - 500) < 1e-9


def test_an_external_field_must_be_meant() -> None:
    class Well(EMT):  # type: ignore[misc]
        def calculate(self, atoms: Atoms, properties: list[str], system_changes: list[str]) -> None:
            self.atoms = atoms.copy()
            self.results = {"energy": 0.5 * float((atoms.positions**2).sum()), "forces": -atoms.positions}

    atoms = Atoms("Ar", positions=[[0.1, 0, 0]])
    atoms.calc = Well()
    with pytest.raises(ConfigError, match=r"add up to 0\.1 eV/Å.*remove_drift=False"):
        run_nve(atoms, timestep_fs=1.0, steps=10)
    run = run_nve(atoms, timestep_fs=1.0, steps=500, remove_drift=False)
    theta = np.arccos(1 - units.fs**2 / (2 * atoms.get_masses()[0]))
    found = [frame.positions[0, 0] for frame in run.frames]
    np.testing.assert_allclose(found, 0.1 * np.cos(theta * run.steps), atol=1e-12)


@pytest.mark.parametrize(("steps", "frames"), [(500, 501), (1000, 1001), (1005, 504)])
def test_default_intervals_bound_the_frames_and_keep_the_last(steps: int, frames: int) -> None:
    run = run_nve(dimer(), timestep_fs=0.1, steps=steps)
    assert len(run.frames) == len(run.steps) == frames
    assert run.steps[-1] == run.frames[-1].info["step"] == steps
    assert [frame.info["step"] for frame in run.frames] == run.steps.tolist()


def test_intervals_of_log_and_frames_are_independent() -> None:
    run = run_nve(dimer(), timestep_fs=0.1, steps=100, trajectory_interval=30, log_interval=7)
    assert [frame.info["step"] for frame in run.frames] == [0, 30, 60, 90, 100]
    assert run.steps.tolist() == [*range(0, 100, 7), 100]
    np.testing.assert_allclose(run.frame_times_fs, [0, 3, 6, 9, 10])
