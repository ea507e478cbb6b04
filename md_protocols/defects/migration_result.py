"""The barrier of a migrating vacancy."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from .. import plotting
from ..folders.storage import load_arrays, pack_atoms, save_arrays, unpack_atoms
from .hops import Hop

Array = NDArray[np.float64]
_ARRAYS = ("energies", "path", "fit_path", "fit_energies", "hop_vector", "supercell")
_PLAIN = tuple(
    "saddle barrier barrier_backward converged max_force steps fmax spring climb "
    "site symbol neighbor hop_distance n_atoms image_distance perfect_max_force "
    "perfect_max_stress_GPa rattle seed".split()
)


@dataclass(frozen=True, eq=False)
class MigrationBarrier:
    """The minimum-energy path of a jump into a vacancy, in a cell of fixed size."""

    images: tuple[Atoms, ...]  # (K,) from the vacancy at the site to the vacancy at the neighbor, without calculators
    energies: Array  # (K,) eV
    path: Array  # (K,) Å, length of the path up to the image, of all atoms together
    fit_path: Array  # (20 (K - 1) + 1,) Å
    fit_energies: Array  # (20 (K - 1) + 1,) eV above the first image: cubic pieces through energies and forces
    saddle: int  # index of the highest image
    barrier: float  # eV, from the first image to the highest; to the top of the fit if no image climbed
    barrier_backward: float  # eV, from the last image
    converged: bool  # end points and band
    max_force: float  # eV/Å, largest force of the band on an atom
    steps: int  # of the band
    fmax: float  # eV/Å, what was asked of the band
    spring: float  # eV/Å^2
    climb: bool
    site: int  # of the vacancy, index in the unit cell
    symbol: str
    neighbor: int  # the atom that jumps, index in the unit cell
    hop_vector: Array  # (3,) Å, from the vacancy to that atom in the perfect crystal
    hop_distance: float  # Å
    hops: tuple[Hop, ...]  # the inequivalent jumps of similar length, of which this is one
    supercell: NDArray[np.int64]  # (3, 3)
    n_atoms: int  # of the perfect supercell
    image_distance: float  # Å, between a vacancy and its nearest image
    perfect_max_force: float  # eV/Å
    perfect_max_stress_GPa: float | None  # noqa: N815 - None where the calculator gives none
    rattle: float  # Å
    seed: int

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

    def to_json(self) -> dict[str, Any]:
        """Plain values with units in their names."""
        return {
            "site": self.site,
            "symbol": self.symbol,
            "neighbor": self.neighbor,
            "hop_vector_A": self.hop_vector.tolist(),
            "hop_distance_A": self.hop_distance,
            "hops": [asdict(hop) | {"vector": list(hop.vector)} for hop in self.hops],
            "barrier_eV": self.barrier,
            "barrier_backward_eV": self.barrier_backward,
            "saddle": self.saddle,
            "energies_eV": self.energies.tolist(),
            "path_A": self.path.tolist(),
            "converged": self.converged,
            "max_force_eV_per_A": self.max_force,
            "steps": self.steps,
            "fmax_eV_per_A": self.fmax,
            "spring_eV_per_A2": self.spring,
            "climb": self.climb,
            "supercell": self.supercell.tolist(),
            "n_atoms": self.n_atoms,
            "image_distance_A": self.image_distance,
            "perfect_max_force_eV_per_A": self.perfect_max_force,
            "perfect_max_stress_GPa": self.perfect_max_stress_GPa,
            "rattle_A": self.rattle,
            "seed": self.seed,
        }

    def save(self, path: str | Path) -> None:
        """Write everything to one .npz file, without pickle."""
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        for k, atoms in enumerate(self.images):
            arrays |= pack_atoms(f"image{k}", atoms)
        info = {name: getattr(self, name) for name in _PLAIN}
        save_arrays(path, "migration_barrier", arrays, info | {"hops": [asdict(hop) for hop in self.hops]})

    @classmethod
    def load(cls, path: str | Path) -> MigrationBarrier:
        """The barrier of a file written by `save`."""
        arrays, info = load_arrays(path, "migration_barrier")
        hops = tuple(Hop(**{**hop, "vector": tuple(hop["vector"])}) for hop in info.pop("hops"))
        images = tuple(unpack_atoms(f"image{k}", arrays) for k in range(len(arrays["energies"])))
        found: dict[str, Any] = {name: arrays[name] for name in _ARRAYS} | info
        return cls(images=images, hops=hops, **found)
