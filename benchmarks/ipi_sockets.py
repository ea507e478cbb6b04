"""What a socket costs beyond the model: mlcalc's client beside ASE's SocketClient, on one server.

    python -m benchmarks.ipi_sockets [--json FILE]

The server speaks i-PI's protocol as i-PI 3.3 does (STATUS, then positions and GETFORCE in one message) and measures
from the positions to the last byte of the answer.  The calculator, the same for all, does what ASE asks of every
calculator (it keeps a copy of the structure) and no more; it measures that itself, and it is subtracted: what is left
is the socket's.  Clients run in turns; medians over the steps.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

STEPS, WARMUP, ROUNDS = 400, 50, 5
TIMES = "MLCALC_BENCHMARK_TIMES"  # names the file


class Nothing(Calculator):
    """Zeros, at once; says in a file how long that took, s, the median."""

    implemented_properties = ["energy", "forces", "stress"]  # noqa: RUF012 - as in ASE

    def __init__(self) -> None:
        super().__init__()
        self.times: list[float] = []

    def calculate(self, atoms: Any = None, properties: Any = ("energy",), system_changes: Any = all_changes) -> None:
        begun = time.perf_counter()
        super().calculate(atoms, properties, system_changes)
        self.results = {"energy": 0.0, "forces": np.zeros((len(atoms), 3)), "stress": np.zeros(6)}
        self.times.append(time.perf_counter() - begun)
        if len(self.times) == STEPS:
            Path(os.environ[TIMES]).write_text(str(statistics.median(self.times[WARMUP:])), encoding="utf-8")


def structure(count: int) -> Atoms:
    """So many atoms in a box."""
    return Atoms("H" * count, positions=np.random.default_rng(0).uniform(0, 30, (count, 3)), cell=[30] * 3, pbc=True)


def client(kind: str, where: str, count: int) -> None:
    """Serve until EXIT."""
    from benchmarks.ipi_sockets import Nothing  # by the module's name, under which other processes find it

    unix = where if "/" in where else None
    if kind == "ase":
        from ase.calculators.socketio import SocketClient

        name = None if unix is None else unix.removeprefix("/tmp/ipi_")  # noqa: S108
        connection = SocketClient(host="localhost", port=None if unix else int(where), unixsocket=name)
        atoms = structure(count)
        atoms.calc = Nothing()
        connection.run(atoms, use_stress=True)
        return
    from mlcalc.md_protocols import serve_ipi

    serve_ipi(
        Nothing(),
        structure(count),
        unix=unix,
        port=None if unix else int(where),
        isolated=kind == "mlcalc",
        check_template=False,
        progress=False,
    )


def received(link: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        part = link.recv(size - len(data))
        if not part:
            raise ConnectionError("the client left")
        data += part
    return bytes(data)


def measured(kind: str, mode: str, count: int, folder: Path) -> tuple[float, float]:
    """Median seconds per step, with the calculator and beyond it."""
    if mode == "unix":
        where = f"/tmp/ipi_bench-{os.getpid()}"  # noqa: S108 - the prefix that ASE has fixed
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(where)
    else:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.bind(("127.0.0.1", 0))
        where = str(listener.getsockname()[1])
    listener.listen(1)
    command = [sys.executable, "-m", "benchmarks.ipi_sockets", "--client", kind, where, str(count)]
    times = folder / "times"
    process = subprocess.Popen(command, env=os.environ | {TIMES: str(times)})  # noqa: S603
    try:
        listener.settimeout(60)
        link, _ = listener.accept()
        if mode == "inet":
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        whole = statistics.median(conversation(link, count))
        return whole, whole - float(times.read_text(encoding="utf-8"))
    finally:
        listener.close()
        if mode == "unix":
            Path(where).unlink()
        process.wait(timeout=60)


def conversation(link: socket.socket, count: int) -> list[float]:
    head = {word: word.ljust(12).encode() for word in ("STATUS", "INIT", "POSDATA", "GETFORCE", "EXIT")}
    positions, cell = structure(count).positions / 0.529177, np.eye(3) * 56.7
    link.sendall(head["STATUS"])
    if received(link, 12).strip() == b"NEEDINIT":
        link.sendall(head["INIT"] + np.int32(0).tobytes() + np.int32(1).tobytes() + b" ")
    size, seconds = 12 + 8 + 4 + 24 * count + 72, []
    for step in range(STEPS):
        positions = positions + 1e-6
        link.sendall(head["STATUS"])
        if received(link, 12).strip() == b"NEEDINIT":  # ASE's client asks for it at every step
            link.sendall(head["INIT"] + np.int32(0).tobytes() + np.int32(1).tobytes() + b" ")
        message = head["POSDATA"] + cell.tobytes() + cell.tobytes() + np.int32(count).tobytes() + positions.tobytes()
        begun = time.perf_counter()
        link.sendall(message + head["GETFORCE"])
        received(link, size)
        received(link, int.from_bytes(received(link, 4), sys.byteorder))
        if step >= WARMUP:
            seconds.append(time.perf_counter() - begun)
    link.sendall(head["EXIT"])
    link.close()
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--client", nargs=3)
    parser.add_argument("--json")
    arguments = parser.parse_args()
    if arguments.client:
        client(arguments.client[0], arguments.client[1], int(arguments.client[2]))
        return
    rows = []
    print("µs per step, and beyond the calculator; medians [lowest, highest] of the rounds' medians")
    print("atoms  socket  client             with the calculator      beyond it   of ASE's")
    for count, mode in itertools.product((21, 1000), ("unix", "inet")):
        found: dict[str, list[tuple[float, float]]] = {}
        with tempfile.TemporaryDirectory() as folder:
            for _, kind in itertools.product(range(ROUNDS), ("ase", "mlcalc", "mlcalc-here")):
                found.setdefault(kind, []).append(measured(kind, mode, count, Path(folder)))
        beyond = {kind: statistics.median(part for _, part in values) for kind, values in found.items()}
        for kind, values in found.items():
            whole = sorted(1e6 * value for value, _ in values)
            rows.append({"atoms": count, "socket": mode, "client": kind, "us": whole, "beyond_us": 1e6 * beyond[kind]})
            spread = f"{statistics.median(whole):7.0f} [{whole[0]:.0f}, {whole[-1]:.0f}]"
            ratio = beyond[kind] / beyond["ase"]
            print(f"{count:5d}  {mode:6s}  {kind:12s} {spread:>26s}  {1e6 * beyond[kind]:13.0f}   {ratio:8.3f}")
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
