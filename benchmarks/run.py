"""A whole run: comparisons one after the other, then the machine and what surrounds the network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from ase import Atoms
from ase.io import write
from tqdm import tqdm

from benchmarks.cases import ABSENT, FITS, Case, Measurement
from benchmarks.measure import ROOT, compare_numbers, measure_together
from benchmarks.overhead import ListTimes, Overhead
from benchmarks.plans import Pair, peers_of
from benchmarks.report import Report
from benchmarks.roofline import Floor, Machine
from benchmarks.systems import SYSTEMS


@dataclass
class Run:
    """The settings all cases of a run share, and what was written for them."""

    output: Path
    threads: int
    repeats: int
    memory_gib: float  # of each process
    device: str
    patience_s: float
    pythons: dict[str, str] = field(default_factory=dict)  # interpreters of codes that need their own
    structures: dict[str, list[Atoms]] = field(default_factory=dict)  # written so far
    references: dict[Pair, tuple[Path, str]] = field(default_factory=dict)
    absent: set[str] = field(default_factory=set)  # codes that are not installed

    def report(self, chosen: Sequence[Pair], peers: Sequence[str], dtypes: Sequence[str]) -> Report:
        """Everything measured."""
        measurements: list[Measurement] = []
        with tqdm(total=len(chosen) * len(dtypes), unit="comparison") as bar:
            for system, network in chosen:
                for dtype in dtypes:
                    measurements += self._comparison(system, network, dtype, peers, bar)
                    self._report(measurements).save(self.output / "benchmarks.json")
                    bar.update()
            bar.set_postfix_str("machine, floors, neighbor lists, overheads")
            cases = [asdict(r.case) for r in measurements if r.case.peer == "mlcalc" and r.status == FITS]
            limits = self._ask("benchmarks.roofline", {"threads": self.threads, "device": self.device, "cases": cases})
            paths = {name: str(self._file(name)) for name in self.structures}
            rest = self._ask("benchmarks.overhead", {"threads": self.threads, "structures": paths})
        for path, _ in self.references.values():
            path.unlink(missing_ok=True)
        report = self._report(measurements)
        if limits is not None:
            report.machine = Machine(**limits["machine"])
            report.floors = [Floor(**values) for values in limits["floors"]]
        if rest is not None:
            report.overhead = Overhead(**rest["overhead"])
            report.lists = [ListTimes(**values) for values in rest["lists"]]
        return report

    def _report(self, measurements: list[Measurement]) -> Report:
        return Report(
            date=datetime.now(UTC).strftime("%Y-%m-%d"),
            repeats=self.repeats,
            measurements=measurements,
            memory_gib=self.memory_gib,
            versions={name: metadata.version(name) for name in ("torch", "numpy", "ase")},
        )

    def _comparison(self, system: str, network: str, dtype: str, peers: Sequence[str], bar: Any) -> list[Measurement]:
        """One system, network and precision with all codes; those that are absent are named, and left out."""
        if system not in self.structures:
            self.structures[system] = SYSTEMS[system].build()
            write(self._file(system), self.structures[system], format="extxyz")
        reference, name = self._reference(system, network, bar)
        cases = [
            self._case(system, network, peer, dtype) for peer in peers_of(network, peers) if peer not in self.absent
        ]
        results = measure_together(
            cases,
            self.output,
            repeats=self.repeats,
            pythons=self.pythons,
            patience_s=self.patience_s,
            tell=bar.set_postfix_str,
        )
        compare_numbers(results, reference, name, [len(atoms) for atoms in self.structures[system]])
        for result in results:
            Path(result.case.results).unlink(missing_ok=True)
            if result.status != FITS:
                bar.write(f"{result.case.label}: {result.status} ({result.reason})")
        self.absent |= {result.case.peer for result in results if result.status == ABSENT}
        return [result for result in results if result.status != ABSENT]

    def _reference(self, system: str, network: str, bar: Any) -> tuple[Path, str]:
        """Energies and forces in float64 by autograd; where that does not fit, by the engine's own path."""
        if (system, network) in self.references:
            return self.references[system, network]
        path = self.output / f"{system}-{network}-reference.npz"
        path.unlink(missing_ok=True)  # of an earlier run
        found = "none"
        for peer, name in (("reference", "autograd, float64"), ("mlcalc", "engine, float64")):
            case = self._case(system, network, peer, "float64", path.name)
            (result,) = measure_together(
                [case], self.output, repeats=0, patience_s=self.patience_s, tell=bar.set_postfix_str
            )
            if result.status == FITS:
                found = name
                break
            bar.write(f"{case.label}: {result.status} ({result.reason})")
        self.references[system, network] = path, found
        return path, found

    def _case(self, system: str, network: str, peer: str, dtype: str, results: str = "") -> Case:
        path = self.output / (results or f"{peer}-{dtype}.npz")
        return Case(
            system=system,
            structures=str(self._file(system)),
            network=network,
            peer=peer,
            dtype=dtype,
            threads=self.threads,
            memory_gib=self.memory_gib,
            device=self.device,
            results=str(path.absolute()),
        )

    def _file(self, system: str) -> Path:
        return (self.output / f"{system}.xyz").absolute()

    def _ask(self, module: str, question: dict[str, Any]) -> dict[str, Any] | None:
        """What the module answers; None, with a line, where it failed: the comparisons are kept all the same."""
        threads = {name: str(self.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        done = subprocess.run(  # noqa: S603 - our own module
            [sys.executable, "-m", module],
            input=json.dumps(question),
            cwd=ROOT,
            env=os.environ | threads,
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        if done.returncode:
            tqdm.write(f"{module} failed with exit code {done.returncode}: its table is left out")
            return None
        found: dict[str, Any] = json.loads(done.stdout)
        return found
