"""A system under way: state, integrator and thermostat, advanced step by step and guarded."""

from __future__ import annotations

from typing import Any

import numpy as np
from ase import Atoms

from mlcalc.ground.errors import Use

from ..errors import ConfigError, SimulationError, ThermostatError
from .frames import LogRow
from .guard import Guard
from .integrators import ForceField, PhaseSpace, Thermostat, VelocityVerlet, apply_thermostat, build_thermostat
from .kinetics import Array, Kinetics
from .recording import Checkpoint
from .settings import MDSettings

# Direct-force models are off by a per cent or two; a field is not.
_NET_FORCE, _NET_FORCE_SHARE = 1e-3, 0.05  # eV/Å, share of the sum of all |F|


class FailedStep(Exception):  # noqa: N818 - caught inside the package
    """A step that went wrong, with the state it led to."""

    def __init__(self, message: str, state: PhaseSpace) -> None:
        super().__init__(message)
        self.state = state


class Simulation:
    """Atoms under way; the atoms given are copied, their calculator is shared."""

    def __init__(
        self, atoms: Atoms, settings: MDSettings, *, max_temperature_K: float | None, max_force: float
    ) -> None:
        self.atoms = atoms.copy()
        self.atoms.calc = atoms.calc
        self.settings = settings
        self._max_temperature, self._max_force = max_temperature_K, max_force
        self.kinetics = Kinetics(atoms, remove_drift=settings.remove_drift, remove_rotation=settings.remove_rotation)
        self.forces = ForceField(self.atoms)
        self.rng = np.random.default_rng(settings.seed)
        self.verlet = VelocityVerlet(self.kinetics, self.forces, settings.timestep_fs)
        self.thermostat = self._thermostat()
        self.step = 0
        self.kinetic = 0.0  # eV, of the present momenta

    def start(self) -> None:
        """Momenta and first forces; errors of the calculator pass through."""
        momenta = self.kinetics.initial_momenta(self.atoms, self.settings.temperature_K, self.rng)
        positions = self.atoms.positions.astype(float)
        energy, forces = self.forces(positions)
        self.state, self.kinetic = PhaseSpace(positions, momenta, forces, energy), self.kinetics.kinetic_energy(momenta)
        self._arm_guard()
        if complaint := self.guard.complaint(self.state, self.temperature):
            raise SimulationError(f"the starting structure cannot be run: {complaint}", remedies=self.guard.remedies)
        self._check_net_force(forces)
        self.guard.keep(0, self.state)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint, with the stored forces; the calculator must agree with them."""
        self.state, self.step = checkpoint.state.copy(), checkpoint.step
        self.kinetic = self.kinetics.kinetic_energy(self.state.momenta)
        self.rng.bit_generator.state = checkpoint.rng_state
        energy, forces = self.forces(self.state.positions)
        scale = max(1.0, float(np.abs(self.state.forces).max()))
        difference = float(np.abs(forces - self.state.forces).max())
        if not (difference <= 1e-3 * scale and abs(energy - self.state.energy) <= 1e-3 * scale * len(forces)):
            raise ConfigError(
                f"the calculator is not the one of the run to be continued: at step {self.step} its forces differ by "
                f"{difference:.3g} eV/Å and its energy by {abs(energy - self.state.energy):.3g} eV",
                setting="calc",
                value=difference,
                limit=1e-3 * scale,
                remedies=["use the same model and settings", "take another output folder"],
            )
        self._arm_guard()
        self.guard.keep(self.step, self.state)

    def advance(self) -> None:
        """One step; FailedStep, with the state rolled back to the last good one, if it cannot be made."""
        cause = None
        try:
            self.verlet.step(self.state)
            self.kinetic = self.kinetics.kinetic_energy(self.state.momenta)
            complaint = self.guard.complaint(self.state, self.temperature)
        except Exception as error:
            complaint, cause = f"the calculator failed: {type(error).__name__}: {error}", error
            self.state.forces = np.full_like(self.state.positions, np.nan)
        if complaint:
            number = self.step + 1
            failure = FailedStep(f"step {number} ({number * self.settings.timestep_fs:g} fs): {complaint}", self.state)
            self.step, self.state = self.guard.good[-1]
            self.kinetic = self.kinetics.kinetic_energy(self.state.momenta)
            raise failure from cause
        if self.thermostat is not None:
            self.kinetic = apply_thermostat(self.thermostat, self.state, self.kinetic, self.kinetics, self.rng)
        self.step += 1
        self.guard.keep(self.step, self.state)

    @property
    def rng_state(self) -> dict[str, Any]:
        return dict(self.rng.bit_generator.state)

    @property
    def temperature(self) -> float:
        return self.kinetics.temperature(self.kinetic)

    def row(self) -> LogRow:
        """The log row of the present step."""
        state, kinetic = self.state, self.kinetic
        total, time_fs = state.energy + kinetic, self.step * self.settings.timestep_fs
        return LogRow(self.step, time_fs, state.energy, kinetic, total, self.temperature, total - state.heat)

    def _thermostat(self) -> Thermostat | None:
        settings, kinetics = self.settings, self.kinetics
        if settings.temperature_K is None or settings.tau_fs is None:
            return None
        if kinetics.degrees_of_freedom == 0:
            raise ThermostatError(
                f"the thermostat {settings.ensemble!r} has nothing to act on: {len(kinetics.masses)} atoms, "
                f"{len(kinetics.fixed)} of them fixed, leave no degrees of freedom",
                setting="ensemble",
                value=settings.ensemble,
                remedies=[
                    Use("ensemble", "nve", python="use run_nve"),
                    "more atoms",
                    Use("remove_drift", False, "in an external field"),
                ],
            )
        target = kinetics.target_energy(settings.temperature_K)
        rate = settings.timestep_fs / settings.tau_fs
        return build_thermostat(settings.ensemble, target, rate, kinetics.degrees_of_freedom)

    def _check_net_force(self, forces: Array) -> None:
        net, total = float(np.linalg.norm(forces.sum(axis=0))), float(np.linalg.norm(forces, axis=1).sum())
        if self.kinetics.remove_drift and net > max(_NET_FORCE, _NET_FORCE_SHARE * total):
            raise ConfigError(
                f"the forces add up to {net:.3g} eV/Å, not to zero: the center of mass would be driven away",
                setting="remove_drift",
                value=net,
                limit=max(_NET_FORCE, _NET_FORCE_SHARE * total),
                remedies=[Use("remove_drift", False, "if an external field is meant"), "check the calculator"],
            )

    def _arm_guard(self) -> None:
        self.guard = Guard(
            self.atoms,
            max(self.settings.temperature_K or 0.0, self.temperature),
            max_temperature_K=self._max_temperature,
            max_force=self._max_force,
            timestep_fs=self.settings.timestep_fs,
        )
