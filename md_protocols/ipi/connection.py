"""One connection to a server: its messages answered in turn, its bytes always read at once.

Reading at once matters.  A client that ends while bytes of the server lie unread resets the connection, and i-PI 3.3.1
never recovers from that; with nothing unread it sees an orderly end and asks another client.
"""

from __future__ import annotations

import enum
import select
import socket
import time
from dataclasses import dataclass, field
from types import TracebackType

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlcalc.ground.told_data import told_data, told_keywords

from ..errors import EvaluationError
from ..folders.stop import StopRequest
from ..progress import CountBar
from .errors import ServeError, WireError, WorkerError
from .responder import UNITS, Answer, fill, refuse_unphysical
from .template_check import check_first, check_volumes
from .wire.addresses import Address
from .wire.held_connection import HeldConnection
from .wire.messages import Exit, GetForce, Init, Message, Positions, Reader, Status, encode, header
from .wire.shared_memory import SharedNumbers
from .worker_process import SEND_S, Reply
from .workers import Delivered, Worker

Array = NDArray[np.float64]

_TICK = 0.25  # s between looks at signals and limits
_GRACE_S = 8.0  # for the request at hand, once a signal or the wall time has come
_CHUNK = 1 << 18


class Ending(enum.Enum):
    """Why serving ended."""

    EXIT = "exit"
    WALL_TIME = "wall time"
    IDLE = "idle"
    CLOSED = "closed"  # by ASE's server, which has no other word for the end
    LOST = "lost"


@dataclass(frozen=True)
class Limits:
    """How long servers are waited for, s."""

    connect_s: float
    reconnect_s: float
    idle_s: float | None


@dataclass
class Tally:
    """What was done so far, over all connections."""

    requests: int = 0
    structures: int = 0
    connections: int = 0
    compute_s: float = 0.0


@dataclass
class Session:
    """What outlives a connection."""

    address: Address
    worker: Worker
    template: Atoms
    limits: Limits
    stop: StopRequest
    bar: CountBar
    check: bool  # whether structures are compared with the template, and cells with one another
    looked: bool = False  # whether the first structure has been compared
    volume: float | None = None  # bohr^3, of the last cell
    tally: Tally = field(default_factory=Tally)
    ticket: int = 0  # of the last request, over all connections: an answer to a server that is gone has an old one


