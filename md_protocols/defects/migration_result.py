"""The barrier of a migrating vacancy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from .. import plotting
from ..results import Arrays, Quantity, Result, renumbered
from .hops import Hop

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class MigrationBarrier(Result):
    """The minimum-energy path of a jump into a vacancy, in a cell of fixed size."""

    kind = "migration_barrier"

    images: Annotated[
        tuple[Atoms, ...],
        Quantity(
            "from the vacancy at the site to the one at the neighbor, without calculators", shape="(K,)", json=False
        ),
    ]
    energies: Annotated[Array, Quantity("of the images", "eV", "(K,)")]
    path: Annotated[Array, Quantity("length of the path up to the image, of all atoms together", "Å", "(K,)")]
    fit_path: Annotated[Array, Quantity("lengths of the fit", "Å", "(20 (K - 1) + 1,)", json=False)]
    fit_energies: Annotated[
        Array,
        Quantity(
            "above the first image: cubic pieces through energies and forces", "eV", "(20 (K - 1) + 1,)", json=False
        ),
    ]
    saddle: Annotated[int, Quantity("index of the highest image")]
    barrier: Annotated[
        float, Quantity("from the first image to the highest; to the top of the fit if none climbed", "eV")
    ]
    barrier_backward: Annotated[float, Quantity("from the last image", "eV")]
    converged: Annotated[bool, Quantity("end points and band")]
    max_force: Annotated[float, Quantity("largest force of the band on an atom", "eV/Å")]
    steps: Annotated[int, Quantity("of the band")]
    fmax: Annotated[float | None, Quantity("target of the end points; None in older files", "eV/Å")]
    band_fmax: Annotated[float, Quantity("target of the band", "eV/Å")]
    spring: Annotated[float, Quantity("constant of the springs between images", "eV/Å^2")]
    climb: Annotated[bool, Quantity("whether the highest image climbed to the saddle")]
    site: Annotated[int, Quantity("of the vacancy, index in the unit cell")]
    symbol: Annotated[str, Quantity("element of the site")]
    neighbor: Annotated[int, Quantity("the atom that jumps, index in the unit cell")]
    hop_vector: Annotated[Array, Quantity("from the vacancy to that atom in the perfect crystal", "Å", "(3,)")]
    hop_distance: Annotated[float, Quantity("of the jump", "Å")]
    hops: Annotated[tuple[Hop, ...], Quantity("the inequivalent jumps of similar length, of which this is one")]
    supercell: Annotated[NDArray[np.int64], Quantity("new vectors as rows, in terms of the old", shape="(3, 3)")]
    n_atoms: Annotated[int, Quantity("of the perfect supercell")]
    image_distance: Annotated[float, Quantity("between a vacancy and its nearest image", "Å")]
    perfect_max_force: Annotated[float, Quantity("in the perfect crystal", "eV/Å")]
    perfect_max_stress_GPa: Annotated[  # noqa: N815 - units as they are written
        float | None, Quantity("in the perfect crystal; None where the calculator gives none", "GPa")
    ]
    rattle: Annotated[float, Quantity("standard deviation of the displacements at the start", "Å")]
    seed: Annotated[int, Quantity("of the displacements")]

    @classmethod
    def upgraded(cls, arrays: Arrays, info: dict[str, Any]) -> tuple[Arrays, dict[str, Any]]:
        """Files of versions whose `fmax` was that of the band, and that counted the images by their names."""
        if "band_fmax" not in info:
            info["band_fmax"] = info.pop("fmax")
            info["images"] = renumbered(arrays, "image", "images")
        return arrays, info

    def __str__(self) -> str:
        flag = "" if self.converged else " (NOT converged)"
        return (
            f"vacancy migration {self.symbol}{self.site} <- {self.symbol}{self.neighbor}, {self.hop_distance:.3f} Å, "
            f"in a supercell of {self.n_atoms} atoms: barrier {self.barrier:.4f} eV, backward "
            f"{self.barrier_backward:.4f} eV; {len(self.images) - 2} images, "
            f"{self.steps} steps, largest force {self.max_force:.2g} eV/Å{flag}"
        )

    def plot(self, ax: Any = None) -> Any:
        """Axes with the energies of the images over the path, and the fit through them."""
        ax = plotting.axes(ax)
        ax.plot(self.fit_path, self.fit_energies, color="C0", linewidth=1)
        above = self.energies - self.energies[0]
        ax.plot(self.path, above, "o", color="C0")
        ax.axhline(0.0, color="gray", linewidth=0.5)
        ax.annotate(
            f"{self.barrier:.3f} eV",
            (self.path[self.saddle], above[self.saddle]),
            xytext=(0, 7),
            textcoords="offset points",
            ha="center",
        )
        ax.margins(y=0.15)
        ax.set_xlabel("path length (Å)")
        ax.set_ylabel("energy (eV)")
        return ax
