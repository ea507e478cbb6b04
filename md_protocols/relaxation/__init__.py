"""Relaxation of atoms and cells."""

from __future__ import annotations

from .outcome import Relaxation
from .relax import relax, relax_many

__all__ = ["Relaxation", "relax", "relax_many"]
