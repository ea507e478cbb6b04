"""How a model runs on this machine: by which path, how fast, how exactly, and up to which size."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module, metadata
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
import torch
from ase import Atoms

from mlcalc.calculator import MLCalculator
from mlcalc.engine.engine import DTYPES, Engine
from mlcalc.evaluation import evaluate
from mlcalc.graphs.neighbors import DEFAULT_MAX_EDGES
from mlcalc.md_protocols.results import Quantity, Result
from mlcalc.memory import available_memory, largest_system, memory_limit
from mlcalc.model_file.golden import default_structures
from mlcalc.models import Potential
from mlcalc.scope import Scope

TOLERANCES = {"float32": 1e-4, "float64": 1e-8}  # eV/Å, of forces up to _STRONG; in proportion for stronger ones
_SIZES = (1, 100, 1000)  # atoms, about, of the structures that are made where none is given
_LIST_BYTES = 400  # of a list of neighbors and the graph made of it, per edge
_PATIENCE = 1.0  # s of measuring per structure
_STRONG, _CALM = 10.0, 20.0  # eV/Å; a sample is calm
_TOO_LONG = 3.0  # s that the next larger structure may be expected to take


@dataclass(frozen=True)
class Timing:
    """Energy and forces along a trajectory: the whole step of the calculator, neighbor list included."""

    atoms: Annotated[int, Quantity("of the structure")]
    edges: Annotated[int, Quantity("neighbor pairs, both directions")]
    ms_per_step: Annotated[float, Quantity("of the fastest step")]
    ns_per_day: Annotated[float, Quantity("at 1 fs")]
    memory_GiB: Annotated[float, Quantity("estimated for one call", "GiB")]  # noqa: N815 - a unit

    def __str__(self) -> str:
        return (
            f"{self.atoms} atoms, {self.edges} edges: {self.ms_per_step:.3g} ms per step, {self.ns_per_day:.3g} ns/day "
            f"at 1 fs, {self.memory_GiB:.2g} GiB"
        )


@dataclass(frozen=True, eq=False, repr=False)
class Examination(Result):
    """A model in one precision on one device."""

    kind = "examination"
    derived: ClassVar[Mapping[str, Quantity]] = {"agrees": Quantity("whether forces are within the tolerance")}

    dtype: Annotated[str, Quantity("float32 or float64")]
    device: Annotated[str, Quantity("cpu, or a GPU")]
    path: Annotated[str, Quantity("what computes")]
    why: Annotated[str, Quantity("it is not the fastest; empty if it is")]
    timings: Annotated[tuple[Timing, ...], Quantity("from small structures to large ones")]
    force_difference: Annotated[float, Quantity("largest component against autograd in float64", "eV/Å")]
    force_tolerance: Annotated[float, Quantity("of that difference", "eV/Å")]
    largest_atoms: Annotated[int | None, Quantity("that fit into the memory available; None where not known")]
    gemm_GFLOPs: Annotated[float, Quantity("rate of matrix products", "GFLOPs")]  # noqa: N815 - a unit

    @property
    def agrees(self) -> bool:
        """Whether the path gives the numbers of the reference; false for NaN."""
        return self.force_difference <= self.force_tolerance

    def summary(self) -> str:
        """Path, agreement, speed and size, in lines."""
        agreement = "agrees" if self.agrees else "DOES NOT AGREE"
        largest = "not known" if self.largest_atoms is None else f"about {_rounded(self.largest_atoms):,} atoms"
        return "\n".join(
            [
                f"{self.dtype} on {self.device}",
                f"path            {self.path}" + (f" ({self.why})" if self.why else ""),
                f"agreement       {agreement} with autograd in float64: forces within {self.force_difference:.1e} eV/Å "
                f"(allowed {self.force_tolerance:.1e})",
                f"matrix products {self.gemm_GFLOPs:.0f} GFLOP/s",
                f"largest system  {largest} fit into the memory available",
                *map(str, self.timings),
            ]
        )


def _rounded(atoms: int) -> int:
    """To two digits, which is more than an estimate is good for."""
    return round(atoms, 2 - len(str(atoms)))


def examine(
    model: Potential,
    structures: Sequence[Atoms],
    *,
    device: str = "cpu",
    dtype: str = "float64",
    kernels: str = "auto",
) -> Examination:
    """Speed on the structures, from small to large, and agreement with the reference on the first with two atoms.

    Raises UnavailablePropertyError for a model without forces.
    """
    Scope.of(model).require_potential("the examination of a model")
    engine = MLCalculator(model, device=device, dtype=dtype, kernels=kernels).engine
    timings: list[Timing] = []
    for atoms in structures:
        if timings and timings[-1].ms_per_step * len(atoms) / timings[-1].atoms > 1e3 * _TOO_LONG:
            break
        timings.append(_timing(MLCalculator(model, device=device, dtype=dtype, kernels=kernels), atoms))
    judged = next((atoms for atoms in structures if len(atoms) > 1), structures[0])
    difference, largest_force = _difference(model, judged, device, dtype, kernels)
    density = timings[-1].edges / timings[-1].atoms
    return Examination(
        dtype=dtype,
        device=str(engine.device),
        path=engine.path,
        why=engine.why,
        timings=tuple(timings),
        force_difference=difference,
        force_tolerance=TOLERANCES[dtype] * max(1.0, largest_force / _STRONG),
        largest_atoms=_largest(engine, density),
        gemm_GFLOPs=gemm_rate(DTYPES[dtype], engine.device),
    )


def _largest(engine: Engine, density: float) -> int | None:
    """Atoms that fit into the memory available with their list of neighbors, and below the limit of edges."""

    def memory(atoms: int, edges: int) -> int:
        estimate = engine.memory(atoms, edges)
        return estimate and estimate + _LIST_BYTES * edges

    found = largest_system(memory, density, engine.available_memory())
    if density == 0 or found == 0:
        return None
    return min(found, int(DEFAULT_MAX_EDGES / density))


def sample_structures(model: Potential, structure: Atoms | None = None) -> list[Atoms]:
    """The structure alone; or else a sample and repetitions of it, of about 100 and 1000 atoms.

    The sample is the largest one that the model's file holds and that is not torn apart by its forces.
    """
    if structure is not None:
        return [structure]
    scope, golden = Scope.of(model), getattr(getattr(model, "info", None), "golden", ())
    calm = [stored.atoms() for stored in golden if np.abs(stored.forces).max() < _CALM]
    made = default_structures(scope.elements or ("Cu",), scope.cutoff, periodic=False)[-1:]
    sample = max([atoms for atoms in calm if len(atoms) > 1] or made, key=len)
    repeated = [_repeated(sample, atoms, scope.cutoff) for atoms in _SIZES]
    return [atoms for k, atoms in enumerate(repeated) if k == 0 or len(atoms) > len(repeated[k - 1])]


def _repeated(sample: Atoms, atoms: int, cutoff: float) -> Atoms:
    """About so many atoms: a supercell, or molecules side by side."""
    times = max(1, round((atoms / len(sample)) ** (1 / 3)))
    many: Atoms = sample.copy()
    if times == 1 or sample.pbc.all():
        many *= (times, times, times)
        return many
    many.set_cell(np.diag(np.ptp(sample.positions, axis=0) + 0.6 * cutoff))
    many *= (times, times, times)
    many.set_cell(None)
    many.pbc = False
    return many


def _timing(calculator: MLCalculator, atoms: Atoms) -> Timing:
    """The fastest of the steps that fit into the time; the first one compiles and is left out."""
    moving, rng = atoms.copy(), np.random.default_rng(0)
    moving.calc = calculator
    moving.get_forces()
    start, fastest = time.perf_counter(), np.inf
    while fastest == np.inf or time.perf_counter() - start < _PATIENCE:
        moving.positions += rng.normal(scale=0.002, size=(len(atoms), 3))
        begun = time.perf_counter()
        moving.get_forces()
        fastest = min(fastest, time.perf_counter() - begun)
    edges = calculator.edges
    return Timing(
        atoms=len(atoms),
        edges=edges,
        ms_per_step=1e3 * fastest,
        ns_per_day=86400 / fastest * 1e-6,
        memory_GiB=calculator.engine.memory(len(atoms), edges) / 2**30,
    )


def _difference(model: Potential, atoms: Atoms, device: str, dtype: str, kernels: str) -> tuple[float, float]:
    """Largest difference of force components from the reference, and the largest of these (eV/Å)."""
    moved = atoms.copy()
    moved.rattle(0.03, seed=0)  # perfect crystals have no forces to differ
    found = evaluate(model, [moved], device=device, dtype=dtype, kernels=kernels)[0].forces
    reference = evaluate(model, [moved], device="cpu", dtype="float64", kernels="torch")[0].forces
    if found is None or reference is None:
        return np.nan, np.nan
    return float(np.abs(found - reference).max()), float(np.abs(reference).max())


_BACKENDS = (  # distribution, module, what it is for
    ("torch", "torch", "all networks; required"),
    ("numba", "numba", "fused kernels on the CPU, several times faster than torch's operations"),
    ("matscipy", "matscipy", "neighbor lists; required"),
    ("vesin", "vesin", "neighbor_backend='vesin', faster neighbor lists"),
    ("torch-cluster", "torch_cluster", "neighbor_backend='torch-cluster', for molecules"),
    ("triton", "triton", "fused kernels on GPUs"),
)


@dataclass(frozen=True)
class Backend:
    """A package that computes."""

    name: str
    version: str | None  # None: not installed, or it does not load
    brings: str
    problem: str = ""  # why it does not load


@dataclass(frozen=True)
class Machine:
    """Processors and memory."""

    processor: str
    cores: int  # that this process may use
    threads: int  # of torch
    memory_GiB: float  # noqa: N815 - a unit
    available_GiB: float  # noqa: N815
    limit_GiB: float | None  # noqa: N815 - of the control group
    gpus: tuple[str, ...]
    python: str
    cuda: str | None  # of torch; None: a build without


def machine() -> Machine:
    """This machine."""
    limit = memory_limit()
    return Machine(
        processor=_processor(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        memory_GiB=_total() / 2**30,
        available_GiB=available_memory(torch.device("cpu")) / 2**30,
        limit_GiB=None if limit is None else limit / 2**30,
        gpus=_gpus(),
        python=platform.python_version(),
        cuda=torch.version.cuda,
    )


def backends() -> tuple[Backend, ...]:
    """The packages that compute, installed or not."""
    return tuple(_backend(*entry) for entry in _BACKENDS)


def gemm_rate(dtype: torch.dtype, device: torch.device, *, size: int = 1024) -> float:
    """Rate of a matrix product of so many rows and columns, GFLOP/s, the best of several."""
    a, b = torch.ones(size, size, dtype=dtype, device=device), torch.ones(size, size, dtype=dtype, device=device)
    seconds = min(_seconds(a, b) for _ in range(5))
    return 2e-9 * size**3 / seconds


def _seconds(a: torch.Tensor, b: torch.Tensor) -> float:
    start = time.perf_counter()
    float((a @ b)[0, 0])  # waits for a GPU
    return time.perf_counter() - start


def _backend(distribution: str, module: str, brings: str) -> Backend:
    try:
        version = metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return Backend(distribution, None, brings, "not installed")
    try:
        import_module(module)
    except Exception as error:  # a broken binary raises whatever it likes
        return Backend(distribution, None, brings, f"{version} does not load: {error}")
    return Backend(distribution, version, brings)


def _gpus() -> tuple[str, ...]:
    if not torch.cuda.is_available():
        return ()
    found = [torch.cuda.get_device_properties(k) for k in range(torch.cuda.device_count())]
    return tuple(f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GiB" for gpu in found)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def _total() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # not Unix
        return 0
