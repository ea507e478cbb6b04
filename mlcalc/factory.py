"""Recipes of calculators, for other processes and machines: plain values instead of weights, and no torch."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlcalc.errors import ModelFileError
from mlcalc.md_protocols import checks
from mlcalc.md_protocols.errors import ConfigError
from mlcalc.model_file.header import read_model_info

if TYPE_CHECKING:
    from mlcalc.calculator import MLCalculator

__all__ = ["CalculatorFactory"]

_DEVICE = re.compile(r"auto|(cpu|cuda)(:\d+)?")
_INDEX = Path(__file__).with_name("bundled") / "index.json"


@dataclass(frozen=True, init=False, repr=False)
class CalculatorFactory:
    """A recipe that makes a new MLCalculator at each call: small, hashable, picklable, made without importing torch.

    model: name of a bundled model, or path of a model file, which must be the same file wherever a calculator is made.
    settings: keywords of MLCalculator (device, dtype, kernels, skin, neighbor_backend, min_distance, max_edges);
    whether there is such a device is looked at where the calculator is made.

    Raises ConfigError for unknown or impossible settings and for a model that is held in memory, UnknownModelError
    and ModelFileError for a model that is not there; the call raises ModelFileError where another file is found.
    """

    model: str  # a bundled name, or an absolute path
    file_sha256: str  # when the factory was made
    settings: tuple[tuple[str, Any], ...]  # those given, by name: texts and numbers

    def __init__(self, model: str | os.PathLike[str], **settings: Any) -> None:
        found, sha256 = _found(model)
        object.__setattr__(self, "model", found)
        object.__setattr__(self, "file_sha256", sha256)
        object.__setattr__(self, "settings", _checked(settings))

    def __call__(self) -> MLCalculator:
        """A new MLCalculator, of the very file that the factory was made with."""
        from mlcalc.calculator import MLCalculator

        found, sha256 = _found(self.model)
        if sha256 != self.file_sha256:
            raise ModelFileError(
                f"model {found} has file_sha256 {sha256} here, but {self.file_sha256} when its CalculatorFactory was "
                "made: the file was changed since, or this machine has another one or another version of mlcalc",
                setting="model",
                value=sha256,
                limit=self.file_sha256,
                remedies=["give all machines the same file under the same path", "make the factory anew"],
            )
        return MLCalculator(self.model, **dict(self.settings))

    def __repr__(self) -> str:
        settings = "".join(f", {name}={value!r}" for name, value in self.settings)
        return f"CalculatorFactory({self.model!r}{settings})"

    def describe(self) -> dict[str, Any]:
        """What the numbers depend on, as JSON values: the file and the precision.

        Not the device, kernels, skin and list: they give the same within rounding.
        """
        return {"file_sha256": self.file_sha256, "dtype": dict(self.settings).get("dtype", "float64")}


def _found(model: Any) -> tuple[str, str]:
    """Bundled name or absolute path, and the sha256 of the file."""
    if not isinstance(model, str | os.PathLike):
        raise ConfigError(
            f"model is a {type(model).__name__} held in memory, which a factory does not carry to other processes",
            setting="model",
            remedies=[
                "write it to a file first, save_model(model, 'model.safetensors'), and give the path of that file"
            ],
        )
    bundled = json.loads(_INDEX.read_text(encoding="utf-8")) if isinstance(model, str) else {}
    if f"{model}.safetensors" in bundled:
        return str(model), _sha256(_INDEX.with_name(f"{model}.safetensors"))
    path = Path(model).expanduser().absolute()
    if not path.is_file():
        read_model_info(model)  # says what is wrong with the name, or with what is found there
    return str(path), _sha256(path)


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelFileError(
            f"model file {path} cannot be read ({error.strerror or error})",
            setting="model",
            value=str(path),
            remedies=["check the path and its permissions"],
        ) from error


def _checked(settings: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """The settings as plain values in alphabetical order, so that equal factories are equal."""
    for name in settings:
        if name not in _CHECKS:
            near = difflib.get_close_matches(name, _CHECKS, n=1)
            guess = f" Did you mean {near[0]!r}?" if near else ""
            raise ConfigError(
                f"unknown setting {name!r} of MLCalculator: choose from {', '.join(_CHECKS)}.{guess}",
                setting=name,
                limit=tuple(_CHECKS),
            )
    return tuple((name, _CHECKS[name](name, settings[name])) for name in sorted(settings))


def _device(name: str, value: Any) -> str:
    if _DEVICE.fullmatch(str(value)) is None:  # also for torch.device, of which str() is such a word
        raise ConfigError(
            f"{name} is {value!r}: choose 'cpu', 'cuda', 'cuda:1' (any number) or 'auto'", setting=name, value=value
        )
    return str(value)


def _one_of(*options: str) -> Callable[[str, Any], str]:
    return lambda name, value: checks.choice(name, value, options)


# The keywords of MLCalculator, and the words that they take.
_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "device": _device,
    "dtype": _one_of("float64", "float32"),
    "kernels": _one_of("auto", "fused", "torch", "compile"),
    "skin": lambda name, value: checks.number(name, value, at_least=0.0, hint=" Å"),
    "neighbor_backend": _one_of("matscipy", "vesin", "torch-cluster"),
    "min_distance": lambda name, value: checks.number(name, value, at_least=0.0, hint=" Å"),
    "max_edges": lambda name, value: checks.whole(name, value, at_least=1),
}
