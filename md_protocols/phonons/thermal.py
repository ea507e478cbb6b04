"""What phonons say of a crystal at a temperature: density of states, free energy, mean square displacements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.units import _amu, _e, _hbar, _hplanck, kB
from numpy.typing import NDArray

from .. import checks, plotting
from ..errors import ConfigError
from ..storage import load_arrays, save_arrays
from .kinds import element
from .meshes import mesh_numbers, run_mesh

if TYPE_CHECKING:
    from .dispersion import PhononDispersion

Array = NDArray[np.float64]
THZ = _hplanck * 1e12 / _e  # eV: h times 1 THz
_LENGTHS = {"thermal": 100.0, "element": 60.0, "compound": 40.0}  # Å: longest waves resolved by the meshes


@dataclass(frozen=True, eq=False)
class PhononDOS:
    """Density of states of the primitive cell; its integral over frequency is the number of bands."""

    frequencies: Array  # (F,) THz
    total: Array  # (F,) 1/THz
    by_element: dict[str, Array]  # (F,) 1/THz each: modes weighted by |e|^2 of the element's atoms; they add up
    mesh: tuple[int, int, int]

    def plot(self, ax: Any = None, *, vertical: bool = False) -> Any:
        """Axes with the total and, of compounds, the elements' shares; vertical has frequencies upwards."""
        ax = plotting.axes(ax)

        def draw(values: Array, **style: Any) -> None:
            pair = (values, self.frequencies) if vertical else (self.frequencies, values)
            ax.plot(*pair, **style)

        draw(self.total, color="0.25", linewidth=1.0, label="total")
        if len(self.by_element) > 1:
            for k, (element, values) in enumerate(self.by_element.items()):
                draw(values, color=f"C{k + 1}", linewidth=1.0, label=element)
            ax.legend(frameon=False, handlelength=1.2, fontsize="small")
        labels = ("frequency (THz)", "DOS (1/THz)")
        (ax.set_ylabel if vertical else ax.set_xlabel)(labels[0])
        (ax.set_xlabel if vertical else ax.set_ylabel)(labels[1])
        (ax.set_xlim if vertical else ax.set_ylim)(0.0, 1.05 * self.total.max())
        occupied = self.frequencies[self.total > 1e-3 * self.total.max()]
        (ax.set_ylim if vertical else ax.set_xlim)(min(0.0, occupied.min()), 1.03 * occupied.max())
        return ax

    def to_json(self) -> dict[str, Any]:
        """Plain values with units in their names."""
        return {
            "frequencies_THz": self.frequencies.tolist(),
            "total_per_THz": self.total.tolist(),
            "by_element_per_THz": {name: values.tolist() for name, values in self.by_element.items()},
            "mesh": list(self.mesh),
        }

    def save(self, path: str | Path) -> None:
        """Write everything to one .npz file, without pickle."""
        arrays = {"frequencies": self.frequencies, "total": self.total}
        arrays |= {f"element.{name}": values for name, values in self.by_element.items()}
        save_arrays(path, "phonon_dos", arrays, {"mesh": self.mesh, "elements": list(self.by_element)})

    @classmethod
    def load(cls, path: str | Path) -> PhononDOS:
        """The density of states of a file written by `save`."""
        arrays, info = load_arrays(path, "phonon_dos")
        by_element = {name: arrays[f"element.{name}"] for name in info["elements"]}
        return cls(arrays["frequencies"], arrays["total"], by_element, tuple(info["mesh"]))


