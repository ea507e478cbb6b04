"""What a calculation of the lattice thermal conductivity comes to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ... import plotting
from ...results import Arrays, Quantity, Result

Array = NDArray[np.float64]
_VOIGT = ("xx", "yy", "zz", "yz", "xz", "xy")


@dataclass(frozen=True, eq=False, repr=False)
class ThermalConductivity(Result):
    """The lattice part of a crystal's thermal conductivity; that of electrons is not in it."""

    kind = "thermal_conductivity"
    derived: ClassVar[Mapping[str, Quantity]] = {"mean": Quantity("a third of the trace", "W/(m K)", "(T,)")}

    temperatures: Annotated[Array, Quantity("at which", "K", "(T,)")]
    kappa: Annotated[
        Array, Quantity("Voigt order xx, yy, zz, yz, xz, xy, in the axes of the structure", "W/(m K)", "(T, 6)")
    ]
    method: Annotated[str, Quantity('"rta", relaxation times, or "lbte", the whole linearized Boltzmann equation')]
    isotopes: Annotated[bool, Quantity("whether natural isotopes scatter too")]
    mesh: Annotated[tuple[int, int, int], Quantity("numbers of q-points")]
    supercell: Annotated[NDArray[np.int64], Quantity("of the third-order force constants, rows", shape="(3, 3)")]
    phonon_supercell: Annotated[NDArray[np.int64], Quantity("of the second-order ones, rows", shape="(3, 3)")]
    displacement: Annotated[float, Quantity("of atoms, alone and in pairs", "Å")]
    n_structures: Annotated[
        int, Quantity("supercells whose forces made the force constants, with the undisplaced ones")
    ]
    n_atoms: Annotated[int, Quantity("of the primitive cell")]
    masses: Annotated[Array, Quantity("of the primitive cell's atoms", "u", "(n_atoms,)")]
    asr_residual: Annotated[
        float, Quantity("largest |sum_j Phi_ij| of the second order before symmetrisation", "eV/Å^2")
    ]
    fc3_residual: Annotated[
        float,
        Quantity("largest |sum_j Phi_ijk| over largest |Phi_ijk| before symmetrisation; noise where it nears 1"),
    ]
    lowest: Annotated[
        float,
        Quantity("lowest frequency; imaginary ones are negative, acoustic modes at Γ do not count", "THz"),
    ]

    @classmethod
    def upgraded(cls, arrays: Arrays, info: dict[str, Any]) -> tuple[Arrays, dict[str, Any]]:
        """Of files with phonopy's matrices, whose columns are the vectors."""
        for name in ("supercell", "phonon_supercell"):
            if name in info:
                arrays[name] = np.array(info.pop(name), dtype=np.int64).T.copy()
        return arrays, info

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
