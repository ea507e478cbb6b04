"""What a calculation of the lattice thermal conductivity comes to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ... import plotting
from ...folders.storage import load_arrays, save_arrays

Array = NDArray[np.float64]
_VOIGT = ("xx", "yy", "zz", "yz", "xz", "xy")
_ARRAYS = ("temperatures", "kappa", "masses")
_PLAIN = "method isotopes mesh supercell phonon_supercell displacement n_structures n_atoms".split()
_PLAIN += ["asr_residual", "fc3_residual", "lowest"]


@dataclass(frozen=True, eq=False)
class ThermalConductivity:
    """The lattice part of a crystal's thermal conductivity; that of electrons is not in it."""

    temperatures: Array  # (T,) K
    kappa: Array  # (T, 6) W/(m K), Voigt order xx, yy, zz, yz, xz, xy, in the axes of the structure
    method: str  # "rta", relaxation times, or "lbte", the whole linearized Boltzmann equation
    isotopes: bool  # whether natural isotopes scatter too
    mesh: tuple[int, int, int]
    supercell: tuple[tuple[int, ...], ...]  # of the third-order force constants
    phonon_supercell: tuple[tuple[int, ...], ...]  # of the second-order ones
    displacement: float  # Å
    n_structures: int  # supercells whose forces made the force constants, with the undisplaced ones
    n_atoms: int  # of the primitive cell
    masses: Array  # (n_atoms,) u, of the primitive cell
    asr_residual: float  # eV/Å^2, largest |sum_j Phi_ij| of the second order before symmetrisation
    fc3_residual: float  # largest |sum_j Phi_ijk| over largest |Phi_ijk| before symmetrisation; noise where it nears 1
    lowest: float  # THz, lowest frequency; imaginary ones are negative, acoustic modes at Γ do not count

    @property
    def mean(self) -> Array:
        """(T,) W/(m K), a third of the trace."""
        mean: Array = self.kappa[:, :3].mean(axis=1)
        return mean

    def __str__(self) -> str:
        rows = [
            f"{t:7.0f} K  "
            + "  ".join(f"{name} {round(value, 6):.4g}" for name, value in zip(_VOIGT, row, strict=True))
            for t, row in zip(self.temperatures, self.kappa, strict=True)
        ]
        return (
            f"lattice thermal conductivity (W/(m K)), {self.method}, mesh {' x '.join(map(str, self.mesh))}, "
            f"{self.n_structures} structures, {'with' if self.isotopes else 'without'} isotopes\n" + "\n".join(rows)
        )

    def plot(self, ax: Any = None) -> Any:
        """Axes with the diagonal components over temperature, both logarithmic."""
        from matplotlib.ticker import LogFormatter

        ax = plotting.axes(ax)
        cubic = np.allclose(self.kappa[:, :3], self.mean[:, None], rtol=1e-3)
        for k in range(1 if cubic else 3):
            label = r"$\kappa$" if cubic else rf"$\kappa_\mathrm{{{_VOIGT[k]}}}$"
            ax.loglog(self.temperatures, self.kappa[:, k], "o-", markersize=3, label=label)
        ax.set_xlabel("temperature (K)")
        ax.set_ylabel("lattice thermal conductivity (W m⁻¹ K⁻¹)")
        for axis in (ax.xaxis, ax.yaxis):  # plain numbers: such ranges seldom span a decade
            axis.set_major_formatter("{x:g}")
            axis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.5)))
        if not cubic:
            ax.legend(frameon=False)
        return ax

    def to_json(self) -> dict[str, Any]:
        """Plain values with units in their names."""
        return {
            "temperatures_K": self.temperatures.tolist(),
            "kappa_W_per_m_K": self.kappa.tolist(),
            "order": list(_VOIGT),
            "displacement_A": self.displacement,
            "asr_residual_eV_per_A2": self.asr_residual,
            "fc3_residual_relative": self.fc3_residual,
            "lowest_frequency_THz": self.lowest,
            "masses_u": self.masses.tolist(),
            **{name: getattr(self, name) for name in ("method", "isotopes", "n_structures", "n_atoms")},
            "mesh": list(self.mesh),
            "supercell": [list(row) for row in self.supercell],
            "phonon_supercell": [list(row) for row in self.phonon_supercell],
        }

    def save(self, path: str | Path) -> None:
        """Write everything to one .npz file, without pickle."""
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        save_arrays(path, "thermal_conductivity", arrays, {name: getattr(self, name) for name in _PLAIN})

    @classmethod
    def load(cls, path: str | Path) -> ThermalConductivity:
        """The result of a file written by `save`."""
        arrays, info = load_arrays(path, "thermal_conductivity")
        info["mesh"] = tuple(info["mesh"])
        for name in ("supercell", "phonon_supercell"):
            info[name] = tuple(tuple(row) for row in info[name])
        return cls(**(info | arrays))
