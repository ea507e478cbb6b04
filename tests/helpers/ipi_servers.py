"""Servers for the i-PI client: a scripted one on the other end of its socket, and runs of i-PI itself.

Called as a program it is a client, for tests that kill it: its argument is JSON of `serve`.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT
from ase.io import read

from mlcalc.md_protocols.ipi import ServeReport, serve_ipi

HERE = Path(__file__)
IPI = Path(sys.executable).with_name("i-pi")
WAIT_S = 120.0  # a test that waits longer has failed; never the time that anything takes


class Slow(EMT):
    """EMT that takes its time, so that it is killed while it computes."""

    def __init__(self, pause_s: float) -> None:
        super().__init__()
        self.pause_s = pause_s

    def calculate(self, *arguments: Any, **keywords: Any) -> None:
        time.sleep(self.pause_s)
        super().calculate(*arguments, **keywords)


class Failing(EMT):
    """EMT that misbehaves while the file `trigger` exists; "once" removes it first."""

    def __init__(self, how: str, trigger: Path) -> None:
        super().__init__()
        self.how, self.trigger = how, trigger

    def calculate(self, *arguments: Any, **keywords: Any) -> None:
        super().calculate(*arguments, **keywords)
        if not self.trigger.exists():
            return
        if "once" in self.how:
            self.trigger.unlink()
        if "crash" in self.how:
            os.abort()
        if "hang" in self.how:
            time.sleep(10 * WAIT_S)
        if "raise" in self.how:
            raise RuntimeError("the device is gone")
        self.results["forces"] = self.results["forces"] * (np.nan if "nan" in self.how else 1.0)


class Still(Calculator):
    """No forces at all, on however many atoms."""

    implemented_properties: ClassVar[list[str]] = ["energy", "forces", "stress"]

    def calculate(self, atoms: Atoms, *arguments: Any) -> None:
        super().calculate(atoms)
        self.results = {"energy": 0.0, "forces": np.zeros((len(atoms), 3)), "stress": np.zeros(6)}


class Shifted(EMT):
    """A member of a committee: EMT with other energies, forces and stresses."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def calculate(self, *arguments: Any, **keywords: Any) -> None:
        super().calculate(*arguments, **keywords)
        self.results = {name: self.factor * np.asarray(value) for name, value in self.results.items()}

    def get_dipole_moment(self, atoms: Atoms) -> np.ndarray:
        return atoms.positions[0] * 0.1


def copper() -> Atoms:
    """Four atoms in a triclinic cell, oriented as i-PI has it: its columns are an upper triangle."""
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.05, seed=1)
    atoms.set_cell(atoms.cell.array @ np.array([[1.0, 0.0, 0.0], [0.08, 1.02, 0.0], [-0.05, 0.06, 0.97]]), True)
    return atoms


def water() -> Atoms:
    """A molecule without a cell."""
    atoms = molecule("H2O")
    atoms.rattle(0.05, seed=2)
    return atoms


class Client(threading.Thread):
    """serve_ipi in a thread: `report` or `error` once it has ended."""

    def __init__(self, calc: Any, atoms: Atoms, **keywords: Any) -> None:
        super().__init__(daemon=True)
        self.report: ServeReport | None = None
        self.error: BaseException | None = None
        settings: dict[str, Any] = {"isolated": False, "progress": False, "connect_s": WAIT_S} | keywords
        self._serve: Callable[[], ServeReport] = lambda: serve_ipi(calc, atoms, **settings)
        self.start()

    def run(self) -> None:
        try:
            self.report = self._serve()
        except BaseException as error:
            self.error = error

    def ended(self) -> ServeReport:
        """The report; raises what the client raised."""
        self.join(WAIT_S)
        assert not self.is_alive(), "the client hangs"
        if self.error is not None:
            raise self.error
        assert self.report is not None
        return self.report


