"""Ten thousand broken conversations: nothing hangs, nothing large is allocated, and all errors are the protocol's."""

from __future__ import annotations

import random
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ipi_servers import Client, Listener, posdata, water
from springs import Springs

from mlcalc.md_protocols.ipi import ServeError, WireError
from mlcalc.md_protocols.ipi.wire.messages import Positions, Reader, header

WATER = water()
LIMIT = 100e6


def init(text: bytes) -> bytes:
    return header("INIT") + np.int32([3, len(text)]).tobytes() + text


def conversations() -> list[list[bytes]]:
    """Valid ones, as lists of the parts in which something may go wrong."""
    one, names = posdata(WATER), [f"ipi_shm_none_{kind}".encode() for kind in ("pos", "h", "ih", "pot", "force", "vir")]
    cells, count, where = one[:144], one[144:148], one[148:]
    status, forces, end = header("STATUS"), header("GETFORCE"), header("EXIT")
    shared = [part for name in names for part in (np.int32(len(name)).tobytes(), name)]
    hello = [status, init(b"a:1"), status]
    return [
        [*hello, header("POSDATA"), cells, count, where, forces, end],
        [*hello, header("POSDATA"), cells, count, where, status, forces, status] * 2,
        [*hello[:1], init(b"\0"), header("POSDATA"), cells, count, where, status, forces],
        [*hello[:1], init(b"x: 2, batch_size:3"), header("POSDATA"), count, cells * 3, where * 3, forces, end],
        [*hello, header("POSDATA"), count, *shared, forces, header("POSDATA"), count, forces, end],
        [*hello[:1], init(b"batch_size:2"), header("POSDATA"), count, *shared, forces, end],
    ]


def mutated(parts: list[bytes], rng: random.Random) -> bytes:
    """One to three changes: bits, bytes, lengths, missing, doubled, swapped or foreign parts, an early end."""
    parts = list(parts)
    for _ in range(rng.randint(1, 3)):
        k = rng.randrange(len(parts))
        part = bytearray(parts[k])
        match rng.randrange(9):
            case 0 if part:
                part[rng.randrange(len(part))] ^= 1 << rng.randrange(8)
            case 1 if part:
                at = rng.randrange(len(part))
                part[at : at + rng.randint(1, 8)] = rng.randbytes(rng.randint(0, 12))
            case 2:
                part = bytearray(np.int32(rng.choice([-1, 0, 1, 2**31 - 1, -(2**31), 2**28, 255, 65537])).tobytes())
            case 3:
                part = bytearray(rng.choice([np.nan, np.inf, -np.inf, 1e308, 5e-324]).hex().encode())
            case 4:
                part *= rng.randint(0, 3)
            case 5:
                other = rng.randrange(len(parts))
                part, parts[other] = bytearray(parts[other]), bytes(part)
            case 6:
                part = bytearray(init(rng.choice([b"batch_size:", b"batch_size:4096", b"batch_size:1e9", b"\xff" * 9])))
            case 7:
                part += header(rng.choice(["INIT", "POSDATA", "GETFORCE", "FORCEREADY", "EXIT", "STATUS", "\0"]))
            case _:
                parts = parts[: k + 1]
        if k < len(parts):
            parts[k] = bytes(part)
    return b"".join(parts)


def messages(count: int, seed: int) -> Iterator[tuple[bytes, random.Random]]:
    rng, valid = random.Random(seed), conversations()  # noqa: S311
    for k in range(count):
        yield (rng.randbytes(rng.randint(0, 600)) if k % 10 == 0 else mutated(rng.choice(valid), rng)), rng


def outcome(data: bytes, rng: random.Random) -> str:
    """Everything read, in one to many pieces; the number of turns is bounded by the number of bytes."""
    reader, at = Reader(len(WATER)), 0
    size = 1 if rng.random() < 0.05 else rng.choice([13, 64, 10**6])
    turns = 0
    try:
        while at < len(data):
            reader.feed(data[at : at + size])
            at += size
            while (message := reader.next()) is not None:
                turns += 1
                assert turns <= len(data)
                if isinstance(message, Positions) and message.positions is not None:
                    assert message.positions.shape[1:] == (len(WATER), 3)
    except WireError:
        return "refused"
    return "read" if reader.pending() == 0 else "waiting"


def test_ten_thousand_broken_messages() -> None:
    seen: Counter[str] = Counter()
    tracemalloc.start()
    try:
        for data, rng in messages(10_000, seed=1):
            seen[outcome(data, rng)] += 1
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < LIMIT
    assert min(seen["refused"], seen["read"], seen["waiting"]) > 500, seen  # all three are really looked at


def test_the_valid_ones_are_read_to_their_end() -> None:
    rng = random.Random(0)  # noqa: S311
    assert [outcome(b"".join(parts), rng) for parts in conversations()] == ["read"] * 6


def flat() -> Any:
    return Springs(WATER, 1.5)


@pytest.mark.parametrize("seed", range(4))
def test_the_whole_client_ends_with_an_error_of_ours(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlcalc.md_protocols.ipi.wire.held_connection._DRAIN_S", 0.05)
    listener = Listener(tmp_path)
    seen: Counter[str] = Counter()
    for data, _ in messages(15, seed=100 + seed):
        client = Client(flat(), WATER, unix=listener.path, reconnect_s=0.0, idle_s=0.2, check_template=False)
        peer = listener.accept()
        peer.link.sendall(data)
        listener.path.rename(tmp_path / "away")  # it shall not come back
        try:
            seen[client.ended().ending] += 1
        except ServeError as error:
            seen[type(error).__name__] += 1
        peer.close()
        (tmp_path / "away").rename(listener.path)
    listener.close()
    assert sum(seen.values()) == 15
    assert seen["WireError"] > 0
