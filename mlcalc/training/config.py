"""Training settings, read from TOML."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

from mlcalc.md_protocols.errors import ConfigError
from mlcalc.training.data import StressSource

GRADIENTS = ("auto", "fused", "autograd")


@dataclass(frozen=True)
class DataConfig:
    """Files and keys of the labels; relative paths are relative to the TOML file."""

    train: str
    validation: int | str = 50  # number of frames taken at random from `train`, or a file of its own
    test: str | None = None  # evaluated once, after training
    energy_key: str = "energy"
    forces_key: str = "forces"
    group_key: str | None = None  # name in atoms.info by which errors are listed
    test_group_key: str | None = None  # where the test file has another one
    stress: StressSource | None = None
    primitive_cells: bool = False  # replace perfect crystals by their one-atom cells: the same labels, far cheaper


@dataclass(frozen=True)
class LossConfig:
    """Weights of the mean squared errors, in units of 1/eV^2, Å^2/eV^2 and 1/eV^2."""

    energy: float = 1.0  # of the energy per atom
    forces: float = 1.0  # of force components
    stress: float = 0.0  # of the components of stress times volume per atom

    def __post_init__(self) -> None:
        for name, weight in asdict(self).items():
            _require(name, weight, 0 <= weight < math.inf, "zero or a positive weight")


@dataclass(frozen=True)
class OptimizerConfig:
    """Adam with linear warm-up and cosine decay to zero, and a moving average of the weights."""

    epochs: int = 100
    batch_size: int = 4
    learning_rate: float = 1e-3
    warmup_steps: int = 200
    gradient_clip: float = 10.0  # largest norm of the gradient
    ema_decay: float = 0.999  # per step; the averaged weights are validated and saved
    seed: int = 0
    validate_every: int = 1  # epochs
    gradients: str = "auto"  # by "fused" kernels or by "autograd"; auto: kernels where there are some

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "validate_every"):
            _require(name, getattr(self, name), getattr(self, name) >= 1, "a whole number of at least 1")
        for name in ("learning_rate", "gradient_clip"):
            _require(name, getattr(self, name), 0 < getattr(self, name) < math.inf, "a positive number")
        _require("seed", self.seed, self.seed >= 0, "zero or a positive whole number")
        _require("warmup_steps", self.warmup_steps, self.warmup_steps >= 0, "zero or more steps")
        _require("gradients", repr(self.gradients), self.gradients in GRADIENTS, " or ".join(map(repr, GRADIENTS)))
        _require("ema_decay", self.ema_decay, 0 <= self.ema_decay < 1, "at least 0 and below 1")


@dataclass(frozen=True)
class TrainingConfig:
    """Everything that determines a training run."""

    name: str
    model: Mapping[str, Any]  # "kind" and the settings of that architecture
    data: DataConfig
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    initial: str | None = None  # model file whose weights the training starts from; [model] then gives its kind only
    info: Mapping[str, Any] = field(default_factory=dict)  # description, licence, citation, ... for the model file
    folder: str = "."  # what relative paths start from

    def __post_init__(self) -> None:
        plain = bool(self.name) and Path(self.name).name == self.name and not self.name.startswith(".")
        _require("name", repr(self.name), plain, "a file name without folders, such as 'my-model'")

    def path(self, name: str) -> Path:
        """A data file of the configuration."""
        return Path(self.folder) / name

    def to_json(self) -> dict[str, Any]:
        """What the weights depend on, as plain JSON values: without the folder and the texts of `info`."""
        return {name: value for name, value in asdict(self).items() if name not in ("folder", "info")}


def load_training_config(path: str | Path, overrides: Mapping[str, Any] | None = None) -> TrainingConfig:
    """Settings from a TOML file; overrides are dotted names such as {"optimizer.epochs": 5}."""
    path = Path(path)
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such training file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error
    for name, value in (overrides or {}).items():
        *tables, key = name.split(".")
        table = values
        for part in tables:
            table = table.setdefault(part, {})
            if not isinstance(table, dict):
                raise ConfigError(f"{name}: {part} is a value, not a table of settings")
        table[key] = value
    config = _build(TrainingConfig, {**values, "folder": str(path.resolve().parent)}, str(path))
    if "kind" not in config.model:
        raise ConfigError(f'{path}: [model] has no kind: give one, for example kind = "hvnet"')
    return config


def _require(name: str, value: Any, allowed: bool, what: str) -> None:
    if not allowed:
        raise ConfigError(f"{name} = {value} is not allowed: give {what}")


_Config = TypeVar("_Config")


def _build(cls: type[_Config], values: Mapping[str, Any], where: str) -> _Config:
    hints = get_type_hints(cls)
    known = [f.name for f in fields(cls)]  # type: ignore[arg-type]
    unknown = sorted(set(values) - set(known))
    if unknown:
        from difflib import get_close_matches

        close = get_close_matches(unknown[0], known, 1)
        hint = f"; did you mean {close[0]!r}?" if close else "."
        raise ConfigError(f"{where}: unknown setting {unknown[0]!r}{hint} Allowed: {', '.join(known)}")
    built = {}
    for name, value in values.items():
        nested = next((t for t in get_args(hints[name]) or (hints[name],) if is_dataclass(t)), None)
        if nested is not None and isinstance(value, Mapping):
            built[name] = _build(cast("type[Any]", nested), value, f"{where} [{name}]")
        else:
            built[name] = tuple(value) if isinstance(value, list) else value
            _check_type(f"{where}: {name}", built[name], hints[name])
    try:
        return cls(**built)
    except TypeError as error:
        raise ConfigError(f"{where}: {error}") from error
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def _check_type(name: str, value: Any, hint: Any) -> None:
    allowed = [get_origin(kind) or kind for kind in (get_args(hint) if isinstance(hint, UnionType) else (hint,))]
    accepted = (*allowed, int) if float in allowed else tuple(allowed)
    if not isinstance(value, accepted) or (isinstance(value, bool) and bool not in allowed):
        words = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", tuple: "a list"}
        wanted = " or ".join(words.get(kind, "a table of settings") for kind in allowed if kind is not type(None))
        raise ConfigError(f"{name} = {value!r} is not allowed: give {wanted}")
