"""The evaluation path of the GPU: padded graphs, and one captured CUDA graph per size."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import fields
from typing import cast

import torch
from torch import nn

from mlcalc.gpu.gradients import Gradients, stress_of
from mlcalc.gpu.obstacles import capture_obstacle
from mlcalc.gpu.padding import Sizes, pad, padded_sizes
from mlcalc.gpu.partition import Parts
from mlcalc.gpu.precision import check_matmul, matmul_precision
from mlcalc.gpu.recording import Recorder
from mlcalc.gpu.static import StaticNetwork, choose, placed
from mlcalc.models import Graph, Potential, Prediction, predict

_PLAIN = "torch autograd"
_NAMES = {"torch": "", "triton": ", Triton kernels", "compile": ", torch.compile"}
_BUCKETS = 16  # captured sizes kept at a time
_FLOATS_PER_EDGE = {"triton": 15}  # per layer and channel, kept for the backward pass
_MOST_FLOATS_PER_EDGE = 60  # with torch's own operations, of a ViSNet with lmax 2; others need less
_LARGEST_EXCESS = 1.3  # edges of a captured size over those of the best one
_Key = tuple[Sizes, tuple[int, ...], bool]


def cuda_path(
    network: Potential, device: torch.device, dtype: torch.dtype, *, matmul: str = "ieee", kernels: str = "auto"
) -> CapturedPath | str:
    """The path that evaluates the network on this GPU by captured graphs, or the reason why there is none.

    `matmul` is "ieee" or, for float32 only, "tf32"; `kernels` is "torch", "triton" (fused message passing, for the
    networks that have it), "compile" (layers go through torch.compile, whose first call takes minutes), or "auto": the
    faster of the first two that gives the right numbers in a trial.  ConfigError for settings that do not fit.
    """
    if device.type != "cuda":
        return f"CUDA graphs need a CUDA device, and this is {device}"
    if obstacle := capture_obstacle(network):
        return f"{type(network).__name__} has no captured graph: {obstacle}"
    path = CapturedPath(network, device, dtype, matmul=matmul, kernels=kernels)
    return path if path.kernels else path.why


class CapturedPath:
    """Energies, forces and stress of a network by replays of what was captured for the size of the graph.

    Works on copies of the weights.  On the CPU nothing is captured, but all else is the same.  Calls from several
    threads wait for each other, as they share the memory of the captured graphs.
    """

    def __init__(
        self,
        network: Potential,
        device: torch.device,
        dtype: torch.dtype,
        *,
        matmul: str = "ieee",
        kernels: str = "auto",
    ) -> None:
        check_matmul(matmul, dtype)
        choice = choose(network, device, dtype, matmul=matmul, kernels=kernels)
        self.kernels, self.why = choice.kernels, choice.why
        self._device, self._matmul = device, matmul
        self._plain, self._network = placed(network, device, dtype), choice.network
        self.name = _PLAIN  # for people, as the other two
        if choice.network is not None:
            self.name = "CUDA graphs" + _NAMES[self.kernels]
        self._recorder = Recorder(device)
        self._captured: OrderedDict[_Key, _Captured] = OrderedDict()
        self._lock = threading.RLock()

    def evaluate(self, graph: Graph, *, forces: bool, stress: bool) -> Prediction:
        """Predictions in float64 on the path's device, as those of `predict`."""
        with self._lock, matmul_precision(self._matmul):
            captured = self._of_size(graph, stress) if forces or stress else None
            if captured is None:
                return predict(self._plain, graph.to(self._device), forces=forces, stress=stress)
            return self._completed(captured.replay(graph), graph, forces)

    def memory(self, atoms: int, edges: int) -> int:
        """About how many bytes the capture of a graph with so many atoms and edges holds; 0 where nobody knows."""
        config = getattr(self._plain, "config", None)
        if config is None:
            return 0
        sizes = padded_sizes(atoms, edges, 1)
        itemsize = next(cast("nn.Module", self._plain).parameters()).element_size()
        width = config.hidden_channels * config.num_layers * itemsize
        return int(_FLOATS_PER_EDGE.get(self.kernels, _MOST_FLOATS_PER_EDGE) * width * (sizes.edges + sizes.atoms))

    def _of_size(self, graph: Graph, stress: bool) -> _Captured | None:
        if self._network is None:
            return None
        needed = (*self._network.sizes(graph), stress)
        key = next((known for known in reversed(self._captured) if _holds(known, needed)), needed)
        if key not in self._captured:
            try:
                self._captured[key] = _Captured(self._network, self._recorder, graph.to(self._device), key)
            except torch.OutOfMemoryError:
                self._captured.clear()  # what other sizes hold may be all that is missing
                raise
            except RuntimeError as error:
                self.why, self.name = f"a capture failed: {str(error).splitlines()[0]}", _PLAIN
                self._network = None
                return None
            while len(self._captured) > _BUCKETS:
                self._captured.popitem(last=False)
        self._captured.move_to_end(key)
        return self._captured[key]

    def _completed(self, found: Gradients, graph: Graph, forces: bool) -> Prediction:
        atoms, structures = len(graph.numbers), graph.n_structures
        energy, energies = found.energy[:structures].clone(), found.energies[:atoms].clone()
        shift = float(getattr(self._plain, "structure_shift", 0.0))
        if shift:
            energy += shift
            energies += graph.equal_shares(torch.full((structures,), shift, dtype=energy.dtype)).to(energies.device)
        return Prediction(
            energy=energy,
            energies=energies,
            forces=found.forces[:atoms].clone() if forces else None,
            stress=None if found.strain is None else stress_of(found.strain[:structures], graph.cell),
        )


class _Captured:
    """The recorded evaluation of one size, with the places its inputs are read from."""

    def __init__(self, network: StaticNetwork, recorder: Recorder, graph: Graph, key: _Key) -> None:
        self._network, (self._sizes, self._part_sizes, strain) = network, key
        self._graph, self._parts = self._padded(graph)
        self._run: Callable[[], Gradients] = recorder.record(
            lambda: network.gradients(self._graph, self._parts, strain=strain)
        )

    def replay(self, graph: Graph) -> Gradients:
        """What the device finds for the graph, valid until the next replay."""
        padded, parts = self._padded(graph)
        for field in fields(Graph):
            getattr(self._graph, field.name).copy_(getattr(padded, field.name))
        if self._parts is not None and parts is not None:
            self._parts.copy_from(parts)
        return self._run()

    def _padded(self, graph: Graph) -> tuple[Graph, Parts | None]:
        cutoff = self._network.potential.cutoff
        parts = self._network.parts(graph, self._part_sizes, self._sizes)
        return pad(graph, self._sizes, cutoff), parts


def _holds(known: _Key, needed: _Key) -> bool:
    """Whether the captured size has room for the graph, without much more of it than a size of its own."""
    if known[2] != needed[2] or known[0].structures != needed[0].structures:
        return False
    mine, wanted = ((sizes.atoms, sizes.edges, *parts) for sizes, parts, _ in (known, needed))
    room = all(a >= b for a, b in zip(mine, wanted, strict=True))
    return room and known[0].edges <= _LARGEST_EXCESS * needed[0].edges
