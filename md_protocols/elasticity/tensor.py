"""Elastic tensors: Voigt and full form, rotations and point groups, averages over orientations, sound.

Voigt order xx, yy, zz, yz, xz, xy; strains with engineering shear (gamma_yz = 2 e_yz), so that stress = C strain.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from ase import Atoms, units
from numpy.typing import NDArray

from mlcalc.ground.errors import Use

from ..crystals.conventional_cells import KEEP_SYMMETRY, ConventionalCell, orthogonal
from ..crystals.symmetry import symmetry_dataset
from ..errors import ConfigError, PhysicsWarning
from ..results import Quantity, Result

Array = NDArray[np.float64]
VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
_INDEX = np.array([[0, 5, 4], [5, 1, 3], [4, 3, 2]])
_KELVIN = np.sqrt([1.0, 1.0, 1.0, 2.0, 2.0, 2.0])
_GPA = 1e9  # Pa
_AMU_PER_A3 = 1.66053906892e3  # kg/m^3


@dataclass(frozen=True, eq=False, repr=False)
class Moduli(Result):
    """Averages over all orientations of the grains: Voigt (upper bound), Reuss (lower bound), Hill (their mean).

    R. Hill, Proc. Phys. Soc. A 65, 349 (1952); the anisotropy 5 G_V / G_R + K_V / K_R - 6, 0 for isotropic crystals,
    from Ranganathan and Ostoja-Starzewski, Phys. Rev. Lett. 101, 055504 (2008).
    """

    kind = "moduli"

    bulk_voigt: Annotated[float, Quantity("upper bound", "GPa")]
    bulk_reuss: Annotated[float, Quantity("of a single crystal, -V dp/dV", "GPa")]
    bulk_hill: Annotated[float, Quantity("mean of Voigt and Reuss", "GPa")]
    shear_voigt: Annotated[float, Quantity("upper bound", "GPa")]
    shear_reuss: Annotated[float, Quantity("lower bound", "GPa")]
    shear_hill: Annotated[float, Quantity("mean of Voigt and Reuss", "GPa")]
    young_hill: Annotated[float, Quantity("9 K G / (3 K + G)", "GPa")]
    poisson_hill: Annotated[float, Quantity("(3 K - 2 G) / (2 (3 K + G))")]
    universal_anisotropy: Annotated[float, Quantity("0 for isotropic crystals")]


def strain_tensor(component: int, amplitude: float) -> Array:
    """(3, 3) symmetric strain whose Voigt component (engineering shear) is the amplitude, the others 0."""
    tensor = np.zeros((3, 3))
    i, j = VOIGT[component]
    tensor[i, j] += amplitude / 2
    tensor[j, i] += amplitude / 2
    return tensor


def full_tensor(stiffness: Array) -> Array:
    """C_ijkl (3, 3, 3, 3) of a Voigt matrix (6, 6) of stiffnesses."""
    found: Array = np.asarray(stiffness, dtype=float)[_INDEX[:, :, None, None], _INDEX[None, None]]
    return found


def voigt_matrix(tensor: Array) -> Array:
    """The Voigt matrix (6, 6) of C_ijkl."""
    return np.array([[tensor[i, j, k, m] for k, m in VOIGT] for i, j in VOIGT])


def rotated(stiffness: Array, rotation: Array) -> Array:
    """The Voigt matrix of a crystal that was turned by the rotation (3, 3): x' = R x."""
    r = np.asarray(rotation, dtype=float)
    return voigt_matrix(np.einsum("ai,bj,ck,dm,ijkm->abcd", r, r, r, r, full_tensor(stiffness), optimize=True))


def point_group(atoms: Atoms, symprec: float) -> Array:
    """(G, 3, 3) Cartesian rotations of the crystal's space group within `symprec` (Å); identity where none is found."""
    found = symmetry_dataset(atoms, symprec)
    if found is None:
        return np.eye(3)[None]
    lattice = atoms.cell.array.T
    return orthogonal(lattice @ np.unique(found.rotations, axis=0) @ np.linalg.inv(lattice))


def conventional_axes(atoms: Atoms, symprec: float) -> Array:
    """(3, 3) rotation to the axes of the conventional cell: x along a, y in the plane of a and b (spglib's setting)."""
    found = ConventionalCell.of(atoms, symprec)
    return np.eye(3) if found is None else found.axes


def other_axes(atoms: Atoms, symprec: float) -> PhysicsWarning | None:
    """What to say of a crystal that noise gives other axes than it would have; None where it does not."""
    found = ConventionalCell.of(atoms, symprec)
    coarse = found and found.without_noise(atoms)
    if not found or not coarse or coarse.same_axes(found.axes):
        return None
    return PhysicsWarning(
        f"elastic constants: noise lowers the symmetry of the crystal: within {symprec:g} Å it is {found}, within "
        f"{coarse.symprec:g} Å {coarse}; its components, C11 and all others, are those in the axes of the former",
        setting="symprec",
        value=symprec,
        remedies=[KEEP_SYMMETRY, Use("symprec", coarse.symprec)],
    )


def symmetrized(stiffness: Array, rotations: Array) -> Array:
    """The mean over the rotations: what of the tensor the point group allows."""
    mean: Array = np.mean([rotated(stiffness, rotation) for rotation in rotations], axis=0)
    return mean


