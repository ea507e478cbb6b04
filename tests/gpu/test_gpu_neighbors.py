"""Neighbor lists made by torch on the positions' device: exactly those of mlcalc.graphs.neighbors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase.build import bulk, molecule
from neighbor_cases import KINDS, MOTIONS, Case, check_exact, random_case, same, walk

from mlcalc.gpu import cells
from mlcalc.gpu.cells import DevicePairs, device_pairs
from mlcalc.gpu.neighbors import DeviceNeighborList, allowed_motion
from mlcalc.graphs.neighbors import neighbor_pairs
from mlcalc.graphs.pairs import NeighborPairs
from mlcalc.md_protocols.errors import ConfigError


def arguments(case: Case) -> tuple[torch.Tensor, torch.Tensor, tuple[bool, bool, bool]]:
    a, b, c = (bool(flag) for flag in case.pbc)
    return torch.tensor(case.positions), torch.tensor(case.cell), (a, b, c)


def as_pairs(found: DevicePairs) -> NeighborPairs:
    return NeighborPairs(found.i.numpy(), found.j.numpy(), found.shifts.numpy())


def reference(case: Case) -> NeighborPairs:
    return neighbor_pairs(case.positions, case.cell, case.pbc, case.cutoff)


@pytest.mark.parametrize("kind", KINDS)
def test_same_list_as_on_the_host(kind: str) -> None:
    for seed in range(12):
        case = random_case(kind, seed)
        found = as_pairs(device_pairs(*arguments(case), case.cutoff))
        check_exact(case, found)
        assert same(found, reference(case))


@pytest.mark.parametrize("pbc", [(True, True, True), (True, False, True), (False, False, False)])
@pytest.mark.parametrize("chunk", [2**23, 1000])
def test_many_bins(pbc: tuple[bool, bool, bool], chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells, "_PAIRS_AT_A_TIME", chunk)
    atoms = bulk("Cu", cubic=True) * (5, 4, 6)
    atoms.rattle(0.1, seed=3)
    case = Case(atoms.positions - 3.0, np.array(atoms.cell), np.array(pbc), 4.0)
    assert same(as_pairs(device_pairs(*arguments(case), case.cutoff)), reference(case))


def test_mostly_empty_space_needs_few_bins() -> None:
    far = molecule("C6H6")
    positions = np.concatenate([far.positions, far.positions + [4000.0, 0.0, -900.0]])
    case = Case(positions, np.zeros((3, 3)), np.zeros(3, dtype=bool), 3.0)
    assert same(as_pairs(device_pairs(*arguments(case), case.cutoff)), reference(case))


def test_shifts_too_large_for_one_number_are_sorted_too() -> None:
    rng = np.random.default_rng(0)
    rows = torch.tensor(rng.integers(0, 3, (200, 5)))
    small = DevicePairs(rows[:, 0], rows[:, 1], rows[:, 2:] - 1)
    large = DevicePairs(rows[:, 0], rows[:, 1], (rows[:, 2:] - 1) * 2**21)
    order = cells._order(large, 3)
    columns = torch.stack([small.i, small.j, *small.shifts.unbind(1)])
    assert torch.equal(columns[:, order], columns[:, cells._order(small, 3)])


@pytest.mark.parametrize("motion", MOTIONS)
@pytest.mark.parametrize("kind", ["triclinic", "smaller than the cutoff", "molecule", "mixed pbc"])
def test_reused_list_is_the_new_one(kind: str, motion: str) -> None:
    for seed in (1, 2):
        case = random_case(kind, seed)
        neighbors = DeviceNeighborList(case.cutoff, skin=1.0)
        steps = list(walk(case, motion, 12, seed))
        for now in steps:
            assert same(as_pairs(neighbors.pairs(*arguments(now))), reference(now))
        if motion in ("atoms", "drift"):
            assert neighbors.rebuilds < len(steps) / 2


def test_a_list_never_searched_again_would_be_noticed() -> None:
    case = random_case("triclinic", 1)
    neighbors = DeviceNeighborList(case.cutoff, skin=1.0)
    neighbors._covers = lambda *_: True  # type: ignore[method-assign]
    wrong = [
        not same(as_pairs(neighbors.pairs(*arguments(now))), reference(now)) for now in walk(case, "sudden", 20, 1)
    ]
    assert any(wrong)


def test_allowed_motion_of_a_fixed_cell_is_half_the_skin() -> None:
    cell = 5 * torch.eye(3, dtype=torch.float64)
    assert allowed_motion(cell, cell, (True, True, True), reach=6.0, cutoff=5.0).limit == pytest.approx(0.5)
    squeezed = allowed_motion(cell, 0.9 * cell, (True, True, True), reach=6.0, cutoff=5.0)
    assert squeezed.limit == pytest.approx((0.9 * 6 - 5) / 2)
    free = allowed_motion(cell, 0.9 * cell, (False, False, False), reach=6.0, cutoff=5.0)
    assert free.limit == pytest.approx(0.5)


def test_lengths_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ConfigError, match="skin = 0"):
        DeviceNeighborList(5.0, skin=0)
    with pytest.raises(ConfigError, match="cutoff = nan"):
        DeviceNeighborList(float("nan"), skin=1.0)
