"""Many structures at once."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray

from mlcalc.engine import Engine, check_distance
from mlcalc.errors import ConfigError, NonFiniteResultError, OutOfMemoryError, StructureError
from mlcalc.graphs import graph_from_pairs
from mlcalc.model_file import load_model
from mlcalc.models import Graph, Potential, Prediction, join_graphs
from mlcalc.neighbors import DEFAULT_MAX_EDGES, neighbor_pairs
from mlcalc.validation import MIN_DISTANCE, check_overlap, resolve_cell, validate_structure


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a potential says of one structure."""

    energy: float  # eV
    energies: NDArray[np.float64]  # (N,) eV
    forces: NDArray[np.float64] | None = None  # (N, 3) eV/Å
    stress: NDArray[np.float64] | None = None  # (6,) eV/Å^3, ASE sign, Voigt order xx, yy, zz, yz, xz, xy


def evaluate(
    model: str | os.PathLike[str] | Potential,
    structures: Sequence[Atoms],
    *,
    forces: bool = True,
    stress: bool = False,
    device: str | torch.device = "cpu",
    dtype: str = "float64",
    edges_per_batch: int = 20_000,
    neighbor_backend: str = "matscipy",
    min_distance: float = MIN_DISTANCE,
    max_edges: int = DEFAULT_MAX_EDGES,
    names: Sequence[str] | None = None,
    progress: bool = False,
) -> list[Evaluation]:
    """One Evaluation per structure, in order, computed in batches of about `edges_per_batch` edges.

    Batches only save time: no structure sees another one, and one that does not fit into memory is computed structure
    by structure.  Errors are those of MLCalculator, beginning with the structure's name (by default its place in the
    list); only stress of a structure that is not periodic is a StructureError here.
    """
    from tqdm import tqdm

    if isinstance(structures, Atoms):
        raise ConfigError("evaluate takes a list of structures: pass [atoms]")
    if edges_per_batch < 1:
        raise ConfigError(f"edges_per_batch is {edges_per_batch}: it must be at least 1")
    potential: Potential = load_model(model) if isinstance(model, str | os.PathLike) else model
    engine = Engine(potential, device=device, dtype=dtype)
    check_distance(min_distance)
    names = [f"structure {index}" for index in range(len(structures))] if names is None else names
    results: list[Evaluation] = []
    pending: list[Graph] = []
    n_edges = 0
    with tqdm(total=len(structures), disable=not progress, desc="evaluate", unit="structure") as bar:

        def flush() -> None:
            results.extend(_evaluated(engine, pending, names[len(results) :], forces=forces, stress=stress))
            bar.update(len(pending))
            pending.clear()

        for index, atoms in enumerate(structures):
            try:
                graph = _validated_graph(
                    atoms,
                    engine,
                    stress=stress,
                    backend=neighbor_backend,
                    min_distance=min_distance,
                    max_edges=max_edges,
                )
            except StructureError as error:
                raise type(error)(f"{names[index]}: {error}") from error
            if pending and n_edges + graph.edges.shape[1] > edges_per_batch:
                flush()
                n_edges = 0
            pending.append(graph)
            n_edges += graph.edges.shape[1]
        if pending:
            flush()
    return results


def _evaluated(
    engine: Engine, graphs: Sequence[Graph], names: Sequence[str], *, forces: bool, stress: bool
) -> list[Evaluation]:
    try:
        return list(_split(engine.evaluate(join_graphs(graphs), forces=forces, stress=stress), graphs))
    except (NonFiniteResultError, OutOfMemoryError) as error:
        if len(graphs) == 1:
            raise type(error)(f"{names[0]}: {error}") from error
    parts = zip(graphs, names, strict=False)  # which one it is, or, for memory, smaller pieces
    return [_evaluated(engine, [graph], [name], forces=forces, stress=stress)[0] for graph, name in parts]


def _validated_graph(
    atoms: Atoms, engine: Engine, *, stress: bool, backend: str, min_distance: float, max_edges: int
) -> Graph:
    validate_structure(atoms, elements=engine.elements, min_distance=min_distance)
    if stress and not atoms.pbc.all():
        raise StructureError(
            f"stress needs a structure periodic in all directions, this one has pbc = {atoms.pbc.tolist()}: "
            "ask for it without stress, or set pbc and a cell"
        )
    cell, pbc = resolve_cell(atoms)
    positions = np.asarray(atoms.positions, dtype=np.float64)
    pairs = neighbor_pairs(positions, cell, pbc, engine.cutoff, backend=backend, max_edges=max_edges)
    check_overlap(pairs, positions, cell, min_distance=min_distance)
    return graph_from_pairs(atoms.numbers, positions, cell, pairs)


def _split(result: Prediction, graphs: Sequence[Graph]) -> Iterator[Evaluation]:
    first = 0
    for k, graph in enumerate(graphs):
        atoms = slice(first, first + len(graph.numbers))
        first = atoms.stop
        yield Evaluation(
            energy=float(result.energy[k]),
            energies=result.energies[atoms].numpy().copy(),
            forces=None if result.forces is None else result.forces[atoms].numpy().copy(),
            stress=None if result.stress is None else result.stress[k].numpy().copy(),
        )
