"""ViSNet's energies of some of the atoms of a graph, by its kernels."""

from __future__ import annotations

import copy
from typing import Any

import torch
from numpy.typing import NDArray

from mlcalc.kernels.visnet import FusedViSNet
from mlcalc.models import Graph, Prediction, ViSNet


class CentralViSNet(FusedViSNet):
    """The fused ViSNet whose derivatives are those of the energies of central atoms; for one thread at a time."""

    def __init__(self, network: ViSNet, dtype: torch.dtype) -> None:
        alone = copy.copy(network)
        alone.structure_shift = 0.0  # is added once to the whole, not to each piece
        super().__init__(alone, dtype)
        self._central: NDArray[Any] | None = None

    def evaluate_central(self, graph: Graph, central: torch.Tensor) -> Prediction:
        """Forces and stress of the sum of the energies of central atoms (N,) bool; energies are those of all atoms."""
        self._central = central.numpy()
        return self.evaluate(graph, forces=True, stress=True)

    def _seeds(self, graph: Graph) -> NDArray[Any]:
        seeds = super()._seeds(graph)
        seeds[~self._central] = 0  # type: ignore[operator]  # set by evaluate_central
        return seeds
