"""Whole runs of i-PI with our client: the same bits by every way, the right pressure, committees, other versions.

MLCALC_IPI_BIN: the program i-pi of another version, for the tests of that name.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.emt import EMT
from ase.calculators.socketio import SocketClient
from ipi_servers import IPI, Client, Server, Shifted, copper, water
from springs import Springs

from mlcalc.md_protocols.ipi import ServeReport

pytestmark = pytest.mark.skipif(not IPI.exists(), reason="i-PI is an extra")

ANGSTROM, EV, MPA = 1.8897261, 0.036749326, 3.398931e-11  # in i-PI's atomic units


def served(server: Server, calc: Any, atoms: Atoms, **keywords: Any) -> ServeReport:
    """Serve a run of i-PI until it ends; both must end well."""
    client = Client(calc, atoms, **server.address, **keywords)
    try:
        report = client.ended()
        server.ended()
    finally:
        server.kill()
    assert report.ending == "exit"
    return report


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Server:
    """Four beads over a unix socket, one at a time."""
    server = Server(tmp_path_factory.mktemp("plain") / "r", copper(), beads=4)
    assert served(server, EMT(), copper()).structures == 4 * 7
    return server


@pytest.mark.parametrize(("mode", "batch"), [("unix", 4), ("inet", 1), ("inet", 3), ("shm", 1), ("shm", 4)])
def test_the_same_bits_by_every_way(mode: str, batch: int, plain: Server, tmp_path: Path) -> None:
    server = Server(tmp_path / "r", copper(), beads=4, mode=mode, batch=batch)
    report = served(server, EMT(), copper(), isolated=(mode, batch) == ("shm", 4))
    assert server.results() == plain.results()
    assert len(server.results()) == 5  # properties, and the forces of each bead
    assert report.requests == 7 * -(-4 // batch)


def first_forces(server: Server) -> np.ndarray:
    rows = (server.folder / "sim.for_0.xyz").read_text().splitlines()[2 : 2 + len(copper())]
    return np.array([[float(word) for word in row.split()[1:]] for row in rows])


def test_the_first_step_is_ases_by_hand(tmp_path: Path) -> None:
    atoms = copper()
    server = Server(tmp_path / "r", atoms, steps=1)
    served(server, EMT(), atoms)
    atoms.calc = EMT()
    row = server.columns()[0]
    # the cell comes from a file with ten digits of lengths and angles
    assert row[3] == pytest.approx(atoms.get_potential_energy() * EV, rel=1e-8)
    stress = -atoms.get_stress(voigt=False) * EV / ANGSTROM**3
    np.testing.assert_allclose(row[6:12], stress[[0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]], rtol=0, atol=1e-10)
    cell = atoms.cell.array.T * ANGSTROM
    np.testing.assert_allclose(row[12:], cell[[0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]], rtol=0, atol=1e-7)
    volume = atoms.get_volume() * ANGSTROM**3
    pressure = (2 * row[4] / 3 + np.trace(stress) * volume / 3) / volume
    assert row[5] == pytest.approx(pressure, rel=1e-6)
    assert abs(row[5] - 2 * row[4] / 3 / volume) > 1e-6  # what a virial of zeros would have given
    np.testing.assert_allclose(first_forces(server), atoms.get_forces() * EV / ANGSTROM, rtol=0, atol=1e-7)
    assert np.abs(atoms.get_forces()).max() > 0.1


def test_constant_pressure_is_that_of_ases_client(tmp_path: Path) -> None:
    """ASE's SocketClient, told to send stress, moves the cell in the same way; its units differ by 1e-7."""
    settings = {"steps": 20, "ensemble": "npt", "pressure": 100, "mode": "inet"}
    ours, theirs, none = (Server(tmp_path / name, copper(), **settings) for name in "abc")
    served(ours, EMT(), copper())
    served(none, EMT(), copper(), virial="none")
    atoms = copper()
    atoms.calc = EMT()
    for _ in range(600):
        try:
            SocketClient(port=theirs.port).run(atoms, use_stress=True)
            break
        except ConnectionRefusedError:
            theirs.process.poll()
    theirs.ended()
    cells = [server.columns()[:, 12] for server in (ours, theirs, none)]
    assert len(cells[0]) == 21
    assert cells[0][-1] != pytest.approx(cells[0][0], rel=1e-5)
    np.testing.assert_allclose(cells[0], cells[1], rtol=1e-6)
    assert abs(cells[2][-1] / cells[0][-1] - 1) > 1e-4
    np.testing.assert_allclose(ours.columns()[:, 5], theirs.columns()[:, 5], rtol=1e-4, atol=1e-9)


