"""Force constants from exact second derivatives, and those of finite displacements held against them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from .. import checks, plotting
from ..crystals.kinds import plain_crystal
from ..errors import ConfigError, EvaluationError, PhysicsWarning
from ..evaluator import Evaluator
from ..folders.storage import load_arrays, save_arrays
from .bands import dispersion_of, where_to_look, with_charges
from .born import BornCharges
from .cautions import stress_of, unrelaxed
from .crystal import phonopy_crystal, plane_of, to_ase, without_calculator
from .dispersion import IMAGINARY_LIMIT, PhononDispersion
from .force_constants import full_force_constants
from .phonopy_export import force_sets

if TYPE_CHECKING:
    from phonopy import Phonopy

Array = NDArray[np.float64]
_ROUNDING = 1e-10  # of the largest force constant: what is not drawn
Hessian = Callable[[Atoms, list[int]], Any]  # a supercell and M atoms -> (M, 3, N, 3) eV/Å^2


@dataclass(frozen=True, eq=False)
class HessianComparison:
    """Force constants of finite displacements against the Hessian of the same supercell, for the primitive atoms."""

    finite: Array  # (n, N, 3, 3) eV/Å^2, as the dispersion has them
    raw: Array  # (n, N, 3, 3) eV/Å^2, of the finite displacements before symmetrisation
    exact: Array  # (n, N, 3, 3) eV/Å^2, from the Hessian, nothing symmetrized
    displacement: float | None  # Å, of the finite displacements
    symmetrized: bool  # whether the finite ones were
    frequency_changes: Array  # (Q, bands) THz on the dispersion's path, of finite displacements less the Hessian's

    @property
    def largest_difference(self) -> float:
        """eV/Å^2."""
        return float(np.abs(self.finite - self.exact).max())

    @property
    def relative_difference(self) -> float:
        """The largest difference over the largest force constant."""
        return self.largest_difference / float(np.abs(self.exact).max())

    @property
    def rms_difference(self) -> float:
        """eV/Å^2."""
        return float(np.sqrt(((self.finite - self.exact) ** 2).mean()))

    @property
    def relative_raw_difference(self) -> float:
        """The largest difference before symmetrisation over the largest force constant."""
        return float(np.abs(self.raw - self.exact).max() / np.abs(self.exact).max())

    @property
    def asr_residual(self) -> float:
        """eV/Å^2, largest |sum_j Phi_ij| of the Hessian."""
        return float(np.abs(self.exact.sum(axis=1)).max())

    def __str__(self) -> str:
        step = "" if self.displacement is None else f" at {self.displacement:g} Å"
        return (
            f"force constants of finite displacements{step} and the Hessian of {self.exact.shape[1]} atoms differ by "
            f"{self.largest_difference:.3g} eV/Å^2 at most, {self.relative_difference:.2g} of the largest "
            f"({self.relative_raw_difference:.2g} before symmetrisation); "
            f"frequencies on the path by {np.abs(self.frequency_changes).max():.3g} THz"
        )

    def plot(self, ax: Any = None) -> Any:
        """Axes with the differences over the size of the force constants, both logarithmic."""
        ax = plotting.axes(ax)
        size, difference = np.abs(self.exact).ravel(), np.abs(self.finite - self.exact).ravel()
        shown = (size > _ROUNDING * size.max()) & (difference > 0)  # the rest is zero by symmetry
        ax.loglog(size[shown], difference[shown], ".", markersize=3)
        ax.set_xlabel(r"$|\Phi|$ of the Hessian (eV/Å$^2$)")
        ax.set_ylabel(r"$|\Delta\Phi|$ (eV/Å$^2$)")
        return ax

    def to_json(self) -> dict[str, Any]:
        """Plain values with units in their names."""
        return {
            "largest_difference_eV_per_A2": self.largest_difference,
            "relative_difference": self.relative_difference,
            "relative_difference_before_symmetrisation": self.relative_raw_difference,
            "rms_difference_eV_per_A2": self.rms_difference,
            "largest_frequency_change_THz": float(np.abs(self.frequency_changes).max()),
            "rms_frequency_change_THz": float(np.sqrt((self.frequency_changes**2).mean())),
            "largest_force_constant_eV_per_A2": float(np.abs(self.exact).max()),
            "hessian_asr_residual_eV_per_A2": self.asr_residual,
            "displacement_A": self.displacement,
            "symmetrized": self.symmetrized,
            "atoms": self.exact.shape[1],
        }

    def save(self, path: str | Path) -> None:
        """Write everything to one .npz file, without pickle."""
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        info = {"displacement": self.displacement, "symmetrized": self.symmetrized}
        save_arrays(path, "hessian_comparison", arrays, info)

    @classmethod
    def load(cls, path: str | Path) -> HessianComparison:
        """The comparison of a file written by `save`."""
        arrays, info = load_arrays(path, "hessian_comparison")
        named: dict[str, Any] = {**arrays, **info}
        return cls(**named)


_ARRAYS = ("finite", "raw", "exact", "frequency_changes")


def hessian_check(
    phonons: PhononDispersion, *, calculator: Any = None, hessian: Hessian | None = None
) -> HessianComparison:
    """The force constants of a dispersion beside the rows of its supercell's Hessian for the primitive atoms.

    hessian: a callable from the supercell and a list of M atoms to (M, 3, N, 3) eV/Å^2; by default the `hessian` of the
    calculator, which must be the one that the dispersion came from.

    Raises ConfigError where there is no Hessian, EvaluationError for one that is no such array of finite numbers.
    """
    phonon = phonons.phonopy()
    exact = exact_force_constants(phonon, _callable(calculator, hessian), phonons.unitcell.pbc)
    rows = np.array(phonon.primitive.p2s_map)
    phonon.force_constants = exact
    return HessianComparison(
        finite=phonons.force_constants[rows],
        raw=_unsymmetrized(phonons)[rows],
        exact=exact,
        displacement=phonons.displacement,
        symmetrized=phonons.symmetrized,
        frequency_changes=phonons.at(phonons.qpoints) - np.array(phonon.run_qpoints(phonons.qpoints).frequencies),
    )


def _unsymmetrized(phonons: PhononDispersion) -> Array:
    """(N, N, 3, 3) eV/Å^2 by phonopy's solver from the forces, where each displaces one atom; else those used."""
    if phonons.displacements.ndim != 2 or not len(phonons.forces):
        return phonons.force_constants
    phonon = phonons.phonopy()
    phonon.dataset = force_sets(phonons)
    phonon.produce_force_constants(show_drift=False)
    return full_force_constants(phonon)


