"""What the quasi-harmonic approximation says of a crystal over temperature."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import checks, plotting
from ..errors import ConfigError
from ..storage import load_arrays, save_arrays

Array = NDArray[np.float64]
_ARRAYS = (
    "temperatures volumes gibbs_energy bulk_modulus thermal_expansion heat_capacity entropy grueneisen "
    "scanned_volumes energies free_energies lowest_frequencies"
).split()
_PLAIN = ("n_atoms", "eos", "pressure_GPa", "cubic", "supercell", "mesh", "residual")


@dataclass(frozen=True, eq=False)
class QuasiHarmonic:
    """A crystal at constant pressure; energies, volumes and heat capacities are those of the primitive cell."""

    temperatures: Array  # (T,) K
    volumes: Array  # (T,) Å^3, V(T) at which F(V, T) + p V is least
    gibbs_energy: Array  # (T,) eV
    bulk_modulus: Array  # (T,) GPa, isothermal
    thermal_expansion: Array  # (T,) 1/K, volumetric, (1/V) dV/dT
    heat_capacity: Array  # (T,) eV/K, C_p
    entropy: Array  # (T,) eV/K
    grueneisen: Array  # (T,) thermodynamic Grueneisen parameter, alpha B V / C_V; 0 at 0 K
    scanned_volumes: Array  # (V,) Å^3
    energies: Array  # (V,) eV, of the atoms at rest
    free_energies: Array  # (T, V) eV, energies + phonons (+ p V)
    lowest_frequencies: Array  # (V,) THz
    n_atoms: int
    eos: str
    pressure_GPa: float  # noqa: N815 - the public keyword
    cubic: bool  # whether isotropic scaling is all that symmetry allows
    supercell: tuple[tuple[int, ...], ...]
    mesh: tuple[int, int, int]
    residual: float  # eV, largest root mean square of free energies about the curve fitted

    @property
    def linear_expansion(self) -> Array:
        """(T,) 1/K, a third of the volumetric one: of the lattice constant of a cubic crystal."""
        return self.thermal_expansion / 3

    def at(self, temperature_K: float) -> dict[str, float]:
        """Numbers at one temperature, linear between those computed, with units in their names."""
        t = checks.number("temperature_K", temperature_K, at_least=float(self.temperatures[0]))
        if t > self.temperatures[-1]:
            raise ConfigError(f"temperature_K is {t:g}: this calculation ends at {self.temperatures[-1]:g} K")
        named = {
            "volume_A3": self.volumes,
            "linear_expansion_per_K": self.linear_expansion,
            "bulk_modulus_GPa": self.bulk_modulus,
            "heat_capacity_eV_per_K": self.heat_capacity,
            "grueneisen": self.grueneisen,
        }
        return {name: float(np.interp(t, self.temperatures, values)) for name, values in named.items()}

    def __str__(self) -> str:
        lines = [
            f"quasi-harmonic crystal, {self.n_atoms} atoms per primitive cell, {len(self.scanned_volumes)} volumes "
            f"from {self.scanned_volumes[0]:.3f} to {self.scanned_volumes[-1]:.3f} Å^3 ({self.eos}), "
            f"{self.pressure_GPa:g} GPa"
        ]
        named = [t for t in (0.0, 100.0, 300.0, 600.0, 1000.0) if t in self.temperatures]
        for t in named or np.unique(self.temperatures[[0, len(self.temperatures) // 2, -1]]):
            found = self.at(t)
            lines.append(
                f"{t:6.0f} K: V = {found['volume_A3']:.4f} Å^3, linear expansion "
                f"{1e6 * found['linear_expansion_per_K']:.2f}e-6/K, B = {found['bulk_modulus_GPa']:.1f} GPa, C_p = "
                f"{found['heat_capacity_eV_per_K'] / self.n_atoms * 1e6 / 86.17333:.3f} kB per atom, "
                f"gamma = {found['grueneisen']:.3f}"
            )
        if not self.cubic:
            lines.append("the crystal is not cubic: its shape was kept, and a third of the expansion is a mean")
        return "\n".join(lines)

    def plot(self, ax: Any = None) -> Any:
        """Axes with the linear expansion over temperature; without `ax` beside F(V, T) and its minima."""
        if ax is None:
            from matplotlib.figure import Figure

            left, ax = Figure(figsize=(9.0, 4.0), layout="constrained").subplots(1, 2)
            self._plot_free_energies(left)
        ax = plotting.axes(ax)
        several = len(self.temperatures) > 1
        ax.plot(self.temperatures, 1e6 * self.linear_expansion, "-" if several else "o")
        ax.set_xlabel("temperature (K)")
        ax.set_ylabel("linear thermal expansion (10⁻⁶/K)")
        if several:
            ax.set_xlim(self.temperatures[0], self.temperatures[-1])
        return ax

    def _plot_free_energies(self, ax: Any) -> None:
        chosen = np.unique(np.linspace(0, len(self.temperatures) - 1, 6).astype(int))
        zero = self.free_energies.max()
        for k in chosen:
            energies = 1e3 * (self.free_energies[k] - zero) / self.n_atoms
            (line,) = ax.plot(self.scanned_volumes / self.n_atoms, energies, "o", markersize=3)
            ax.plot(self.scanned_volumes / self.n_atoms, energies, color=line.get_color(), linewidth=0.8)
            ax.annotate(
                f"{self.temperatures[k]:.0f} K",
                (self.scanned_volumes[-1] / self.n_atoms, energies[-1]),
                xytext=(4, 0),
                textcoords="offset points",
                fontsize="small",
                va="center",
                annotation_clip=False,
            )
        ax.plot(self.volumes / self.n_atoms, 1e3 * (self.gibbs_energy - zero) / self.n_atoms, color="k", linewidth=1.0)
        ax.set_xlabel("volume (Å³/atom)")
        ax.set_ylabel("free energy (meV/atom)")

    def to_json(self) -> dict[str, Any]:
        """Plain values with units in their names."""
        return {
            "temperatures_K": self.temperatures.tolist(),
            "volumes_A3_per_primitive_cell": self.volumes.tolist(),
            "gibbs_energy_eV_per_primitive_cell": self.gibbs_energy.tolist(),
            "bulk_modulus_GPa": self.bulk_modulus.tolist(),
            "volumetric_expansion_per_K": self.thermal_expansion.tolist(),
            "linear_expansion_per_K": self.linear_expansion.tolist(),
            "heat_capacity_p_eV_per_K_per_primitive_cell": self.heat_capacity.tolist(),
            "entropy_eV_per_K_per_primitive_cell": self.entropy.tolist(),
            "grueneisen": self.grueneisen.tolist(),
            "scanned_volumes_A3_per_primitive_cell": self.scanned_volumes.tolist(),
            "lowest_frequencies_THz": self.lowest_frequencies.tolist(),
            "atoms_per_primitive_cell": self.n_atoms,
            "pressure_GPa": self.pressure_GPa,
            "eos": self.eos,
            "cubic": self.cubic,
            "fit_residual_eV": self.residual,
        }

    def save(self, path: str | Path) -> None:
        """Write everything to one .npz file, without pickle."""
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        save_arrays(path, "quasi_harmonic", arrays, {name: getattr(self, name) for name in _PLAIN})

    @classmethod
    def load(cls, path: str | Path) -> QuasiHarmonic:
        """The result of a file written by `save`."""
        arrays, info = load_arrays(path, "quasi_harmonic")
        info["supercell"] = tuple(tuple(row) for row in info["supercell"])
        info["mesh"] = tuple(info["mesh"])
        return cls(**(info | arrays))
