"""The phonon dispersion of a crystal: frequencies along a path, and everything that follows from force constants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import InitVar, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from ase import Atoms
from ase.io import write
from numpy.typing import NDArray

from mlcalc.ground.errors import Use
from mlcalc.ground.remedies import RELAX_FIRST

from ..errors import ConfigError
from ..results import Arrays, Quantity, Result
from .animation import mode_animation
from .born import BornCharges, seen_along
from .crystal import phonopy_crystal, to_ase
from .density import PhononDOS, density_of_states
from .figures import band_figure, ticks
from .paths import SampledPath
from .phonopy_export import force_sets, write_phonopy
from .thermal import ThermalProperties, mean_square_displacements, thermal_properties

if TYPE_CHECKING:
    from phonopy import Phonopy


Array = NDArray[np.float64]
IMAGINARY_LIMIT = -0.05  # THz: lower frequencies are imaginary modes, higher ones may be rounding


@dataclass(frozen=True, eq=False, repr=False)
class PhononDispersion(Result):
    """Frequencies along a path, and the harmonic crystal that they come from.

    Imaginary frequencies are given as negative numbers.  q-points are in fractional coordinates of the reciprocal
    vectors of the primitive cell, without 2 pi.  Supercell and primitive cell are rows: their vectors in terms of the
    unit cell's, as in `ase.build.make_supercell`.
    phonopy_object: a Phonopy object of this crystal that nobody else changes; None to make it when it is needed.
    """

    kind = "phonon_dispersion"
    derived: ClassVar[Mapping[str, Quantity]] = {
        "formula": Quantity("of the unit cell"),
        "stable": Quantity("whether there are no imaginary modes, on the path or on the mesh"),
        "highest": Quantity("highest frequency on the path", "THz"),
        "special_points": Quantity("frequencies at the corners of the path, THz"),
    }

    unitcell: Annotated[Atoms, Quantity("as given, without calculator", json=False)]
    supercell: Annotated[NDArray[np.int64], Quantity("rows: the supercell's vectors", shape="(3, 3)")]
    primitive_matrix: Annotated[Array, Quantity("rows: the primitive cell's vectors", shape="(3, 3)")]
    symprec: Annotated[float, Quantity("tolerance of the symmetry", "Å")]
    dimensions: Annotated[int, Quantity("3, or 2 for a slab in the plane of its first two vectors")]
    force_constants: Annotated[
        Array, Quantity("of the supercell's atoms in phonopy's order", "eV/Å^2", "(N, N, 3, 3)", json=False)
    ]
    qpoints: Annotated[Array, Quantity("along the path", shape="(Q, 3)")]
    frequencies: Annotated[Array, Quantity("along the path", "THz", "(Q, bands)")]
    distances: Annotated[Array, Quantity("along the path, without 2 pi", "1/Å", "(Q,)")]
    segments: Annotated[
        NDArray[np.int64],
        Quantity("first q-point of each straight segment, and the one after its last", shape="(S, 2)"),
    ]
    labels: Annotated[tuple[tuple[str, str], ...], Quantity("names of the ends of the segments", shape="(S, 2)")]
    mesh: Annotated[NDArray[np.int64], Quantity("of q-points, on which stability was judged", shape="(3,)")]
    lowest: Annotated[float, Quantity("lowest frequency on path and mesh; the acoustic modes at Γ do not count", "THz")]
    lowest_qpoint: Annotated[Array, Quantity("where it is", shape="(3,)")]
    imaginary_limit: Annotated[float, Quantity("below which modes are imaginary", "THz")]
    asr_residual: Annotated[float, Quantity("largest |sum_j Phi_ij| before any symmetrisation", "eV/Å^2")]
    asr_residual_after: Annotated[float, Quantity("the same of the force constants used", "eV/Å^2")]
    symmetrized: Annotated[bool, Quantity("whether force constants were made to follow sum rule and permutation")]
    rotational_violation: Annotated[
        dict[str, float] | None, Quantity("of the sum rules of Born-Huang (eV/Å) and Huang (eV), as used")
    ] = None
    rotational: Annotated[bool, Quantity("whether the rotational sum rules were enforced")] = False
    born: Annotated[BornCharges | None, Quantity("of the primitive cell's atoms")] = None
    residual_force: Annotated[float | None, Quantity("largest force on an atom of the undisplaced crystal", "eV/Å")] = (
        None
    )
    residual_stress: Annotated[
        float | None, Quantity("largest component of its stress (in the plane of a slab)", "eV/Å^3")
    ] = None
    displacement: Annotated[float | None, Quantity("of finite displacements", "Å")] = None
    n_displacements: Annotated[int, Quantity("supercells with displaced atoms")] = 0
    displaced_atoms: Annotated[NDArray[np.int64], Quantity("which atom of each", shape="(D,)", json=False)] = field(
        default_factory=lambda: np.empty(0, dtype=np.int64)
    )
    displacements: Annotated[
        Array, Quantity("of the displaced atom, or (D, N, 3) of all", "Å", "(D, 3)", json=False)
    ] = field(default_factory=lambda: np.empty((0, 3)))
    forces: Annotated[Array, Quantity("less the residual ones", "eV/Å", "(D, N, 3)", json=False)] = field(
        default_factory=lambda: np.empty((0, 0, 3))
    )
    cautions: Annotated[tuple[str, ...], Quantity("texts of the warnings given")] = ()
    phonopy_object: InitVar[Any] = None

    def __post_init__(self, phonopy_object: Any) -> None:
        if phonopy_object is not None:
            self.__dict__["_phonon"] = phonopy_object  # where the cached property looks first

    @classmethod
    def upgraded(cls, arrays: Arrays, info: dict[str, Any]) -> tuple[Arrays, dict[str, Any]]:
        """Of files that held phonopy's matrices, whose columns are the vectors."""
        if "supercell_matrix" in arrays:
            arrays["supercell"] = np.ascontiguousarray(arrays.pop("supercell_matrix").T)
            arrays["primitive_matrix"] = np.ascontiguousarray(arrays["primitive_matrix"].T)
        return arrays, info

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
        return ticks(self.path)

    @property
    def path(self) -> SampledPath:
        """The q-points with their places along the path."""
        return SampledPath(self.qpoints, self.distances, self.segments, self.labels)

    @property
    def formula(self) -> str:
        """Of the unit cell."""
        return str(self.unitcell.get_chemical_formula())

    @property
    def highest(self) -> float:
        """THz, the highest frequency on the path."""
        return float(self.frequencies.max())

    @property
    def special_points(self) -> list[dict[str, Any]]:
        """Label, q and frequencies (THz) of each corner of the path."""
        corners: list[dict[str, Any]] = []
        for (start, stop), names in zip(self.segments, self.labels, strict=True):
            for row, name in ((start, names[0]), (stop - 1, names[1])):
                found = {"q": self.qpoints[row].tolist(), "frequencies_THz": self.frequencies[row].tolist()}
                if {"label": name, **found} not in corners:
                    corners.append({"label": name, **found})
        return corners

    @cached_property
    def _phonon(self) -> Phonopy:
        return self.phonopy()

    @property
    def primitive(self) -> Atoms:
        """The primitive cell, whose atoms' modes the bands are."""
        return to_ase(self._phonon.primitive, self.unitcell.pbc)

    def phonopy(self) -> Phonopy:
        """A new Phonopy object with these force constants (and charges), free to be changed."""
        phonon = phonopy_crystal(self.unitcell, self.supercell, primitive=self.primitive_matrix, symprec=self.symprec)
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
        return density_of_states(self._phonon, dimensions=self.dimensions, mesh=mesh, sigma=sigma, pitch=pitch)

    def thermal_properties(
        self,
        temperatures: Sequence[float] | Array,
        *,
        mesh: Any = None,
        allow_imaginary: bool = False,
        extrapolate: bool = True,
    ) -> ThermalProperties:
        """Free energy, entropy and heat capacity of the primitive cell; see `thermal.thermal_properties`.

        ConfigError where there are imaginary modes, unless `allow_imaginary` leaves them out.
        """
        self._refuse_imaginary("thermodynamics", allow_imaginary)
        return thermal_properties(
            self._phonon, temperatures, dimensions=self.dimensions, mesh=mesh, extrapolate=extrapolate
        )

    def mean_square_displacements(
        self,
        temperatures: Sequence[float] | Array,
        *,
        mesh: Any = None,
        allow_imaginary: bool = False,
        extrapolate: bool = True,
    ) -> Array:
        """(T, n, 3, 3) Å^2: < u_i u_j > of each atom of the primitive cell; see `thermal.mean_square_displacements`.

        ConfigError where there are imaginary modes, unless `allow_imaginary` leaves them out.
        """
        self._refuse_imaginary("mean square displacements", allow_imaginary)
        return mean_square_displacements(
            self._phonon, temperatures, dimensions=self.dimensions, mesh=mesh, extrapolate=extrapolate
        )

    def _refuse_imaginary(self, what: str, allow: bool) -> None:
        """ConfigError for a crystal that is not at a minimum, whose sums over modes mean nothing."""
        if self.imaginary and not allow:
            raise ConfigError(
                f"the crystal has imaginary modes (lowest {self.lowest:.3g} THz at q = "
                f"{np.round(self.lowest_qpoint, 4).tolist()}, limit {self.imaginary_limit:g} THz), so its {what} would "
                "be those of the other modes only",
                setting="allow_imaginary",
                value=self.lowest,
                limit=self.imaginary_limit,
                remedies=[RELAX_FIRST, "follow the mode to the stable structure", Use("allow_imaginary", True)],
            )

    def animate(
        self,
        q: Any,
        band: int,
        path: str | Path,
        *,
        amplitude: float = 0.3,
        n_frames: int = 24,
        supercell: Any = None,
    ) -> list[Atoms]:
        """Write frames of one mode as extxyz, and return them; see `animation.mode_animation`."""
        pbc = self.unitcell.pbc
        frames = mode_animation(
            self._phonon, q, band, amplitude=amplitude, n_frames=n_frames, supercell=supercell, pbc=pbc
        )
        write(Path(path), frames, format="extxyz")
        return frames

    def write_phonopy(self, folder: str | Path, *, overwrite: bool = False) -> list[str]:
        """Write FORCE_SETS, FORCE_CONSTANTS, phonopy_params.yaml (and BORN), for phonopy's own commands."""
        dataset = force_sets(self.displaced_atoms, self.displacements, self.forces)
        return write_phonopy(self.phonopy(), dataset, folder, overwrite=overwrite)

    def plot(
        self,
        ax: Any = None,
        *,
        dos: bool = True,
        overlay: Any = None,
        overlay_label: str = "reference",
        label: str | None = None,
        unit: str = "THz",
        color: str = "C0",
    ) -> Any:
        """Axes with the bands, and the density of states beside them; see `figures.band_figure`."""
        return band_figure(
            self.path,
            self.frequencies,
            ax,
            phonon=self._phonon,
            imaginary=self.imaginary,
            states=self.dos() if dos and ax is None else None,
            overlay=overlay,
            overlay_label=overlay_label,
            label=label,
            unit=unit,
            color=color,
        )

    def __str__(self) -> str:
        where = " ".join(f"{x:.4g}" for x in self.lowest_qpoint)
        lines = [
            f"phonons of {self.formula}: {self.frequencies.shape[1]} bands, supercell of {len(self.force_constants)} "
            f"atoms, {self.n_displacements} displacements",
            f"{'stable' if self.stable else 'IMAGINARY MODES'}: lowest frequency {self.lowest:.4g} THz at q = "
            f"({where}), limit {self.imaginary_limit:g} THz; highest on the path {self.highest:.4g} THz",
            f"acoustic sum rule violated by {self.asr_residual:.2g} eV/Å^2 before symmetrisation, "
            f"{self.asr_residual_after:.2g} in the constants used",
        ]
        if self.residual_force is not None:
            stress = "" if self.residual_stress is None else f", stress {self.residual_stress:.2g} eV/Å^3"
            lines.append(f"largest force on the undisplaced crystal {self.residual_force:.2g} eV/Å{stress}")
        if self.rotational_violation is not None:
            told = ", ".join(f"{name} {value:.2g}" for name, value in self.rotational_violation.items())
            lines.append(f"rotational sum rules {'enforced' if self.rotational else 'violated by'}: {told}")
        return "\n".join(lines)


def _qpoints(q: Any) -> Array:
    try:
        points = np.asarray(q, dtype=float)
    except (TypeError, ValueError):
        raise ConfigError(
            f"q is {q!r}: give finite q-points (..., 3) in fractional coordinates", setting="q", value=q
        ) from None
    if points.ndim < 1 or points.shape[-1] != 3 or not np.isfinite(points).all():
        raise ConfigError(
            f"q has the shape {points.shape}: give finite q-points (..., 3) in fractional coordinates",
            setting="q",
            value=q,
        )
    return points
