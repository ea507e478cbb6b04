"""Born effective charges and the dielectric constant: the electric field of long-wave polar modes."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from numpy.typing import NDArray

from mlcalc.ground.warn import warn

from ..errors import ConfigError, PhysicsWarning
from ..results import Quantity

if TYPE_CHECKING:
    from phonopy import Phonopy

Array = NDArray[np.float64]
_AT_GAMMA = 1e-10  # fractional
_UNBALANCED = 0.1  # e: charges of a cell that add up to more are of another cell, or badly converged


@dataclass(frozen=True, eq=False, repr=False)
class BornCharges:
    """Born effective charge tensors, of the atoms of the cell they are given for, and the static electronic response.

    charges[a, i, j] = Omega dP_i / du_aj / e: polarisation along i for a displacement along j (phonopy's order).
    """

    charges: Annotated[Array, Quantity("of the atoms", "e", "(N, 3, 3)")]
    dielectric: Annotated[Array, Quantity("high-frequency, relative to vacuum", shape="(3, 3)")]

    def __post_init__(self) -> None:
        charges, dielectric = np.array(self.charges, dtype=float), np.array(self.dielectric, dtype=float)
        if charges.ndim != 3 or charges.shape[1:] != (3, 3) or dielectric.shape != (3, 3):
            raise ConfigError(
                f"Born charges have the shape {charges.shape} and the dielectric constant {dielectric.shape}: they "
                "must be (N, 3, 3) and (3, 3)"
            )
        if not (np.isfinite(charges).all() and np.isfinite(dielectric).all()):
            raise ConfigError("the Born charges or the dielectric constant are not finite")
        if np.linalg.eigvalsh((dielectric + dielectric.T) / 2).min() < 1.0 - 1e-6:
            raise ConfigError(f"the dielectric constant {dielectric.tolist()} must not be below 1 in any direction")
        excess = float(np.abs(charges.sum(axis=0)).max())
        if excess > _UNBALANCED * max(1, len(charges)):
            raise ConfigError(
                f"the Born charges of the cell add up to {excess:.3g} e, and should to zero: give one tensor for each "
                "atom of the cell, in its order"
            )
        object.__setattr__(self, "charges", charges)
        object.__setattr__(self, "dielectric", dielectric)

    def __repr__(self) -> str:
        effective = ", ".join(f"{np.trace(tensor) / 3:.3g}" for tensor in self.charges[:8])
        more = ", ..." if len(self.charges) > 8 else ""
        return (
            f"<BornCharges: {len(self.charges)} atoms, a third of the traces {effective}{more} e; dielectric constant "
            f"{np.trace(self.dielectric) / 3:.3g}>"
        )

    def nac(self) -> dict[str, Any]:
        """phonopy's parameters of the non-analytical correction by Gonze and Lee, Phys. Rev. B 55, 10355 (1997)."""
        from phonopy.physical_units import get_physical_units

        units = get_physical_units()
        factor = units.Hartree * units.Bohr  # e^2 / (4 pi eps0) in eV Å
        return {"born": self.charges.copy(), "dielectric": self.dielectric.copy(), "factor": factor, "method": "gonze"}


def seen_along(phonon: Phonopy, qpoints: Array, direction: Any = None) -> Array:
    """Frequencies (Q, bands), THz; Γ and its equivalents (q whole) as approached along the direction, where given.

    ConfigError for a direction that is none.
    """
    points = np.array(qpoints, dtype=float)
    if direction is None:
        return np.array(phonon.run_qpoints(points).frequencies)
    try:
        along = np.array(direction, dtype=float)
    except (TypeError, ValueError):
        along = np.empty(0)
    length = float(np.linalg.norm(along))
    if along.shape != (3,) or not np.isfinite(length) or length < 1e-8:
        raise ConfigError(
            f"direction is {direction!r}: give three finite numbers that are not all zero, in fractional coordinates "
            "of the reciprocal vectors",
            setting="direction",
            value=direction,
        )
    points[np.abs(points - np.rint(points)).max(axis=1) < _AT_GAMMA] = 0.0  # phonopy splits at zero only
    chosen = along / length if phonon.nac_params is not None else None
    return np.array(phonon.run_qpoints(points, nac_q_direction=chosen).frequencies)


def primitive_charges(born: BornCharges, phonon: Phonopy) -> BornCharges:
    """The charges of the primitive cell's atoms, from those of the structure's atoms or of its primitive cell's.

    They are averaged over the space group and made to add up to zero; PhysicsWarning where that changes them much,
    ConfigError for a wrong number of atoms.
    """
    from phonopy.structure.symmetry import symmetrize_borns_and_epsilon

    unitcell, primitive = phonon.unitcell, phonon.primitive
    for cell, target in ((unitcell, primitive), (primitive, None)):
        if len(born.charges) == len(cell):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # told below, in numbers
                found = [
                    symmetrize_borns_and_epsilon(
                        born.charges, born.dielectric, cell, primitive=to, symprec=phonon.symmetry.tolerance
                    )
                    for to in (None, target)
                ]
            _tell_changes(born, *found[0])
            return BornCharges(*found[1])
    raise ConfigError(
        f"there are Born charges of {len(born.charges)} atoms: give them for the {len(unitcell)} atoms of the "
        f"structure or for the {len(primitive)} of its primitive cell",
        setting="born",
        value=len(born.charges),
    )


def _tell_changes(born: BornCharges, charges: Array, dielectric: Array) -> None:
    changes = float(np.abs(charges - born.charges).max()), float(np.abs(dielectric - born.dielectric).max())
    if max(changes) > _UNBALANCED:
        warn(
            PhysicsWarning(
                f"Born charges change by up to {changes[0]:.3g} e and the dielectric constant by {changes[1]:.3g} when "
                "made to follow the space group and the sum rule",
                setting="born",
                remedies=["check the order of the atoms and the axes"],
            )
        )
