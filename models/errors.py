"""Errors raised by the networks and their settings."""

from __future__ import annotations


class ModelError(ValueError):
    """Settings or inputs that a network cannot work with."""
