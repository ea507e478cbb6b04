"""Mode Grueneisen parameters: how frequencies change with the volume, from phonons at three volumes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.units import kB
from numpy.typing import NDArray

from ... import checks, plotting
from ...evaluator import Evaluate
from ...folders.storage import load_arrays, save_arrays
from ..dispersion import PhononDispersion
from ..meshes import mesh_numbers, run_mesh
from ..thermal import THZ, vibrating
from .volumes import VolumePhonons, phonons_of_volumes

Array = NDArray[np.float64]
_ARRAYS = ("qpoints distances frequencies gamma segments mesh_qpoints mesh_weights mesh_frequencies mesh_gamma").split()
_PLAIN = ("tick_positions", "tick_labels", "mesh", "volume", "strain", "n_atoms")
_NEAR = 0.2  # of the way to the next q-point: where parameters at Γ are taken, whose acoustic modes have none
_EQUAL = 1e-6  # relative difference of squared frequencies that symmetry makes equal
_ZERO = 1e-9  # of the largest squared frequency: the crystal moving as a whole


@dataclass(frozen=True, eq=False)
class Grueneisen:
    """gamma = -d ln(nu) / d ln(V) of the modes of a crystal."""

    qpoints: Array  # (Q, 3) along the path, fractional coordinates of the primitive cell
    distances: Array  # (Q,) 1/Å
    frequencies: Array  # (Q, bands) THz, ascending; at Γ those beside it
    gamma: Array  # (Q, bands); at Γ the limit along the path
    segments: NDArray[np.int64]  # (S, 2) first q-point of each segment, and the one after its last
    tick_positions: tuple[float, ...]  # 1/Å
    tick_labels: tuple[str, ...]
    mesh_qpoints: Array  # (M, 3)
    mesh_weights: Array  # (M,) they add up to 1
    mesh_frequencies: Array  # (M, bands) THz
    mesh_gamma: Array  # (M, bands); 0 for the acoustic modes at Γ, which do not count
    mesh: tuple[int, int, int]
    volume: float  # Å^3 per primitive cell
    strain: float  # relative change of the volume to each side
    n_atoms: int  # of the primitive cell

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
        return (
            f"mode Grueneisen parameters at {self.volume:.4f} Å^3 per primitive cell ({self.n_atoms} atoms), volumes "
            f"{100 * self.strain:+.2g} % and back: from {self.mesh_gamma[kept].min():.3f} to "
            f"{self.mesh_gamma[kept].max():.3f}; mean {warm[0]:.3f} at 100 K, {warm[1]:.3f} at 300 K, {warm[2]:.3f} at "
            "1000 K"
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

    def to_json(self) -> dict[str, Any]:
        """Plain values with units in their names."""
        kelvin = [50.0, 100.0, 200.0, 300.0, 500.0, 1000.0]
        return {
            "volume_A3_per_primitive_cell": self.volume,
            "strain": self.strain,
            "temperatures_K": kelvin,
            "mean_grueneisen": self.average(kelvin).tolist(),
            "qpoints": self.qpoints.tolist(),
            "frequencies_THz": self.frequencies.tolist(),
            "grueneisen": self.gamma.tolist(),
            "mesh": list(self.mesh),
        }

    def save(self, path: str | Path) -> None:
        """Write everything to one .npz file, without pickle."""
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        save_arrays(path, "grueneisen", arrays, {name: getattr(self, name) for name in _PLAIN})

    @classmethod
    def load(cls, path: str | Path) -> Grueneisen:
        """The result of a file written by `save`."""
        arrays, info = load_arrays(path, "grueneisen")
        info |= {name: tuple(info[name]) for name in ("tick_positions", "tick_labels", "mesh")}
        return cls(**(info | arrays))


def grueneisen(
    atoms: Atoms,
    *,
    supercell: Any,
    strain: float = 0.01,
    displacement: float = 0.01,
    path: Any = None,
    points: int = 51,
    mesh: Any = None,
    relax_ions: bool = True,
    fmax: float = 1e-3,
    symprec: float = 1e-5,
    allow_float32: bool = False,
    evaluate: Evaluate | None = None,
    progress: bool | None = None,
) -> Grueneisen:
    """Mode Grueneisen parameters of a relaxed crystal, on a mesh and along its path.

        gamma = -(V / 2 omega^2) < e | dD/dV | e >,   dD/dV from the volumes V (1 +- strain)

    (Barron, Phil. Mag. 46, 720 (1955).)  The cell keeps its shape; with `relax_ions` atoms relax at each volume.  Other
    settings are those of `phonon_dispersion`; all volumes are evaluated in one batch.

    Raises ConfigError for settings and for imaginary modes at any of the volumes.
    """
    change = checks.number("strain", strain, above=0.0)
    found = phonons_of_volumes(
        atoms,
        (1.0, 1.0 + change, 1.0 - change),
        supercell=supercell,
        displacement=displacement,
        relax_ions=relax_ions,
        fmax=fmax,
        symprec=symprec,
        mesh=None,
        points=points,
        path=path,
        allow_float32=allow_float32,
        evaluate=evaluate,
        progress=progress,
    )
    found.refuse_imaginary("a Grueneisen parameter")
    middle = found.phonons[0]
    numbers = mesh_numbers(middle._phonon, mesh, dimensions=3, length=60.0)
    mesh_modes = run_mesh(middle._phonon, numbers)
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
        strain=change,
        n_atoms=len(middle._phonon.primitive),
    )


def _parameters(found: VolumePhonons, qpoints: Array) -> tuple[Array, Array]:
    """Frequencies (Q, bands) THz, ascending, and parameters; 0 where the frequency is.

    Modes of one frequency are those that the change of volume does not mix.  phonopy's PhonopyGruneisen, which does the
    same, takes frequencies for equal that differ by some 0.1 THz near Γ.
    """
    phonons = [dispersion._phonon for dispersion in found.phonons]
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
