"""Many structures evaluated by the workers of a Dask cluster."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from ase import Atoms

from mlcalc.cluster.schedule import LostClusterError, outcomes
from mlcalc.cluster.store import ResultStore
from mlcalc.cluster.worker import Chunk, Factory, Work
from mlcalc.errors import MissingExtraError
from mlcalc.evaluation import Evaluation
from mlcalc.factory import CalculatorFactory
from mlcalc.md_protocols import checks
from mlcalc.md_protocols.errors import ConfigError, EvaluationError, PhysicsWarning
from mlcalc.md_protocols.progress import CountBar

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["ClusterEvaluationError", "LostClusterError", "evaluate_on_cluster", "local_cluster"]

_FEWEST, _MOST = 100, 20_000  # atoms of a chunk: less is mostly overhead, more is no faster and more to lose
_CHUNKS_PER_THREAD = 4  # so that workers end at about the same time
_NAMED = 5  # failures told in full


class ClusterEvaluationError(EvaluationError):
    """Structures that could not be evaluated, while the others were.

    failures: the error of each of them, by its place; results: one per structure, None for those that failed.
    """

    def __init__(
        self,
        text: str = "",
        failures: Mapping[int, Exception] | None = None,
        results: Sequence[Evaluation | None] = (),
        **known: Any,
    ) -> None:
        super().__init__(text, results, **known)
        self.failures = dict(failures or {})


def evaluate_on_cluster(
    factory: Factory | str | os.PathLike[str],
    structures: Iterable[Atoms],
    *,
    client: Client | None = None,
    forces: bool = True,
    stress: bool = False,
    batch: int | None = None,
    output: str | os.PathLike[str] | None = None,
    errors: str = "raise",
    progress: bool | None = False,
) -> list[Evaluation]:
    """One Evaluation per structure, in order, as `mlcalc.evaluate` gives, computed by the workers of a Dask cluster.

    factory: a CalculatorFactory, or a bundled name or model file for one with MLCalculator's defaults.
    client: a distributed.Client; None starts a process per core on this machine, for this call.
    batch: atoms sent to a worker at once; None chooses by the number of atoms and workers.
    output: a folder that keeps the results as they come; the same call continues what is missing there.
    errors: "raise" to raise ClusterEvaluationError after everything else is done where structures fail (outside what
    the model takes, results that are not finite, or more workers died on them than the scheduler allows); "return" to
    have the exception in the place of its result.

    As `evaluate` of the protocols: functools.partial(evaluate_on_cluster, factory, client=client).

    Raises LostClusterError where the scheduler goes away, what `factory()` raises where that fails on the workers, and
    ConfigError, SimulationError or ResultFileError for the settings and the folder.
    """
    _distributed()
    made = CalculatorFactory(factory) if isinstance(factory, str | os.PathLike) else factory
    listed = _checked(made, structures, client)
    checks.choice("errors", errors, ("raise", "return"))
    size = None if batch is None else checks.whole("batch", batch, at_least=1)
    about = {"calculator": made.describe(), "forces": bool(forces), "stress": bool(stress)}
    failures: dict[int, Exception] = {}
    with ExitStack() as stack:
        store = None if output is None else stack.enter_context(ResultStore(output, listed, about))
        results = {} if store is None else dict(store.results)
        left = [place for place in range(len(listed)) if place not in results]
        if left:
            used = stack.enter_context(local_cluster()) if client is None else client
            bar = stack.enter_context(CountBar(progress, len(listed), "evaluate", "structure"))
            bar.advance(len(results))
            said: set[str] = set()
            for outcome in outcomes(used, Work(made, forces, stress), _chunks(listed, left, size, used)):
                if store is not None:
                    store.add(outcome.results)
                results |= outcome.results
                failures |= outcome.failures
                _tell(outcome.cautions, said)
                bar.advance(len(outcome.results) + len(outcome.failures))
    kept = "" if store is None else f". The results of the others are in {store.path}"
    return _ordered(results, failures, len(listed), errors, kept)


@contextmanager
def local_cluster(workers: int | None = None) -> Iterator[Client]:
    """A Dask client of so many worker processes on this machine (None: one per core), ended with the block.

    They listen on the loopback interface only, without a dashboard, and take commands only from this client, by TLS
    with keys made for the occasion: without them every user of the machine could run programs as this one.
    """
    distributed = _distributed()
    import dask

    count = _cores() if workers is None else checks.whole("workers", workers, at_least=1)
    try:
        security = distributed.Security.temporary()
    except ImportError as error:
        raise MissingExtraError(f"local_cluster needs cryptography ({error}): pip install 'mlcalc[cluster]'") from error
    settings: dict[str, Any] = {"processes": True, "threads_per_worker": 1, "host": "127.0.0.1"}
    # None alone would leave its server on a fixed port
    settings |= {"dashboard_address": None, "scheduler_kwargs": {"dashboard_address": "127.0.0.1:0"}}
    no_pages: dict[str, Any] = {"distributed.scheduler.http.routes": [], "distributed.worker.http.routes": []}
    with (
        dask.config.set(no_pages),  # the servers of the dashboard start in any case, and know no keys
        distributed.LocalCluster(n_workers=count, protocol="tls", security=security, **settings) as cluster,
        distributed.Client(cluster, security=security) as client,
    ):
        yield client


def _distributed() -> Any:
    try:
        import distributed
    except ImportError as error:
        raise MissingExtraError(f"a cluster needs dask.distributed ({error}): pip install 'mlcalc[cluster]'") from error
    return distributed


def _cores() -> int:
    from dask.system import CPU_COUNT

    return max(1, int(CPU_COUNT))  # what the process may use, limits of containers included


def _checked(factory: Any, structures: Iterable[Atoms], client: Any) -> list[Atoms]:
    if not (callable(factory) and hasattr(factory, "describe")):
        raise ConfigError(
            f"factory is a {type(factory).__name__}, which is not sent to workers: give CalculatorFactory(model, "
            "device=..., dtype=...), where the model is a bundled name or a file written by save_model"
        )
    if isinstance(structures, Atoms):
        raise ConfigError("a list of structures is expected: pass [atoms]")
    listed = list(structures)
    for place, atoms in enumerate(listed):
        if not isinstance(atoms, Atoms):
            raise ConfigError(f"structure {place} is {atoms!r}: it must be ase.Atoms")
    if client is not None and (not isinstance(client, _distributed().Client) or client.asynchronous):
        raise ConfigError(f"client is {client!r}: give a distributed.Client made without asynchronous=True, or None")
    return listed


def _chunks(structures: Sequence[Atoms], places: Sequence[int], size: int | None, client: Any) -> Iterator[Chunk]:
    """The places in chunks of about `size` atoms, in order."""
    if size is None:
        threads = max(1, sum(client.nthreads().values()))
        atoms = sum(len(structures[place]) for place in places)
        size = min(_MOST, max(_FEWEST, atoms // (_CHUNKS_PER_THREAD * threads)))
    pending: list[int] = []
    filled = 0
    for place in places:
        if pending and filled + len(structures[place]) > size:
            yield Chunk.of(pending, structures)
            pending, filled = [], 0
        pending.append(place)
        filled += len(structures[place])
    yield Chunk.of(pending, structures)


def _tell(cautions: Sequence[str], said: set[str]) -> None:
    """Each caution once, whichever structure and worker met it first."""
    for text in cautions:
        what = text.partition(": ")[2]
        if what[:40] not in said:  # the rest may hold numbers of the structure
            said.add(what[:40])
            warnings.warn(text, PhysicsWarning, stacklevel=3)


def _ordered(
    results: dict[int, Evaluation], failures: dict[int, Exception], count: int, errors: str, kept: str
) -> list[Evaluation]:
    if not failures:
        return [results[place] for place in range(count)]
    if errors == "return":
        mixed: list[Any] = [failures.get(place) or results[place] for place in range(count)]
        return mixed
    first = sorted(failures)[:_NAMED]
    more = f"; and structures {checks.listed(sorted(failures)[_NAMED:])}" if len(failures) > _NAMED else ""
    raise ClusterEvaluationError(
        f"{len(failures)} of {count} structures could not be evaluated: "
        f"{'; '.join(str(failures[place]) for place in first)}{more}{kept}",
        failures,
        [results.get(place) for place in range(count)],
    )
