"""Elastic constants of crystals and slabs from the stress of strained cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.units import GPa
from numpy.typing import NDArray

from mlcalc.ground.errors import Remedy, Use
from mlcalc.ground.remedies import NO_CONSTRAINTS, RELAX_FIRST
from mlcalc.ground.warn import warn

from .. import checks
from ..crystals.perfection import FORCE_LIMIT, STRESS_LIMIT_GPA
from ..crystals.symmetry import SYMPREC, spacegroup
from ..crystals.vacuum import MORE, check_slab, vacuum_names
from ..errors import ConfigError, PhysicsWarning
from ..evaluator import Evaluate, Evaluated, Evaluator, refuse_float32
from ..relaxation.relax import relax_many
from .result import SLAB, ElasticConstants
from .tensor import VOIGT, conventional_axes, other_axes, point_group, strain_tensor, symmetrized

__all__ = ["ElasticConstants", "elastic_constants"]

Array = NDArray[np.float64]
_PLANE = (0, 1, 5)  # xx, yy, xy
_LARGEST_STRAIN = 0.05
_DEVIATION_LIMIT = 0.02  # of the largest constant


_SMALLER_STRAIN = Use("strain", None, "for a smaller one")
_SMALLER_FMAX = Use("fmax", None, "for smaller forces")


@dataclass(frozen=True)
class _Settings:
    strain: float
    components: tuple[int, ...]
    relax_ions: bool
    fmax: float  # eV/Å
    steps: int
    symmetrize: bool
    symprec: float  # Å

    def strains(self) -> list[tuple[str, Array]]:
        """Name and tensor of all strains: for each component +h, -h, +h/2, -h/2."""
        labels = ("xx", "yy", "zz", "yz", "xz", "xy")
        amplitudes = [factor * self.strain for factor in (1.0, -1.0, 0.5, -0.5)]
        return [(f"strain {labels[c]} {h:+g}", strain_tensor(c, h)) for c in self.components for h in amplitudes]

    def derivatives(self, stresses: Array) -> tuple[Array, Array]:
        """d stress / d strain (6, 6) GPa by central differences over the whole and the half amplitude."""
        found = np.zeros((2, 6, 6))
        for component, stress in zip(self.components, stresses.reshape(-1, 4, 6) / GPa, strict=True):
            plus, minus, half_plus, half_minus = stress
            found[0][:, component] = (plus - minus) / (2 * self.strain)
            found[1][:, component] = (half_plus - half_minus) / self.strain
        outside = [c for c in range(6) if c not in self.components]
        found[:, outside] = 0.0  # a slab has no stress normal to it
        return found[0], found[1]


def elastic_constants(
    atoms: Atoms,
    *,
    strain: float = 0.005,
    relax_ions: bool = True,
    fmax: float = 1e-5,
    steps: int = 500,
    symmetrize: bool = True,
    symprec: float = SYMPREC,
    slab: bool = False,
    allow_float32: bool = False,
    evaluate: Evaluate | None = None,
    progress: bool | None = None,
) -> ElasticConstants:
    """The elastic constants C (6, 6) in GPa of a relaxed crystal: stress = C strain, in Voigt order.

    The cell, rows a, becomes a (1 + e) for each component of the symmetric strain e (engineering shear), with the
    amplitudes +-strain and +-strain/2, all in one batch.  C(h) = (stress(h) - stress(-h)) / 2h, and
    C = (4 C(h/2) - C(h)) / 3 leaves an error of order h^4; the difference of the two is reported.  With `relax_ions`
    the atoms of each strained cell move until forces are below `fmax` (eV/Å), in one batch; the constants at clamped
    ions come along.  `symmetrize` takes the mean over the point group found within `symprec` (Å), and C = C^T; how
    far the raw constants were from both is reported.

    C is in the Cartesian axes of the structure, which in a primitive cell need not be those of tables:
    `conventional` is the same tensor in the axes of the conventional cell.

    The atoms should be relaxed, cell included.  Under stress the derivatives of the Cauchy stress are the stress-strain
    coefficients B of D. C. Wallace (Thermodynamics of Crystals, 1972): they decide about stability and differ from the
    second derivatives of the energy by terms of the order of the stress.  PhysicsWarning for residual forces above
    1e-3 eV/Å, stress above 0.1 GPa or 2 % of the largest constant, deviations above 2 % of it, and a crystal that is
    not stable.

    slab: only xx, yy and xy are strained, for a slab with its normal along z; see `in_plane_N_per_m`.

    Raises ConfigError, EvaluationError, and NotConvergedError for a strained cell whose atoms do not come to rest.
    """
    settings = _Settings(
        strain=checks.number("strain", strain, above=0.0),
        components=_PLANE if slab else tuple(range(len(VOIGT))),
        relax_ions=bool(relax_ions),
        fmax=checks.number("fmax", fmax, above=0.0, hint=" eV/Å"),
        steps=checks.whole("steps", steps, at_least=1),
        symmetrize=bool(symmetrize),
        symprec=checks.number("symprec", symprec, above=0.0, hint=" Å"),
    )

    evaluator = _checked(atoms, settings, slab, evaluate, allow_float32)
    structures = [atoms.copy(), *(_strained(atoms, tensor) for _, tensor in settings.strains())]
    names = ["the structure", *(name for name, _ in settings.strains())]
    start, *clamped = evaluator(structures, stress=True, names=names)
    relaxed = clamped
    if settings.relax_ions and max(_largest(result.forces) for result in clamped) > settings.fmax:
        common = {"evaluate": evaluate, "progress": progress}
        relaxed = _relaxed(structures[1:], names[1:], settings, evaluator, common)
    result = _result(atoms, settings, start, clamped, relaxed)
    told = [*_unrelaxed(result), *_untrue(result, vacuum_names(atoms))]
    noise = None if result.slab else other_axes(atoms, settings.symprec)
    for one in [noise, *told] if noise else told:
        warn(one)
    return result


def _checked(
    atoms: Atoms, settings: _Settings, slab: bool, evaluate: Evaluate | None, allow_float32: bool
) -> Evaluator:
    checks.crystal(atoms, "a computation of elastic constants", ("energy", "forces", "stress"))
    if settings.strain > _LARGEST_STRAIN:
        raise ConfigError(
            f"strain is {settings.strain:g}, and elastic constants are derivatives at 0",
            setting="strain",
            value=settings.strain,
            limit=_LARGEST_STRAIN,
            remedies=[f"choose at most {_LARGEST_STRAIN:g}"],
        )
    if atoms.constraints and settings.relax_ions:
        raise ConfigError(
            f"the structure has constraints ({type(atoms.constraints[0]).__name__}), and all atoms of a crystal follow "
            "the strain",
            setting="constraints",
            remedies=[NO_CONSTRAINTS],
        )
    if slab:
        check_slab(atoms, "slab", True)
    evaluator = Evaluator(atoms.calc, evaluate)
    refuse_float32(evaluator, "elastic constants", allow_float32)
    return evaluator


def _strained(atoms: Atoms, tensor: Array) -> Atoms:
    strained: Atoms = atoms.copy()
    strained.set_constraint()
    strained.set_cell(atoms.cell.array @ (np.eye(3) + tensor), scale_atoms=True)
    return strained


def _largest(forces: Array) -> float:
    return float(np.linalg.norm(forces, axis=1).max())


def _relaxed(
    strained: Sequence[Atoms], names: Sequence[str], settings: _Settings, evaluator: Evaluator, common: dict[str, Any]
) -> list[Evaluated]:
    for structure in strained:
        structure.calc = evaluator.calculator
    found = relax_many(strained, fmax=settings.fmax, steps=settings.steps, require=True, names=names, **common)
    return evaluator([relaxation.atoms for relaxation in found], stress=True, names=names)


def _result(
    atoms: Atoms, settings: _Settings, start: Evaluated, clamped: Sequence[Evaluated], relaxed: Sequence[Evaluated]
) -> ElasticConstants:
    rotations = point_group(atoms, settings.symprec)
    whole, half = settings.derivatives(np.array([result.stress for result in relaxed]))
    clamped_whole, clamped_half = settings.derivatives(np.array([result.stress for result in clamped]))
    raw, raw_clamped = (4 * half - whole) / 3, (4 * clamped_half - clamped_whole) / 3
    mean, mean_clamped = (symmetrized((c + c.T) / 2, rotations) for c in (raw, raw_clamped))
    copy = atoms.copy()
    copy.set_constraint()
    return ElasticConstants(
        atoms=copy,
        stiffness=mean if settings.symmetrize else raw,
        clamped=mean_clamped if settings.symmetrize else raw_clamped,
        raw=raw,
        axes=np.eye(3) if settings.components == _PLANE else conventional_axes(atoms, settings.symprec),
        asymmetry=float(np.abs(raw - raw.T).max()),
        symmetry_violation=float(np.abs((raw + raw.T) / 2 - mean).max()),
        nonlinearity=float(np.abs(whole - half).max()),
        residual_stress=np.asarray(start.stress),
        residual_force=_largest(start.forces),
        spacegroup=spacegroup(atoms, settings.symprec),
        n_operations=len(rotations),
        symmetrized=settings.symmetrize,
        ions_relaxed=settings.relax_ions,
        strain=settings.strain,
        slab=settings.components == _PLANE,
    )


def _caution(text: str, value: float | None, limit: float | None, *remedies: Remedy) -> PhysicsWarning:
    return PhysicsWarning(f"elastic constants: {text}", value=value, limit=limit, remedies=remedies)


def _unrelaxed(result: ElasticConstants) -> list[PhysicsWarning]:
    """What to say of a structure that is not at its minimum."""
    counted = list(_PLANE) if result.slab else list(range(6))
    stress = float(np.abs(result.residual_stress_GPa[counted]).max())
    limit = min(STRESS_LIMIT_GPA, _DEVIATION_LIMIT * float(np.abs(result.stiffness).max()))
    told = []
    if result.residual_force > FORCE_LIMIT:
        text = (
            f"the largest force in the unstrained structure is {result.residual_force:.3g} eV/Å (limit {FORCE_LIMIT:g})"
        )
        told.append(_caution(text, result.residual_force, FORCE_LIMIT, RELAX_FIRST))
    if stress > limit:
        text = (
            f"the unstrained structure is under a stress of {stress:.3g} GPa (limit {limit:.2g}), and the numbers are "
            "stress-strain coefficients at that stress"
        )
        told.append(_caution(text, stress, limit, RELAX_FIRST))
    return told


def _untrue(result: ElasticConstants, vacuum: Sequence[str]) -> list[PhysicsWarning]:
    """What to say of numbers that are not the elastic constants of a stable crystal."""
    told = []
    limit = _DEVIATION_LIMIT * float(np.abs(result.stiffness).max())
    empty = (
        f"the cell has vacuum ({MORE}) along {', '.join(vacuum)}, and constants per volume depend on how much"
        if vacuum and not result.slab
        else ""
    )
    if empty and result.stable:
        told.append(_caution(empty, None, None, SLAB))
    solid = result.slab and "c" not in vacuum
    if solid:
        text = (
            "slab=True, but the structure has no vacuum along z: the constants in N/m are those of the cell's height "
            "in a crystal"
        )
        told.append(_caution(text, None, None, "for a crystal, compute those of a crystal"))
    for what, value, remedies in (
        ("the constants of the whole and the half strain differ", result.nonlinearity, [_SMALLER_STRAIN]),
        ("C differs from its transpose", result.asymmetry, ["relax the cell", _SMALLER_STRAIN]),
        ("C breaks the symmetry of the crystal", result.symmetry_violation, ["relax the structure", _SMALLER_FMAX]),
    ):
        if value > limit and not solid:  # in-plane strains alone cannot have the symmetry of a crystal
            text = f"{what} by {value:.3g} GPa (limit {limit:.3g}, 2 % of the largest)"
            told.append(_caution(text, value, limit, *remedies))
    if not result.stable:
        text = (
            f"the crystal is not stable: the lowest eigenvalue of C is {result.eigenvalues[0]:.4g} GPa; no moduli are "
            "given (Mouhat and Coudert, Phys. Rev. B 90, 224104 (2014))" + (f"; {empty}" if empty else "")
        )
        told.append(_caution(text, float(result.eigenvalues[0]), 0.0, *([SLAB] if empty else [])))
    return told
