"""OpenMM runs the calculator through OpenMM-ML: units, box, subsets of atoms, conservation of energy."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.units import kJ, mol
from numpy.typing import NDArray

pytest.importorskip("openmm", reason="needs OpenMM: pip install 'mlcalc[openmm]'")
pytest.importorskip("openmmml", reason="needs OpenMM-ML: pip install 'mlcalc[openmm]'")

import openmm
from openmm import app, unit
from openmmml import MLPotential

from mlcalc import MLCalculator

DOCUMENT = Path(__file__).parents[2] / "docs" / "openmm.md"


def ethanol() -> Atoms:
    atoms = molecule("CH3CH2OH")
    atoms.rattle(0.05, seed=1)
    return atoms


def copper() -> Atoms:
    atoms = bulk("Cu").repeat(4)
    atoms.set_cell(atoms.cell.standard_form()[0], scale_atoms=True)  # triclinic, as OpenMM wants it
    atoms.rattle(0.05, seed=1)
    return atoms


def topology_of(atoms: Atoms) -> Any:
    topology = app.Topology()
    residue = topology.addResidue("A", topology.addChain())
    for number in atoms.numbers:
        topology.addAtom("", app.Element.getByAtomicNumber(int(number)), residue)
    if atoms.pbc.all():
        topology.setPeriodicBoxVectors(atoms.cell.array * unit.angstrom)
    return topology


def context_of(system: Any, positions: NDArray[np.float64], timestep_fs: float = 0.5, **parameters: float) -> Any:
    integrator = openmm.VerletIntegrator(timestep_fs * unit.femtosecond)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(positions * unit.angstrom)
    for name, value in parameters.items():
        context.setParameter(name, value)
    return context


def energy_and_forces(context: Any) -> tuple[float, NDArray[np.float64]]:
    """In eV and eV/Å."""
    state = context.getState(energy=True, forces=True)
    energy = state.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole)
    forces = state.getForces(asNumpy=True).value_in_unit(unit.kilojoule_per_mole / unit.angstrom)
    return energy * kJ / mol, np.array(forces) * kJ / mol


@pytest.mark.parametrize(("model", "atoms"), [("ethanol-visnet", ethanol()), ("cu-hvnet", copper())])
def test_energies_and_forces_are_those_of_the_calculator(model: str, atoms: Atoms) -> None:
    system = MLPotential("ase").createSystem(topology_of(atoms), calculator=MLCalculator(model))
    energy, forces = energy_and_forces(context_of(system, atoms.positions))
    atoms.calc = MLCalculator(model)
    assert energy == pytest.approx(atoms.get_potential_energy(), abs=1e-9, rel=0)
    np.testing.assert_allclose(forces, atoms.get_forces(), rtol=0, atol=1e-9)
    if atoms.pbc.all():  # without its box the crystal is a cluster
        atoms.pbc = False
        assert abs(energy - atoms.get_potential_energy()) > 1.0


def fluctuation(system: Any, timestep_fs: float) -> float:
    """Standard deviation of the total energy over 24 fs, kJ/mol."""
    context = context_of(system, molecule("CH3CH2OH").positions, timestep_fs)
    context.setVelocitiesToTemperature(300 * unit.kelvin, 7)
    totals = []
    for _ in range(60):
        context.getIntegrator().step(round(0.4 / timestep_fs))
        state = context.getState(energy=True)
        totals.append((state.getPotentialEnergy() + state.getKineticEnergy()).value_in_unit(unit.kilojoule_per_mole))
    return float(np.std(totals))


def test_total_energy_is_conserved_to_the_second_order() -> None:
    system = MLPotential("ase").createSystem(topology_of(ethanol()), calculator=MLCalculator("ethanol-visnet"))
    whole, half = fluctuation(system, 0.4), fluctuation(system, 0.2)
    assert whole / half == pytest.approx(4.0, rel=0.2)
    assert half < 0.2
    calculator, forces_off = MLCalculator("ethanol-visnet"), 1.02

    def slightly_wrong(state: Any) -> tuple[float, NDArray[np.float64]]:
        atoms = Atoms(
            ethanol().numbers, state.getPositions(asNumpy=True).value_in_unit(unit.angstrom), calculator=calculator
        )
        return atoms.get_potential_energy() / (kJ / mol), forces_off * 10 * atoms.get_forces() / (kJ / mol)

    system.removeForce(0)
    system.addForce(openmm.PythonForce(slightly_wrong))
    assert fluctuation(system, 0.2) > 3 * half


def mixed_case() -> tuple[Any, Any, NDArray[np.float64]]:
    """Topology, force-field system and positions (Å) of ethanol across the corner of a box, with two argon atoms."""
    argon = Atoms("Ar2", [[5, 5, 5], [26, 3, 4]])
    atoms = ethanol() + argon
    atoms.set_cell([30, 30, 30])
    atoms.pbc = True
    topology, system, nonbonded = topology_of(atoms), openmm.System(), openmm.NonbondedForce()
    system.setDefaultPeriodicBoxVectors(*topology.getPeriodicBoxVectors())
    nonbonded.setNonbondedMethod(nonbonded.CutoffPeriodic)
    for atom in topology.atoms():
        system.addParticle(atom.element.mass)
        nonbonded.addParticle(0.0, 0.33, 0.9)
    system.addForce(nonbonded)
    return topology, system, atoms.get_positions(wrap=True)


@pytest.mark.parametrize("interpolate", [False, True])
def test_part_of_a_system(interpolate: bool) -> None:
    topology, force_field, positions = mixed_case()
    subset = range(9)
    mixed = MLPotential("ase").createMixedSystem(
        topology,
        force_field,
        subset,
        interpolate=interpolate,
        calculator=MLCalculator("ethanol-visnet"),
        mlLongRange=False,
    )
    energy, forces = energy_and_forces(context_of(mixed, positions))
    outside = copy.deepcopy(force_field)
    for i in subset:
        for j in range(i):
            outside.getForce(0).addException(i, j, 0, 1, 0)
    expected, expected_forces = energy_and_forces(context_of(outside, positions))
    part = Atoms(
        ethanol().numbers, positions[:9], cell=[30, 30, 30], pbc=True, calculator=MLCalculator("ethanol-visnet")
    )
    assert np.ptp(positions[:9], axis=0).max() > 20  # it does lie across the boundary
    assert energy == pytest.approx(expected + part.get_potential_energy(), abs=1e-7, rel=0)
    expected_forces[:9] += part.get_forces()
    np.testing.assert_allclose(forces, expected_forces, rtol=0, atol=1e-7)
    if interpolate:
        classical, _ = energy_and_forces(context_of(mixed, positions, lambda_interpolate=0.0))
        assert classical == pytest.approx(energy_and_forces(context_of(force_field, positions))[0], abs=1e-7)


def test_errors_of_the_calculator_are_told() -> None:
    system = MLPotential("ase").createSystem(topology_of(ethanol()), calculator=MLCalculator("ethanol-visnet"))
    positions = ethanol().positions
    positions[1] = positions[0] + 0.1
    with pytest.raises(openmm.OpenMMException, match="closer than 0.3 Å"):
        energy_and_forces(context_of(system, positions))


def test_the_program_of_the_documentation_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    exec(compile(program, str(DOCUMENT), "exec"), {})  # noqa: S102 - our own text
    values = re.findall(r"(-?[\d.]+) kJ/mol", capsys.readouterr().out)
    assert float(values[0]) == pytest.approx(-130.5 / (kJ / mol), rel=0.02)