class Peer:
    """One accepted connection, spoken to by hand as i-PI does: 12 letters, then numbers."""

    def __init__(self, link: socket.socket) -> None:
        self.link = link
        link.settimeout(WAIT_S)

    def say(self, word: str, *more: bytes) -> None:
        self.link.sendall(word.ljust(12).encode() + b"".join(more))

    def hear(self, size: int = 12) -> bytes:
        data = b""
        while len(data) < size:
            part = self.link.recv(size - len(data))
            if not part:
                raise EOFError(data)
            data += part
        return data

    def status(self) -> str:
        self.say("STATUS")
        return self.hear().decode().strip()

    def init(self, text: bytes = b" ") -> None:
        self.say("INIT", np.int32(0).tobytes(), np.int32(len(text)).tobytes(), text)

    def ready(self, text: bytes = b" ") -> None:
        """What i-PI says to a new client."""
        assert self.status() == "NEEDINIT"
        self.init(text)
        assert self.status() == "READY"

    def forces(self, natoms: int) -> tuple[float, np.ndarray, np.ndarray, str]:
        """Takes an answer: energy, forces, virial, extras."""
        assert self.hear() == b"FORCEREADY  "
        energy = float(np.frombuffer(self.hear(8))[0])
        assert np.frombuffer(self.hear(4), np.int32)[0] == natoms
        forces = np.frombuffer(self.hear(24 * natoms)).reshape(natoms, 3)
        virial = np.frombuffer(self.hear(72)).reshape(3, 3)
        return energy, forces, virial, self.hear(int(np.frombuffer(self.hear(4), np.int32)[0])).decode()

    def compute(self, atoms: Atoms) -> tuple[float, np.ndarray, np.ndarray, str]:
        self.say("POSDATA", posdata(atoms), b"GETFORCE    ")
        return self.forces(len(atoms))

    def close(self) -> None:
        self.link.close()


def posdata(atoms: Atoms) -> bytes:
    """Cell and its inverse with vectors in columns, count and positions, in bohr as i-PI has it."""
    cell = atoms.cell.array.T * 1.8897261
    inverse = np.linalg.inv(cell) if atoms.cell.rank == 3 else np.eye(3)
    where = atoms.positions * 1.8897261
    return b"".join(
        [np.ascontiguousarray(cell).tobytes(), inverse.tobytes(), np.int32(len(atoms)).tobytes(), where.tobytes()]
    )


class Listener:
    """A unix socket in a folder that accepts clients, as often as wanted; its file stays after `die`."""

    def __init__(self, folder: Path, name: str = "s") -> None:
        self.path = folder / name
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(self.path))
        self._socket.listen()
        self._socket.settimeout(WAIT_S)
        self._peers: list[Peer] = []

    def accept(self) -> Peer:
        self._peers.append(Peer(self._socket.accept()[0]))
        return self._peers[-1]

    def die(self) -> None:
        self._socket.close()

    def close(self) -> None:
        self._socket.close()
        self.path.unlink(missing_ok=True)
        for peer in self._peers:
            peer.close()


INPUT = """<simulation verbosity='low' safe_stride='1'>
<output prefix='sim'>
<properties stride='1' filename='out'>
[step, conserved, temperature, potential, kinetic_md, pressure_md, virial_md, cell_h]</properties>
<trajectory stride='1' filename='for' format='xyz'> forces </trajectory>{output}
</output>
<total_steps>{steps}</total_steps><prng><seed>3</seed></prng>
{fields}
<system><initialize nbeads='{beads}'><file mode='xyz'>init.xyz</file>
<velocities mode='thermal' units='kelvin'>300</velocities></initialize>
<forces><force forcefield='d'/></forces>
<ensemble><temperature units='kelvin'>300</temperature><pressure units='megapascal'>{pressure}</pressure></ensemble>
<motion mode='dynamics'><dynamics mode='{ensemble}'><timestep units='femtosecond'>1</timestep>{barostat}</dynamics>
</motion></system></simulation>"""
BAROSTAT = (
    "<barostat mode='isotropic'><tau units='femtosecond'>50</tau><thermostat mode='langevin'><tau units='femtosecond'>"
    "50</tau></thermostat></barostat><thermostat mode='langevin'><tau units='femtosecond'>50</tau></thermostat>"
)


