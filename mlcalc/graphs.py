"""From ASE's Atoms to the networks' Graph."""

from __future__ import annotations

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray

from mlcalc.models import Graph
from mlcalc.neighbors import DEFAULT_MAX_EDGES, NeighborPairs, neighbor_pairs
from mlcalc.scope import Scope
from mlcalc.validation import MIN_DISTANCE, check_overlap, resolve_cell, validate_structure


def validated_graph(
    atoms: Atoms,
    scope: Scope,
    *,
    backend: str = "matscipy",
    min_distance: float = MIN_DISTANCE,
    max_edges: int | None = DEFAULT_MAX_EDGES,
) -> Graph:
    """Graph of one structure on which a model of this scope is defined; else the StructureError that says why not."""
    validate_structure(atoms, elements=scope.elements, min_distance=min_distance)
    cell, pbc = resolve_cell(atoms)
    scope.check_pbc(pbc)
    positions = np.asarray(atoms.positions, dtype=np.float64)
    pairs = neighbor_pairs(positions, cell, pbc, scope.cutoff, backend=backend, max_edges=max_edges)
    check_overlap(pairs, positions, cell, min_distance=min_distance)
    graph = graph_from_pairs(atoms.numbers, positions, cell, pairs)
    scope.check_images(graph)
    return graph


def atoms_to_graph(
    atoms: Atoms, cutoff: float, *, backend: str = "matscipy", max_edges: int | None = DEFAULT_MAX_EDGES
) -> Graph:
    """Graph of one structure with all its edges within the cutoff (Å); the structure must have been validated."""
    cell, pbc = resolve_cell(atoms)
    positions = np.asarray(atoms.positions, dtype=np.float64)
    pairs = neighbor_pairs(positions, cell, pbc, cutoff, backend=backend, max_edges=max_edges)
    return graph_from_pairs(atoms.numbers, positions, cell, pairs)


def graph_from_pairs(
    numbers: NDArray[np.integer], positions: NDArray[np.float64], cell: NDArray[np.float64], pairs: NeighborPairs
) -> Graph:
    """Graph of one structure from its neighbor pairs; arrays are copied."""
    return Graph(
        numbers=torch.tensor(numbers, dtype=torch.int64),
        positions=torch.tensor(positions, dtype=torch.float64),
        cell=torch.tensor(cell, dtype=torch.float64)[None],
        edges=torch.from_numpy(np.stack([pairs.i, pairs.j]).astype(np.int64, copy=False)),
        shifts=torch.from_numpy(pairs.shifts.astype(np.float64)),
        batch=torch.zeros(len(numbers), dtype=torch.int64),
    )
