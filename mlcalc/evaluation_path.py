"""How a potential is evaluated: what every way offers, and the plain one by automatic differentiation."""

from __future__ import annotations

from typing import Protocol

import torch

from mlcalc.memory import SavedBytes
from mlcalc.models import Graph, Potential, Prediction, predict


class EvaluationPath(Protocol):
    """One way to evaluate one model; holds nothing of a call once it has returned, so that threads may share it."""

    @property
    def name(self) -> str:
        """For people."""
        ...

    def evaluate(self, graph: Graph, *, forces: bool, stress: bool) -> Prediction:
        """What `predict` gives for the graph, in float64, on any device."""
        ...

    def memory(self, atoms: int, edges: int) -> int:
        """About how many bytes one call takes at its peak.

        A path that keeps memory for the next call says how much by an attribute held_bytes.
        """
        ...


class TorchPath:
    """The reference: `predict` with torch's operations and autograd, for any Potential."""

    name = "torch autograd"

    def __init__(self, potential: Potential, device: torch.device) -> None:
        self._potential, self._device = potential, device
        self._saved = SavedBytes(potential, device)

    def evaluate(self, graph: Graph, *, forces: bool, stress: bool) -> Prediction:
        """What `predict` gives."""
        return predict(self._potential, graph.to(self._device), forces=forces, stress=stress)

    def memory(self, atoms: int, edges: int) -> int:
        """Peak bytes of one call: what autograd keeps for the backward pass, and its temporaries."""
        return self._saved.peak(atoms, edges)
