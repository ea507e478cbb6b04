"""Errors raised by the protocols: each text says what, the value, the limit and the remedy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mlcalc.ground.errors import MLCalcError, MLCalcWarning


class ProtocolError(MLCalcError):
    """Base of the errors raised by the protocols."""


class PhysicsWarning(MLCalcWarning):
    """Numbers that come out as computed but do not mean what they seem to."""


class ConfigError(ProtocolError, ValueError):
    """A setting outside its allowed range."""


class ThermostatError(ProtocolError, ValueError):
    """A thermostat that has nothing to act on."""


class ResultFileError(ProtocolError, ValueError):
    """A result file that cannot be read back."""


class EvaluationError(ProtocolError, RuntimeError):
    """A calculator that gave no usable numbers for a structure.

    Where others were relaxed along with it `results` holds what all of them came to, the best structure met of those
    that failed.
    """

    def __init__(self, text: str = "", results: Sequence[Any] = (), **known: Any) -> None:
        super().__init__(text, **known)
        self.results = list(results)


class CalculatorError(EvaluationError):
    """A calculator that failed for a reason of its own, not for its values: another attempt may succeed."""


class NotConvergedError(ProtocolError, RuntimeError):
    """A relaxation that ended before its criteria were met; `results` holds what it came to."""

    def __init__(self, text: str = "", results: Sequence[Any] = (), **known: Any) -> None:
        super().__init__(text, **known)
        self.results = list(results)


class SimulationError(ProtocolError, RuntimeError):
    """A run that can not be continued: non-finite forces, an explosion, a broken output folder.

    After a failed step `frames` holds the last good frames (ase.Atoms with energy, forces and momenta), oldest first.
    """

    def __init__(self, text: str = "", frames: Sequence[Any] = (), **known: Any) -> None:
        super().__init__(text, **known)
        self.frames = list(frames)
