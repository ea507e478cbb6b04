"""Golden structures: energies and forces stored with a model, computed again whenever it is loaded.

A wrong number of heads or a wrong cutoff fits every tensor and still gives another potential; this is what finds it.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from numpy.typing import NDArray
from torch import nn

from mlcalc.errors import ModelFileError
from mlcalc.graphs.graphs import validated_graph
from mlcalc.ground.errors import Remedy, Use
from mlcalc.model_file.info import GoldenStructure, ModelInfo, Vectors
from mlcalc.models import Potential, predict
from mlcalc.models.elements import atomic_number
from mlcalc.scope import Scope

ENERGY_TOLERANCE = 1e-6  # eV/atom
FORCE_TOLERANCE = 1e-6  # eV/Å
VALUE_TOLERANCE = 1e-6  # of another quantity, in its unit
RELATIVE_TOLERANCE = 1e-9  # of the stored value: far from the training data energies can be huge
MAX_STRUCTURES = 256
MAX_EDGES = 20_000  # per structure: keeps loading a matter of milliseconds and megabytes
_MOST_CROWDED = 100  # atoms; more would be too close to each other


@dataclass(frozen=True, eq=False)
class _Result:
    """What a network gives for a structure; zeros and nothing for what it does not predict."""

    energy: float  # eV
    forces: NDArray[np.float64]  # (N, 3) eV/Å
    values: NDArray[np.float64]  # of another quantity

    @property
    def finite(self) -> bool:
        return bool(np.isfinite([self.energy, *self.forces.flat, *self.values]).all())


def default_structures(
    elements: Sequence[str], cutoff: float, *, periodic: bool = True, limit: int | None = None
) -> list[Atoms]:
    """A single atom of every element, a cluster and a small triclinic crystal of all elements, always the same.

    No crystal without `periodic`, for models that are defined for molecules only; and one more atom than a `limit` of
    neighbors, all within the cutoff, for it to bite.
    """
    numbers = [atomic_number(element) for element in elements]
    singles = [
        Atoms(numbers=[number], info={"name": f"atom {element}"})
        for element, number in zip(elements, numbers, strict=True)
    ]
    cluster = _cluster(np.resize(numbers, max(6, len(numbers))), cutoff, "cluster")
    if limit is not None and limit < _MOST_CROWDED:
        singles.append(_crowd(np.resize(numbers, limit + 1), cutoff))
    if not periodic:
        return [*singles, cluster]
    crystal = _cluster(np.resize(numbers, max(2, len(numbers))), cutoff, "crystal")
    lengths = np.ptp(crystal.positions, axis=0) + 1.9 * _radii(crystal.numbers, cutoff).max()
    cell = np.array([[1, 0, 0], [0.2, 1, 0], [0.1, -0.15, 1]]) * lengths[:, None]
    return [*singles, cluster, Atoms(crystal, cell=cell, pbc=True, info=crystal.info)]


def golden_structures(network: nn.Module, structures: Sequence[Atoms]) -> tuple[GoldenStructure, ...]:
    """The structures with the network's results in float64; the network is left as it is."""
    potential = _double(network)
    if len(structures) > MAX_STRUCTURES:
        raise ModelFileError(f"{len(structures)} golden structures are more than the {MAX_STRUCTURES} a file may hold")
    stored = []
    for index, atoms in enumerate(structures):
        name = str(atoms.info.get("name", f"{atoms.symbols} {index}"))
        result = _evaluate(potential, atoms)
        if not result.finite:
            of_another = f" and values {result.values.tolist()}" if len(result.values) else ""
            raise ModelFileError(
                f"the network gives energy {result.energy} eV and forces up to {np.abs(result.forces).max()} eV/Å"
                f"{of_another} for the golden structure {name!r}: only a network with finite results is saved. Check "
                "its training"
            )
        stored.append(
            GoldenStructure(
                name=name,
                numbers=tuple(int(number) for number in atoms.numbers),
                positions=_rows(atoms.positions),
                cell=_rows(atoms.cell.array),
                pbc=tuple(bool(periodic) for periodic in atoms.pbc),
                energy=result.energy,
                forces=_rows(result.forces),
                values=tuple(float(value) for value in result.values),
            )
        )
    return tuple(stored)


def check_golden(network: nn.Module, info: ModelInfo, origin: str) -> None:
    """Nothing, or ModelFileError when the network does not give the stored results."""
    if not info.golden:
        raise ModelFileError(f"{origin} holds no golden structures to check the network with: save the model again")
    if len(info.golden) > MAX_STRUCTURES:
        raise ModelFileError(f"{origin} holds {len(info.golden)} golden structures, more than {MAX_STRUCTURES}")
    potential = _double(network)
    for index, golden in enumerate(info.golden):
        where = f"golden structure {index} ({golden.name!r}) of {origin}"
        try:
            result = _evaluate(potential, golden.atoms())
        except Exception as error:  # whatever a network raises with settings that are not its own
            raise ModelFileError(
                f"{where} cannot be evaluated ({error}): the settings do not belong to these weights",
                remedies=_REMEDIES,
            ) from error
        _compare_energy(where, golden, result.energy)
        _compare_forces(where, golden, result.forces)
        _compare_values(where, golden, result.values)


