"""The phonon dispersion of a crystal: frequencies along a path, and everything that follows from force constants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from ..errors import ConfigError
from ..folders.storage import load_arrays, pack_atoms, save_arrays, unpack_atoms
from .animation import write_animation
from .born import BornCharges, seen_along
from .crystal import phonopy_crystal, to_ase
from .density import density_of_states
from .figures import band_figure, ticks
from .phonopy_export import write_phonopy
from .thermal import mean_square_displacements, thermal_properties

if TYPE_CHECKING:
    from phonopy import Phonopy

    from .density import PhononDOS
    from .thermal import ThermalProperties


Array = NDArray[np.float64]
IMAGINARY_LIMIT = -0.05  # THz: lower frequencies are imaginary modes, higher ones may be rounding
_ARRAYS = (
    "supercell_matrix primitive_matrix force_constants qpoints frequencies distances segments lowest_qpoint "
    "mesh displaced_atoms displacements forces"
).split()
_PLAIN = (
    "symprec dimensions labels lowest imaginary_limit asr_residual asr_residual_after symmetrized residual_force "
    "residual_stress displacement n_displacements cautions rotational_violation rotational"
).split()


@dataclass(frozen=True, eq=False, repr=False)
class PhononDispersion:
    """Frequencies along a path, and the harmonic crystal that they come from.

    Imaginary frequencies are given as negative numbers.  q-points are in fractional coordinates of the reciprocal
    vectors of the primitive cell, without 2 pi.
    """

    unitcell: Atoms  # as given, without calculator
    supercell_matrix: NDArray[np.int64]  # (3, 3) phonopy's: columns are the supercell's vectors
    primitive_matrix: Array  # (3, 3) phonopy's: columns are the primitive cell's vectors
    symprec: float  # Å
    dimensions: int  # 3, or 2 for a slab in the plane of its first two vectors
    force_constants: Array  # (N, N, 3, 3) eV/Å^2, of the supercell's atoms in phonopy's order
    qpoints: Array  # (Q, 3) along the path
    frequencies: Array  # (Q, bands) THz
    distances: Array  # (Q,) 1/Å, without 2 pi, along the path
    segments: NDArray[np.int64]  # (S, 2) first q-point of each straight segment, and the one after its last
    labels: tuple[tuple[str, str], ...]  # (S) names of the ends of the segments
    mesh: NDArray[np.int64]  # (3,) the mesh on which stability was judged
    lowest: float  # THz, lowest frequency on path and mesh; the acoustic modes at Γ do not count
    lowest_qpoint: Array  # (3,) where it is
    imaginary_limit: float  # THz
    asr_residual: float  # eV/Å^2, largest |sum_j Phi_ij| before any symmetrisation
    asr_residual_after: float  # eV/Å^2, the same of the force constants used
    symmetrized: bool
    rotational_violation: dict[str, float] | None = None  # eV/Å (Born-Huang), eV (Huang), of the constants used
    rotational: bool = False  # whether the rotational sum rules were enforced
    born: BornCharges | None = None  # of the primitive cell's atoms
    residual_force: float | None = None  # eV/Å, largest force on an atom of the undisplaced crystal
    residual_stress: float | None = None  # eV/Å^3, largest component of its stress (in the plane of a slab)
    displacement: float | None = None  # Å
    n_displacements: int = 0
    displaced_atoms: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))  # (D,)
    displacements: Array = field(default_factory=lambda: np.empty((0, 3)))  # (D, 3) Å
    forces: Array = field(default_factory=lambda: np.empty((0, 0, 3)))  # (D, N, 3) eV/Å, less the residual ones
    cautions: tuple[str, ...] = ()  # texts of the warnings given

    @property
    def imaginary(self) -> bool:
        """Whether there are imaginary modes, on the path or on the mesh."""
        return self.lowest < self.imaginary_limit

    @property
    def stable(self) -> bool:
        """Whether there are none."""
        return not self.imaginary

    @property
    def ticks(self) -> tuple[list[float], list[str]]:
        """Distances (1/Å) and names of the corners of the path."""
        return ticks(self)

    @cached_property
    def _phonon(self) -> Phonopy:
        return self.phonopy()

    @property
    def primitive(self) -> Atoms:
        """The primitive cell, whose atoms' modes the bands are."""
        return to_ase(self._phonon.primitive, self.unitcell.pbc)

    def phonopy(self) -> Phonopy:
        """A new Phonopy object with these force constants (and charges), free to be changed."""
        phonon = phonopy_crystal(
            self.unitcell, self.supercell_matrix, primitive=self.primitive_matrix, symprec=self.symprec
        )
        phonon.force_constants = self.force_constants.copy()
        if self.born is not None:
            parameters: Any = self.born.nac()
            phonon.nac_params = parameters
        return phonon

    def at(self, q: Any, *, direction: Any = None) -> Array:
        """Frequencies (..., bands) in THz at one q-point (3,) or many (..., 3), ascending.

        direction: (3,) fractional, from which Γ (or an equivalent) is approached; it decides on the splitting of polar
        modes there, and without it Γ has none.  ConfigError for what is no q-point or direction.
        """
        points = _qpoints(q)
        return seen_along(self._phonon, points.reshape(-1, 3), direction).reshape(*points.shape[:-1], -1)

    def group_velocities(self, q: Any) -> Array:
        """Group velocities d(omega)/dk = (..., bands, 3) in m/s, Cartesian (1 Å THz = 100 m/s).

        At Γ, where the slope of acoustic modes depends on the direction, phonopy gives 0 for them.
        """
        points = _qpoints(q)
        found = self._phonon.run_qpoints(points.reshape(-1, 3), with_group_velocities=True)
        return 100.0 * np.array(found.group_velocities).reshape(*points.shape[:-1], -1, 3)

    def dos(self, *, mesh: Any = None, sigma: float | None = None, pitch: float | None = None) -> PhononDOS:
        """Density of states, total and by element (`PhononDOS`); see `density_of_states`."""
        return density_of_states(self, mesh=mesh, sigma=sigma, pitch=pitch)

    def thermal_properties(
        self,
        temperatures: Sequence[float] | Array,
        *,
        mesh: Any = None,
        allow_imaginary: bool = False,
        extrapolate: bool = True,
    ) -> ThermalProperties:
        """Free energy, entropy and heat capacity of the primitive cell (`ThermalProperties`)."""
        return thermal_properties(
            self, temperatures, mesh=mesh, allow_imaginary=allow_imaginary, extrapolate=extrapolate
        )

    def mean_square_displacements(
        self,
        temperatures: Sequence[float] | Array,
        *,
        mesh: Any = None,
        allow_imaginary: bool = False,
        extrapolate: bool = True,
    ) -> Array:
        """(T, n, 3, 3) Å^2: < u_i u_j > of each atom of the primitive cell; see `mean_square_displacements`."""
        return mean_square_displacements(
            self, temperatures, mesh=mesh, allow_imaginary=allow_imaginary, extrapolate=extrapolate
        )

    def animate(self, q: Any, band: int, path: str | Path, **settings: Any) -> list[Atoms]:
        """Write frames of one mode as extxyz (`mode_animation`), and return them."""
        return write_animation(self, q, band, path, **settings)

    def write_phonopy(self, folder: str | Path) -> list[str]:
        """Write FORCE_SETS, FORCE_CONSTANTS, phonopy_params.yaml (and BORN), for phonopy's own commands."""
        return write_phonopy(self, folder)

    def plot(self, ax: Any = None, *, dos: bool = True, overlay: Any = None, **settings: Any) -> Any:
        """Axes with the bands, and the density of states beside them; see `figures.band_figure`."""
        return band_figure(self, ax, dos=dos, overlay=overlay, **settings)

    def to_json(self) -> dict[str, Any]:
        """Plain values with units in their names."""

        return as_json(self)

    def __str__(self) -> str:

        return as_text(self)

    def save(self, path: str | Path) -> None:
        """Write everything to one .npz file, without pickle."""
        arrays = {name: getattr(self, name) for name in _ARRAYS} | pack_atoms("unitcell", self.unitcell)
        if self.born is not None:
            arrays |= {"born.charges": self.born.charges, "born.dielectric": self.born.dielectric}
        save_arrays(path, "phonon_dispersion", arrays, {name: getattr(self, name) for name in _PLAIN})

    @classmethod
    def load(cls, path: str | Path) -> PhononDispersion:
        """The dispersion of a file written by `save`."""
        arrays, info = load_arrays(path, "phonon_dispersion")
        info["labels"] = tuple((start, end) for start, end in info["labels"])
        info["cautions"] = tuple(info["cautions"])
        born = BornCharges(arrays["born.charges"], arrays["born.dielectric"]) if "born.charges" in arrays else None
        info |= {name: arrays[name] for name in _ARRAYS}
        return cls(unitcell=unpack_atoms("unitcell", arrays), born=born, **info)


