"""Errors raised by the networks and their settings."""

from __future__ import annotations

from mlcalc.ground.errors import MLCalcError


class ModelError(MLCalcError, ValueError):
    """Settings or inputs that a network cannot work with."""
