"""Tables of what was measured."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cases import FITS, OURS, Measurement
from benchmarks.overhead import ListTimes, Overhead
from benchmarks.roofline import Floor, Machine

_SMALLEST_FITTED = 500  # atoms; below, constant costs hide the exponent


@dataclass
class Report:
    """All of one run."""

    date: str
    repeats: int
    measurements: list[Measurement]
    memory_gib: float
    machine: Machine | None = None  # None: not measured, or that failed
    floors: list[Floor] = field(default_factory=list)
    overhead: Overhead | None = None
    lists: list[ListTimes] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """All numbers, samples included, as JSON."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    def groups(self) -> dict[tuple[str, str, str], list[Measurement]]:
        """Measurements by (system, network, dtype)."""
        found: dict[tuple[str, str, str], list[Measurement]] = {}
        for result in self.measurements:
            found.setdefault((result.case.system, result.case.network, result.case.dtype), []).append(result)
        return found

    def floor_of(self, result: Measurement) -> Floor | None:
        case = result.case
        wanted = (case.system, case.network, case.dtype)
        return next((f for f in self.floors if (f.system, f.network, f.dtype) == wanted), None)

    def markdown(self) -> str:
        """All tables."""
        parts = [self._machine(), self._calls(), self._floors(), self._scaling(), self._lists(), self._overhead()]
        return "\n\n".join(part for part in parts if part) + "\n"

    def _machine(self) -> str:
        machine = self.machine
        if machine is None:
            return f"The machine was not measured; {self.date}; medians of {self.repeats} samples."
        lines = [
            f"{machine.name}; {machine.threads} thread{'s' if machine.threads > 1 else ''}; torch {machine.torch}; "
            f"{self.date}; medians of {self.repeats} samples; at most {self.memory_gib:.0f} GiB per process.",
            "",
            f"Memory: copies {machine.copy_gb_s:.1f} GB/s; first write to fresh memory {machine.fresh_gb_s:.1f} GB/s.",
            "",
        ]
        shapes = list(next(iter(machine.gemm_gflops.values())))
        rows = [[dtype, *(f"{rates[shape]:.0f}" for shape in shapes)] for dtype, rates in machine.gemm_gflops.items()]
        return "\n".join(lines) + "\n" + table(["matrix products, GFLOP/s", *shapes], rows)

    def _calls(self) -> str:
        rows = []
        for (system, network, dtype), results in self.groups().items():
            ours = next((r for r in results if r.case.peer == "mlcalc" and r.status == FITS), None)
            for k, result in enumerate(results):
                where = [f"{system}, {result.edges} edges", f"{network}, {dtype}"] if k == 0 else ["", ""]
                code = (
                    f"{result.case.peer} ({result.path})"
                    if result.case.peer in OURS and result.path
                    else result.case.peer
                )
                rows.append([*where, code, *_numbers(result, ours)])
        header = (
            "system | network | code | wall ms | spread | CPU ms | CPU µs/atom | times ours (wall, CPU) | first call s "
            "| peak MiB | dE meV/atom"
        )
        return "### Energy and forces per call\n\n" + table([*header.split(" | "), "dF eV/Å"], rows)

    def _floors(self) -> str:
        rows = []
        for result in self.measurements:
            bound = self.floor_of(result)
            if result.case.peer != "mlcalc" or result.status != FITS or bound is None or not result.wall_s:
                continue
            case, lowest = result.case, max(bound.products_s, bound.gather_s)
            rate = bound.floor_flops / bound.products_s / 1e9
            rows.append(
                [case.system, case.network, case.dtype, result.path, f"{bound.flops / 1e9:.2f}"]
                + [f"{bound.floor_flops / 1e9:.2f}", f"{rate:.0f}", f"{bound.products_s * 1e3:.3g}"]
                + [f"{bound.gathered_bytes / 1e6:.3g}", f"{bound.gather_s * 1e3:.3g}", f"{result.wall * 1e3:.3g}"]
                + [f"{100 * lowest / result.wall:.0f} %"]
            )
        header = "system | network | dtype | path | GFLOP in all | GFLOP, floor | their GFLOP/s | products ms"
        columns = [*header.split(" | "), "gathered MB", "gather ms", "measured ms", "floor / measured"]
        return "### Distance from the floor\n\n" + table(columns, rows) if rows else ""

    def _scaling(self) -> str:
        rows = []
        for (network, dtype, peer), results in self._copper().items():
            atoms = [result.atoms for result in results]
            rows.append(
                [network, dtype, peer, ", ".join(map(str, atoms))]
                + [f"{exponent(atoms, [r.wall for r in results]):.2f}"]
                + [f"{exponent(atoms, [r.peak_bytes for r in results]):.2f}"]
                + [f"{results[-1].wall / atoms[-1] * 1e6:.1f}", f"{results[-1].peak_bytes / 2**20:.0f}"]
            )
        header = "network | dtype | code | atoms | time ~ N^ | memory ~ N^ | µs/atom, largest | peak MiB, largest"
        return "### Scaling, bulk copper\n\n" + table(header.split(" | "), rows) if rows else ""

    def _copper(self) -> dict[tuple[str, str, str], list[Measurement]]:
        found: dict[tuple[str, str, str], list[Measurement]] = {}
        for result in self.measurements:
            if result.case.system.startswith("cu-") and result.status == FITS and result.atoms >= _SMALLEST_FITTED:
                key = (result.case.network, result.case.dtype, result.case.peer)
                found.setdefault(key, []).append(result)
        return {key: results for key, results in found.items() if len(results) > 1}

    def _lists(self) -> str:
        rows = [
            [times.system, str(times.atoms), str(times.edges), *(f"{ms:.3g}" for ms in times.search_ms.values())]
            + [f"{times.rebuild_ms:.3g}", f"{times.reuse_ms:.3g}"]
            for times in self.lists
        ]
        backends = list(self.lists[0].search_ms) if self.lists else []
        columns = ["system", "atoms", "edges", *backends, "new with skin 1 Å", "within the skin"]
        return "### Neighbor lists, CPU ms\n\n" + table(columns, rows) if rows else ""

    def _overhead(self) -> str:
        o = self.overhead
        if o is None:
            return ""
        row = [
            f"{o.calculator_us:.0f}",
            f"{o.network_us:.0f}",
            f"{o.own_us:.0f} ({o.own_fastest_us:.0f})",
            f"{o.ase_us:.0f}",
        ]
        columns = ["MLCalculator, empty network", "its engine alone", "difference (of the fastest)", "ASE's base class"]
        return "### The calculator's own cost per force call, 21 atoms, CPU µs\n\n" + table(columns, [row])


