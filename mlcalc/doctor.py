"""How a model runs on this machine: by which path, how fast, how exactly, and up to which size."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from mlcalc.calculator import MLCalculator
from mlcalc.engine import DTYPES, Engine
from mlcalc.evaluation import evaluate
from mlcalc.golden import default_structures
from mlcalc.machine import gemm_rate
from mlcalc.memory import largest_system
from mlcalc.models import Potential
from mlcalc.neighbors import DEFAULT_MAX_EDGES
from mlcalc.scope import Scope

__all__ = ["TOLERANCES", "Examination", "Timing", "examine", "sample_structures"]

TOLERANCES = {"float32": 1e-4, "float64": 1e-8}  # eV/Å, of forces up to _STRONG; in proportion for stronger ones
_SIZES = (1, 100, 1000)  # atoms, about, of the structures that are made where none is given
_LIST_BYTES = 400  # of a list of neighbors and the graph made of it, per edge
_PATIENCE = 1.0  # s of measuring per structure
_STRONG, _CALM = 10.0, 20.0  # eV/Å; a sample is calm
_TOO_LONG = 3.0  # s that the next larger structure may be expected to take


@dataclass(frozen=True)
class Timing:
    """Energy and forces along a trajectory: the whole step of the calculator, neighbor list included."""

    atoms: int
    edges: int
    ms_per_step: float
    ns_per_day: float  # at 1 fs
    memory_GiB: float  # noqa: N815 - a unit; estimated for one call


@dataclass(frozen=True)
class Examination:
    """A model in one precision on one device."""

    dtype: str
    device: str
    path: str
    why: str  # it is not the fastest; empty if it is
    timings: tuple[Timing, ...]
    force_difference: float  # eV/Å, largest component against autograd in float64
    force_tolerance: float  # eV/Å
    largest_atoms: int | None  # that fit into the memory available; None where nothing is known
    gemm_GFLOPs: float  # noqa: N815 - a unit

    @property
    def agrees(self) -> bool:
        """Whether the path gives the numbers of the reference; false for NaN."""
        return self.force_difference <= self.force_tolerance


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
