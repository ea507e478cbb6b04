"""Structures in i-PI's atomic units in, energies, forces and virials of any ASE calculator out."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import ase.units
import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator as AseCalculator
from ase.calculators.calculator import all_changes
from numpy.typing import NDArray

from mlcalc.ground.errors import Use
from mlcalc.ground.remedies import SET_PBC

from ..errors import ConfigError, EvaluationError
from ..evaluator import Evaluated, Evaluator, squared

Array = NDArray[np.float64]
Calculator = Any  # an ASE calculator

VIRIALS = ("auto", "stress", "forces", "none")
_NO_VIRIAL = Use("virial", "none", "(zeros; right for constant volume only, and pressures in the output are wrong)")


@dataclass(frozen=True)
class AtomicUnits:
    """Å and eV in bohr and hartree, as the server has them: they differ by 1e-7 between codes."""

    angstrom: float  # bohr
    electronvolt: float  # hartree


IPI_UNITS = AtomicUnits(1.8897261, 0.036749326)  # ipi/utils/units.py, 3.1 to 3.3
ASE_UNITS = AtomicUnits(1.0 / ase.units.Bohr, 1.0 / ase.units.Hartree)
UNITS = {"i-pi": IPI_UNITS, "ase": ASE_UNITS}


@dataclass(frozen=True, eq=False)
class Answer:
    """What a server is told about one structure, in atomic units; all of it is finite."""

    energy: float  # hartree
    forces: Array  # (N, 3) hartree/bohr
    virial: Array  # (3, 3) hartree: minus the derivative of the energy by the strain
    extras: str = ""  # JSON, or empty


class Responder:
    """Answers lists of structures with the energies, forces and virials of a calculator, or of a committee of them.

    calculators: one or more; of several the mean is answered, and extras get the keys that i-PI's ffcommittee reads
    (committee_pot, committee_force, committee_virial, in atomic units) besides energy_spread (hartree) and
    forces_spread (hartree/bohr, the root of the variance summed over components, for the worst atom).
    atoms: the template: elements, masses, periodic directions, charges, ... of every structure to come.
    dipole: a calculator whose get_dipole_moment goes into extras as "dipole" (e bohr).
    virial: "stress" of the calculator where all directions are periodic, "forces" (the sum of x_i f_i, exact for
    clusters), "none" (zeros; extras say so), "auto" for the first or second by the template's pbc.
    Virials are never made up: ConfigError where the calculator has no stress and "none" is not asked for.
    """

    def __init__(
        self, calculators: Sequence[Calculator], atoms: Atoms, virial: str = "auto", dipole: Calculator | None = None
    ) -> None:
        self.virial = resolved_virial(virial, atoms, calculators)
        self._batched = [Evaluator(calculator) for calculator in calculators]
        self._single = [Evaluator(c, _One(c, stress=self.virial == "stress")) for c in calculators]
        self._dipole = dipole
        self._atoms = atoms.copy()
        self._atoms.set_constraint()
        self._periodic = bool(atoms.pbc.any())
        self._structures: list[Atoms] = []  # made once and filled again: copies would cost as much as a small model

    def __call__(self, cells: Array, positions: Array, units: AtomicUnits = IPI_UNITS) -> list[Answer]:
        """One answer per structure: (B, 3, 3) cells with vectors in columns and (B, N, 3) positions in bohr.

        The last structures of a batch that equal the one before, with which i-PI fills it up, are computed once.
        """
        structures = self.structures(cells, positions, units)
        if len(structures) == 1:
            return self._answers(structures, units)
        different = _without_padding(structures)
        answers = self._answers(structures[:different], units)
        return answers + answers[-1:] * (len(structures) - different)

    def structures(self, cells: Array, positions: Array, units: AtomicUnits) -> list[Atoms]:
        """The server's structures in Å, until the next call; a template without periodic directions keeps its cell."""
        while len(self._structures) < len(positions):
            self._structures.append(self._atoms.copy())
        for atoms, cell, where in zip(self._structures, cells, positions, strict=False):
            fill(atoms, cell, where, units, self._periodic)
        return self._structures[: len(positions)]

    def _answers(self, structures: list[Atoms], units: AtomicUnits) -> list[Answer]:
        stress = self.virial == "stress"
        evaluators = self._batched if len(structures) > 1 else self._single
        members = [evaluator(structures, stress=stress) for evaluator in evaluators]
        virials = [[self._virial(of, atoms) for of, atoms in zip(m, structures, strict=True)] for m in members]
        return [
            self._answer(atoms, [m[k] for m in members], [v[k] for v in virials], units)
            for k, atoms in enumerate(structures)
        ]

    def _answer(self, atoms: Atoms, members: list[Evaluated], virials: list[Array], units: AtomicUnits) -> Answer:
        extras = self._extras(atoms, units)
        if len(members) == 1:
            force = units.electronvolt / units.angstrom
            return Answer(
                members[0].energy * units.electronvolt,
                members[0].forces * force,
                virials[0] * units.electronvolt,
                json.dumps(extras) if extras else "",
            )
        energies = np.array([member.energy for member in members]) * units.electronvolt
        forces = np.array([member.forces for member in members]) * (units.electronvolt / units.angstrom)
        strains = np.array(virials) * units.electronvolt
        extras |= {
            "committee_pot": energies.tolist(),
            "committee_force": [member.ravel().tolist() for member in forces],
            "committee_virial": strains.tolist(),
            "energy_spread": float(energies.std(ddof=1)),
            "forces_spread": float(np.sqrt(forces.var(axis=0, ddof=1).sum(axis=1)).max()),
        }
        return Answer(float(energies.mean()), forces.mean(axis=0), strains.mean(axis=0), json.dumps(extras))

    def _extras(self, atoms: Atoms, units: AtomicUnits) -> dict[str, Any]:
        extras: dict[str, Any] = {}
        if self.virial == "none":
            extras["virial"] = "not computed: zeros"
        if self._dipole is not None:
            dipole = np.asarray(self._dipole.get_dipole_moment(atoms), dtype=float) * units.angstrom
            if dipole.shape != (3,) or not np.isfinite(dipole).all():
                raise EvaluationError(f"the dipole moment is {dipole.tolist()}: expected three finite numbers")
            extras["dipole"] = dipole.tolist()
        return extras

    def _virial(self, found: Evaluated, atoms: Atoms) -> Array:
        """Minus the derivative of the energy by the strain, eV."""
        if self.virial == "none":
            return np.zeros((3, 3))
        if self.virial == "forces":
            outer = (atoms.positions - atoms.positions.mean(axis=0)).T @ found.forces
            symmetric: Array = 0.5 * (outer + outer.T)
            return symmetric
        if found.stress is None:
            raise EvaluationError("the calculator gave no stress", remedies=["choose a calculator that has it"])
        xx, yy, zz, yz, xz, xy = found.stress.tolist()
        return np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]]) * -volume_of(atoms.cell.array)


