"""`mlcalc ipi` and the driver that i-PI loads itself."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.geometry.cell import cellpar_to_cell
from ase.io import read, write
from ipi_servers import IPI, Server
from ipi_servers import copper as four_atoms

from mlcalc import MLCalculator
from mlcalc.cli import main
from mlcalc.errors import DataError
from mlcalc.md_protocols.errors import ConfigError
from mlcalc.md_protocols.ipi import ServeReport, WireError
from mlcalc.md_protocols.ipi.template_check import check_volumes

pytestmark = pytest.mark.skipif(not IPI.exists(), reason="i-PI is an extra")

ANGSTROM, EV = 1.8897261, 0.036749326


@pytest.fixture
def structure(tmp_path: Path) -> Path:
    atoms = bulk("Cu", a=3.6363, cubic=True)
    atoms.rattle(0.03, seed=1)
    write(tmp_path / "cu.extxyz", atoms)
    return tmp_path / "cu.extxyz"


def test_path_prints_the_driver_that_ipi_accepts(capsys: pytest.CaptureFixture[str]) -> None:
    from ipi.pes import load_pes, scan_pes_file

    assert main(["ipi", "path"]) == 0
    path = capsys.readouterr().out.strip()
    assert path.endswith("/mlcalc/ipi_driver.py")  # inputs of users name it: it stays where it is
    assert scan_pes_file(path) == ("MLCalcDriver", "mlcalc")
    assert load_pes("custom", path).__name__ == "MLCalcDriver"


def test_the_driver_gives_what_the_calculator_gives(structure: Path) -> None:
    from mlcalc.ipi_driver import MLCalcDriver

    driver = MLCalcDriver(template=str(structure), model="cu-hvnet", verbosity=True)
    beads = [read(structure) for _ in range(3)]
    for k, atoms in enumerate(beads):
        atoms.rattle(0.02, seed=k + 5)
        atoms.calc = MLCalculator("cu-hvnet")
    cells = [atoms.cell.array.T * ANGSTROM for atoms in beads]
    positions = [atoms.positions * ANGSTROM for atoms in beads]
    for atoms, (energy, forces, virial, extras) in zip(beads, driver(cells, positions), strict=True):
        assert energy == pytest.approx(atoms.get_potential_energy() * EV, rel=1e-12)
        assert forces == pytest.approx(atoms.get_forces() * EV / ANGSTROM, abs=1e-12)
        assert virial == pytest.approx(-atoms.get_stress(voigt=False) * atoms.get_volume() * EV, abs=1e-11)
        assert extras == ""
    one = driver(cells[1], positions[1])
    assert one[0] == pytest.approx(beads[1].get_potential_energy() * EV, rel=1e-12)
    with pytest.raises(ConfigError, match="3 atoms, the template has 4"):
        driver(cells[0], positions[0][:3])
    lost = read(structure)
    lost.cell, lost.pbc = None, False  # a crystal whose file lost its cell
    write(structure.parent / "lost.xyz", lost, plain=True)
    with pytest.raises(WireError, match="of their images"):
        MLCalcDriver(template=str(structure.parent / "lost.xyz"), model="cu-hvnet")(cells[0], positions[0])
    with pytest.raises(WireError, match="bohr and Å"):
        MLCalcDriver(template=str(structure), model="cu-hvnet")(cells[0] * ANGSTROM, positions[0] * ANGSTROM)
    with pytest.raises(ConfigError, match="a template and a model"):
        MLCalcDriver(model="cu-hvnet")


@pytest.mark.parametrize("unit", ["angstrom", "atomic_unit", ""])
@pytest.mark.parametrize("cell", ["abcABC", "H"])
def test_structures_of_ipi_are_read_with_cell_and_unit(unit: str, cell: str, structure: Path) -> None:
    from mlcalc.cli.structures import read_structure

    atoms = bulk("Cu", a=3.6363) * (1, 2, 1)
    atoms.set_cell(cellpar_to_cell(atoms.cell.cellpar()), scale_atoms=True)
    atoms.rattle(0.05, seed=2)
    scale = 1.0 if unit == "angstrom" else ANGSTROM
    lengths = [*(atoms.cell.cellpar()[:3] * scale), *atoms.cell.cellpar()[3:]]
    numbers = lengths if cell == "abcABC" else (atoms.cell.array.T * scale).ravel()
    words = f"positions{{{unit}}} cell{{{unit}}}" if unit else "Step: 0"
    rows = ["Cu " + " ".join(f"{x * scale:.12f}" for x in row) for row in atoms.positions]
    comment = f"# CELL({cell}): {' '.join(f'{x:.12f}' for x in numbers)} {words}"
    path = structure.parent / "init.xyz"
    path.write_text("\n".join([str(len(atoms)), comment, *rows, ""]))
    found = read_structure(str(path))
    assert found.pbc.all()
    assert found.cell.array == pytest.approx(atoms.cell.array, abs=1e-8)
    assert found.positions == pytest.approx(atoms.positions, abs=1e-8)
    assert read_structure(str(path), 0).positions == pytest.approx(atoms.positions, abs=1e-8)
    path.write_text(path.read_text().replace(words, "velocities{atomic_unit} cell{atomic_unit}"))
    with pytest.raises(DataError, match="does not say that these are positions"):
        read_structure(str(path))


def test_a_socket_that_serves_two_systems_is_noticed() -> None:
    assert check_volumes(1000.0, [1000.0, 1157.6]) == 1157.6
    with pytest.raises(WireError, match="two systems"):
        check_volumes(1000.0, [1000.0, 2000.0])


DIRECT = """<simulation verbosity='low'> <output prefix='sim'> <properties stride='1' filename='out'> [step,
potential{electronvolt}] </properties> </output> <total_steps>TOTAL</total_steps>
<ffdirect name='d' threaded='true'> <pes>custom</pes> <pes_path>PATH</pes_path>
<parameters>{template: cu.extxyz, model: cu-hvnet}</parameters> <batch_size>2</batch_size> </ffdirect>
<system> <initialize nbeads='2'> <file mode='xyz'>init.xyz</file>
<velocities mode='thermal' units='kelvin'>HOT</velocities> </initialize> <forces> <force forcefield='d'/> </forces>
<ensemble> <temperature units='kelvin'>300</temperature> </ensemble> <motion mode='dynamics'>
<dynamics mode='nve'> <timestep units='femtosecond'>DT</timestep> </dynamics> </motion> </system> </simulation>"""


@pytest.mark.parametrize("hot", [False, True])
def test_ipi_runs_the_driver_in_process_and_ends_when_it_fails(hot: bool, structure: Path) -> None:
    from mlcalc.md_protocols.ipi.runs.inputs import structure_text

    folder, path = structure.parent, Path(sys.modules["mlcalc"].__file__ or "").parent / "ipi_driver.py"
    (folder / "init.xyz").write_text(structure_text(read(structure)))
    text = DIRECT.replace("PATH", str(path)).replace("HOT", "3e6" if hot else "300")
    (folder / "input.xml").write_text(text.replace("DT", "20" if hot else "1").replace("TOTAL", "200" if hot else "3"))
    done = subprocess.run([str(IPI), "input.xml"], cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    rows = [row.split() for row in (folder / "sim.out").read_text().splitlines() if not row.startswith("#")]
    assert float(rows[0][1]) == pytest.approx(MLCalculator("cu-hvnet").get_potential_energy(read(structure)), abs=1e-6)
    if hot:  # alone the thread would die, and i-PI wait for ever
        assert done.returncode == 1
        assert "the mlcalc driver failed: OverlapError" in done.stdout
        assert len(rows) < 200
    else:
        assert done.returncode == 0, done.stdout[-500:]
        assert len(rows) == 4


def test_serve_answers_a_run_of_ipi(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    atoms = four_atoms()
    write(tmp_path / "cu.extxyz", atoms)
    server = Server(tmp_path / "r", atoms, beads=2)
    where = [word for name, value in server.address.items() for word in (f"--{name}", str(value))]
    try:
        code = main(["ipi", str(tmp_path / "cu.extxyz"), "--model", "cu-hvnet", *where, "--json"])
        server.ended()
    finally:
        server.kill()
    told = capsys.readouterr()
    assert code == 0, told.err
    report = ServeReport(**json.loads(told.out))
    assert report.ending == "exit"
    assert report.structures == 2 * 7


def test_run_leaves_a_folder_and_a_summary(structure: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = structure.parent / "run"
    words = ["ipi", "run", str(structure), "--model", "cu-hvnet", "--output", str(folder), "--steps", "6"]
    words += ["--beads", "2", "--log-interval", "2", "--trajectory-interval", "3", "--json"]
    assert main(words) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["completed"]
    assert told["settings"]["thermostat"] == "pile_g"
    assert {"input.xml", "sim.out", "sim.pos_0.extxyz", "sim.pos_1.extxyz", "RESTART", "ipi.png"} <= {
        path.name for path in folder.iterdir()
    }
    first = MLCalculator("cu-hvnet").get_potential_energy(read(structure))
    rows = [row for row in (folder / "sim.out").read_text().splitlines() if not row.startswith("#")]
    assert len(rows) == 4
    assert float(rows[0].split()[4]) == pytest.approx(first, abs=1e-6)
    assert np.isfinite([float(word) for row in rows for word in row.split()]).all()
    assert main([*words[:-1], "--temperature-K", "310"]) == 1
    assert "temperature_K" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["ipi", "CU", "--model", "cu-hvnet"], "either"),
        (["ipi", "CU", "--model", "cu-hvnet", "--unix", "a", "--port", "3"], "either"),
        (["ipi", "CU", "--model", "cu-hvnet", "--unix", "nobody", "--connect-s", "0"], "no server within 0 s"),
        (["ipi", "CU", "--model", "nope", "--unix", "a"], "no model 'nope'"),
        (["ipi", "CU", "--model", "ethanol-visnet", "--unix", "a", "--connect-s", "0"], "no server"),
        (["ipi", "CU", "--model", "cu-hvnet", "--host", "192.0.2.7", "--port", "31415"], "--allow-remote"),
        (["ipi", "run", "CU", "--model", "cu-hvnet", "--ensemble", "npt", "--output", "OUT"], "--pressure-GPa"),
        (["ipi", "run", "CU", "--model", "cu-hvnet", "--supercell", "0", "1", "1", "--output", "OUT"], "--supercell"),
    ],
)
def test_what_cannot_be_is_one_line(
    words: list[str], told: str, structure: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    replaced = [word.replace("CU", str(structure)).replace("OUT", str(structure.parent / "o")) for word in words]
    assert main(replaced) == 1
    error = capsys.readouterr().err.strip()
    assert told in error
    assert "Traceback" not in error


def test_a_molecule_needs_no_cell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "e.xyz", molecule("CH3CH2OH"), plain=True)
    words = ["ipi", "run", str(tmp_path / "e.xyz"), "--model", "ethanol-visnet", "--dtype", "float32", "--no-plot"]
    assert main([*words, "--timestep-fs", "0.5", "--steps", "4", "--output", str(tmp_path / "r")]) == 0
    assert "4 steps" in capsys.readouterr().out
