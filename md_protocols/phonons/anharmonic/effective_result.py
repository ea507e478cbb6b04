"""What phonons at a temperature come to: the dispersion, how it was reached, and how exact it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mlcalc.ground.errors import Use

from ... import plotting
from ...errors import PhysicsWarning
from ...results import Arrays, Quantity, Result
from ..dispersion import PhononDispersion
from ..harmonic_samples import RIGID, jackknife

Array = NDArray[np.float64]
_ANHARMONIC = 0.5  # share of forces that no force constants explain
_MEAN_FORCE = 0.05  # eV/Å: moves an atom bound by 5 eV/Å^2 by 0.01 Å
_CORNER = ("label", "q", "frequencies_THz", "standard_errors_THz", "start_frequencies_THz")


@dataclass(frozen=True, eq=False, repr=False)
class Iterations:
    """One value per iteration."""

    changes: Annotated[Array, Quantity("largest change of a frequency on the mesh", "THz", "(I,)")]
    rms_changes: Annotated[Array, Quantity("root mean square of the changes", "THz", "(I,)")]
    lowest: Annotated[Array, Quantity("lowest frequency on the mesh; the acoustic modes at Γ are zero", "THz", "(I,)")]
    anharmonicity: Annotated[
        Array, Quantity("rms of the forces that no force constants explain over that of all forces", shape="(I,)")
    ]
    largest_displacements: Annotated[Array, Quantity("of any atom", "Å", "(I,)")]

    def __repr__(self) -> str:
        changes = ", ".join(f"{change:.3g}" for change in self.changes)
        return f"<Iterations: {len(self.changes)}, largest changes {changes} THz>"


@dataclass(frozen=True, eq=False, repr=False)
class EffectivePhonons(Result):
    """The self-consistent harmonic crystal at a temperature; `phonons` is its dispersion."""

    kind = "effective_phonons"
    derived: ClassVar[Mapping[str, Quantity]] = {
        "converged": Quantity("whether the last iteration changed no frequency by more than the tolerance"),
        "special_points": Quantity("frequencies at the corners of the path, their errors and those of the start, THz"),
    }

    phonons: Annotated[PhononDispersion, Quantity("at the temperature")]
    start: Annotated[PhononDispersion, Quantity("what the iterations started from")]
    temperature_K: Annotated[float, Quantity("of the vibrations", "K")]  # noqa: N815 - the public keyword
    statistics: Annotated[str, Quantity('"quantum" or "classical"')]
    n_structures: Annotated[int, Quantity("per iteration")]
    seed: Annotated[int, Quantity("of the random numbers")]
    mixing: Annotated[float, Quantity("share of the new force constants in the next iteration's")]
    tolerance_THz: Annotated[float, Quantity("of the changes", "THz")]  # noqa: N815 - the public keyword
    iterations: Annotated[Iterations, Quantity("one value each")]
    replicas: Annotated[
        Array,
        Quantity(
            "force constants of the primitive atoms without each block of structures",
            "eV/Å^2",
            "(K, n, N, 3, 3)",
            json=False,
        ),
    ]
    standard_error_max: Annotated[float, Quantity("of frequencies on the mesh, at most", "THz")]
    standard_error_rms: Annotated[float, Quantity("of frequencies on the mesh", "THz")]
    mean_force: Annotated[float, Quantity("largest mean force on an atom", "eV/Å")]
    mean_force_standard_error: Annotated[float, Quantity("of that force", "eV/Å")]
    soft_modes: Annotated[
        int, Quantity("modes of the supercell too soft to be displaced, but for the three of the whole crystal")
    ]
    cautions: Annotated[tuple[str, ...], Quantity("texts of the warnings given")] = ()

    @classmethod
    def upgraded(cls, arrays: Arrays, info: dict[str, Any]) -> tuple[Arrays, dict[str, Any]]:
        """Of files of earlier names, whose iterations were arrays by themselves, and with phonopy's matrices."""
        if "temperature" not in info:
            return arrays, info
        for old, new in (
            ("temperature", "temperature_K"),
            ("structures", "n_structures"),
            ("tolerance", "tolerance_THz"),
        ):
            info[new] = info.pop(old)
        info["mean_force"], info["mean_force_standard_error"] = info["mean_force"]
        for name in ("changes", "rms_changes", "lowest", "anharmonicity", "largest_displacements"):
            arrays[f"iterations.{name}"] = arrays.pop(name)
        for name in ("phonons", "start"):
            held = {key.partition(".")[2]: arrays.pop(key) for key in list(arrays) if key.startswith(f"{name}.")}
            held, info[name] = PhononDispersion.upgraded(held, info[name])
            arrays |= {f"{name}.{key}": value for key, value in held.items()}
        return arrays, info

    @property
    def converged(self) -> bool:
        """Whether the last iteration changed no frequency on the mesh by more than the tolerance."""
        return bool(self.iterations.changes[-1] <= self.tolerance_THz)

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
        lines = [
            f"phonons of {self.phonons.unitcell.get_chemical_formula()} at {self.temperature_K:g} K ({self.statistics} "
            f"statistics, supercell of {len(self.phonons.force_constants)} atoms, fixed volume)",
            f"{done}: {steps} iterations of {self.n_structures} structures, last change "
            f"{self.iterations.changes[-1]:.2g} THz (tolerance {self.tolerance_THz:g}); statistical error "
            f"{self.standard_error_rms:.2g} THz rms, {self.standard_error_max:.2g} at most",
            f"{'stable' if self.phonons.stable else 'IMAGINARY MODES'}: lowest frequency {self.phonons.lowest:.4g} THz "
            f"(start: {self.start.lowest:.4g}); {100 * self.iterations.anharmonicity[-1]:.0f} % of the forces are not "
            f"harmonic; mean forces up to {self.mean_force:.2g} ± {self.mean_force_standard_error:.1g} eV/Å",
        ]
        for row in self.special_points:
            shown = ", ".join(
                f"{new:.3f} ± {bar:.3f} ({old:.3f})"
                for new, bar, old in zip(*(row[name] for name in _CORNER[2:]), strict=True)
            )
            lines.append(f"{row['label']}: {shown} THz")
        return "\n".join([*lines, "in brackets: start"])

    @property
    def special_points(self) -> list[dict[str, Any]]:
        """Frequencies (THz) at the named points of the path, their errors and those of the start; Γ left out."""
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
        path.plot(ax, dos=False, label=f"{self.temperature_K:g} K")
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


