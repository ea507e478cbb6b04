"""Neighbor lists against a brute-force image sum and ASE, with and without skin; broken twins of each."""

from __future__ import annotations

import copy
import importlib.util
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from ase.build import bulk, fcc111, molecule
from ase.neighborlist import primitive_neighbor_list
from hypothesis import given, settings
from hypothesis import strategies as st
from neighbor_cases import KINDS, MOTIONS, Case, check_exact, random_case, same, walk

from mlcalc.errors import CellError, MissingExtraError, NonFiniteError, StructureError, TooManyEdgesError
from mlcalc.graphs import neighbors
from mlcalc.graphs.neighbors import NeighborList, neighbor_pairs
from mlcalc.graphs.pairs import NeighborPairs
from mlcalc.md_protocols.errors import ConfigError

Lister = Callable[[Case], NeighborPairs]
SKIN = 1.0
HAS_TORCH_CLUSTER = importlib.util.find_spec("torch_cluster") is not None


def fresh(case: Case, backend: str = "matscipy") -> NeighborPairs:
    return neighbor_pairs(case.positions, case.cell, case.pbc, case.cutoff, backend=backend)


def copper(repeat: int = 2) -> Case:
    atoms = bulk("Cu", cubic=True).repeat(repeat)
    atoms.rattle(0.1, seed=3)
    return Case(atoms.positions, atoms.cell.array, atoms.pbc, 5.0)


# ---- one structure


@settings(max_examples=2000, derandomize=True, deadline=None, database=None)
@given(kind=st.sampled_from(KINDS), seed=st.integers(0, 2**32 - 1))
def test_lists_are_those_of_the_image_sum(kind: str, seed: int) -> None:
    case = random_case(kind, seed)
    pairs = fresh(case)
    check_exact(case, pairs)
    assert same(pairs, fresh(case, "vesin"))


def wrapped_shifts(case: Case) -> NeighborPairs:
    """Twin: shifts that refer to wrapped atoms."""
    pairs = fresh(case)
    fractional = np.floor(case.positions @ np.linalg.inv(case.cell)).astype(int)
    return replace(pairs, shifts=pairs.shifts + fractional[pairs.j] - fractional[pairs.i])


def capped(case: Case) -> NeighborPairs:
    """Twin: the first 32 neighbors of each atom."""
    pairs = fresh(case)
    first = np.searchsorted(pairs.i, pairs.i)
    kept = np.arange(len(pairs.i)) - first < 32
    return NeighborPairs(pairs.i[kept], pairs.j[kept], pairs.shifts[kept], pairs.shortest)


def nearest_images(case: Case) -> NeighborPairs:
    """Twin: one image per pair, no self images."""
    pairs = fresh(case)
    kept = np.unique(pairs.i * len(case.positions) + pairs.j, return_index=True)[1]
    return NeighborPairs(pairs.i[kept], pairs.j[kept], pairs.shifts[kept], pairs.shortest)


def at_the_cutoff(case: Case) -> NeighborPairs:
    """Twin: d <= cutoff + 1e-6 Å."""
    return fresh(replace(case, cutoff=case.cutoff + 1e-6))


def from_the_right(case: Case) -> NeighborPairs:
    """Twin: sorted by j."""
    pairs = fresh(case)
    order = np.argsort(pairs.j, kind="stable")
    return NeighborPairs(pairs.i[order], pairs.j[order], pairs.shifts[order], pairs.shortest)


@pytest.mark.parametrize("twin", [wrapped_shifts, capped, nearest_images, at_the_cutoff, from_the_right])
def test_the_image_sum_catches(twin: Lister) -> None:
    case = copper(1)
    case = replace(case, positions=case.positions + np.array([[9.0, 0.0, 0.0], [0.0] * 3, [0.0] * 3, [0.0] * 3]))
    if twin is at_the_cutoff:
        case = Case(np.zeros((1, 3)), np.eye(3) * 2.5, np.ones(3, dtype=bool), 5.0 - 5e-7)
    check_exact(case, fresh(case))
    with pytest.raises(AssertionError):
        check_exact(case, twin(case))


