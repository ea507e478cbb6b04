"""Force constants from exact second derivatives, and those of finite displacements held against them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from .. import checks, plotting
from ..errors import ConfigError, EvaluationError
from ..storage import load_arrays, save_arrays
from .crystal import to_ase
from .dispersion import PhononDispersion

if TYPE_CHECKING:
    from phonopy import Phonopy

Array = NDArray[np.float64]
Hessian = Callable[[Atoms, list[int]], Any]  # a supercell and M atoms -> (M, 3, N, 3) eV/Å^2


@dataclass(frozen=True, eq=False)
class HessianComparison:
    """Force constants of finite displacements against the Hessian of the same supercell, for the primitive atoms."""

    finite: Array  # (n, N, 3, 3) eV/Å^2, as the dispersion has them
    exact: Array  # (n, N, 3, 3) eV/Å^2, from the Hessian, nothing symmetrized
    displacement: float | None  # Å, of the finite displacements
    symmetrized: bool  # whether the finite ones were

    @property
    def largest_difference(self) -> float:
        """eV/Å^2."""
        return float(np.abs(self.finite - self.exact).max())

    @property
    def relative_difference(self) -> float:
        """The largest difference over the largest force constant."""
        return self.largest_difference / float(np.abs(self.exact).max())

    @property
    def asr_residual(self) -> float:
        """eV/Å^2, largest |sum_j Phi_ij| of the Hessian."""
        return float(np.abs(self.exact.sum(axis=1)).max())

    def __str__(self) -> str:
        step = "" if self.displacement is None else f" at {self.displacement:g} Å"
        return (
            f"force constants of finite displacements{step} and the Hessian of {self.exact.shape[1]} atoms differ by "
            f"{self.largest_difference:.3g} eV/Å^2 at most, {self.relative_difference:.2g} of the largest"
        )

    def plot(self, ax: Any = None) -> Any:
        """Axes with the differences over the size of the force constants, both logarithmic."""
        ax = plotting.axes(ax)
        size, difference = np.abs(self.exact).ravel(), np.abs(self.finite - self.exact).ravel()
        shown = (size > 0) & (difference > 0)
        ax.loglog(size[shown], difference[shown], ".", markersize=3)
        ax.set_xlabel(r"$|\Phi|$ of the Hessian (eV/Å$^2$)")
        ax.set_ylabel(r"$|\Delta\Phi|$ (eV/Å$^2$)")
        return ax

    def to_json(self) -> dict[str, Any]:
        """Plain values with units in their names."""
        return {
            "largest_difference_eV_per_A2": self.largest_difference,
            "relative_difference": self.relative_difference,
            "largest_force_constant_eV_per_A2": float(np.abs(self.exact).max()),
            "hessian_asr_residual_eV_per_A2": self.asr_residual,
            "displacement_A": self.displacement,
            "symmetrized": self.symmetrized,
            "atoms": self.exact.shape[1],
        }

    def save(self, path: str | Path) -> None:
        """Write everything to one .npz file, without pickle."""
        info = {"displacement": self.displacement, "symmetrized": self.symmetrized}
        save_arrays(path, "hessian_comparison", {"finite": self.finite, "exact": self.exact}, info)

    @classmethod
    def load(cls, path: str | Path) -> HessianComparison:
        """The comparison of a file written by `save`."""
        arrays, info = load_arrays(path, "hessian_comparison")
        return cls(arrays["finite"], arrays["exact"], info["displacement"], info["symmetrized"])


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
    finite = phonons.force_constants[np.array(phonon.primitive.p2s_map)]
    return HessianComparison(finite, exact, phonons.displacement, phonons.symmetrized)


def phonon_dispersion_from_hessian(
    atoms: Atoms,
    *,
    supercell: Any,
    hessian: Hessian | None = None,
    primitive_matrix: Any = "auto",
    symprec: float = 1e-5,
    **settings: Any,
) -> PhononDispersion:
    """The phonon dispersion from exact second derivatives: there is no displacement to choose.

    settings: path, points, dimensions, mesh and imaginary_limit, as in `phonon_dispersion`.  Nothing is symmetrized.
    The largest force on an atom is in the result; whether the crystal is relaxed is the caller's to look at.
    """
    from .assembly import dispersion_of, without_calculator
    from .crystal import phonopy_crystal

    checks.crystal(atoms, "a phonon calculation")
    phonon = phonopy_crystal(without_calculator(atoms), supercell, primitive=primitive_matrix, symprec=symprec)
    phonon.force_constants = exact_force_constants(phonon, _callable(atoms.calc, hessian), atoms.pbc)
    bare = atoms.copy()
    bare.calc = atoms.calc
    residual = float(np.linalg.norm(bare.get_forces(apply_constraint=False), axis=1).max())
    return dispersion_of(phonon, pbc=atoms.pbc, residual_force=residual, **settings)


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
