"""Steps of LAMMPS with cu-hvnet or ethanol-visnet on one and several ranks: wall and CPU time.

    python benchmarks/lammps_scaling.py [--ranks 1,2] [--cells 8,12,16,20] [--repeats 3] [--steps 3] [--dtype float32]
                                        [--model ethanol-visnet] [--output FILE.json]

Strong scaling: the same crystal of n x n x n cells (of 4 atoms, or of one molecule) on every number of ranks.  Weak
scaling: n x n x n cells for each rank, side by side along x.  Each measurement is a launch of its own; numbers of
ranks take turns, so that a busy moment of the machine hits all of them.  One thread per rank.

MPI waits by looking again and again, which is CPU time as well: it is measured, and left out of `work`, the CPU time
of what has to be done.  On a machine with a core for each rank, wall time is the `work` of the busiest rank and what
messages take.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


class Waiting:
    """CPU seconds within functions that wait for other ranks."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def watch(self, owner: Any, *names: str) -> None:
        for name in names:
            setattr(owner, name, self._timed(getattr(owner, name)))

    def _timed(self, function: Any) -> Any:
        def call(*arguments: Any) -> Any:
            start = time.process_time()
            try:
                return function(*arguments)
            finally:
                self.seconds += time.process_time() - start

        return call


def worker(cells: tuple[int, int, int], steps: int, dtype: str, model: str) -> None:
    """One measurement, printed as JSON by rank 0."""
    from mlcalc.lammps import attach, ranks
    from mlcalc.lammps.library import load_lammps, load_mpi

    comm, waiting = load_mpi().COMM_WORLD, Waiting()
    waiting.watch(ranks, "_wait")
    waiting.watch(ranks.Ranks, "any", "sum")
    lmp = load_lammps().lammps(cmdargs=["-log", "none", "-screen", "none"], comm=comm)
    elements = (copper if model == "cu-hvnet" else ethanol)(lmp, cells)
    coupling = attach(lmp, model, elements=elements, dtype=dtype)
    lmp.commands_string("velocity all create 300 1\nfix 1 all nve\ntimestep 0.0001\nthermo 1000\nrun 1 post no")
    comm.Barrier()
    wall, busy, waiting.seconds = time.perf_counter(), time.process_time(), 0.0
    lmp.command(f"run {steps} post no")  # whose set-up is one more evaluation
    busy, waited = (time.process_time() - busy) / (steps + 1), waiting.seconds / (steps + 1)
    comm.Barrier()
    wall = (time.perf_counter() - wall) / (steps + 1)
    found = comm.gather(
        {
            "cpu": busy,
            "work": busy - waited,
            "own": lmp.extract_setting("nlocal"),
            "remote": getattr(coupling.scheme, "remote", 0),
        }
    )
    if found is not None:
        sys.stdout.write(json.dumps({"wall": wall, "ranks": found}) + "\n")
    lmp.close()


def copper(lmp: Any, cells: tuple[int, int, int]) -> tuple[str, ...]:
    a, b, c = cells
    lmp.commands_string(
        f"units metal\nlattice fcc 3.61\nregion b block 0 {a} 0 {b} 0 {c}\ncreate_box 1 b\ncreate_atoms 1 box\n"
        "mass 1 63.546\n"
    )
    return ("Cu",)


def ethanol(lmp: Any, cells: tuple[int, int, int]) -> tuple[str, ...]:
    """Molecules on a lattice, somewhat less dense than the liquid (97 Å^3 each): no atoms overlap."""
    from ase.build import molecule

    elements = ("H", "C", "O")
    one = molecule("CH3CH2OH", cell=[5.4] * 3)
    one.center()
    atoms = one * cells
    a, b, c = atoms.cell.lengths()
    lmp.commands_string(f"units metal\nregion b block 0 {a} 0 {b} 0 {c}\ncreate_box 3 b")
    types = [elements.index(symbol) + 1 for symbol in atoms.symbols]
    lmp.create_atoms(len(atoms), list(range(1, len(atoms) + 1)), types, atoms.positions.ravel().tolist())
    lmp.commands_string("mass 1 1.008\nmass 2 12.011\nmass 3 15.999")
    return elements


