"""The computing process by itself: how far an answer got when it died, and whose connection it sends to."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Iterator

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.emt import EMT
from ipi_servers import WAIT_S, Peer, Slow, copper

from mlcalc.md_protocols.ipi.pipe import PipeEnd
from mlcalc.md_protocols.ipi.recipes import Recipe
from mlcalc.md_protocols.ipi.worker_process import Reply, Stage
from mlcalc.md_protocols.ipi.workers import Delivered, ProcessWorker

ATOMS = copper()


def request(atoms: Atoms) -> tuple[np.ndarray, np.ndarray]:
    return atoms.cell.array.T[None].copy() * 1.8897261, atoms.positions[None] * 1.8897261


def collected(worker: ProcessWorker) -> tuple[int, object]:
    while (found := worker.collect()) is None:
        pass
    return found


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, Peer]]:
    """A connection: our end, and the server's."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, Peer(theirs)


@pytest.mark.parametrize("stage", list(Stage))
def test_how_far_an_answer_got_decides(stage: Stage, ends: tuple[socket.socket, Peer]) -> None:
    """A process killed before it sends, while it does, and after it has: as the memory that outlives it says."""
    worker = ProcessWorker(Recipe((Slow(0.3),), ATOMS, "auto"))
    try:
        worker.attach(ends[0])
        worker.submit(5, *request(ATOMS), "i-pi", Reply.SERVER)
        worker._stage[0] = stage
        os.kill(worker.pid, signal.SIGKILL)
        if stage is Stage.SENDING:
            with pytest.raises(ConnectionResetError, match="while it sent an answer"):
                collected(worker)
        else:
            assert collected(worker) == (5, Delivered(1))
        sent = stage is Stage.NOTHING_SENT  # by the next process
        ends[1].link.setblocking(False)
        if sent:
            ends[1].forces(len(ATOMS))
        else:
            with pytest.raises(BlockingIOError):
                ends[1].hear()
        assert worker.restarts == 1
        worker.submit(6, *request(ATOMS), "i-pi", Reply.SERVER)  # the next one is answered in any case
        assert collected(worker) == (6, Delivered(1))
        ends[1].forces(len(ATOMS))
    finally:
        worker.close()


def test_a_server_that_is_gone_is_lost(ends: tuple[socket.socket, Peer]) -> None:
    worker = ProcessWorker(Recipe((EMT(),), ATOMS, "auto"))
    try:
        worker.attach(ends[0])
        ends[1].close()
        worker.submit(1, *request(ATOMS), "i-pi", Reply.SERVER)
        with pytest.raises(ConnectionResetError, match="did not take"):
            collected(worker)
        assert worker.restarts == 0
        ours, theirs = socket.socketpair()
        with ours, theirs:
            worker.attach(ours)
            worker.submit(2, *request(ATOMS), "i-pi", Reply.SERVER)
            assert collected(worker) == (2, Delivered(1))
            Peer(theirs).forces(len(ATOMS))
            worker.attach(None)
            ours.close()
            theirs.settimeout(WAIT_S)
            assert theirs.recv(1) == b""  # the process keeps no copy of it
    finally:
        worker.close()


def test_answers_to_a_server_that_is_gone_do_not_reach_the_next(ends: tuple[socket.socket, Peer]) -> None:
    ours, theirs = socket.socketpair()
    worker = ProcessWorker(Recipe((Slow(0.3),), ATOMS, "auto"))
    try:
        with ours, theirs:
            worker.attach(ours)
            worker.submit(1, *request(ATOMS), "i-pi", Reply.SERVER)
            worker.attach(None)
        moved = ATOMS.copy()
        moved.rattle(0.1, seed=8)
        worker.attach(ends[0])
        worker.submit(2, *request(moved), "i-pi", Reply.SERVER)
        assert collected(worker) == (2, Delivered(1))
        energy = ends[1].forces(len(ATOMS))[0]
        moved.calc = EMT()
        assert energy == pytest.approx(moved.get_potential_energy() * 0.036749326, rel=1e-6)
        ends[1].link.setblocking(False)
        with pytest.raises(BlockingIOError):
            ends[1].hear()
    finally:
        worker.close()


@pytest.mark.parametrize("size", [0, 1, 1 << 18, 3_000_000])
def test_pairs_carry_whole_messages(size: int) -> None:
    one, other = socket.socketpair()
    pair, reader, data = PipeEnd(one), PipeEnd(other), np.random.default_rng(size).bytes(size)
    with contextlib.closing(reader), contextlib.closing(pair), socket.socket(socket.AF_UNIX) as sent:

        def send() -> None:
            pair.send(b"first", b"", data)
            pair.send(b"second", connection=sent)
            pair.send(b"third")
            pair.send(b"fourth", connection=other)

        sender = threading.Thread(target=send)  # more than the kernel keeps needs somebody at the other end
        sender.start()
        for message, connection in ((b"first" + data, None), (b"second", sent), (b"third", None), (b"fourth", other)):
            assert bytes(reader.receive()) == message
            if connection is not None:
                with reader.taken() as taken:
                    assert os.path.sameopenfile(taken.fileno(), connection.fileno())
                    assert not taken.get_inheritable()
        sender.join()
        pair.close()
        with pytest.raises(EOFError):
            reader.receive()