@dataclass(frozen=True, eq=False)
class ThermalProperties:
    """Thermodynamics of the harmonic crystal at constant volume, per primitive cell."""

    temperatures: Array  # (T,) K
    free_energy: Array  # (T,) eV, vibrational, zero-point energy included
    entropy: Array  # (T,) eV/K
    heat_capacity: Array  # (T,) eV/K, C_V
    zero_point_energy: float  # eV
    n_atoms: int  # of the primitive cell
    mesh: tuple[int, int, int]
    left_out: int  # modes of the whole mesh that were imaginary and do not count

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

    def to_json(self) -> dict[str, Any]:
        """Plain values with units in their names."""
        return {
            "temperatures_K": self.temperatures.tolist(),
            "free_energy_eV_per_primitive_cell": self.free_energy.tolist(),
            "entropy_eV_per_K_per_primitive_cell": self.entropy.tolist(),
            "heat_capacity_eV_per_K_per_primitive_cell": self.heat_capacity.tolist(),
            "zero_point_energy_eV_per_primitive_cell": self.zero_point_energy,
            "atoms_per_primitive_cell": self.n_atoms,
            "mesh": list(self.mesh),
            "imaginary_modes_left_out": self.left_out,
        }

    def save(self, path: str | Path) -> None:
        """Write everything to one .npz file, without pickle."""
        names = ("temperatures", "free_energy", "entropy", "heat_capacity")
        info = {name: getattr(self, name) for name in ("zero_point_energy", "n_atoms", "mesh", "left_out")}
        save_arrays(path, "phonon_thermal_properties", {name: getattr(self, name) for name in names}, info)

    @classmethod
    def load(cls, path: str | Path) -> ThermalProperties:
        """The properties of a file written by `save`."""
        arrays, info = load_arrays(path, "phonon_thermal_properties")
        info["mesh"] = tuple(info["mesh"])
        return cls(**(info | arrays))


def density_of_states(
    phonons: PhononDispersion, *, mesh: Any = None, sigma: float | None = None, pitch: float | None = None
) -> PhononDOS:
    """Density of states by the linear tetrahedron method, or Gaussians of width `sigma` (THz), total and by element.

    mesh: numbers of q-points; None for enough for waves of 60 Å, of compounds 40 Å.  pitch: of the frequencies (THz).
    """
    phonon = phonons._phonon
    symbols = [element(label) for label in phonon.primitive.symbols]
    single = len(set(symbols)) == 1
    length = _LENGTHS["element" if single else "compound"]
    numbers = mesh_numbers(phonon, mesh, dimensions=phonons.dimensions, length=length)
    run_mesh(phonon, numbers, symmetry=single, eigenvectors=not single)
    if single:
        whole = phonon.run_total_dos(sigma=sigma, freq_pitch=pitch)
        total = np.array(whole.dos)
        return PhononDOS(np.array(whole.frequency_points), total, {symbols[0]: total.copy()}, numbers)
    found = phonon.run_projected_dos(sigma=sigma, freq_pitch=pitch)
    by_atom = np.array(found.projected_dos)
    by_element = {
        name: by_atom[[k for k, symbol in enumerate(symbols) if symbol == name]].sum(axis=0)
        for name in dict.fromkeys(symbols)
    }
    return PhononDOS(np.array(found.frequency_points), by_atom.sum(axis=0), by_element, numbers)


def thermal_properties(
    phonons: PhononDispersion,
    temperatures: Sequence[float] | Array,
    *,
    mesh: Any = None,
    allow_imaginary: bool = False,
) -> ThermalProperties:
    """Free energy, entropy and heat capacity per primitive cell, from the frequencies on a mesh around Γ.

        F = sum_qs [ h nu / 2 + kT ln(1 - exp(-h nu / kT)) ] / N_q,   S = -dF/dT,   C_V = T dS/dT

    (Wallace, Thermodynamics of Crystals, 1972.)  The three acoustic modes at Γ, which move the crystal as a whole, do
    not count.  mesh: None for enough points for waves of 100 Å.

    Raises ConfigError where there are imaginary modes, unless `allow_imaginary` leaves them out.
    """
    kelvin = _temperatures(temperatures)
    refuse_imaginary(phonons, "thermodynamics", allow_imaginary)
    phonon = phonons._phonon
    numbers = mesh_numbers(phonon, mesh, dimensions=phonons.dimensions, length=_LENGTHS["thermal"])
    found = run_mesh(phonon, numbers)
    frequencies, weights = np.array(found.frequencies), np.array(found.weights, dtype=float)
    moving = vibrating(found.qpoints, frequencies)
    kept = moving & (frequencies > 0)
    quanta = frequencies[kept] * THZ
    share = np.broadcast_to(weights[:, None] / weights.sum(), frequencies.shape)[kept]
    sums = np.array([_thermal_sums(quanta, share, t) for t in kelvin]).reshape(-1, 3)
    return ThermalProperties(
        temperatures=kelvin,
        free_energy=sums[:, 0],
        entropy=sums[:, 1],
        heat_capacity=sums[:, 2],
        zero_point_energy=float(share @ quanta) / 2,
        n_atoms=len(phonon.primitive),
        mesh=numbers,
        left_out=int(np.rint(weights @ (moving & ~kept).sum(axis=1))),
    )


