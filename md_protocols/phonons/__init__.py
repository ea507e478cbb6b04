"""Phonons and what follows from them, through phonopy's array interface."""

from __future__ import annotations

from .assembly import dispersion_of
from .born import BornCharges
from .calculation import phonon_dispersion
from .dispersion import PhononDispersion

__all__ = ["BornCharges", "PhononDispersion", "dispersion_of", "phonon_dispersion"]
