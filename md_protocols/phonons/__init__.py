"""Phonons and what follows from them, through phonopy's array interface."""

from __future__ import annotations

from .anharmonic.conductivity import thermal_conductivity
from .anharmonic.conductivity_result import ThermalConductivity
from .anharmonic.effective import effective_phonons
from .anharmonic.effective_result import EffectivePhonons
from .anharmonic.grueneisen import Grueneisen, grueneisen
from .anharmonic.quasi_harmonic import QuasiHarmonic, quasi_harmonic
from .bands import dispersion_of
from .born import BornCharges
from .convergence import PhononConvergence, displacement_convergence, supercell_convergence
from .density import PhononDOS
from .dispersion import PhononDispersion
from .finite_displacements import phonon_dispersion
from .force_constants import Provenance
from .hessian_check import HessianComparison, hessian_check, phonon_dispersion_from_hessian
from .phonopy_import import phonons_of_displacements, phonons_of_file, read_born
from .thermal import ThermalProperties

__all__ = [
    "BornCharges",
    "EffectivePhonons",
    "Grueneisen",
    "HessianComparison",
    "PhononConvergence",
    "PhononDOS",
    "PhononDispersion",
    "Provenance",
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