def insert(text: str, into: Path, section: str) -> None:
    """Put the text between the lines `<!-- section: begin -->` and `<!-- section: end -->` of a markdown file."""
    begin, end = f"<!-- {section}: begin -->\n", f"<!-- {section}: end -->"
    document = into.read_text(encoding="utf-8")
    if document.count(begin) != 1 or document.count(end) != 1:
        raise ValueError(f"{into} has no section between {begin.strip()} and {end}: add these two lines")
    before, rest = document.split(begin)
    into.write_text(before + begin + text + end + rest.split(end)[1], encoding="utf-8")


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """The power of the size that the values grow with: slope of a line through the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(np.maximum(values, 1e-12)), 1)[0])


def _numbers(result: Measurement, ours: Measurement | None) -> list[str]:
    if result.status != FITS:
        return [result.status, *[""] * 5, result.reason, "", ""]
    ratio = ""
    if ours is not None and result.case.peer not in OURS[:1]:
        ratio = f"{result.wall / ours.wall:.2f}, {result.cpu / ours.cpu:.2f}"
    errors = ["not the same weights", ""] if result.energy_error is None else _errors(result)
    return [
        f"{result.wall * 1e3:.4g}",
        f"{100 * result.spread:.0f} %",
        f"{result.cpu * 1e3:.4g}",
        f"{result.cpu / result.atoms * 1e6:.3g}",
        ratio,
        f"{result.first_call_s:.1f}",
        f"{result.peak_bytes / 2**20:.0f}",
        *errors,
    ]


def _errors(result: Measurement) -> list[str]:
    energy, force = result.energy_error or 0.0, result.force_error or 0.0
    wrong = " **wrong**" if disagrees(result) else ""
    return [f"{energy * 1e3:.1e}", f"{force:.1e}{wrong}"]


def disagrees(result: Measurement) -> bool:
    """Whether forces or energies differ by more than precision explains.

    Ours must be within 1e-4 eV/Å, and per atom 1e-4 eV, in float32 and 1e-8 in float64.  Other codes round the
    positions too: ten times more still shows that they compute the same.
    """
    limit = (1e-8 if result.case.dtype == "float64" else 1e-4) * (1 if result.case.peer in OURS else 10)
    return any(error is not None and not error < limit for error in (result.force_error, result.energy_error))


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
