"""Many validated structures, handed to a model in batches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from ase import Atoms

from mlcalc.engine.cautions import Cautions
from mlcalc.engine.engine import Engine, check_distance
from mlcalc.errors import NonFiniteResultError, OutOfMemoryError, StructureError
from mlcalc.graphs.graphs import GraphSeries
from mlcalc.graphs.neighbors import NeighborList
from mlcalc.md_protocols.errors import ConfigError
from mlcalc.memory import largest_system
from mlcalc.models import Graph

_Result = TypeVar("_Result")
_Key = tuple[int, bytes, bytes, bytes]
Compute = Callable[[Sequence[Graph]], list[_Result]]
Batch = list[tuple[int, Graph]]  # places in the list of structures, graphs

SKIN = 1.0  # Å, where structures differ by displacements
_TRIED = 4  # structures after which lists that never serve twice are given up
_LARGEST = {"cpu": 20_000, "cuda": 1_000_000}  # edges: more at once is no faster
_CACHED = 2**27  # bytes of a call on a CPU: fresh pages beyond cost more than the calls saved
_EDGES_PER_ATOM = 20.0


def edges_per_batch(engine: Engine) -> int:
    """How many edges at once are fastest on the path of the engine, and fit into a quarter of the memory."""
    most = _LARGEST.get(engine.device.type, _LARGEST["cpu"])
    room = engine.available_memory() / 4
    if engine.device.type == "cpu":
        room = min(room, _CACHED)
    atoms = largest_system(engine.memory, _EDGES_PER_ATOM, room)
    return max(1, min(most, int(_EDGES_PER_ATOM * atoms))) if engine.memory(1000, 20_000) else most


class Batches:
    """Batches of about so many edges for one model, whose errors and warnings name the structure.

    edges: the budget of a batch; None for what is fastest on the engine's path.
    """

    def __init__(
        self, engine: Engine, edges: int | None, neighbor_backend: str, min_distance: float, max_edges: int
    ) -> None:
        if edges is not None and not (isinstance(edges, int) and not isinstance(edges, bool) and edges >= 1):
            raise ConfigError(
                f"edges_per_batch is {edges!r}: it must be a whole number of at least 1",
                setting="edges_per_batch",
                value=edges,
                limit=1,
            )
        check_distance(min_distance)
        self._scope, self._edges = engine.scope, edges_per_batch(engine) if edges is None else edges
        self._cautions = Cautions.of(engine.potential)
        self._backend, self._min_distance, self._max_edges = neighbor_backend, min_distance, max_edges
        self._neighbors(0.0)  # an error in the settings is told before there is a structure to name

    def map(
        self,
        compute: Compute[_Result],
        structures: Iterable[Atoms],
        *,
        check: Callable[[Atoms], None] | None = None,
        names: Sequence[str] | None = None,
        progress: bool = False,
    ) -> list[_Result]:
        """One result per structure, in order; `compute` gets the graphs of a batch, `check` each structure first.

        Structures of one size come together, whatever their order in the list.
        """
        from tqdm import tqdm

        if isinstance(structures, Atoms):
            raise ConfigError("a list of structures is expected", setting="structures", remedies=["pass [atoms]"])
        structures = list(structures)
        for index, atoms in enumerate(structures):
            if not isinstance(atoms, Atoms):
                raise ConfigError(f"structure {index} is {atoms!r}: it must be ase.Atoms")
        if names is not None and len(names) != len(structures):
            raise ConfigError(
                f"there are {len(names)} names for {len(structures)} structures: give one for each",
                setting="names",
                value=len(names),
                limit=len(structures),
            )
        names = [f"structure {index}" for index in range(len(structures))] if names is None else names
        results: dict[int, _Result] = {}
        with tqdm(total=len(structures), disable=not progress, desc="evaluate", unit="structure") as bar:
            for batch in self._batches(structures, names, check):
                results |= _computed(compute, batch, names)
                bar.update(len(batch))
        return [results[index] for index in range(len(structures))]

    def _batches(
        self, structures: Sequence[Atoms], names: Sequence[str], check: Callable[[Atoms], None] | None
    ) -> Iterator[Batch]:
        pending: Batch = []
        n_edges = 0
        for index, series in self._sorted(structures):
            graph = self._graph(structures[index], series, names[index], check)
            if pending and n_edges + graph.edges.shape[1] > self._edges:
                yield pending
                pending, n_edges = [], 0
            pending.append((index, graph))
            n_edges += graph.edges.shape[1]
        if pending:
            yield pending

    def _sorted(self, structures: Sequence[Atoms]) -> Iterator[tuple[int, GraphSeries]]:
        """Places of the structures by size, those that differ by positions only one after the other."""
        keys = [_key(atoms) for atoms in structures]
        many, first = Counter(keys), {key: index for index, key in reversed(list(enumerate(keys)))}
        last: _Key | None = None
        for index in sorted(range(len(keys)), key=lambda index: (keys[index][0], first[keys[index]], index)):
            if keys[index] != last:
                last, served = keys[index], 0
                neighbors = self._neighbors(SKIN if many[last] > 2 else 0.0)
                series = GraphSeries(self._scope, neighbors, min_distance=self._min_distance)
            elif served == _TRIED and series.neighbors.rebuilds > _TRIED / 2:
                series.neighbors = self._neighbors(0.0)
            served += 1
            yield index, series

    def _neighbors(self, skin: float) -> NeighborList:
        return NeighborList(self._scope.cutoff, skin=skin, backend=self._backend, max_edges=self._max_edges)

    def _graph(self, atoms: Atoms, series: GraphSeries, name: str, check: Callable[[Atoms], None] | None) -> Graph:
        try:
            if check is not None:
                check(atoms)
            graph = series.graph(atoms)
        except (StructureError, OutOfMemoryError) as error:
            raise error.at(name) from error
        self._cautions.tell(atoms, graph, dynamics=False, where=name)
        return graph


def _key(atoms: Atoms) -> _Key:
    """Number of atoms, and what structures share whose lists of neighbors may be alike."""
    return len(atoms), atoms.numbers.tobytes(), atoms.cell.array.tobytes(), atoms.pbc.tobytes()


def _computed(compute: Compute[_Result], batch: Batch, names: Sequence[str]) -> dict[int, _Result]:
    try:
        results = compute([graph for _, graph in batch])
        return {index: result for (index, _), result in zip(batch, results, strict=True)}
    except (NonFiniteResultError, OutOfMemoryError) as error:
        if len(batch) == 1:
            raise error.at(names[batch[0][0]]) from error
    # which one it is, or, for memory, smaller pieces
    middle = len(batch) // 2
    return _computed(compute, batch[:middle], names) | _computed(compute, batch[middle:], names)