class Server:
    """A run of i-PI in a folder, with unix sockets in the same folder."""

    def __init__(
        self, folder: Path, atoms: Atoms, *, mode: str = "unix", ipi: str | Path = IPI, **settings: Any
    ) -> None:
        self.folder, self.mode, self.ipi = folder, mode, str(ipi)
        self.port = free_port() if mode == "inet" else None
        folder.mkdir(exist_ok=True)
        atoms.write(folder / "init.extxyz", format="extxyz")
        cell = " ".join(f"{number:.10f}" for number in atoms.cell.cellpar())
        lines = [str(len(atoms)), f"# CELL(abcABC): {cell} Step: 0 Bead: 0 positions{{angstrom}} cell{{angstrom}}"]
        lines += [f"{a.symbol} {a.x:.12f} {a.y:.12f} {a.z:.12f}" for a in atoms]
        (folder / "init.xyz").write_text("\n".join(lines) + "\n")
        self.prefix = f"{folder}/ipi_"
        batch = settings.get("batch", 1)
        inner = f"<batch_size>{batch}</batch_size>" if batch > 1 else ""
        inner += "<address>localhost</address>" if self.port else "<address>a</address>"
        inner += f"<port>{self.port}</port>" if self.port else ""
        field = f"<ffsocket name='{{name}}' mode='{mode}' pbc='False'>{inner}<latency>1e-4</latency></ffsocket>"
        values = {
            "steps": settings.get("steps", 6),
            "beads": settings.get("beads", 1),
            "ensemble": settings.get("ensemble", "nve"),
            "pressure": settings.get("pressure", 0),
            "barostat": BAROSTAT if settings.get("ensemble") == "npt" else "",
            "output": settings.get("output", ""),
            "fields": settings.get("fields", "{field}").format(field=field.format(name=settings.get("name", "d"))),
        }
        (folder / "input.xml").write_text(INPUT.format(**values))
        self.start()

    def start(self, source: str = "input.xml") -> None:
        with (self.folder / "log").open("ab") as log:
            command = [self.ipi, source] + (["-S", self.prefix] if self.mode != "inet" else [])
            self.process = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=subprocess.STDOUT)

    @property
    def address(self) -> dict[str, Any]:
        """For serve_ipi."""
        return {"port": self.port} if self.port else {"unix": "a", "prefix": self.prefix}

    def ended(self) -> None:
        """Wait for i-PI, which must succeed."""
        try:
            assert self.process.wait(WAIT_S) == 0, self.log()
        finally:
            self.kill()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def rows(self) -> int:
        """Steps in the output so far."""
        out = self.folder / "sim.out"
        return sum(not line.startswith("#") for line in out.read_text().splitlines()) if out.exists() else 0

    def results(self) -> dict[str, str]:
        """All output files, as texts."""
        return {path.name: path.read_text() for path in sorted(self.folder.glob("sim.*"))}

    def columns(self) -> np.ndarray:
        return np.loadtxt(self.folder / "sim.out")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for it; the limit is that of a test that has failed."""
    end = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end, f"never came: {what}"
        time.sleep(0.01)


def client_program(folder: Path, pause_s: float, **settings: Any) -> subprocess.Popen[bytes]:
    """A client as a process of its own, with EMT that takes pause_s per structure."""
    told = json.dumps({"atoms": str(folder / "init.extxyz"), "pause_s": pause_s, **settings})
    with (folder / "client.log").open("ab") as log:
        return subprocess.Popen([sys.executable, str(HERE), told], stdout=log, stderr=subprocess.STDOUT)


def main() -> None:
    told = json.loads(sys.argv[1])
    atoms, pause_s = read(told.pop("atoms")), told.pop("pause_s")
    sys.modules["ipi_servers"] = sys.modules["__main__"]  # where its child finds Slow
    Slow.__module__ = "ipi_servers"
    print(serve_ipi(Slow(pause_s), atoms, **({"progress": False, "connect_s": WAIT_S, "reconnect_s": 0.0} | told)))


if __name__ == "__main__":
    main()
