"""Which molecules and complexes one shard holds."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem

from training.organic.complexes import Monomer, cluster, poses
from training.organic.connectivity import Connectivity, connectivity
from training.organic.embedding import conformers
from training.organic.frames import Evaluate, Geometry, join
from training.organic.molecules import Molecule
from training.organic.relaxation import relax

PER_SHARD = {"assembled": 21, "peptide": 2, "small": 3}
COMPLEXES = {"water": 2, "hydrogen bond": 3, "solvated": 2, "stack": 1, "encounter": 1}
_CONFORMERS = 3
_STARTS, _APPROACHES = 2, 4  # contact geometries of a complex; rigid ones further apart or nearer, for each
_MONOMER_STEPS = 40  # of relaxation
_LARGEST_MONOMER = 18  # atoms


@dataclass(frozen=True, eq=False)
class System:
    """A molecule or a complex, with the geometries that everything else begins from."""

    molecule: Chem.Mol  # with hydrogens
    starts: list[NDArray[np.float64]]  # (N, 3) Å each, to be relaxed
    bonds: Connectivity
    listed: dict[str, Any]  # for the manifest
    approaches: tuple[NDArray[np.float64], ...] = ()  # (N, 3) Å each, of a complex: its molecules as they are alone

    @property
    def numbers(self) -> NDArray[np.int64]:
        return atomic_numbers(self.molecule)


def atomic_numbers(molecule: Chem.Mol) -> NDArray[np.int64]:
    """(N,) of all atoms."""
    return np.array([atom.GetAtomicNum() for atom in molecule.GetAtoms()], dtype=np.int64)


class Recipe:
    """The systems of shards, drawn from the list of molecules; the same seed gives the same ones."""

    def __init__(self, molecules: Iterable[Molecule], seed: int) -> None:
        self.seed = seed
        self._molecules = list(molecules)

    def rng(self, split: str, shard: int) -> np.random.Generator:
        """Random numbers of a shard."""
        name = hashlib.sha256(f"{self.seed}/{split}/{shard}".encode()).digest()
        return np.random.default_rng(int.from_bytes(name[:16], "big"))

    def chosen(self, split: str, shard: int) -> list[Molecule]:
        """Molecules of a shard: each family is gone through in a fixed random order, again when it ends."""
        chosen = []
        for family, count in PER_SHARD.items():
            pool = [m for m in self._molecules if m.split == split and m.family == family]
            order = np.random.default_rng(self.seed).permutation(len(pool))
            places = range(shard * count, (shard + 1) * count) if pool else range(0)
            chosen += [pool[order[place % len(pool)]] for place in places]
        return list(dict.fromkeys(chosen))

    def singles(self, split: str, shard: int, rng: np.random.Generator) -> list[System]:
        """The single molecules of a shard; those that RDKit cannot embed are missing."""
        systems = []
        for entry in self.chosen(split, shard):
            molecule, starts = conformers(entry.smiles, _CONFORMERS, int(rng.integers(2**31)))
            if starts:
                listed = {"smiles": entry.smiles, "keys": [entry.key], "split": split, "family": entry.family}
                systems.append(System(molecule, starts, connectivity(molecule), listed))
        return systems

    def complexes(self, split: str, rng: np.random.Generator, evaluate: Evaluate) -> list[System]:
        """The complexes of a shard, of molecules relaxed alone.

        Each holds a molecule of its own split; outside training the others may be training's small ones.
        """
        plans = [plan for family, count in COMPLEXES.items() for plan in self._plans(family, count, split, rng)]
        entries = list(dict.fromkeys(entry for _, members in plans for entry in members))
        monomers = _relaxed(entries, rng, evaluate)
        systems = []
        for family, members in plans:
            if all(entry in monomers for entry in members):
                whole, starts, approaches = _built(family, [monomers[entry] for entry in members], rng)
                listed = {
                    "smiles": ".".join(entry.smiles for entry in members),
                    "keys": [entry.key for entry in members],
                    "split": split,
                    "family": family,
                }
                systems.append(System(whole, starts, connectivity(whole), listed, tuple(approaches)))
        return systems

    def _plans(
        self, family: str, count: int, split: str, rng: np.random.Generator
    ) -> Iterable[tuple[str, list[Molecule]]]:
        own = [m for m in self._molecules if m.split == split and m.atoms <= _LARGEST_MONOMER]
        common = [m for m in self._molecules if m.split == "train" and m.family == "small" and m.atoms <= 12]
        water = [m for m in common if m.smiles == "O"]
        rings = [m for m in own if "1" in m.smiles]
        for _ in range(count):
            if family == "water" and split == "train" and water:
                yield family, water * int(rng.choice([2, 2, 3, 4, 5, 6]))
            elif family == "solvated" and own and water:
                yield family, [_one(own, rng)] + water * int(rng.integers(1, 4))
            elif family == "stack" and rings:
                yield family, [_one(rings, rng), _one(rings, rng)]
            elif family in ("hydrogen bond", "encounter") and own and common:
                yield family, [_one(own, rng), _one(own if rng.random() < 0.5 else common, rng)]


def _one(molecules: Sequence[Molecule], rng: np.random.Generator) -> Molecule:
    return molecules[int(rng.integers(len(molecules)))]


def _relaxed(entries: Sequence[Molecule], rng: np.random.Generator, evaluate: Evaluate) -> dict[Molecule, Monomer]:
    """One relaxed conformer of each molecule that RDKit can embed."""
    embedded: list[tuple[Molecule, Chem.Mol]] = []
    geometries: list[Geometry] = []
    for entry in entries:
        molecule, starts = conformers(entry.smiles, 1, int(rng.integers(2**31)))
        if starts:
            embedded.append((entry, molecule))
            geometries.append((atomic_numbers(molecule), starts[0]))
    if not geometries:
        return {}
    frames = join(geometries)
    positions = relax(evaluate, frames, _MONOMER_STEPS, (_MONOMER_STEPS,))[_MONOMER_STEPS]
    return {entry: (molecule, positions[frames.atoms_of(k)]) for k, (entry, molecule) in enumerate(embedded)}


def _built(
    family: str, monomers: list[Monomer], rng: np.random.Generator
) -> tuple[Chem.Mol, list[NDArray[np.float64]], list[NDArray[np.float64]]]:
    """The complex, geometries near contact, and rigid ones from compressed to nearly apart."""
    starts, approaches = [], []
    if len(monomers) == 2:
        whole = Chem.CombineMols(monomers[0][0], monomers[1][0])
        for _ in range(_STARTS):
            contact, others = poses(family, monomers[0], monomers[1], _APPROACHES, rng)
            starts.append(contact)
            approaches += others
        return whole, starts, approaches
    for _ in range(_STARTS):
        whole, positions = cluster(monomers, rng)
        starts.append(positions)
        approaches += [_spread_out(monomers, positions, rng.uniform(0.9, 1.8)) for _ in range(_APPROACHES)]
    return whole, starts, approaches


def _spread_out(monomers: list[Monomer], positions: NDArray[np.float64], factor: float) -> NDArray[np.float64]:
    """The complex with the centers of its molecules further from each other by a factor."""
    moved, first = positions.copy(), 0
    for molecule, _ in monomers:
        atoms = slice(first, first + molecule.GetNumAtoms())
        moved[atoms] += (factor - 1) * positions[atoms].mean(0)
        first = atoms.stop
    return moved
