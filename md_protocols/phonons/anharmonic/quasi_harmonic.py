"""Thermal expansion and properties in the quasi-harmonic approximation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
from ase import Atoms
from ase.units import GPa
from numpy.typing import NDArray

from mlcalc.ground.errors import Use
from mlcalc.ground.warn import warn

from ... import checks, plotting
from ...crystals.symmetry import symmetry_dataset
from ...errors import ConfigError, PhysicsWarning
from ...evaluator import Evaluate
from ...results import Arrays, Quantity, Result
from .volumes import VolumePhonons, phonons_of_volumes, volume_limits

Array = NDArray[np.float64]
_EOS = ("vinet", "birch_murnaghan", "murnaghan")
_ORDER = 4  # of polynomials in the volume
_WIDER = Use("volume_range", None, python="widen volume_range")
_COLDER = Use("temperatures", None, python="lower the temperatures")


@dataclass(frozen=True, eq=False, repr=False)
class QuasiHarmonic(Result):
    """A crystal at constant pressure; energies, volumes and heat capacities are those of the primitive cell."""

    kind = "quasi_harmonic"
    derived: ClassVar[Mapping[str, Quantity]] = {
        "linear_expansion": Quantity("a third of the volumetric one", "1/K", "(T,)")
    }

    temperatures: Annotated[Array, Quantity("at which", "K", "(T,)")]
    volumes: Annotated[Array, Quantity("V(T) at which F(V, T) + p V is least", "Å^3/primitive cell", "(T,)")]
    gibbs_energy: Annotated[Array, Quantity("F + p V at its minimum", "eV/primitive cell", "(T,)")]
    bulk_modulus_GPa: Annotated[Array, Quantity("isothermal", "GPa", "(T,)")]  # noqa: N815 - with its unit
    thermal_expansion: Annotated[Array, Quantity("volumetric, (1/V) dV/dT", "1/K", "(T,)")]
    heat_capacity: Annotated[Array, Quantity("C_p, at constant pressure", "eV/K/primitive cell", "(T,)")]
    entropy: Annotated[Array, Quantity("vibrational", "eV/K/primitive cell", "(T,)")]
    grueneisen: Annotated[
        Array, Quantity("thermodynamic Grueneisen parameter, alpha B V / C_V; 0 at 0 K", shape="(T,)")
    ]
    scanned_volumes: Annotated[Array, Quantity("of which phonons were computed", "Å^3/primitive cell", "(V,)")]
    energies: Annotated[Array, Quantity("of the atoms at rest", "eV/primitive cell", "(V,)")]
    free_energies: Annotated[Array, Quantity("energies + phonons (+ p V)", "eV/primitive cell", "(T, V)", json=False)]
    lowest_frequencies: Annotated[Array, Quantity("at each volume", "THz", "(V,)")]
    n_atoms: Annotated[int, Quantity("of the primitive cell")]
    eos: Annotated[str, Quantity("the curve that was fitted over the volumes")]
    pressure_GPa: Annotated[float, Quantity("positive presses", "GPa")]  # noqa: N815 - the public keyword
    cubic: Annotated[bool, Quantity("whether isotropic scaling is all that symmetry allows")]
    supercell: Annotated[NDArray[np.int64], Quantity("rows: the supercell's vectors", shape="(3, 3)")]
    mesh: Annotated[tuple[int, int, int], Quantity("numbers of q-points")]
    residual: Annotated[
        float, Quantity("largest root mean square of free energies about the curve fitted", "eV/primitive cell")
    ]

    @classmethod
    def upgraded(cls, arrays: Arrays, info: dict[str, Any]) -> tuple[Arrays, dict[str, Any]]:
        """Of files with phonopy's matrix, whose columns are the vectors, and the bulk modulus without its unit."""
        if "bulk_modulus" in arrays:
            arrays["bulk_modulus_GPa"] = arrays.pop("bulk_modulus")
            arrays["supercell"] = np.array(info.pop("supercell"), dtype=np.int64).T.copy()
        return arrays, info

    @property
    def linear_expansion(self) -> Array:
        """(T,) 1/K, a third of the volumetric one: of the lattice constant of a cubic crystal."""
        return self.thermal_expansion / 3

    def at(self, temperature_K: float) -> dict[str, float]:
        """Numbers at one temperature, linear between those computed, with units in their names."""
        t = checks.number("temperature_K", temperature_K, at_least=float(self.temperatures[0]))
        if t > self.temperatures[-1]:
            end = float(self.temperatures[-1])
            raise ConfigError(
                f"temperature_K is {t:g}: this calculation ends at {end:g} K",
                setting="temperature_K",
                value=t,
                limit=end,
            )
        named = {
            "volume_A3": self.volumes,
            "linear_expansion_per_K": self.linear_expansion,
            "bulk_modulus_GPa": self.bulk_modulus_GPa,
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


def quasi_harmonic(
    atoms: Atoms,
    *,
    supercell: Any,
    volume_range: float | tuple[float, float] = (-0.03, 0.07),
    n_volumes: int = 9,
    temperatures: Sequence[float] | Array | None = None,
    displacement: float = 0.01,
    mesh: Any = None,
    eos: str = "vinet",
    pressure_GPa: float = 0.0,
    relax_ions: bool = True,
    fmax: float = 1e-4,
    force_limit: float = 1e-3,
    symprec: float = 1e-5,
    allow_float32: bool = False,
    evaluate: Evaluate | None = None,
    progress: bool | None = None,
) -> QuasiHarmonic:
    """Volume, expansion, bulk modulus and heat capacity of a crystal over temperature, at constant pressure.

        G(T, p) = min_V [ E(V) + F_phonon(V, T) + p V ]

    E(V) + F(V, T) at `n_volumes` volumes is fitted by an equation of state at each temperature (by phonopy; Togo,
    Chaput, Tanaka and Hug, Phys. Rev. B 81, 174301 (2010)).  Expansion alpha = (dS/dV)_T / B, gamma = V (dS/dV)_T / C_V
    and C_p = C_V + T V B alpha^2 are taken at each temperature by itself, from entropies at the volumes: the spacing of
    temperatures does not matter.  volume_range: the smallest and the largest volume relative to that of the atoms
    given, less 1; one number x stands for (-x, x).  temperatures: K, ascending; None for 0 to 1000 K by 10 K.  The cell
    keeps its shape; with `relax_ions` atoms relax at each volume, to forces of `fmax`.
    supercell, displacement, mesh, force_limit, symprec: as in `phonon_dispersion`.  All volumes are one batch.

    Raises ConfigError for settings, for imaginary modes at any volume, and where the minimum lies outside the volumes.
    PhysicsWarning for residual forces and for free energies off the curve by more than 1 meV per atom.
    """
    kelvin = _temperatures(temperatures)
    lowest, highest = volume_limits(volume_range)
    factors = 1.0 + np.linspace(lowest, highest, checks.whole("n_volumes", n_volumes, at_least=5))
    curve = checks.choice("eos", eos, _EOS)
    pressure = checks.number("pressure_GPa", pressure_GPa)
    found = phonons_of_volumes(
        atoms,
        factors,
        supercell=supercell,
        displacement=displacement,
        relax_ions=relax_ions,
        fmax=fmax,
        force_limit=force_limit,
        symprec=symprec,
        npoints=2,
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
        raise ConfigError(
            f"temperatures are {kelvin.tolist()}: give at least one, in K, none below 0",
            setting="temperatures",
            value=kelvin.tolist(),
        )
    if not (np.diff(kelvin) > 0).all():
        raise ConfigError(
            f"temperatures are {kelvin.tolist()}: they must ascend", setting="temperatures", value=kelvin.tolist()
        )
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
        bulk_modulus_GPa=bulk / GPa,
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
        supercell=found.phonons[0].supercell,
        mesh=thermal[0].mesh,
        residual=residual,
    )
    if result.residual > 1e-3 * result.n_atoms:
        warn(
            PhysicsWarning(
                f"the free energies lie off the curve ({eos}) by {1e3 * result.residual / result.n_atoms:.3g} meV per "
                "atom (limit 1)",
                setting="volume_range",
                value=result.residual / result.n_atoms,
                limit=1e-3,
                remedies=[
                    Use("volume_range", None, python="take a smaller volume_range"),
                    "look for a transition",
                ],
            )
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
                f"{scanned[0]:.4g} to {scanned[-1]:.4g} Å^3",
                setting="volume_range",
                value=float(t),
                remedies=[_WIDER, _COLDER],
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
            f"volumes computed ({scanned.min():.4g} to {scanned.max():.4g})",
            setting="volume_range",
            value=float(volumes[k]),
            limit=(float(scanned.min()), float(scanned.max())),
            remedies=[_WIDER, "relax the crystal", _COLDER],
        )
