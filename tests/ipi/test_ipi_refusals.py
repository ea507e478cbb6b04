"""What the i-PI client says to calculators that cannot be had and to addresses that lead nowhere."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from ase.calculators.emt import EMT
from ipi_servers import Client, Listener, Shifted, copper, free_port

from mlcalc.md_protocols.errors import ConfigError
from mlcalc.md_protocols.ipi import ConnectionFailedError, WorkerError, serve_ipi

ATOMS = copper()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The servers here stay open after the client has closed, which it would wait for."""
    monkeypatch.setattr("mlcalc.md_protocols.ipi.wire.held_connection._DRAIN_S", 0.1)
    monkeypatch.setattr("mlcalc.md_protocols.ipi.wire.held_connection._FINISHED_S", 0.1)


class NoPickle(EMT):
    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()


def missing() -> Any:
    raise ModuleNotFoundError("No module named 'tblite'", name="tblite")


def dying() -> Any:
    os.abort()


@pytest.mark.parametrize(
    ("calc", "kind", "says"),
    [
        (NoPickle(), ConfigError, "cannot be sent to a process of its own .*isolated=False"),
        (missing, WorkerError, "the calculator cannot be made: ModuleNotFoundError: No module named 'tblite'"),
        (dying, WorkerError, "ended before its calculator was made .signal 6"),
        ([], ConfigError, "calc is an empty list"),
        (5, ConfigError, "calc is a int"),
    ],
)
def test_calculators_that_cannot_be_had(calc: Any, kind: type[Exception], says: str) -> None:
    with pytest.raises(kind, match=says):
        serve_ipi(calc, ATOMS, port=1, connect_s=0.0, progress=False)


def test_a_class_makes_its_calculator(tmp_path: Path) -> None:
    listener = Listener(tmp_path)
    client = Client(EMT, ATOMS, unix=listener.path)
    peer = listener.accept()
    peer.ready()
    assert peer.compute(ATOMS)[0] == pytest.approx(EMT().get_potential_energy(ATOMS) * 0.036749326, rel=1e-12)
    peer.say("EXIT")
    client.ended()
    listener.close()


def test_a_calculator_defined_in_the_program_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """The computing process imports modules, and the program is none: the remedy is told."""
    monkeypatch.setattr(Shifted, "__module__", "__main__")
    monkeypatch.setattr(sys.modules["__main__"], "Shifted", Shifted, raising=False)
    with pytest.raises(WorkerError, match="cannot be made: AttributeError: .*move it to a module") as caught:
        serve_ipi(Shifted(1.0), ATOMS, port=1, connect_s=0.0, progress=False)
    assert "Traceback" in caught.value.__notes__[0]


@pytest.mark.slow
def test_one_of_our_models_itself_goes_to_its_process(tmp_path: Path) -> None:
    """Tensors too: torch's own ways of sending them are for children of multiprocessing."""
    mlcalc = pytest.importorskip("mlcalc")
    listener = Listener(tmp_path)
    client = Client(mlcalc.MLCalculator("cu-hvnet"), ATOMS, unix=listener.path, isolated=True)
    peer = listener.accept()
    peer.ready()
    expected = mlcalc.MLCalculator("cu-hvnet").get_potential_energy(ATOMS) * 0.036749326
    assert peer.compute(ATOMS)[0] == pytest.approx(expected, rel=1e-6)
    peer.say("EXIT")
    client.ended()
    listener.close()


class NoStress(Shifted):
    implemented_properties = ("energy", "forces")


@pytest.mark.parametrize("isolated", [False, True])
@pytest.mark.parametrize("calc", [NoStress(1.0), lambda: NoStress(1.0)])
def test_a_calculator_without_stress(calc: Any, isolated: bool) -> None:
    if isolated and not hasattr(calc, "calculate"):
        calc = _no_stress
    with pytest.raises((ConfigError, WorkerError), match="NoStress gives no stress.*virial='none'"):
        serve_ipi(calc, ATOMS, port=1, connect_s=0.0, isolated=isolated, progress=False)


def _no_stress() -> Any:
    return NoStress(1.0)


def addresses(tmp_path: Path) -> dict[str, tuple[dict[str, Any], type[Exception], str]]:
    (tmp_path / "file").touch()
    stale = Listener(tmp_path, "stale")
    stale.die()
    return {
        "nobody": ({"unix": tmp_path / "none"}, ConnectionFailedError, "there is no .*none: is the server running"),
        "stale": ({"unix": tmp_path / "stale"}, ConnectionFailedError, "nobody listens: left behind"),
        "file": ({"unix": tmp_path / "file"}, ConnectionFailedError, "file is no socket"),
        "port": ({"port": free_port()}, ConnectionFailedError, "nobody listens at localhost:"),
        "long": ({"unix": tmp_path / ("x" * 100)}, ConfigError, "must have 1 to 107 bytes"),
        "empty": ({"unix": ""}, ConfigError, "must have 1 to 107 bytes"),
        "remote": ({"host": "192.0.2.7", "port": 5}, ConfigError, "another machine.*ssh -L 5:localhost:5 192.0.2.7"),
        "any": ({"host": "0.0.0.0", "port": 5}, ConfigError, "another machine"),  # noqa: S104
        "both": (
            {"unix": "a", "port": 5},
            ConfigError,
            "give either the name of a unix socket.*pass unix=.driver., or pass port=31415",
        ),
        "neither": ({}, ConfigError, "give either the name of a unix socket.*pass unix=.driver., or pass port=31415"),
        "zero": ({"port": 0}, ConfigError, "port is 0"),
        "text": ({"port": "31415"}, ConfigError, "port is '31415'"),
        "number": ({"unix": 5}, ConfigError, "unix is 5"),
        "nul": ({"unix": "a\0b"}, ConfigError, "it must be the name or path"),
        "host": ({"host": 5, "port": 5}, ConfigError, "host is 5"),
        "name": ({"host": "x" * 70 + ".y", "port": 5}, ConfigError, "is unknown"),
    }


@pytest.mark.parametrize(
    "case", "nobody stale file port long empty remote any both neither zero text number nul host name".split()
)
def test_addresses_that_lead_nowhere(case: str, tmp_path: Path) -> None:
    keywords, kind, says = addresses(tmp_path)[case]
    with pytest.raises(kind, match=says):
        serve_ipi(EMT(), ATOMS, isolated=False, connect_s=0.1, progress=False, **keywords)
