"""The energy of a surface."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any

import numpy as np
from ase import Atoms, units
from numpy.typing import NDArray

from .. import plotting
from ..crystals.conventional_cells import cell_text
from ..results import Arrays, Quantity, Result, renumbered

Array = NDArray[np.float64]
J_PER_M2 = units.J / units.m**2  # in eV/Å^2


@dataclass(frozen=True, eq=False, repr=False)
class SurfaceEnergy(Result):
    """Energies of a surface from slabs of several thicknesses."""

    kind = "surface_energy"

    miller: Annotated[tuple[int, int, int], Quantity("indices in the conventional cell")]
    n_layers: Annotated[NDArray[np.int64], Quantity("primitive layers in the slabs, ascending", shape="(K,)")]
    n_atoms: Annotated[NDArray[np.int64], Quantity("in the slabs", shape="(K,)")]
    thicknesses: Annotated[Array, Quantity("layers times their spacing", "Å", "(K,)")]
    area: Annotated[float, Quantity("of one face", "Å^2")]
    unrelaxed: Annotated[Array, Quantity("energies of slabs as cut", "eV/Å^2", "(K,)")]
    relaxed: Annotated[
        Array | None, Quantity("energies; None, as the next two, if nothing was relaxed", "eV/Å^2", "(K,)")
    ]
    each_converged: Annotated[NDArray[np.bool_] | None, Quantity("whether a slab's relaxation has", shape="(K,)")]
    max_forces: Annotated[Array | None, Quantity("at the end", "eV/Å", "(K,)")]
    fitted: Annotated[float | None, Quantity("from the line through slab energies; None for a single slab", "eV/Å^2")]
    fitted_bulk_energy: Annotated[float | None, Quantity("the slope of that line", "eV per atom")]
    bulk_energy: Annotated[float, Quantity("of the perfect crystal", "eV per atom")]
    equivalent_faces: Annotated[bool, Quantity("else the energy is the mean of two different surfaces")]
    vacuum: Annotated[float, Quantity("between slabs", "Å")]
    fmax: Annotated[float, Quantity("target of the relaxations", "eV/Å")]
    perfect_max_force: Annotated[float, Quantity("in the perfect crystal", "eV/Å")]
    perfect_max_stress_GPa: Annotated[  # noqa: N815 - units as they are written
        float | None, Quantity("largest component; None where the calculator gives none", "GPa")
    ]
    slabs: Annotated[tuple[Atoms, ...], Quantity("as relaxed", shape="(K,)", json=False)]
    termination: Annotated[int, Quantity("which of the distinct cuts, the widest gap first")] = 0
    cut: Annotated[str, Quantity("where that is, in words")] = ""
    others: Annotated[tuple[SurfaceEnergy, ...], Quantity("the other terminations, by their energies")] = ()
    left_out: Annotated[tuple[str, ...], Quantity("terminations without an energy, and why")] = ()
    spacegroup: Annotated[str, Quantity("of the conventional cell that the indices refer to")] = ""
    cellpar: Annotated[tuple[float, ...], Quantity("of that cell, as in ASE: a, b, c (Å) and angles (degrees)")] = ()
    spacing: Annotated[float, Quantity("between lattice planes", "Å")] = 0.0

    derived = MappingProxyType(
        {
            "energy": Quantity("of the thickest slab, relaxed where it was", "eV/Å^2"),
            "energy_J_per_m2": Quantity("of the thickest slab", "J/m^2"),
            "converged": Quantity("whether all relaxations have, those of other terminations included"),
        }
    )

    @classmethod
    def upgraded(cls, arrays: Arrays, info: dict[str, Any]) -> tuple[Arrays, dict[str, Any]]:
        """Files of versions that had `layers`, `converged` for each slab, and counted structures by their names."""
        if "layers" not in arrays:
            return arrays, info
        others = []
        for k, one in enumerate(info.get("others", ())):
            start = f"other{k}."
            mine = {name.removeprefix(start): arrays.pop(name) for name in list(arrays) if name.startswith(start)}
            mine, today = cls.upgraded(mine, one)
            arrays |= {f"others.{k}.{name}": values for name, values in mine.items()}
            others.append(today)
        arrays["n_layers"] = arrays.pop("layers")
        if "converged" in arrays:
            arrays["each_converged"] = arrays.pop("converged")
        return arrays, info | {"others": others, "slabs": renumbered(arrays, "slab", "slabs")}

    @property
    def converged(self) -> bool:
        """Whether all relaxations met their criteria, those of other terminations included."""
        mine = self.each_converged is None or bool(self.each_converged.all())
        return mine and all(other.converged for other in self.others)

    @property
    def energy(self) -> float:
        """Of the thickest slab, relaxed where it was, eV/Å^2."""
        return float((self.unrelaxed if self.relaxed is None else self.relaxed)[-1])

    @property
    def energy_J_per_m2(self) -> float:  # noqa: N802 - the unit
        return self.energy / J_PER_M2

    def __str__(self) -> str:
        name = f"({''.join(map(str, self.miller))})"
        if self.spacegroup:
            name += f" of {cell_text(self.spacegroup, self.cellpar[:3])}, planes {self.spacing:.3f} Å apart"
        kind = "unrelaxed" if self.relaxed is None else "relaxed"
        flag = "" if self.each_converged is None or self.each_converged.all() else " (NOT converged)"
        fit = (
            ""
            if self.fitted is None
            else f"; from the line through {len(self.n_layers)} slabs {self.fitted:.5f} eV/Å^2"
        )
        return (
            f"surface {name}: {self.energy_J_per_m2:.4f} J/m^2 = {self.energy:.5f} eV/Å^2 {kind}{flag}, "
            f"{self.unrelaxed[-1] / J_PER_M2:.4f} J/m^2 unrelaxed, slab of {self.n_layers[-1]} layers "
            f"({self.thicknesses[-1]:.1f} Å){fit}{self._told_cuts()}"
        )

    def _told_cuts(self) -> str:
        if not self.others and not self.left_out:
            return ""
        lines = [f"\n  termination {self.termination}, {self.cut}" + (": the lowest" if self.others else "")]
        for other in self.others:
            end = "" if other.converged else " (NOT converged)"
            lines.append(f"  termination {other.termination}, {other.cut}: {other.energy_J_per_m2:.4f} J/m^2{end}")
        return "\n".join([*lines, *(f"  {text}" for text in self.left_out)])

    def plot(self, ax: Any = None) -> Any:
        """Axes with the energy over the thickness of the slab."""
        ax = plotting.axes(ax)
        ax.plot(self.thicknesses, self.unrelaxed / J_PER_M2, "s--", color="C7", label="unrelaxed")
        if self.relaxed is not None:
            ax.plot(self.thicknesses, self.relaxed / J_PER_M2, "o-", color="C0", label="relaxed")
        if self.fitted is not None:
            ax.axhline(self.fitted / J_PER_M2, color="C1", linewidth=0.8, label="line through slab energies")
        ax.set_xlabel("thickness of the slab (Å)")
        ax.set_ylabel(f"energy of the ({''.join(map(str, self.miller))}) surface (J/m²)")
        ax.legend(frameon=False)
        return ax
