"""Thermal expansion and properties in the quasi-harmonic approximation."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.units import GPa
from numpy.typing import NDArray

from ... import checks, plotting
from ...crystals.symmetry import symmetry_dataset
from ...errors import ConfigError, PhysicsWarning
from ...evaluator import Evaluate
from ...folders.storage import load_arrays, save_arrays
from .volumes import VolumePhonons, phonons_of_volumes

Array = NDArray[np.float64]
_ARRAYS = (
    "temperatures volumes gibbs_energy bulk_modulus thermal_expansion heat_capacity entropy grueneisen "
    "scanned_volumes energies free_energies lowest_frequencies"
).split()
_PLAIN = ("n_atoms", "eos", "pressure_GPa", "cubic", "supercell", "mesh", "residual")


@dataclass(frozen=True, eq=False)
class QuasiHarmonic:
    """A crystal at constant pressure; energies, volumes and heat capacities are those of the primitive cell."""

    temperatures: Array  # (T,) K
    volumes: Array  # (T,) Å^3, V(T) at which F(V, T) + p V is least
    gibbs_energy: Array  # (T,) eV
    bulk_modulus: Array  # (T,) GPa, isothermal
    thermal_expansion: Array  # (T,) 1/K, volumetric, (1/V) dV/dT
    heat_capacity: Array  # (T,) eV/K, C_p
    entropy: Array  # (T,) eV/K
    grueneisen: Array  # (T,) thermodynamic Grueneisen parameter, alpha B V / C_V; 0 at 0 K
    scanned_volumes: Array  # (V,) Å^3
    energies: Array  # (V,) eV, of the atoms at rest
    free_energies: Array  # (T, V) eV, energies + phonons (+ p V)
    lowest_frequencies: Array  # (V,) THz
    n_atoms: int
    eos: str
    pressure_GPa: float  # noqa: N815 - the public keyword
    cubic: bool  # whether isotropic scaling is all that symmetry allows
    supercell: tuple[tuple[int, ...], ...]
    mesh: tuple[int, int, int]
    residual: float  # eV, largest root mean square of free energies about the curve fitted

    @property
    def linear_expansion(self) -> Array:
        """(T,) 1/K, a third of the volumetric one: of the lattice constant of a cubic crystal."""
        return self.thermal_expansion / 3

    def at(self, temperature_K: float) -> dict[str, float]:
        """Numbers at one temperature, linear between those computed, with units in their names."""
        t = checks.number("temperature_K", temperature_K, at_least=float(self.temperatures[0]))
        if t > self.temperatures[-1]:
            raise ConfigError(f"temperature_K is {t:g}: this calculation ends at {self.temperatures[-1]:g} K")
        named = {
            "volume_A3": self.volumes,
            "linear_expansion_per_K": self.linear_expansion,
            "bulk_modulus_GPa": self.bulk_modulus,
            "heat_capacity_eV_per_K": self.heat_capacity,
            "grueneisen": self.grueneisen,
        }
        return {name: float(np.interp(t, self.temperatures, values)) for name, values in named.items()}

    def __str__(self) -> str:
        lines = [
            f"quasi-harmonic crystal, {self.n_atoms} atoms per primitive cell, {len(self.scanned_volumes)} volumes "
            f"from {self.scanned_volumes[0]:.3f} to {self.scanned_volumes[-1]:.3f} Å^3 ({self.eos}), "
            f"{self.pressure_GPa:g} GPa"
        ]
        named = [t for t in (0.0, 100.0, 300.0, 600.0, 1000.0) if t in self.temperatures]
        for t in named or np.unique(self.temperatures[[0, len(self.temperatures) // 2, -1]]):
            found = self.at(t)
            lines.append(
                f"{t:6.0f} K: V = {found['volume_A3']:.4f} Å^3, linear expansion "
                f"{1e6 * found['linear_expansion_per_K']:.2f}e-6/K, B = {found['bulk_modulus_GPa']:.1f} GPa, C_p = "
                f"{found['heat_capacity_eV_per_K'] / self.n_atoms * 1e6 / 86.17333:.3f} kB per atom, "
                f"gamma = {found['grueneisen']:.3f}"
            )
        if not self.cubic:
            lines.append("the crystal is not cubic: its shape was kept, and a third of the expansion is a mean")
        return "\n".join(lines)

    def plot(self, ax: Any = None) -> Any:
        """Axes with the linear expansion over temperature; without `ax` beside F(V, T) and its minima."""
        if ax is None:
            from matplotlib.figure import Figure

            left, ax = Figure(figsize=(9.0, 4.0), layout="constrained").subplots(1, 2)
            self._plot_free_energies(left)
        ax = plotting.axes(ax)
        several = len(self.temperatures) > 1
        ax.plot(self.temperatures, 1e6 * self.linear_expansion, "-" if several else "o")
        ax.set_xlabel("temperature (K)")
        ax.set_ylabel("linear thermal expansion (10⁻⁶/K)")
        if several:
            ax.set_xlim(self.temperatures[0], self.temperatures[-1])
        return ax

    def _plot_free_energies(self, ax: Any) -> None:
        chosen = np.unique(np.linspace(0, len(self.temperatures) - 1, 6).astype(int))
        zero = self.free_energies.max()
        for k in chosen:
            energies = 1e3 * (self.free_energies[k] - zero) / self.n_atoms
            (line,) = ax.plot(self.scanned_volumes / self.n_atoms, energies, "o", markersize=3)
            ax.plot(self.scanned_volumes / self.n_atoms, energies, color=line.get_color(), linewidth=0.8)
            ax.annotate(
                f"{self.temperatures[k]:.0f} K",
                (self.scanned_volumes[-1] / self.n_atoms, energies[-1]),
                xytext=(4, 0),
                textcoords="offset points",
                fontsize="small",
                va="center",
                annotation_clip=False,
            )
        ax.plot(self.volumes / self.n_atoms, 1e3 * (self.gibbs_energy - zero) / self.n_atoms, color="k", linewidth=1.0)
        ax.set_xlabel("volume (Å³/atom)")
        ax.set_ylabel("free energy (meV/atom)")

    def to_json(self) -> dict[str, Any]:
        """Plain values with units in their names."""
        return {
            "temperatures_K": self.temperatures.tolist(),
            "volumes_A3_per_primitive_cell": self.volumes.tolist(),
            "gibbs_energy_eV_per_primitive_cell": self.gibbs_energy.tolist(),
            "bulk_modulus_GPa": self.bulk_modulus.tolist(),
            "volumetric_expansion_per_K": self.thermal_expansion.tolist(),
            "linear_expansion_per_K": self.linear_expansion.tolist(),
            "heat_capacity_p_eV_per_K_per_primitive_cell": self.heat_capacity.tolist(),
            "entropy_eV_per_K_per_primitive_cell": self.entropy.tolist(),
            "grueneisen": self.grueneisen.tolist(),
            "scanned_volumes_A3_per_primitive_cell": self.scanned_volumes.tolist(),
            "lowest_frequencies_THz": self.lowest_frequencies.tolist(),
            "atoms_per_primitive_cell": self.n_atoms,
            "pressure_GPa": self.pressure_GPa,
            "eos": self.eos,
            "cubic": self.cubic,
            "fit_residual_eV": self.residual,
        }

    def save(self, path: str | Path) -> None:
        """Write everything to one .npz file, without pickle."""
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        save_arrays(path, "quasi_harmonic", arrays, {name: getattr(self, name) for name in _PLAIN})

    @classmethod
    def load(cls, path: str | Path) -> QuasiHarmonic:
        """The result of a file written by `save`."""
        arrays, info = load_arrays(path, "quasi_harmonic")
        info["supercell"] = tuple(tuple(row) for row in info["supercell"])
        info["mesh"] = tuple(info["mesh"])
        return cls(**(info | arrays))


_EOS = ("vinet", "birch_murnaghan", "murnaghan")
_ORDER = 4  # of polynomials in the volume


def quasi_harmonic(
    atoms: Atoms,
    *,
    supercell: Any,
    volume_range: tuple[float, float] = (-0.03, 0.07),
    points: int = 9,
    temperatures: Sequence[float] | Array | None = None,
    displacement: float = 0.01,
    mesh: Any = None,
    eos: str = "vinet",
    pressure_GPa: float = 0.0,
    relax_ions: bool = True,
    fmax: float = 1e-3,
    symprec: float = 1e-5,
    allow_float32: bool = False,
    evaluate: Evaluate | None = None,
    progress: bool | None = None,
) -> QuasiHarmonic:
    """Volume, expansion, bulk modulus and heat capacity of a crystal over temperature, at constant pressure.

        G(T, p) = min_V [ E(V) + F_phonon(V, T) + p V ]

    E(V) + F(V, T) at `points` volumes is fitted by an equation of state at each temperature (by phonopy; Togo, Chaput,
    Tanaka and Hug, Phys. Rev. B 81, 174301 (2010)).  Expansion alpha = (dS/dV)_T / B, gamma = V (dS/dV)_T / C_V and
    C_p = C_V + T V B alpha^2 are taken at each temperature by itself, from entropies at the volumes: the spacing of
    temperatures does not matter.  volume_range: the smallest and the largest volume relative to that of the atoms
    given, less 1.  temperatures: K, ascending; None for 0 to 1000 K by 10 K.  The cell keeps its shape; with
    `relax_ions` atoms relax at each volume.
    displacement, mesh, fmax, symprec: as in `phonon_dispersion`.  All volumes are evaluated in one batch.

    Raises ConfigError for settings, for imaginary modes at any volume, and where the minimum lies outside the volumes.
    PhysicsWarning for residual forces and for free energies off the curve by more than 1 meV per atom.
    """
    kelvin = _temperatures(temperatures)
    first, last = volume_range
    checks.number("volume_range[0]", first, above=-0.5)
    checks.number("volume_range[1]", last, above=first)
    factors = 1.0 + np.linspace(first, last, checks.whole("points", points, at_least=5))
    curve = checks.choice("eos", eos, _EOS)
    pressure = checks.number("pressure_GPa", pressure_GPa)
    found = phonons_of_volumes(
        atoms,
        factors,
        supercell=supercell,
        displacement=displacement,
        relax_ions=relax_ions,
        fmax=fmax,
        symprec=symprec,
        mesh=None,
        points=2,
        path=None,
        allow_float32=allow_float32,
        evaluate=evaluate,
        progress=progress,
    )
    found.refuse_imaginary("a free energy")
    return _result(found, kelvin, eos=curve, pressure=pressure, mesh=mesh)


def _temperatures(values: Sequence[float] | Array | None) -> Array:
    kelvin = np.arange(0.0, 1001.0, 10.0) if values is None else np.array([float(t) for t in values])
    if kelvin.ndim != 1 or not len(kelvin) or not np.isfinite(kelvin).all() or kelvin[0] < 0:
        raise ConfigError(f"temperatures are {kelvin.tolist()}: give at least one, in K, none below 0")
    if not (np.diff(kelvin) > 0).all():
        raise ConfigError(f"temperatures are {kelvin.tolist()}: they must ascend")
    return kelvin


def _result(found: VolumePhonons, kelvin: Array, *, eos: str, pressure: float, mesh: Any) -> QuasiHarmonic:
    thermal = [phonons.thermal_properties(kelvin, mesh=mesh) for phonons in found.phonons]
    energies = found.energies + pressure * GPa * found.volumes + np.array([t.free_energy for t in thermal]).T
    curves, residual = _curves(found.volumes, energies, kelvin, eos)
    gibbs, bulk, _, volumes = curves.T
    _require_inside(volumes, found.volumes, kelvin)
    entropy, slope = _at_volumes(found.volumes, [t.entropy for t in thermal], volumes)
    capacity, _ = _at_volumes(found.volumes, [t.heat_capacity for t in thermal], volumes)
    expansion = slope / bulk  # Maxwell: (dV/dT)_p = (dS/dV)_T V / B
    warm = capacity > 0
    rest = found.phonons[0].unitcell
    data = symmetry_dataset(rest, found.phonons[0].symprec)
    result = QuasiHarmonic(
        temperatures=kelvin,
        volumes=volumes,
        gibbs_energy=gibbs,
        bulk_modulus=bulk / GPa,
        thermal_expansion=expansion,
        heat_capacity=capacity + kelvin * volumes * expansion * slope,
        entropy=entropy,
        grueneisen=np.where(warm, volumes * slope / np.where(warm, capacity, 1.0), 0.0),
        scanned_volumes=found.volumes,
        energies=found.energies,
        free_energies=energies,
        lowest_frequencies=np.array([phonons.lowest for phonons in found.phonons]),
        n_atoms=thermal[0].n_atoms,
        eos=eos,
        pressure_GPa=pressure,
        cubic=data is not None and int(data.number) >= 195,
        supercell=tuple(tuple(int(x) for x in row) for row in found.phonons[0].supercell_matrix),
        mesh=thermal[0].mesh,
        residual=residual,
    )
    if result.residual > 1e-3 * result.n_atoms:
        warnings.warn(
            f"the free energies lie off the curve ({eos}) by {1e3 * result.residual / result.n_atoms:.3g} meV per atom "
            "(limit 1): take a smaller range of volumes, or look for a transition",
            PhysicsWarning,
            stacklevel=4,
        )
    return result


def _curves(scanned: Array, energies: Array, kelvin: Array, eos: str) -> tuple[Array, float]:
    """(T, 4) E (eV), B (eV/Å^3), B' and V (Å^3) of curves through the energies (T, V); largest root mean square, eV."""
    from phonopy.qha.eos import fit_to_eos, get_eos

    curve = get_eos(eos)
    found, residual = [], 0.0
    for t, values in zip(kelvin, energies, strict=True):
        try:
            found.append(fit_to_eos(scanned, values, curve))
            distance = float(np.sqrt(np.mean((values - curve(scanned, found[-1])) ** 2)))
        except (RuntimeError, Warning, AssertionError, ValueError, TypeError) as error:
            raise ConfigError(
                f"no curve fits the free energies at {t:g} K ({error}): the minimum probably leaves the volumes of "
                f"{scanned[0]:.4g} to {scanned[-1]:.4g} Å^3; widen volume_range, or lower the temperatures"
            ) from error
        residual = max(residual, distance)
    return np.array(found), residual


def _at_volumes(scanned: Array, values: Sequence[Array], volumes: Array) -> tuple[Array, Array]:
    """(T,) a quantity (V, T) at the volume of each temperature, and its derivative, by polynomials of fourth order."""
    middle, scale = scanned.mean(), np.ptp(scanned) / 2
    x = (volumes - middle) / scale
    coefficients = np.polynomial.polynomial.polyfit((scanned - middle) / scale, np.array(values), _ORDER).T
    found = [
        (np.polynomial.Polynomial(c)(at), np.polynomial.Polynomial(c).deriv()(at))
        for c, at in zip(coefficients, x, strict=True)
    ]
    return np.array([value for value, _ in found]), np.array([slope for _, slope in found]) / scale


def _require_inside(volumes: Array, scanned: Array, kelvin: Array) -> None:
    outside = np.flatnonzero(~((volumes > scanned.min()) & (volumes < scanned.max())))
    if len(outside):
        k = int(outside[0])
        raise ConfigError(
            f"at {kelvin[k]:g} K the free energy is least at {volumes[k]:.4g} Å^3 per primitive cell, outside of the "
            f"volumes computed ({scanned.min():.4g} to {scanned.max():.4g}): widen volume_range, relax the crystal, or "
            "lower the temperatures"
        )