class Connection:
    """Answers one server over one socket."""

    def __init__(self, link: socket.socket, session: Session) -> None:
        self._link, self._session, self._template = link, session, session.template
        # held: a crash of the model cannot take the connection with it, so nothing else shall
        self._held = HeldConnection(link, held=session.worker.fileno() is not None)
        self._worker, self._tally = session.worker, session.tally
        self._worker.attach(link)
        self._reader, self._periodic = Reader(len(session.template)), bool(session.template.pbc.any())
        self._buffer = memoryview(bytearray(_CHUNK))
        self._shared: SharedNumbers | None = None
        self._units, self._batch = "i-pi", 1
        self._initialised = False
        self._owed: list[Message] = []  # Status and GetForce without a reply yet, in the order in which they came
        self._request: Positions | None = None  # being computed
        self._submitted = True
        self._answers: list[Answer] | None = None  # not asked for yet
        self._asked_at = 0.0
        self._heard = time.monotonic()

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._shared is not None:
            self._shared.close()
        self._worker.attach(None)
        self._held.close()

    def serve(self) -> Ending:
        """Answer until the server says EXIT or is lost, or a signal or limit comes."""
        self._link.settimeout(SEND_S)
        stopping: float | None = None
        while True:
            if stopping is None and self._session.stop():
                stopping = time.monotonic()
            if stopping is not None and (not self._busy() or time.monotonic() - stopping > _GRACE_S):
                return Ending.WALL_TIME
            if self._idle():
                return Ending.IDLE
            try:
                if self._turn():
                    return Ending.EXIT
            except (ConnectionError, TimeoutError):
                return Ending.CLOSED if self._at_ases_end() else Ending.LOST

    def _at_ases_end(self) -> bool:
        return self._units == "ase" and not (self._busy() or self._answers or self._reader.pending())

    def _busy(self) -> bool:
        return self._request is not None or GetForce() in self._owed

    def _idle(self) -> bool:
        limit = self._session.limits.idle_s
        return limit is not None and not self._busy() and time.monotonic() - self._heard > limit

    def _turn(self) -> bool:
        """Wait for either side and deal with what it has; True after EXIT."""
        computed = self._worker.fileno()
        sources = [self._link.fileno()] + ([computed] if computed is not None else [])
        readable = select.select(sources, [], [], 0.0 if computed is None and self._request else _TICK)[0]
        self._worker.tick()
        if self._link.fileno() in readable:
            received = self._link.recv_into(self._buffer)
            if not received:
                while self._worker.sending():  # it may be the answer after which the server left
                    self._collect()
                raise ConnectionResetError("the server closed the connection")
            self._heard = time.monotonic()
            self._reader.feed(self._buffer[:received])
        if computed in readable or (computed is None and self._request):
            self._collect()
        # While an answer is on its way from the computing process, what comes may be said after it: its notice is first
        while not self._worker.sending() and (message := self._reader.next()) is not None:
            if self._handle(message):
                return True
        if not self._submitted:
            self._submit()
        return False

    def _handle(self, message: Message) -> bool:
        match message:
            case Status():
                self._owed.append(message)
            case Init():
                if self._request is not None or self._answers is not None:
                    raise WireError("the server introduces itself while a request of its is open: is it i-PI?")
                if self._shared is not None and message.batch_size != self._batch:
                    raise WireError(f"the server changes its batches from {self._batch} to {message.batch_size}")
                self._initialised, self._batch = True, message.batch_size
                # ASE's server sends one zero byte; both have their own eV and Å, different in the eighth digit
                self._units = "ase" if message.text == b"\0" else "i-pi"
            case Positions():
                self._begin(message)
            case GetForce():
                if self._request is None and self._answers is None:
                    raise WireError("the server asks for forces before it has sent positions: is it an i-PI server?")
                if message in self._owed:
                    raise WireError("the server asks twice for the same forces: is it an i-PI server?")
                self._owed.append(message)
            case Exit():
                self._held.finished = True
                return True
        self._pay()
        return False

    def _begin(self, message: Positions) -> None:
        if self._request is not None or self._answers is not None:
            raise WireError("the server sends positions before it has taken the last results: is it an i-PI server?")
        cells, positions = message.cells, message.positions
        if cells is None or positions is None:
            if message.segments is not None:
                self._shared = SharedNumbers(message.segments, self._batch, len(self._template))
            if self._shared is None:
                raise WireError("the server speaks of shared memory that it never named")
            cells, positions = self._shared.read()
        try:
            volumes = refuse_unphysical(cells, positions, self._periodic)
        except EvaluationError as error:
            raise ServeError(error.text, remedies=error.remedies) from None
        self._session.ticket += 1
        self._request = Positions(cells, positions)
        if self._session.check:
            self._look(cells[0], positions[0], volumes)
        self._submitted = False

    def _submit(self) -> None:
        """Hand the request over, once all is read that came with it: forces asked for already go straight there."""
        request, reply = self._request, Reply.PARENT
        if request is None or request.cells is None or request.positions is None:
            return
        if self._owed == [GetForce()] and self._shared is None:
            reply = Reply.SERVER_BATCH if self._batch > 1 else Reply.SERVER
        self._submitted, self._asked_at = True, time.monotonic()
        try:
            self._worker.submit(self._session.ticket, request.cells, request.positions, self._units, reply)
        except Exception as error:
            raise self._failure(error) from error

    def _look(self, cell: Array, positions: Array, volumes: list[float]) -> None:
        """Compare the first structure with the template, and volumes with the ones before."""
        session = self._session
        if not session.looked:
            check_first(self._template, cell, positions, UNITS[self._units])
            session.looked = True
        if volumes:
            session.volume = check_volumes(session.volume or volumes[0], volumes)

    def _collect(self) -> None:
        try:
            found = self._worker.collect()
        except WorkerError as error:
            raise self._failure(error) from error
        if found is None or found[0] != self._session.ticket or self._request is None:
            return  # started again, or the answer to a server that is gone
        if isinstance(found[1], Delivered):
            self._owed.remove(GetForce())
            count = found[1].structures
        else:
            self._answers, count = found[1], len(found[1])
        self._tally.requests += 1
        self._tally.structures += count
        self._tally.compute_s += time.monotonic() - self._asked_at
        self._request = None
        self._session.bar.advance()
        self._pay()

    def _pay(self) -> None:
        """Send whatever is owed and there, in order."""
        while self._owed and self._request is None:
            if self._owed.pop(0) == Status():
                ready = "HAVEDATA" if self._answers is not None else "READY" if self._initialised else "NEEDINIT"
                self._link.sendall(header(ready))
            elif self._answers is not None:
                answers, self._answers = self._answers, None
                if self._shared is not None:
                    self._shared.write(answers)
                self._link.sendall(encode(answers, self._batch > 1, self._shared is not None))

    def _structures(self) -> list[Atoms]:
        """The structures of the request at hand, in Å."""
        request = self._request
        if request is None or request.cells is None or request.positions is None:
            return []
        made = []
        for cell, positions in zip(request.cells, request.positions, strict=True):
            atoms = self._template.copy()
            fill(atoms, cell, positions, UNITS[self._units], self._periodic)
            made.append(atoms)
        return made

    def _failure(self, error: Exception) -> WorkerError:
        """The error with where it happened, its structures, and what the original says of settings and remedies."""
        told = told_data(error)
        where = f"after {self._tally.requests} requests of {self._session.address}"
        text = f"{told['text']} ({where}; nothing was sent for it)"
        return WorkerError(text, self._structures(), **told_keywords(told))