@pytest.mark.parametrize("backend", ["matscipy", "vesin"])
@pytest.mark.parametrize(("cutoff", "shells"), [(2.5, 0), (2.6, 6), (5.0, 26), (5.1, 32)])
def test_a_pair_at_the_cutoff_is_outside(backend: str, cutoff: float, shells: int) -> None:
    pairs = neighbor_pairs(np.zeros((1, 3)), np.eye(3) * 2.5, True, cutoff, backend=backend)
    assert len(pairs.i) == shells  # simple cubic: 6 + 12 + 8 below the second cell, then 6 at 5 Å


STRUCTURES = {
    "primitive": bulk("Cu"),
    "cubic": bulk("Cu", cubic=True).repeat((2, 1, 3)),
    "slab": fcc111("Cu", (2, 2, 3), vacuum=None),
    "slab in vacuum": fcc111("Cu", (2, 2, 3), vacuum=6.0),
    "ethanol": molecule("CH3CH2OH"),
    "boxed ethanol": molecule("CH3CH2OH", cell=[6.0, 7.0, 5.0], pbc=True),
    "salt": bulk("NaCl", "rocksalt", a=5.64),
}


@pytest.mark.parametrize("backend", ["matscipy", "vesin"])
@pytest.mark.parametrize("name", STRUCTURES)
def test_lists_are_those_of_ase(name: str, backend: str) -> None:
    atoms = STRUCTURES[name].copy()
    atoms.rattle(0.05, seed=7)
    pairs = neighbor_pairs(atoms.positions, atoms.cell.array, atoms.pbc, 5.0, backend=backend)
    i, j, shifts, distances = primitive_neighbor_list("ijSd", atoms.pbc, atoms.cell.array, atoms.positions, 5.0)
    order = np.lexsort((shifts[:, 2], shifts[:, 1], shifts[:, 0], j, i))
    assert same(pairs, NeighborPairs(i[order], j[order], shifts[order]))
    assert pairs.shortest == pytest.approx(distances.min(), abs=1e-12)
    assert {array.dtype for array in (pairs.i, pairs.j, pairs.shifts)} == {np.dtype(np.int64)}


def test_a_slab_gets_no_pairs_through_its_vacuum_and_none_through_a_short_free_vector() -> None:
    slab = fcc111("Cu", (2, 2, 3), vacuum=6.0)
    slab.pbc = [True, True, False]
    expected = fresh(Case(slab.positions, slab.cell.array, slab.pbc, 5.0))
    assert not expected.shifts[:, 2].any()
    for vector in ([0.0, 0.0, 0.0], [0.0, 0.0, 1.0], slab.cell.array[0], [0.1, 0.2, 0.0]):
        cell = slab.cell.array.copy()
        cell[2] = vector
        for height in (0.0, 55.0, -300.0):
            assert same(fresh(Case(slab.positions + [0.0, 0.0, height], cell, slab.pbc, 5.0)), expected)


def test_periodicity_through_wide_vacuum_changes_nothing() -> None:
    slab = fcc111("Cu", (2, 2, 3), vacuum=6.0)
    free, through = (fresh(Case(slab.positions, slab.cell.array, np.array(pbc), 5.0)) for pbc in ([1, 1, 0], [1, 1, 1]))
    assert same(free, through)
    slab.center(vacuum=2.0, axis=2)  # the control: now the images do meet
    free, through = (fresh(Case(slab.positions, slab.cell.array, np.array(pbc), 5.0)) for pbc in ([1, 1, 0], [1, 1, 1]))
    assert len(free.i) < len(through.i)


@pytest.mark.parametrize("backend", ["matscipy", "vesin"])
def test_input_types_do_not_matter_and_inputs_stay(backend: str) -> None:
    positions = np.array([[0, 0, 0], [2, 0, 0], [0, 3, 1]])
    cell = np.diag([4, 5, 6])
    expected = neighbor_pairs(positions.astype(float), cell.astype(float), True, 4.5, backend=backend)
    wide = np.zeros((3, 6))
    wide[:, ::2] = positions
    for given_positions in (
        positions,
        positions.astype(np.float32),
        positions.tolist(),
        wide[:, ::2],
        np.asfortranarray(wide[:, ::2]),
    ):
        before = copy.deepcopy(given_positions)
        found = neighbor_pairs(given_positions, cell, [True] * 3, np.float32(4.5), backend=backend)
        assert same(found, expected)
        assert np.array_equal(given_positions, before)


