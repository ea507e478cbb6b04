"""What calls leave behind: nothing, however often they are made, or runs of weeks would end for want of memory."""

from __future__ import annotations

import gc
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from ase import Atoms
from ase.build import bulk
from small_networks import random_network

from mlcalc import MLCalculator, evaluate
from mlcalc.kernels.workspace import Workspaces
from mlcalc.md_protocols import relax, run_nvt

SETTINGS = {"elements": ("Cu", "Au"), "cutoff": 3.5, "hidden_channels": 8, "num_layers": 2, "energy_shift": (-3.7, -2)}
NETWORKS = {
    "hvnet": random_network("hvnet", SETTINGS),
    "visnet": random_network("visnet", SETTINGS | {"num_heads": 2, "neighbor_norm": 6.0}),
}
_FEW, _MANY = 3, 5  # calls before and between two looks


def alive() -> Counter[str]:
    """Tensors, those of autograd's graphs among them, structures, objects of our classes, entries of our modules."""
    gc.collect()
    found: Counter[str] = Counter()
    for thing in gc.get_objects():
        kind = type(thing)  # isinstance would wake up lazy modules
        if issubclass(kind, torch.Tensor | Atoms):
            found[kind.__name__] += 1
        elif str(kind.__module__).startswith("mlcalc."):
            found[f"{kind.__module__}.{kind.__name__}"] += 1
    for name, module in list(sys.modules.items()):
        if name.startswith("mlcalc."):
            sizes = {key: len(value) for key, value in vars(module).items() if isinstance(value, list | dict | set)}
            found.update({f"{name}.{key}": size for key, size in sizes.items() if key != "__builtins__"})
    return found


def growth(call: Callable[[int], object]) -> Counter[str]:
    """What five calls leave behind, once three have filled what is kept for the next one."""
    for turn in range(_FEW):
        call(turn)
    before = alive()
    for turn in range(_FEW, _FEW + _MANY):
        call(turn)
    return alive() - before


def crystal(turn: int, calculator: MLCalculator | None = None) -> Atoms:
    """One of three sizes, so that three calls see all of them."""
    atoms = bulk("Cu", a=3.7, cubic=True) * (1, 1 + turn % 3, 2)
    atoms.rattle(0.03, seed=turn)
    atoms.calc = calculator
    return atoms


def one_calculator(name: str, kernels: str) -> Callable[[int], object]:
    calculator = MLCalculator(NETWORKS[name], kernels=kernels)
    return lambda turn: crystal(turn, calculator).get_stress()


def new_calculators(name: str, kernels: str) -> Callable[[int], object]:
    return lambda turn: crystal(turn, MLCalculator(NETWORKS[name], kernels=kernels)).get_forces()


def batches(name: str, kernels: str) -> Callable[[int], object]:
    return lambda turn: evaluate(NETWORKS[name], [crystal(turn), crystal(turn + 1)], stress=True, kernels=kernels)


def estimates(name: str, kernels: str) -> Callable[[int], object]:
    return lambda turn: MLCalculator(NETWORKS[name], kernels=kernels).engine.memory(100, 2000)


def hessians(name: str, kernels: str) -> Callable[[int], object]:
    calculator = MLCalculator(NETWORKS[name], kernels=kernels)
    return lambda turn: calculator.hessian(crystal(0), indices=[0])


def dynamics(name: str, kernels: str) -> Callable[[int], object]:
    calculator = MLCalculator(NETWORKS[name], kernels=kernels)
    settings: dict[str, Any] = {"temperature_K": 50, "timestep_fs": 1, "steps": 5, "progress": False}
    return lambda turn: run_nvt(crystal(turn, calculator), **settings)


def relaxations(name: str, kernels: str) -> Callable[[int], object]:
    calculator = MLCalculator(NETWORKS[name], kernels=kernels)
    return lambda turn: relax(crystal(0, calculator), fmax=0.5, progress=False)


CALLS = [one_calculator, new_calculators, batches, estimates, hessians, dynamics, relaxations]


@pytest.mark.parametrize(("name", "kernels"), [("hvnet", "auto"), ("visnet", "auto"), ("visnet", "torch")])
@pytest.mark.parametrize("calls", CALLS)
def test_repeated_calls_leave_nothing(calls: Any, name: str, kernels: str) -> None:
    assert growth(calls(name, kernels)) == {}


def test_a_graph_that_keeps_itself_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    hooks = torch.autograd.graph.saved_tensors_hooks

    def cycle(pack: Any, unpack: Any) -> Any:
        return hooks(lambda tensor: (pack(tensor), tensor)[1], unpack)

    monkeypatch.setattr(torch.autograd.graph, "saved_tensors_hooks", cycle)
    assert growth(estimates("visnet", "torch"))["Tensor"] > _MANY


def test_workspaces_that_pile_up_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def hoard(self: Any, fits: Any, make: Callable[[], Any]) -> Iterator[Any]:
        self._free.append(make())
        yield self._free[-1]

    monkeypatch.setattr(Workspaces, "taken", hoard)
    left = growth(one_calculator("hvnet", "auto"))
    assert left["mlcalc.kernels.hvnet.space.Space"] == _MANY


def test_what_a_module_or_a_caller_keeps_is_seen() -> None:
    from mlcalc import kernels

    assert growth(lambda turn: kernels._passed.add((turn, torch.float64)))["mlcalc.kernels._passed"] == _MANY
    kernels._passed.difference_update({(turn, torch.float64) for turn in range(_FEW + _MANY)})
    kept: list[Atoms] = []
    left = growth(lambda turn: kept.append(crystal(turn, MLCalculator(NETWORKS["hvnet"]))))
    assert left["Atoms"] == left["mlcalc.calculator.MLCalculator"] == _MANY
