"""Vacancy energies against the size of the supercell, and their limit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from .. import plotting
from ..crystals.supercells import supercell_matrix
from ..crystals.symmetry import SYMPREC
from ..crystals.vacuum import vacuum_axes
from ..errors import ConfigError
from ..evaluator import Evaluate
from ..results import Quantity, Result
from .sites import IMAGE_DISTANCE, check_vacancies
from .vacancies import VacancySettings, vacancy_energies
from .vacancy_result import VacancyEnergy

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class VacancySeries(Result):
    """Relaxed formation energies in supercells of one shape, and the line E_f(N) = E_f + slope / N."""

    kind = "vacancy_series"

    results: Annotated[tuple[VacancyEnergy, ...], Quantity("in the order of their sizes", shape="(K,)")]
    n_atoms: Annotated[NDArray[np.int64], Quantity("N, of the perfect supercells", shape="(K,)")]
    fitted: Annotated[
        NDArray[np.bool_],
        Quantity("whether the line is fitted to it: images at least 10 Å apart, or all sizes", shape="(K,)"),
    ]
    unrelaxed: Annotated[Array, Quantity("energies with all atoms at their perfect places", "eV", "(K, S)")]
    relaxed: Annotated[Array, Quantity("energies", "eV", "(K, S)")]
    extrapolated: Annotated[Array, Quantity("at 1/N = 0", "eV", "(S,)")]
    slopes: Annotated[Array, Quantity("of the lines over 1/N", "eV", "(S,)")]
    uncertainties: Annotated[Array | None, Quantity("see `vacancy_series`; None for two sizes", "eV", "(S,)")]

    derived = MappingProxyType(
        {
            "sites": Quantity("indices in the unit cell"),
            "symbols": Quantity("elements of the sites"),
            "cell": Quantity("of the vacancies: fixed, isotropic or full"),
            "converged": Quantity("whether all relaxations have"),
        }
    )

    @classmethod
    def unpacked(cls, arrays: Mapping[str, NDArray[Any]], info: Mapping[str, Any]) -> VacancySeries:
        """What `packed` packed; earlier versions packed the results only."""
        if "n_atoms" in arrays:
            return super().unpacked(arrays, info)
        results = []
        for k, one in enumerate(info["results"]):
            mine = {name.removeprefix(f"{k}."): a for name, a in arrays.items() if name.startswith(f"{k}.")}
            results.append(VacancyEnergy.unpacked(mine, one))
        return _series(results)

    @property
    def sites(self) -> tuple[int, ...]:
        return self.results[0].sites

    @property
    def symbols(self) -> tuple[str, ...]:
        return self.results[0].symbols

    @property
    def cell(self) -> str:
        return self.results[0].cell

    @property
    def converged(self) -> bool:
        """Whether all relaxations met their criteria."""
        return all(result.converged for result in self.results)

    def __str__(self) -> str:
        lines = []
        for k, label in enumerate(self.results[0].labels()):
            error = "" if self.uncertainties is None else f" ± {self.uncertainties[k]:.4f}"
            rows = zip(self.relaxed[:, k], self.n_atoms, self.fitted, strict=True)
            sizes = ", ".join(f"{e:.4f} ({n}{'' if used else ', not fitted'})" for e, n, used in rows)
            lines.append(f"{label}: {self.extrapolated[k]:.4f}{error} eV for 1/N -> 0, from {sizes} atoms")
        flag = "" if self.converged else "\nNOT all relaxations are converged"
        return f"vacancies in {self.results[0].spacegroup}, {self.cell} cell\n" + "\n".join(lines) + flag

    def plot(self, ax: Any = None) -> Any:
        """Axes with the energies over 1/N, the fitted lines and their limits."""
        ax = plotting.axes(ax)
        x = 1 / self.n_atoms
        fine = np.linspace(0.0, 1.05 * x.max(), 50)
        for k, label in enumerate(self.results[0].labels()):
            color = f"C{k}"
            ax.plot(fine, self.extrapolated[k] + self.slopes[k] * fine, color=color, linewidth=1)
            ax.plot(x[self.fitted], self.relaxed[self.fitted, k], "o", color=color, label=label)
            if not self.fitted.all():
                ax.plot(
                    x[~self.fitted],
                    self.relaxed[~self.fitted, k],
                    "x",
                    color=color,
                    label=None if k else "images within 10 Å",
                )
            error = None if self.uncertainties is None else self.uncertainties[k]
            ax.errorbar(0.0, self.extrapolated[k], error, fmt="D", color=color, mfc="white", capsize=3, clip_on=False)
        top = ax.secondary_xaxis("top")
        top.set_xticks(x, [str(n) for n in self.n_atoms])
        top.set_xlabel("atoms N")
        ax.set_xlim(0.0, fine[-1])
        ax.set_xlabel("1/N")
        ax.set_ylabel("vacancy formation energy (eV)")
        ax.legend(frameon=False)
        return ax


def vacancy_series(
    atoms: Atoms,
    *,
    supercells: Sequence[Any] = (2, 3, 4),
    sites: Sequence[int] | None = None,
    cell: str = "fixed",
    chemical_potential: Mapping[str, float] | None = None,
    fmax: float = 1e-3,
    smax: float = 1e-6,
    steps: int = 500,
    rattle: float = 0.02,
    seed: int = 0,
    symprec: float = SYMPREC,
    require: bool = False,
    evaluate: Evaluate | None = None,
    progress: bool | None = None,
) -> VacancySeries:
    """Relaxed vacancy energies in several supercells, extrapolated linearly in 1/N to the isolated vacancy.

        E_f(N) = E_f + slope / N

    The elastic interaction of a defect with its images falls with the volume of the supercell, at fixed volume as at
    zero pressure (Leslie and Gillan, J. Phys. C 18, 973 (1985); Varvenne et al., Phys. Rev. B 88, 134102 (2013)), with
    a factor that depends on its shape: all supercells must have one shape, or, of a layer with vacuum, one shape in its
    plane, where the interaction falls with the area.  Where vacancies are within each other's range the energies do not
    lie on a line yet: it is fitted to the supercells whose images are at least 10 Å apart, if these are two or more,
    and otherwise to all.  The uncertainty, from three sizes on, is the larger of the standard error of the limit (from
    three fitted sizes on) and of its change with another choice of sizes: without the smallest of the three or more
    that were fitted, or with all that were given where two were fitted.

    Everything else is as for `vacancy_energy`; all sizes are evaluated and relaxed together.
    """
    cells = [] if isinstance(supercells, str) or not np.iterable(supercells) else list(supercells)
    if len(cells) < 2:
        raise ConfigError(
            f"supercells is {supercells!r}: give at least two supercells, such as (2, 3, 4)",
            setting="supercells",
            value=supercells,
        )
    check_vacancies(atoms, "a vacancy energy")
    matrices = sorted((supercell_matrix(one) for one in cells), key=lambda m: float(np.linalg.det(m)))
    _check_shapes(atoms, matrices)
    settings = VacancySettings(
        relaxed=True,
        cell=cell,
        fmax=fmax,
        smax=smax,
        steps=steps,
        rattle=rattle,
        seed=seed,
        symprec=symprec,
        require=require,
    )
    results = vacancy_energies(
        atoms, matrices, settings, sites, chemical_potential, evaluate=evaluate, progress=progress
    )
    return _series(results)


def _check_shapes(atoms: Atoms, matrices: Sequence[NDArray[np.int64]]) -> None:
    """ConfigError unless all supercells are of one shape, along a layer if it is one, and of different sizes."""
    volumes = [round(float(np.linalg.det(matrix))) for matrix in matrices]
    if len(set(volumes)) < len(volumes):
        raise ConfigError(
            f"supercells repeat the unit cell {volumes} times: each size may stand there once", setting="supercells"
        )
    flat = vacuum_axes(atoms)
    for matrix in matrices[1:]:
        scale = matrix @ np.linalg.inv(matrices[0])
        factor = float(np.diag(scale)[~flat].mean()) if not flat.all() else 1.0
        if not np.allclose(scale, np.diag(np.where(flat, 1.0, factor)), atol=1e-9):
            raise ConfigError(
                f"the supercells {matrices[0].tolist()} and {matrix.tolist()} have different shapes, so their energies "
                "do not lie on one line in 1/N",
                setting="supercells",
                remedies=[
                    "take multiples of one supercell"
                    + (" along the layer, and 1 across its vacuum" if flat.any() else "")
                ],
            )


def _series(results: Sequence[VacancyEnergy]) -> VacancySeries:
    n_atoms = np.array([result.n_atoms for result in results])
    relaxed = np.array([result.relaxed for result in results], dtype=float)
    fitted = np.array([result.image_distance >= IMAGE_DISTANCE for result in results])
    if fitted.sum() < 2:
        fitted[:] = True
    x = 1 / n_atoms
    limits, slopes, errors = _lines(x[fitted], relaxed[fitted])
    uncertainties = None
    if len(results) > 2:
        # The other choice of sizes: one less, or all.
        other = fitted & (n_atoms > n_atoms[fitted].min()) if fitted.sum() > 2 else np.ones_like(fitted)
        uncertainties = np.maximum(errors, np.abs(_lines(x[other], relaxed[other])[0] - limits))
    return VacancySeries(
        results=tuple(results),
        n_atoms=n_atoms,
        fitted=fitted,
        unrelaxed=np.array([result.unrelaxed for result in results]),
        relaxed=relaxed,
        extrapolated=limits,
        slopes=slopes,
        uncertainties=uncertainties,
    )


def _lines(x: Array, y: Array) -> tuple[Array, Array, Array]:
    """Limits at x = 0, slopes and standard errors of the limits (0 for two points) of the columns of y (K, S)."""
    from scipy.stats import linregress

    fits = [linregress(x, column) for column in y.T]
    errors = [fit.intercept_stderr for fit in fits] if len(x) > 2 else [0.0] * len(fits)
    return np.array([fit.intercept for fit in fits]), np.array([fit.slope for fit in fits]), np.array(errors)
