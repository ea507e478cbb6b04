"""The gate before the neighbor list: what it lets through, and class, cause and remedy of what it refuses."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, graphene, molecule
from neighbor_cases import KINDS, brute_force, random_case

from mlcalc.errors import (
    CellError,
    EmptyStructureError,
    MLCalcError,
    NonFiniteError,
    OverlapError,
    StructureError,
    UnknownElementError,
)
from mlcalc.graphs.neighbors import neighbor_pairs
from mlcalc.graphs.pairs import NeighborPairs
from mlcalc.graphs.validation import check_overlap, resolve_cell, validate_structure
from mlcalc.md_protocols.errors import ConfigError


def changed(atoms: Atoms, **arrays: object) -> Atoms:
    """A copy with some entries set: name=(index, value)."""
    copy = atoms.copy()
    for name, (index, value) in arrays.items():  # type: ignore[misc]
        target = copy.cell.array if name == "cell" else copy.arrays[name]
        target[index] = value
    return copy


def with_momenta() -> Atoms:
    atoms = molecule("H2O")
    atoms.set_momenta(np.zeros((3, 3)))
    return atoms


def periodic(cell: object, pbc: object = True) -> Atoms:
    return Atoms("Cu", [[0.0, 0.0, 0.0]], cell=cell, pbc=pbc)


ACCEPTED = {
    "one atom": Atoms("Cu"),
    "molecule": molecule("CH3CH2OH"),
    "molecule in a flat box": molecule("CH3CH2OH", cell=[5.0, 0.0, 1.0]),
    "primitive": bulk("Cu"),
    "left-handed": periodic([[0, 3, 0], [3, 0, 0], [0, 0, 3]]),
    "skewed": periodic([[4, 0, 0], [4 * np.cos(0.175), 4 * np.sin(0.175), 0], [0, 0, 4]]),
    "a + 50 b": periodic([[4, 200, 0], [0, 4, 0], [0, 0, 4]]),
    "slab": fcc111("Cu", (1, 1, 3)),
    "graphene": graphene(),
    "short free vector": periodic([[4, 0, 0], [0, 4, 0], [0, 0, 1e-9]], [1, 1, 0]),
    "coplanar free vector": periodic([[4, 0, 0], [0, 4, 0], [4, 4, 0]], [1, 1, 0]),
    "wire": periodic([0, 0, 3], [0, 0, 1]),
    "37 cells away": changed(bulk("Cu", cubic=True), positions=(0, 37 * 3.6)),
    "velocities": with_momenta(),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_ordinary_structures_pass_unchanged(name: str) -> None:
    atoms = ACCEPTED[name].copy()
    validate_structure(atoms, elements=("H", "C", "O", "Cu"))
    cell, pbc = resolve_cell(atoms)
    assert atoms == ACCEPTED[name]
    assert np.array_equal(cell, atoms.cell.array)
    assert np.array_equal(pbc, atoms.pbc)
    assert (cell.dtype, pbc.dtype) == (np.float64, np.bool_)
    cell += 1.0  # a copy: the atoms keep theirs
    assert atoms == ACCEPTED[name]
    pairs = neighbor_pairs(atoms.positions, *resolve_cell(atoms), 4.0)
    check_overlap(pairs, atoms.positions, atoms.cell.array)


CU = bulk("Cu", cubic=True)
REFUSED = {
    "empty": (Atoms(), EmptyStructureError, "no atoms", "check the file"),
    "empty periodic": (Atoms(cell=[4, 4, 4], pbc=True), EmptyStructureError, "no atoms", "selection"),
    "NaN position": (
        changed(CU, positions=((2, 1), np.nan)),
        NonFiniteError,
        "positions of atom 2 .*nan",
        "input file",
    ),
    "inf positions": (changed(CU, positions=(slice(1, 3), np.inf)), NonFiniteError, "atoms 1, 2 .*inf", "time step"),
    "NaN momenta": (changed(with_momenta(), momenta=(1, np.nan)), NonFiniteError, "momenta of atom 1 ", "velocities"),
    "NaN cell": (changed(CU, cell=((0, 2), np.nan)), NonFiniteError, "cell .*vector a", "barostat"),
    "NaN free vector": (changed(molecule("H2O"), cell=(2, np.inf)), NonFiniteError, "vector c", "input file"),
    "element": (molecule("CH3CH2OH"), UnknownElementError, "know C, H, O .*0, 1, 2.*trained on Cu", "choose a model"),
    "one of many": (changed(CU, numbers=(3, 28)), UnknownElementError, r"Ni \(atom 3\)", "correct the structure"),
    "dummy": (changed(CU, numbers=(3, 0)), UnknownElementError, r"atomic number 0 \(atom 3\)", "trained on"),
    "Z 118": (changed(CU, numbers=(3, 118)), UnknownElementError, r"Og \(atom 3\)", "trained on"),
    "Z 200": (changed(CU, numbers=(3, 200)), UnknownElementError, r"atomic number 200 \(atom 3\)", "trained on"),
    "Z -1": (changed(CU, numbers=(3, -1)), UnknownElementError, r"atomic number -1 \(atom 3\)", "trained on"),
    "no cell": (Atoms("Cu", pbc=True), CellError, r"axis 0 \(a\).*shorter", "set_cell"),
    "zero vector": (periodic([4, 4, 0]), CellError, r"axis 2 \(c\)", r"pbc\[2\] = False"),
    "zero vector, slab": (periodic([4, 0, 4], [1, 1, 0]), CellError, r"axis 1 \(b\)", r"pbc\[1\] = False"),
    "coplanar": (periodic([[4, 0, 0], [0, 4, 0], [4, 4, 0]]), CellError, "one plane, volume", "pbc to False"),
    "parallel": (periodic([[4, 0, 0], [0, 4, 0], [8, 0, 0]]), CellError, r"0 \(a\) and 2 \(c\) are parallel", "pbc"),
    "antiparallel, slab": (periodic([[4, 0, 0], [-4, 0, 0], [0] * 3], [1, 1, 0]), CellError, r"and 1 \(b\)", "pbc"),
    "nearly coplanar": (periodic([[4, 0, 0], [0, 4, 0], [4, 4, 1e-7]]), CellError, "one plane", "pbc to False"),
    "tiny cell": (periodic(np.eye(3) * 0.05), OverlapError, r"own .*image \[.*0.05 Å", "lengths and units"),
    "thin slab": (periodic([4, 0.2, 0], [1, 1, 0]), OverlapError, r"image \[0, 1, 0\] are 0.2 Å", "pbc to False"),
    "own image at a corner": (periodic([[4, 0, 0], [4, 0.1, 0], [0, 0, 4]]), OverlapError, r"0.1 Å", "units"),
    "far away": (changed(CU, positions=(1, 2e6)), StructureError, "atom 1 .*2e.06 Å.*limit.*precision", "wrap"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_name_cause_and_remedy(name: str) -> None:
    atoms, error, cause, remedy = REFUSED[name]
    with pytest.raises(error, match=f"(?s){cause}.*{remedy}") as caught:
        validate_structure(atoms, elements=("Cu",) if name != "NaN momenta" else None)
    assert type(caught.value) is error
    assert isinstance(caught.value, MLCalcError)
    assert isinstance(caught.value, ValueError)


def test_long_lists_of_atoms_are_cut() -> None:
    atoms = CU.repeat(3)
    atoms.positions[:] = np.nan
    with pytest.raises(NonFiniteError, match="atoms 0, 1, 2, 3, 4, 5, 6, 7 and 100 more"):
        validate_structure(atoms)


def test_limits_are_the_callers() -> None:
    validate_structure(periodic(np.eye(3) * 0.05), min_distance=0.01)
    validate_structure(changed(CU, positions=(1, 2e6)), max_coordinate=1e7)
    with pytest.raises(OverlapError, match=r"closer than 3 Å"):
        validate_structure(bulk("Cu"), min_distance=3.0)
    with pytest.raises(ConfigError, match=r"'Xx' is no chemical element.*'Cu'"):
        validate_structure(CU, elements=("Cu", "Xx"))


def test_any_elements_pass_where_none_are_named() -> None:
    validate_structure(molecule("CH3CH2OH"), elements=None)


def test_large_numbers_make_no_warnings() -> None:
    far = changed(CU, positions=(1, 1e300))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(StructureError, match=r"1e\+300"):
            validate_structure(far)


OVERLAPS = {
    "molecule": (Atoms("Cu2", [[0, 0, 0], [0.1, 0.1, 0.1]]), r"atoms 0 and 1 are 0.173205 Å"),
    "the same place": (Atoms("Cu2", [[1, 2, 3], [1, 2, 3]]), r"atoms 0 and 1 are 0 Å apart, closer than 0.3 Å \(1 "),
    "through a face": (
        Atoms("Cu2", [[0.05, 1, 1], [3.95, 1, 1]], cell=[4, 4, 4], pbc=True),
        r"atoms 0 and 1 in the periodic image \[-1, 0, 0\] are 0.1 Å",
    ),
    "37 cells away": (
        Atoms("Cu2", [[1, 1, 1], [1.2 + 148, 1, 1]], cell=[4, 4, 4], pbc=True),
        r"atoms 0 and 1 in the periodic image \[-37, 0, 0\] are 0.2 Å",
    ),
    "self image": (periodic([4, 4, 0.2]), r"atoms 0 and 0 in the periodic image \[0, 0, -?1\] are 0.2 Å"),
}


@pytest.mark.parametrize("name", OVERLAPS)
@pytest.mark.parametrize("known", [True, False])
def test_overlaps_are_named_with_image_and_distance(name: str, known: bool) -> None:
    atoms, text = OVERLAPS[name]
    pairs = neighbor_pairs(atoms.positions, atoms.cell.array, atoms.pbc, 1.0)
    if not known:  # a list that does not know its shortest distance
        pairs = NeighborPairs(pairs.i, pairs.j, pairs.shifts)
    with pytest.raises(OverlapError, match=f"{text}.*(remove doubled atoms|lower min_distance)"):
        check_overlap(pairs, atoms.positions, atoms.cell.array)
    check_overlap(pairs, atoms.positions, atoms.cell.array, min_distance=0.0)


@pytest.mark.parametrize("kind", KINDS)
def test_overlap_is_the_shortest_distance_of_the_image_sum(kind: str) -> None:
    for case in (random_case(kind, seed) for seed in range(20)):
        distances = brute_force(case)[1]
        pairs = neighbor_pairs(case.positions, case.cell, case.pbc, case.cutoff)
        shortest = distances.min(initial=np.inf)
        if len(pairs.i) == 0:
            check_overlap(pairs, case.positions, case.cell, min_distance=100.0)
            continue
        check_overlap(pairs, case.positions, case.cell, min_distance=shortest - 1e-9)
        with pytest.raises(OverlapError):
            check_overlap(pairs, case.positions, case.cell, min_distance=shortest + 1e-9)
