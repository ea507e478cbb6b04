"""Small seeded structures for the model laws, and their graphs from ASE's neighbor list."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle, islice

import numpy as np
import torch
from ase import Atoms
from ase.data import atomic_numbers, covalent_radii
from ase.geometry import get_distances
from ase.neighborlist import primitive_neighbor_list
from numpy.typing import NDArray

from mlcalc.models import Graph, join_graphs

SKEWED = np.array([[1.0, 0.0, 0.0], [0.31, 0.96, 0.0], [-0.22, 0.27, 1.04]])  # rows; a triclinic unit of shape


def graph_of(structures: Atoms | Sequence[Atoms], cutoff: float) -> Graph:
    """Graph of one or more structures whose edges come from ASE, independently of the project's own lists."""
    if isinstance(structures, Atoms):
        return _single_graph(structures, cutoff)
    return join_graphs([_single_graph(atoms, cutoff) for atoms in structures])


def _single_graph(atoms: Atoms, cutoff: float) -> Graph:
    cell, positions = np.array(atoms.cell), atoms.positions
    i, j, shifts = primitive_neighbor_list("ijS", atoms.pbc, cell, positions, cutoff)
    order = np.lexsort((shifts[:, 2], shifts[:, 1], shifts[:, 0], j, i))
    return Graph(
        numbers=torch.tensor(atoms.numbers, dtype=torch.int64),
        positions=torch.tensor(positions, dtype=torch.float64),
        cell=torch.tensor(cell, dtype=torch.float64)[None],
        edges=torch.tensor(np.stack([i, j])[:, order], dtype=torch.int64),
        shifts=torch.tensor(shifts[order], dtype=torch.float64),
        batch=torch.zeros(len(atoms), dtype=torch.int64),
    )


def _radii(symbols: Sequence[str]) -> NDArray[np.float64]:
    """Covalent radii (Å), those of light elements enlarged: at random angles, atoms at bond lengths are absurd."""
    return np.array([max(covalent_radii[atomic_numbers[symbol]], 1.1) for symbol in symbols])


def contact(elements: Sequence[str], factor: float = 0.85) -> float:
    """Mean distance (Å) at which atoms of these elements touch, times a factor."""
    return factor * 2 * float(_radii(elements).mean())


def _fill(symbols: Sequence[str], rng: np.random.Generator, cell: NDArray[np.float64], periodic: bool) -> Atoms:
    """Random atoms in the cell, none closer than 0.85 of the sum of two radii."""
    radii = _radii(symbols)
    box = {"cell": cell, "pbc": True} if periodic else {}
    for _ in range(200):
        positions: list[NDArray[np.float64]] = []
        for _ in range(3000):
            trial = rng.uniform(size=3) @ cell
            placed = np.array([*positions, trial])
            _, distances = get_distances(placed[-1:], placed[:-1], cell=cell, pbc=periodic) if positions else (0, 0)
            limits = 0.85 * (radii[len(positions)] + radii[: len(positions)])
            if np.all(np.ravel(distances) > limits):
                positions.append(trial)
                if len(positions) == len(symbols):
                    return Atoms(symbols, positions=positions, **box)
    raise RuntimeError("no room for the atoms: enlarge the cell")


def cluster(elements: Sequence[str], *, atoms: int = 7, seed: int = 1) -> Atoms:
    """A dense random molecule without a cell."""
    symbols = list(islice(cycle(elements), atoms))
    edge = contact(elements) * (2.2 * atoms) ** (1 / 3)
    return _fill(symbols, np.random.default_rng(seed), edge * np.eye(3), periodic=False)


def crystal(elements: Sequence[str], *, atoms: int = 5, seed: int = 2) -> Atoms:
    """A dense random triclinic crystal."""
    symbols = list(islice(cycle(elements), atoms))
    edge = contact(elements) * (1.9 * atoms) ** (1 / 3)
    return _fill(symbols, np.random.default_rng(seed), edge * SKEWED, periodic=True)


def primitive(elements: Sequence[str]) -> Atoms:
    """One atom in a skewed cell a good deal smaller than any cutoff: all its neighbors are its own images."""
    edge = contact(elements[-1:], 1.0)
    return Atoms(elements[-1:], positions=[[0.1, 0.2, 0.3]], cell=edge * SKEWED, pbc=True)


def samples(elements: Sequence[str]) -> list[Atoms]:
    """A molecule, a crystal and a one-atom cell."""
    return [cluster(elements), crystal(elements), primitive(elements)]


def slab(elements: Sequence[str]) -> Atoms:
    """A layer that is periodic in two directions and has no third cell vector."""
    layer = crystal(elements)
    cell = np.array(layer.cell)
    cell[2] = 0
    layer.set_cell(cell)
    layer.pbc = (True, True, False)
    return layer


def crowd(elements: Sequence[str], cutoff: float) -> Atoms:
    """An atom with 40 neighbors within the cutoff, spread evenly over a sphere along a spiral."""
    turns = np.arange(40)
    height, angle = 1 - (2 * turns + 1) / 40, turns * np.pi * (1 + 5**0.5)
    rim = np.sqrt(1 - height**2)
    shell = 0.7 * cutoff * np.stack([rim * np.cos(angle), rim * np.sin(angle), height], axis=1)
    return Atoms(list(islice(cycle(elements), 41)), positions=np.concatenate([np.zeros((1, 3)), shell]))


def cubic(elements: Sequence[str]) -> Atoms:
    """Perfect fcc (one element) or rocksalt (two): every atom is an inversion center."""
    a = 2 * contact(elements[:2], 1.0) / (1 if len(elements) > 1 else 2**0.5)
    face = np.array([[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0]]) / 2
    sites = face if len(elements) == 1 else np.concatenate([face, face + [0.5, 0, 0]])
    symbols = [elements[0]] * 4 + list(elements[1:2]) * 4
    return Atoms(symbols, scaled_positions=sites % 1, cell=a * np.eye(3), pbc=True)


def linear(elements: Sequence[str]) -> Atoms:
    """A straight symmetric molecule of three atoms along no axis in particular."""
    arm = contact([elements[0], elements[-1]], 1.1) * np.array([2.0, -1.0, 2.0]) / 3
    return Atoms([elements[-1], elements[0], elements[-1]], positions=[-arm, 0 * arm, arm])
