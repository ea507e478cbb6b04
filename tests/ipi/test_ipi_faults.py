"""What the i-PI client does when its server, its calculator or its address fails."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.calculators.emt import EMT
from ipi_servers import Client, Failing, Listener, Slow, Still, copper, posdata, until

from mlcalc.md_protocols.errors import ConfigError
from mlcalc.md_protocols.ipi import ConnectionFailedError, ServeError, WireError, WorkerError, serve_ipi
from mlcalc.md_protocols.ipi.recipes import Recipe
from mlcalc.md_protocols.ipi.worker_process import Reply
from mlcalc.md_protocols.ipi.workers import ProcessWorker

ATOMS = copper()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The servers here stay open after the client has closed, which it would wait for."""
    monkeypatch.setattr("mlcalc.md_protocols.ipi.wire.held_connection._DRAIN_S", 0.1)
    monkeypatch.setattr("mlcalc.md_protocols.ipi.wire.held_connection._FINISHED_S", 0.1)


@pytest.fixture
def listener(tmp_path: Path) -> Any:
    found = Listener(tmp_path)
    yield found
    found.close()


def moved(seed: int) -> Any:
    atoms = ATOMS.copy()
    atoms.rattle(0.05, seed=seed)
    return atoms


def energy(atoms: Any) -> float:
    """By EMT itself, in i-PI's hartree."""
    return float(EMT().get_potential_energy(atoms) * 0.036749326)


def test_a_server_that_went_away_is_found_again(listener: Listener) -> None:
    client = Client(EMT(), ATOMS, unix=listener.path, reconnect_s=60.0)
    for k in range(3):
        peer = listener.accept()
        peer.ready()
        assert peer.compute(moved(k))[0] == pytest.approx(energy(moved(k)), rel=1e-12)
        if k < 2:
            peer.close()
    peer.say("EXIT")
    report = client.ended()
    assert (report.ending, report.requests, report.connections) == ("exit", 3, 3)


def test_the_answer_for_an_old_server_is_not_given_to_the_new_one(listener: Listener) -> None:
    """The first server goes away while its first request is computed; the second one's is answered with its own."""
    client = Client(Slow(0.5), ATOMS, unix=listener.path, isolated=True, reconnect_s=60.0)
    peer = listener.accept()
    peer.ready()
    peer.say("POSDATA", posdata(moved(1)), b"GETFORCE    ")
    peer.close()
    peer = listener.accept()
    peer.ready()
    assert peer.compute(moved(2))[0] == pytest.approx(energy(moved(2)), rel=1e-12)
    assert energy(moved(1)) != pytest.approx(energy(moved(2)), rel=1e-6)
    peer.say("EXIT")
    assert client.ended().requests == 1


def test_a_server_that_is_gone_for_good(listener: Listener) -> None:
    client = Client(EMT(), ATOMS, unix=listener.path, reconnect_s=0.2)
    peer = listener.accept()
    peer.ready()
    peer.compute(ATOMS)
    listener.die()  # its file stays
    peer.close()
    with pytest.raises(ConnectionFailedError, match="after 1 requests .*nobody listens: left behind .*not complete"):
        client.ended()


def test_a_frozen_server(listener: Listener) -> None:
    client = Client(EMT(), ATOMS, unix=listener.path, idle_s=0.3)
    peer = listener.accept()
    peer.ready()
    peer.compute(ATOMS)
    assert client.ended().ending == "idle"


def test_half_a_request_and_then_silence(listener: Listener) -> None:
    client = Client(EMT(), ATOMS, unix=listener.path, idle_s=0.3)
    peer = listener.accept()
    peer.ready()
    peer.say("POSDATA", posdata(ATOMS)[:100])
    assert client.ended().ending == "idle"


