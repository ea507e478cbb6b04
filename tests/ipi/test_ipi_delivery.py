"""Answers that the computing process sends to the server itself: the same ones, each once, whatever dies when."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.emt import EMT
from ipi_servers import Client, Listener, Peer, Still, copper, posdata, until

from mlcalc.md_protocols.ipi import ConnectionFailedError
from mlcalc.md_protocols.ipi.workers import Delivered, ProcessWorker

ATOMS = copper()
MANY = Atoms("Cu100000", positions=np.zeros((100_000, 3)), cell=np.eye(3) * 100, pbc=True)  # more than a socket holds


class Late(EMT):
    """EMT that waits until the file `trigger` is gone, where there is one; then it may fail."""

    def __init__(self, how: str, trigger: Path, started: Path) -> None:
        super().__init__()
        self.how, self.trigger, self.started = how, trigger, started

    def calculate(self, *arguments: Any, **keywords: Any) -> None:
        super().calculate(*arguments, **keywords)
        if not self.trigger.exists():
            return
        self.started.touch()
        while self.trigger.exists():
            time.sleep(0.01)
        if self.how == "crash":
            os.abort()
        if self.how == "raise":
            raise ValueError("a structure that nobody waits for")


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Listener]:
    listener = Listener(tmp_path)
    yield listener
    listener.close()


@pytest.fixture
def delivered(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many structures were delivered by each computing process itself."""
    seen: list[int] = []
    collect = ProcessWorker.collect

    def noted(self: ProcessWorker) -> object:
        found = collect(self)
        if found is not None and isinstance(found[1], Delivered):
            seen.append(found[1].structures)
        return found

    monkeypatch.setattr(ProcessWorker, "collect", noted)
    return seen


def test_forces_asked_for_at_once_come_from_the_computing_process(listener: Listener, delivered: list[int]) -> None:
    client = Client(EMT(), ATOMS, unix=listener.path, isolated=True)
    peer = listener.accept()
    peer.ready()
    direct = peer.compute(ATOMS)
    until(lambda: delivered == [1], "the notice")
    assert peer.status() == "READY"
    peer.say("POSDATA", posdata(ATOMS))  # as i-PI 3.1 does: it asks whether there is something, then for that
    while peer.status() != "HAVEDATA":
        pass
    peer.say("GETFORCE")
    asked = peer.forces(len(ATOMS))
    assert direct[0] == asked[0]
    for one, other in zip(direct[1:3], asked[1:3], strict=True):
        np.testing.assert_array_equal(one, other)
    peer.say("EXIT")
    report = client.ended()
    assert (delivered, report.requests, report.structures, report.restarts) == ([1], 2, 2, 0)


def test_batches_go_directly_too(listener: Listener, delivered: list[int]) -> None:
    client = Client(EMT(), ATOMS, unix=listener.path, isolated=True)
    peer = listener.accept()
    peer.ready(b"batch_size : 3 , x : 1")
    cell = np.ascontiguousarray(ATOMS.cell.array.T * 1.8897261).tobytes()
    where = (ATOMS.positions * 1.8897261).tobytes()
    count = np.int32(len(ATOMS)).tobytes()
    peer.say("POSDATA", count, (cell + np.eye(3).tobytes()) * 3, where * 3, b"GETFORCE    ")
    assert peer.hear() == b"FORCEREADY  "
    energies = np.frombuffer(peer.hear(24))
    assert peer.hear(4) == count
    peer.hear(3 * (24 * len(ATOMS) + 72 + 4))
    assert energies == pytest.approx([energies[0]] * 3)
    assert peer.status() == "READY"
    peer.say("EXIT")
    assert client.ended().structures == 3
    assert delivered == [3]


def test_a_status_before_the_forces_is_answered_first(listener: Listener, delivered: list[int]) -> None:
    client = Client(EMT(), ATOMS, unix=listener.path, isolated=True)
    peer = listener.accept()
    peer.ready()
    peer.say("POSDATA", posdata(ATOMS), b"STATUS      ", b"GETFORCE    ")
    assert peer.hear() == b"HAVEDATA    "
    peer.forces(len(ATOMS))
    peer.say("EXIT")
    client.ended()
    assert delivered == []


def test_replies_come_in_the_order_of_the_questions(listener: Listener) -> None:
    """However they are cut into pieces on the way."""
    Client(EMT(), ATOMS, unix=listener.path, isolated=True)
    peer = listener.accept()
    peer.ready()
    peer.say("POSDATA", posdata(ATOMS), b"GETFORCE    STATUS      STATUS      ")
    peer.forces(len(ATOMS))
    assert peer.hear(24) == b"READY       READY       "
    peer.say("EXIT")


@pytest.mark.parametrize("last", ["EXIT", ""])
def test_what_follows_an_answer_may_overtake_its_notice(last: str, listener: Listener) -> None:
    """A server that asks again at once, without STATUS, and ends or leaves right after the last answer."""
    client = Client(Still(), ATOMS, unix=listener.path, isolated=True, reconnect_s=0.0)
    peer = listener.accept()
    peer.ready()
    for _ in range(300):
        peer.say("POSDATA", posdata(ATOMS), b"GETFORCE    ")
        peer.forces(len(ATOMS))
    if last:
        peer.say(last)
        assert client.ended().requests == 300
        return
    listener.die()
    peer.close()
    with pytest.raises(ConnectionFailedError, match="after 300 requests"):
        client.ended()


