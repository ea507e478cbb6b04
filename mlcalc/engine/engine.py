"""Energies and forces of graphs on a device, in a precision, without touching the user's model."""

from __future__ import annotations

import copy
import logging
import math
from typing import Any, cast

import torch
from torch import Tensor, nn

from mlcalc.engine.choice import choose_path
from mlcalc.engine.pieces import Memory, evaluate_pieces, receptive_layers, split_graph
from mlcalc.errors import DeviceError, NonFiniteResultError, OutOfMemoryError
from mlcalc.evaluation_path import TorchPath
from mlcalc.ground.errors import Use
from mlcalc.md_protocols.errors import ConfigError
from mlcalc.memory import available_memory, is_out_of_memory, largest_system
from mlcalc.models import Graph, Network, Potential, Prediction
from mlcalc.models.network import NodeFeatures
from mlcalc.scope import Scope

_logger = logging.getLogger(__name__)
DTYPES = {"float32": torch.float32, "float64": torch.float64}
_LEAST = 1  # bytes; pieces of so little cannot be
_FEW, _LITTLE = 300, 2**28  # atoms and edges, bytes: not worth looking how much memory there is
_SHARE = 0.8  # of the memory available that a piece is planned for


def resolve_device(device: str | torch.device) -> torch.device:
    """The torch device: "cpu", "cuda", "cuda:1", or "auto" for a GPU where there is one.

    Raises DeviceError, never falling back to the CPU unless asked for "auto".
    """
    found = [f"cuda:{k}" for k in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    if str(device) == "auto":
        return torch.device("cuda" if found else "cpu")
    try:
        wanted = torch.device(device)
    except (RuntimeError, TypeError):
        wanted = None
    if wanted is not None and wanted.type == "cpu":
        return wanted
    if wanted is not None and wanted.type == "cuda" and found and (wanted.index or 0) < len(found):
        return wanted
    raise DeviceError(
        f"device {str(device)!r} is not available: this machine has {', '.join(['cpu', *found])}",
        setting="device",
        value=str(device),
        limit=("cpu", *found),
        remedies=["choose one of these", Use("device", "auto", "to use a GPU only where there is one")],
    )


def resolve_dtype(dtype: str) -> torch.dtype:
    """The torch dtype of "float32" or "float64"."""
    if dtype not in DTYPES:
        raise ConfigError(
            f"dtype {dtype!r} is not supported: choose float32 or float64",
            setting="dtype",
            value=dtype,
            limit=tuple(DTYPES),
        )
    return DTYPES[dtype]


def check_distance(min_distance: float) -> None:
    """Refuse a smallest distance that is not a finite number of at least zero."""
    if not (isinstance(min_distance, int | float) and 0 <= min_distance < math.inf):
        raise ConfigError(
            f"min_distance = {min_distance!r} is not allowed: give a distance in Å, such as 0.3, or 0",
            setting="min_distance",
            value=min_distance,
            limit=0,
        )


class Engine:
    """A potential made ready for evaluation: own copy of the weights, on one device, in one precision, by one path.

    kernels: "auto" for the fastest path there is; "fused" for it or an error that says why there is none; "torch" for
    autograd, the reference; "compile" for torch.compile, whose first calls take minutes.
    Holds no state between calls, so that calculators in several threads may share one.
    """

    def __init__(
        self,
        potential: Potential,
        *,
        device: str | torch.device = "cpu",
        dtype: str = "float64",
        kernels: str = "auto",
    ) -> None:
        self.device, self.dtype = resolve_device(device), resolve_dtype(dtype)
        if not (callable(potential) and hasattr(potential, "cutoff")):
            raise ConfigError(
                f"{potential!r} is no model: give the name of a bundled model, the path of a model file, or a "
                "potential with a cutoff (Å) that returns atomic energies of a graph",
                setting="model",
            )
        self.kernels = kernels
        self._small = 0, 0  # atoms and edges of a call that took little memory
        self.pieces = 0  # into which the last structure was cut, that did not fit into memory; 0: none was
        with torch.inference_mode(False):  # in which autograd, the measure of all paths, would not work
            if isinstance(potential, nn.Module):
                network = copy.deepcopy(potential).to(self.device, self.dtype).eval().requires_grad_(False)
                potential = cast("Potential", network)
            self.potential = potential
            self.scope = Scope.of(potential)
            self._path, self.why = choose_path(potential, self.device, self.dtype, kernels)

    @property
    def path(self) -> str:
        """Name of the path that evaluates; `why` says why it is not the fastest, and is empty where it is."""
        return self._path.name

    def __repr__(self) -> str:
        return f"<Engine of {type(self.potential).__name__}: {self.running_text()}; {self.scope.range_text()}>"

    def running_text(self) -> str:
        """What runs, in which precision, and where."""
        dtype, threads = str(self.dtype).removeprefix("torch."), torch.get_num_threads()
        where = f"{self.device}, {threads} threads" if self.device.type == "cpu" else str(self.device)
        why = f" ({self.why})" if self.why else ""
        pieces = f"; the last large structure in {self.pieces} pieces by autograd" if self.pieces else ""
        return f"{self.path}{why}{pieces}; {dtype} on {where}"

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_path"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)  # a path may hold compiled code and locks: copies make their own
        self._path, self.why = choose_path(self.potential, self.device, self.dtype, self.kernels)

    def evaluate(self, graph: Graph, *, forces: bool, stress: bool) -> Prediction:
        """Predictions on the CPU in float64; only finite numbers come back.

        One structure that does not fit into memory is computed in pieces, where the model's energies are local.
        Raises NonFiniteResultError, and OutOfMemoryError with the sizes that did not fit.
        """
        result = vars(self._bounded(graph, forces=forces, stress=stress))
        values = {name: _to_cpu(value) for name, value in result.items() if value is not None}
        _check_finite(values, graph)
        return Prediction(**values)

    def memory(self, atoms: int, edges: int) -> int:
        """About how many bytes energies and forces of so many atoms and edges take; 0 where nothing is known."""
        return self._path.memory(atoms, edges)

    def available_memory(self) -> int:
        """Bytes that an evaluation may take on the device, those that the path keeps for it included."""
        return available_memory(self.device) + int(getattr(self._path, "held_bytes", 0))

    def node_features(self, graph: Graph) -> NodeFeatures:
        """State of the atoms after the last layer, on the CPU in float64 and finite; errors as those of `evaluate`."""
        network = cast("Network", self.potential)
        with torch.no_grad():
            try:
                features = network.node_features(graph.to(self.device))
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                raise self._shortage(graph, "the states of atoms are not computed in pieces") from error
        values = {"scalars": _to_cpu(features.scalars)}
        if features.vectors is not None:
            values["vectors"] = _to_cpu(features.vectors)
        _check_finite(values, graph)
        return NodeFeatures(values["scalars"], values.get("vectors"))

    def _bounded(self, graph: Graph, *, forces: bool, stress: bool) -> Prediction:
        """The path's prediction, or, where that takes or would take too much memory, one in pieces."""
        room, cause = self._room(graph), None
        if room is None:
            try:
                return self._path.evaluate(graph, forces=forces, stress=stress)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                cause = error.with_traceback(None)  # whose frames hold the tensors that filled the memory
        layers = receptive_layers(self.potential)
        if isinstance(layers, str):
            raise self._shortage(graph, layers) from cause
        if graph.n_structures > 1:
            raise self._shortage(graph, "there are several structures") from cause
        memory: Memory = TorchPath(self.potential, self.device).memory
        atoms, edges = len(graph.numbers), graph.edges.shape[1]
        need = memory(atoms, edges)
        if not need:  # nothing is known of it: count edges
            memory, need = _size, _size(atoms, edges)
        limit = 0.5 * need if room is None else min(_SHARE * room, 0.5 * need)
        while limit > _LEAST:
            try:
                if (pieces := split_graph(graph, layers, memory, limit)) is None:
                    break
                if not self.pieces:
                    _logger.warning(
                        "%d atoms do not fit into memory: computed in %d pieces, by autograd", atoms, len(pieces)
                    )
                self.pieces = len(pieces)
                return evaluate_pieces(self.potential, graph, pieces, self.device, forces=forces, stress=stress)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                cause = error.with_traceback(None)
            limit *= 0.5
        reach = f"its atomic energies reach through {layers} layers of neighbors, {layers * self.scope.cutoff:g} Å far"
        raise self._shortage(graph, reach) from cause

    def _room(self, graph: Graph) -> int | None:
        """The bytes available if they are fewer than the call is expected to take, else None."""
        atoms, edges = graph.numbers.shape[0], graph.edges.shape[1]
        if atoms + edges < _FEW or (atoms <= self._small[0] and edges <= self._small[1]):
            return None
        need = self.memory(atoms, edges)
        if need < _LITTLE:
            self._small = atoms, edges
            return None
        available = self.available_memory()
        return available if need > available else None

    def _shortage(self, graph: Graph, why_whole: str) -> OutOfMemoryError:
        atoms, edges = len(graph.numbers), graph.edges.shape[1]
        need, available = self.memory(atoms, edges), self.available_memory()
        fitting = largest_system(self.memory, edges / atoms, available)
        estimate = (
            f": they need about {need / 2**30:.3g} GiB, {available / 2**30:.3g} GiB are available, "
            f"about {fitting} atoms of this density would fit"
            if need
            else f", of which {available / 2**30:.3g} GiB are available"
        )
        return OutOfMemoryError(
            f"{atoms} atoms with {edges} edges do not fit into the memory of {self.device}{estimate}. They cannot be "
            f"computed in pieces: {why_whole}",
            value=need,
            limit=available,
            remedies=[
                "evaluate a smaller structure or fewer structures at a time",
                Use("dtype", "float32"),
                Use("device", None, python="use another device"),
            ],
        )


def _size(atoms: int, edges: int) -> int:
    return atoms + edges


def _to_cpu(value: Tensor) -> Tensor:
    return value.detach().to("cpu", torch.float64)


def _check_finite(values: dict[str, Tensor], graph: Graph) -> None:
    for name, value in values.items():
        # a sum is finite only where all its terms are; a sum of huge numbers may be infinite though they are not
        if math.isfinite(float(value.sum())) or bool(torch.isfinite(value).all()):
            continue
        raise NonFiniteResultError(
            f"the model returned NaN or infinity as {name} for a structure of {len(graph.numbers)} atoms"
            f"{_concerned(values, len(graph.numbers))}. The structure lies outside what the model can describe, or its "
            "weights are damaged",
            remedies=["look at these atoms' distances, and evaluate a structure of the training kind"],
        )


def _concerned(values: dict[str, Tensor], atoms: int) -> str:
    """The first atoms with bad results of their own, where there are such."""
    bad = torch.zeros(atoms, dtype=torch.bool)
    for name in ("energies", "forces", "scalars", "vectors"):
        value = values.get(name)
        if value is not None:
            bad |= ~torch.isfinite(value).reshape(atoms, -1).all(dim=1)
    first = bad.nonzero()[:8, 0].tolist()
    return f" (first atoms concerned: {first})" if first else ""
