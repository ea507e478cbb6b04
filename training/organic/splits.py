"""Training, validation and test sets that share no scaffold."""

from __future__ import annotations

import hashlib

from rdkit import Chem
from rdkit.Chem.Scaffolds import MurckoScaffold

from training.organic.fragments import COMMON_SCAFFOLDS, NAMED, SMALL
from training.organic.shards import SPLITS

_TRAIN, _VALIDATION = 0.86, 0.93  # of the scaffolds up to these
_CHAIN = 6  # heavy atoms from which molecules without rings are told apart by their skeletons


def scaffold(molecule: Chem.Mol) -> str:
    """What all molecules of one split have in common: Bemis and Murcko's framework of rings and what joins them.

    Without rings: the skeleton of heavy atoms without elements and bond orders, or a small molecule itself.
    """
    framework = str(Chem.MolToSmiles(MurckoScaffold.GetScaffoldForMol(molecule), isomericSmiles=False))
    if framework:
        return framework
    if molecule.GetNumHeavyAtoms() < _CHAIN:
        return str(Chem.MolToSmiles(molecule, isomericSmiles=False))
    return _skeleton(molecule)


def split_of(molecule: Chem.Mol) -> str:
    """One of SPLITS, by a hash of the scaffold; common ring systems and the small molecules are training's."""
    name = scaffold(molecule)
    train, validation, test = SPLITS
    if name in _PINNED or Chem.MolToSmiles(molecule, isomericSmiles=False) in _PINNED:
        return train
    place = int(hashlib.sha256(name.encode()).hexdigest()[:12], 16) / 16**12
    return train if place < _TRAIN else validation if place < _VALIDATION else test


def _skeleton(molecule: Chem.Mol) -> str:
    skeleton = Chem.RWMol()
    for _ in molecule.GetAtoms():
        skeleton.AddAtom(Chem.Atom(0))
    for bond in molecule.GetBonds():
        skeleton.AddBond(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx(), Chem.BondType.SINGLE)
    return str(Chem.MolToSmiles(skeleton))


def _canonical(smiles: str) -> str:
    return str(Chem.CanonSmiles(smiles, useChiral=0))


_PINNED = frozenset(_canonical(smiles) for smiles in (*COMMON_SCAFFOLDS, *SMALL, *NAMED))