def test_a_molecule_whose_atoms_leave_the_box(tmp_path: Path) -> None:
    atoms = water()
    springs = Springs(atoms, 1.5)
    boxed = atoms.copy()
    boxed.cell = np.eye(3) * 6
    boxed.positions -= 20.0
    server = Server(tmp_path / "r", boxed, steps=10)
    served(server, springs, atoms)
    conserved = server.columns()[:, 1]
    assert np.ptp(conserved) < 0.02 * np.ptp(server.columns()[:, 4])


COMMITTEE = "<ffcommittee name='d'><parse_json>True</parse_json>{field}</ffcommittee>"
EXTRAS = "".join(
    f"<trajectory stride='1' filename='{key}' extra_type='{key}'> extras </trajectory>"
    for key in ("dipole", "energy_spread", "committee_pot")
)


def test_extras_in_the_output_of_i_pi(tmp_path: Path) -> None:
    atoms, factors = copper(), (0.9, 1.3)
    server = Server(tmp_path / "r", atoms, steps=2, beads=2, batch=2, output=EXTRAS)
    served(server, [Shifted(factor) for factor in factors], atoms, dipole=Shifted(1.0))
    energy = EMT().get_potential_energy(atoms) * EV
    for bead in "01":
        words = {key: (server.folder / f"sim.{key}_{bead}").read_text().splitlines() for key in ("dipole",)}
        np.testing.assert_allclose(
            [float(word) for word in words["dipole"][1].split()], atoms.positions[0] * 0.1 * ANGSTROM, atol=1e-6
        )
        spread = np.loadtxt(server.folder / f"sim.energy_spread_{bead}")
        assert spread[0] == pytest.approx(abs(energy) * np.std(factors, ddof=1), rel=1e-6)
        assert len(np.unique(spread)) == 3
        pots = np.loadtxt(server.folder / f"sim.committee_pot_{bead}")
        np.testing.assert_allclose(pots[0], energy * np.array(factors), rtol=1e-6)


def test_a_committee_inside_i_pi(tmp_path: Path) -> None:
    """ffcommittee takes the members apart from our one answer and puts them together as we do."""
    atoms, factors = copper(), (0.9, 1.0, 1.3)
    members = [Shifted(factor) for factor in factors]
    output = (
        "<trajectory stride='1' filename='com' extra_type='committee_uncertainty'> extras </trajectory>"
        "<trajectory stride='1' filename='pot' extra_type='committee_pot'> extras </trajectory>"
    )
    # i-PI's option for the place of unix sockets does not reach into a committee
    server = Server(tmp_path / "c", atoms, steps=3, mode="inet", fields=COMMITTEE, name="inner", output=output)
    served(server, members, atoms)
    plain = Server(tmp_path / "p", atoms, steps=3)
    served(plain, members, atoms)
    np.testing.assert_allclose(server.columns(), plain.columns(), rtol=1e-6, atol=1e-9)
    energy = EMT().get_potential_energy(atoms) * EV
    uncertainty = np.atleast_1d(np.loadtxt(server.folder / "sim.com_0"))
    assert np.ravel(uncertainty)[0] == pytest.approx(abs(energy) * np.std(factors, ddof=1), rel=1e-6)


@pytest.mark.skipif("MLCALC_IPI_BIN" not in os.environ, reason="MLCALC_IPI_BIN names no other i-PI")
@pytest.mark.parametrize(("mode", "beads"), [("unix", 1), ("unix", 4), ("inet", 4)])
def test_another_i_pi(mode: str, beads: int, tmp_path: Path) -> None:
    """An older release with our client gives what the installed one does, as far as its own digits go."""
    other = Server(tmp_path / "other", copper(), mode=mode, beads=beads, ipi=os.environ["MLCALC_IPI_BIN"])
    report = served(other, EMT(), copper(), isolated=True)
    here = Server(tmp_path / "here", copper(), mode=mode, beads=beads)
    served(here, EMT(), copper())
    assert report.structures == 7 * beads
    # the third column is the temperature, for which 3.1.0 counts the degrees of freedom of beads in another way
    columns = [np.delete(server.columns(), 2, axis=1) for server in (other, here)]
    np.testing.assert_allclose(*columns, rtol=1e-7, atol=1e-12)
