"""What to say of phonons at a temperature that are not what they seem to be."""

from __future__ import annotations

from .effective_result import EffectivePhonons
from .harmonic_samples import RIGID

_ANHARMONIC = 0.5  # share of forces that no force constants explain
_MEAN_FORCE = 0.05  # eV/Å: moves an atom bound by 5 eV/Å^2 by 0.01 Å


def cautions_of(result: EffectivePhonons, error_THz: float) -> list[str]:
    """Texts; error_THz: limit of standard errors."""
    force, error = result.mean_force
    needed = result.structures * (result.standard_error_max / error_THz) ** 2
    texts = []
    if not result.converged:
        texts.append(
            f"the phonons at {result.temperature:g} K are not self-consistent: after {len(result.iterations.changes)} "
            f"iterations frequencies still change by {result.iterations.changes[-1]:.3g} THz (tolerance "
            f"{result.tolerance:g}); allow more iterations, or a smaller mixing where they go back and forth"
        )
    if result.standard_error_max > error_THz:
        texts.append(
            f"the statistical error of frequencies is up to {result.standard_error_max:.2g} THz (limit error_THz="
            f"{error_THz:g}): about structures={2 * int(needed / 2 + 1)} would bring it there"
        )
    if result.phonons.imaginary:
        texts.append(
            f"the phonons at {result.temperature:g} K have imaginary modes (lowest {result.phonons.lowest:.3g} THz): "
            "there is no self-consistent harmonic crystal in this structure at this temperature; their displacements "
            "were drawn with |frequency|"
        )
    share = float(result.iterations.anharmonicity[-1])
    if share > _ANHARMONIC:
        texts.append(
            f"no force constants explain {100 * share:.0f} % of the forces (limit {100 * _ANHARMONIC:g}): the crystal "
            "is strongly anharmonic, and harmonic phonons describe it poorly; or the forces are those of other atoms"
        )
    if result.soft_modes:
        texts.append(f"{result.soft_modes} modes of the supercell below {RIGID:g} THz were not displaced")
    if force > _MEAN_FORCE and force > 3 * error:
        texts.append(
            f"vibrations push atoms away from their positions: mean forces of up to {force:.2g} ± {error:.1g} eV/Å "
            f"(limit {_MEAN_FORCE:g}); these phonons are those of the positions given, not of the mean ones"
        )
    return texts
