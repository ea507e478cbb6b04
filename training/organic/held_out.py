"""Molecules that training must not see, known by hashes only."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from rdkit import Chem

from training.organic.errors import OrganicError

_LIMIT = "[0-9a-f]{64}"


def key_hash(molecule: Chem.Mol) -> str:
    """sha256, in hexadecimal, of the first block of the InChIKey: the skeleton without stereochemistry."""
    key = Chem.MolToInchiKey(Chem.RemoveHs(molecule))
    if len(key) != 27:
        raise OrganicError(f"{Chem.MolToSmiles(molecule)}: RDKit gives no InChIKey for it")
    return hashlib.sha256(key.split("-")[0].encode()).hexdigest()


class HeldOut:
    """The hashes of a file, one a line; lines that begin with # are comments."""

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise OrganicError(f"{path}: there is no such file; without it no molecule may be labeled")
        lines = [line.strip() for line in path.read_text().splitlines()]
        self.hashes = frozenset(line for line in lines if line and not line.startswith("#"))
        wrong = [line for line in self.hashes if not re.fullmatch(_LIMIT, line)]
        if wrong or not self.hashes:
            raise OrganicError(f"{path}: expected sha256 hashes, one a line, and found {wrong[:1] or 'none'}")

    def holds(self, molecule: Chem.Mol) -> bool:
        """Whether a molecule, or one of the molecules that a complex consists of, must be left out."""
        return any(key_hash(part) in self.hashes for part in Chem.GetMolFrags(molecule, asMols=True))

    def refuse(self, molecule: Chem.Mol) -> None:
        """OrganicError for a molecule that must be left out."""
        if self.holds(molecule):
            raise OrganicError(f"{Chem.MolToSmiles(molecule)} is held out of training: it cannot be labeled")