def measured(ranks: int, cells: tuple[int, int, int], asked: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, __file__, "--worker", "x".join(map(str, cells)), "--steps", str(asked.steps)]
    command += ["--dtype", asked.dtype, "--model", asked.model]
    launcher = [str(Path(sys.prefix) / "bin" / "mpiexec"), "-n", str(ranks)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(launcher + command, capture_output=True, text=True, check=False, env=environment)  # noqa: S603
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def plan(ranks: list[int], sizes: list[int]) -> list[tuple[str, int, tuple[int, int, int]]]:
    strong = [("strong", p, (n, n, n)) for n in sizes for p in ranks]
    return strong + [("weak", p, (n * p, n, n)) for n in sizes for p in ranks if p > 1]


def row(kind: str, ranks: int, cells: tuple[int, int, int], runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over the repeats, with the smallest and the largest wall time."""
    walls = [run["wall"] for run in runs]
    cpu = [sum(rank["cpu"] for rank in run["ranks"]) for run in runs]
    work = [sum(rank["work"] for rank in run["ranks"]) for run in runs]
    slowest = [max(rank["work"] for rank in run["ranks"]) for run in runs]
    atoms = sum(rank["own"] for rank in runs[0]["ranks"])
    return {
        "kind": kind,
        "ranks": ranks,
        "cells": list(cells),
        "atoms": atoms,
        "wall_s": statistics.median(walls),
        "wall_range_s": [min(walls), max(walls)],
        "cpu_s": statistics.median(cpu),
        "cpu_range_s": [min(cpu), max(cpu)],
        "work_s": statistics.median(work),
        "busiest_work_s": statistics.median(slowest),
        "busiest_work_range_s": [min(slowest), max(slowest)],
        "work_us_per_atom": 1e6 * statistics.median(work) / atoms,
        "remote_atoms_per_rank": max(rank["remote"] for rank in runs[0]["ranks"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--ranks", default="1,2")
    parser.add_argument("--cells", default="8,12,16,20")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--model", default="cu-hvnet", choices=("cu-hvnet", "ethanol-visnet"))
    parser.add_argument("--output", type=Path)
    asked = parser.parse_args()
    if asked.worker:
        a, b, c = map(int, asked.worker.split("x"))
        worker((a, b, c), asked.steps, asked.dtype, asked.model)
        return
    cases = plan([int(p) for p in asked.ranks.split(",")], [int(n) for n in asked.cells.split(",")])
    runs: dict[tuple[str, int, tuple[int, int, int]], list[dict[str, Any]]] = {case: [] for case in cases}
    for _ in range(asked.repeats):
        for case in cases:
            runs[case].append(measured(case[1], case[2], asked))
    rows = [row(*case, found) for case, found in runs.items()]
    for r in rows:
        low, high = r["wall_range_s"]
        least, most = r["busiest_work_range_s"]
        sys.stdout.write(
            f"{r['kind']:6s} {r['ranks']} ranks {r['atoms']:7d} atoms  wall {r['wall_s']:.3f} s "
            f"({low:.3f}-{high:.3f})  CPU {r['cpu_s']:.3f} s  "
            f"work of the busiest rank {r['busiest_work_s']:.3f} s ({least:.3f}-{most:.3f})  "
            f"{r['work_us_per_atom']:.1f} us/atom  remote {r['remote_atoms_per_rank']}\n"
        )
    if asked.output:
        asked.output.write_text(
            json.dumps({"model": asked.model, "dtype": asked.dtype, "steps": asked.steps, "rows": rows}, indent=1)
        )


if __name__ == "__main__":
    main()
