"""Random molecules from the fragments: decorated cores, and two cores with a linker between them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from rdkit import Chem, rdBase

from training.organic.fragments import COMMON_KINDS, CORES, LINKERS, RESIDUES, SUBSTITUENTS, UNSTABLE

MAX_ATOMS = 40
MAX_PEPTIDE_ATOMS = 48
_ELEMENTS = frozenset({1, 6, 7, 8, 9, 16, 17})
_PATTERNS = tuple(Chem.MolFromSmarts(pattern) for pattern in UNSTABLE)
_LINKED = 0.4  # of the molecules have two cores


def acceptable(molecule: Chem.Mol, max_atoms: int = MAX_ATOMS) -> bool:
    """Neutral, closed-shell, of the seven elements and not too large."""
    with_hydrogens = Chem.AddHs(molecule)
    return (
        Chem.GetFormalCharge(molecule) == 0
        and all(atom.GetNumRadicalElectrons() == 0 for atom in molecule.GetAtoms())
        and {atom.GetAtomicNum() for atom in with_hydrogens.GetAtoms()} <= _ELEMENTS
        and 2 <= with_hydrogens.GetNumAtoms() <= max_atoms
    )


def stable(molecule: Chem.Mol) -> bool:
    """Whether no group of it is known to fall apart."""
    return not any(molecule.HasSubstructMatch(pattern) for pattern in _PATTERNS)


def random_molecules(rng: np.random.Generator) -> Iterator[Chem.Mol]:
    """Endless acceptable molecules, some of them more than once."""
    with rdBase.BlockLogs():
        while True:
            molecule = _linked(rng) if rng.random() < _LINKED else _decorated(_core(rng), rng, int(rng.integers(0, 4)))
            if molecule is not None and acceptable(molecule) and stable(molecule):
                yield molecule


def capped_peptides() -> Iterator[str]:
    """SMILES of Ace-X-Nme and Ace-X-Y-Nme for the neutral amino acids."""
    yield from (f"CC(=O){residue}NC" for residue in RESIDUES.values())
    yield from (f"CC(=O){first}{second}NC" for first in RESIDUES.values() for second in RESIDUES.values())


def _core(rng: np.random.Generator) -> Chem.Mol:
    return _drawn(CORES, rng)


def _substituent(rng: np.random.Generator) -> Chem.Mol:
    return _drawn(SUBSTITUENTS, rng)


def _drawn(table: Mapping[str, tuple[str, ...]], rng: np.random.Generator) -> Chem.Mol:
    weights = np.array([3.0 if kind in COMMON_KINDS else 1.0 for kind in table])
    kind = str(rng.choice(list(table), p=weights / weights.sum()))
    return Chem.MolFromSmiles(str(rng.choice(table[kind])))


def _decorated(molecule: Chem.Mol | None, rng: np.random.Generator, count: int) -> Chem.Mol | None:
    for _ in range(count):
        if molecule is not None:
            molecule = _attached(molecule, _substituent(rng), rng)
    return molecule


def _linked(rng: np.random.Generator) -> Chem.Mol | None:
    linker = str(rng.choice(LINKERS))
    first = _decorated(_core(rng), rng, int(rng.integers(0, 2)))
    second = _core(rng)
    if first is None:
        return None
    if linker == "**":
        return _decorated(_attached(first, _opened(second, rng), rng), rng, int(rng.integers(0, 2)))
    joined = _attached(_attached(first, Chem.MolFromSmiles(linker), rng), _opened(second, rng), rng, site="*")
    return _decorated(joined, rng, int(rng.integers(0, 2)))


def _opened(molecule: Chem.Mol, rng: np.random.Generator) -> Chem.Mol | None:
    """The molecule with an open bond, marked as in the table of substituents."""
    return _attached(molecule, Chem.MolFromSmiles("**"), rng)


def _attached(
    molecule: Chem.Mol | None, substituent: Chem.Mol | None, rng: np.random.Generator, site: str = "H"
) -> Chem.Mol | None:
    """Bond the substituent in place of a hydrogen, or with site="*" in place of the molecule's own mark.

    None where there is no such place, or RDKit finds no valences for the result.
    """
    if molecule is None or substituent is None:
        return None
    sites = _open_sites(molecule) if site == "*" else _hydrogen_sites(molecule, substituent)
    if not sites:
        return None
    place = int(sites[rng.integers(len(sites))])
    mark = next(atom.GetIdx() for atom in substituent.GetAtoms() if atom.GetAtomicNum() == 0)
    (end,) = substituent.GetAtomWithIdx(mark).GetNeighbors()
    offset = molecule.GetNumAtoms()
    combined = Chem.RWMol(Chem.CombineMols(molecule, substituent))
    gone = [offset + mark]
    if site == "*":
        gone.append(place)
        (neighbor,) = combined.GetAtomWithIdx(place).GetNeighbors()
        place = neighbor.GetIdx()
    combined.AddBond(place, offset + end.GetIdx(), Chem.BondType.SINGLE)
    atom = combined.GetAtomWithIdx(place)
    if site == "H" and atom.GetNumExplicitHs():
        atom.SetNumExplicitHs(atom.GetNumExplicitHs() - 1)
    for index in sorted(gone, reverse=True):
        combined.RemoveAtom(index)
    result = combined.GetMol()
    return None if Chem.SanitizeMol(result, catchErrors=True) else result


def _open_sites(molecule: Chem.Mol) -> list[int]:
    return [atom.GetIdx() for atom in molecule.GetAtoms() if atom.GetAtomicNum() == 0]


def _hydrogen_sites(molecule: Chem.Mol, substituent: Chem.Mol) -> list[int]:
    """Carbons with hydrogen; nitrogens with hydrogen too where the new bond is one to carbon or sulfur."""
    mark = next(atom for atom in substituent.GetAtoms() if atom.GetAtomicNum() == 0)
    (end,) = mark.GetNeighbors()
    allowed = (6, 7) if end.GetAtomicNum() in (0, 6) or end.GetTotalValence() == 6 else (6,)
    return [
        atom.GetIdx()
        for atom in molecule.GetAtoms()
        if atom.GetAtomicNum() in allowed and atom.GetTotalNumHs() > 0 and atom.GetFormalCharge() == 0
    ]
