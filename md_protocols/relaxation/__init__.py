"""Relaxation of atoms and cells."""

from __future__ import annotations

from .crystal import free_cell, relax_crystal
from .outcome import Relaxation
from .relax import relax, relax_many

__all__ = ["Relaxation", "free_cell", "relax", "relax_crystal", "relax_many"]
