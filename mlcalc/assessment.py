"""Errors of a model on labeled frames: MAE and RMSE, overall and by group, and the parity plot."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
from ase.units import GPa
from numpy.typing import NDArray

from mlcalc.errors import DataError
from mlcalc.evaluation import Evaluation, evaluate
from mlcalc.md_protocols.results import Arrays, Quantity, Result
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

    frames: Annotated[int, Quantity("how many")]
    atoms: Annotated[int, Quantity("of all frames")]
    energy_mae: Annotated[float, Quantity("of the energy per atom", "eV")]
    energy_rmse: Annotated[float, Quantity("of the energy per atom", "eV")]
    total_energy_mae: Annotated[float, Quantity("of the energy of a frame", "eV")]
    total_energy_rmse: Annotated[float, Quantity("of the energy of a frame", "eV")]
    forces_mae: Annotated[float, Quantity("per component", "eV/Å")]
    forces_rmse: Annotated[float, Quantity("per component", "eV/Å")]
    stress_mae: Annotated[float, Quantity("per component", "eV/Å^3")]
    stress_rmse: Annotated[float, Quantity("per component", "eV/Å^3")]


@dataclass(frozen=True, eq=False, repr=False)
class Assessment(Result):
    """Labels and predictions of F frames with N atoms in all, in the frames' order."""

    kind = "assessment"

    atoms: Annotated[NDArray[np.int64], Quantity("per frame", shape="(F,)")]
    groups: Annotated[tuple[str, ...], Quantity("of the frames, empty where one has none", shape="(F,)")]
    energy_reference: Annotated[Floats, Quantity("of the labels", "eV", "(F,)")]
    energy: Annotated[Floats, Quantity("of the model", "eV", "(F,)")]
    forces_reference: Annotated[Floats, Quantity("of the labels", "eV/Å", "(N, 3)")]
    forces: Annotated[Floats, Quantity("of the model", "eV/Å", "(N, 3)")]
    stress_reference: Annotated[Floats, Quantity("of the labels, NaN where a frame has none", "eV/Å^3", "(F, 6)")]
    stress: Annotated[Floats, Quantity("of the model, NaN where a frame has no label", "eV/Å^3", "(F, 6)")]

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

    @classmethod
    def load(cls, path: str | Path) -> Assessment:
        """The assessment that `save` wrote, also in earlier versions, whose files hold nothing but the arrays."""
        earlier = _bare_arrays(path)
        return super().load(path) if earlier is None else cls.unpacked(earlier, {})

    @classmethod
    def upgraded(cls, arrays: Arrays, info: dict[str, Any]) -> tuple[Arrays, dict[str, Any]]:
        """Groups were an array."""
        return arrays, ({"groups": arrays.pop("groups").tolist()} if "groups" in arrays else {}) | info

    def to_json(self) -> dict[str, Any]:
        """Statistics in meV per atom, meV/Å and GPa, as plain JSON values; null where there is no label."""
        groups = {name: json_statistics(statistics) for name, statistics in self.by_group.items()}
        return json_statistics(self.overall) | {"groups": groups}

    def summary(self) -> str:
        """Errors over all frames, in the units of papers."""
        errors = self.overall
        rows = [
            ("energy", 1e3, errors.energy_mae, errors.energy_rmse, "meV/atom"),
            ("forces", 1e3, errors.forces_mae, errors.forces_rmse, "meV/Å"),
            ("stress", 1 / GPa, errors.stress_mae, errors.stress_rmse, "GPa"),
        ]
        lines = [
            f"  {name:<7} MAE {scale * mae:.4g}, RMSE {scale * rmse:.4g} {unit}"
            for name, scale, mae, rmse, unit in rows
            if math.isfinite(mae)
        ]
        return "\n".join([f"errors on {errors.frames} frames, {errors.atoms} atoms:", *lines])

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


def _bare_arrays(path: str | Path) -> Arrays | None:
    """The arrays of a file of an earlier version, None for any other file."""
    try:
        with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as data:
            arrays = {name: data[name] for name in data.files}
    except (ValueError, OSError, BadZipFile):
        return None
    return arrays if set(arrays) == {field.name for field in fields(Assessment)} else None


def json_statistics(statistics: ErrorStatistics) -> dict[str, float | int | None]:
    """The errors in the units of papers: meV per atom, meV, meV/Å and GPa."""
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
