"""What phonons at a temperature come to: the dispersion, how it was reached, and how exact it is."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ... import plotting
from ...folders.storage import load_arrays, save_arrays
from ..dispersion import PhononDispersion
from ..harmonic_samples import RIGID, jackknife

Array = NDArray[np.float64]
_PLAIN = (
    "temperature statistics structures seed mixing tolerance standard_error_max standard_error_rms mean_force "
    "soft_modes cautions"
).split()
_ROWS = ("changes", "rms_changes", "lowest", "anharmonicity", "largest_displacements")


@dataclass(frozen=True, eq=False)
class Iterations:
    """One value per iteration."""

    changes: Array  # THz, largest change of a frequency on the mesh
    rms_changes: Array  # THz
    lowest: Array  # THz, lowest frequency on the mesh; the acoustic modes at Γ are zero
    anharmonicity: Array  # rms of the forces that no force constants explain over that of all forces
    largest_displacements: Array  # Å, of any atom


@dataclass(frozen=True, eq=False)
class EffectivePhonons:
    """The self-consistent harmonic crystal at a temperature; `phonons` is its dispersion."""

    phonons: PhononDispersion
    start: PhononDispersion  # what the iterations started from
    temperature: float  # K
    statistics: str  # "quantum" or "classical"
    structures: int  # per iteration
    seed: int
    mixing: float
    tolerance: float  # THz
    iterations: Iterations
    replicas: Array  # (K, n, N, 3, 3) eV/Å^2: force constants of the primitive atoms without each block of structures
    standard_error_max: float  # THz, of frequencies on the mesh, at most
    standard_error_rms: float  # THz
    mean_force: tuple[float, float]  # eV/Å, largest mean force on an atom, and its standard error
    soft_modes: int  # modes of the supercell too soft to be displaced, but for the three of the whole crystal
    cautions: tuple[str, ...] = ()  # texts of the warnings given

    @property
    def converged(self) -> bool:
        """Whether the last iteration changed no frequency on the mesh by more than the tolerance."""
        return bool(self.iterations.changes[-1] <= self.tolerance)

    def at(self, q: Any) -> Array:
        """Frequencies (..., bands) in THz, as `PhononDispersion.at`."""
        return self.phonons.at(q)

    def standard_error(self, q: Any) -> Array:
        """Statistical standard errors (..., bands) of the frequencies in THz: jackknife over blocks of structures.

        They are those of the last fit, at fixed distribution of displacements.
        """
        phonon = self.phonons.phonopy()
        points = np.asarray(q, dtype=float)
        values = []
        for constants in self.replicas:
            phonon.force_constants = constants
            values.append(np.array(phonon.run_qpoints(points.reshape(-1, 3)).frequencies))
        return jackknife(np.array(values)).reshape(*points.shape[:-1], -1)

    def __str__(self) -> str:
        done, steps = "converged" if self.converged else "NOT CONVERGED", len(self.iterations.changes)
        force, error = self.mean_force
        lines = [
            f"phonons of {self.phonons.unitcell.get_chemical_formula()} at {self.temperature:g} K ({self.statistics} "
            f"statistics, supercell of {len(self.phonons.force_constants)} atoms, fixed volume)",
            f"{done}: {steps} iterations of {self.structures} structures, last change "
            f"{self.iterations.changes[-1]:.2g} THz (tolerance {self.tolerance:g}); statistical error "
            f"{self.standard_error_rms:.2g} THz rms, {self.standard_error_max:.2g} at most",
            f"{'stable' if self.phonons.stable else 'IMAGINARY MODES'}: lowest frequency {self.phonons.lowest:.4g} THz "
            f"(start: {self.start.lowest:.4g}); {100 * self.iterations.anharmonicity[-1]:.0f} % of the forces are not "
            f"harmonic; mean forces up to {force:.2g} ± {error:.1g} eV/Å",
        ]
        for row in self._corners():
            shown = ", ".join(
                f"{new:.3f} ± {bar:.3f} ({old:.3f})"
                for new, bar, old in zip(*(row[name] for name in _CORNER[2:]), strict=True)
            )
            lines.append(f"{row['label']}: {shown} THz")
        return "\n".join([*lines, "in brackets: start"])

    def _corners(self) -> list[dict[str, Any]]:
        """Frequencies at the named points of the path, of the start and their errors; Γ left out."""
        named: dict[str, Array] = {}
        for (first, last), (start, stop) in zip(self.phonons.labels, self.phonons.segments, strict=True):
            named.setdefault(first, self.phonons.qpoints[start])
            named.setdefault(last, self.phonons.qpoints[stop - 1])
        kept = {name: q for name, q in named.items() if np.abs(q).max() > 1e-8}
        if not kept:
            return []
        q = np.array(list(kept.values()))
        rows = zip(kept, q, self.at(q), self.standard_error(q), self.start.at(q), strict=True)
        return [
            dict(zip(_CORNER, (name, *(value.tolist() for value in values)), strict=True)) for name, *values in rows
        ]

    def plot(self, ax: Any = None) -> Any:
        """Axes with the bands, twice their standard errors as a shade, and the bands of the start."""
        ax = plotting.axes(ax)
        path = self.phonons
        before, error = self.start.at(path.qpoints), self.standard_error(path.qpoints)
        path.plot(ax, dos=False, label=f"{self.temperature:g} K")
        for k, (start, stop) in enumerate(path.segments):
            x, here = path.distances[start:stop], slice(start, stop)
            lines = ax.plot(x, before[here], color="0.5", linewidth=0.9, linestyle="--")
            if k == 0:
                lines[0].set_label("start")
            for band in range(path.frequencies.shape[1]):
                middle, width = path.frequencies[here, band], 2 * error[here, band]
                ax.fill_between(x, middle - width, middle + width, color="C0", alpha=0.25, linewidth=0)
        low, high = min(before.min(), path.frequencies.min()), max(before.max(), path.frequencies.max())
        ax.set_ylim(1.05 * low if low < path.imaginary_limit else 0.0, 1.06 * high)
        ax.legend(frameon=True, framealpha=0.9, edgecolor="none", fontsize="small", loc="best")
        return ax

    def to_json(self) -> dict[str, Any]:
        """Plain values with units in their names."""
        return {
            "temperature_K": self.temperature,
            "statistics": self.statistics,
            "structures": self.structures,
            "seed": self.seed,
            "mixing": self.mixing,
            "converged": self.converged,
            "tolerance_THz": self.tolerance,
            "iterations": {
                "largest_change_THz": self.iterations.changes.tolist(),
                "rms_change_THz": self.iterations.rms_changes.tolist(),
                "lowest_frequency_THz": self.iterations.lowest.tolist(),
                "anharmonic_share_of_forces": self.iterations.anharmonicity.tolist(),
                "largest_displacement_A": self.iterations.largest_displacements.tolist(),
            },
            "standard_error_max_THz": self.standard_error_max,
            "standard_error_rms_THz": self.standard_error_rms,
            "mean_force_eV_per_A": self.mean_force[0],
            "mean_force_standard_error_eV_per_A": self.mean_force[1],
            "soft_modes": self.soft_modes,
            "special_points": self._corners(),
            "cautions": list(self.cautions),
            "phonons": self.phonons.to_json(),
            "start": self.start.to_json(),
        }

    def save(self, path: str | Path) -> None:
        """Write everything to one .npz file, without pickle."""
        arrays = {name: getattr(self.iterations, name) for name in _ROWS} | {"replicas": self.replicas}
        info: dict[str, Any] = {name: getattr(self, name) for name in _PLAIN}
        for name in ("phonons", "start"):
            held, info[name] = _unpacked(getattr(self, name))
            arrays |= {f"{name}.{key}": value for key, value in held.items()}
        save_arrays(path, "effective_phonons", arrays, info)

    @classmethod
    def load(cls, path: str | Path) -> EffectivePhonons:
        """The result of a file written by `save`."""
        arrays, info = load_arrays(path, "effective_phonons")
        crystals: dict[str, Any] = {}
        for name in ("phonons", "start"):
            held = {key.partition(".")[2]: value for key, value in arrays.items() if key.startswith(f"{name}.")}
            crystals[name] = _packed(held, info.pop(name))
        info["cautions"], info["mean_force"] = tuple(info["cautions"]), tuple(info["mean_force"])
        iterations = Iterations(*(arrays[name] for name in _ROWS))
        return cls(**crystals, **info, iterations=iterations, replicas=arrays["replicas"])


_CORNER = ("label", "q", "frequencies_THz", "standard_errors_THz", "start_frequencies_THz")


def _unpacked(phonons: PhononDispersion) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """What a file of the dispersion holds."""
    with tempfile.TemporaryDirectory() as folder:
        phonons.save(Path(folder) / "phonons.npz")
        return load_arrays(Path(folder) / "phonons.npz", "phonon_dispersion")


def _packed(arrays: dict[str, NDArray[Any]], info: dict[str, Any]) -> PhononDispersion:
    """The dispersion of what its file holds."""
    with tempfile.TemporaryDirectory() as folder:
        save_arrays(Path(folder) / "phonons.npz", "phonon_dispersion", arrays, info)
        return PhononDispersion.load(Path(folder) / "phonons.npz")


_ANHARMONIC = 0.5  # share of forces that no force constants explain
_MEAN_FORCE = 0.05  # eV/Å: moves an atom bound by 5 eV/Å^2 by 0.01 Å


def cautions_of(result: EffectivePhonons, error_THz: float) -> list[str]:
    """Texts; error_THz: limit of standard errors."""
    force, error = result.mean_force
    needed = result.structures * (result.standard_error_max / error_THz) ** 2
    texts = []
    if not result.converged:
        texts.append(
            f"the phonons at {result.temperature:g} K are not self-consistent: after {len(result.iterations.changes)} "
            f"iterations frequencies still change by {result.iterations.changes[-1]:.3g} THz (tolerance "
            f"{result.tolerance:g}); allow more iterations, or a smaller mixing where they go back and forth"
        )
    if result.standard_error_max > error_THz:
        texts.append(
            f"the statistical error of frequencies is up to {result.standard_error_max:.2g} THz (limit error_THz="
            f"{error_THz:g}): about structures={2 * int(needed / 2 + 1)} would bring it there"
        )
    if result.phonons.imaginary:
        texts.append(
            f"the phonons at {result.temperature:g} K have imaginary modes (lowest {result.phonons.lowest:.3g} THz): "
            "there is no self-consistent harmonic crystal in this structure at this temperature; their displacements "
            "were drawn with |frequency|"
        )
    share = float(result.iterations.anharmonicity[-1])
    if share > _ANHARMONIC:
        texts.append(
            f"no force constants explain {100 * share:.0f} % of the forces (limit {100 * _ANHARMONIC:g}): the crystal "
            "is strongly anharmonic, and harmonic phonons describe it poorly; or the forces are those of other atoms"
        )
    if result.soft_modes:
        texts.append(f"{result.soft_modes} modes of the supercell below {RIGID:g} THz were not displaced")
    if force > _MEAN_FORCE and force > 3 * error:
        texts.append(
            f"vibrations push atoms away from their positions: mean forces of up to {force:.2g} ± {error:.1g} eV/Å "
            f"(limit {_MEAN_FORCE:g}); these phonons are those of the positions given, not of the mean ones"
        )
    return texts
