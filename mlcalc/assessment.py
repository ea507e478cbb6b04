"""Errors of a model on labeled frames: MAE and RMSE, overall and by group, and the parity plot."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from mlcalc.errors import DataError
from mlcalc.evaluation import Evaluation, evaluate
from mlcalc.model_file.model_file import load_model
from mlcalc.models import Potential
from mlcalc.scope import Scope

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mlcalc.training.data import Frame


Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ErrorStatistics:
    """Mean absolute and root mean square errors over frames; NaN where no frame has the label."""

    frames: int
    atoms: int
    energy_mae: float  # eV per atom
    energy_rmse: float  # eV per atom
    total_energy_mae: float  # eV per frame
    total_energy_rmse: float  # eV per frame
    forces_mae: float  # eV/Å, per component
    forces_rmse: float  # eV/Å, per component
    stress_mae: float  # eV/Å^3, per component
    stress_rmse: float  # eV/Å^3, per component


@dataclass(frozen=True, eq=False)
class Assessment:
    """Labels and predictions of F frames with N atoms in all, in the frames' order."""

    atoms: NDArray[np.int64]  # (F,) atoms per frame
    groups: tuple[str, ...]  # (F,) empty where a frame has none
    energy_reference: Floats  # (F,) eV
    energy: Floats  # (F,) eV
    forces_reference: Floats  # (N, 3) eV/Å
    forces: Floats  # (N, 3) eV/Å
    stress_reference: Floats  # (F, 6) eV/Å^3, NaN where a frame has none
    stress: Floats  # (F, 6) eV/Å^3

    @property
    def overall(self) -> ErrorStatistics:
        """Errors over all frames."""
        return self._statistics(np.full(len(self.atoms), True))

    @property
    def by_group(self) -> Mapping[str, ErrorStatistics]:
        """Errors of each group by name, in order of first appearance."""
        labels = np.array(self.groups)
        return {name: self._statistics(labels == name) for name in dict.fromkeys(self.groups) if name}

    @property
    def one_composition(self) -> bool:
        """Whether all frames have the same number of atoms, so that total energies can be compared."""
        return len(set(self.atoms.tolist())) == 1

    def plot(self, axes: Sequence[Any] | None = None) -> Figure:
        """Parity plots of energy per atom, force components and, if there are labels, stress."""

        return plot_parity(self, axes)

    def save(self, path: str | Path) -> None:
        """Write everything to an .npz file, for `load`."""
        values: dict[str, Any] = {field.name: np.asarray(getattr(self, field.name)) for field in fields(self)}
        with Path(path).open("wb") as file:
            np.savez_compressed(file, **values)

    @classmethod
    def load(cls, path: str | Path) -> Assessment:
        """The assessment that `save` wrote."""
        try:
            with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as data:
                values = {field.name: data[field.name] for field in fields(cls)}
        except (KeyError, ValueError, OSError, BadZipFile) as error:
            raise DataError(f"{path}: not an assessment written by Assessment.save ({error})") from error
        return cls(**values | {"groups": tuple(values["groups"].tolist())})

    def to_json(self) -> dict[str, Any]:
        """Statistics in meV per atom, meV/Å and GPa, as plain JSON values; null where there is no label."""
        groups = {name: json_statistics(statistics) for name, statistics in self.by_group.items()}
        return json_statistics(self.overall) | {"groups": groups}

    def atom_mask(self, frames: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """The atoms, (N,), that belong to a choice of frames, (F,)."""
        return np.repeat(frames, self.atoms)

    def _statistics(self, frames: NDArray[np.bool_]) -> ErrorStatistics:
        energy = (self.energy - self.energy_reference)[frames]
        forces = (self.forces - self.forces_reference)[self.atom_mask(frames)]
        stress = (self.stress - self.stress_reference)[frames]
        return ErrorStatistics(
            len(energy),
            len(forces),
            *_mae_rmse(energy / self.atoms[frames]),
            *_mae_rmse(energy),
            *_mae_rmse(forces),
            *_mae_rmse(stress[np.isfinite(stress)]),
        )


def assess(
    model: str | Path | Potential,
    frames: Sequence[Frame],
    *,
    dtype: str = "float64",
    device: str = "cpu",
    kernels: str = "auto",
    progress: bool = False,
) -> Assessment:
    """Predictions of the potential for labeled frames, next to their labels; stress only of frames that have it."""
    if not frames:
        raise DataError("there are no frames to assess the model on: give at least one")
    if isinstance(model, str | Path):
        model = load_model(model)  # a network is a Potential without inheriting
    Scope.of(model).require_potential("an assessment on energies and forces")
    results: dict[int, Evaluation] = {}
    for labeled in (True, False):  # stress costs time and exists only where there is a volume
        chosen = [k for k, frame in enumerate(frames) if (frame.stress is not None) is labeled]
        found = evaluate(
            model,
            [frames[k].atoms for k in chosen],
            stress=labeled,
            dtype=dtype,
            device=device,
            kernels=kernels,
            names=[f"frame {k}" for k in chosen],
            progress=progress and bool(chosen),
        )
        results |= dict(zip(chosen, found, strict=True))
    ordered = [results[k] for k in range(len(frames))]
    return Assessment(
        atoms=np.array([len(frame.atoms) for frame in frames]),
        groups=tuple(frame.group for frame in frames),
        energy_reference=np.array([frame.energy for frame in frames]),
        energy=np.array([result.energy for result in ordered]),
        forces_reference=np.concatenate([frame.forces for frame in frames]),
        forces=np.concatenate([result.forces for result in ordered]),
        stress_reference=np.array([_or_nan(frame.stress) for frame in frames]),
        stress=np.array([_or_nan(result.stress) for result in ordered]),
    )


def json_statistics(statistics: ErrorStatistics) -> dict[str, float | int | None]:
    """The errors in the units of papers: meV per atom, meV, meV/Å and GPa."""
    from ase.units import GPa

    scales = {
        "energy": (1e3, "meV_per_atom"),
        "total_energy": (1e3, "meV"),
        "forces": (1e3, "meV_per_A"),
        "stress": (1 / GPa, "GPa"),
    }
    result: dict[str, float | int | None] = {}
    for name, value in asdict(statistics).items():
        quantity, _, kind = name.rpartition("_")
        if not quantity:
            result[name] = value
            continue
        scale, unit = scales[quantity]
        result[f"{quantity}_{kind}_{unit}"] = scale * value if math.isfinite(value) else None
    return result


def _mae_rmse(errors: Floats) -> tuple[float, float]:
    if not errors.size:
        return math.nan, math.nan
    return float(np.abs(errors).mean()), float(np.sqrt(np.square(errors).mean()))


def _or_nan(stress: Floats | None) -> Floats:
    return np.full(6, np.nan) if stress is None else stress


class _Panel(NamedTuple):
    title: str
    unit: str  # of the axes
    reference: Floats
    prediction: Floats
    owners: Any  # (values,) index of the frame of each value
    note: str


def plot_parity(assessment: Assessment, axes: Sequence[Any] | None = None) -> Figure:
    """One square panel per quantity, colored by group, with the errors written in."""
    from matplotlib.figure import Figure

    panels = list(_panels(assessment))
    if axes is None:
        figure = Figure(figsize=(4.6 * len(panels), 4.4), layout="constrained")
        axes = [figure.add_subplot(1, len(panels), k + 1) for k in range(len(panels))]
    for axis, panel in zip(axes, panels, strict=False):
        _draw(axis, panel, np.array(assessment.groups))
    whole: Figure = axes[0].figure
    return whole


def _panels(assessment: Assessment) -> Iterator[_Panel]:
    from ase.units import GPa

    errors = assessment.overall
    frames = np.arange(len(assessment.atoms))
    reference = assessment.energy_reference / assessment.atoms
    zero = reference.mean()  # total energies are large numbers with all their change in the last digits
    yield _Panel(
        f"energy per atom, from {zero:.4f} eV",
        "eV",
        reference - zero,
        assessment.energy / assessment.atoms - zero,
        frames,
        f"MAE {1e3 * errors.energy_mae:.3g}, RMSE {1e3 * errors.energy_rmse:.3g} meV/atom",
    )
    yield _Panel(
        "force components",
        "eV/Å",
        assessment.forces_reference.ravel(),
        assessment.forces.ravel(),
        np.repeat(frames, 3 * assessment.atoms),
        f"MAE {1e3 * errors.forces_mae:.3g}, RMSE {1e3 * errors.forces_rmse:.3g} meV/Å",
    )
    labeled = np.isfinite(assessment.stress_reference).all(axis=1)
    if labeled.any():
        yield _Panel(
            "stress components",
            "GPa",
            assessment.stress_reference[labeled].ravel() / GPa,
            assessment.stress[labeled].ravel() / GPa,
            np.repeat(frames[labeled], 6),
            f"MAE {errors.stress_mae / GPa:.3g}, RMSE {errors.stress_rmse / GPa:.3g} GPa",
        )


def _draw(axis: Any, panel: _Panel, groups: Any) -> None:
    names = [name for name in dict.fromkeys(groups.tolist()) if name] or [""]
    for name in names:
        chosen = groups[panel.owners] == name
        # thousands of points: as pixels, a vector file stays small
        axis.plot(panel.reference[chosen], panel.prediction[chosen], ".", ms=3, alpha=0.6, label=name, rasterized=True)
    both = np.concatenate([panel.reference, panel.prediction])
    margin = 0.05 * (np.ptp(both) or 1.0)
    limits = (both.min() - margin, both.max() + margin)
    axis.plot(limits, limits, "-", color="0.3", lw=0.8, zorder=0)
    axis.set(xlim=limits, ylim=limits, aspect="equal", title=panel.title)
    axis.set(xlabel=f"reference ({panel.unit})", ylabel=f"model ({panel.unit})")
    axis.text(0.03, 0.97, panel.note, transform=axis.transAxes, va="top", fontsize="small")
    if names != [""]:
        axis.legend(fontsize="x-small", loc="lower right", markerscale=3)
