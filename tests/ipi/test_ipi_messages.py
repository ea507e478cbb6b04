"""The client's side of i-PI's protocol against the server's own code, in all its forms and in any pieces."""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker, shared_memory
from typing import Any

import numpy as np
import pytest

from mlcalc.md_protocols.ipi import WireError
from mlcalc.md_protocols.ipi.responder import Answer
from mlcalc.md_protocols.ipi.wire.messages import Exit, GetForce, Init, Positions, Reader, Status, encode, header
from mlcalc.md_protocols.ipi.wire.shared_memory import SharedNumbers

sockets = pytest.importorskip("ipi.interfaces.sockets", reason="i-PI is an extra")

NATOMS = 5
RNG = np.random.default_rng(4)


class Request(dict[str, Any]):
    """What i-PI's engine hands to its sockets."""

    def __init__(self, k: int) -> None:
        cells = RNG.normal(size=(2, 3, 3))
        pos = RNG.normal(size=3 * NATOMS)
        super().__init__(id=k, pars="a: 1", pos=pos, active=np.arange(3 * NATOMS), cell=cells, offset=0.0, status="")
        self._event_done = threading.Event()


def answers(count: int, extras: str = "") -> list[Answer]:
    return [
        Answer(float(RNG.normal()), RNG.normal(size=(NATOMS, 3)), RNG.normal(size=(3, 3)), extras and f'{{"k": [{k}]}}')
        for k in range(count)
    ]


def whole(data: bytes) -> Iterable[bytes]:
    return [data]


def single_bytes(data: bytes) -> Iterable[bytes]:
    return (data[k : k + 1] for k in range(len(data)))


def pieces(data: bytes) -> Iterable[bytes]:
    rng, at = random.Random(3), 0  # noqa: S311
    while at < len(data):
        size = rng.randint(1, 40)
        yield data[at : at + size]
        at += size


@contextmanager
def answering(to_send: list[Answer], split: Callable[[bytes], Iterable[bytes]]) -> Iterator[tuple[Any, list[Any]]]:
    """i-PI's end of a socket, and what our end has read; ours answers every request with to_send."""
    theirs, ours = socket.socketpair()
    seen: list[Any] = []

    def client() -> None:
        reader, initialised, shared = Reader(NATOMS), False, None
        while data := ours.recv(1 << 16):
            for piece in split(data):
                reader.feed(piece)
                while (message := reader.next()) is not None:
                    seen.append(message)
                    match message:
                        case Status():
                            ours.sendall(header("READY" if initialised else "NEEDINIT"))
                        case Init():
                            initialised = True
                        case Positions(segments=names) if names:
                            shared = SharedNumbers(names, reader.batch_size, NATOMS)
                            seen.append(shared.read())
                        case GetForce():
                            if shared is not None:
                                shared.write(to_send)
                            ours.sendall(encode(to_send, reader.batch_size > 1, shared is not None))
        if shared is not None:
            shared.close()

    thread = threading.Thread(target=client, daemon=True)
    thread.start()
    try:
        yield theirs, seen
    finally:
        theirs.close()
        thread.join(20)
        ours.close()
        assert not thread.is_alive()


def same(result: list[Any], answer: Answer) -> None:
    assert result[0] == answer.energy
    np.testing.assert_array_equal(result[1], answer.forces.ravel())
    np.testing.assert_array_equal(result[2], answer.virial)
    assert result[3].get("k") == (None if not answer.extras else [int(answer.extras[7:-2])])


@pytest.mark.parametrize("split", [whole, single_bytes, pieces])
@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("extras", ["", "json"])
def test_ipis_own_socket_gets_what_was_computed(batch: int, split: Any, extras: str) -> None:
    to_send = answers(batch, extras)
    with answering(to_send, split) as (link, seen):
        driver = sockets.Driver(link)
        driver.batch_size = batch
        requests = [Request(k) for k in range(batch)]
        for _ in range(2):  # a second request finds the client ready
            if batch > 1:
                assert driver.dispatch_send_batch(requests)
                assert driver.dispatch_recv_batch(requests)
            else:
                assert driver.dispatch_send(requests[0])
                assert driver.dispatch_recv(requests[0])
        driver.close()
    for request, answer in zip(requests, to_send, strict=True):
        same(request["result"], answer)
    asked = [message for message in seen if isinstance(message, Positions)]
    assert len(asked) == 2
    assert [m.batch_size for m in seen if isinstance(m, Init)] == [batch]
    np.testing.assert_array_equal(asked[1].cells, [request["cell"][0] for request in requests])
    np.testing.assert_array_equal(asked[1].positions, [r["pos"].reshape(-1, 3) for r in requests])


def test_an_incomplete_batch_comes_filled_up() -> None:
    with answering(answers(4), whole) as (link, seen):
        driver = sockets.Driver(link)
        driver.batch_size = 4
        requests = [Request(k) for k in range(3)]
        assert driver.dispatch_send_batch(requests)
        assert driver.dispatch_recv_batch(requests)
        driver.close()
    positions = next(message for message in seen if isinstance(message, Positions)).positions
    np.testing.assert_array_equal(positions[3], positions[2])


@pytest.mark.parametrize("split", [whole, single_bytes])
def test_the_polled_form_of_older_servers(split: Any) -> None:
    """`dispatch` waits for HAVEDATA between positions and forces, as i-PI did before 3.3."""
    to_send = answers(1)
    with answering(to_send, split) as (link, seen):
        driver = sockets.Driver(link)
        driver.get_status()
        driver.initialize(0, "")
        driver.get_status()
        request = Request(0)
        driver.sendpos(request["pos"], request["cell"])
        driver.status = sockets.Status.Up | sockets.Status.HasData
        same(driver.getforce(), to_send[0])
        driver.close()
    np.testing.assert_array_equal(seen[3].positions[0].ravel(), request["pos"])