def left_alone(how: str, listener: Listener, folder: Path) -> tuple[Client, Path]:
    """A client that computes for a server that has gone, until the file is removed."""
    trigger, started = folder / "trigger", folder / "started"
    client = Client(Late(how, trigger, started), ATOMS, unix=listener.path, isolated=True, max_failures=2)
    peer = listener.accept()
    peer.ready()
    trigger.touch()
    peer.say("POSDATA", posdata(ATOMS), b"GETFORCE    ")
    until(started.exists, "the computation")
    peer.close()
    return client, trigger


@pytest.mark.parametrize("how", ["raise", "crash", "lost"])
def test_what_became_of_a_request_that_nobody_waits_for(how: str, listener: Listener, tmp_path: Path) -> None:
    """A server asks and goes away; the next one is there when that fails, or cannot be sent, and does not notice."""
    client, trigger = left_alone(how, listener, tmp_path)
    other = listener.accept()
    other.ready()
    trigger.unlink()  # which ends the waiting
    time.sleep(0.5)
    other.compute(ATOMS)
    other.say("EXIT")
    report = client.ended()
    assert (report.requests, report.connections) == (1, 2)


def test_connections_that_come_and_go_while_it_computes(listener: Listener, tmp_path: Path) -> None:
    """More than the pair between the processes would hold, were each of them told of at once."""
    client, trigger = left_alone("lost", listener, tmp_path)
    for _ in range(400):
        peer = listener.accept()
        peer.ready()
        peer.close()
    trigger.unlink()
    peer = listener.accept()
    peer.ready()
    peer.compute(ATOMS)
    peer.say("EXIT")
    assert client.ended().connections == 402


def converse(peer: Peer, rng: random.Random) -> int:
    """Some requests in one way or another, each answer checked; how many.  EOFError where the server leaves midway."""
    answered = 0
    for _ in range(rng.randrange(6)):
        atoms = ATOMS.copy()
        atoms.rattle(0.05, seed=rng.randrange(10**6))
        before, after = rng.choice([(b"", b""), (b"STATUS      ", b""), (b"", b"STATUS      ")])
        request = b"POSDATA     " + posdata(atoms) + before + b"GETFORCE    " + after
        size = rng.choice([len(request), 37])
        for start in range(0, len(request), size):
            peer.link.sendall(request[start : start + size])
        if rng.random() < 0.04:
            for child in computing_processes():
                os.kill(child, signal.SIGKILL)
        if rng.random() < 0.15:
            raise EOFError
        assert not before or peer.hear() == b"HAVEDATA    "
        if rng.random() < 0.1:
            peer.hear(rng.randrange(1, 100))
            raise EOFError
        energy = peer.forces(len(atoms))[0]
        assert not after or peer.hear() == b"READY       "
        atoms.calc = EMT()
        assert energy == pytest.approx(atoms.get_potential_energy() * 0.036749326, abs=1e-9)
        answered += 1
    return answered


def test_servers_that_come_leave_and_cut_their_messages_while_processes_die(listener: Listener) -> None:
    rng, answered = random.Random(5), 0  # noqa: S311
    client = Client(EMT(), ATOMS, unix=listener.path, isolated=True, max_failures=100)
    for _ in range(150):
        peer = listener.accept()
        if rng.random() < 0.95:
            peer.ready()
            with contextlib.suppress(EOFError):  # also where a process died between two bytes of an answer
                answered += converse(peer, rng)
        peer.close()
    peer = listener.accept()
    peer.ready()
    peer.say("EXIT")
    report = client.ended()
    assert report.connections == 151
    assert report.restarts > 3
    assert answered > 100


def test_killed_in_the_middle_of_an_answer(listener: Listener) -> None:
    """What the server has of it cannot be taken back: the connection ends in order, and the next one is served."""
    client = Client(Still(), MANY, unix=listener.path, isolated=True, check_template=False)
    peer = listener.accept()
    peer.ready()
    peer.say("POSDATA", posdata(MANY), b"GETFORCE    ")
    heard = peer.hear(1000)  # the rest waits for us
    [child] = computing_processes()
    os.kill(child, signal.SIGKILL)
    with pytest.raises(EOFError):  # and not ConnectionResetError
        peer.hear(24 * len(MANY) - len(heard))
    peer.close()
    again = listener.accept()
    again.ready()
    energy, forces, _, _ = again.compute(MANY)
    assert (energy, np.abs(forces).max()) == (0.0, 0.0)
    again.say("EXIT")
    report = client.ended()
    assert (report.requests, report.connections, report.restarts) == (1, 2, 1)


def computing_processes() -> list[int]:
    return [process for process in children() if "ipi.worker" in command(process)]


def children() -> list[int]:
    lists = [path.read_text() for path in Path(f"/proc/{os.getpid()}/task").glob("*/children")]
    return [int(child) for text in lists for child in text.split()]


def command(process: int) -> str:
    try:
        return Path(f"/proc/{process}/cmdline").read_text()
    except OSError:  # it has ended
        return ""