def fill(atoms: Atoms, cell: Array, positions: Array, units: AtomicUnits, periodic: bool) -> None:
    """Give a copy of the template a server's positions, and its cell where it is periodic."""
    np.divide(positions, units.angstrom, out=atoms.arrays["positions"])
    if periodic:
        np.divide(cell.T, units.angstrom, out=atoms.cell.array)


class _One:
    """Asks the calculator itself, with the neighbor lists it keeps, for the one structure of a list."""

    def __init__(self, calculator: Calculator, stress: bool) -> None:
        self._calculator = calculator
        self._wanted = ["energy", "forces", "stress"] if stress else ["energy", "forces"]

    def __call__(self, structures: list[Atoms]) -> list[Evaluated]:
        atoms, calculator = structures[0], self._calculator
        results: dict[str, Any] = {}
        if isinstance(calculator, AseCalculator):
            # as its get_property does, without comparing the structure to the last one: that costs more than a socket
            calculator.reset()
            calculator.calculate(atoms, self._wanted, all_changes)
            results = calculator.results
        found = [
            results[name] if results.get(name) is not None else calculator.get_property(name, atoms)
            for name in self._wanted
        ]
        return [Evaluated(found[0], found[1], found[2] if len(found) > 2 else None)]


def resolved_virial(virial: str, atoms: Atoms, calculators: Sequence[Calculator]) -> str:
    """How the virial will be had; ConfigError where it can not."""
    if virial == "none" or (virial in ("auto", "forces") and not atoms.pbc.any()):
        return "none" if virial == "none" else "forces"
    if virial == "forces":
        raise ConfigError(
            f"virial is 'forces', which holds for clusters only, and the template has pbc={atoms.pbc.tolist()}",
            setting="virial",
            value=virial,
            remedies=[Use("virial", "auto")],
        )
    if not atoms.pbc.all():
        raise ConfigError(
            f"the template has pbc={atoms.pbc.tolist()}: a virial needs all three directions periodic, or none; the "
            "cell of i-PI is always periodic",
            setting="pbc",
            value=atoms.pbc.tolist(),
            remedies=[replace(SET_PBC, why="with vacuum in the cell"), _NO_VIRIAL],
        )
    for calculator in calculators:
        if "stress" not in getattr(calculator, "implemented_properties", ["stress"]):
            raise ConfigError(
                f"the calculator {type(calculator).__name__} gives no stress, from which the virial is had",
                setting="virial",
                value=virial,
                remedies=["choose another calculator", _NO_VIRIAL],
            )
    return "stress"


def refuse_unphysical(cells: Array, positions: Array, periodic: bool) -> list[float]:
    """The volumes, bohr^3; EvaluationError for positions or cells that are not finite, or without volume if periodic.

    Of clusters, whose cells mean nothing, there are no volumes.
    """
    if not math.isfinite(squared(positions)) and not np.isfinite(positions).all():
        structure, atom = np.argwhere(~np.isfinite(positions).all(axis=2))[0]
        bad = np.flatnonzero(~np.isfinite(positions[structure]).all(axis=1))
        raise EvaluationError(
            f"the server sends positions that are not finite: structure {structure}, atoms {bad[:8].tolist()}, first "
            f"{positions[structure, atom].tolist()} bohr; its run has blown up",
            remedies=["look at its output, and shorten the time step"],
        )
    volumes = [volume_of(cell) for cell in cells] if periodic else []
    for k, volume in enumerate(volumes):
        if not (math.isfinite(volume) and volume):
            raise EvaluationError(f"the server sends the cell {cells[k].tolist()} bohr, without volume (structure {k})")
    return volumes


def volume_of(cell: Array) -> float:
    """|det|, faster than NumPy's for one matrix."""
    (a, b, c), (d, e, f), (g, h, i) = cell.tolist()
    return abs(float(a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)))


def _without_padding(structures: Sequence[Atoms]) -> int:
    """Number of structures up to the copies of the last one."""
    last, count = structures[-1], len(structures)
    while count > 1 and _same(structures[count - 2], last):
        count -= 1
    return count


def _same(a: Atoms, b: Atoms) -> bool:
    return bool(np.array_equal(a.positions, b.positions) and np.array_equal(a.cell.array, b.cell.array))
