"""Integrators, each written as its splitting, on any ASE calculator.

Notation: A moves positions for dt, B kicks momenta for dt/2, T is the thermostat.

    velocity Verlet      B A B
    Berendsen, Bussi     B A B T
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from ase import Atoms, units
from numpy.typing import NDArray

from ..errors import ConfigError
from .kinetics import Kinetics

Array = NDArray[np.float64]


@dataclass(slots=True)
class PhaseSpace:
    """Where a run stands; replaced, not edited, by whoever keeps one."""

    positions: Array  # (N, 3) Å
    momenta: Array  # (N, 3) sqrt(amu eV), as in ASE
    forces: Array  # (N, 3) eV/Å, as the calculator gave them
    energy: float  # eV, potential
    heat: float = 0.0  # eV, put in by the thermostat since step 0

    def copy(self) -> PhaseSpace:
        """Independent of it; forces are shared, as each step has its own."""
        return PhaseSpace(self.positions.copy(), self.momenta.copy(), self.forces, self.energy, self.heat)


class ForceField:
    """Energy and forces of moving atoms: one calculator call each, whatever the calculator."""

    def __init__(self, atoms: Atoms) -> None:
        self.atoms = atoms.copy()
        self.atoms.calc = atoms.calc
        self.atoms.arrays.pop("momenta", None)  # those of the start, stale from the first step on

    def __call__(self, positions: Array) -> tuple[float, Array]:
        """Energy in eV and forces (N, 3) in eV/Å, constraints not applied."""
        self.atoms.arrays["positions"][...] = positions
        forces = np.array(self.atoms.get_forces(apply_constraint=False), dtype=np.float64)
        if forces.shape != positions.shape:
            raise ConfigError(
                f"the calculator returned forces of shape {forces.shape} for {len(positions)} atoms: it must be "
                f"{positions.shape}"
            )
        # Asked for, not read from the calculator's results: these may be another thread's by now.  ASE's calculators
        # answer from their store if it is still this structure's.
        return float(self.atoms.get_potential_energy()), forces


class VelocityVerlet:
    """B A B: exp(dt L) = exp(dt/2 F d/dp) exp(dt p/m d/dx) exp(dt/2 F d/dp) + O(dt^3), symplectic, reversible."""

    def __init__(self, kinetics: Kinetics, forces: ForceField, timestep_fs: float) -> None:
        timestep = timestep_fs * units.fs
        self._half_kick: Array = 0.5 * timestep * kinetics.mobile
        self._drift: Array = timestep * kinetics.mobile / kinetics.masses
        self._forces = forces

    def step(self, state: PhaseSpace) -> None:
        state.momenta += self._half_kick * state.forces  # B
        state.positions += self._drift * state.momenta  # A
        state.energy, state.forces = self._forces(state.positions)
        state.momenta += self._half_kick * state.forces  # B


class Thermostat(Protocol):
    """The factor by which all momenta are scaled once per step."""

    def factor(self, kinetic_energy: float, rng: np.random.Generator) -> float: ...


class Berendsen:
    """Weak coupling: K relaxes to its target as dK/dt = (K0 - K) / tau.  NOT canonical.

    Berendsen et al., J. Chem. Phys. 81, 3684 (1984), eq. 11: lambda^2 = 1 + dt/tau (T0/T - 1).  The mean kinetic
    energy is right, its fluctuations are far too small and depend on tau: use it to equilibrate, Bussi to sample.
    """

    def __init__(self, target: float, timestep_over_tau: float) -> None:
        self._target, self._rate = target, timestep_over_tau

    def factor(self, kinetic_energy: float, rng: np.random.Generator) -> float:
        return math.sqrt(1.0 + self._rate * (self._target / kinetic_energy - 1.0))


class Bussi:
    """Canonical sampling through velocity rescaling, the exact propagator of the kinetic energy over dt.

    Bussi, Donadio and Parrinello, J. Chem. Phys. 126, 014101 (2007), eq. A7, with the sign of Bussi and Parrinello,
    Comput. Phys. Commun. 179, 26 (2008).  R_i are standard normals, the sum of the other ndof - 1 squares one draw.
    """

    def __init__(self, target: float, timestep_over_tau: float, degrees_of_freedom: int) -> None:
        self._target, self._others = target, degrees_of_freedom - 1
        self._decay = math.exp(-timestep_over_tau)
        self._share = (1.0 - self._decay) * target / degrees_of_freedom  # eV

    def factor(self, kinetic_energy: float, rng: np.random.Generator) -> float:
        first = rng.standard_normal()
        others = rng.chisquare(self._others) if self._others else 0.0
        noise = math.sqrt(self._share / kinetic_energy)
        along = math.sqrt(self._decay) + noise * first
        return math.copysign(math.sqrt(along**2 + noise**2 * others), along)


THERMOSTATS = {
    "berendsen": "Berendsen velocity rescaling (not canonical: for equilibration)",
    "bussi": "Bussi stochastic velocity rescaling (canonical)",
}


def build_thermostat(name: str, target: float, timestep_over_tau: float, degrees_of_freedom: int) -> Thermostat:
    """The thermostat of that name for a target kinetic energy in eV."""
    if name == "berendsen":
        return Berendsen(target, timestep_over_tau)
    return Bussi(target, timestep_over_tau, degrees_of_freedom)


def apply_thermostat(
    thermostat: Thermostat, state: PhaseSpace, before: float, kinetics: Kinetics, rng: np.random.Generator
) -> float:
    """T: scale the momenta, whose kinetic energy `before` is known (eV); the kinetic energy after.

    The energy put in goes to `heat`, so that E_tot - heat is conserved by the exact flow.  Round-off drift of the
    center of mass is removed first: scaling would otherwise feed it (the flying ice cube).
    """
    momenta = kinetics.without_drift(state.momenta)
    internal = before if momenta is state.momenta else kinetics.kinetic_energy(momenta)
    if internal == 0.0:  # at rest at 0 K: no direction to scale along
        return before
    momenta = momenta * thermostat.factor(internal, rng)
    after = kinetics.kinetic_energy(momenta)
    state.heat += after - before
    state.momenta = momenta
    return after
