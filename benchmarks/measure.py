"""Runs cases, each in a process of its own, those of a comparison in turns."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from benchmarks.cases import FAILED, FITS, TOO_LARGE, Case, Measurement

ROOT = Path(__file__).parents[1]
_KEPT_SHARE = 0.15  # of the memory; a process that holds more is measured at once, and ended


class Process:
    """A worker; `first` and `sample` fill its measurement."""

    def __init__(self, case: Case, log: Path, *, python: str, patience_s: float) -> None:
        self.result = Measurement(case)
        self.log, self.patience_s = log, patience_s
        self.held_bytes = 0
        threads = {name: str(case.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")}
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        with log.open("ab") as errors:
            self.process = subprocess.Popen(  # noqa: S603 - our own module
                [python, "-m", "benchmarks.worker"],
                cwd=ROOT,
                env=os.environ | threads | {"PYTHONPATH": path},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
            )
        self._send(json.dumps(asdict(case)))

    @property
    def alive(self) -> bool:
        return self.result.status == FITS and self.process.poll() is None

    def first(self) -> None:
        """Wait for the first call on the whole system."""
        answer = self._answer()
        self.held_bytes = answer.pop("held_bytes", 0)
        self._note(answer)

    def sample(self) -> None:
        """One more sample of the time."""
        if not self.alive:
            return
        self._send("call")
        answer = self._answer()
        if "wall_s" in answer:
            self.result.wall_s.append(answer["wall_s"])
            self.result.cpu_s.append(answer["cpu_s"])
        else:
            self._note(answer)

    def end(self) -> None:
        """End the process."""
        if self.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()

    def _note(self, answer: dict[str, Any]) -> None:
        for name, value in answer.items():
            setattr(self.result, name, value)

    def _send(self, line: str) -> None:
        pipe = cast("IO[bytes]", self.process.stdin)
        with contextlib.suppress(BrokenPipeError):  # where it has ended, the answer will say so
            pipe.write(f"{line}\n".encode())
            pipe.flush()

    def _answer(self) -> dict[str, Any]:
        stdout = cast("IO[bytes]", self.process.stdout)
        ready, _, _ = select.select([stdout], [], [], self.patience_s)
        line = stdout.readline() if ready else b""
        if line:
            found: dict[str, Any] = json.loads(line)
            return found
        if not ready:
            self.process.kill()
            return {"status": FAILED, "reason": f"no answer within {self.patience_s:.0f} s"}
        code = self.process.wait()
        text = self.log.read_text(errors="replace")[-2000:]
        out_of_memory = code == -9 or "alloc" in text or "memory" in text
        return {
            "status": TOO_LARGE if out_of_memory else FAILED,
            "reason": f"the process ended with {code}, limit {self.result.case.memory_gib:.1f} GiB",
        }


def measure_together(
    cases: Sequence[Case],
    folder: Path,
    *,
    repeats: int,
    pythons: dict[str, str] | None = None,
    patience_s: float = 600.0,
    tell: Callable[[str], object] = lambda _: None,
) -> list[Measurement]:
    """Measurements of the cases of one comparison, repetitions in turns, so that a busy moment hits all of them."""
    processes: list[Process] = []

    def start(case: Case) -> Process:
        tell(case.label)
        python = (pythons or {}).get(case.peer, sys.executable)
        process = Process(case, folder / "workers.log", python=python, patience_s=patience_s)
        process.first()
        return process

    kept: list[Process] = []
    for case in cases:
        held = sum(process.held_bytes for process in kept) / 2**30
        process = start(replace(case, memory_gib=case.memory_gib - held))
        processes.append(process)
        if process.alive and process.held_bytes < _KEPT_SHARE * case.memory_gib * 2**30:
            kept.append(process)
        else:
            _samples([process], repeats)
            process.end()
    _samples(kept, repeats)
    for process in kept:
        process.end()
    results = [process.result for process in processes]
    for index, (case, result) in enumerate(zip(cases, results, strict=True)):
        if result.status == TOO_LARGE and result.case.memory_gib < case.memory_gib:  # others held memory meanwhile
            process = start(case)
            _samples([process], repeats)
            process.end()
            results[index] = process.result
    return results


def _samples(processes: Sequence[Process], repeats: int) -> None:
    for turn in range(repeats):
        for k in range(len(processes)):
            processes[(turn + k) % len(processes)].sample()
            time.sleep(0.02)  # threads of the previous one may spin a little before they sleep


def compare_numbers(results: Sequence[Measurement], reference: Path, name: str, atoms: Sequence[int]) -> None:
    """Set the errors of measurements with the same weights: largest energy (eV per atom) and force (eV/Å) differences.

    `atoms` are those of each structure.  What is not finite is infinitely wrong.
    """
    if not reference.exists():
        return
    with np.load(reference) as wanted:
        energies, forces = wanted["energies"], wanted["forces"]
    for result in results:
        if result.status != FITS or result.case.peer == "mlip":
            continue
        with np.load(result.case.results) as found:
            result.energy_error = _largest((found["energies"] - energies) / np.asarray(atoms))
            result.force_error = _largest(found["forces"] - forces)
        result.reference = name


def _largest(difference: np.ndarray) -> float:
    return float(np.abs(difference).max()) if np.isfinite(difference).all() else float("inf")
