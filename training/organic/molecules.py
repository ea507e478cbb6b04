"""The list of molecules: which there are, and which split each belongs to."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rdkit import Chem

from training.organic.assembly import MAX_ATOMS, MAX_PEPTIDE_ATOMS, acceptable, capped_peptides, random_molecules
from training.organic.errors import OrganicError
from training.organic.files import write_atomically
from training.organic.fragments import CORES, NAMED, SMALL
from training.organic.held_out import HeldOut, key_hash
from training.organic.shards import SPLITS
from training.organic.splits import split_of

FAMILIES = ("small", "peptide", "assembled")


@dataclass(frozen=True)
class Molecule:
    """One entry of the list."""

    smiles: str
    key: str  # sha256 of the first block of the InChIKey
    split: str  # one of SPLITS
    family: str  # one of FAMILIES
    atoms: int  # with hydrogens


def build_list(count: int, seed: int, held_out: HeldOut) -> list[Molecule]:
    """The tables' own molecules and random ones up to `count` in all, each skeleton once, none held out."""
    found: dict[str, Molecule] = {}
    for family, molecule, limit in _candidates(seed):
        if len(found) >= count:
            break
        if not acceptable(molecule, limit):
            continue
        try:
            key = key_hash(molecule)
        except OrganicError:  # a structure that InChI does not know cannot be held against the hashes
            continue
        if key in found or held_out.holds(molecule):
            continue
        atoms = Chem.AddHs(molecule).GetNumAtoms()
        if family != "assembled" or _wanted(atoms, key):
            found[key] = Molecule(Chem.MolToSmiles(molecule), key, split_of(molecule), family, atoms)
    return list(found.values())


def _candidates(seed: int) -> Iterator[tuple[str, Chem.Mol, int]]:
    yield from (("small", Chem.MolFromSmiles(smiles), MAX_ATOMS) for smiles in SMALL)
    yield from (("peptide", Chem.MolFromSmiles(smiles), MAX_PEPTIDE_ATOMS) for smiles in capped_peptides())
    bare = (smiles for cores in CORES.values() for smiles in cores)
    yield from (("assembled", Chem.MolFromSmiles(smiles), MAX_ATOMS) for smiles in (*NAMED, *bare))
    yield from (("assembled", molecule, MAX_ATOMS) for molecule in random_molecules(np.random.default_rng(seed)))


def _wanted(atoms: int, key: str) -> bool:
    """Large molecules less often: a combination is large more easily than small, and costs more."""
    keep = min(1.0, float(np.exp((20 - atoms) / 8)))
    return int(key[:8], 16) / 16**8 < keep


def write_list(path: Path, molecules: Iterable[Molecule]) -> None:
    """Save the list as JSON."""
    write_atomically(path, json.dumps([asdict(molecule) for molecule in molecules], indent=0).encode())


def read_list(path: Path, held_out: HeldOut) -> list[Molecule]:
    """The list of a file; OrganicError where one of its molecules is held out."""
    molecules = [Molecule(**entry) for entry in json.loads(path.read_text())]
    for molecule in molecules:
        if molecule.key in held_out.hashes:
            raise OrganicError(f"{path}: {molecule.smiles} is held out of training: make the list again")
        if molecule.split not in SPLITS:
            raise OrganicError(f"{path}: split {molecule.split!r} of {molecule.smiles} is none of {', '.join(SPLITS)}")
    return molecules