@pytest.mark.parametrize("split", [whole, single_bytes, pieces])
@pytest.mark.parametrize("batch", [1, 3])
def test_shared_memory(batch: int, split: Any) -> None:
    to_send = answers(batch)
    with answering(to_send, split) as (link, seen):
        driver = sockets.SHMDriver(link)
        driver.batch_size = batch
        requests = [Request(k) for k in range(batch)]
        if batch > 1:
            assert driver.dispatch_send_batch(requests)
            assert driver.dispatch_recv_batch(requests)
        else:
            assert driver.dispatch_send(requests[0])
            assert driver.dispatch_recv(requests[0])
        for segment in driver._shm.values():  # the client, in this same process, has told Python to forget them
            resource_tracker.register(segment._name, "shared_memory")
        driver._free_shm()
        driver.close()
    for request, answer in zip(requests, to_send, strict=True):
        same(request["result"], answer)
    cells, positions = next(item for item in seen if isinstance(item, tuple))
    np.testing.assert_array_equal(cells, [request["cell"][0] for request in requests])
    np.testing.assert_array_equal(positions, [r["pos"].reshape(-1, 3) for r in requests])


def named(names: list[str], batch: int = 1) -> bytes:
    told = b"".join(np.int32(len(name)).tobytes() + name.encode() for name in names)
    return header("POSDATA") + np.int32(NATOMS).tobytes() + told


@pytest.mark.parametrize("length", [9, 13, 100, 208])
@pytest.mark.parametrize("split", [whole, single_bytes])
@pytest.mark.parametrize("batch", [1, 8])
def test_names_of_shared_memory_of_any_length(length: int, split: Any, batch: int) -> None:
    names = [("ipi_shm_" + letter * 200)[:length] for letter in "abcdef"]
    reader = Reader(NATOMS)
    text = f"a:1, batch_size:{batch}".encode()
    reader.feed(header("INIT") + np.int32([0, len(text)]).tobytes() + text)
    assert reader.next() == Init(0, text, batch)
    found = []
    for piece in split(named(names) + header("GETFORCE") + named([]) + header("GETFORCE") + header("EXIT")):
        reader.feed(piece)
        while (message := reader.next()) is not None:
            found.append(message)
    assert [type(message) for message in found] == [Positions, GetForce, Positions, GetForce, Exit]
    assert found[0].segments == tuple(names)
    assert found[2].segments is None
    assert reader.pending() == 0


def plain(natoms: int = NATOMS, count: int | None = None) -> bytes:
    cells = np.eye(3).tobytes() * 2
    return header("POSDATA") + cells + np.int32(natoms if count is None else count).tobytes() + bytes(24 * natoms)


def init(text: bytes, length: int | None = None) -> bytes:
    return header("INIT") + np.int32([0, len(text) if length is None else length]).tobytes() + text


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (plain(count=NATOMS + 1), "the server sends 6 atoms, the template has 5"),
        (plain(count=-1), "sends -1 atoms"),
        (plain(count=2**30), "sends 1073741824 atoms"),
        (init(b"", 2**31 - 1), "an initialisation of 2147483647 bytes"),
        (init(b"", -1), "an initialisation of -1 bytes"),
        (init(b"batch_size: 0"), "batches of 0 structures"),
        (init(b"x:1,batch_size:-3"), "batches of -3 structures"),
        (init(b"batch_size: 99999999"), "batches of 99999999 structures of 5 atoms: at most 4096"),
        (init(b"batch_size: many"), "batch_size 'many'"),
        (init(b"batch_size:3") + header("POSDATA") + np.int32(7).tobytes() + bytes(400), "sends 7 atoms"),
        (b"GET / HTTP/1.1\r\n", "unknown message"),
        (b"FORCEREADY  ", "unknown message"),
        (b"posdata     ", "unknown message"),
        (named(["ipi_shm_" + "a" * 249]), "a shared memory with 257 characters"),
        (named(["ipi_shm_a/../b"]), "names the shared memory"),
        (named(["ipi_shm_a", "elsewhere"]), "names the shared memory"),
        (bytes(12), "unknown message"),
    ],
)
def test_anything_else_is_refused_before_anything_is_made_for_it(data: bytes, says: str) -> None:
    reader = Reader(NATOMS)
    reader.feed(data)
    with pytest.raises(WireError, match=says):
        list(iter(reader.next, None))


def test_what_comes_without_being_asked_for_is_bounded() -> None:
    reader = Reader(NATOMS)
    for _ in range(100):
        reader.feed(header("STATUS") * 100)
    with pytest.raises(WireError, match="before the answer to its last request"):
        reader.feed(header("STATUS") * 2000)


def test_a_missing_segment_and_one_that_is_too_small() -> None:
    names = [f"ipi_shm_test_{k}" for k in range(6)]
    with pytest.raises(WireError, match="ipi_shm_test_0 cannot be opened"):
        SharedNumbers(names, 1, NATOMS)
    segment = shared_memory.SharedMemory(names[0], create=True, size=24 * NATOMS - 8)
    try:
        with pytest.raises(WireError, match="has 112 bytes, 120 are needed"):
            SharedNumbers(names, 1, NATOMS)
    finally:
        resource_tracker.register(segment._name, "shared_memory")
        segment.close()
        segment.unlink()