def test_a_server_that_takes_no_answer_is_lost(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlcalc.md_protocols.ipi.connection.SEND_S", 0.3)
    many = ATOMS * (20, 20, 20)
    client = Client(Still(), many, unix=listener.path, reconnect_s=0.0)
    peer = listener.accept()
    peer.ready()
    peer.say("POSDATA", posdata(many), b"GETFORCE    ")
    listener.path.unlink()
    with pytest.raises(ConnectionFailedError, match="there is no .*is the server running"):
        client.ended()


def test_wall_time(listener: Listener) -> None:
    client = Client(EMT(), ATOMS, unix=listener.path, wall_time_s=0.5)
    listener.accept().ready()
    assert client.ended().ending == "wall time"


def test_slow_and_coalesced_bytes(listener: Listener) -> None:
    client = Client(EMT(), ATOMS, unix=listener.path)
    peer = listener.accept()
    status, hello = b"STATUS      ", b"INIT        " + np.int32([0, 1]).tobytes() + b" "
    request = b"POSDATA     " + posdata(moved(4)) + b"GETFORCE    "
    peer.link.sendall(status + hello + status + request)  # more than any server says at once
    assert peer.hear(24) == b"NEEDINIT    READY       "
    first = peer.forces(len(ATOMS))
    for k in range(len(request)):
        peer.link.sendall(request[k : k + 1])
    second = peer.forces(len(ATOMS))
    assert first[0] == second[0] == pytest.approx(energy(moved(4)), rel=1e-12)
    np.testing.assert_array_equal(first[1], second[1])
    peer.say("EXIT")
    assert client.ended().requests == 2


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["GETFORCE"], "asks for forces before it has sent positions"),
        (["POSDATA", "POSDATA"], "sends positions before it has taken the last results"),
        (["POSDATA", "INIT"], "introduces itself while a request"),
        (["HAVEDATA"], "unknown message"),
    ],
)
def test_a_server_out_of_turn(words: list[str], says: str, listener: Listener) -> None:
    client = Client(EMT(), ATOMS, unix=listener.path)
    peer = listener.accept()
    peer.ready()
    more = {"POSDATA": posdata(ATOMS), "INIT": np.int32([0, 1]).tobytes() + b" "}
    peer.link.sendall(b"".join(word.ljust(12).encode() + more.get(word, b"") for word in words))
    with pytest.raises(WireError, match=says):
        client.ended()


def test_forces_asked_for_twice(listener: Listener) -> None:
    client = Client(Slow(0.5), ATOMS, unix=listener.path, isolated=True)
    peer = listener.accept()
    peer.ready()
    peer.say("POSDATA", posdata(ATOMS), b"GETFORCE    GETFORCE    ")
    with pytest.raises(WireError, match="asks twice for the same forces"):
        client.ended()


def other(change: str) -> Any:
    atoms = ATOMS.copy()
    if change == "one atom more":
        atoms += atoms[:1]
    elif change == "nan":
        atoms.positions[2, 1] = np.nan
    elif change == "flat":
        atoms.cell[2] = 0.0
    else:
        factor = {"bohr": 1.8897261, "Å": 1 / 1.8897261}[change]
        atoms.set_cell(atoms.cell.array * factor, scale_atoms=True)
    return atoms


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("one atom more", "sends 5 atoms, the template has 4"),
        ("nan", "positions that are not finite: structure 0, atoms .2."),
        ("flat", "without volume"),
        ("bohr", "1.89 times as large as the template's, as bohr and Å are"),
        ("Å", "0.529 times as large as the template's, as bohr and Å are"),
    ],
)
def test_structures_that_cannot_be_meant(change: str, says: str, listener: Listener) -> None:
    client = Client(EMT(), ATOMS, unix=listener.path)
    peer = listener.accept()
    peer.ready()
    peer.say("POSDATA", posdata(other(change)), b"GETFORCE    ")
    with pytest.raises(ServeError, match=says):
        client.ended()
    with pytest.raises(EOFError, match="b''"):  # nothing was answered, and the connection was not reset
        peer.hear()


def test_another_order_of_atoms(listener: Listener) -> None:
    alloy = ATOMS.copy()
    alloy.numbers[0] = 79
    client = Client(EMT(), alloy, unix=listener.path)
    peer = listener.accept()
    peer.ready()
    peer.say("POSDATA", posdata(alloy[[1, 0, 2, 3]]), b"GETFORCE    ")
    with pytest.raises(WireError, match="in another order: its atom 0 sits where the template has Cu1"):
        client.ended()


