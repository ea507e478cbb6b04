"""Thermostats: mean temperature, canonical or not, conserved quantity."""

from __future__ import annotations

import numpy as np
import pytest
from ase import units
from ase.constraints import FixAtoms
from ase.md.nvtberendsen import NVTBerendsen
from scipy import stats
from springs import copper, few_atoms

from mlcalc.md_protocols import Trajectory, run_nvt
from mlcalc.md_protocols.dynamics.integrators import Berendsen, Bussi


def kinetic_temperature(momenta: np.ndarray, masses: np.ndarray, degrees_of_freedom: int) -> float:
    return float((momenta**2 / masses[:, None]).sum() / (degrees_of_freedom * units.kB))


def ase_berendsen_temperature(target: float, steps: int) -> float:
    atoms = few_atoms()
    start = run_nvt(atoms, temperature_K=target, timestep_fs=2.0, steps=0, seed=4).frames[0]
    atoms.set_momenta(start.get_momenta())
    samples: list[float] = []
    dynamics = NVTBerendsen(atoms, timestep=2.0 * units.fs, temperature_K=target, taut=50.0 * units.fs)
    dynamics.attach(lambda: samples.append(kinetic_temperature(atoms.get_momenta(), atoms.get_masses(), 9)))
    dynamics.run(steps)
    return float(np.mean(samples[steps // 4 :]))


def our_temperature(thermostat: str, target: float, steps: int) -> float:
    run = run_nvt(
        few_atoms(), temperature_K=target, timestep_fs=2.0, steps=steps, tau_fs=20.0, thermostat=thermostat, seed=4,
        trajectory_interval=1,
    )  # fmt: skip
    masses = run.frames[0].get_masses()
    samples = [kinetic_temperature(frame.get_momenta(), masses, 9) for frame in run.frames]
    np.testing.assert_allclose(samples, run.temperatures, rtol=1e-12)
    return float(np.mean(samples[steps // 4 :]))


def test_mean_kinetic_temperature_is_the_target_where_ase_is_hot() -> None:
    """With 4 atoms ASE's count of 3N degrees of freedom makes it hot by a third."""
    assert abs(our_temperature("berendsen", 300.0, 2000) / 300.0 - 1) < 0.01
    assert abs(ase_berendsen_temperature(300.0, 2000) / 300.0 - 4 / 3) < 0.02


def test_bussi_has_the_mean_kinetic_temperature_too() -> None:
    assert abs(our_temperature("bussi", 300.0, 5000) / 300.0 - 1) < 0.12  # 3.5 standard errors; ASE's count gives 0.33


def test_fixed_atoms_leave_three_degrees_of_freedom_each_mobile_atom() -> None:
    atoms = few_atoms()
    atoms.set_constraint(FixAtoms([0]))
    run = run_nvt(atoms, temperature_K=300, timestep_fs=2.0, steps=1600, tau_fs=50.0, trajectory_interval=1)
    masses = atoms.get_masses()
    samples = [kinetic_temperature(frame.get_momenta(), masses, 9) for frame in run.frames[400:]]
    assert abs(np.mean(samples) / 300 - 1) < 0.01


def kinetic_energies(thermostat: str) -> tuple[Trajectory, np.ndarray]:
    run = run_nvt(
        copper(), temperature_K=300.0, timestep_fs=4.0, steps=5000, tau_fs=20.0, thermostat=thermostat, seed=8,
        log_interval=15, trajectory_interval=5000,
    )  # fmt: skip
    return run, run.kinetic_energies[15:]


def test_bussi_is_canonical_and_berendsen_is_not() -> None:
    """The kinetic energy of the canonical ensemble has a Gamma distribution of shape ndof / 2 and scale k_B T."""
    gamma = stats.gamma(a=(3 * 32 - 3) / 2, scale=units.kB * 300.0)
    _, bussi = kinetic_energies("bussi")
    _, berendsen = kinetic_energies("berendsen")
    assert stats.kstest(bussi, gamma.cdf).pvalue > 1e-3
    assert abs(bussi.std() / gamma.std() - 1) < 0.13  # 3 standard errors
    assert stats.kstest(berendsen, gamma.cdf).pvalue < 1e-6
    assert berendsen.std() < 0.8 * gamma.std()


@pytest.mark.parametrize("thermostat", ["berendsen", "bussi"])
def test_conserved_quantity_is_conserved_while_the_energy_is_not(thermostat: str) -> None:
    runs = [
        run_nvt(
            copper(), temperature_K=500.0, timestep_fs=dt, steps=int(800 / dt), tau_fs=20.0, thermostat=thermostat,
            seed=1, log_interval=1, trajectory_interval=100,
        )
        for dt in (4.0, 2.0)
    ]  # fmt: skip
    errors = [np.abs(run.conserved - run.conserved[0]).max() for run in runs]
    assert errors[1] < 0.03  # eV, of 32 atoms
    assert errors[0] / errors[1] > 3  # and it goes away with the timestep
    assert np.ptp(runs[1].total_energies) > 30 * errors[1]


def test_bussi_propagator_alone_samples_gamma_with_its_own_relaxation_time() -> None:
    rng, target, freedoms, ratio = np.random.default_rng(3), 2.0, 6, 0.25
    bussi, kinetic, samples = Bussi(target, ratio, freedoms), 0.1, []
    for _ in range(40_000):
        kinetic *= bussi.factor(kinetic, rng) ** 2
        samples.append(kinetic)
    values = np.array(samples[200:])
    assert stats.kstest(values[::40], stats.gamma(a=freedoms / 2, scale=2 * target / freedoms).cdf).pvalue > 0.01
    centered = values - values.mean()
    assert abs((centered[1:] * centered[:-1]).mean() / centered.var() - np.exp(-ratio)) < 0.02
    assert abs(values.mean() / target - 1) < 0.02


def test_bussi_of_one_degree_of_freedom_also_turns_the_velocity_round() -> None:
    rng, bussi = np.random.default_rng(3), Bussi(1.0, 1.0, 1)
    factors = np.array([bussi.factor(0.05, rng) for _ in range(1000)])
    assert 0.2 < (factors < 0).mean() < 0.5
    assert (Bussi(1.0, 0.01, 30).factor(1.0, rng)) > 0


def test_berendsen_relaxes_exponentially() -> None:
    """Without forces the distance to the target shrinks by 1 - dt / tau each step (Berendsen 1984, eq. 8)."""
    thermostat, kinetic = Berendsen(2.0, 0.05), 1.0
    for _ in range(30):
        kinetic *= thermostat.factor(kinetic, np.random.default_rng(0)) ** 2
    assert abs((2.0 - kinetic) - 0.95**30) < 1e-12


def test_seed_fixes_the_run_and_changes_it() -> None:
    one, same, other = (
        run_nvt(copper(), temperature_K=300, timestep_fs=2, steps=40, thermostat="bussi", seed=seed)
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one.temperatures, same.temperatures)
    assert np.abs(one.temperatures - other.temperatures).max() > 1


def test_cooling_to_zero_kelvin_and_names_in_any_case() -> None:
    atoms = copper()
    hot = run_nvt(atoms, temperature_K=300, timestep_fs=2, steps=10).frames[-1]
    hot.calc = atoms.calc
    run = run_nvt(hot, temperature_K=0, timestep_fs=2, steps=500, thermostat="Berendsen", tau_fs=20)
    assert run.temperatures[-1] < 1
    assert run_nvt(atoms, temperature_K=0, timestep_fs=2, steps=5).temperatures[-1] < 300


def test_label_says_what_is_not_canonical() -> None:
    labels = [
        run_nvt(copper(), temperature_K=1, timestep_fs=1, steps=0, thermostat=name).settings["label"]
        for name in ("berendsen", "bussi")
    ]
    assert "not canonical" in labels[0]
    assert "not canonical" not in labels[1]
