"""Geometries that neither minima nor heat reach soon: turned torsions, stretched bonds, rattled atoms."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem
from scipy.spatial.transform import Rotation

_COMPRESSION, _STRETCH = 0.85, 1.30  # of the length of a bond


def rotatable_bonds(molecule: Chem.Mol) -> list[tuple[int, int]]:
    """Single bonds outside rings between atoms that both have further neighbors."""
    return [
        (bond.GetBeginAtomIdx(), bond.GetEndAtomIdx())
        for bond in molecule.GetBonds()
        if not bond.IsInRing()
        and bond.GetBondType() == Chem.BondType.SINGLE
        and bond.GetBeginAtom().GetDegree() > 1
        and bond.GetEndAtom().GetDegree() > 1
    ]


def breakable_bonds(molecule: Chem.Mol) -> list[tuple[int, int]]:
    """All bonds outside rings: their lengths can be changed without changing others."""
    return [(b.GetBeginAtomIdx(), b.GetEndAtomIdx()) for b in molecule.GetBonds() if not b.IsInRing()]


def turned(
    molecule: Chem.Mol, positions: NDArray[np.float64], rng: np.random.Generator, most: int = 2
) -> NDArray[np.float64]:
    """Positions after one to `most` torsions were turned by random angles; the same where there is none."""
    bonds = rotatable_bonds(molecule)
    positions = positions.copy()
    for _ in range(int(rng.integers(1, most + 1)) if bonds else 0):
        begin, end = bonds[rng.integers(len(bonds))]
        side = _side(molecule, begin, end)
        axis = positions[end] - positions[begin]
        turn = Rotation.from_rotvec(axis / np.linalg.norm(axis) * rng.uniform(-np.pi, np.pi))
        positions[side] = turn.apply(positions[side] - positions[end]) + positions[end]
    return positions


def stretched(molecule: Chem.Mol, positions: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Positions with one bond 15 % shorter to 30 % longer, the parts on both sides moved as a whole."""
    bonds = breakable_bonds(molecule)
    positions = positions.copy()
    if bonds:
        begin, end = bonds[rng.integers(len(bonds))]
        side = _side(molecule, begin, end)
        factor = rng.uniform(_COMPRESSION, _STRETCH)
        positions[side] += (factor - 1) * (positions[end] - positions[begin])
    return positions


def rattled(positions: NDArray[np.float64], deviation: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Positions with independent Gaussian displacements of each coordinate, deviation in Å."""
    return positions + rng.normal(0.0, deviation, positions.shape)


def _side(molecule: Chem.Mol, begin: int, end: int) -> list[int]:
    """Atoms on the far side of the bond from `begin` to `end`."""
    seen, pending = {begin, end}, [end]
    while pending:
        for neighbor in molecule.GetAtomWithIdx(pending.pop()).GetNeighbors():
            if neighbor.GetIdx() not in seen:
                seen.add(neighbor.GetIdx())
                pending.append(neighbor.GetIdx())
    return sorted(seen - {begin})