@pytest.mark.parametrize("isolated", [False, True])
def test_nan_forces_are_never_sent(isolated: bool, listener: Listener, tmp_path: Path) -> None:
    (tmp_path / "trigger").touch()
    client = Client(Failing("nan", tmp_path / "trigger"), ATOMS, unix=listener.path, isolated=isolated)
    peer = listener.accept()
    peer.ready()
    peer.say("POSDATA", posdata(moved(5)), b"GETFORCE    ")
    with pytest.raises(WorkerError, match="forces on 4 of 4 atoms are not finite .*nothing was sent") as caught:
        client.ended()
    np.testing.assert_allclose(caught.value.structures[0].positions, moved(5).positions, rtol=0, atol=1e-12)
    np.testing.assert_allclose(caught.value.structures[0].cell, ATOMS.cell, rtol=0, atol=1e-12)
    with pytest.raises(EOFError, match="b''"):
        peer.hear()


@pytest.mark.parametrize(("how", "restarts"), [("raise once", 1), ("crash once", 1)])
def test_a_failure_that_does_not_come_back(how: str, restarts: int, listener: Listener, tmp_path: Path) -> None:
    (tmp_path / "trigger").touch()
    client = Client(Failing(how, tmp_path / "trigger"), ATOMS, unix=listener.path, isolated=True)
    peer = listener.accept()
    peer.ready()
    assert peer.compute(moved(6))[0] == pytest.approx(energy(moved(6)), rel=1e-12)
    assert peer.compute(moved(7))[0] == pytest.approx(energy(moved(7)), rel=1e-12)
    peer.say("EXIT")
    assert client.ended().restarts == restarts


@pytest.mark.parametrize(
    ("how", "says"), [("raise", "the device is gone"), ("crash", r"ended .signal 6., 2 times in a row")]
)
def test_a_failure_that_stays(how: str, says: str, listener: Listener, tmp_path: Path) -> None:
    (tmp_path / "trigger").touch()
    calc = Failing(how, tmp_path / "trigger")
    client = Client(calc, ATOMS, unix=listener.path, isolated=True, max_failures=2)
    peer = listener.accept()
    peer.ready()
    peer.say("POSDATA", posdata(ATOMS), b"GETFORCE    ")
    with pytest.raises(WorkerError, match=says) as caught:
        client.ended()
    assert len(caught.value.structures) == 1


def test_a_calculator_that_hangs_is_started_again(listener: Listener, tmp_path: Path) -> None:
    """Once it is survived; for ever, it is an error that says so, and the structure is kept."""
    trigger = tmp_path / "trigger"
    trigger.touch()
    settings: dict[str, Any] = {"unix": listener.path, "isolated": True, "request_s": 0.5, "max_failures": 2}
    client = Client(Failing("hang once", trigger), ATOMS, **settings)
    peer = listener.accept()
    peer.ready()
    assert peer.compute(ATOMS)[0] == pytest.approx(energy(ATOMS), rel=1e-12)
    peer.say("EXIT")
    assert client.ended().restarts == 1
    trigger.touch()
    client = Client(Failing("hang", trigger), ATOMS, **settings)
    peer = listener.accept()
    peer.ready()
    peer.say("POSDATA", posdata(ATOMS), b"GETFORCE    ")
    with pytest.raises(WorkerError, match=r"no answer within 0.5 s.*2 times in a row") as caught:
        client.ended()
    assert len(caught.value.structures) == 1
    with pytest.raises(ConfigError, match="request_s is 1, but .*: pass isolated=True"):
        serve_ipi(EMT(), ATOMS, unix=listener.path, isolated=False, request_s=1)


def test_the_computing_process_dies_while_it_starts_again() -> None:
    """Killed as soon as it is there, several times: each is a failure that is borne, and the request is not lost."""
    worker = ProcessWorker(Recipe((EMT(),), ATOMS, "auto"), max_failures=5)
    try:
        worker.submit(7, ATOMS.cell.array[None].copy(), ATOMS.positions[None].copy(), "i-pi", Reply.PARENT)
        for _ in range(3):
            os.kill(worker.pid, signal.SIGKILL)
            before, found = worker.pid, worker.collect()
            while worker.pid == before and found is None:
                found = worker.collect()
        found = worker.collect()
        while found is None:
            found = worker.collect()
        assert found[0] == 7
        assert worker.restarts == 3
    finally:
        worker.close()


def test_a_client_may_come_before_its_server(tmp_path: Path) -> None:
    client = Client(EMT(), ATOMS, unix=tmp_path / "s")
    until(client.is_alive, "the client")
    listener = Listener(tmp_path)
    peer = listener.accept()
    peer.ready()
    peer.say("EXIT")
    assert client.ended().requests == 0
    listener.close()
