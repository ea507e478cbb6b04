"""What phonons say of a crystal at a temperature: free energy, entropy, heat capacity, mean square displacements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from ase.units import _amu, _e, _hbar, _hplanck, kB
from numpy.typing import NDArray

from mlcalc.ground.errors import Use
from mlcalc.ground.warn import warn

from .. import checks, plotting
from ..errors import ConfigError, PhysicsWarning
from ..results import Quantity, Result
from .long_waves import balanced, long_waves, unbalanced
from .meshes import mesh_numbers, run_mesh

if TYPE_CHECKING:
    from phonopy import Phonopy

Array = NDArray[np.float64]
THZ = _hplanck * 1e12 / _e  # eV: h times 1 THz
_LENGTHS = {"thermal": 100.0, "displacements": 60.0}  # Å: longest waves resolved by the meshes
_COLD = 3.0  # kT in quanta of the lowest mode of a mesh, below which a warning is due
FINER_MESH = Use("mesh", None, python="take a finer mesh")
_LEFT_OUT = 0.01  # share of the modes: more of them at Γ, which do not count, is told


@dataclass(frozen=True, eq=False, repr=False)
class ThermalProperties(Result):
    """Thermodynamics of the harmonic crystal at constant volume, per primitive cell."""

    kind = "phonon_thermal_properties"

    temperatures: Annotated[Array, Quantity("at which", "K", "(T,)")]
    free_energy: Annotated[Array, Quantity("vibrational, zero-point energy included", "eV/primitive cell", "(T,)")]
    entropy: Annotated[Array, Quantity("vibrational", "eV/K/primitive cell", "(T,)")]
    heat_capacity: Annotated[Array, Quantity("C_V, at constant volume", "eV/K/primitive cell", "(T,)")]
    zero_point_energy: Annotated[float, Quantity("of all vibrations", "eV/primitive cell")]
    n_atoms: Annotated[int, Quantity("of the primitive cell")]
    mesh: Annotated[tuple[int, int, int], Quantity("numbers of q-points")]
    left_out: Annotated[int, Quantity("modes of the whole mesh that were imaginary and do not count")]

    def plot(self, ax: Any = None) -> Any:
        """Axes with free energy (eV), entropy and heat capacity (kB per atom) over temperature."""
        ax = plotting.axes(ax)
        unit = kB * self.n_atoms
        ax.plot(self.temperatures, self.entropy / unit, color="C0", label=r"$S$")
        ax.plot(self.temperatures, self.heat_capacity / unit, color="C1", label=r"$C_V$")
        ax.set_xlabel("temperature (K)")
        ax.set_ylabel(r"$S$, $C_V$ ($k_\mathrm{B}$ per atom)")
        right = ax.twinx()
        right.plot(self.temperatures, self.free_energy / self.n_atoms, color="C2", linestyle="--", label=r"$F$")
        right.set_ylabel(r"$F$ (eV per atom)")
        handles = ax.get_legend_handles_labels(), right.get_legend_handles_labels()
        lines, names = handles[0][0] + handles[1][0], handles[0][1] + handles[1][1]
        ax.legend(lines, names, frameon=False, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))
        return ax


def thermal_properties(
    phonon: Phonopy,
    temperatures: Sequence[float] | Array,
    *,
    dimensions: int,
    mesh: Any = None,
    extrapolate: bool = True,
) -> ThermalProperties:
    """Free energy, entropy and heat capacity per primitive cell, from the frequencies on a mesh around Γ.

        F = sum_qs [ h nu / 2 + kT ln(1 - exp(-h nu / kT)) ] / N_q,   S = -dF/dT,   C_V = T dS/dT

    (Wallace, Thermodynamics of Crystals, 1972.)  The three acoustic modes at Γ, which move the crystal as a whole, do
    not count.  mesh: None for enough points for waves of 100 Å, finer along the stiff axes of layers and chains.
    Longer waves, which cold crystals need, come from finer points around Γ (see long_waves).  extrapolate: False for
    the sum on the mesh as it is, whose entropy and heat capacity vanish exponentially in the cold.

    Imaginary modes are left out, and counted.  Raises ConfigError for a mesh that holds nothing but acoustic modes at
    Γ; PhysicsWarning where these are more than 1 % of all modes and nothing takes their place, where a temperature is
    too low for a mesh as it is, or for one that is too coarse along a stiff axis.
    """
    kelvin = _temperatures(temperatures)
    numbers = mesh_numbers(phonon, mesh, dimensions=dimensions, length=_LENGTHS["thermal"])
    if mesh is None:
        numbers = balanced(phonon, numbers, dimensions)
    found = run_mesh(phonon, numbers)
    frequencies, weights = np.array(found.frequencies), np.array(found.weights, dtype=float)
    moving = vibrating(found.qpoints, frequencies)
    kept = moving & (frequencies > 0)
    refuse_nothing(kept, numbers)
    levels = []
    if extrapolate:
        levels = long_waves(phonon, numbers, dimensions, kelvin)
    else:
        _tell_coarse(kelvin, found, moving, frequencies[kept].min() * THZ / kB, numbers)
    total = weights.sum()
    parts = [(frequencies[kept] * THZ, np.broadcast_to(weights[:, None] / total, frequencies.shape)[kept])]
    for level in levels:
        counts = vibrating(level.points, level.frequencies) & (level.frequencies > 0)
        share = np.broadcast_to(level.weights[:, None] / total, counts.shape)[counts]
        parts.append((level.frequencies[counts] * THZ, share))
    if mesh is not None:
        _tell_unbalanced(phonon, numbers, dimensions, kelvin)
    quanta, shares = (np.concatenate([part[k] for part in parts]) for k in (0, 1))
    sums = np.array([_thermal_sums(quanta, shares, t) for t in kelvin]).reshape(-1, 3)
    return ThermalProperties(
        temperatures=kelvin,
        free_energy=sums[:, 0],
        entropy=sums[:, 1],
        heat_capacity=sums[:, 2],
        zero_point_energy=_thermal_sums(quanta, shares, 0.0)[0],
        n_atoms=len(phonon.primitive),
        mesh=numbers,
        left_out=int(np.rint(weights @ (moving & ~kept).sum(axis=1))),
    )


def _tell_coarse(
    kelvin: Array, found: Any, moving: NDArray[np.bool_], lowest: float, numbers: tuple[int, int, int]
) -> None:
    """PhysicsWarning for what the sum on a mesh lacks; lowest: the quantum of its longest waves, K."""
    weights = np.array(found.weights, dtype=float)
    share_left_out = 1.0 - float(weights @ moving.mean(axis=1)) / float(weights.sum())
    cold = kelvin[(kelvin > 0) & (kelvin < _COLD * lowest)]
    if share_left_out > _LEFT_OUT:
        warn(
            PhysicsWarning(
                f"the acoustic modes at Γ, which do not count, are {100 * share_left_out:.2g} % of the modes on the "
                f"mesh {numbers} (limit {100 * _LEFT_OUT:g} %), and energies, entropy and heat capacity are too small "
                "by about as much",
                setting="mesh",
                value=numbers,
                remedies=[FINER_MESH],
            )
        )
    elif cold.size:
        warn(
            PhysicsWarning(
                f"at {cold.min():g} K, below {_COLD * lowest:.3g} K, entropy and heat capacity are wrong by more than "
                f"1 %: the longest waves on the mesh {numbers} have quanta of {lowest:.3g} K",
                setting="extrapolate",
                value=False,
                remedies=[
                    Use("extrapolate", True, "which adds longer ones", python="leave extrapolate at True,"),
                    FINER_MESH,
                ],
            )
        )


def _tell_unbalanced(phonon: Phonopy, numbers: tuple[int, int, int], dimensions: int, kelvin: Array) -> None:
    """PhysicsWarning for given meshes that are too coarse along a stiff axis for the coldest temperature."""
    lowest = unbalanced(phonon, numbers, dimensions)
    cold = kelvin[kelvin > 0]
    if lowest is None or not cold.size or cold.min() > lowest.max() * THZ / kB:
        return
    quanta = ", ".join(f"{value * THZ / kB:.3g}" for value in lowest)
    warn(
        PhysicsWarning(
            f"at {cold.min():g} K, below {lowest.max() * THZ / kB:.3g} K, entropy and heat capacity may be tens of "
            f"percent too large: the first quanta along the axes of the mesh {numbers} are {quanta} K",
            setting="mesh",
            value=numbers,
            remedies=[
                Use("mesh", None, python="take finer steps along the stiff axes"),
                "leave the mesh to the program",
            ],
        )
    )


def mean_square_displacements(
    phonon: Phonopy,
    temperatures: Sequence[float] | Array,
    *,
    dimensions: int,
    mesh: Any = None,
    extrapolate: bool = True,
) -> Array:
    """(T, n, 3, 3) Å^2, Cartesian: < u_i u_j > of each atom a of the primitive cell, quantum statistics.

        < u_i u_j > = sum_qs hbar / (2 m_a omega) coth(h nu / 2 kT) Re[e_ai e_aj*] / N_q

    (Maradudin et al., Theory of Lattice Dynamics, 1971.)  The acoustic modes at Γ do not count, and the long waves that
    they stand for are lost with them: in three dimensions a share of kT / (m omega^2) that falls as 1/n with n points
    along an axis, and of the rest as 1/n^2.  Sums on `mesh` and on one of twice its numbers are extrapolated
    accordingly, each part by its own power.  mesh: None for waves of 30 Å, and 60 Å on the finer one.
    extrapolate: False for the sum on `mesh` (None: 60 Å) as it is.  In two dimensions it grows without bound with the
    size of the mesh, as that of a large sheet does, and is never extrapolated.

    Imaginary modes are left out.  Raises ConfigError for meshes that hold nothing but acoustic modes at Γ.
    """
    kelvin = _temperatures(temperatures)
    double = extrapolate and dimensions == 3
    length = _LENGTHS["displacements"] / (2 if double else 1)
    numbers = mesh_numbers(phonon, mesh, dimensions=dimensions, length=length)
    classical, rest = _displacements(phonon, kelvin, numbers)
    if not double:
        return classical + rest
    a, b, c = (2 * n for n in numbers)
    finer, finer_rest = _displacements(phonon, kelvin, (a, b, c))
    return 2 * finer - classical + (4 * finer_rest - rest) / 3


def _displacements(phonon: Phonopy, kelvin: Array, numbers: tuple[int, int, int]) -> tuple[Array, Array]:
    """Sums over a mesh, (T, n, 3, 3) Å^2 each: of kT / (m omega^2), and of what quantum mechanics adds to it."""
    found = run_mesh(phonon, numbers, symmetry=False, eigenvectors=True)
    frequencies = np.array(found.frequencies)
    kept = vibrating(found.qpoints, frequencies) & (frequencies > 0)
    refuse_nothing(kept, numbers)
    nu = np.where(kept, frequencies, 1.0)
    vectors = np.array(found.eigenvectors).reshape(len(nu), -1, 3, nu.shape[1])
    scale = kept * _hbar / (2 * _amu * nu * 2e12 * np.pi) * 1e20 / len(nu)

    def summed(amplitudes: Array) -> Array:
        parts = np.einsum("qb,qaib,qajb->aij", amplitudes, vectors, vectors.conj(), optimize=True).real
        return np.asarray(parts / phonon.primitive.masses[:, None, None])

    classical, rest = [], []
    for t in kelvin:
        ratio = 2 * kB * t / (nu * THZ)
        classical.append(summed(scale * ratio))
        rest.append(summed(scale * ((1.0 if t == 0 else 1.0 / np.tanh(1.0 / ratio)) - ratio)))
    return np.array(classical), np.array(rest)


def refuse_nothing(kept: NDArray[np.bool_], numbers: tuple[int, int, int]) -> None:
    """ConfigError for a mesh without modes to sum over."""
    if not kept.any():
        raise ConfigError(
            f"the mesh {numbers} holds no modes but those at Γ that move the crystal as a whole, which do not count",
            setting="mesh",
            value=numbers,
            remedies=[FINER_MESH],
        )


def vibrating(qpoints: Array, frequencies: Array) -> NDArray[np.bool_]:
    """All modes but the three at Γ nearest to zero, which move the crystal as a whole."""
    kept = np.ones(frequencies.shape, dtype=bool)
    for k in np.flatnonzero(np.linalg.norm(qpoints - np.rint(qpoints), axis=1) < 1e-8):
        kept[k, np.argsort(np.abs(frequencies[k]))[:3]] = False
    return kept


def _temperatures(values: Sequence[float] | Array) -> Array:
    return np.array([checks.number("temperature", float(t), at_least=0.0, hint=" K") for t in np.atleast_1d(values)])


def _thermal_sums(quanta: Array, share: Array, kelvin: float) -> tuple[float, float, float]:
    """F (eV), S and C_V (eV/K) of oscillators of these quanta (eV)."""
    if kelvin == 0:
        return float(share @ quanta) / 2, 0.0, 0.0
    x = quanta / (kB * kelvin)
    log_term = np.log1p(-np.exp(-x))  # ln(1 - exp(-x))
    n = 1.0 / np.expm1(np.minimum(x, 500.0))
    free = share @ (quanta / 2 + kB * kelvin * log_term)
    entropy = kB * share @ (x * n - log_term)
    heat = kB * share @ (x**2 * n * (n + 1.0))
    return float(free), float(entropy), float(heat)
