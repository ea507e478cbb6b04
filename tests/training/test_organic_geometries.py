"""Relaxation, dynamics and normal modes of many structures, against springs whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms, units
from ase.calculators.morse import MorsePotential
from ase.data import atomic_masses
from ase.optimize import BFGS
from numpy.typing import NDArray

from training.organic.dynamics import sample
from training.organic.frames import Frames, join
from training.organic.modes import displaced, hessians
from training.organic.relaxation import relax

STIFFNESS, LENGTH = 30.0, 1.1  # eV/Å^2, Å
HBAR = units._hbar * units.J * units.s


def diatomics(frames: Frames) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Harmonic springs between the two atoms of each structure."""
    pairs = frames.positions.reshape(-1, 2, 3)
    apart = pairs[:, 1] - pairs[:, 0]
    length = np.linalg.norm(apart, axis=1)
    pull = (STIFFNESS * (length - LENGTH) / length)[:, None] * apart
    return 0.5 * STIFFNESS * (length - LENGTH) ** 2, np.stack([pull, -pull], axis=1).reshape(-1, 3)


def morse(frames: Frames) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """ASE's Morse potential between all atoms of each structure, with its default settings and no cutoff."""
    energies, forces = np.zeros(len(frames)), np.zeros_like(frames.positions)
    for k, (_, positions) in enumerate(frames):
        apart = positions[:, None] - positions[None]
        distances = np.linalg.norm(apart, axis=-1) + 1e9 * np.eye(len(positions))
        decay = np.exp(-6.0 * (distances - 1.0))
        energies[k] = 0.5 * (decay * (decay - 2)).sum()
        forces[frames.atoms_of(k)] = ((12.0 * decay * (decay - 1) / distances)[:, :, None] * apart).sum(1)
    return energies, forces


def pairs_of(count: int, length: float = LENGTH) -> Frames:
    return join((np.array([6, 8]), np.array([[0.0, 0, 0], [0, 0, length]])) for _ in range(count))


def test_relaxation_finds_the_minima_of_each_structure() -> None:
    rng = np.random.default_rng(2)
    frames = join((np.full(n, 6), rng.normal(0, 0.7, (n, 3))) for n in (3, 4, 5))
    relaxed = frames.at(relax(morse, frames, 600, (600,))[600])
    energies, forces = morse(relaxed)
    assert np.abs(forces).max() < 1e-2
    for k, (numbers, positions) in enumerate(frames):
        atoms = Atoms(numbers, positions, calculator=MorsePotential(rcut1=50.0, rcut2=60.0))
        BFGS(atoms, logfile=None).run(fmax=1e-4, steps=500)
        assert energies[k] == pytest.approx(atoms.get_potential_energy(), abs=1e-3)
        alone = join([(numbers, positions)])
        np.testing.assert_allclose(relax(morse, alone, 600, (600,))[600], relaxed[k][1], atol=1e-9)


def test_relaxation_keeps_the_frames_asked_for() -> None:
    frames = pairs_of(2, 1.5)
    kept = relax(diatomics, frames, 20, (0, 5, 20))
    assert list(kept) == [0, 5, 20]
    np.testing.assert_array_equal(kept[0], frames.positions)
    energies = [diatomics(frames.at(kept[step]))[0].sum() for step in (0, 5, 20)]
    assert energies[0] > energies[1] > energies[2]


@pytest.mark.parametrize("temperature", [300.0, 900.0])
def test_dynamics_samples_the_canonical_distribution(temperature: float) -> None:
    count = 400
    frames = pairs_of(count)
    taken = sample(
        diatomics,
        frames,
        np.full(count, temperature),
        equilibration=200,
        spacing=25,
        samples=12,
        rng=np.random.default_rng(4),
    )
    lengths = np.concatenate([np.linalg.norm(np.diff(p.reshape(-1, 2, 3), axis=1)[:, 0], axis=1) for p in taken])
    grid = np.linspace(0.5, 1.7, 4000)
    weight = grid**2 * np.exp(-0.5 * STIFFNESS * (grid - LENGTH) ** 2 / (units.kB * temperature))
    mean = (grid * weight).sum() / weight.sum()
    variance = (grid**2 * weight).sum() / weight.sum() - mean**2
    assert lengths.var() == pytest.approx(variance, rel=0.08)
    assert lengths.mean() == pytest.approx(mean, abs=4 * np.sqrt(variance / len(lengths)))