def _qpoints(q: Any) -> Array:
    try:
        points = np.asarray(q, dtype=float)
    except (TypeError, ValueError):
        raise ConfigError(f"q is {q!r}: give finite q-points (..., 3) in fractional coordinates") from None
    if points.ndim < 1 or points.shape[-1] != 3 or not np.isfinite(points).all():
        raise ConfigError(f"q has the shape {points.shape}: give finite q-points (..., 3) in fractional coordinates")
    return points


def as_text(phonons: PhononDispersion) -> str:
    """A few lines: size, stability, what the sum rules and the residual forces were."""
    atoms, bands = len(phonons.force_constants), phonons.frequencies.shape[1]
    where = " ".join(f"{x:.4g}" for x in phonons.lowest_qpoint)
    verdict = "stable" if phonons.stable else "IMAGINARY MODES"
    lines = [
        f"phonons of {phonons.unitcell.get_chemical_formula()}: {bands} bands, supercell of {atoms} atoms, "
        f"{phonons.n_displacements} displacements",
        f"{verdict}: lowest frequency {phonons.lowest:.4g} THz at q = ({where}), limit {phonons.imaginary_limit:g} "
        f"THz; highest on the path {phonons.frequencies.max():.4g} THz",
        f"acoustic sum rule violated by {phonons.asr_residual:.2g} eV/Å^2 before symmetrisation, "
        f"{phonons.asr_residual_after:.2g} in the constants used",
    ]
    if phonons.residual_force is not None:
        stress = "" if phonons.residual_stress is None else f", stress {phonons.residual_stress:.2g} eV/Å^3"
        lines.append(f"largest force on the undisplaced crystal {phonons.residual_force:.2g} eV/Å{stress}")
    if phonons.rotational_violation is not None:
        told = ", ".join(f"{name} {value:.2g}" for name, value in phonons.rotational_violation.items())
        lines.append(f"rotational sum rules {'enforced' if phonons.rotational else 'violated by'}: {told}")
    return "\n".join(lines)


