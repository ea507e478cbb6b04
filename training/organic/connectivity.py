"""Whether the atoms of a structure are still bonded as its molecular graph says."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase.data import covalent_radii, vdw_radii
from numpy.typing import NDArray
from rdkit import Chem

RELAXED = (0.75, 1.3)  # of the sum of the covalent radii: bonds of a structure at rest
DISTORTED = (0.6, 1.5)  # of one that was stretched or is hot
_CONTACT_HYDROGEN, _CONTACT = 1.12, 1.25  # nearer than this: a bond that the graph does not have
_CLASH = 0.65  # of the sum of the van der Waals radii


@dataclass(frozen=True, eq=False)
class Connectivity:
    """Bonds of a molecular graph, and the pairs of atoms that must keep apart."""

    bonds: NDArray[np.int64]  # (B, 2)
    bond_lengths: NDArray[np.float64]  # (B,) Å, sums of covalent radii
    apart: NDArray[np.int64]  # (P, 2), three or more bonds from each other, or of different molecules
    contacts: NDArray[np.float64]  # (P,) Å, the nearest that these may come
    clashes: NDArray[np.float64]  # (P,) Å, the nearest that they come where molecules are at ease

    def holds(self, positions: NDArray[np.float64], limits: tuple[float, float] = DISTORTED) -> bool:
        """Whether all bonds have lengths between the limits, and no other pair is as near as bonded atoms."""
        ratio = _distances(positions, self.bonds) / self.bond_lengths
        whole = bool(((ratio > limits[0]) & (ratio < limits[1])).all())
        return whole and bool((_distances(positions, self.apart) > self.contacts).all())

    def at_ease(self, positions: NDArray[np.float64]) -> bool:
        """Whether no two atoms that are not bonded press hard on each other."""
        return bool((_distances(positions, self.apart) > self.clashes).all())


def connectivity(molecule: Chem.Mol) -> Connectivity:
    """Of a molecule with its hydrogens, or of a complex of several."""
    numbers = np.array([atom.GetAtomicNum() for atom in molecule.GetAtoms()])
    radii = covalent_radii[numbers]
    bonds = np.array([(b.GetBeginAtomIdx(), b.GetEndAtomIdx()) for b in molecule.GetBonds()]).reshape(-1, 2)
    steps = Chem.GetDistanceMatrix(molecule)
    apart = np.argwhere(np.triu(steps > 2.5))
    factor = np.where((numbers[apart] == 1).any(1), _CONTACT_HYDROGEN, _CONTACT)
    return Connectivity(
        bonds, radii[bonds].sum(1), apart, factor * radii[apart].sum(1), _CLASH * vdw_radii[numbers[apart]].sum(1)
    )


def _distances(positions: NDArray[np.float64], pairs: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.asarray(np.linalg.norm(positions[pairs[:, 0]] - positions[pairs[:, 1]], axis=1))
