"""Two or more molecules beside each other: hydrogen bonds, stacks, clusters, encounters at random."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase.data import vdw_radii
from numpy.typing import NDArray
from rdkit import Chem
from scipy.spatial.transform import Rotation

Monomer = tuple[Chem.Mol, NDArray[np.float64]]  # with hydrogens; positions (N, 3) Å

_DONORS = Chem.MolFromSmarts("[#1][#7,#8,#16,#9,#17]")
_WEAK_DONORS = Chem.MolFromSmarts("[#1]C~[#7,#8,#9,#16,#17]")
_ACCEPTORS = Chem.MolFromSmarts("[$([#7;!+;!$([#7]~C=[O,S])]),#8,#16X2,F,Cl]")
_NEAR = (-0.8, 0.7)  # Å that pairs are moved from contact, most of them
_FAR = 4.0  # Å, the others: hydrogen bonds of 6 Å, beyond the cutoff of any student


def vdw_gap(first: Chem.Mol, a: NDArray[np.float64], second: Chem.Mol, b: NDArray[np.float64]) -> float:
    """Smallest of the distances between atoms of two molecules, each less the sum of the van der Waals radii, in Å."""
    return float(_gaps(first, a, second, b).min())


def poses(
    family: str, fixed: Monomer, coming: Monomer, count: int, rng: np.random.Generator
) -> tuple[NDArray[np.float64], list[NDArray[np.float64]]]:
    """Positions of a pair near contact, and `count` of the same orientation, 0.8 Å nearer to 4 Å further apart."""
    placed = hydrogen_bond(fixed, coming, rng.uniform(1.7, 2.1), rng) if family == "hydrogen bond" else None
    if placed is None:
        arrange = stack if family == "stack" else encounter
        placed = arrange(fixed, coming, rng.uniform(-0.5, 0.1), rng)
    gaps = _gaps(fixed[0], fixed[1], coming[0], placed)
    near, met = np.unravel_index(gaps.argmin(), gaps.shape)
    line = placed[met] - fixed[1][near]
    line /= np.linalg.norm(line)
    others = []
    for _ in range(count):
        further = rng.uniform(*_NEAR) if rng.random() < 0.6 else rng.uniform(_NEAR[1], _FAR)
        others.append(np.vstack([fixed[1], placed + further * line]))
    return np.vstack([fixed[1], placed]), others


def encounter(fixed: Monomer, coming: Monomer, gap: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Positions of the second molecule, turned at random, on a random line where the van der Waals gap is as asked."""
    molecule, positions = coming
    body = Rotation.random(rng=rng).apply(positions - positions.mean(0))
    line = rng.normal(size=3)
    return _approached(fixed, (molecule, body), line / np.linalg.norm(line), fixed[1].mean(0), gap)


