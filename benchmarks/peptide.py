"""A polypeptide built from ideal bond lengths and angles, so that no licensed coordinates are needed."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

Point = NDArray[np.float64]
PHI, PSI, OMEGA = -57.0, -47.0, 180.0  # degrees; the right-handed alpha helix
METHYL = (60.0, 180.0, 300.0)


class _Chain:
    """Atoms placed one after the other from bond length (Å), bond angle and dihedral (degrees)."""

    def __init__(self) -> None:
        self.symbols: list[str] = []
        self.positions: list[Point] = []

    def put(self, symbol: str, position: Point) -> Point:
        self.symbols.append(symbol)
        self.positions.append(position)
        return position

    def hydrogens(self, a: Point, b: Point, c: Point) -> None:
        """Those of the methyl group at c, bound to b."""
        for dihedral in METHYL:
            self.put("H", placed(a, b, c, bond=1.09, angle=109.5, dihedral=dihedral))


def placed(a: Point, b: Point, c: Point, *, bond: float, angle: float, dihedral: float) -> Point:
    """The point d with |cd| = bond, angle b-c-d and dihedral a-b-c-d."""
    axis = (c - b) / np.linalg.norm(c - b)
    normal = np.cross(b - a, axis)
    normal /= np.linalg.norm(normal)
    bend, turn = np.radians(angle), np.radians(dihedral)
    sideways = np.cross(normal, axis) * np.cos(turn) + normal * np.sin(turn)
    found: Point = c + bond * (sideways * np.sin(bend) - axis * np.cos(bend))
    return found


def peptide(sequence: str) -> Atoms:
    """Acetyl-(sequence of A and G)-methylamide as an alpha helix: 12 atoms, 10 for each alanine, 7 for each glycine."""
    chain = _Chain()
    methyl = chain.put("C", np.zeros(3))
    carbonyl = chain.put("C", np.array([1.525, 0.0, 0.0]))
    before = methyl
    nitrogen = chain.put(
        "N", placed(np.array([0.0, 1.0, 0.0]), methyl, carbonyl, bond=1.329, angle=116.6, dihedral=PSI)
    )
    chain.put("O", _opposite(methyl, nitrogen, carbonyl, 1.231))
    chain.hydrogens(nitrogen, carbonyl, methyl)
    for residue in sequence:
        alpha = chain.put("C", placed(before, carbonyl, nitrogen, bond=1.458, angle=121.7, dihedral=OMEGA))
        chain.put("H", _opposite(carbonyl, alpha, nitrogen, 1.01))
        next_carbonyl = chain.put("C", placed(carbonyl, nitrogen, alpha, bond=1.525, angle=111.0, dihedral=PHI))
        _side_chain(chain, residue, nitrogen, alpha, next_carbonyl)
        next_nitrogen = chain.put("N", placed(nitrogen, alpha, next_carbonyl, bond=1.329, angle=116.6, dihedral=PSI))
        chain.put("O", _opposite(alpha, next_nitrogen, next_carbonyl, 1.231))
        before, carbonyl, nitrogen = alpha, next_carbonyl, next_nitrogen
    end = chain.put("C", placed(before, carbonyl, nitrogen, bond=1.458, angle=121.7, dihedral=OMEGA))
    chain.put("H", _opposite(carbonyl, end, nitrogen, 1.01))
    chain.hydrogens(carbonyl, nitrogen, end)
    return Atoms(chain.symbols, positions=chain.positions)


def _opposite(a: Point, b: Point, center: Point, bond: float) -> Point:
    """The third ligand of a planar center, on the far side of a and b."""
    away = -sum((p - center) / np.linalg.norm(p - center) for p in (a, b))
    return center + bond * away / np.linalg.norm(away)


def _side_chain(chain: _Chain, residue: str, nitrogen: Point, alpha: Point, carbonyl: Point) -> None:
    to_n, to_c = ((p - alpha) / np.linalg.norm(p - alpha) for p in (nitrogen, carbonyl))
    back = -(to_n + to_c) / np.linalg.norm(to_n + to_c)
    side = np.cross(to_n, to_c) / np.linalg.norm(np.cross(to_n, to_c))
    left, right = (back * 0.577 + sign * side * 0.816 for sign in (1, -1))
    chain.put("H", alpha + 1.09 * right)
    if residue == "G":
        chain.put("H", alpha + 1.09 * left)
        return
    beta = chain.put("C", alpha + 1.53 * left)
    chain.hydrogens(nitrogen, alpha, beta)
