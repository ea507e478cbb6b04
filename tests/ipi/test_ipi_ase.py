"""Our client behind ASE's SocketIOCalculator: the calculator's own numbers to rounding, and the same minimum."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.emt import EMT
from ase.calculators.socketio import SocketIOCalculator
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS
from ipi_servers import Client, Failing, copper, free_port, water
from springs import Springs

from mlcalc.md_protocols.ipi import WorkerError
from mlcalc.md_protocols.ipi.responder import IPI_UNITS

WAYS = ["unix", "inet"]


@contextmanager
def served(atoms: Atoms, calc: Any, way: str, **keywords: Any) -> Iterator[tuple[SocketIOCalculator, Client]]:
    """ASE's server with our client; it ends when the server's calculator is closed, which says no word."""
    name, port = f"mlcalc_test_{os.getpid()}", free_port()
    address: dict[str, Any] = {"unixsocket": name} if way == "unix" else {"port": port}
    with SocketIOCalculator(timeout=100.0, **address) as server:
        client = Client(calc, atoms, **({"unix": name} if way == "unix" else {"port": port}), **keywords)
        yield server, client


@pytest.mark.parametrize("way", WAYS)
def test_ase_gets_the_calculators_numbers(way: str) -> None:
    atoms = copper()
    with served(atoms, EMT(), way) as (server, client):
        for k in range(3):
            atoms.rattle(0.05, seed=k)
            atoms.calc = EMT()
            energy, forces, stress = atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()
            atoms.calc = server
            assert atoms.get_potential_energy() == pytest.approx(energy, rel=1e-12)
            np.testing.assert_allclose(atoms.get_forces(), forces, rtol=0, atol=1e-12)
            np.testing.assert_allclose(atoms.get_stress(), stress, rtol=0, atol=1e-12)
            assert np.abs(stress).max() > 1e-3
    report = client.ended()
    assert (report.ending, report.requests, report.connections) == ("closed", 3, 1)


def test_i_pis_units_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    atoms = copper()
    monkeypatch.setitem(__import__("mlcalc.md_protocols.ipi.responder", fromlist=["UNITS"]).UNITS, "ase", IPI_UNITS)
    with served(atoms, EMT(), "unix") as (server, client):
        atoms.calc = server
        assert abs(atoms.get_potential_energy() / EMT().get_potential_energy(copper()) - 1) > 1e-10
    client.ended()


def test_a_cluster() -> None:
    atoms = water()
    springs = Springs(water(), 1.5)
    atoms.positions *= 1.05
    expected = springs.get_forces(atoms)
    with served(water(), springs, "unix") as (server, client):
        atoms.calc = server
        np.testing.assert_allclose(atoms.get_forces(), expected, rtol=0, atol=1e-12)
    assert client.ended().ending == "closed"


@pytest.mark.parametrize("cell", [False, True])
def test_a_relaxation_ends_in_the_same_minimum(cell: bool) -> None:
    ours, theirs = copper(), copper()
    with served(ours, EMT(), "unix", isolated=True) as (server, client):
        ours.calc = server
        assert BFGS(FrechetCellFilter(ours) if cell else ours, logfile=None).run(fmax=1e-4, steps=200)
        energy = ours.get_potential_energy()
    client.ended()
    theirs.calc = EMT()
    assert BFGS(FrechetCellFilter(theirs) if cell else theirs, logfile=None).run(fmax=1e-4, steps=200)
    assert energy == pytest.approx(theirs.get_potential_energy(), abs=1e-9)
    np.testing.assert_allclose(ours.positions, theirs.positions, rtol=0, atol=1e-6)
    np.testing.assert_allclose(ours.cell, theirs.cell, rtol=0, atol=1e-6)


def test_a_calculator_that_fails_ends_both(tmp_path: Any) -> None:
    """ASE's server hears of it: its own error comes at once, and not at its timeout."""
    (tmp_path / "trigger").touch()
    atoms = copper()
    with served(atoms, Failing("nan", tmp_path / "trigger"), "unix") as (server, client):
        atoms.calc = server
        with pytest.raises(Exception, match="^$"):  # ASE's SocketClosed has no text
            atoms.get_potential_energy()
    with pytest.raises(WorkerError, match="forces on 4 of 4 atoms are not finite"):
        client.ended()