def as_json(phonons: PhononDispersion) -> dict[str, Any]:
    """Plain values with units in their names."""
    corners = []
    for (start, stop), names in zip(phonons.segments, phonons.labels, strict=True):
        for row, name in ((start, names[0]), (stop - 1, names[1])):
            point = {
                "label": name,
                "q": phonons.qpoints[row].tolist(),
                "frequencies_THz": phonons.frequencies[row].tolist(),
            }
            if point not in corners:
                corners.append(point)
    return {
        "formula": phonons.unitcell.get_chemical_formula(),
        "dimensions": phonons.dimensions,
        "supercell_matrix": phonons.supercell_matrix.tolist(),
        "primitive_matrix": phonons.primitive_matrix.tolist(),
        "displacement_A": phonons.displacement,
        "n_displacements": phonons.n_displacements,
        "stable": phonons.stable,
        "lowest_frequency_THz": phonons.lowest,
        "lowest_frequency_q": phonons.lowest_qpoint.tolist(),
        "imaginary_limit_THz": phonons.imaginary_limit,
        "stability_mesh": phonons.mesh.tolist(),
        "highest_frequency_THz": float(phonons.frequencies.max()),
        "asr_residual_eV_per_A2": phonons.asr_residual,
        "asr_residual_after_eV_per_A2": phonons.asr_residual_after,
        "rotational_violation": phonons.rotational_violation,
        "rotational_enforced": phonons.rotational,
        "residual_force_eV_per_A": phonons.residual_force,
        "residual_stress_eV_per_A3": phonons.residual_stress,
        "non_analytical_correction": phonons.born is not None,
        "cautions": list(phonons.cautions),
        "special_points": corners,
        "path": {
            "q": phonons.qpoints.tolist(),
            "distance_per_A": phonons.distances.tolist(),
            "frequencies_THz": phonons.frequencies.tolist(),
            "segments": phonons.segments.tolist(),
            "labels": [list(pair) for pair in phonons.labels],
        },
    }
