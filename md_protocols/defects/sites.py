"""Sites of vacancies by symmetry, and cells with one atom missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.geometry import find_mic
from numpy.typing import NDArray

from mlcalc.ground.errors import Use
from mlcalc.ground.remedies import NO_CHARGES
from mlcalc.ground.warn import warn

from .. import checks
from ..crystals.conventional_cells import KEEP_SYMMETRY, NOISE_SYMPRECS
from ..crystals.symmetry import spacegroup_name, symmetry_dataset
from ..crystals.vacuum import check_crystal
from ..errors import ConfigError, PhysicsWarning

IMAGE_DISTANCE = 10.0  # Å between a vacancy and its images, below which a warning is due

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Site:
    """An atom of the unit cell that can be missing."""

    index: int
    symbol: str
    multiplicity: int  # symmetry-equivalent atoms in the unit cell given
    wyckoff: str  # letter, in the standard setting of the space group
    orbit: int  # index of the first equivalent atom


def check_vacancies(atoms: Any, purpose: str) -> None:
    """`check_crystal`, and ConfigError for charges of atoms, of which a vacancy would take one away."""
    check_crystal(atoms, purpose)
    charged = np.flatnonzero(np.abs(atoms.get_initial_charges()) > 1e-9).tolist()
    if charged:
        raise ConfigError(
            f"{len(charged)} atoms have initial charges ({checks.listed(charged, atoms.get_chemical_symbols())}), and "
            f"without one of them the cell would be charged, but {purpose} is that of neutral cells",
            setting="initial_charges",
            remedies=[NO_CHARGES],
        )


def inequivalent_sites(atoms: Atoms, data: Any, chosen: Sequence[int] | None) -> list[Site]:
    """One site for each orbit of the space group, or those chosen; ConfigError for an index that is none."""
    orbits = np.asarray(data.crystallographic_orbits)  # equivalent_atoms has less where the cell is not primitive
    if chosen is None:
        indices = sorted({int(np.flatnonzero(orbits == orbit)[0]) for orbit in orbits})
    else:
        indices = _indices(atoms, chosen)
    symbols = atoms.get_chemical_symbols()
    return [
        Site(
            index=k,
            symbol=symbols[k],
            multiplicity=int((orbits == orbits[k]).sum()),
            wyckoff=str(data.wyckoffs[k]),
            orbit=int(np.flatnonzero(orbits == orbits[k])[0]),
        )
        for k in indices
    ]


def tell_noise(atoms: Atoms, data: Any, symprec: float) -> None:
    """A PhysicsWarning where noise parts sites that the crystal's symmetry would make one."""
    others = [(coarse, symmetry_dataset(atoms, coarse)) for coarse in NOISE_SYMPRECS if coarse > symprec]
    fewer = [(coarse, other) for coarse, other in others if other is not None and _orbits(other) < _orbits(data)]
    if not fewer:
        return
    coarse, other = min(fewer, key=lambda one: _orbits(one[1]))
    warn(
        PhysicsWarning(
            f"noise lowers the symmetry of the crystal: within {symprec:g} Å it is {spacegroup_name(data)}, within "
            f"{coarse:g} Å {spacegroup_name(other)}, and sites that the latter makes equivalent are told apart",
            setting="symprec",
            value=symprec,
            limit=coarse,
            remedies=[KEEP_SYMMETRY, Use("symprec", coarse)],
        )
    )


def _orbits(data: Any) -> int:
    return len(set(data.crystallographic_orbits))


def _indices(atoms: Atoms, chosen: Any) -> list[int]:
    given = [] if isinstance(chosen, str) or not np.iterable(chosen) else list(chosen)
    if not given:
        raise ConfigError(
            f"sites is {chosen!r}: give a sequence of indices such as [0], or None for all sites",
            setting="sites",
            value=chosen,
        )
    indices = [checks.whole("an index in sites", k, at_least=0) for k in given]
    wrong = [k for k in indices if k >= len(atoms)]
    if wrong:
        raise ConfigError(
            f"sites holds {wrong[0]}, but the unit cell has {len(atoms)} atoms: indices run from 0 to {len(atoms) - 1}",
            setting="sites",
            value=wrong[0],
            limit=len(atoms) - 1,
        )
    if len(set(indices)) < len(indices):
        raise ConfigError(f"sites is {indices}: each index may stand there once", setting="sites", value=indices)
    return indices


def same_by_symmetry(sites: Sequence[Site]) -> list[tuple[Site, Site]]:
    """Pairs of sites of one orbit, whose energies must agree."""
    first: dict[int, Site] = {}
    return [(first[site.orbit], site) for site in sites if first.setdefault(site.orbit, site) is not site]


def without(perfect: Atoms, index: int) -> Atoms:
    """The supercell with one atom missing."""
    defective: Atoms = perfect.copy()
    del defective[index]
    return defective


def rattled(defective: Atoms, center: Array, reach: float, amplitude: float, seed: int) -> Atoms:
    """A copy whose atoms within `reach` (Å) of the center are displaced at random, so that no symmetry is left."""
    moved: Atoms = defective.copy()
    near = find_mic(moved.positions - center, moved.cell, moved.pbc)[1] <= reach
    noise = np.random.default_rng(seed).normal(scale=amplitude, size=(len(moved), 3)) if amplitude else 0.0
    moved.positions += near[:, None] * noise
    return moved


def tell_small(distance: float) -> None:
    """A PhysicsWarning where a vacancy is close to its images."""
    if distance < IMAGE_DISTANCE:
        warn(
            PhysicsWarning(
                f"the vacancy is {distance:.3g} Å from its nearest image, less than {IMAGE_DISTANCE:g} Å, and their "
                "interaction is part of the energy",
                value=distance,
                limit=IMAGE_DISTANCE,
                remedies=[
                    Use("supercell", None, "for a larger one"),
                    Use("series", None, "for their limit", python="extrapolate with vacancy_series"),
                ],
            )
        )
