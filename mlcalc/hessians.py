"""Second derivatives of the energy, exact, with memory that does not grow with the number of rows."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple, cast

import numpy as np
import torch
from ase import Atoms
from ase.constraints import FixAtoms
from numpy.typing import NDArray
from torch import Tensor

from mlcalc.engine.engine import Engine
from mlcalc.engine.pieces import CentralEnergies, receptive_layers, split_graph
from mlcalc.errors import NonFiniteResultError, OutOfMemoryError, UnavailablePropertyError
from mlcalc.evaluation_path import TorchPath
from mlcalc.graphs.graphs import validated_graph
from mlcalc.graphs.neighbors import DEFAULT_MAX_EDGES
from mlcalc.graphs.validation import MIN_DISTANCE
from mlcalc.ground.errors import Use
from mlcalc.ground.remedies import NO_CONSTRAINTS
from mlcalc.md_protocols.errors import ConfigError
from mlcalc.md_protocols.progress import CountBar
from mlcalc.memory import is_out_of_memory
from mlcalc.model_file.model_file import load_model
from mlcalc.models import Graph, Potential, hessian_vector_product, join_graphs, predict

__all__ = ["engine_hessian", "hessian"]

Array = NDArray[np.float64]
_DIFFERENCES = "take differences of forces instead"
_CALL = 48  # vectors per call, each of which begins with a forward and a backward pass of its own
_SECOND = 2.0  # memory of the second backward pass over that of the first; 1.4 was measured
_GPU_ATOMS = 2048  # atoms that keep a GPU busy
_STEP = {torch.float64: 1e-4, torch.float32: 1e-2}  # Å, of the difference of forces that the Hessian is held against
_AGREEMENT = {torch.float64: 1e-4, torch.float32: 3e-2}  # relative


def hessian(
    model: str | os.PathLike[str] | Potential,
    atoms: Atoms,
    *,
    indices: Sequence[int] | None = None,
    chunk: int | None = None,
    constraints: bool = False,
    dtype: str = "float64",
    device: str = "cpu",
    progress: bool | None = False,
) -> Array:
    """The Hessian d2E / dx_ia dx_jb, (M, 3, N, 3) eV/Å^2: rows of the M atoms chosen, columns of all N atoms.

    model: name of a bundled model, path of a model file, or any Potential.
    indices: the atoms i, in this order; None for all, whose Hessian is `result.reshape(3 * N, 3 * N)`.  In a
    periodic structure an atom's row holds what all images of the others do to it, as in force constants of a supercell.
    chunk: copies of the structure in one backward pass, one row each; None for 1 on a CPU, where more gain nothing,
    and as many as keep a GPU busy.  Memory grows with it, and not with the number of rows.
    constraints: rows and columns of atoms held by FixAtoms are zero; by default constraints are not looked at.

    Each row is a product of the Hessian with a unit vector, by differentiating the forces (Pearlmutter, Neural Comput.
    6, 147 (1994)); nothing is symmetrized.  A random product is compared with a difference of forces.

    Raises UnavailablePropertyError for models without second derivatives or whose second derivatives are not those of
    their forces, OutOfMemoryError, NonFiniteResultError, ConfigError, and StructureError for a bad structure.
    """
    potential: Potential = load_model(model) if isinstance(model, str | os.PathLike) else model
    engine = Engine(potential, device=device, dtype=dtype, kernels="torch")
    return engine_hessian(engine, atoms, indices=indices, chunk=chunk, constraints=constraints, progress=progress)


def engine_hessian(
    engine: Engine,
    atoms: Atoms,
    *,
    indices: Sequence[int] | None = None,
    chunk: int | None = None,
    constraints: bool = False,
    progress: bool | None = False,
    min_distance: float = MIN_DISTANCE,
    max_edges: int = DEFAULT_MAX_EDGES,
) -> Array:
    """`hessian` by the potential of an engine, on its device and in its precision."""
    engine.scope.require_potential("a Hessian")
    chosen = _chosen(indices, len(atoms))
    fixed = _fixed(atoms) if constraints else np.zeros(len(atoms), dtype=bool)
    graph = validated_graph(atoms, engine.scope, min_distance=min_distance, max_edges=max_edges)
    found = np.zeros((len(chosen), 3, len(atoms), 3))
    try:
        parts = _parts(engine, graph)
        _verify(engine, parts, len(atoms))
        plan = [_lines(part, chosen, fixed) for part in parts]
        with CountBar(progress, sum(map(len, plan)), "Hessian", "row") as bar:
            for part, lines in zip(parts, plan, strict=True):
                _add(found, part, lines, _copies(chunk, engine.device, len(part.atoms)), bar)
    except Exception as error:
        if (told := _told(error, engine, graph)) is None:
            raise
        raise told from error
    found[:, :, fixed] = 0.0
    if not np.isfinite(found).all():
        raise _not_finite(chosen[~np.isfinite(found).all(axis=(1, 2, 3))].tolist())
    return found


class _Part(NamedTuple):
    """A share of the energy: all of it, or that of the central atoms of a piece."""

    potential: Potential
    graph: Graph
    atoms: NDArray[np.int64]  # where the graph's atoms stand in the whole structure


class _Line(NamedTuple):
    """One row of the Hessian to be computed within a part."""

    row: int  # among the atoms chosen
    atom: int  # of the part
    axis: int


def _chosen(indices: Sequence[int] | None, atoms: int) -> NDArray[np.int64]:
    """The atoms chosen; ConfigError for what is no index."""
    if indices is None:
        return np.arange(atoms)
    chosen = np.asarray(indices)
    if chosen.ndim != 1 or chosen.dtype.kind not in "iu" or not len(chosen):
        raise ConfigError(
            f"indices is {indices!r}: give a list of at least one index", setting="indices", value=indices
        )
    if chosen.min() < 0 or chosen.max() >= atoms:
        raise ConfigError(
            f"indices is {chosen.tolist()}: indices of {atoms} atoms go from 0 to {atoms - 1}",
            setting="indices",
            value=chosen.tolist(),
            limit=atoms - 1,
        )
    return chosen.astype(np.int64)


def _fixed(atoms: Atoms) -> NDArray[np.bool_]:
    """The atoms that FixAtoms holds; ConfigError for other constraints."""
    fixed = np.zeros(len(atoms), dtype=bool)
    for constraint in atoms.constraints:
        if not isinstance(constraint, FixAtoms):
            raise ConfigError(
                f"the constraint {type(constraint).__name__} is not supported in a Hessian, only FixAtoms is",
                setting="constraints",
                remedies=[NO_CONSTRAINTS, Use("constraints", False, "and project the Hessian yourself")],
            )
        fixed[constraint.index] = True
    return fixed


def _copies(chunk: int | None, device: torch.device, atoms: int) -> int:
    if chunk is None:
        return 1 if device.type == "cpu" else max(1, _GPU_ATOMS // atoms)
    if isinstance(chunk, int) and not isinstance(chunk, bool) and chunk > 0:
        return chunk
    raise ConfigError(
        f"chunk is {chunk!r}: it must be a whole number of copies, at least 1", setting="chunk", value=chunk, limit=1
    )


def _parts(engine: Engine, graph: Graph) -> list[_Part]:
    """The whole structure where it fits into memory, else its pieces; OutOfMemoryError where there are none."""
    atoms, edges = len(graph.numbers), graph.edges.shape[1]
    whole = [_Part(engine.potential, graph.to(engine.device), np.arange(atoms))]
    saved = TorchPath(engine.potential, engine.device)
    room = engine.available_memory() / _SECOND
    if saved.memory(atoms, edges) < room:
        return whole
    layers = receptive_layers(engine.potential)
    pieces = None if isinstance(layers, str) else split_graph(graph, layers, saved.memory, 0.8 * room)
    if pieces is None:
        raise _shortage(engine, graph)
    return [
        _Part(
            CentralEnergies(engine.potential, p.central.to(engine.device)), p.graph.to(engine.device), p.atoms.numpy()
        )
        for p in pieces
    ]


def _lines(part: _Part, chosen: NDArray[np.int64], fixed: NDArray[np.bool_]) -> list[_Line]:
    place = {int(atom): k for k, atom in enumerate(part.atoms)}
    rows = [(row, place[int(atom)]) for row, atom in enumerate(chosen) if not fixed[atom] and int(atom) in place]
    return [_Line(row, atom, axis) for row, atom in rows for axis in range(3)]


def _add(found: Array, part: _Part, lines: list[_Line], copies: int, bar: CountBar) -> None:
    """Add to `found` what this part of the energy contributes to the rows."""
    atoms = len(part.atoms)
    copies = min(copies, len(lines)) or 1
    graph = part.graph if copies == 1 else join_graphs([part.graph] * copies)
    for start in range(0, len(lines), copies * _CALL):
        batch = lines[start : start + copies * _CALL]
        vectors = torch.zeros((-(-len(batch) // copies), copies, atoms, 3), dtype=torch.float64).to(graph.positions)
        for k, line in enumerate(batch):
            vectors[k // copies, k % copies, line.atom, line.axis] = 1.0
        products = hessian_vector_product(part.potential, graph, vectors.reshape(len(vectors), -1, 3))
        values = products.reshape(-1, atoms, 3).to("cpu", torch.float64).numpy()
        for line, value in zip(batch, values[: len(batch)], strict=True):
            found[line.row, line.axis, part.atoms] += value
        bar.advance(len(batch))


def _verify(engine: Engine, parts: list[_Part], atoms: int) -> None:
    """UnavailablePropertyError where a random Hessian-vector product is not the derivative of the forces."""
    step, tolerance = _STEP[engine.dtype], _AGREEMENT[engine.dtype]
    direction = np.random.default_rng(0).uniform(-1.0, 1.0, (atoms, 3))
    product, difference = np.zeros((atoms, 3)), np.zeros((atoms, 3))
    for part in parts:
        v = torch.from_numpy(direction[part.atoms]).to(engine.device)
        product[part.atoms] += hessian_vector_product(part.potential, part.graph, v).cpu().numpy()
        for sign in (1, -1):
            moved = replace(part.graph, positions=part.graph.positions + sign * step * v)
            forces = cast("Tensor", predict(part.potential, moved, forces=True).forces)
            difference[part.atoms] -= sign * forces.cpu().numpy() / (2 * step)
    scale = float(np.abs(difference).max())
    error = float(np.abs(product - difference).max())
    if np.isfinite(product).all() and error > tolerance * scale + 1e-6:
        raise UnavailablePropertyError(
            f"{type(engine.potential).__name__} has no usable second derivatives: a product of its Hessian with a "
            f"random vector differs by {error:.3g} of {scale:.3g} eV/Å^2 from the difference of its forces over "
            f"{2 * step:g} Å. Its graph is cut (detach, no_grad, a custom function), or it has kinks or jumps, as the "
            "original networks have",
            remedies=[_DIFFERENCES],
        )


def _told(error: Exception, engine: Engine, graph: Graph) -> Exception | None:
    """What an error of autograd or of memory means; None for errors that say it themselves."""
    if isinstance(error, OutOfMemoryError | UnavailablePropertyError):
        return None
    if is_out_of_memory(error):
        return _shortage(engine, graph)
    if isinstance(error, RuntimeError | NotImplementedError) and _undifferentiable(str(error)):
        said = str(error).splitlines()[0]
        return UnavailablePropertyError(
            f"{type(engine.potential).__name__} has no second derivatives: autograd says {said!r}",
            remedies=[_DIFFERENCES],
        )
    return None


def _undifferentiable(text: str) -> bool:
    marks = ("differentiate twice", "once_differentiable", "derivative for", "does not require grad", "double backward")
    return any(mark in text for mark in marks)


def _shortage(engine: Engine, graph: Graph) -> OutOfMemoryError:
    atoms, edges = len(graph.numbers), graph.edges.shape[1]
    need = _SECOND * TorchPath(engine.potential, engine.device).memory(atoms, edges)
    available = engine.available_memory()
    return OutOfMemoryError(
        f"second derivatives of {atoms} atoms with {edges} edges need about {need / 2**30:.3g} GiB, "
        f"{available / 2**30:.3g} GiB are available on {engine.device}, and pieces of the structure do not fit either, "
        "or the model has none",
        value=need,
        limit=available,
        remedies=["take a smaller structure", Use("chunk", 1), _DIFFERENCES],
    )


def _not_finite(atoms: list[int]) -> NonFiniteResultError:
    return NonFiniteResultError(
        f"the second derivatives are not finite for {len(atoms)} atoms (first: {atoms[:8]}): the network has kinks "
        "there, as the original networks have on sites of high symmetry, or its weights are damaged",
        value=atoms,
        remedies=[_DIFFERENCES, "a smooth variant"],
    )