def phonon_dispersion_from_hessian(
    atoms: Atoms,
    *,
    supercell: Any,
    hessian: Hessian | None = None,
    primitive_matrix: Any = "auto",
    symprec: float = 1e-5,
    fmax: float = 1e-3,
    smax: float | None = 1e-3,
    dimensions: int | None = None,
    born: BornCharges | None = None,
    path: Any = None,
    points: int = 101,
    mesh: Any = None,
    imaginary_limit: float = IMAGINARY_LIMIT,
) -> PhononDispersion:
    """The phonon dispersion from exact second derivatives: there is no displacement to choose.

    Settings as in `phonon_dispersion`.  Nothing is symmetrized, and no sum rule enforced.

    Raises ConfigError and EvaluationError as `hessian_check` does; PhysicsWarning for a crystal that is not relaxed.
    """
    constrained = plain_crystal(atoms, "a phonon calculation")
    checks.number("fmax", fmax, above=0.0, hint=" eV/Å")
    if smax is not None:
        checks.number("smax", smax, above=0.0, hint=" eV/Å^3")
    checks.number("imaginary_limit", imaginary_limit)
    rows_of = _callable(atoms.calc, hessian)
    crystal, evaluator = without_calculator(atoms), Evaluator(atoms.calc)
    phonon = phonopy_crystal(crystal, supercell, primitive=primitive_matrix, symprec=symprec, dimensions=dimensions)
    flat = plane_of(crystal, np.array(phonon.supercell_matrix), dimensions)
    with_charges(phonon, born)
    where_to_look(phonon, dimensions=flat, path=path, points=points, mesh=mesh)
    residual = float(np.linalg.norm(evaluator.one(crystal).forces, axis=1).max())
    stress = stress_of(atoms, evaluator, flat)
    cautions = tuple(text for text in (constrained, unrelaxed(residual, stress, fmax, smax)) if text)
    for text in cautions:
        warnings.warn(text, PhysicsWarning, stacklevel=2)
    phonon.force_constants = exact_force_constants(phonon, rows_of, atoms.pbc)
    return dispersion_of(
        phonon,
        pbc=atoms.pbc,
        dimensions=flat,
        residual_force=residual,
        residual_stress=stress,
        cautions=cautions,
        path=path,
        points=points,
        mesh=mesh,
        imaginary_limit=imaginary_limit,
    )


def exact_force_constants(phonon: Phonopy, hessian: Hessian, pbc: Any = True) -> Array:
    """(n, N, 3, 3) eV/Å^2: the rows of the supercell's Hessian for the atoms of the primitive cell."""
    rows = [int(row) for row in phonon.primitive.p2s_map]
    atoms = len(phonon.supercell)
    found = np.asarray(hessian(to_ase(phonon.supercell, pbc), rows), dtype=float)
    if found.shape != (len(rows), 3, atoms, 3):
        raise EvaluationError(f"the Hessian has the shape {found.shape}, expected {(len(rows), 3, atoms, 3)}")
    if not np.isfinite(found).all():
        raise EvaluationError("the Hessian is not finite: check the structure and the potential")
    return np.array(found.transpose(0, 2, 1, 3), order="C")


def _callable(calculator: Any, hessian: Hessian | None) -> Hessian:
    offered = hessian if hessian is not None else getattr(calculator, "hessian", None)
    if offered is None:
        raise ConfigError(
            f"the calculator {type(calculator).__name__} has no Hessian: pass one that has, such as MLCalculator, or "
            "hessian=..., a callable of the supercell and a list of atoms"
        )
    found: Hessian = offered
    return found
