"""From settings to a model file: train, assess on the test frames, save with everything a user must know."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import atomic_numbers

from mlcalc.assessment import Assessment, assess
from mlcalc.errors import TrainingInterruptedError
from mlcalc.graphs.neighbors import neighbor_pairs
from mlcalc.graphs.validation import resolve_cell
from mlcalc.model_file.header import read_model_info
from mlcalc.model_file.info import ModelInfo
from mlcalc.model_file.model_file import save_model
from mlcalc.models import Network
from mlcalc.training.config import TrainingConfig
from mlcalc.training.data import Frame, read_frames
from mlcalc.training.trainer import Trainer

_GOLDEN_ATOMS = 16  # larger frames would make loading slow


def train(config: TrainingConfig, output: str | Path, *, resume: bool = True, progress: bool = True) -> Path:
    """Path of the finished model file; `output` also gets the log, the training curve, test errors and a model card.

    The same call continues an interrupted run, to the step.  Raises TrainingInterruptedError after SIGINT or SIGTERM,
    with a checkpoint saved, and TrainingError when the loss is not finite.
    """
    output = Path(output)
    trainer = Trainer(config, output, resume=resume)
    network = trainer.run(progress=progress)
    if trainer.stopped_by is not None and not trainer.finished:
        raise TrainingInterruptedError(
            f"training of {config.name} was stopped after step {trainer.state.step} of {trainer.total_steps}; "
            f"the checkpoint is in {output}: the same command continues from there",
            trainer.stopped_by,
        )
    plot_training(trainer.log, output / "training.png")
    assessment = _test(config, network, progress)
    info = _info(config, trainer, assessment)
    path = output / f"{config.name}.safetensors"
    save_model(network, path, info=info, golden=_golden(trainer.frames))
    if assessment is not None:
        assessment.plot().savefig(output / "test.png", dpi=150)
        (output / "test.json").write_text(json.dumps(assessment.to_json(), indent=2) + "\n", encoding="utf-8")
    (output / f"{config.name}.md").write_text(model_card(read_model_info(path), network), encoding="utf-8")
    return path


def plot_training(log: Path, picture: Path) -> None:
    """Draw the loss and the validation errors of a log over the epochs."""
    from matplotlib.figure import Figure

    with log.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    epochs = [float(row["epoch"]) for row in rows]
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    for name, label, scale in (
        ("train_loss", "training loss (weighted)", 1.0),
        ("energy_mae", "energy MAE (meV/atom)", 1e3),
        ("forces_mae", "force MAE (meV/Å)", 1e3),
        ("forces_rmse", "force RMSE (meV/Å)", 1e3),
    ):
        axes.semilogy(epochs, [scale * float(row[name]) for row in rows], label=label)
    axes.set_xlabel("epoch")
    axes.set_ylabel("validation errors, training loss")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.savefig(picture, dpi=150)


def training_envelope(frames: Sequence[Frame], cutoff: float) -> dict[str, Any]:
    """What the training frames cover: sizes, shortest distances per pair of elements, neighbors, forces, volumes."""
    shortest: dict[str, float] = {}
    neighbors: list[int] = []
    volumes: list[float] = []
    for frame in frames:
        atoms = frame.atoms
        cell, pbc = resolve_cell(atoms)
        pairs = neighbor_pairs(atoms.positions, cell, pbc, cutoff)
        vectors = atoms.positions[pairs.j] - atoms.positions[pairs.i] + pairs.shifts @ cell
        distances = np.linalg.norm(vectors, axis=1)
        symbols = np.array(atoms.get_chemical_symbols())
        names = np.array(["-".join(sorted(two)) for two in zip(symbols[pairs.i], symbols[pairs.j], strict=True)])
        for name in np.unique(names):
            shortest[str(name)] = min(shortest.get(str(name), np.inf), float(distances[names == name].min()))
        neighbors.extend(np.bincount(pairs.i, minlength=len(atoms)).tolist())
        if pbc.all():
            volumes.append(float(atoms.get_volume()) / len(atoms))
    sizes = [len(frame.atoms) for frame in frames]
    envelope: dict[str, Any] = {
        "frames": len(frames),
        "atoms_per_frame": [min(sizes), max(sizes)],
        "shortest_distance_A": {name: round(value, 4) for name, value in sorted(shortest.items())},
        "neighbors_within_cutoff": [min(neighbors), max(neighbors)],
        "largest_force_eV_per_A": round(max(float(np.linalg.norm(f.forces, axis=1).max()) for f in frames), 4),
    }
    if volumes:
        envelope["volume_per_atom_A3"] = [round(min(volumes), 3), round(max(volumes), 3)]
    return envelope


def model_card(info: ModelInfo, network: Network) -> str:
    """The model card, Markdown."""
    parameters = sum(parameter.numel() for parameter in network.parameters())
    lines = [
        f"# {info.name}",
        "",
        info.description,
        "",
        f"{info.kind} with {parameters:,} parameters; energies in eV, lengths in Å; trained in {info.precision}.",
        "",
        "| | |",
        "|---|---|",
        f"| elements | {', '.join(info.elements)} |",
        f"| cutoff | {info.cutoff} Å |",
        *(
            f"| {name.replace('_', ' ')} | {_text(value)} |"
            for name, value in info.provenance.items()
            if name != "training"
        ),
        f"| sha256 of the contents | {info.sha256} |",
        "",
        "## Training frames",
        "",
        "| | |",
        "|---|---|",
        *(f"| {name.replace('_', ' ')} | {_text(value)} |" for name, value in info.envelope.items()),
        "",
    ]
    if info.errors:
        lines += ["## Errors on the test frames", "", "| | |", "|---|---|"]
        groups = info.errors.get("groups", {})
        plain = {name: v for name, v in info.errors.items() if name != "groups" and v is not None}
        lines += [f"| {name.replace('_', ' ')} | {_text(value)} |" for name, value in plain.items()]
        if groups:
            lines += ["", "| group | frames | energy MAE (meV/atom) | force MAE (meV/Å) | force RMSE (meV/Å) |"]
            lines += ["|---|---|---|---|---|"]
            for name, e in groups.items():
                lines.append(
                    f"| {name} | {e['frames']} | {e['energy_mae_meV_per_atom']:.2f} | "
                    f"{e['forces_mae_meV_per_A']:.1f} | {e['forces_rmse_meV_per_A']:.1f} |"
                )
    training = json.dumps(info.provenance.get("training", {}), indent=1, ensure_ascii=False)
    lines += ["", "## Settings of the training", "", "```json", training, "```"]
    return "\n".join(lines) + "\n"


def _test(config: TrainingConfig, network: Network, progress: bool) -> Assessment | None:
    data = config.data
    if data.test is None:
        return None
    frames = read_frames(
        config.path(data.test),
        energy_key=data.energy_key,
        forces_key=data.forces_key,
        group_key=data.test_group_key or data.group_key,
        stress=data.stress,
    )
    return assess(network, frames, progress=progress)


def _info(config: TrainingConfig, trainer: Trainer, assessment: Assessment | None) -> ModelInfo:
    texts = dict(config.info)
    settings = config.to_json()
    settings["data"] = {  # names of files, not of somebody's folders
        name: Path(value).name if name in ("train", "validation", "test") and isinstance(value, str) else value
        for name, value in settings["data"].items()
    }
    return ModelInfo(
        name=config.name,
        description=str(texts.pop("description", "")),
        envelope=training_envelope(trainer.frames, trainer.network.cutoff),
        provenance={**texts, "seed": config.optimizer.seed, "training": settings},
        errors=assessment.to_json() if assessment is not None else {},
    )


def _golden(frames: Sequence[Frame]) -> list[Any]:
    """Two of the training structures, where they are small enough to be evaluated at every load."""
    small = [frame.atoms for frame in frames if len(frame.atoms) <= _GOLDEN_ATOMS]
    chosen = small[:: max(1, len(small) - 1)][:2]
    for number, atoms in enumerate(chosen):
        order = sorted(set(atoms.get_chemical_symbols()), key=atomic_numbers.__getitem__)
        atoms.info["name"] = f"training frame {number} ({''.join(order)})"
    return chosen


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{name}: {_text(entry)}" for name, entry in value.items())
    if isinstance(value, (list, tuple)):
        return " to ".join(_text(entry) for entry in value) if len(value) == 2 else ", ".join(map(_text, value))
    return str(value)
