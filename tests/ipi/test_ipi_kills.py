"""Kills at random moments, of the computing process, the client and the server: i-PI goes on as if undisturbed."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from ase.calculators.emt import EMT
from ipi_servers import IPI, Client, Server, Slow, client_program, copper, until

pytestmark = pytest.mark.skipif(not IPI.exists(), reason="i-PI is an extra")

PAUSE_S = 0.02
ENDLESS = 10**6


def computing(parent: psutil.Process) -> list[psutil.Process]:
    """The computing processes under this one."""
    return [child for child in parent.children() if "md_protocols.ipi.worker" in " ".join(_command(child))]


def holding(parent: psutil.Process) -> list[psutil.Process]:
    """The processes under this one that hold its connections."""
    return [child for child in parent.children() if any(part.endswith("holder.py") for part in _command(child))]


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


def undisturbed(folder: Path, rows: int, **settings: Any) -> np.ndarray:
    server = Server(folder, copper(), steps=rows - 1, **settings)
    client = Client(EMT(), copper(), **server.address)
    client.ended()
    server.ended()
    return server.columns()


def finish(server: Server) -> np.ndarray:
    (server.folder / "EXIT").touch()
    server.ended()
    return server.columns()


def no_reset(server: Server) -> None:
    log = server.log()
    assert "Traceback" not in log
    assert "ConnectionReset" not in log
    assert server.process.returncode == 0


def kill_the_computing(times: int, seed: int, folder: Path, **settings: Any) -> None:
    rng = random.Random(seed)  # noqa: S311
    server = Server(folder / "r", copper(), steps=ENDLESS, **settings)
    client = Client(Slow(PAUSE_S), copper(), isolated=True, max_failures=times + 1, **server.address)
    killed, me = 0, psutil.Process()
    try:
        until(lambda: server.rows() > 2, "the first steps")
        while killed < times:
            time.sleep(rng.uniform(0, 1.5 if killed % 5 else 0.05))  # some of them while it is starting again
            for child in computing(me):
                if child.status() != psutil.STATUS_ZOMBIE:
                    child.kill()
                    killed += 1
        before = server.rows()
        until(lambda: server.rows() > before + 2, "steps after the last kill")
        columns = finish(server)
        report = client.ended()
    finally:
        server.kill()
    no_reset(server)
    assert (report.ending, report.connections) == ("exit", 1)
    assert times - 1 <= report.restarts <= times  # a process may die of two signals
    assert "disconnect" not in server.log().lower()
    assert not computing(me)
    assert not holding(me)
    np.testing.assert_array_equal(columns, undisturbed(folder / "u", len(columns), **settings))


def test_kills_of_the_computing_process(tmp_path: Path) -> None:
    kill_the_computing(3, 1, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{}, {"mode": "inet", "beads": 4, "batch": 4}, {"mode": "shm"}])
def test_fifty_kills_of_the_computing_process(settings: dict[str, Any], tmp_path: Path) -> None:
    kill_the_computing(50, 2, tmp_path, **settings)


def kill_the_client(times: int, seed: int, number: int, folder: Path, mode: str) -> list[int]:
    """Clients one after the other, each killed at a random moment of its service; their exit codes."""
    rng = random.Random(seed)  # noqa: S311
    server = Server(folder / "r", copper(), steps=ENDLESS, mode=mode)
    codes = []
    try:
        for _ in range(times):
            client = client_program(server.folder, PAUSE_S, **server.address)
            before = server.rows()
            until(lambda: server.rows() > before + 1, f"steps with the next client\n{server.log()}")  # noqa: B023
            process = psutil.Process(client.pid)
            assert len(computing(process)) == len(holding(process)) == 1
            children = process.children()
            time.sleep(rng.uniform(0, 0.1))
            client.send_signal(number)
            codes.append(client.wait(60))
            until(lambda: not any(c.is_running() for c in children), "the end of its children")  # noqa: B023
        last = client_program(server.folder, PAUSE_S, **server.address)
        before = server.rows()
        until(lambda: server.rows() > before + 2, "steps with the last client")
        columns = finish(server)
        assert last.wait(60) == 0
    finally:
        server.kill()
    no_reset(server)
    assert "Traceback" not in (server.folder / "client.log").read_text()
    np.testing.assert_array_equal(columns, undisturbed(folder / "u", len(columns)))
    return codes


def test_a_client_is_killed(tmp_path: Path) -> None:
    assert kill_the_client(1, 3, signal.SIGKILL, tmp_path, "unix") == [-signal.SIGKILL]


def test_a_client_is_told_to_end(tmp_path: Path) -> None:
    assert kill_the_client(1, 4, signal.SIGTERM, tmp_path, "inet") == [143]


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["unix", "inet", "shm"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_twenty_kills_of_the_client(number: int, mode: str, tmp_path: Path) -> None:
    kill_the_client(20, 5, number, tmp_path, mode)


def kill_the_server(times: int, seed: int, folder: Path, mode: str) -> None:
    """i-PI killed and started again from its input; it takes a stale unix socket's removal, which is the user's."""
    rng = random.Random(seed)  # noqa: S311
    server = Server(folder / "r", copper(), steps=ENDLESS, mode=mode)
    client = Client(Slow(PAUSE_S), copper(), isolated=True, reconnect_s=100.0, **server.address)
    try:
        for _ in range(times):
            until(lambda: server.rows() > 1, f"steps\n{server.log()}")
            time.sleep(rng.uniform(0, 0.2))
            server.kill()
            time.sleep(rng.uniform(0, 0.5))  # there is nobody, or a stale socket
            for left in [*server.folder.glob("sim.*"), *server.folder.glob("ipi_*")]:
                left.unlink()
            server.start()
        until(lambda: server.rows() > 1, f"steps\n{server.log()}")
        columns = finish(server)
        report = client.ended()
    finally:
        server.kill()
    assert (report.ending, report.restarts) == ("exit", 0)
    assert report.connections > times  # or more: a process that dies closes its clients' sockets before its own
    np.testing.assert_array_equal(columns, undisturbed(folder / "u", len(columns)))


def test_a_server_is_killed_and_started_again(tmp_path: Path) -> None:
    kill_the_server(1, 6, tmp_path, "unix")


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["unix", "inet"])
def test_twenty_restarts_of_the_server(mode: str, tmp_path: Path) -> None:
    kill_the_server(20, 7, tmp_path, mode)


def sockets_of(pid: int) -> list[str]:
    """Listening sockets and connections over the network, as `ss` would show them."""
    found = []
    for link in psutil.Process(pid).net_connections(kind="inet"):
        ends = [f"{end.ip}" for end in (link.laddr, link.raddr) if end]
        if link.status == psutil.CONN_LISTEN or not all(ip in ("127.0.0.1", "::1") for ip in ends):
            found.append(f"{link.status} {ends}")
    return found


def leaves_nothing(mode: str, folder: Path, act: Callable[[Server, subprocess.Popen[bytes]], None]) -> tuple[int, str]:
    """Exit code and messages of a client; no process, no listening socket and no file is left by it."""
    server = Server(folder / "r", copper(), steps=ENDLESS, mode=mode)
    client = client_program(server.folder, PAUSE_S, **server.address)
    try:
        until(lambda: server.rows() > 1, "steps")
        family = [psutil.Process(client.pid), *psutil.Process(client.pid).children(recursive=True)]
        assert [sockets_of(process.pid) for process in family] == [[]] * len(family)
        before = {path.name for path in server.folder.iterdir()}
        act(server, client)
        code = client.wait(60)
        until(lambda: not any(process.is_running() for process in family), "the end of all processes")
        server.kill()
        left = {path.name for path in server.folder.iterdir()} - before
        assert all(name.startswith(("sim.", "RESTART", "EXIT", "#")) for name in left)  # i-PI's own
    finally:
        server.kill()
        client.kill()
        client.wait()
    return code, (server.folder / "client.log").read_text()


def say_exit(server: Server, client: subprocess.Popen[bytes]) -> None:
    finish(server)


@pytest.mark.parametrize(("mode", "act", "expected"), [("shm", say_exit, 0)])
def test_nothing_is_left(mode: str, act: Any, expected: int, tmp_path: Path) -> None:
    code, messages = leaves_nothing(mode, tmp_path, act)
    assert code == expected
    assert "ended by: exit" in messages
    assert "Warning" not in messages  # of Python's resource tracker, about memory that is not ours
    assert not list(Path("/dev/shm").glob("ipi_shm_*"))  # noqa: S108


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["unix", "inet", "shm"])
@pytest.mark.parametrize(
    ("name", "act", "expected"),
    [
        ("exit", say_exit, 0),
        ("killed", lambda server, client: client.kill(), -signal.SIGKILL),
        ("terminated", lambda server, client: client.terminate(), 143),
        ("interrupted", lambda server, client: client.send_signal(signal.SIGINT), 130),
        ("server killed", lambda server, client: server.kill(), 1),
    ],
)
def test_nothing_is_left_after_any_ending(mode: str, name: str, act: Any, expected: int, tmp_path: Path) -> None:
    code, messages = leaves_nothing(mode, tmp_path, act)
    assert code in (expected, -signal.SIGINT) if name == "interrupted" else code == expected
    assert "resource_tracker" not in messages
