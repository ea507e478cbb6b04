"""Errors of the bridge: each text says what, where, the value, the limit and the remedy."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ase.calculators.calculator import PropertyNotImplementedError

from mlcalc.ground.errors import MLCalcError, MLCalcWarning, Use
from mlcalc.md_protocols.errors import (
    CalculatorError,
    ConfigError,
    EvaluationError,
    NotConvergedError,
    PhysicsWarning,
    ProtocolError,
    ResultFileError,
    SimulationError,
    ThermostatError,
)

if TYPE_CHECKING:
    from mlcalc.models.errors import ModelError

__all__ = [
    "CalculatorError",
    "CellError",
    "ConfigError",
    "DataError",
    "DeviceError",
    "EmptyStructureError",
    "EvaluationError",
    "MLCalcError",
    "MLCalcWarning",
    "MissingExtraError",
    "ModelError",
    "ModelFileError",
    "NonFiniteError",
    "NonFiniteResultError",
    "NotConvergedError",
    "OutOfMemoryError",
    "OverlapError",
    "PhysicsWarning",
    "ProtocolError",
    "ResultFileError",
    "SimulationError",
    "StructureError",
    "ThermostatError",
    "TooManyEdgesError",
    "TrainingError",
    "TrainingInterruptedError",
    "UnavailablePropertyError",
    "UnknownElementError",
    "UnknownModelError",
    "Use",
]


class StructureError(MLCalcError, ValueError):
    """A structure that no potential can be evaluated on."""


class EmptyStructureError(StructureError):
    """A structure without atoms."""


class UnknownElementError(StructureError):
    """An element the model was not trained on."""


class NonFiniteError(StructureError):
    """NaN or infinity in positions, momenta or cell."""


class CellError(StructureError):
    """A periodic cell without volume, or a periodic direction without a vector."""


class OverlapError(StructureError):
    """Two atoms closer than the smallest distance the model may be asked about."""


class TooManyEdgesError(StructureError):
    """More neighbor pairs than the limit."""


class NonFiniteResultError(MLCalcError, ArithmeticError):
    """A model that returned NaN or infinity."""


class UnavailablePropertyError(MLCalcError, PropertyNotImplementedError):
    """A property that the model, or the structure, does not have."""


class OutOfMemoryError(MLCalcError, MemoryError):
    """An evaluation that does not fit into memory."""


class DeviceError(MLCalcError, RuntimeError):
    """A device that is not there."""


class MissingExtraError(MLCalcError, ImportError):
    """An optional package that is not installed."""


class ModelFileError(MLCalcError, ValueError):
    """A model file that cannot be trusted or read."""


class UnknownModelError(MLCalcError, KeyError):
    """A model name that is neither bundled nor a file."""


class DataError(MLCalcError, ValueError):
    """A training or evaluation file that cannot be used."""


class TrainingError(MLCalcError, ArithmeticError):
    """A training run that diverged."""


class TrainingInterruptedError(MLCalcError):
    """A training run that was asked to stop by a signal; its checkpoint is on disk."""

    def __init__(self, text: str, signal_number: int = 15, **known: Any) -> None:
        super().__init__(text, **known)
        self.signal_number = signal_number


def __getattr__(name: str) -> Any:
    if name == "ModelError":  # of the networks, which bring torch: errors and headers of files need none
        return import_module("mlcalc.models.errors").ModelError
    raise AttributeError(f"module 'mlcalc.errors' has no attribute {name!r}")
