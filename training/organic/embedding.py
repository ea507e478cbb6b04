"""Conformers by RDKit: distance geometry with torsion preferences, relaxed by a force field."""

from __future__ import annotations

from functools import reduce

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem, rdBase
from rdkit.Chem import rdDistGeom, rdForceFieldHelpers

from training.organic.errors import OrganicError

_FORCE_FIELD_STEPS = 300


def conformers(smiles: str, count: int, seed: int) -> tuple[Chem.Mol, list[NDArray[np.float64]]]:
    """The molecule with its hydrogens, and up to `count` geometries (N, 3) in Å; none where RDKit finds none.

    Method: ETKDGv3 (S. Wang et al., J. Chem. Inf. Model. 60, 2044 (2020)), then MMFF94, or UFF where that lacks types.
    """
    molecule = molecule_of(smiles)
    settings = rdDistGeom.ETKDGv3()
    settings.randomSeed = seed % 2**31
    settings.useRandomCoords = molecule.GetNumAtoms() > 30
    settings.maxIterations = 50
    with rdBase.BlockLogs():
        ids = list(rdDistGeom.EmbedMultipleConfs(molecule, count, settings))
        if ids:
            _optimize(molecule)
    return molecule, [np.array(molecule.GetConformer(k).GetPositions()) for k in ids]


def molecule_of(smiles: str) -> Chem.Mol:
    """A molecule with its hydrogens, or a complex: the atoms of one molecule after those of another.

    The order of atoms in all shards: of each part RDKit's order of the SMILES, then its hydrogens.
    """
    parts = [Chem.MolFromSmiles(part) for part in smiles.split(".")]
    if None in parts:
        raise OrganicError(f"{smiles!r} is no SMILES that RDKit reads")
    return reduce(Chem.CombineMols, [Chem.AddHs(part) for part in parts])


def _optimize(molecule: Chem.Mol) -> None:
    if rdForceFieldHelpers.MMFFHasAllMoleculeParams(molecule):
        rdForceFieldHelpers.MMFFOptimizeMoleculeConfs(molecule, maxIters=_FORCE_FIELD_STEPS)
    elif rdForceFieldHelpers.UFFHasAllMoleculeParams(molecule):
        rdForceFieldHelpers.UFFOptimizeMoleculeConfs(molecule, maxIters=_FORCE_FIELD_STEPS)
