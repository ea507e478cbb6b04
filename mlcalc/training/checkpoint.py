"""The state of a training run on disk: safetensors, replaced atomically, exact to the step."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from mlcalc.errors import DataError
from mlcalc.md_protocols.errors import ConfigError
from mlcalc.md_protocols.folders.storage import bounded_json, write_atomically
from mlcalc.models import Network


@dataclass
class TrainingState:
    """Weights, their moving average, the optimizer's moments and the position in the run."""

    network: Network
    optimizer: torch.optim.Adam
    average: dict[str, Tensor]
    step: int = 0
    epoch_loss: float = 0.0  # running sum of the current epoch
    best_score: float = float("inf")
    seconds: float = 0.0  # spent training so far


def save_state(state: TrainingState, path: Path, settings: dict[str, Any]) -> None:
    """Write the state; a reader sees the old file or the new one, never half of one."""
    tensors = {f"network.{name}": tensor for name, tensor in state.network.state_dict().items()}
    tensors |= {f"average.{name}": tensor for name, tensor in state.average.items()}
    for name, parameter in state.network.named_parameters():
        moments = state.optimizer.state.get(parameter, {})
        tensors |= {f"adam.{name}.{key}": moments[key] for key in ("exp_avg", "exp_avg_sq", "step") if key in moments}
    header = {
        "step": state.step,
        "epoch_loss": state.epoch_loss,
        "best_score": state.best_score,
        "seconds": state.seconds,
        "settings": settings,
    }
    data = save({name: tensor.contiguous() for name, tensor in tensors.items()}, {"training": json.dumps(header)})
    write_atomically(path, data)


def load_state(state: TrainingState, path: Path, settings: dict[str, Any]) -> None:
    """Continue from the file; refuses one that was written with other settings."""
    try:
        with safe_open(path, framework="pt") as file:
            header = bounded_json((file.metadata() or {})["training"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise DataError(f"{path}: not a training checkpoint ({error}); move it away to start afresh") from error
    header["settings"].get("optimizer", {}).setdefault("gradients", "autograd")  # from before there was a choice
    _compare(header["settings"], json.loads(json.dumps(settings)), path)
    state.network.load_state_dict(_part(tensors, "network."))
    state.average = _part(tensors, "average.")
    for name, parameter in state.network.named_parameters():
        moments = _part(tensors, f"adam.{name}.")
        if moments:
            state.optimizer.state[parameter] = dict(moments)
    state.step, state.epoch_loss = header["step"], header["epoch_loss"]
    state.best_score, state.seconds = header["best_score"], header["seconds"]


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _compare(old: Any, new: Any, path: Path, name: str = "") -> None:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            _compare(old.get(key), new.get(key), path, f"{name}.{key}" if name else key)
    elif old != new:
        raise ConfigError(
            f"{path}: the run was started with {name} = {old!r}, now it is {new!r}: "
            "restore the setting, or train into another folder"
        )
