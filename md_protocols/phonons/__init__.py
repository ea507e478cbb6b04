"""Phonons and what follows from them, through phonopy's array interface."""

from __future__ import annotations

from .assembly import dispersion_of
from .born import BornCharges
from .calculation import phonon_dispersion
from .conductivity import ThermalConductivity, thermal_conductivity
from .convergence import PhononConvergence, displacement_convergence, supercell_convergence
from .density import PhononDOS
from .dispersion import PhononDispersion
from .effective import effective_phonons
from .effective_result import EffectivePhonons
from .grueneisen import Grueneisen, grueneisen
from .hessian_check import HessianComparison, hessian_check, phonon_dispersion_from_hessian
from .phonopy_files import phonons_of_displacements, phonons_of_file, read_born
from .quasi_harmonic import QuasiHarmonic, quasi_harmonic
from .thermal import ThermalProperties

__all__ = [
    "BornCharges",
    "EffectivePhonons",
    "Grueneisen",
    "HessianComparison",
    "PhononConvergence",
    "PhononDOS",
    "PhononDispersion",
    "QuasiHarmonic",
    "ThermalConductivity",
    "ThermalProperties",
    "dispersion_of",
    "displacement_convergence",
    "effective_phonons",
    "grueneisen",
    "hessian_check",
    "phonon_dispersion",
    "phonon_dispersion_from_hessian",
    "phonons_of_displacements",
    "phonons_of_file",
    "quasi_harmonic",
    "read_born",
    "supercell_convergence",
    "thermal_conductivity",
]
