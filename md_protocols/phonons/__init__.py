"""Phonons and what follows from them, through phonopy's array interface."""

from __future__ import annotations

from .assembly import dispersion_of
from .born import BornCharges
from .calculation import phonon_dispersion
from .convergence import PhononConvergence, displacement_convergence, supercell_convergence
from .dispersion import PhononDispersion
from .phonopy_files import phonons_of_displacements, phonons_of_file, read_born
from .thermal import PhononDOS, ThermalProperties

__all__ = [
    "BornCharges",
    "PhononConvergence",
    "PhononDOS",
    "PhononDispersion",
    "ThermalProperties",
    "dispersion_of",
    "displacement_convergence",
    "phonon_dispersion",
    "phonons_of_displacements",
    "phonons_of_file",
    "read_born",
    "supercell_convergence",
]