def stack(fixed: Monomer, coming: Monomer, gap: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Positions of the second molecule with its plane along that of the first, slipped at random by up to 2 Å."""
    normal, own = _normal(fixed[1]), _normal(coming[1])
    body = coming[1] - coming[1].mean(0)
    body = Rotation.align_vectors([normal], [own])[0].apply(body)
    body = Rotation.from_rotvec(normal * rng.uniform(-np.pi, np.pi)).apply(body)
    slip = np.cross(normal, rng.normal(size=3))
    slip *= rng.uniform(0, 2) / np.linalg.norm(slip)
    return _approached(fixed, (coming[0], body), normal, fixed[1].mean(0) + slip, gap)


def hydrogen_bond(
    donor: Monomer, acceptor: Monomer, distance: float, rng: np.random.Generator
) -> NDArray[np.float64] | None:
    """Positions of the acceptor so that a hydrogen of the donor points at it from the distance (Å), within 25 degrees.

    None where there is no donor or acceptor, or parts of the molecules overlap.
    """
    donors = donor[0].GetSubstructMatches(_DONORS) or donor[0].GetSubstructMatches(_WEAK_DONORS)
    acceptors = acceptor[0].GetSubstructMatches(_ACCEPTORS)
    if not donors or not acceptors:
        return None
    hydrogen, heavy = donors[rng.integers(len(donors))][:2]
    (target,) = acceptors[rng.integers(len(acceptors))]
    axis = donor[1][hydrogen] - donor[1][heavy]
    axis = _tilted(axis / np.linalg.norm(axis), np.deg2rad(25), rng)
    body = acceptor[1] - acceptor[1][target]
    open_side = _open_side(acceptor[0], body, target)
    body = Rotation.align_vectors([_tilted(-axis, np.deg2rad(60), rng)], [open_side])[0].apply(body)
    body = Rotation.from_rotvec(axis * rng.uniform(-np.pi, np.pi)).apply(body)
    placed = np.asarray(body + donor[1][hydrogen] + distance * axis)
    apart = np.linalg.norm(donor[1][:, None] - placed[None], axis=-1)
    apart[hydrogen, target] = np.inf
    return placed if (apart > np.minimum(1.7, 0.95 * distance + 0.2)).all() else None


def cluster(monomers: Sequence[Monomer], rng: np.random.Generator) -> tuple[Chem.Mol, NDArray[np.float64]]:
    """The molecules one by one beside those before, by hydrogen bonds of 1.7 to 2.1 Å where there is a place."""
    whole, positions = monomers[0]
    for molecule, own in monomers[1:]:
        placed = None
        for _ in range(30):
            if rng.random() < 0.5:
                placed = hydrogen_bond((whole, positions), (molecule, own), rng.uniform(1.7, 2.1), rng)
            else:
                placed = _as_donor((whole, positions), (molecule, own), rng.uniform(1.7, 2.1), rng)
            if placed is not None:
                break
        if placed is None:
            placed = encounter((whole, positions), (molecule, own), rng.uniform(-0.6, 0.2), rng)
        whole, positions = Chem.CombineMols(whole, molecule), np.vstack([positions, placed])
    return whole, positions


def _as_donor(fixed: Monomer, coming: Monomer, distance: float, rng: np.random.Generator) -> NDArray[np.float64] | None:
    """As `hydrogen_bond`, with the second molecule giving the hydrogen."""
    placed = hydrogen_bond(coming, fixed, distance, rng)  # of the fixed one, seen from the other
    if placed is None:
        return None
    back, _ = Rotation.align_vectors(fixed[1] - fixed[1].mean(0), placed - placed.mean(0))
    return np.asarray(back.apply(coming[1] - placed.mean(0)) + fixed[1].mean(0))


def _approached(
    fixed: Monomer, body: Monomer, line: NDArray[np.float64], origin: NDArray[np.float64], gap: float
) -> NDArray[np.float64]:
    """Positions of the body, centered at zero, moved out along the line until the gap is as asked, by bisection."""
    near, far = 0.0, 60.0
    for _ in range(40):
        middle = 0.5 * (near + far)
        found = vdw_gap(fixed[0], fixed[1], body[0], body[1] + origin + middle * line)
        near, far = (middle, far) if found < gap else (near, middle)
    return np.asarray(body[1] + origin + far * line)


def _open_side(molecule: Chem.Mol, body: NDArray[np.float64], target: int) -> NDArray[np.float64]:
    """Direction away from the neighbors of an atom, where its lone pairs are."""
    neighbors = [neighbor.GetIdx() for neighbor in molecule.GetAtomWithIdx(target).GetNeighbors()]
    direction = -sum((body[k] / np.linalg.norm(body[k]) for k in neighbors), np.zeros(3))
    length = np.linalg.norm(direction)
    if length < 0.1:  # in line or in plane: any direction across
        direction = np.cross(body[neighbors[0]], np.array([0.3, 0.5, 0.8])) if neighbors else np.array([0.0, 0.0, 1.0])
        length = np.linalg.norm(direction)
    return np.asarray(direction / length)


def _tilted(axis: NDArray[np.float64], most: float, rng: np.random.Generator) -> NDArray[np.float64]:
    across = np.cross(axis, rng.normal(size=3))
    across /= np.linalg.norm(across)
    return np.asarray(Rotation.from_rotvec(across * rng.uniform(0, most)).apply(axis))


def _normal(positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """The direction in which the atoms spread least."""
    return np.asarray(np.linalg.svd(positions - positions.mean(0))[2][-1])


def _gaps(first: Chem.Mol, a: NDArray[np.float64], second: Chem.Mol, b: NDArray[np.float64]) -> NDArray[np.float64]:
    distances = np.linalg.norm(a[:, None] - b[None], axis=-1)
    return np.asarray(distances - _radii(first)[:, None] - _radii(second)[None])


def _radii(molecule: Chem.Mol) -> NDArray[np.float64]:
    return np.asarray(vdw_radii[[atom.GetAtomicNum() for atom in molecule.GetAtoms()]])
