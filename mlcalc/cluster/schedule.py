"""Chunks given out to workers that may die, until each structure has a result or a reason why not."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from mlcalc.cluster.worker import Chunk, Outcome, Work
from mlcalc.md_protocols.errors import EvaluationError

__all__ = ["LostClusterError", "outcomes"]

_RETRIES = 2  # of errors that may be those of one worker, such as a broken GPU
_AHEAD = 2  # chunks per thread that are with the scheduler at once
_PARTS = 8  # into which a chunk is cut whose workers died


class LostClusterError(EvaluationError):
    """A cluster whose scheduler went away, or forgot what it was asked for."""


def outcomes(client: Any, work: Work, chunks: Iterator[Chunk]) -> Iterator[Outcome]:
    """The outcome of every chunk, or of its parts, as they come.

    The scheduler gives the chunk of a dead worker to another one, and gives up after `allowed-failures` such deaths.
    Then the chunk is cut, so that all but the structure that kills get their results.  A single structure whose
    workers died gets one more trial when nothing else is running that could be to blame, before it is named.
    """
    flight = _Flight(client, work)
    suspects: deque[Chunk] = deque()
    parts: deque[Chunk] = deque()
    try:
        while True:
            while flight.has_room() and (chunk := parts.popleft() if parts else next(chunks, None)) is not None:
                flight.submit(chunk)
            if flight.is_empty():
                break
            chunk, outcome = flight.landed()
            if isinstance(outcome, Outcome):
                yield outcome
            elif len(chunk.places) == 1:
                suspects.append(chunk)
            else:
                parts.extend(chunk.split(_PARTS))
        for chunk in suspects:
            flight.submit(chunk)
            _, outcome = flight.landed()
            yield outcome if isinstance(outcome, Outcome) else Outcome(failures={chunk.places[0]: _killer(chunk)})
    finally:
        flight.cancel()


class _Flight:
    """The chunks that are with the scheduler."""

    def __init__(self, client: Any, work: Work) -> None:
        self._client, self._work = client, work
        self._running: dict[Any, Chunk] = {}  # by their futures
        self._landing = import_module("distributed").as_completed(loop=client.loop)

    def has_room(self) -> bool:
        """Whether workers could do with more; there may be none yet, or more than before."""
        threads: int = sum(self._client.nthreads().values())
        return len(self._running) < max(2, _AHEAD * threads)

    def is_empty(self) -> bool:
        return not self._running

    def submit(self, chunk: Chunk) -> None:
        # impure: a key made of the arguments would give the results of an earlier call, or of its dead workers
        future = self._client.submit(self._work, chunk, pure=False, retries=_RETRIES)
        self._running[future] = chunk
        self._landing.add(future)

    def landed(self) -> tuple[Chunk, Outcome | None]:
        """The next chunk that is done, with its outcome: None where its workers died.  Other errors are raised."""
        future = next(self._landing)
        chunk = self._running.pop(future)
        if future.status == "finished":
            outcome: Outcome = future.result()
            return chunk, outcome
        if future.status != "error":
            raise LostClusterError(
                f"the cluster dropped the task of structures {chunk.places[0]} to {chunk.places[-1]} "
                f"({future.status}): its scheduler was restarted or is gone",
                remedies=["connect a new client and repeat the call, which continues where it has an output folder"],
            )
        error = future.exception()
        if isinstance(error, import_module("distributed").KilledWorker):
            return chunk, None
        raise error

    def cancel(self) -> None:
        """Take back what nobody waits for any more."""
        if self._running:
            self._client.cancel(list(self._running), force=True)
        self._running.clear()


def _killer(chunk: Chunk) -> EvaluationError:
    atoms = chunk.structures[0]
    return EvaluationError(
        f"structure {chunk.places[0]} ({len(atoms)} atoms, {atoms.symbols}): all workers that tried to evaluate it "
        "died, also with nothing else running; most often memory is short",
        remedies=["look at the workers' logs, and give them more memory", "leave the structure out of the list"],
    )
