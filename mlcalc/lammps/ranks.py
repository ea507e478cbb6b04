"""What several processes have to do together, so that none waits for another that has failed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from mlcalc.ground.told_data import told_data, told_keywords
from mlcalc.md_protocols.errors import EvaluationError

_T = TypeVar("_T")
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Array = NDArray[Any]


_AGREED = "_raised_on_all_ranks"


def is_agreed(error: BaseException) -> bool:
    """Whether all ranks raise together with this one, so that none waits for it."""
    return bool(getattr(error, _AGREED, False))


class Ranks:
    """The processes of an mpi4py communicator; every method is called by all of them at the same time."""

    def __init__(self, comm: Any) -> None:
        self.comm, self.rank, self.size = comm, int(comm.rank), int(comm.size)

    def attempt(self, task: Callable[[], _T]) -> _T:
        """What this rank's task gives; an error of any rank is one of all of them.

        The task must not communicate: it may end at any place.
        """
        error: Exception | None = None
        try:
            value = task()
        except Exception as failure:
            error = failure
        if self.size > 1:
            if not self.any(error is not None):
                return value
            told = "" if error is None else json.dumps(told_data(error))
            for rank, text in enumerate(self.comm.allgather(told)):
                if text and error is None:
                    error = _of_rank(rank, json.loads(text))
        if error is not None:
            setattr(error, _AGREED, True)
            raise error
        return value

    def any(self, flag: bool) -> bool:
        """Whether the flag is set anywhere."""
        if self.size == 1:
            return flag
        from mpi4py import MPI

        return bool(self.comm.allreduce(int(flag), op=MPI.MAX))

    def sum(self, values: Floats) -> Floats:
        """Sums over all ranks of arrays of one shape."""
        if self.size == 1:
            return values
        total = np.empty_like(values)
        self.comm.Allreduce(np.ascontiguousarray(values), total)
        return total

    def gather(self, rows: Floats) -> tuple[Floats, Ints]:
        """The rows (n, k) of all ranks one after the other, and how many each had."""
        counts = np.array(self.comm.allgather(len(rows)), dtype=np.int64)
        width = rows.shape[1]
        found = np.empty((int(counts.sum()), width))
        self.comm.Allgatherv(np.ascontiguousarray(rows), [found, (counts * width).tolist()])
        return found, counts

    def send_rows(self, to: Ints, rows: Ints) -> tuple[Ints, Ints]:
        """Rows (n, k) sent to the ranks `to` (n,): those received, by sender, and how many each sent."""
        order = np.argsort(to, kind="stable")
        sent = np.bincount(to, minlength=self.size).astype(np.int64)
        received = np.empty_like(sent)
        self.comm.Alltoall(sent, received)
        width = rows.shape[1]
        found = np.empty((int(received.sum()), width), np.int64)
        self.comm.Alltoallv(
            [np.ascontiguousarray(rows[order]), (sent * width).tolist()], [found, (received * width).tolist()]
        )
        return found, received

    def owners(self, own: Ints, wanted: Ints) -> Ints:
        """Rank and index there (n, 2) of each wanted number, `own` being the numbers of this rank; -1 for none.

        Rank n mod size is the one that knows where number n is: nobody holds a table of all.
        """
        here = np.arange(len(own), dtype=np.int64)
        known, counts = self.send_rows(own % self.size, np.stack([own, here], axis=1))
        holder = np.repeat(np.arange(self.size), counts)
        asked, asked_counts = self.send_rows(wanted % self.size, wanted[:, None])
        answers = np.full((len(asked), 2), -1, np.int64)
        if len(known) and len(asked):
            order = np.argsort(known[:, 0], kind="stable")
            sorted_numbers = known[order, 0]
            at = np.minimum(np.searchsorted(sorted_numbers, asked[:, 0]), len(known) - 1)
            found = sorted_numbers[at] == asked[:, 0]
            answers[found] = np.stack([holder[order[at]], known[order[at], 1]], axis=1)[found]
        asker = np.repeat(np.arange(self.size), asked_counts)
        back, _ = self.send_rows(asker, answers)
        result = np.empty((len(wanted), 2), np.int64)
        result[np.argsort(wanted % self.size, kind="stable")] = back
        return result


class Halo:
    """Atoms of other ranks that this rank needs: where they are, and how numbers go to and fro."""

    def __init__(self, ranks: Ranks, own: Ints, remote: Ints) -> None:
        """own, remote: numbers of the atoms, remote ones without repetition; called by all ranks.

        Raises EvaluationError on all of them where nobody has an atom.
        """
        self._ranks = ranks
        owners = ranks.owners(own, remote)
        ranks.attempt(lambda: _check_found(owners, remote))
        asked, counts = ranks.send_rows(owners[:, 0], owners[:, 1:])
        bounds = np.concatenate([[0], np.cumsum(counts)])
        self._partners: list[tuple[int, Ints, Ints]] = []  # rank, own atoms that it needs, remote atoms that it has
        for rank in range(ranks.size):
            given, taken = asked[bounds[rank] : bounds[rank + 1], 0], np.flatnonzero(owners[:, 0] == rank)
            if len(given) or len(taken):
                self._partners.append((rank, given, taken))

    def fetch(self, arrays: Sequence[Array], own_rows: Ints, remote_rows: Ints) -> None:
        """Fill the rows of remote atoms in arrays (rows, ...) with what their owners have in theirs."""
        for rows, columns in self._exchanged(arrays, own_rows, remote_rows, home=False):
            for array, values in zip(arrays, columns, strict=True):
                array[rows] = values

    def bring_home(self, arrays: Sequence[Array], own_rows: Ints, remote_rows: Ints) -> None:
        """Add the rows that this rank has for remote atoms to those of their owners, and clear them."""
        for rows, columns in self._exchanged(arrays, own_rows, remote_rows, home=True):
            for array, values in zip(arrays, columns, strict=True):
                array[rows] += values  # no row twice: remote atoms are without repetition
        for array in arrays:
            array[remote_rows] = 0

    def _exchanged(
        self, arrays: Sequence[Array], own_rows: Ints, remote_rows: Ints, *, home: bool
    ) -> Iterator[tuple[Ints, list[Array]]]:
        """For each partner the rows to be written and what came for each array, in one message each way."""
        if not self._partners:
            return
        widths = [int(np.prod(array.shape[1:])) for array in arrays]
        kind, comm, pending, landing = arrays[0].dtype, self._ranks.comm, [], []
        for rank, given, taken in self._partners:
            sending, writing = own_rows[given], remote_rows[taken]
            if home:
                sending, writing = writing, sending
            received = np.empty((len(writing), sum(widths)), kind)
            packed = [array[sending].reshape(len(sending), width) for array, width in zip(arrays, widths, strict=True)]
            sent = np.concatenate(packed, axis=1)
            landing.append((writing, received, sent))  # sent must live until it has gone
            pending += [comm.Irecv(received, source=rank), comm.Isend(sent, dest=rank)]
        _wait(pending)
        cuts = np.cumsum(widths)[:-1]
        for rows, received, _ in landing:
            parts = np.split(received, cuts, axis=1)
            shaped = zip(parts, arrays, strict=True)
            yield rows, [part.reshape(len(rows), *array.shape[1:]) for part, array in shaped]


def _of_rank(rank: int, told: Mapping[str, Any]) -> EvaluationError:
    """The error of another rank, with its setting and remedies."""
    return EvaluationError(f"rank {rank}: {' '.join(told['text'].split())}", **told_keywords(told))


def _wait(pending: list[Any]) -> None:
    from mpi4py import MPI

    MPI.Request.Waitall(pending)


def _check_found(owners: Ints, remote: Ints) -> None:
    lost = remote[owners[:, 0] < 0]
    if len(lost):
        raise EvaluationError(
            f"nobody has the atoms with the IDs {lost[:8].tolist()} ({len(lost)} in all), though there are ghosts of "
            "them: atoms were lost, or IDs are not unique",
            value=lost.tolist(),
            remedies=["look at the time step, at the boundaries, and at atom IDs"],
        )


@dataclass(frozen=True, eq=False)
class OwnResults:
    """Of a rank's own atoms, and what their energies contribute to the virial."""

    energies: Floats  # (n,) eV
    forces: Floats  # (n, 3) eV/Å
    virial: Floats  # (3, 3) eV, -dE/d(strain)


def own_results(energies: Any, own: int, halo: Halo, forces: Floats, virial: Floats) -> OwnResults:
    """From energies (N,) and forces (N, 3) of the own and of remote atoms; called by all ranks."""
    halo.bring_home([forces], np.arange(own), np.arange(own, len(forces)))
    return OwnResults(np.array(energies, dtype=np.float64)[:own], forces[:own], (virial + virial.T) / 2)
