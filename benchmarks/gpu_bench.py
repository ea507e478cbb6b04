"""Steps of dynamics on a GPU, by every kind of kernels: `python -m benchmarks.gpu_bench --help`."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import click
import numpy as np
import torch
from ase import Atoms
from torch import Tensor
from torch.profiler import ProfilerActivity

from benchmarks.calls import neighborhood
from benchmarks.cases import Case
from benchmarks.networks import RECIPES, model
from benchmarks.roofline import floor
from benchmarks.systems import SYSTEMS
from benchmarks.work import work
from mlcalc.gpu import ResidentPotential
from mlcalc.graphs.graphs import atoms_to_graph
from mlcalc.md_protocols.errors import ConfigError
from mlcalc.models import Network, predict

PAIRS = (
    ("peptide-175", "visnet-256x9-l2-smooth"),
    ("peptide-175", "visnet-256x9-l2"),
    ("water-999", "visnet-128x6-l2-smooth"),
    ("cu-4000", "hvnet-128x5-rmconv"),
    ("cu-4000", "hvnet-128x5-painn"),
)
WAYS = (("float32", "ieee", "torch"), ("float32", "ieee", "triton"), ("float32", "tf32", "triton"))
TOLERANCE = {"ieee": 1e-4, "tf32": 3e-2}  # eV/Å in float32, for forces of 1 eV/Å (rms)
_MOTION = 0.002  # Å per component and step, about that of 1 fs at 300 K


@dataclass
class Row:
    """One way of running one system; times in seconds."""

    system: str
    network: str
    dtype: str
    matmul: str
    kernels: str
    status: str = "ok"
    atoms: int = 0
    edges: int = 0
    first_call: float = 0.0  # compilation, trial, search and capture
    step: float = 0.0  # median of whole calls, positions in and energy out
    spread: float = 0.0  # between the quartiles
    search: float = 0.0  # of a new neighbor list
    floor: float = 0.0  # products of matrices and gathered rows alone, at the rates measured on this machine
    memory: int = 0  # bytes reserved by torch at the peak
    captures: int = 0
    force_error: float = 0.0  # eV/Å, largest, against float64 autograd


def measure(
    row: Row, network: Network, atoms: Atoms, reference: Tensor, *, device: torch.device, steps: int
) -> Callable[[], object]:
    """Fill in the row; what comes back is the step that was timed."""
    numbers, cell = torch.tensor(atoms.numbers), torch.tensor(np.array(atoms.cell))
    a, b, c = (bool(flag) for flag in atoms.pbc)
    _settle(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    dtype = getattr(torch, row.dtype)
    step = ResidentPotential(
        network, numbers, (a, b, c), device=device, dtype=dtype, matmul=row.matmul, kernels=row.kernels
    )
    positions = torch.tensor(atoms.positions, device=device)
    found = step(positions, cell)
    row.first_call = time.perf_counter() - start
    row.force_error = float((found.forces.cpu() - reference).abs().max())
    start = time.perf_counter()
    step.neighbors.search(positions, cell, (a, b, c))
    _settle(device)
    row.search = time.perf_counter() - start
    times = list(_times(step, positions, cell, steps))
    quartiles = statistics.quantiles(times, n=4)
    row.step, row.spread, row.captures = quartiles[1], quartiles[2] - quartiles[0], step.captures
    if device.type == "cuda":
        row.memory = torch.cuda.max_memory_reserved()
    limit = 1e-8 if row.dtype == "float64" else TOLERANCE[row.matmul]
    if not row.force_error < limit:
        row.status = f"wrong by {row.force_error:.1e} eV/Å"
    return lambda: step(positions, cell)


def _times(step: ResidentPotential, positions: Tensor, cell: Tensor, steps: int) -> Iterator[float]:
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        away = _MOTION * torch.randn(positions.shape, generator=generator, dtype=torch.float64)
        now = positions + away.to(positions.device)
        _settle(positions.device)
        start = time.perf_counter()
        step(now, cell)
        yield time.perf_counter() - start


def _settle(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def profile(act: Callable[[], object], title: str, file: Path) -> None:
    """Add a table of the kernels of three steps to the file, the slowest first."""
    kind = ProfilerActivity.CUDA if torch.cuda.is_available() else ProfilerActivity.CPU
    with torch.profiler.profile(activities=[kind]) as found:
        for _ in range(3):
            act()
    column = "self_cuda_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
    kernels = found.key_averages().table(sort_by=column, row_limit=40, max_name_column_width=60)
    with file.open("a", encoding="utf-8") as there:
        there.write(f"{title}\n{kernels}\n")


def rows_of(
    system: str, name: str, ways: tuple[tuple[str, str, str], ...], device: str, steps: int, *, profiled: Path | None
) -> Iterator[Row]:
    """All ways of running one system."""
    atoms = SYSTEMS[system].build()[0]
    built = model(RECIPES[name], sorted(set(atoms.symbols)), atoms_to_graph(neighborhood(atoms), 5.0))
    graph = atoms_to_graph(atoms, built.network.cutoff)
    there = torch.device(device)
    plain = built.network.to(there)
    reference = cast("torch.Tensor", predict(plain, graph.to(there)).forces)  # type: ignore[arg-type]
    edges, channels = graph.edges.shape[1], plain.config.hidden_channels
    needed = work(plain, len(atoms), edges)
    for dtype, matmul, kernels in ways:
        row = Row(system, name, dtype, matmul, kernels, atoms=len(atoms), edges=edges)
        case = Case(system, "", name, "mlcalc", dtype, torch.get_num_threads(), 0.0, device=device)
        try:
            row.floor = floor(case, needed, len(atoms), channels).seconds
            act = measure(row, plain, atoms, reference.cpu(), device=there, steps=steps)
            if profiled is not None:
                profile(act, f"{system} {name} {dtype} {matmul} {kernels}", profiled)
        except (ConfigError, RuntimeError) as error:
            row.status = str(error).splitlines()[0]
        yield row


def table(rows: list[Row], device: str) -> str:
    """Markdown."""
    machine = torch.cuda.get_device_name() if device == "cuda" else "CPU, where nothing is captured"
    lines = [
        f"{machine}, torch {torch.__version__}. Energy and forces of a step, positions in and energy out; 'floor' are "
        "the network's products of matrices and gathered rows alone.",
        "",
        "| system | network | dtype | kernels | ms/step | quartiles apart | floor | ratio | first call s | list ms "
        "| GiB | force error | |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        ratio = f"{row.step / row.floor:.1f}" if row.floor else ""
        dtype = row.dtype if row.matmul == "ieee" else row.matmul
        lines.append(
            f"| {row.system}, {row.edges} edges | {row.network} | {dtype} | {row.kernels} | {row.step * 1e3:.2f} "
            f"| {row.spread * 1e3:.2f} | {row.floor * 1e3:.2f} | {ratio} | {row.first_call:.1f} "
            f"| {row.search * 1e3:.1f} | {row.memory / 2**30:.2f} | {row.force_error:.1e} | {row.status} |"
        )
    return "\n".join(lines) + "\n"


@click.command(context_settings={"show_default": True})
@click.option("--output", type=click.Path(file_okay=False, path_type=Path), default="gpu_output", help="Folder.")
@click.option("--device", type=click.Choice(["cuda", "cpu"]), default="cuda", help="cpu only tries the script out.")
@click.option("--pair", "pairs", nargs=2, multiple=True, default=PAIRS, help="System and network.")
@click.option("--way", "ways", nargs=3, multiple=True, default=WAYS, help="Precision, ieee or tf32, kernels.")
@click.option("--steps", default=200, type=click.IntRange(4), help="Timed calls of each.")
@click.option("--profile", "profiled", is_flag=True, help="Write the times of all kernels to profile.txt, too.")
def main(
    *,
    output: Path,
    device: str,
    pairs: tuple[tuple[str, str], ...],
    ways: tuple[tuple[str, str, str], ...],
    steps: int,
    profiled: bool,
) -> None:
    """Measure, and write gpu.md and gpu.json after every row, so that what is done is kept."""
    output.mkdir(parents=True, exist_ok=True)
    kernels = output / "profile.txt" if profiled else None
    if kernels is not None:
        kernels.unlink(missing_ok=True)
    rows: list[Row] = []
    for system, network in pairs:
        for row in rows_of(system, network, ways, device, steps, profiled=kernels):
            rows.append(row)
            (output / "gpu.md").write_text(table(rows, device), encoding="utf-8")
            (output / "gpu.json").write_text(json.dumps([asdict(row) for row in rows], indent=1))
            click.echo(
                f"{system} {network} {row.dtype} {row.matmul} {row.kernels}: {row.step * 1e3:.2f} ms {row.status}"
            )
    click.echo(table(rows, device))


if __name__ == "__main__":
    main()
