"""What the calculator leaves out along a trajectory changes nothing: the same notices, copies, graphs and errors."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes, compare_atoms
from ase.constraints import FixAtoms
from ase.io import Trajectory
from ase.optimize import BFGS
from potentials import ManyBody

from mlcalc import MLCalculator
from mlcalc.errors import CellError, NonFiniteError, OverlapError, StructureError, UnknownElementError
from mlcalc.graphs.graphs import GraphSeries, validated_graph
from mlcalc.graphs.neighbors import NeighborList, neighbor_pairs
from mlcalc.graphs.snapshot import Snapshot
from mlcalc.models import Graph
from mlcalc.scope import Scope

SCOPE = Scope(cutoff=4.0, elements=("Cu", "Au"))
EDITS: dict[str, Callable[[Atoms], object]] = {
    "nothing": lambda a: None,
    "positions": lambda a: a.positions.__setitem__((5, 2), a.positions[5, 2] + 1e-9),
    "positions bound anew": lambda a: a.set_positions(a.positions[::-1]),
    "number": lambda a: a.numbers.__setitem__(3, 79),
    "cell": lambda a: a.cell.__setitem__((0, 1), 0.1),
    "pbc": lambda a: a.pbc.__setitem__(2, False),
    "charges": lambda a: a.set_initial_charges(np.ones(len(a))),
    "magnetic moments": lambda a: a.set_initial_magnetic_moments(np.arange(len(a))),
    "number of atoms": lambda a: a.pop(0),
    "velocities": lambda a: a.set_momenta(np.ones((len(a), 3))),
    "tags": lambda a: a.set_tags(3),
}


def copper() -> Atoms:
    atoms = bulk("Cu", cubic=True) * 2
    atoms.rattle(0.05, seed=1)
    return atoms


@pytest.mark.parametrize("edit", EDITS)
def test_changes_are_those_that_ase_finds(edit: str) -> None:
    atoms = copper()
    snapshot, reference = Snapshot(atoms), atoms.copy()
    EDITS[edit](atoms)
    assert sorted(snapshot.changes(atoms)) == sorted(compare_atoms(reference, atoms))
    assert bool(snapshot.changes(atoms)) == (edit not in ("nothing", "velocities", "tags"))


def test_the_structure_of_the_results_is_a_copy_of_the_whole() -> None:
    atoms = copper()
    atoms.set_constraint(FixAtoms([0]))
    atoms.info["name"] = ["a list"]
    atoms.set_celldisp([0.1, 0.2, 0.3])
    atoms.set_momenta(np.ones((len(atoms), 3)), apply_constraint=False)
    reference = atoms.copy()
    atoms.calc = MLCalculator(ManyBody(("Cu", "Au")))
    assert isinstance(atoms.calc, Calculator)
    assert atoms.calc.atoms is None
    assert sorted(atoms.calc.check_state(atoms)) == sorted(all_changes)
    energy = atoms.get_potential_energy()
    atoms.positions += 1.0
    kept = atoms.calc.atoms
    assert kept == reference
    assert kept.info == reference.info
    assert kept.constraints[0].index.tolist() == [0]
    np.testing.assert_array_equal(kept.get_celldisp(), reference.get_celldisp())
    np.testing.assert_array_equal(kept.get_momenta(), reference.get_momenta())
    assert atoms.calc.get_potential_energy() == energy  # of its own structure
    assert atoms.calc.get_property("forces", atoms, allow_calculation=False) is None  # atoms have moved
    atoms.calc.atoms = None
    assert atoms.calc.check_state(reference) == list(all_changes)


def test_ase_optimizers_and_trajectories(tmp_path) -> None:
    atoms = copper()
    atoms.calc = MLCalculator(ManyBody(("Cu", "Au")))
    before = atoms.get_potential_energy()
    with BFGS(atoms, trajectory=str(tmp_path / "relax.traj"), logfile=None) as optimizer:
        optimizer.run(fmax=1e-9, steps=3)
    with Trajectory(tmp_path / "relax.traj") as frames:
        assert frames[0].get_potential_energy() == before
        assert frames[-1].get_potential_energy() == atoms.get_potential_energy() < before
        np.testing.assert_array_equal(frames[-1].get_forces(), atoms.get_forces())


def walk(steps: int = 30) -> list[Atoms]:
    """Structures in which now and then something else than positions changes, for one step or for good."""
    rng, atoms, frames = np.random.default_rng(8), copper(), []
    for step in range(steps):
        atoms.positions += rng.normal(scale=0.05, size=(len(atoms), 3))
        if step % 5 == 2:
            atoms.set_cell(atoms.cell.array * [1.01, 1.0, 0.99], scale_atoms=True)
        if step % 7 == 3:
            atoms.numbers[step % len(atoms)] = 79
        if step == 11:
            atoms.pbc[1] = False
        if step == 17:
            atoms.pop(4)
        frames.append(atoms.copy())
    return frames


def same(one: Graph, other: Graph) -> bool:
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in Graph.__dataclass_fields__)


def test_a_series_gives_the_graphs_of_single_structures() -> None:
    for skin in (0.0, 1.0):
        series = GraphSeries(SCOPE, NeighborList(4.0, skin=skin))
        frames = walk()
        graphs = [series.graph(atoms) for atoms in frames]  # all of them kept: none may be written to later
        assert all(same(graph, validated_graph(atoms, SCOPE)) for graph, atoms in zip(graphs, frames, strict=True))
    assert series.neighbors.rebuilds < len(frames)


@pytest.mark.parametrize("length", [0, 10**9], ids=["compiled", "numpy"])
def test_compiled_filters_give_the_same_to_the_last_digit(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba")
    monkeypatch.setattr("mlcalc.graphs.neighbors.LONG", length)
    series = GraphSeries(SCOPE, NeighborList(4.0, skin=1.0))
    frames = [*walk(20), Atoms("Cu2", [[0, 0, 0], [0, 0, 3.9]]), Atoms("Cu")]
    for atoms in frames:
        assert same(series.graph(atoms), validated_graph(atoms, SCOPE))
        listed = NeighborList(4.0, skin=1.0)
        found = [listed.pairs(atoms.positions + d, atoms.cell.array, atoms.pbc) for d in (0.0, 0.01)]
        assert found[0].shortest == neighbor_pairs(atoms.positions, atoms.cell.array, atoms.pbc, 4.0).shortest


@pytest.mark.parametrize("blind", ["numbers", "cell", "pbc"])
def test_a_series_that_overlooks_a_change_is_found(blind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def holds(frame, atoms: Atoms) -> bool:
        looked_at = {"numbers": atoms.numbers, "cell": atoms.cell.array, "pbc": atoms.pbc}
        return all(np.array_equal(getattr(frame, k), v) for k, v in looked_at.items() if k != blind)

    monkeypatch.setattr("mlcalc.graphs.graphs._Frame.holds", holds)
    series, frames = GraphSeries(SCOPE, NeighborList(4.0, skin=1.0)), walk(15)
    assert not all(same(series.graph(atoms), validated_graph(atoms, SCOPE)) for atoms in frames)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda a: a.positions.__setitem__((3, 1), np.nan), NonFiniteError),
        (lambda a: a.positions.__setitem__((3, 1), -np.inf), NonFiniteError),
        (lambda a: a.positions.__setitem__((3, 1), -1e8), StructureError),
        (lambda a: a.positions.__setitem__(3, a.positions[4] + 0.1), OverlapError),
        (lambda a: a.set_momenta(np.full((len(a), 3), np.inf)), NonFiniteError),
        (lambda a: a.cell.__setitem__((0, 0), np.nan), NonFiniteError),
        (lambda a: a.cell.__setitem__(0, a.cell[1]), CellError),
        (lambda a: a.set_cell(a.cell.array * 0.02), OverlapError),
        (lambda a: a.numbers.__setitem__(0, 6), UnknownElementError),
    ],
)
def test_what_goes_wrong_along_a_series_is_told_and_forgotten(change, error) -> None:
    series, good = GraphSeries(SCOPE, NeighborList(4.0, skin=1.0)), copper()
    series.graph(good)
    bad = good.copy()
    change(bad)
    for _ in range(2):
        with pytest.raises(error):
            series.graph(bad)
    assert same(series.graph(good), validated_graph(good, SCOPE))


@dataclass
class Nothing:
    """No interaction at all."""

    cutoff: float = 5.0

    def __call__(self, graph: Graph) -> torch.Tensor:
        return torch.zeros(len(graph.numbers), dtype=torch.float64)


def test_a_step_takes_few_calls() -> None:
    """Calls of Python and C functions, which do not depend on the machine as times do; with ASE's own checks 750."""
    atoms = Atoms("C21", positions=np.stack(np.meshgrid(*[1.5 * np.arange(3)] * 3), axis=-1).reshape(-1, 3)[:21])
    atoms.calc = MLCalculator(Nothing())
    atoms.get_forces()
    calls = 0

    def count(frame, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    atoms.positions += 0.001 * np.sin(np.arange(63)).reshape(21, 3)
    previous = sys.getprofile()
    sys.setprofile(count)
    atoms.get_forces()
    sys.setprofile(previous)
    assert calls < 300
