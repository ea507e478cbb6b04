"""What a dispersion says of itself, as text and as plain values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .dispersion import PhononDispersion


def as_text(phonons: PhononDispersion) -> str:
    """A few lines: size, stability, what the sum rules and the residual forces were."""
    atoms, bands = len(phonons.force_constants), phonons.frequencies.shape[1]
    where = " ".join(f"{x:.4g}" for x in phonons.lowest_qpoint)
    verdict = "stable" if phonons.stable else "IMAGINARY MODES"
    lines = [
        f"phonons of {phonons.unitcell.get_chemical_formula()}: {bands} bands, supercell of {atoms} atoms, "
        f"{phonons.n_displacements} displacements",
        f"{verdict}: lowest frequency {phonons.lowest:.4g} THz at q = ({where}), limit {phonons.imaginary_limit:g} "
        f"THz; highest on the path {phonons.frequencies.max():.4g} THz",
        f"acoustic sum rule violated by {phonons.asr_residual:.2g} eV/Å^2 before symmetrisation, "
        f"{phonons.asr_residual_after:.2g} in the constants used",
    ]
    if phonons.residual_force is not None:
        stress = "" if phonons.residual_stress is None else f", stress {phonons.residual_stress:.2g} eV/Å^3"
        lines.append(f"largest force on the undisplaced crystal {phonons.residual_force:.2g} eV/Å{stress}")
    if phonons.rotational_violation is not None:
        told = ", ".join(f"{name} {value:.2g}" for name, value in phonons.rotational_violation.items())
        lines.append(f"rotational sum rules {'enforced' if phonons.rotational else 'violated by'}: {told}")
    return "\n".join(lines)


def as_json(phonons: PhononDispersion) -> dict[str, Any]:
    """Plain values with units in their names."""
    corners = []
    for (start, stop), names in zip(phonons.segments, phonons.labels, strict=True):
        for row, name in ((start, names[0]), (stop - 1, names[1])):
            point = {
                "label": name,
                "q": phonons.qpoints[row].tolist(),
                "frequencies_THz": phonons.frequencies[row].tolist(),
            }
            if point not in corners:
                corners.append(point)
    return {
        "formula": phonons.unitcell.get_chemical_formula(),
        "dimensions": phonons.dimensions,
        "supercell_matrix": phonons.supercell_matrix.tolist(),
        "primitive_matrix": phonons.primitive_matrix.tolist(),
        "displacement_A": phonons.displacement,
        "n_displacements": phonons.n_displacements,
        "stable": phonons.stable,
        "lowest_frequency_THz": phonons.lowest,
        "lowest_frequency_q": phonons.lowest_qpoint.tolist(),
        "imaginary_limit_THz": phonons.imaginary_limit,
        "stability_mesh": phonons.mesh.tolist(),
        "highest_frequency_THz": float(phonons.frequencies.max()),
        "asr_residual_eV_per_A2": phonons.asr_residual,
        "asr_residual_after_eV_per_A2": phonons.asr_residual_after,
        "rotational_violation": phonons.rotational_violation,
        "rotational_enforced": phonons.rotational,
        "residual_force_eV_per_A": phonons.residual_force,
        "residual_stress_eV_per_A3": phonons.residual_stress,
        "non_analytical_correction": phonons.born is not None,
        "cautions": list(phonons.cautions),
        "special_points": corners,
        "path": {
            "q": phonons.qpoints.tolist(),
            "distance_per_A": phonons.distances.tolist(),
            "frequencies_THz": phonons.frequencies.tolist(),
            "segments": phonons.segments.tolist(),
            "labels": [list(pair) for pair in phonons.labels],
        },
    }