def cautions_of(result: EffectivePhonons, error_THz: float) -> list[PhysicsWarning]:
    """What to say of a result; error_THz: limit of standard errors."""
    share = float(result.iterations.anharmonicity[-1])
    force, error = result.mean_force, result.mean_force_standard_error
    told = []
    if not result.converged:
        told.append(_not_converged(result))
    if result.standard_error_max > error_THz:
        needed = result.n_structures * (result.standard_error_max / error_THz) ** 2
        told.append(
            PhysicsWarning(
                f"the statistical error of frequencies is up to {result.standard_error_max:.2g} THz (limit "
                f"{error_THz:g})",
                setting="error_THz",
                value=result.standard_error_max,
                limit=error_THz,
                remedies=[Use("n_structures", 2 * int(needed / 2 + 1), "or so, which would bring it there")],
            )
        )
    if result.phonons.imaginary:
        told.append(
            PhysicsWarning(
                f"the phonons at {result.temperature_K:g} K have imaginary modes (lowest {result.phonons.lowest:.3g} "
                "THz): there is no self-consistent harmonic crystal in this structure at this temperature; their "
                "displacements were drawn with |frequency|"
            )
        )
    if share > _ANHARMONIC:
        told.append(
            PhysicsWarning(
                f"no force constants explain {100 * share:.0f} % of the forces (limit {100 * _ANHARMONIC:g}): the "
                "crystal is strongly anharmonic, and harmonic phonons describe it poorly; or the forces are those of "
                "other atoms"
            )
        )
    if result.soft_modes:
        told.append(
            PhysicsWarning(f"{result.soft_modes} modes of the supercell below {RIGID:g} THz were not displaced")
        )
    if force > _MEAN_FORCE and force > 3 * error:
        told.append(
            PhysicsWarning(
                f"vibrations push atoms away from their positions: mean forces of up to {force:.2g} ± {error:.1g} eV/Å "
                f"(limit {_MEAN_FORCE:g}); these phonons are those of the positions given, not of the mean ones"
            )
        )
    return told


def _not_converged(result: EffectivePhonons) -> PhysicsWarning:
    return PhysicsWarning(
        f"the phonons at {result.temperature_K:g} K are not self-consistent: after {len(result.iterations.changes)} "
        f"iterations frequencies still change by {result.iterations.changes[-1]:.3g} THz (tolerance "
        f"{result.tolerance_THz:g})",
        setting="max_iterations",
        value=float(result.iterations.changes[-1]),
        limit=result.tolerance_THz,
        remedies=[
            Use("max_iterations", None, python="allow more iterations (max_iterations)"),
            Use("mixing", None, "where they go back and forth", python="take a smaller mixing"),
        ],
    )
