"""Force constants from exact second derivatives, and those of finite displacements held against them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlcalc.ground.errors import Use
from mlcalc.ground.warn import warn

from .. import plotting
from ..errors import ConfigError, EvaluationError, PhysicsWarning
from ..evaluator import Evaluator
from ..results import Quantity, Result
from .bands import dispersion_on, sampling_of, with_charges
from .born import BornCharges
from .cautions import stress_of, unrelaxed
from .crystal import prepared, to_ase
from .dispersion import IMAGINARY_LIMIT, PhononDispersion
from .finite_displacements import require_limits
from .force_constants import Provenance, full_force_constants
from .phonopy_export import force_sets

if TYPE_CHECKING:
    from phonopy import Phonopy

Array = NDArray[np.float64]
_ROUNDING = 1e-10  # of the largest force constant: what is not drawn
Hessian = Callable[[Atoms, list[int]], Any]  # a supercell and M atoms -> (M, 3, N, 3) eV/Å^2


@dataclass(frozen=True, eq=False, repr=False)
class HessianComparison(Result):
    """Force constants of finite displacements against the Hessian of the same supercell, for the primitive atoms."""

    kind = "hessian_comparison"
    derived: ClassVar[Mapping[str, Quantity]] = {
        "largest_difference": Quantity("of force constants", "eV/Å^2"),
        "relative_difference": Quantity("the largest difference over the largest force constant"),
        "relative_raw_difference": Quantity("the same before symmetrisation"),
        "rms_difference": Quantity("of force constants", "eV/Å^2"),
        "largest_frequency_change": Quantity("on the path", "THz"),
        "rms_frequency_change": Quantity("on the path", "THz"),
        "largest_force_constant": Quantity("of the Hessian", "eV/Å^2"),
        "asr_residual": Quantity("largest |sum_j Phi_ij| of the Hessian", "eV/Å^2"),
        "n_atoms": Quantity("of the supercell"),
    }

    finite: Annotated[Array, Quantity("as the dispersion has them", "eV/Å^2", "(n, N, 3, 3)", json=False)]
    raw: Annotated[
        Array, Quantity("of the finite displacements before symmetrisation", "eV/Å^2", "(n, N, 3, 3)", json=False)
    ]
    exact: Annotated[Array, Quantity("from the Hessian, nothing symmetrized", "eV/Å^2", "(n, N, 3, 3)", json=False)]
    displacement: Annotated[float | None, Quantity("of the finite displacements", "Å")]
    symmetrized: Annotated[bool, Quantity("whether the finite ones were")]
    frequency_changes: Annotated[
        Array,
        Quantity("on the path, of finite displacements less the Hessian's", "THz", "(Q, bands)", json=False),
    ]

    @property
    def largest_difference(self) -> float:
        """eV/Å^2."""
        return float(np.abs(self.finite - self.exact).max())

    @property
    def relative_difference(self) -> float:
        """The largest difference over the largest force constant."""
        return self.largest_difference / self.largest_force_constant

    @property
    def rms_difference(self) -> float:
        """eV/Å^2."""
        return float(np.sqrt(((self.finite - self.exact) ** 2).mean()))

    @property
    def relative_raw_difference(self) -> float:
        """The largest difference before symmetrisation over the largest force constant."""
        return float(np.abs(self.raw - self.exact).max()) / self.largest_force_constant

    @property
    def asr_residual(self) -> float:
        """eV/Å^2, largest |sum_j Phi_ij| of the Hessian."""
        return float(np.abs(self.exact.sum(axis=1)).max())

    @property
    def largest_force_constant(self) -> float:
        """eV/Å^2."""
        return float(np.abs(self.exact).max())

    @property
    def largest_frequency_change(self) -> float:
        """THz."""
        return float(np.abs(self.frequency_changes).max())

    @property
    def rms_frequency_change(self) -> float:
        """THz."""
        return float(np.sqrt((self.frequency_changes**2).mean()))

    @property
    def n_atoms(self) -> int:
        """Of the supercell."""
        return int(self.exact.shape[1])

    def __str__(self) -> str:
        step = "" if self.displacement is None else f" at {self.displacement:g} Å"
        return (
            f"force constants of finite displacements{step} and the Hessian of {self.n_atoms} atoms differ by "
            f"{self.largest_difference:.3g} eV/Å^2 at most, {self.relative_difference:.2g} of the largest "
            f"({self.relative_raw_difference:.2g} before symmetrisation); "
            f"frequencies on the path by {self.largest_frequency_change:.3g} THz"
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


def hessian_check(phonons: PhononDispersion, *, calc: Any = None, hessian: Hessian | None = None) -> HessianComparison:
    """The force constants of a dispersion beside the rows of its supercell's Hessian for the primitive atoms.

    hessian: a callable from the supercell and a list of M atoms to (M, 3, N, 3) eV/Å^2; by default the `hessian` of
    `calc`, which must be the calculator that the dispersion came from.

    Raises ConfigError where there is no Hessian, EvaluationError for one that is no such array of finite numbers.
    """
    phonon = phonons.phonopy()
    exact = exact_force_constants(phonon, _callable(calc, hessian), phonons.unitcell.pbc)
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
    phonon.dataset = force_sets(phonons.displaced_atoms, phonons.displacements, phonons.forces)
    phonon.produce_force_constants(show_drift=False)
    return full_force_constants(phonon)


def phonon_dispersion_from_hessian(
    atoms: Atoms,
    *,
    supercell: Any,
    hessian: Hessian | None = None,
    primitive_matrix: Any = "auto",
    symprec: float = 1e-5,
    force_limit: float = 1e-3,
    stress_limit: float | None = 1e-3,
    dimensions: int | None = None,
    born: BornCharges | None = None,
    path: Any = None,
    npoints: int = 101,
    mesh: Any = None,
    imaginary_limit: float = IMAGINARY_LIMIT,
) -> PhononDispersion:
    """The phonon dispersion from exact second derivatives: there is no displacement to choose.

    Settings as in `phonon_dispersion`.  Nothing is symmetrized, and no sum rule enforced.

    Raises ConfigError and EvaluationError as `hessian_check` does; PhysicsWarning for a crystal that is not relaxed.
    """
    require_limits(force_limit, stress_limit)
    ready = prepared(
        atoms,
        "a phonon calculation",
        supercell,
        primitive_matrix=primitive_matrix,
        symprec=symprec,
        dimensions=dimensions,
    )
    rows_of, evaluator, phonon = _callable(atoms.calc, hessian), Evaluator(atoms.calc), ready.phonon
    with_charges(phonon, born)
    sampling = sampling_of(
        phonon, dimensions=ready.dimensions, path=path, npoints=npoints, mesh=mesh, imaginary_limit=imaginary_limit
    )
    residual = float(np.linalg.norm(evaluator.one(ready.crystal).forces, axis=1).max())
    stress = stress_of(ready.crystal, evaluator, ready.dimensions)
    told = [PhysicsWarning(ready.caution)] if ready.caution else []
    strained = unrelaxed(
        residual, stress, force_limit=force_limit, stress_limit=stress_limit, dimensions=ready.dimensions
    )
    told += [strained] if strained else []
    for caution in told:
        warn(caution)
    phonon.force_constants = exact_force_constants(phonon, rows_of, atoms.pbc)
    provenance = Provenance(
        residual_force=residual, residual_stress=stress, cautions=tuple(str(caution) for caution in told)
    )
    return dispersion_on(phonon, sampling, pbc=atoms.pbc, provenance=provenance)


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


def _callable(calc: Any, hessian: Hessian | None) -> Hessian:
    offered = hessian if hessian is not None else getattr(calc, "hessian", None)
    if offered is None:
        raise ConfigError(
            f"the calculator {type(calc).__name__} has no Hessian",
            setting="hessian",
            remedies=[
                "take one that has, such as MLCalculator",
                Use("hessian", None, "a callable of the supercell and a list of atoms", python="pass hessian=...,"),
            ],
        )
    found: Hessian = offered
    return found
