"""Serving an i-PI or ASE socket server with any ASE calculator."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from ase import Atoms

from mlcalc.ground.errors import Use

from ..checks import choice, number, structure, whole
from ..errors import ConfigError
from ..folders.stop import StopRequest
from ..progress import CountBar
from ..results import Quantity, Result
from .connection import Connection, Ending, Limits, Session
from .errors import ConnectionFailedError
from .recipes import Recipe
from .responder import VIRIALS, resolved_virial
from .wire.addresses import DEFAULT_PREFIX, server_address
from .workers import LocalWorker, ProcessWorker, Worker

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 2.0  # s between attempts to connect
_LONGEST_CONNECT = 5.0  # s for one attempt: a signal must not wait for a host that does not answer


@dataclass(frozen=True, eq=False, repr=False)
class ServeReport(Result):
    """How a server was served, and why that ended."""

    kind = "ipi_serve_report"

    ending: Annotated[
        str,
        Quantity("exit (the server's word), closed (by ASE's server, which has no other word), wall time or idle"),
    ]
    requests: Annotated[int, Quantity("answered")]
    structures: Annotated[int, Quantity("computed")]
    connections: Annotated[int, Quantity("how many there were")]
    restarts: Annotated[int, Quantity("of the computing process")]
    compute_s: Annotated[float, Quantity("from a request to its answer, in all", "s")]
    total_s: Annotated[float, Quantity("from start to end", "s")]

    def summary(self) -> str:
        """One line."""
        per = 1e3 * self.compute_s / max(self.requests, 1)
        return (
            f"{self.requests} requests with {self.structures} structures in {self.total_s:.1f} s ({per:.3g} ms each), "
            f"{self.connections} connections, {self.restarts} restarts of the computing process; ended by: "
            f"{self.ending}"
        )


def serve_ipi(
    calc: Any,
    atoms: Atoms,
    *,
    unix: str | os.PathLike[str] | None = None,
    host: str = "localhost",
    port: int | None = None,
    prefix: str = DEFAULT_PREFIX,
    isolated: bool = True,
    virial: str = "auto",
    dipole: Any = None,
    check_template: bool = True,
    allow_remote: bool = False,
    connect_s: float = 60.0,
    reconnect_s: float = 60.0,
    idle_s: float | None = None,
    request_s: float | None = None,
    wall_time_s: float | None = None,
    max_failures: int = 5,
    signals: bool = True,
    progress: bool | None = None,
) -> ServeReport:
    """Answer the server of i-PI (or ASE's SocketIOCalculator) until it says that it has finished.

    calc: an ASE calculator, or a function without arguments that makes one; a list of them is a committee, whose mean
    is answered and whose members and spread go into the extras (see Responder).
    atoms: the template: elements, periodic directions and whatever the calculator reads; never its positions.
    unix: name of the server's unix socket, with i-PI's prefix before it, or its path if it has a slash.
    host, port: of a server that listens on a port; another machine than this one needs allow_remote.
    isolated: compute in a child process.  The connection then survives whatever happens to the model: i-PI hangs for
    ever when a client resets its connection (3.3.1).  The calculator must be picklable, or made by a function that is.
    virial: "auto", "stress", "forces" or "none" (see Responder); a virial that was not computed is never sent.
    dipole: a calculator, or function that makes one, whose dipole moment goes into the extras (e bohr).
    check_template: refuse a first structure that shows other units or another order of atoms than the template.
    connect_s, reconnect_s: how long a server is waited for at first, and after it went away without a word.
    idle_s: give up after so long without a word of the server; wall_time_s: end after so long.
    request_s: a computing process that takes longer for one request hangs: it is killed, and started again as after a
    crash.  Allow for the first one, which may compile kernels for a minute.  Isolated only.
    max_failures: crashes of the computing process in a row that are borne.

    Batches, consolidated messages and shared memory of i-PI 3.3 are used when the server does.  Signals and the
    wall time end the serving after the request at hand, or without its answer after 8 s more (SIGTERM as
    SystemExit(143), SIGINT as KeyboardInterrupt).  Raises ConfigError;
    ConnectionFailedError, where no server was found or it did not come back; WireError, for anything but i-PI's
    protocol or the template's atoms; WorkerError, with the structures, for what the calculator cannot compute.
    """
    address = server_address(unix, host, port, prefix, allow_remote)
    members = tuple(calc) if isinstance(calc, Sequence) else (calc,)
    limits = Limits(
        number("connect_s", connect_s, at_least=0),
        number("reconnect_s", reconnect_s, at_least=0),
        None if idle_s is None else number("idle_s", idle_s, above=0),
    )
    if wall_time_s is not None:
        number("wall_time_s", wall_time_s, above=0)
    whole("max_failures", max_failures, at_least=1)
    if request_s is not None:
        number("request_s", request_s, above=0)
        if not isolated:
            raise ConfigError(
                f"request_s is {request_s:g}, but a computation in this process cannot be stopped",
                setting="request_s",
                value=request_s,
                remedies=[Use("isolated", True), "leave the limit out"],
            )
    recipe = _recipe(members, atoms, virial, dipole)
    started = time.monotonic()
    with StopRequest(wall_time_s, signals=signals) as stop:
        worker: Worker = ProcessWorker(recipe, max_failures, request_s) if isolated else LocalWorker(recipe)
        try:
            with CountBar(progress, None, str(address), "request") as bar:
                session = Session(address, worker, recipe.atoms, limits, stop, bar, check_template)
                ending = _serve(session)
        finally:
            worker.close()
    stop.deliver()
    tally, total = session.tally, time.monotonic() - started
    return ServeReport(
        ending.value, tally.requests, tally.structures, tally.connections, worker.restarts, tally.compute_s, total
    )


def _recipe(members: tuple[Any, ...], atoms: Atoms, virial: str, dipole: Any) -> Recipe:
    if not members:
        raise ConfigError(
            "calc is an empty list",
            setting="calc",
            value=members,
            remedies=["give a calculator, a function that makes one, or several"],
        )
    for member in members:
        if not (hasattr(member, "get_property") or callable(member)):
            raise ConfigError(
                f"calc is a {type(member).__name__}",
                setting="calc",
                value=member,
                remedies=["give an ASE calculator", "a function that makes one"],
            )
    choice("virial", virial, VIRIALS)
    template = atoms.copy() if isinstance(atoms, Atoms) else atoms
    if isinstance(template, Atoms):
        template.calc = _Anything()
    structure(template, "i-PI", needs=())
    template.calc = None
    made = [member for member in members if hasattr(member, "get_property")]
    resolved_virial(virial, template, made)  # says at once, and not in the child, what does not fit
    return Recipe(members, template, virial, dipole)


class _Anything:
    """Stands for the calculator that will be made elsewhere."""


def _serve(session: Session) -> Ending:
    """Serve connection after connection until the server, a limit or a signal ends it."""
    patience = session.limits.connect_s
    while True:
        link = _connected(session, patience)
        if link is None:
            return Ending.WALL_TIME
        session.tally.connections += 1
        with Connection(link, session) as connection:
            ending = connection.serve()
        if ending is not Ending.LOST:
            return ending
        patience = session.limits.reconnect_s


def _connected(session: Session, patience: float) -> socket.socket | None:
    """A connection, tried with growing pauses; None where a signal or the wall time came first."""
    begun, pause = time.monotonic(), _FIRST_PAUSE
    while not session.stop():
        try:
            return session.address.connect(timeout_s=min(max(patience, 1.0), _LONGEST_CONNECT))
        except OSError as error:
            if time.monotonic() - begun + pause > patience:
                raise ConnectionFailedError(_not_there(session, error, patience)) from None
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)
    return None


def _not_there(session: Session, error: OSError, patience: float) -> str:
    why, tally = session.address.why(error), session.tally
    if not tally.connections:
        return f"no server within {patience:g} s: {why}"
    return (
        f"the server closed the connection after {tally.requests} requests without saying that it had finished, and "
        f"was not back within {patience:g} s ({why}): look at its output; its run is not complete"
    )
