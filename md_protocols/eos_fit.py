"""Curves through energies over volume: ase.eos, with the checks that a fit needs."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import ConfigError

Array = NDArray[np.float64]
CURVES = {
    "birchmurnaghan": "Birch–Murnaghan",
    "murnaghan": "Murnaghan",
    "vinet": "Vinet",
    "birch": "Birch",
    "pouriertarantola": "Poirier–Tarantola",
}
KINDS = tuple(CURVES)


@dataclass(frozen=True)
class Fit:
    """A fitted curve."""

    kind: str
    V0: float  # Å^3
    E0: float  # eV
    B0: float  # eV/Å^3
    B0_prime: float

    def energy(self, volumes: Any) -> Array:
        """eV."""
        return np.asarray(self._curve(volumes), dtype=float)

    def pressure(self, volumes: Any) -> Array:
        """eV/Å^3: -dE/dV, exact to rounding by a complex step."""
        step = 1e-20 * self.V0
        return np.asarray(-np.imag(self._curve(np.asarray(volumes) + 1j * step)) / step, dtype=float)

    def _curve(self, volumes: Any) -> Any:
        from ase import eos

        return getattr(eos, self.kind)(volumes, self.E0, self.B0, self.B0_prime, self.V0)


def fit_energies(volumes: Array, energies: Array, kind: str, n_atoms: int) -> Fit:
    """The curve of least squares through energies (eV) over volumes (Å^3) of a cell.

    Raises ConfigError where it has no minimum within the volumes.
    """
    from ase.eos import EquationOfState

    first, last = float(volumes.min()), float(volumes.max())
    lowest = int(np.argmin(energies))
    end = "smallest" if lowest == np.argmin(volumes) else "largest" if lowest == np.argmax(volumes) else ""
    try:
        if end:
            raise ValueError(f"the energy is lowest at the {end} volume")
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # scipy's doubts about a fit
            # per atom and from the lowest energy, so that scipy's steps do not depend on the size of the cell
            curve = EquationOfState(volumes / n_atoms, (energies - energies.min()) / n_atoms, eos=kind)
            curve.fit(warn=False)  # where its minimum lies is looked at below
    except (RuntimeError, ValueError, Warning) as error:
        reason = str(error)
    else:
        e0, b0, b0_prime, v0 = (float(value) for value in curve.eos_parameters)
        if first < v0 * n_atoms < last and b0 > 0:
            return Fit(kind, v0 * n_atoms, energies.min() + e0 * n_atoms, b0, b0_prime)
        reason = f"the curve has its minimum at {v0 * n_atoms:.5g} Å^3 and B0 = {b0:.3g} eV/Å^3"
    raise ConfigError(
        f"the energies have no minimum within the volumes from {first:.5g} to {last:.5g} Å^3 ({reason}): relax the "
        "cell first, mlcalc.md_protocols.relax(atoms, cell=True), or take a larger volume_range"
    )