def test_nothing_and_one_atom() -> None:
    none = neighbor_pairs(np.zeros((0, 3)), np.zeros((3, 3)), False, 5.0)
    assert (none.i.shape, none.shifts.shape, none.shortest) == ((0,), (0, 3), np.inf)
    assert len(neighbor_pairs(np.zeros((1, 3)), np.zeros((3, 3)), False, 5.0).i) == 0
    listed = NeighborList(5.0, skin=1.0)
    assert len(listed.pairs(np.zeros((0, 3)), np.zeros((3, 3)), False).i) == 0
    assert len(listed.pairs(np.zeros((1, 3)), np.zeros((3, 3)), False).i) == 0


# ---- memory

SPREAD = """
import resource, sys
import numpy as np
from mlcalc.graphs.neighbors import neighbor_pairs
far = np.array([[0.0, 0.0, 0.0], [6e4, 6e4, 6e4], [6e4, 6e4, 6e4 + 1.5], [6e4, 7.0, 1.0]])
neighbor_pairs(far[:2] * 1e-4, np.eye(3), False, 5.0, backend=sys.argv[1])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for cell, pbc in ((np.zeros((3, 3)), [0, 0, 0]), (np.eye(3) * 1e5, [1, 1, 1]), (np.eye(3) * 1e5, [1, 0, 1])):
    pairs = neighbor_pairs(far, cell, pbc, 5.0, backend=sys.argv[1])
    assert pairs.i.tolist() == [1, 2] and pairs.j.tolist() == [2, 1], pairs
edge = np.array([[1.0, 1.0, 1.0], [99999.5, 99999.5, 99999.5]])
assert neighbor_pairs(edge, np.eye(3) * 1e5, True, 5.0, backend=sys.argv[1]).shifts.tolist() == [[-1] * 3, [1] * 3]
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize("backend", ["matscipy", "vesin"])
def test_empty_space_costs_no_memory(backend: str) -> None:
    """A grid of bins between these atoms would have 10^12 of them."""
    command = [sys.executable, "-c", SPREAD, backend]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 50_000  # KiB, scipy's import included


@pytest.mark.parametrize("kind", KINDS)
def test_the_tree_gives_the_same_pairs(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cases = [random_case(kind, seed) for seed in range(20)]
    expected = [fresh(case) for case in cases]
    from mlcalc.graphs import search as neighbor_search

    monkeypatch.setattr(neighbor_search, "_matscipy", neighbor_search._tree)
    assert all(same(fresh(case), pairs) for case, pairs in zip(cases, expected, strict=True))


# ---- along trajectories


def check_walk(motion: str, seed: int, *, steps: int = 40) -> NeighborList:
    """The list with skin is the list without at every step."""
    case = random_case(KINDS[seed % len(KINDS)], seed) if seed else copper()
    listed = NeighborList(case.cutoff, skin=SKIN)
    for step, now in enumerate(walk(case, motion, steps, seed)):
        pairs = listed.pairs(now.positions, now.cell, now.pbc)
        assert same(pairs, fresh(now)), f"{motion}, seed {seed}, step {step}"
        assert pairs.shortest == fresh(now).shortest
    return listed


@pytest.mark.parametrize("motion", MOTIONS)
def test_skin_changes_nothing(motion: str) -> None:
    for seed in range(2 * len(KINDS)):
        check_walk(motion, seed)


@pytest.mark.parametrize(
    ("motion", "most"),
    [("atoms", 8), ("drift", 8), ("strain", 12), ("compression", 12), ("sudden", 25), ("collision", 12)],
)
def test_skin_saves_searches(motion: str, most: int) -> None:
    assert 1 <= check_walk(motion, 0).rebuilds <= most  # of 40 steps


Criterion = Callable[[neighbors._Reference, neighbors.Floats, neighbors.Floats, float], bool]
RIGHT: Criterion = neighbors._Reference.covers


def largest(vectors: neighbors.Floats) -> float:
    return float(np.sqrt((vectors**2).sum(axis=1)).max())


def without_half(reference: neighbors._Reference, x: neighbors.Floats, h: neighbors.Floats, cutoff: float) -> bool:
    """Twin: max|u| <= skin."""
    if not np.array_equal(h, reference.structure.cell):
        return RIGHT(reference, x, h, cutoff)
    return largest(x - reference.structure.positions) <= reference.reach - cutoff


def without_cell(reference: neighbors._Reference, x: neighbors.Floats, _h: neighbors.Floats, cutoff: float) -> bool:
    """Twin: the cell is not looked at."""
    return 2.0 * largest(x - reference.structure.positions) <= reference.reach - cutoff


def without_stretch(reference: neighbors._Reference, x: neighbors.Floats, h: neighbors.Floats, cutoff: float) -> bool:
    """Twin: the common deformation is taken off the displacements, but not off the reach."""
    old = reference.structure
    strain = np.linalg.pinv(old.cell[old.pbc]) @ (h[old.pbc] - old.cell[old.pbc])
    return 2.0 * largest(x - old.positions - old.positions @ strain) <= reference.reach - cutoff


@pytest.mark.parametrize(
    ("twin", "motion"), [(without_half, "collision"), (without_cell, "cell only"), (without_stretch, "compression")]
)
def test_walks_catch(twin: Criterion, motion: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check_walk(motion, 0)
    monkeypatch.setattr(neighbors._Reference, "covers", twin)
    with pytest.raises(AssertionError, match=motion):
        check_walk(motion, 0)


def test_a_search_is_made_when_the_structure_is_another() -> None:
    case = copper()
    listed = NeighborList(case.cutoff, skin=SKIN)
    numbers = np.full(len(case.positions), 29)
    swapped = numbers.copy()
    swapped[[0, 5]] = 28
    fewer = replace(case, positions=case.positions[:-1])
    slab = replace(case, pbc=np.array([True, True, False]))
    for now, z in ((case, numbers), (case, swapped), (case, None), (slab, None), (fewer, None), (case, numbers)):
        before = listed.rebuilds
        for _ in range(2):
            assert same(listed.pairs(now.positions, now.cell, now.pbc, z), fresh(now))
        assert listed.rebuilds == before + 1


def test_arrays_changed_in_place_by_the_caller_do_not_reach_the_list() -> None:
    case = copper()
    positions, cell, numbers = case.positions.copy(), case.cell.copy(), np.full(len(case.positions), 29)
    listed = NeighborList(case.cutoff, skin=SKIN)
    first = listed.pairs(positions, cell, case.pbc, numbers)
    first.i[:], first.shifts[:] = 0, 7  # the caller's own copies
    positions += np.linspace(0.0, 3.0, len(positions))[:, None]
    cell *= 1.1
    now = Case(positions, cell, case.pbc, case.cutoff)
    assert same(listed.pairs(positions, cell, case.pbc, numbers), fresh(now))
    assert listed.rebuilds == 2


def test_copies_and_threads_do_not_meet() -> None:
    case = copper()
    original = NeighborList(case.cutoff, skin=SKIN)
    original.pairs(case.positions, case.cell, case.pbc)
    other = copy.deepcopy(original)
    far = replace(case, positions=case.positions[::-1] * 1.3)
    assert same(other.pairs(far.positions, far.cell, far.pbc), fresh(far))
    assert (original.rebuilds, other.rebuilds) == (1, 2)
    assert same(original.pairs(case.positions, case.cell, case.pbc), fresh(case))
    assert original.rebuilds == 1
    with ThreadPoolExecutor(4) as pool:
        for walked in [pool.submit(check_walk, motion, 0) for motion in ("atoms", "strain", "sudden", "drift")]:
            walked.result()


def test_a_refused_structure_leaves_no_trace() -> None:
    case = copper()
    listed = NeighborList(case.cutoff, skin=SKIN)
    listed.pairs(case.positions, case.cell, case.pbc)
    for positions, cell in (
        (np.where(np.arange(len(case.positions))[:, None] == 3, np.nan, case.positions), case.cell),
        (np.where(np.arange(len(case.positions))[:, None] == 3, np.inf, case.positions), case.cell),
        (case.positions, case.cell * np.nan),
    ):
        with pytest.raises(NonFiniteError):
            listed.pairs(positions, cell, case.pbc)
        assert same(listed.pairs(case.positions, case.cell, case.pbc), fresh(case))
    with pytest.raises(StructureError, match="precision"):
        listed.pairs(case.positions + 2e6, case.cell, case.pbc)


# ---- refusals: class, cause, remedy

CELL = np.eye(3) * 4.0
PAIR = np.array([[0.0, 0.0, 0.0], [2.0, 0.0, 0.0]])
NAN_ATOM = np.array([[0.0, 0.0, 0.0], [2.0, np.nan, 0.0]])
NAN_CELL = np.array([[4.0, 0.0, 0.0], [0.0, np.nan, 0.0], [0.0, 0.0, 4.0]])
INF_ATOM = np.array([[0.0, 0.0, 0.0], [2.0, np.inf, 0.0]])
ZERO_AXIS = np.diag([4.0, 4.0, 0.0])
COPLANAR = np.array([[4.0, 0.0, 0.0], [0.0, 4.0, 0.0], [4.0, 4.0, 0.0]])
TINY = np.eye(3) * 0.05
REFUSALS = {
    "NaN position": (NAN_ATOM, CELL, True, 3.0, {}, NonFiniteError, "positions of atom 1 .*nan", "input file"),
    "infinite position": (INF_ATOM, CELL, True, 3.0, {}, NonFiniteError, "positions of atom 1 .*inf", "time step"),
    "NaN cell": (PAIR, NAN_CELL, True, 3.0, {}, NonFiniteError, "cell .* vector b", "barostat"),
    "NaN in a free vector": (PAIR, NAN_CELL, False, 3.0, {}, NonFiniteError, "cell .* vector b", "input file"),
    "zero vector": (PAIR, ZERO_AXIS, True, 3.0, {}, CellError, r"axis 2 \(c\)", r"pbc\[2\] = False"),
    "no cell": (PAIR, np.zeros((3, 3)), True, 3.0, {}, CellError, r"axis 0 \(a\)", "set_cell"),
    "coplanar": (PAIR, COPLANAR, True, 3.0, {}, CellError, "one plane, volume", "pbc to False"),
    "parallel": (PAIR, COPLANAR[[0, 0, 1]], [1, 1, 0], 3.0, {}, CellError, r"0 \(a\) and 1 \(b\) are parallel", "pbc"),
    "cell shape": (PAIR, np.ones(3), True, 3.0, {}, CellError, r"shape \(3,\)", r"give \(3, 3\)"),
    "positions' shape": (PAIR.T, CELL, True, 3.0, {}, StructureError, r"shape \(3, 2\)", r"give \(number"),
    "far": (PAIR + 2e6, CELL, True, 3.0, {}, StructureError, "atoms 0, 1 .*2e.06 Å.*precision", "wrap"),
    "cutoff 0": (PAIR, CELL, True, 0.0, {}, ConfigError, "cutoff = 0.0", "above 0"),
    "cutoff < 0": (PAIR, CELL, True, -5.0, {}, ConfigError, "cutoff = -5.0", "above 0"),
    "cutoff NaN": (PAIR, CELL, True, np.nan, {}, ConfigError, "cutoff = nan", "finite"),
    "cutoff infinite": (PAIR, CELL, True, np.inf, {}, ConfigError, "cutoff = inf", "finite"),
    "typo": (PAIR, CELL, True, 3.0, {"backend": "vesinn"}, ConfigError, "vesinn.*one of matscipy", "mean 'vesin'"),
    "backend": (
        PAIR,
        CELL,
        True,
        3.0,
        {"backend": "abc"},
        ConfigError,
        "'abc'",
        "one of matscipy, vesin, torch-cluster",
    ),
    "periodic torch-cluster": (
        *(PAIR, CELL, [1, 0, 0], 3.0, {"backend": "torch-cluster"}),
        *(ConfigError, r"no periodic images.*\[True, False, False\]", "'matscipy' or 'vesin'"),
    ),
    "tiny cell, estimated": (
        *(PAIR, TINY * 0.1, True, 5.0, {}),
        *(TooManyEdgesError, r"about 1.6\d+e\+10 neighbor pairs within 5 Å.*limit of 20000000", "lengths and units"),
    ),
    "counted": (PAIR, CELL, True, 5.0, {"max_edges": 10}, TooManyEdgesError, "have 3?[0-9]+ neighbor", "max_edges"),
}


@pytest.mark.parametrize("with_skin", [False, True])
@pytest.mark.parametrize("name", REFUSALS)
def test_refusals_name_cause_and_remedy(name: str, with_skin: bool) -> None:
    positions, cell, pbc, cutoff, options, error, cause, remedy = REFUSALS[name]

    def listed() -> NeighborPairs:
        if with_skin:
            return NeighborList(cutoff, skin=1.0, **options).pairs(positions, cell, pbc)
        return neighbor_pairs(positions, cell, pbc, cutoff, **options)

    with pytest.raises(error, match=f"(?s){cause}.*{remedy}") as caught:
        listed()
    assert type(caught.value) is error


@pytest.mark.parametrize("skin", [-0.5, np.nan, np.inf])
def test_an_impossible_skin_is_refused(skin: float) -> None:
    with pytest.raises(ConfigError, match=f"skin = {skin}.*positive distance"):
        NeighborList(5.0, skin=skin)


@pytest.mark.parametrize("pbc", [[1, 1, 1], [1, 1, 0], [0, 1, 0], [0, 0, 0]])
def test_a_dense_blob_is_refused_before_its_list_is_made(pbc: list[int]) -> None:
    positions = np.random.default_rng(0).normal(50.0, 0.5, (8000, 3))
    with pytest.raises(TooManyEdgesError, match=r"8000 atoms have about 6.399e\+07"):  # N (N - 1)
        neighbor_pairs(positions, np.eye(3) * 100.0, pbc, 10.0)


@pytest.mark.parametrize("kind", KINDS)
def test_the_limit_refuses_exactly_what_exceeds_it(kind: str) -> None:
    for case in (random_case(kind, seed) for seed in range(10)):
        edges = len(fresh(case).i)
        for make in (
            neighbor_pairs,
            lambda *args, max_edges: NeighborList(args[3], skin=1.0, max_edges=max_edges).pairs(*args[:3]),
        ):
            make(case.positions, case.cell, case.pbc, case.cutoff, max_edges=edges)
            if edges:
                with pytest.raises(TooManyEdgesError, match=f"have {edges} neighbor pairs"):
                    make(case.positions, case.cell, case.pbc, case.cutoff, max_edges=edges - 1)


# ---- torch-cluster


@pytest.mark.skipif(HAS_TORCH_CLUSTER, reason="torch-cluster is installed")
def test_without_torch_cluster_the_extra_is_named() -> None:
    with pytest.raises(
        MissingExtraError, match=r'pip install "mlcalc\[torch-cluster\]" --no-build-isolation.*matscipy'
    ):
        neighbor_pairs(PAIR, np.zeros((3, 3)), False, 3.0, backend="torch-cluster")


@pytest.mark.skipif(not HAS_TORCH_CLUSTER, reason="torch-cluster is not installed")
def test_torch_cluster_gives_the_same_pairs_of_molecules() -> None:
    dense = Case(np.random.default_rng(1).uniform(0.0, 6.0, (200, 3)), np.zeros((3, 3)), np.zeros(3, dtype=bool), 5.0)
    for case in [dense, *(random_case("molecule", seed) for seed in range(50))]:
        assert same(fresh(case, "torch-cluster"), fresh(case))