_REMEDIES: tuple[Remedy, ...] = (
    "get the file again from its source",
    Use("verify", False, python="load it without this check, load_model(..., verify=False)"),
)
_WRONG = "settings and weights do not belong together, or this version computes them differently"


def _compare_energy(where: str, golden: GoldenStructure, energy: float) -> None:
    allowed = ENERGY_TOLERANCE * len(golden.numbers) + RELATIVE_TOLERANCE * abs(golden.energy)
    if not abs(energy - golden.energy) <= allowed:
        raise ModelFileError(
            f"{where}: the network gives an energy of {energy:.9g} eV, expected {golden.energy:.9g} eV "
            f"(allowed difference {allowed:.1e} eV): {_WRONG}",
            remedies=_REMEDIES,
        )


def _compare_forces(where: str, golden: GoldenStructure, forces: NDArray[np.float64]) -> None:
    expected = np.array(golden.forces)
    limits = FORCE_TOLERANCE + RELATIVE_TOLERANCE * np.abs(expected)
    wrong = ~(np.abs(forces - expected) <= limits)
    if wrong.any():
        atom, axis = (int(k) for k in np.argwhere(wrong)[0])
        raise ModelFileError(
            f"{where}: the network gives a force of {forces[atom, axis]:.9g} eV/Å on atom {atom} along {'xyz'[axis]}, "
            f"expected {expected[atom, axis]:.9g} eV/Å (allowed difference {limits[atom, axis]:.1e} eV/Å): {_WRONG}",
            remedies=_REMEDIES,
        )


def _compare_values(where: str, golden: GoldenStructure, values: NDArray[np.float64]) -> None:
    expected = np.array(golden.values)
    limits = VALUE_TOLERANCE + RELATIVE_TOLERANCE * np.abs(expected)
    if len(values) != len(expected):
        counted = f"the network gives {len(values)} values, expected {len(expected)}"
        raise ModelFileError(f"{where}: {counted}: {_WRONG}", remedies=_REMEDIES)
    if not (np.abs(values - expected) <= limits).all():
        raise ModelFileError(
            f"{where}: the network gives the values {values.tolist()}, expected {expected.tolist()} (allowed "
            f"difference {limits.max():.1e}): {_WRONG}",
            remedies=_REMEDIES,
        )


def _double(network: nn.Module) -> Potential:
    """A float64 copy of the network on the CPU."""
    return cast("Potential", copy.deepcopy(network).cpu().double().eval().requires_grad_(False))


def _evaluate(potential: Potential, atoms: Atoms) -> _Result:
    scope = Scope.of(potential)
    prediction = predict(potential, validated_graph(atoms, scope, max_edges=MAX_EDGES))
    energy = 0.0 if prediction.energy is None else float(prediction.energy[0])
    forces = np.zeros((len(atoms), 3)) if prediction.forces is None else prediction.forces.numpy()
    values = np.zeros(0) if scope.is_potential else getattr(prediction, scope.field).numpy().ravel()
    return _Result(energy, forces, values.astype(np.float64))


def _cluster(numbers: NDArray[np.integer], cutoff: float, name: str) -> Atoms:
    """Atoms grown one by one at bonding distances, in a random but always equal shape."""
    random = np.random.default_rng(20240229)
    radii, positions = _radii(numbers, cutoff), np.zeros((1, 3))
    while len(positions) < len(numbers):
        atom = len(positions)
        partner = random.integers(atom)
        direction = random.normal(size=3)
        bonds = radii[:atom] + radii[atom]
        step = random.uniform(1.0, 1.3) * bonds[partner] * direction / np.linalg.norm(direction)
        distances = np.linalg.norm(positions - (positions[partner] + step), axis=1)
        if (distances > 0.95 * bonds).all():
            positions = np.vstack([positions, positions[partner] + step])
    return Atoms(numbers=numbers, positions=positions, info={"name": name})


def _crowd(numbers: NDArray[np.integer], cutoff: float) -> Atoms:
    """Atoms on a spiral around a sphere that the cutoff spans."""
    k = np.arange(len(numbers))
    height, angle = 1 - (2 * k + 1) / len(numbers), np.pi * (3 - 5**0.5) * k
    ring = np.sqrt(1 - height**2)
    sphere = np.column_stack([ring * np.cos(angle), ring * np.sin(angle), height])
    return Atoms(numbers=numbers, positions=0.45 * cutoff * sphere, info={"name": "crowd"})


def _radii(numbers: NDArray[np.integer], cutoff: float) -> NDArray[np.float64]:
    """Covalent radii in Å, all shrunk by one factor where bonds would not lie well within the cutoff."""
    radii = np.asarray(covalent_radii[numbers], dtype=np.float64)
    return radii * min(1.0, 0.7 * cutoff / (1.3 * 2 * float(radii.max())))


def _rows(array: NDArray[np.float64]) -> Vectors:
    return tuple(tuple(float(x) for x in row) for row in array)
