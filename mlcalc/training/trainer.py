"""Training of a potential on energies, forces and stress; resumable to the step."""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from signal import Signals
from typing import Any

import numpy as np
import torch

from mlcalc.errors import StructureError, TrainingError
from mlcalc.graphs.validation import validate_structure
from mlcalc.kernels import fused_gradients
from mlcalc.kernels.gradients import GradientKernels
from mlcalc.md_protocols.errors import ConfigError
from mlcalc.md_protocols.folders.lock import FolderLock
from mlcalc.md_protocols.folders.stop import StopRequest
from mlcalc.model_file.model_file import load_model
from mlcalc.models import Network, build_network, network_settings
from mlcalc.training.checkpoint import TrainingState, load_state, save_state
from mlcalc.training.config import TrainingConfig
from mlcalc.training.data import Frame, element_energies, primitive_frame, read_frames, split_frames
from mlcalc.training.samples import Errors, Sample, errors_of, fingerprint, join_samples, make_sample
from mlcalc.training.step import loss_gradient

_LOG_COLUMNS = ("epoch", "step", "learning_rate", "train_loss", "energy_mae", "forces_mae", "forces_rmse", "stress_mae")
_SAVE_SECONDS = 60.0


class Trainer:
    """One training run in one folder."""

    def __init__(self, config: TrainingConfig, folder: str | Path, *, resume: bool = True) -> None:
        self.config, self.folder = config, Path(folder)
        data = config.data
        keys: dict[str, Any] = {"energy_key": data.energy_key, "forces_key": data.forces_key, "stress": data.stress}
        frames = read_frames(config.path(data.train), group_key=data.group_key, **keys)
        if isinstance(data.validation, int):
            self.frames, validation = split_frames(frames, data.validation, config.optimizer.seed)
        else:
            self.frames, validation = frames, read_frames(config.path(data.validation), **keys)
        if data.primitive_cells:
            self.frames = [primitive_frame(frame) for frame in self.frames]
            validation = [primitive_frame(frame) for frame in validation]
        self.network = self._initial_network()
        self.samples = self._samples(self.frames, "training")
        self.validation = self._samples(validation, "validation")
        self.steps_per_epoch = math.ceil(len(self.samples) / config.optimizer.batch_size)
        self.total_steps = self.steps_per_epoch * config.optimizer.epochs
        self.state = TrainingState(
            network=self.network,
            optimizer=torch.optim.Adam(self.network.parameters(), lr=config.optimizer.learning_rate),
            average={name: tensor.detach().clone() for name, tensor in self.network.state_dict().items()},
        )
        self.stopped_by: Signals | None = None
        self.kernels = self._gradient_kernels()
        settings = config.to_json()
        settings["optimizer"]["gradients"] = "autograd" if self.kernels is None else "fused"
        self._settings = {
            **settings,
            "network": network_settings(self.network)[1],
            "labels": fingerprint((*self.samples, *self.validation)),
        }
        self._prepare_folder(resume)

    def _samples(self, frames: Sequence[Frame], kind: str) -> list[Sample]:
        samples = []
        for number, frame in enumerate(frames):
            try:
                validate_structure(frame.atoms, elements=self.network.elements)
                samples.append(make_sample(frame, self.network.cutoff))
            except StructureError as error:
                raise type(error)(f"{kind} frame {number} ({frame.group or frame.atoms.symbols}): {error}") from error
        return samples

    def _prepare_folder(self, resume: bool) -> None:
        self._lock: FolderLock | None = FolderLock(self.folder, files=(self.checkpoint.name,))
        self.folder = self._lock.folder
        try:
            if self.checkpoint.exists():
                if not resume:
                    raise ConfigError(
                        f"{self.folder} already holds a training run: choose another folder, or resume it"
                    )
                load_state(self.state, self.checkpoint, self._settings)
            elif self.log.exists():
                raise ConfigError(
                    f"{self.log} is there, but no checkpoint that it belongs to: choose another folder, or move it away"
                )
            self._trim_log()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let other processes use the folder; done at the end of `run` and when the trainer is no longer used."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def __del__(self) -> None:
        if getattr(self, "_lock", None) is not None:
            self.close()

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.safetensors"

    @property
    def log(self) -> Path:
        return self.folder / "log.csv"

    def _initial_network(self) -> Network:
        settings = dict(self.config.model)
        kind = settings.pop("kind")
        for name, only in (("head", "scalar"), ("quantity", "energy")):
            if settings.get(name, only) != only:
                raise ConfigError(
                    f"[model] {name} is {settings[name]!r}: only potentials are trained here, with {name} = {only!r}, "
                    "on energies, forces and stress"
                )
        if self.config.initial is not None:
            return self._trained_network(self.config.path(self.config.initial), kind, settings)
        found = _elements(self.frames)
        elements = settings.setdefault("elements", found)
        unknown = sorted(set(found) - set(elements))
        if unknown:
            raise ConfigError(
                f"the training frames hold {', '.join(unknown)}, but [model] elements are {', '.join(elements)}: "
                "add them, or leave elements out"
            )
        settings.setdefault("energy_shift", element_energies(self.frames, elements))
        forces = np.concatenate([frame.forces.ravel() for frame in self.frames])
        settings.setdefault("energy_scale", float(np.sqrt(np.mean(forces**2))))
        with torch.random.fork_rng(devices=[]):  # the user's random numbers stay as they are
            torch.manual_seed(self.config.optimizer.seed)
            return build_network(kind, settings)

    @staticmethod
    def _trained_network(path: Path, kind: str, settings: dict[str, Any]) -> Network:
        network = load_model(path).requires_grad_(True).train()
        if settings or network.info.kind != kind:
            raise ConfigError(
                f"initial = {str(path)!r} is a {network.info.kind} model with settings of its own: "
                f'give [model] kind = "{network.info.kind}" and nothing else'
            )
        return network

    def _gradient_kernels(self) -> GradientKernels | None:
        wanted = self.config.optimizer.gradients
        if wanted == "autograd":
            return None
        kernels = fused_gradients(self.network, next(self.network.parameters()).dtype)
        if not isinstance(kernels, str):
            return kernels
        if wanted == "fused":
            raise ConfigError(f'gradients = "fused" is not possible ({kernels}): give "auto" or "autograd"')
        return None

    def run(self, *, progress: bool = True) -> Network:
        """Train to the end; returns the network with the averaged weights.

        SIGINT, SIGTERM and SIGUSR1 end it after the step at hand with a checkpoint (`finished` is then False,
        `stopped_by` the signal), from which the same call continues.
        """
        from tqdm import tqdm

        bar = tqdm(total=self.total_steps, initial=self.state.step, disable=not progress, desc=self.config.name)
        saved = time.monotonic()
        with bar, StopRequest(None, signals=True) as stop:
            while not (self.finished or stop()):
                self._step()
                bar.update()
                if self.state.step % self.steps_per_epoch == 0:
                    self._finish_epoch(bar)
                if time.monotonic() - saved > _SAVE_SECONDS:
                    self._save()
                    saved = time.monotonic()
            self._save()
        self.close()
        self.stopped_by = stop.signal
        self.network.load_state_dict(self.state.average)
        return self.network

    @property
    def finished(self) -> bool:
        return self.state.step >= self.total_steps

    def _step(self) -> None:
        started = time.monotonic()
        settings, state = self.config.optimizer, self.state
        batch = self._batch(state.step)
        for group in state.optimizer.param_groups:
            group["lr"] = self._learning_rate(state.step)
        loss, gradients = loss_gradient(self.network, batch, self.config.loss, self.kernels)
        for name, parameter in self.network.named_parameters():
            parameter.grad = gradients[name]
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), settings.gradient_clip)
        if not bool(norm.isfinite()):
            raise TrainingError(
                f"step {state.step}: loss {loss}, gradient norm {norm.item()}. Lower learning_rate "
                f"({settings.learning_rate}) or check the labels; a checkpoint in {self.folder}, if there is one, is "
                "of an earlier step"
            )
        state.optimizer.step()
        decay = min(settings.ema_decay, (1 + state.step) / (10 + state.step))
        with torch.no_grad():
            for name, tensor in self.network.state_dict().items():
                state.average[name].lerp_(tensor, 1 - decay)
        state.step += 1
        state.epoch_loss += loss
        state.seconds += time.monotonic() - started

    def _batch(self, step: int) -> Sample:
        """The batch of a step: a function of seed and step alone, so that a resumed run sees the same ones."""
        epoch, place = divmod(step, self.steps_per_epoch)
        size = self.config.optimizer.batch_size
        order = np.random.default_rng((self.config.optimizer.seed, epoch)).permutation(len(self.samples))
        return join_samples([self.samples[k] for k in order[place * size : (place + 1) * size]])

    def _learning_rate(self, step: int) -> float:
        settings = self.config.optimizer
        warmup = min(1.0, (step + 1) / max(1, settings.warmup_steps))
        return settings.learning_rate * warmup * 0.5 * (1 + math.cos(math.pi * step / self.total_steps))

    def _finish_epoch(self, bar: Any) -> None:
        state = self.state
        epoch, loss = state.step // self.steps_per_epoch, state.epoch_loss / self.steps_per_epoch
        state.epoch_loss = 0.0
        if epoch % self.config.optimizer.validate_every and state.step < self.total_steps:
            return
        errors = self.validation_errors()
        bar.set_postfix_str(f"loss {loss:.3g}, F MAE {1e3 * errors.forces_mae:.1f} meV/Å")
        row = [epoch, state.step, self._learning_rate(state.step), loss]
        row += [errors.energy_mae, errors.forces_mae, errors.forces_rmse, errors.stress_mae]
        with self.log.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file).writerow([f"{value:.8g}" for value in row])
        self._save()

    def validation_errors(self) -> Errors:
        """Errors of the averaged weights on the validation frames."""
        with self._averaged_weights():
            return errors_of(self.network, self.validation, self.config.optimizer.batch_size)

    @contextmanager
    def _averaged_weights(self) -> Iterator[None]:
        current = {name: tensor.clone() for name, tensor in self.network.state_dict().items()}
        self.network.load_state_dict(self.state.average)
        try:
            yield
        finally:
            self.network.load_state_dict(current)

    def _save(self) -> None:
        save_state(self.state, self.checkpoint, self._settings)

    def _trim_log(self) -> None:
        """Start the log, or drop rows written after the checkpoint that the run continues from."""
        rows = []
        if self.log.exists():
            with self.log.open(newline="", encoding="utf-8", errors="replace") as file:
                header, *rows = [*csv.reader(file)] or [list(_LOG_COLUMNS)]
            if tuple(header) != _LOG_COLUMNS:
                raise ConfigError(f"{self.log} is not the log of a training: choose another folder, or move it away")
            whole = [row for row in rows if len(row) == len(_LOG_COLUMNS)]  # the last one may have been cut off
            rows = [row for row in whole if row[1].isdigit() and int(row[1]) <= self.state.step]
        with self.log.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(_LOG_COLUMNS)
            writer.writerows(rows)


def _elements(frames: Sequence[Frame]) -> tuple[str, ...]:
    numbers: dict[int, str] = {}
    for frame in frames:
        numbers |= dict(zip(frame.atoms.numbers.tolist(), frame.atoms.symbols, strict=True))
    return tuple(numbers[number] for number in sorted(numbers))
