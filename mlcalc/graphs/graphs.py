"""From ASE's Atoms to the networks' Graph."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray
from torch import Tensor

from mlcalc.errors import OutOfMemoryError
from mlcalc.graphs.neighbors import DEFAULT_MAX_EDGES, NeighborList, neighbor_pairs
from mlcalc.graphs.pairs import NeighborPairs
from mlcalc.graphs.search import expected_edges, search_box
from mlcalc.graphs.snapshot import same_numbers
from mlcalc.graphs.validation import MIN_DISTANCE, check_moved, check_overlap, resolve_cell, validate_structure
from mlcalc.memory import available_memory, is_out_of_memory
from mlcalc.models import Graph
from mlcalc.scope import Scope


class GraphSeries:
    """Graphs of structures that resemble each other, such as the steps of a run.

    Only what has changed since the structure before is checked and made again; the graphs and the errors are those of
    `validated_graph`, whatever came before.  One instance serves one thread; copies are independent.
    """

    def __init__(self, scope: Scope, neighbors: NeighborList, *, min_distance: float = MIN_DISTANCE) -> None:
        self.scope, self.neighbors, self.min_distance = scope, neighbors, min_distance
        self._frame: _Frame | None = None

    def graph(self, atoms: Atoms) -> Graph:
        """Graph of one structure on which a model of this scope is defined; else the StructureError that says why."""
        frame, scope = self._frame, self.scope
        if frame is not None and frame.holds(atoms):
            check_moved(atoms)
        else:
            self._frame = None  # an error below must not leave an outdated one
            validate_structure(atoms, elements=scope.elements, min_distance=self.min_distance)
            scope.check_pbc(atoms.pbc)
            frame = self._frame = _Frame.of(atoms)
        positions = np.array(atoms.arrays["positions"], dtype=np.float64, order="C")
        try:
            edges = self.neighbors.edges(positions, frame.cell, frame.pbc, frame.numbers)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            raise _list_too_large(positions, frame, self.neighbors) from error
        if edges.shortest < self.min_distance:
            check_overlap(edges.pairs(), positions, frame.cell, min_distance=self.min_distance)
        graph = Graph(
            numbers=frame.number_tensor,
            positions=torch.from_numpy(positions),
            cell=frame.cell_tensor,
            edges=edges.edges,
            shifts=edges.shifts,
            batch=frame.batch,
        )
        if not scope.periodic:
            scope.check_images(graph)
        return graph


@dataclass(frozen=True, eq=False)
class _Frame:
    """What seldom changes along a run, checked, as arrays and as tensors."""

    numbers: NDArray[np.integer]
    cell: NDArray[np.float64]
    pbc: NDArray[np.bool_]
    number_tensor: Tensor
    cell_tensor: Tensor
    batch: Tensor

    @classmethod
    def of(cls, atoms: Atoms) -> _Frame:
        cell, pbc = resolve_cell(atoms)
        numbers = atoms.numbers.copy()
        return cls(
            numbers,
            cell,
            pbc,
            torch.tensor(numbers, dtype=torch.int64),
            torch.tensor(cell, dtype=torch.float64)[None],
            torch.zeros(len(numbers), dtype=torch.int64),
        )

    def holds(self, atoms: Atoms) -> bool:
        """Whether the structure differs by positions and velocities at most."""
        return (
            same_numbers(atoms.arrays["numbers"], self.numbers)
            and same_numbers(atoms.cell.array, self.cell)
            and same_numbers(atoms.pbc, self.pbc)
        )


def _list_too_large(positions: NDArray[np.float64], frame: _Frame, neighbors: NeighborList) -> OutOfMemoryError:
    edges = expected_edges(search_box(positions, frame.cell, frame.pbc, neighbors.cutoff), neighbors.cutoff)
    return OutOfMemoryError(
        f"the list of neighbors of {len(positions)} atoms, about {edges:.2g} edges within {neighbors.cutoff:g} Å, does "
        f"not fit into memory: {available_memory(torch.device('cpu')) / 2**30:.3g} GiB are available",
        remedies=["take a smaller structure", "take a machine with more memory"],
    )


def validated_graph(
    atoms: Atoms,
    scope: Scope,
    *,
    backend: str = "matscipy",
    min_distance: float = MIN_DISTANCE,
    max_edges: int | None = DEFAULT_MAX_EDGES,
) -> Graph:
    """Graph of one structure on which a model of this scope is defined; else the StructureError that says why not."""
    neighbors = NeighborList(scope.cutoff, backend=backend, max_edges=max_edges)
    return GraphSeries(scope, neighbors, min_distance=min_distance).graph(atoms)


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
