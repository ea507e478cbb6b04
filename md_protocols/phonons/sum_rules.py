"""Rotational sum rules."""

from __future__ import annotations
from typing import Any


def enforced(phonon: Any) -> Any:
    raise NotImplementedError


def rotational_violation(phonon: Any) -> Any:
    return None
