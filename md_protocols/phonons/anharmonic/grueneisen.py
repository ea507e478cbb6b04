"""Mode Grueneisen parameters: how frequencies change with the volume, from phonons at three volumes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
from ase import Atoms
from ase.units import kB
from numpy.typing import NDArray

from ... import checks, plotting
from ...errors import ConfigError
from ...evaluator import Evaluate
from ...results import Arrays, Quantity, Result
from ..dispersion import PhononDispersion
from ..meshes import mesh_numbers, run_mesh
from ..thermal import THZ, vibrating
from .volumes import VolumePhonons, phonons_of_volumes, volume_limits

Array = NDArray[np.float64]
_NEAR = 0.2  # of the way to the next q-point: where parameters at Γ are taken, whose acoustic modes have none
_EQUAL = 1e-6  # relative difference of squared frequencies that symmetry makes equal
_TOLD = (50.0, 100.0, 200.0, 300.0, 500.0, 1000.0)  # K
_ZERO = 1e-9  # of the largest squared frequency: the crystal moving as a whole


@dataclass(frozen=True, eq=False, repr=False)
class Grueneisen(Result):
    """gamma = -d ln(nu) / d ln(V) of the modes of a crystal."""

    kind = "grueneisen"
    derived: ClassVar[Mapping[str, Quantity]] = {
        "mean_temperatures": Quantity("at which the means are", "K"),
        "mean_gamma": Quantity("weighted by the modes' heat capacities"),
    }

    qpoints: Annotated[Array, Quantity("along the path, of the primitive cell", shape="(Q, 3)")]
    distances: Annotated[Array, Quantity("along the path, without 2 pi", "1/Å", "(Q,)")]
    frequencies: Annotated[Array, Quantity("along the path, ascending; at Γ those beside it", "THz", "(Q, bands)")]
    gamma: Annotated[Array, Quantity("along the path; at Γ the limit along it", shape="(Q, bands)")]
    segments: Annotated[
        NDArray[np.int64], Quantity("first q-point of each segment, and the one after its last", shape="(S, 2)")
    ]
    tick_positions: Annotated[tuple[float, ...], Quantity("of the corners along the path", "1/Å")]
    tick_labels: Annotated[tuple[str, ...], Quantity("names of the corners")]
    mesh_qpoints: Annotated[Array, Quantity("of the mesh", shape="(M, 3)", json=False)]
    mesh_weights: Annotated[Array, Quantity("they add up to 1", shape="(M,)", json=False)]
    mesh_frequencies: Annotated[Array, Quantity("on the mesh", "THz", "(M, bands)", json=False)]
    mesh_gamma: Annotated[
        Array,
        Quantity("on the mesh; 0 for the acoustic modes at Γ, which do not count", shape="(M, bands)", json=False),
    ]
    mesh: Annotated[tuple[int, int, int], Quantity("numbers of q-points")]
    volume: Annotated[float, Quantity("of the crystal given", "Å^3/primitive cell")]
    volume_range: Annotated[tuple[float, float], Quantity("relative changes of the volume that were compared")]
    n_atoms: Annotated[int, Quantity("of the primitive cell")]

    @classmethod
    def upgraded(cls, arrays: Arrays, info: dict[str, Any]) -> tuple[Arrays, dict[str, Any]]:
        """Of files with one change of the volume, to both sides."""
        if "strain" in info:
            info["volume_range"] = [-info["strain"], info.pop("strain")]
        return arrays, info

    @property
    def mean_temperatures(self) -> tuple[float, ...]:
        """K, of `mean_gamma`."""
        return _TOLD

    @property
    def mean_gamma(self) -> Array:
        """Means at some temperatures, as `average` has them."""
        return self.average(_TOLD)

    def average(self, temperatures: Sequence[float] | Array | float) -> Array:
        """(T,) mean over modes, weighted by their heat capacities: gamma(T) = alpha B V / C_V; at 0 K a limit is 0."""
        kelvin = np.atleast_1d(np.asarray(temperatures, dtype=float))
        for t in kelvin:
            checks.number("temperature", float(t), at_least=0.0, hint=" K")
        kept = vibrating(self.mesh_qpoints, self.mesh_frequencies)
        x = np.where(kept, self.mesh_frequencies, 1.0) * THZ / kB
        means = np.zeros(len(kelvin))
        for k, t in enumerate(kelvin):
            if t > 0:
                half = np.minimum(x / (2 * t), 300.0)
                weights = kept * self.mesh_weights[:, None] * (half / np.sinh(half)) ** 2
                total = weights.sum()
                means[k] = (weights * self.mesh_gamma).sum() / total if total > 0 else 0.0
        return means

    def __str__(self) -> str:
        warm = self.average([100.0, 300.0, 1000.0])
        kept = vibrating(self.mesh_qpoints, self.mesh_frequencies)
        ends = " to ".join(f"{100 * change:+.2g}" for change in self.volume_range)
        return (
            f"mode Grueneisen parameters at {self.volume:.4f} Å^3 per primitive cell ({self.n_atoms} atoms), volumes "
            f"{ends} %: from {self.mesh_gamma[kept].min():.3f} to {self.mesh_gamma[kept].max():.3f}; mean "
            f"{warm[0]:.3f} at 100 K, {warm[1]:.3f} at 300 K, {warm[2]:.3f} at 1000 K"
        )

    def plot(self, ax: Any = None) -> Any:
        """Axes with gamma along the path."""
        ax = plotting.axes(ax)
        for first, end in self.segments:
            ax.set_prop_cycle(None)
            ax.plot(self.distances[first:end], self.gamma[first:end], linewidth=1.0)
        for position in self.tick_positions:
            ax.axvline(position, color="0.75", linewidth=0.6)
        ax.set_xticks(self.tick_positions, self.tick_labels)
        ax.set_xlim(self.distances[0], self.distances[-1])
        ax.set_ylabel("mode Grüneisen parameter")
        return ax


def grueneisen(
    atoms: Atoms,
    *,
    supercell: Any,
    volume_range: float | tuple[float, float] = 0.01,
    displacement: float = 0.01,
    path: Any = None,
    npoints: int = 51,
    mesh: Any = None,
    relax_ions: bool = True,
    fmax: float = 1e-4,
    force_limit: float = 1e-3,
    symprec: float = 1e-5,
    allow_float32: bool = False,
    evaluate: Evaluate | None = None,
    progress: bool | None = None,
) -> Grueneisen:
    """Mode Grueneisen parameters of a relaxed crystal, on a mesh and along its path.

        gamma = -(V / 2 omega^2) < e | dD/dV | e >,   dD/dV from the volumes at both ends of the range

    (Barron, Phil. Mag. 46, 720 (1955).)  volume_range: relative changes of the volume, below and above 0; one number x
    stands for (-x, x).  The cell keeps its shape; with `relax_ions` atoms relax at each volume, to forces of `fmax`.
    Other settings are those of `phonon_dispersion`; all volumes are evaluated in one batch.

    Raises ConfigError for settings and for imaginary modes at any of the volumes.
    """
    lowest, highest = volume_limits(volume_range)
    if not lowest < 0 < highest:
        raise ConfigError(
            f"volume_range is {(lowest, highest)}: frequencies are compared on both sides of the crystal, so 0 must be "
            "between them",
            setting="volume_range",
            value=(lowest, highest),
        )
    found = phonons_of_volumes(
        atoms,
        (1.0, 1.0 + highest, 1.0 + lowest),
        supercell=supercell,
        displacement=displacement,
        relax_ions=relax_ions,
        fmax=fmax,
        force_limit=force_limit,
        symprec=symprec,
        npoints=npoints,
        path=path,
        allow_float32=allow_float32,
        evaluate=evaluate,
        progress=progress,
    )
    found.refuse_imaginary("a Grueneisen parameter")
    middle, phonon = found.phonons[0], found.phonopy_objects[0]
    numbers = mesh_numbers(phonon, mesh, dimensions=3, length=60.0)
    mesh_modes = run_mesh(phonon, numbers)
    qpoints = np.array(mesh_modes.qpoints)
    weights = np.array(mesh_modes.weights, dtype=float)
    frequencies, gamma = _parameters(found, qpoints)
    kept = vibrating(qpoints, frequencies)
    along, curves = _parameters(found, _beside_center(middle))
    ticks = middle.ticks
    return Grueneisen(
        qpoints=middle.qpoints,
        distances=middle.distances,
        frequencies=along,
        gamma=curves,
        segments=middle.segments,
        tick_positions=tuple(float(x) for x in ticks[0]),
        tick_labels=tuple(ticks[1]),
        mesh_qpoints=np.array(qpoints),
        mesh_weights=np.array(weights, dtype=float) / np.sum(weights),
        mesh_frequencies=np.array(frequencies),
        mesh_gamma=np.where(kept, gamma, 0.0),
        mesh=numbers,
        volume=float(found.volumes[0]),
        volume_range=(lowest, highest),
        n_atoms=len(phonon.primitive),
    )


def _parameters(found: VolumePhonons, qpoints: Array) -> tuple[Array, Array]:
    """Frequencies (Q, bands) THz, ascending, and parameters; 0 where the frequency is.

    Modes of one frequency are those that the change of volume does not mix.  phonopy's PhonopyGruneisen, which does the
    same, takes frequencies for equal that differ by some 0.1 THz near Γ.
    """
    phonons = found.phonopy_objects
    strain = (found.volumes[1] - found.volumes[2]) / found.volumes[0]
    values, slopes = [], []
    for q in qpoints:
        middle, larger, smaller = (_dynamical_matrix(phonon, q) for phonon in phonons)
        squares, vectors = np.linalg.eigh(middle)
        change = vectors.conj().T @ ((larger - smaller) / strain) @ vectors
        values.append(squares)
        slopes.append(_unmixed(squares, change))
    squares, derivatives = np.array(values), np.array(slopes)
    factor = float(phonons[0].unit_conversion_factor)
    at_rest = np.abs(squares) < _ZERO * np.abs(squares).max()
    gamma = np.where(at_rest, 0.0, -derivatives / (2 * np.where(at_rest, 1.0, squares)))
    return factor * np.sign(squares) * np.sqrt(np.abs(squares)), gamma


def _dynamical_matrix(phonon: Any, q: Array) -> NDArray[np.complex128]:
    phonon.dynamical_matrix.run(q)
    return np.array(phonon.dynamical_matrix.dynamical_matrix)


def _unmixed(squares: Array, change: NDArray[np.complex128]) -> Array:
    """Derivatives of the eigenvalues (ascending), with the change diagonalized among equal ones."""
    slopes = np.diag(change).real.copy()
    gaps = np.diff(squares) > _EQUAL * np.maximum(np.abs(squares[1:]), _ZERO * np.abs(squares).max())
    for group in np.split(np.arange(len(squares)), np.flatnonzero(gaps) + 1):
        if len(group) > 1:
            slopes[group] = np.linalg.eigvalsh(change[np.ix_(group, group)])
    return slopes


def _beside_center(phonons: PhononDispersion) -> Array:
    """(Q, 3) the path's q-points, those at Γ moved a little along it."""
    points = phonons.qpoints.copy()
    for first, end in phonons.segments:
        for here, beside in ((first, first + 1), (end - 1, end - 2)):
            if end - first > 1 and np.abs(points[here] - np.rint(points[here])).max() < 1e-8:
                points[here] += _NEAR * (points[beside] - points[here])
    return points
