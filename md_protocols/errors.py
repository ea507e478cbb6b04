"""Errors raised by the protocols: each text says what, the value, the limit and the remedy."""

from __future__ import annotations


class ProtocolError(Exception):
    """Base of the errors raised by the protocols."""


class ConfigError(ProtocolError, ValueError):
    """A setting outside its allowed range."""


class ThermostatError(ProtocolError, ValueError):
    """A thermostat that has nothing to act on."""


class SimulationError(ProtocolError, RuntimeError):
    """A run that can not be continued: non-finite forces, an explosion, a broken output folder."""
