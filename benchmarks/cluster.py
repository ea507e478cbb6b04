"""Structures per second on one and two Dask workers, and by `evaluate` in this process.

    OMP_NUM_THREADS=1 python -m benchmarks.cluster

Workers have one thread each and are warm; ways run in turns; medians, lowest and highest.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk, molecule

from mlcalc import evaluate
from mlcalc.cluster.evaluate import evaluate_on_cluster, local_cluster
from mlcalc.factory import CalculatorFactory

_ROUNDS = 5


def rattled(atoms: Atoms, count: int) -> list[Atoms]:
    """Copies with other positions, too far apart for one neighbor list."""
    rng, copies = np.random.default_rng(0), [atoms.copy() for _ in range(count)]
    for copy in copies:
        copy.positions += rng.normal(scale=0.05, size=copy.positions.shape)
    return copies


CASES = {
    "ethanol-visnet": ("4000 molecules of 9 atoms", rattled(molecule("CH3CH2OH"), 4000)),
    "cu-hvnet": ("300 cells of 108 atoms", rattled(bulk("Cu", a=3.61, cubic=True) * (3, 3, 3), 300)),
}


def seconds(act: Callable[[], Sequence[Any]]) -> tuple[float, Sequence[Any]]:
    begun = time.perf_counter()
    found = act()
    return time.perf_counter() - begun, found


def main() -> None:
    print("| model | structures | way | per second | |\n|---|---|---|---|---|")
    for model, (what, structures) in CASES.items():
        factory = CalculatorFactory(model, dtype="float32")
        with local_cluster(1) as one, local_cluster(2) as two:
            ways: dict[str, Callable[[], Sequence[Any]]] = {
                "evaluate, one thread": lambda m=model, s=structures: evaluate(m, s, dtype="float32"),
                "1 worker": lambda f=factory, s=structures, c=one: evaluate_on_cluster(f, s, client=c),
                "2 workers": lambda f=factory, s=structures, c=two: evaluate_on_cluster(f, s, client=c),
            }
            times: dict[str, list[float]] = {name: [] for name in ways}
            for k in range(_ROUNDS + 1):  # the first to warm up
                results = {}
                for name, act in ways.items():
                    taken, results[name] = seconds(act)
                    times[name] += [taken] if k else []
            reference = [result.energy for result in results["evaluate, one thread"]]
            for name, values in times.items():
                worst = np.abs(np.array([result.energy for result in results[name]]) - reference).max()
                if worst > 1e-3:
                    raise RuntimeError(f"{name}: energies differ by {worst:g} eV")
                rates = sorted(len(structures) / value for value in values)
                middle = statistics.median(rates)
                print(f"| {model} | {what} | {name} | {middle:.0f} | {rates[0]:.0f}-{rates[-1]:.0f} |")


if __name__ == "__main__":
    main()
