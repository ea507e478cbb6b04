"""Many structures at once."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray
from torch import Tensor

from mlcalc.engine.batches import Batches
from mlcalc.engine.engine import Engine
from mlcalc.errors import StructureError
from mlcalc.graphs.neighbors import DEFAULT_MAX_EDGES
from mlcalc.graphs.validation import MIN_DISTANCE
from mlcalc.ground.errors import Use
from mlcalc.ground.remedies import SET_PBC
from mlcalc.md_protocols.results import Quantity, Result
from mlcalc.model_file.model_file import load_model
from mlcalc.models import Graph, Potential, join_graphs

Array = NDArray[np.float64]


_TRAINED = "in the unit of the training data"


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation(Result):
    """What a model says of one structure: a potential fills the first four fields, other models one of the rest."""

    kind = "evaluation"

    energy: Annotated[float | None, Quantity("of the structure", "eV")] = None
    energies: Annotated[Array | None, Quantity("of the atoms; None where the energy is no sum", "eV", "(N,)")] = None
    forces: Annotated[Array | None, Quantity("on the atoms", "eV/Å", "(N, 3)")] = None
    stress: Annotated[Array | None, Quantity("ASE's sign, Voigt order xx, yy, zz, yz, xz, xy", "eV/Å^3", "(6,)")] = None
    dipole: Annotated[Array | None, Quantity("of the molecule", "e Å", "(3,)")] = None
    electronic_spatial_extent: Annotated[float | None, Quantity("of the molecule", "Å^2")] = None
    vector: Annotated[Array | None, Quantity(_TRAINED, shape="(3,)")] = None
    scalar: Annotated[float | None, Quantity(_TRAINED)] = None


def evaluate(
    model: str | os.PathLike[str] | Potential,
    structures: Iterable[Atoms],
    *,
    forces: bool = True,
    stress: bool = False,
    device: str | torch.device = "cpu",
    dtype: str = "float64",
    kernels: str = "auto",
    edges_per_batch: int | None = None,
    neighbor_backend: str = "matscipy",
    min_distance: float = MIN_DISTANCE,
    max_edges: int = DEFAULT_MAX_EDGES,
    names: Sequence[str] | None = None,
    progress: bool = False,
) -> list[Evaluation]:
    """One Evaluation per structure, in order, computed in batches of about `edges_per_batch` edges.

    Batches only save time: no structure sees another one, a batch that does not fit into memory is halved, and None
    leaves their size to the engine.  Errors and warnings are those of MLCalculator, beginning with the structure's
    name (by default its place in the list); only stress of a structure that is not periodic is a StructureError here.
    Models of another quantity than the energy have no forces, asked for or not, and refuse to give stress.
    """
    potential: Potential = load_model(model) if isinstance(model, str | os.PathLike) else model
    engine = Engine(potential, device=device, dtype=dtype, kernels=kernels)
    batches = Batches(engine, edges_per_batch, neighbor_backend, min_distance, max_edges)
    return evaluate_batches(engine, batches, structures, forces=forces, stress=stress, names=names, progress=progress)


def evaluate_batches(
    engine: Engine,
    batches: Batches,
    structures: Iterable[Atoms],
    *,
    forces: bool = True,
    stress: bool = False,
    names: Sequence[str] | None = None,
    progress: bool = False,
) -> list[Evaluation]:
    """`evaluate` for an engine that is there already."""
    if stress and not engine.scope.is_potential:
        raise engine.scope.unavailable("stress")
    return batches.map(
        partial(_evaluated, engine, forces=forces, stress=stress),
        structures,
        check=_check_stress if stress else None,
        names=names,
        progress=progress,
    )


def _check_stress(atoms: Atoms) -> None:
    if not atoms.pbc.all():
        raise StructureError(
            f"stress needs a structure periodic in all directions, this one has pbc = {atoms.pbc.tolist()}",
            setting="pbc",
            value=atoms.pbc.tolist(),
            remedies=[Use("stress", False, python="ask for it without stress"), SET_PBC],
        )


def _evaluated(engine: Engine, graphs: Sequence[Graph], *, forces: bool, stress: bool) -> list[Evaluation]:
    result = engine.evaluate(join_graphs(graphs), forces=forces, stress=stress)
    energies = result.energies if engine.scope.has_atomic_energies else None
    evaluations, first = [], 0
    for k, graph in enumerate(graphs):
        atoms = slice(first, first + len(graph.numbers))
        first = atoms.stop
        evaluations.append(
            Evaluation(
                energy=_number(result.energy, k),
                energies=_array(energies, atoms),
                forces=_array(result.forces, atoms),
                stress=_array(result.stress, k),
                dipole=_array(result.dipole, k),
                electronic_spatial_extent=_number(result.electronic_spatial_extent, k),
                vector=_array(result.vector, k),
                scalar=_number(result.scalar, k),
            )
        )
    return evaluations


def _number(values: Tensor | None, index: int) -> float | None:
    return None if values is None else float(values[index])


def _array(values: Tensor | None, index: int | slice) -> NDArray[np.float64] | None:
    return None if values is None else values[index].numpy().copy()
