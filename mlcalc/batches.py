"""Many validated structures, handed to a model in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from ase import Atoms

from mlcalc.cautions import Cautions
from mlcalc.engine import Engine, check_distance
from mlcalc.errors import ConfigError, NonFiniteResultError, OutOfMemoryError, StructureError
from mlcalc.graphs import validated_graph
from mlcalc.models import Graph

_Result = TypeVar("_Result")
Compute = Callable[[Sequence[Graph]], list[_Result]]


class Batches:
    """Batches of about so many edges for one model, whose errors and warnings name the structure."""

    def __init__(
        self, engine: Engine, edges_per_batch: int, neighbor_backend: str, min_distance: float, max_edges: int
    ) -> None:
        if edges_per_batch < 1:
            raise ConfigError(f"edges_per_batch is {edges_per_batch}: it must be at least 1")
        check_distance(min_distance)
        self._scope, self._edges_per_batch = engine.scope, edges_per_batch
        self._cautions = Cautions.of(engine.potential)
        self._backend, self._min_distance, self._max_edges = neighbor_backend, min_distance, max_edges

    def map(
        self,
        compute: Compute[_Result],
        structures: Sequence[Atoms],
        *,
        check: Callable[[Atoms], None] | None = None,
        names: Sequence[str] | None = None,
        progress: bool = False,
    ) -> list[_Result]:
        """One result per structure, in order; `compute` gets the graphs of a batch, `check` each structure first."""
        from tqdm import tqdm

        if isinstance(structures, Atoms):
            raise ConfigError("a list of structures is expected: pass [atoms]")
        names = [f"structure {index}" for index in range(len(structures))] if names is None else names
        results: list[_Result] = []
        with tqdm(total=len(structures), disable=not progress, desc="evaluate", unit="structure") as bar:
            for graphs in self._batches(structures, names, check):
                results.extend(_computed(compute, graphs, names[len(results) :]))
                bar.update(len(graphs))
        return results

    def _batches(
        self, structures: Sequence[Atoms], names: Sequence[str], check: Callable[[Atoms], None] | None
    ) -> Iterator[list[Graph]]:
        pending: list[Graph] = []
        n_edges = 0
        for atoms, name in zip(structures, names, strict=True):
            graph = self._graph(atoms, name, check)
            if pending and n_edges + graph.edges.shape[1] > self._edges_per_batch:
                yield pending
                pending, n_edges = [], 0
            pending.append(graph)
            n_edges += graph.edges.shape[1]
        if pending:
            yield pending

    def _graph(self, atoms: Atoms, name: str, check: Callable[[Atoms], None] | None) -> Graph:
        try:
            if check is not None:
                check(atoms)
            graph = validated_graph(
                atoms,
                self._scope,
                backend=self._backend,
                min_distance=self._min_distance,
                max_edges=self._max_edges,
            )
        except StructureError as error:
            raise type(error)(f"{name}: {error}") from error
        self._cautions.tell(atoms, graph, dynamics=False, where=f"{name}: ")
        return graph


def _computed(compute: Compute[_Result], graphs: Sequence[Graph], names: Sequence[str]) -> list[_Result]:
    try:
        return compute(graphs)
    except (NonFiniteResultError, OutOfMemoryError) as error:
        if len(graphs) == 1:
            raise type(error)(f"{names[0]}: {error}") from error
    # which one it is, or, for memory, smaller pieces
    return [_computed(compute, [graph], [name])[0] for graph, name in zip(graphs, names, strict=False)]
