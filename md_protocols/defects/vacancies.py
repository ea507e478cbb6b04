"""Formation energies of vacancies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers
from ase.geometry import find_mic
from numpy.typing import NDArray

from mlcalc.ground.errors import Remedy, Use
from mlcalc.ground.warn import warn

from .. import checks
from ..crystals.perfection import Perfection, offers_stress
from ..crystals.supercells import image_distance, nearest_neighbor, perfect_supercell, supercell_matrix
from ..crystals.symmetry import SYMPREC, spacegroup_name, symmetry
from ..crystals.vacuum import vacuum_axes
from ..errors import ConfigError, PhysicsWarning
from ..evaluator import Evaluate, Evaluated, Evaluator
from ..relaxation.outcome import Relaxation
from .settings import RattledSettings
from .sites import Site, check_vacancies, inequivalent_sites, rattled, same_by_symmetry, tell_noise, tell_small, without
from .vacancy_result import VacancyEnergy

_CELLS = ("fixed", "isotropic", "full")


@dataclass(frozen=True, kw_only=True)
class VacancySettings(RattledSettings):
    """What all vacancies of a call share."""

    relaxed: bool
    cell: str
    smax: float  # eV/Å^3

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "cell", checks.choice("cell", self.cell, _CELLS))
        checks.number("smax", self.smax, above=0.0, hint=" eV/Å^3")


def vacancy_energy(
    atoms: Atoms,
    *,
    supercell: Any,
    relaxed: bool = True,
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
) -> VacancyEnergy:
    """Formation energies of neutral vacancies at the inequivalent sites of a perfect, relaxed crystal.

        E_f = E(N-1) - E(N) + mu

    atoms: its unit cell.  supercell: how often it is repeated: a whole number, three, or a 3 x 3 matrix whose rows
    are the new vectors in terms of the old.
    sites: indices in the unit cell; None for one of each orbit of the space group found within `symprec` (Å).
    cell: "fixed" at the volume of the perfect crystal, or "isotropic" or "full" for a vacancy at zero pressure.
    chemical_potential: mu by element, eV.  That of a crystal of one element is E(N)/N unless given; compounds, and
    layers with several inequivalent sites, need one for the element of each site.
    fmax: forces (eV/Å) to which vacancies are relaxed, within `steps`; smax: stress (eV/Å^3) of a free cell, which
    leaves an error of about V smax / B in the relaxation volume (V of the supercell, B its bulk modulus).
    rattle: atoms near the vacancy start displaced at random (standard deviation, Å, with this `seed`), because
    symmetry would hold them on a saddle point where distortion lowers the energy; 0 keeps the symmetry.

    All unrelaxed supercells are evaluated in one batch, and all relaxations go in step.  A PhysicsWarning says where
    the crystal is not relaxed, images are nearer than 10 Å, a relaxation ends unconverged (with `require` a
    NotConvergedError) or lets atoms move by more than half the distance to a neighbor.

    Raises ConfigError (a setting or the structure), EvaluationError, NotConvergedError.
    """
    settings = VacancySettings(
        relaxed=relaxed,
        cell=cell,
        fmax=fmax,
        smax=smax,
        steps=steps,
        rattle=rattle,
        seed=seed,
        symprec=symprec,
        require=require,
    )
    return vacancy_energies(
        atoms, [supercell], settings, sites, chemical_potential, evaluate=evaluate, progress=progress
    )[0]


_RATTLED = 2.0  # in units of the distance to the nearest neighbor
_MOVED = 0.5  # in the same unit: beyond, the vacancy may have become another defect
_NOISE = 1e-3  # eV

Array = NDArray[np.float64]


@dataclass
class _Supercell:
    """A perfect supercell, the same with each site empty, and what was found for them."""

    matrix: NDArray[np.int64]
    perfect: Atoms
    sites: list[Site]
    vacancies: list[Atoms] = field(default_factory=list)
    found: list[Evaluated] = field(default_factory=list)  # of the perfect one, then of the vacancies
    ends: list[Relaxation] | None = None

    def names(self) -> list[str]:
        return [f"the vacancy at {site.symbol}{site.index} of {len(self.perfect)} atoms" for site in self.sites]


def vacancy_energies(
    atoms: Atoms,
    supercells: Sequence[Any],
    settings: VacancySettings,
    sites: Sequence[int] | None,
    chemical_potential: Mapping[str, float] | None,
    *,
    evaluate: Evaluate | None,
    progress: bool | None,
) -> list[VacancyEnergy]:
    """One VacancyEnergy per supercell; see `vacancy_energy`."""
    check_vacancies(atoms, "a vacancy energy")
    data = symmetry(atoms, settings.symprec)
    chosen = inequivalent_sites(atoms, data, sites)
    given = _potentials(atoms, data, chosen, chemical_potential)
    if sites is None:
        tell_noise(atoms, data, settings.symprec)
    cells = [_prepared(atoms, supercell, chosen) for supercell in supercells]
    if settings.relaxed and settings.cell != "fixed":
        checks.crystal(atoms, f"a vacancy with cell={settings.cell!r}", ("energy", "forces", "stress"))
    tell_small(max(image_distance(cell.perfect) for cell in cells))
    stress = offers_stress(atoms, evaluate)
    _evaluate(cells, Evaluator(atoms.calc, evaluate), stress)
    perfection = Perfection.of(cells[0].found[0], atoms, evaluate)
    perfection.tell()
    _tell_same(cells[0])
    if settings.relaxed:
        _relax(cells, atoms, settings, evaluate, progress)
    spacegroup = spacegroup_name(data)
    return [_energies(cell, given, perfection, spacegroup, settings) for cell in cells]


def check_sites(
    atoms: Atoms,
    supercells: Sequence[Any],
    sites: Sequence[int] | None,
    chemical_potential: Mapping[str, float] | None,
    symprec: float,
) -> None:
    """ConfigError for vacancies that `vacancy_energy` would refuse."""
    check_vacancies(atoms, "a vacancy energy")
    data = symmetry(atoms, symprec)
    chosen = inequivalent_sites(atoms, data, sites)
    _potentials(atoms, data, chosen, chemical_potential)
    for supercell in supercells:
        perfect_supercell(atoms, supercell)


def _tell_same(cell: _Supercell) -> None:
    """A PhysicsWarning for sites of one orbit: computed twice, or not equivalent for the calculator."""
    energies = {site.index: found.energy for site, found in zip(cell.sites, cell.found[1:], strict=True)}
    for one, other in same_by_symmetry(cell.sites):
        apart = abs(energies[one.index] - energies[other.index])
        text = f"sites {one.index} and {other.index} are equivalent by symmetry: their energies are the same"
        remedies: list[Remedy] = []
        if apart > _NOISE:
            text = (
                f"sites {one.index} and {other.index} are equivalent by the symmetry of the structure, but their "
                f"unrelaxed energies differ by {apart:.3g} eV: the calculator tells them apart, by what the structure "
                "does not say (magnetic moments, charges), or does not have its symmetry"
            )
            remedies = [Use("sites", None, "for all of them")]
        warn(PhysicsWarning(text, remedies=remedies))


def _prepared(atoms: Atoms, supercell: Any, sites: list[Site]) -> _Supercell:
    perfect = perfect_supercell(atoms, supercell)
    cell = _Supercell(supercell_matrix(supercell), perfect, sites)
    cell.vacancies = [without(perfect, site.index) for site in sites]
    return cell


def _potentials(atoms: Atoms, data: Any, sites: Sequence[Site], given: Mapping[str, float] | None) -> dict[str, float]:
    """mu by element as given; ConfigError where it is needed and missing."""
    potentials = dict(given or {})
    symbols = set(atoms.get_chemical_symbols())
    for symbol, value in potentials.items():
        if symbol not in symbols:
            what = "not in the structure" if symbol in atomic_numbers else "no element"
            raise ConfigError(
                f"chemical_potential has {symbol!r}, which is {what}: its elements are {', '.join(sorted(symbols))}",
                setting="chemical_potential",
                value=symbol,
            )
        potentials[symbol] = checks.number(f"chemical_potential[{symbol!r}]", value, hint=" eV")
    missing = sorted({site.symbol for site in sites} - set(potentials))
    layered = len(set(data.crystallographic_orbits)) > 1 and bool(vacuum_axes(atoms).any())
    if missing and (len(symbols) > 1 or layered):
        why = "of a compound" if len(symbols) > 1 else "of a structure with vacuum and several inequivalent sites"
        raise ConfigError(
            f"the energy {why} does not give the chemical potential of {', '.join(missing)}",
            setting="chemical_potential",
            value=tuple(missing),
            remedies=[
                Use(
                    "chemical_potential",
                    None,
                    "with the energy per atom of the reservoir, such as the element, for each, in eV",
                )
            ],
        )
    return potentials


def _evaluate(cells: Sequence[_Supercell], evaluator: Evaluator, stress: bool) -> None:
    """All perfect supercells and all unrelaxed vacancies in one batch."""
    structures = [atoms for cell in cells for atoms in (cell.perfect, *cell.vacancies)]
    names = [name for cell in cells for name in (f"the perfect supercell of {len(cell.perfect)} atoms", *cell.names())]
    found = iter(evaluator(structures, stress=stress, names=names))
    for cell in cells:
        cell.found = [next(found) for _ in range(1 + len(cell.vacancies))]


def _relax(
    cells: Sequence[_Supercell],
    atoms: Atoms,
    settings: VacancySettings,
    evaluate: Evaluate | None,
    progress: bool | None,
) -> None:
    """All vacancies in one lockstep of relaxations."""
    starts, names = [], []
    for cell in cells:
        for site, vacancy in zip(cell.sites, cell.vacancies, strict=True):
            reach = _RATTLED * nearest_neighbor(cell.perfect, site.index)
            center = cell.perfect.positions[site.index]
            start = rattled(vacancy, center, reach, settings.rattle, settings.seed)
            start.calc = atoms.calc
            starts.append(start)
        names += cell.names()
    found = settings.relaxed_all(
        starts, names, cell=settings.cell, smax=settings.smax, evaluate=evaluate, progress=progress
    )
    ends = iter(found)
    for cell in cells:
        cell.ends = [next(ends) for _ in cell.sites]


def _energies(
    cell: _Supercell, given: Mapping[str, float], strain: Perfection, spacegroup: str, settings: VacancySettings
) -> VacancyEnergy:
    perfect, *vacancies = cell.found
    sites, n = cell.sites, len(cell.perfect)
    mu = np.array([given.get(site.symbol, perfect.energy / n) for site in sites])
    perfection = strain.with_forces(perfect)
    return VacancyEnergy(
        sites=tuple(site.index for site in sites),
        symbols=tuple(site.symbol for site in sites),
        multiplicities=tuple(site.multiplicity for site in sites),
        wyckoffs=tuple(site.wyckoff for site in sites),
        orbits=tuple(site.orbit for site in sites),
        unrelaxed=np.array([found.energy for found in vacancies]) - perfect.energy + mu,
        **_relaxed(cell, mu),
        chemical_potentials=mu,
        potential_sources=tuple("given" if site.symbol in given else "E(N)/N" for site in sites),
        supercell=cell.matrix,
        n_atoms=n,
        spacegroup=spacegroup,
        image_distance=image_distance(cell.perfect),
        cell=settings.cell,
        perfect_energy=perfect.energy,
        perfect_max_force=perfection.max_force,
        perfect_max_stress_GPa=perfection.max_stress_GPa,
        fmax=settings.fmax,
        rattle=settings.rattle,
        seed=settings.seed,
        structures=tuple(cell.vacancies if cell.ends is None else [end.atoms for end in cell.ends]),
    )


def _relaxed(cell: _Supercell, mu: Array) -> dict[str, Any]:
    """The fields of a VacancyEnergy that come from relaxations."""
    if cell.ends is None:
        names = ("relaxed", "each_converged", "max_forces", "displacements", "relaxation_volumes")
        return dict.fromkeys(names)
    relaxed = np.array([end.energy for end in cell.ends]) - cell.found[0].energy + mu
    unrelaxed = np.array([found.energy for found in cell.found[1:]]) - cell.found[0].energy + mu
    moved = [_displacement(end.atoms, start) for end, start in zip(cell.ends, cell.vacancies, strict=True)]
    _tell_moved(cell, moved, np.where([end.converged for end in cell.ends], relaxed - unrelaxed, 0.0))
    volumes = [_volume(end.atoms) - _volume(cell.perfect) for end in cell.ends]
    return {
        "relaxed": relaxed,
        "each_converged": np.array([end.converged for end in cell.ends]),
        "max_forces": np.array([end.max_force for end in cell.ends]),
        "displacements": np.array(moved),
        "relaxation_volumes": np.array(volumes),
    }


def _tell_moved(cell: _Supercell, moved: Sequence[float], gained: Array) -> None:
    """PhysicsWarnings for relaxations that led to another defect, or to no lower energy."""
    for site, distance, gain, name in zip(cell.sites, moved, gained, cell.names(), strict=True):
        near = nearest_neighbor(cell.perfect, site.index)
        if distance > _MOVED * near:
            warn(
                PhysicsWarning(
                    f"{name}: an atom moved by {distance:.2f} Å, more than half the distance to a neighbor ({near:.2f} "
                    "Å), and the vacancy may have moved or become another defect",
                    value=distance,
                    limit=_MOVED * near,
                    remedies=["look at the structure"],
                )
            )
        elif gain > _NOISE:
            warn(
                PhysicsWarning(
                    f"{name}: its energy after the relaxation is {gain:.3g} eV above that before: the displacements "
                    "that break the symmetry are not undone yet",
                    value=float(gain),
                    limit=_NOISE,
                    remedies=[
                        Use("fmax", None, "for smaller forces"),
                        Use("rattle", None, "for smaller displacements"),
                    ],
                )
            )


def _displacement(end: Atoms, start: Atoms) -> float:
    """Largest distance of an atom from its perfect place in the relaxed cell, drift of the whole taken off."""
    places = start.positions
    if not np.array_equal(end.cell.array, start.cell.array):
        places = start.get_scaled_positions(wrap=False) @ end.cell.array
    away = find_mic(end.positions - places, end.cell, end.pbc)[0]
    return float(np.linalg.norm(away - np.median(away, axis=0), axis=1).max())


def _volume(atoms: Atoms) -> float:
    return float(abs(np.linalg.det(atoms.cell.array)))