def eigenvalues(stiffness: Array, components: Any = slice(None)) -> Array:
    """Eigenvalues, ascending, in Kelvin's notation, where they do not depend on the axes; all > 0 in a stable crystal.

    F. Mouhat and F.-X. Coudert, Phys. Rev. B 90, 224104 (2014), whose Voigt matrix has eigenvalues of the same signs.
    """
    kelvin = (stiffness * _KELVIN[:, None] * _KELVIN)[components][:, components]
    found: Array = np.linalg.eigvalsh((kelvin + kelvin.T) / 2)
    return found


def moduli(stiffness: Array) -> Moduli:
    """Averages for polycrystals; ConfigError for a tensor that is not positive definite."""
    lowest = eigenvalues(stiffness)[0]
    if lowest <= 0:
        raise ConfigError(
            f"the elastic tensor has the eigenvalue {lowest:.3g} GPa: a crystal that is not stable has no moduli"
        )
    c_axial, c_cross, c_shear = _sums(stiffness)
    s_axial, s_cross, s_shear = _sums(np.linalg.inv(stiffness))
    bulk_voigt, bulk_reuss = (c_axial + 2 * c_cross) / 9, 1 / (s_axial + 2 * s_cross)
    shear_voigt = (c_axial - c_cross + 3 * c_shear) / 15
    shear_reuss = 15 / (4 * (s_axial - s_cross) + 3 * s_shear)
    bulk, shear = (bulk_voigt + bulk_reuss) / 2, (shear_voigt + shear_reuss) / 2
    return Moduli(
        bulk_voigt=bulk_voigt,
        bulk_reuss=bulk_reuss,
        bulk_hill=bulk,
        shear_voigt=shear_voigt,
        shear_reuss=shear_reuss,
        shear_hill=shear,
        young_hill=9 * bulk * shear / (3 * bulk + shear),
        poisson_hill=(3 * bulk - 2 * shear) / (2 * (3 * bulk + shear)),
        universal_anisotropy=5 * shear_voigt / shear_reuss + bulk_voigt / bulk_reuss - 6,
    )


def _sums(m: NDArray[Any]) -> tuple[float, float, float]:
    """m11 + m22 + m33, m12 + m13 + m23 and m44 + m55 + m66."""
    return float(m[0, 0] + m[1, 1] + m[2, 2]), float(m[0, 1] + m[0, 2] + m[1, 2]), float(m[3, 3] + m[4, 4] + m[5, 5])


def young_modulus(stiffness: Array, directions: Any) -> Array:
    """Young's modulus (GPa) for tension along each of the directions (..., 3): 1 / (S_ijkl n_i n_j n_k n_l)."""
    n = unit_vectors(directions)
    strain = np.stack([n[..., i] * n[..., j] for i, j in VOIGT], axis=-1)  # S is contracted with stresses: no factor 2
    found: Array = 1.0 / np.einsum("...i,ij,...j->...", strain, np.linalg.inv(stiffness), strain)
    return found


def sound_velocities(stiffness: Array, density: float, directions: Any) -> Array:
    """(..., 3) m/s, ascending, of plane waves along the directions (..., 3): Christoffel's equation.

    density: kg/m^3.  rho v^2 u_i = C_ijkl n_j n_l u_k.  ConfigError where a wave would not be stable.
    """
    n = unit_vectors(directions)
    christoffel = np.einsum("ijkm,...j,...m->...ik", full_tensor(stiffness), n, n)
    squares = np.linalg.eigvalsh((christoffel + np.swapaxes(christoffel, -1, -2)) / 2) * _GPA / density
    if squares.min() < 0:
        raise ConfigError(f"the crystal is not stable: a sound wave has the square velocity {squares.min():.3g} m²/s²")
    found: Array = np.sqrt(squares)
    return found


def density(atoms: Atoms) -> float:
    """kg/m^3."""
    return float(atoms.get_masses().sum() / abs(np.linalg.det(atoms.cell.array)) * _AMU_PER_A3)


def debye_temperature(atoms: Atoms, found: Moduli) -> float:
    """Debye temperature (K) of the mean sound velocity of Hill's moduli.

    O. L. Anderson, J. Phys. Chem. Solids 24, 909 (1963): h / k_B (3 n / 4 pi)^(1/3) v_m with n atoms per volume and
    3 / v_m^3 = 2 / v_t^3 + 1 / v_l^3.
    """
    rho = density(atoms)
    longitudinal = np.sqrt((found.bulk_hill + 4 * found.shear_hill / 3) * _GPA / rho)
    transverse = np.sqrt(found.shear_hill * _GPA / rho)
    mean = ((2 / transverse**3 + 1 / longitudinal**3) / 3) ** (-1 / 3)
    per_m3 = len(atoms) / abs(np.linalg.det(atoms.cell.array)) * 1e30
    return float(units._hplanck / units._k * (3 * per_m3 / (4 * np.pi)) ** (1 / 3) * mean)


def unit_vectors(directions: Any) -> Array:
    """The directions (..., 3) at length 1; ConfigError for one without length."""
    n = np.asarray(directions, dtype=float)
    lengths = np.linalg.norm(n, axis=-1, keepdims=True) if n.shape[-1:] == (3,) else np.zeros(1)
    if not (np.isfinite(lengths).all() and (lengths > 0).all()):
        raise ConfigError(f"directions are {directions!r}: give vectors of three numbers that are not all 0")
    unit: Array = n / lengths
    return unit