def mean_square_displacements(
    phonons: PhononDispersion,
    temperatures: Sequence[float] | Array,
    *,
    mesh: Any = None,
    allow_imaginary: bool = False,
) -> Array:
    """(T, n, 3, 3) Å^2, Cartesian: < u_i u_j > of each atom a of the primitive cell, quantum statistics.

        < u_i u_j > = sum_qs hbar / (2 m_a omega) coth(h nu / 2 kT) Re[e_ai e_aj*] / N_q

    (Maradudin et al., Theory of Lattice Dynamics, 1971.)  The acoustic modes at Γ do not count.  In two dimensions the
    sum grows without bound with the size of the mesh, as that of a large sheet does.

    Raises ConfigError where there are imaginary modes, unless `allow_imaginary` leaves them out.
    """
    kelvin = _temperatures(temperatures)
    refuse_imaginary(phonons, "mean square displacements", allow_imaginary)
    phonon = phonons._phonon
    numbers = mesh_numbers(phonon, mesh, dimensions=phonons.dimensions, length=_LENGTHS["element"])
    found = run_mesh(phonon, numbers, symmetry=False, eigenvectors=True)
    frequencies, weights = np.array(found.frequencies), np.array(found.weights, dtype=float)
    kept = vibrating(found.qpoints, frequencies) & (frequencies > 0)
    omega = np.where(kept, frequencies, 1.0) * 2e12 * np.pi
    vectors = np.array(found.eigenvectors).reshape(len(weights), -1, 3, frequencies.shape[1])
    outer = np.einsum("qaib,qajb->qbaij", vectors, vectors.conj()).real
    masses = phonon.primitive.masses
    result = []
    for t in kelvin:
        coth = 1.0 if t == 0 else 1.0 / np.tanh(np.where(kept, frequencies, 1.0) * THZ / (2 * kB * t))
        amplitude = kept * (_hbar / (2 * _amu * omega) * coth) * 1e20 * weights[:, None] / weights.sum()
        result.append(np.einsum("qb,qbaij->aij", amplitude, outer) / masses[:, None, None])
    return np.array(result)


def vibrating(qpoints: Array, frequencies: Array) -> NDArray[np.bool_]:
    """All modes but the three at Γ nearest to zero, which move the crystal as a whole."""
    kept = np.ones(frequencies.shape, dtype=bool)
    for k in np.flatnonzero(np.linalg.norm(qpoints - np.rint(qpoints), axis=1) < 1e-8):
        kept[k, np.argsort(np.abs(frequencies[k]))[:3]] = False
    return kept


def refuse_imaginary(phonons: PhononDispersion, what: str, allow: bool) -> None:
    """ConfigError for a crystal that is not at a minimum, whose sums over modes mean nothing."""
    if phonons.imaginary and not allow:
        raise ConfigError(
            f"the crystal has imaginary modes (lowest {phonons.lowest:.3g} THz at q = "
            f"{np.round(phonons.lowest_qpoint, 4).tolist()}, limit {phonons.imaginary_limit:g} THz), so its {what} "
            "would be those of the other modes only: relax it, follow the mode to the stable structure, or pass "
            "allow_imaginary=True"
        )


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
