"""Elastic constants with what follows from them, and their pictures."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any

import numpy as np
from ase import Atoms
from ase.units import GPa
from numpy.typing import NDArray

from mlcalc.ground.errors import Use

from ..errors import ConfigError
from ..results import Arrays, Quantity, Result
from .tensor import Moduli, debye_temperature, density, eigenvalues, moduli, rotated, sound_velocities, young_modulus

Array = NDArray[np.float64]
_PLANE = [0, 1, 5]
_ZERO = 1e-4  # of the largest constant: below are rounding and the noise of relaxations
SLAB = Use("slab", True, "for a slab with its normal along z", python="call elastic_constants(..., slab=True)")
_ORDER = ("xx", "yy", "zz", "yz", "xz", "xy")


@dataclass(frozen=True, eq=False, repr=False)
class ElasticConstants(Result):
    """Elastic constants in the Cartesian axes of the structure, Voigt order xx, yy, zz, yz, xz, xy."""

    kind = "elastic_constants"

    atoms: Annotated[Atoms, Quantity("the unstrained structure", json=False)]
    stiffness: Annotated[
        Array, Quantity("stress = stiffness @ strain, engineering shear; ions relaxed if they were", "GPa", "(6, 6)")
    ]
    clamped: Annotated[Array, Quantity("stiffness of ions that only follow the strain", "GPa", "(6, 6)")]
    raw: Annotated[Array, Quantity("stiffness before any symmetrisation", "GPa", "(6, 6)")]
    axes: Annotated[
        Array,
        Quantity("rotation x' = axes x to the axes of the conventional cell; identity for a slab", shape="(3, 3)"),
    ]
    asymmetry: Annotated[float, Quantity("largest |raw - raw^T|", "GPa")]
    symmetry_violation: Annotated[float, Quantity("largest change by the mean over the point group", "GPa")]
    nonlinearity: Annotated[
        float, Quantity("largest difference of the constants from the whole and the half strain", "GPa")
    ]
    residual_stress: Annotated[Array, Quantity("of the unstrained structure, ASE's sign", "eV/Å^3", "(6,)")]
    residual_force: Annotated[float, Quantity("largest norm in the unstrained structure", "eV/Å")]
    spacegroup: Annotated[str, Quantity("of the crystal")]
    n_operations: Annotated[int, Quantity("of the point group, averaged over")]
    symmetrized: Annotated[bool, Quantity("whether the mean over the point group was taken")]
    ions_relaxed: Annotated[bool, Quantity("whether atoms moved in the strained cells")]
    strain: Annotated[float, Quantity("the larger amplitude")]
    slab: Annotated[bool, Quantity("only xx, yy and xy were strained; the other constants are 0")]

    derived = MappingProxyType(
        {
            "conventional": Quantity("stiffness in the axes of the conventional cell", "GPa", "(6, 6)"),
            "constants": Quantity("C11, C12, ... of the conventional cell, without what is 0", "GPa"),
            "voigt_order": Quantity("of strains and stresses"),
            "eigenvalues": Quantity("ascending, in Kelvin's notation", "GPa", "(6,) or (3,)"),
            "stable": Quantity("whether every small strain costs energy"),
            "moduli": Quantity("of polycrystals; None where the crystal is not stable, and for a slab"),
            "debye_temperature_K": Quantity("of sound velocities", "K"),
            "residual_stress_GPa": Quantity("residual_stress", "GPa", "(6,)"),
        }
    )

    @classmethod
    def upgraded(cls, arrays: Arrays, info: dict[str, Any]) -> tuple[Arrays, dict[str, Any]]:
        """Files of versions that had GPa in `residual_stress`, and the number of operations as `operations`."""
        if "operations" in info:
            info["n_operations"] = info.pop("operations")
            arrays["residual_stress"] = arrays["residual_stress"] * GPa
        return arrays, info

    @property
    def voigt_order(self) -> tuple[str, ...]:
        """Of strains and stresses."""
        return _ORDER

    @property
    def residual_stress_GPa(self) -> Array:  # noqa: N802 - units as they are written
        """(6,) GPa, of the unstrained structure, ASE's sign."""
        return np.asarray(self.residual_stress / GPa)

    @property
    def conventional(self) -> Array:
        """(6, 6) GPa in the axes of the conventional cell, as in tables: a cubic crystal's edges are x, y and z."""
        return rotated(self.stiffness, self.axes)

    @property
    def constants(self) -> dict[str, float]:
        """C11, C12, ... of `conventional` in GPa: its upper triangle without what is 0 (1e-4 of the largest)."""
        c = self.conventional
        least = _ZERO * np.abs(c).max()
        return {f"C{i + 1}{j + 1}": float(c[i, j]) for i in range(6) for j in range(i, 6) if abs(c[i, j]) > least}

    @property
    def eigenvalues(self) -> Array:
        """(6,) GPa, ascending, in Kelvin's notation; (3,) of the in-plane block of a slab."""
        return eigenvalues(self.stiffness, _PLANE if self.slab else slice(None))

    @property
    def stable(self) -> bool:
        """Whether every small strain costs energy (Born's criteria): eigenvalues above 1e-4 of the largest constant."""
        return bool(self.eigenvalues[0] > _ZERO * np.abs(self.stiffness).max())

    @property
    def compliance(self) -> Array:
        """(6, 6) 1/GPa, the inverse of the stiffness; ConfigError for a crystal that is not stable, or a slab."""
        self._require_solid("compliance")
        return np.asarray(np.linalg.inv(self.stiffness), dtype=np.float64)

    @property
    def moduli(self) -> Moduli | None:
        """Averages for polycrystals; None for a crystal that is not stable, and for a slab."""
        return moduli(self.stiffness) if self.stable and not self.slab else None

    @property
    def debye_temperature_K(self) -> float | None:  # noqa: N802 - units as they are written
        """Anderson's estimate from Hill's moduli, K; None where there are none."""
        return None if self.moduli is None else debye_temperature(self.atoms, self.moduli)

    @property
    def density(self) -> float:
        """kg/m^3."""
        return density(self.atoms)

    @property
    def in_plane_N_per_m(self) -> Array:  # noqa: N802 - units as they are written
        """(3, 3) N/m, order xx, yy, xy: the constants of a slab times the height of its cell along z.

        They do not depend on the vacuum.  ConfigError for constants that were not computed with slab=True.
        """
        if not self.slab:
            raise ConfigError(
                "in-plane constants in N/m are for slabs, and these were computed for a crystal",
                setting="slab",
                value=False,
                remedies=[SLAB],
            )
        height = abs(self.atoms.cell.array[2, 2])  # Å
        return np.asarray(self.stiffness[np.ix_(_PLANE, _PLANE)] * height * 0.1)

    def young_modulus(self, directions: Any) -> Array:
        """GPa, for tension along Cartesian directions (..., 3)."""
        self._require_solid("Young's modulus")
        return young_modulus(self.stiffness, directions)

    def sound_velocities(self, directions: Any) -> Array:
        """(..., 3) m/s, ascending, of long waves along Cartesian directions (..., 3)."""
        self._require_solid("sound velocity")
        return sound_velocities(self.stiffness, self.density, directions)

    def _require_solid(self, what: str) -> None:
        if self.slab or not self.stable:
            why = "a slab" if self.slab else f"not stable (lowest eigenvalue {self.eigenvalues[0]:.3g} GPa)"
            raise ConfigError(f"the structure is {why}: it has no {what}")

    def __str__(self) -> str:
        lines = [
            f"elastic constants (GPa; {', '.join(_ORDER)}), {self.spacegroup}, "
            f"{'relaxed' if self.ions_relaxed else 'clamped'} ions, in the axes of the "
            f"{'structure' if self.slab else 'conventional cell'}:",
            *_rows(self.conventional),
        ]
        if np.abs(self.conventional - self.stiffness).max() > _ZERO * np.abs(self.stiffness).max():
            lines += ["in the axes of the structure:", *_rows(self.stiffness)]
        if self.slab:
            lines += ["in the plane (N/m; xx, yy, xy):", *_rows(self.in_plane_N_per_m)]
        if (found := self.moduli) is not None:
            lines += [
                f"bulk modulus    {found.bulk_hill:.2f} GPa (Voigt {found.bulk_voigt:.2f}, Reuss "
                f"{found.bulk_reuss:.2f})",
                f"shear modulus   {found.shear_hill:.2f} GPa (Voigt {found.shear_voigt:.2f}, Reuss "
                f"{found.shear_reuss:.2f})",
                f"Young, Poisson  {found.young_hill:.2f} GPa, {found.poisson_hill:.4f}",
                f"anisotropy      {found.universal_anisotropy:.3f} (universal)",
                f"Debye           {self.debye_temperature_K:.1f} K (from sound velocities)",
            ]
        verdict = "stable" if self.stable else "NOT stable"
        lines += [
            f"stability       {verdict} (lowest eigenvalue {self.eigenvalues[0]:.4g} GPa)",
            f"checks          nonlinearity {self.nonlinearity:.2g}, asymmetry {self.asymmetry:.2g}, symmetry "
            f"{self.symmetry_violation:.2g} GPa; residual stress {np.abs(self.residual_stress_GPa).max():.2g} GPa, "
            f"force {self.residual_force:.2g} eV/Å",
        ]
        return "\n".join(lines)

    def plot(self, ax: Any = None) -> Any:
        """Axes with the constants as a map; on a figure of its own Young's modulus in three planes stands beside it."""
        return draw_stiffness(self, ax)

    def to_json(self) -> dict[str, Any]:
        """Plain values with units in their names."""
        return super().to_json() | {"in_plane_N_per_m": self.in_plane_N_per_m.tolist() if self.slab else None}


