"""Gradients of energies by the weights of a network: what every kind of kernel for them offers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

from mlcalc.models import Graph, Network, Prediction


@dataclass(frozen=True, eq=False)
class EnergyGradient:
    """Energies of the structures of a graph, and the derivatives of a weighted sum of them by the weights."""

    energy: Tensor  # (S,) eV, float64
    parameters: dict[str, Tensor]  # d(sum_s seeds_s E_s)/d(parameter) by the names of named_parameters()


class GradientKernels(Protocol):
    """First derivatives of one network's energies, with weights that change between calls."""

    @property
    def name(self) -> str:
        """For people."""
        ...

    def refresh(self, network: Network) -> None:
        """Take over the weights that the network has now."""
        ...

    def forces(self, graph: Graph, *, stress: bool) -> Prediction:
        """What `predict` gives for the graph, with the weights of the last `refresh`."""
        ...

    def gradient(self, graph: Graph, seeds: Tensor) -> EnergyGradient:
        """Energies (S,) eV, and the derivatives of the sum of seeds (S,), float64, times energies.

        By every parameter of the network, in its shape and the kernels' precision; zeros where it does not matter.
        """
        ...


@runtime_checkable
class TangentKernels(GradientKernels, Protocol):
    """Kernels that also give directional derivatives of those first derivatives, exactly."""

    def tangent(self, graph: Graph, seeds: Tensor, directions: Tensor, strains: Tensor) -> EnergyGradient:
        """Derivatives of sum_s seeds_s E_s + d/d(eps) E_s(x + eps u, strain eps h) by the parameters, and energies.

        directions: u (N, 3) Å; strains: h (S, 3, 3), symmetric; all float64.
        """
        ...