def test_each_structure_has_its_own_temperature() -> None:
    temperatures = np.repeat([100.0, 1000.0], 300)
    (last,) = sample(
        diatomics, pairs_of(600), temperatures, equilibration=300, spacing=1, samples=1, rng=np.random.default_rng(5)
    )
    energies, _ = diatomics(pairs_of(600).at(last))
    cold, hot = energies[:300].mean(), energies[300:].mean()
    assert hot / cold == pytest.approx(10, rel=0.35)
    assert hot == pytest.approx(0.5 * units.kB * 1000, rel=0.25)


def test_exploding_structures_stay_finite_and_do_not_touch_others() -> None:
    def repelling(frames: Frames) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        energies, forces = diatomics(frames)
        forces[:2] = np.nan
        return energies, forces

    settings = {"equilibration": 10, "spacing": 5, "samples": 2}
    for positions in sample(
        repelling,
        pairs_of(3),
        np.full(3, 300.0),
        **settings,
        rng=np.random.default_rng(1),  # type: ignore[arg-type]
    ):
        assert np.isfinite(positions).all()
        assert np.abs(positions[2:] - pairs_of(3).positions[2:]).max() > 1e-3


def test_hessians_are_second_derivatives() -> None:
    geometries = [(np.array([6, 8]), np.array([[0.1, 0, 0], [0, 0.2, LENGTH]])) for _ in range(2)]
    geometries[1][1][1] *= 1.2
    for (numbers, positions), hessian in zip(geometries, hessians(diatomics, geometries), strict=True):
        step, expected = 1e-4, np.zeros((6, 6))
        for i in range(6):
            moved = np.array([positions.ravel() + sign * step * np.eye(6)[i] for sign in (1, -1)]).reshape(2, 2, 3)
            _, forces = diatomics(join((numbers, p) for p in moved))
            expected[i] = -(forces[:2] - forces[2:]).ravel() / (2 * step)
        np.testing.assert_allclose(hessian, expected, atol=0.05 * STIFFNESS * 0.2)
        np.testing.assert_array_equal(hessian, hessian.T)


@pytest.mark.parametrize("quantum", [False, True])
def test_modes_are_as_wide_as_theory_says(quantum: bool) -> None:
    geometry = (np.array([6, 8]), np.array([[0, 0, 0], [0, 0, LENGTH]]))
    (hessian,) = hessians(diatomics, [geometry])
    rng = np.random.default_rng(7)
    moved = np.array([displaced(geometry, hessian, 300.0, rng, quantum=quantum) for _ in range(2000)])
    reduced = 1 / (1 / atomic_masses[6] + 1 / atomic_masses[8])
    quantum_energy = HBAR * np.sqrt(STIFFNESS / reduced)
    mean_energy = 0.5 * quantum_energy / np.tanh(0.5 * quantum_energy / (units.kB * 300)) if quantum else units.kB * 300
    variance = (moved[:, 1, 2] - moved[:, 0, 2]).var()
    assert variance == pytest.approx(mean_energy / STIFFNESS, rel=0.1)
    assert np.abs(moved[:, :, :2]).max() < 1e-2  # neither turned nor moved as a whole
    center = (moved * atomic_masses[[6, 8], None]).sum(1)
    assert center.std(0).max() < 0.01 * moved[:, 0, 2].std() * atomic_masses[6]


def test_soft_modes_are_held_narrow() -> None:
    """A mode without any stiffness would go to infinity."""
    geometry = (np.array([8, 1, 1]), np.array([[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]))
    rng = np.random.default_rng(8)
    moved = np.array([displaced(geometry, np.zeros((9, 9)), 300.0, rng, quantum=False) for _ in range(500)])
    largest = np.sqrt(units.kB * 300 / (150 * units.invcm) ** 2) * HBAR / np.sqrt(1.008)
    assert (moved - geometry[1]).std(0).max() < 1.1 * largest