def _rows(matrix: Array) -> list[str]:
    return [" ".join(f"{value:9.2f}" for value in row) for row in np.round(matrix, 2) + 0.0]


_LABELS = ("xx", "yy", "zz", "yz", "xz", "xy")
_PLANES = {"xy": (0, 1), "xz": (0, 2), "yz": (1, 2)}


def draw_stiffness(result: ElasticConstants, ax: Any = None) -> Any:
    """Axes with the matrix; on a new figure with Young's modulus beside it where the crystal is stable.

    Both are in the axes of the conventional cell.
    """
    if ax is None:
        from matplotlib.figure import Figure

        directions = result.stable and not result.slab
        figure = Figure(figsize=(9.0 if directions else 4.8, 4.2), layout="constrained")
        ax = figure.add_subplot(1, 2 if directions else 1, 1)
        if directions:
            _draw_young(result, figure.add_subplot(1, 2, 2, projection="polar"))
    _draw_matrix(result.conventional, ax)
    return ax


def _draw_matrix(stiffness: Any, ax: Any) -> None:
    bound = float(np.abs(stiffness).max())
    ax.imshow(stiffness, cmap="RdBu_r", vmin=-bound, vmax=bound)
    for i, row in enumerate(stiffness):
        for j, value in enumerate(row):
            dark = abs(value) > 0.6 * bound
            text = f"{value:.1f}" if abs(value) >= 0.05 else "0"
            ax.text(j, i, text, ha="center", va="center", fontsize=9, color="white" if dark else "black")
    ax.set_xticks(range(6), _LABELS)
    ax.set_yticks(range(6), _LABELS)
    ax.set_xlabel("strain")
    ax.set_ylabel("stress")
    ax.set_title("elastic constants (GPa)", fontsize="medium")


def _draw_young(result: ElasticConstants, ax: Any) -> None:
    from matplotlib.ticker import MaxNLocator

    angles = np.linspace(0.0, 2 * np.pi, 361)
    for (name, (first, second)), style in zip(_PLANES.items(), ("-", "--", ":"), strict=True):
        directions = np.zeros((len(angles), 3))
        directions[:, first], directions[:, second] = np.cos(angles), np.sin(angles)
        ax.plot(angles, young_modulus(result.conventional, directions), style, label=f"{name} plane")
    ax.set_ylim(bottom=0.0)
    ax.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    ax.set_title("Young's modulus (GPa)", fontsize="medium")
    ax.tick_params(labelsize=8)
    ax.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, -0.22), ncols=3, fontsize="small")
