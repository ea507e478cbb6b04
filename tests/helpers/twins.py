"""Broken twins of the sound many-body potential, each with one defect that a law must catch."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from potentials import ManyBody, Neighbors
from torch import Tensor

from mlcalc.models import Graph

# ---- twins that break an invariance


class Tethered(ManyBody):
    """Feels a field that is fixed in space."""

    def total(self, energies: Tensor, graph: Graph) -> Tensor:
        return energies + 0.01 * torch.sin(graph.positions[:, 0])


class AlongX(ManyBody):
    """Pairs along x count more."""

    def weight(self, r: Tensor, graph: Graph) -> Tensor:
        return super().weight(r, graph) * (1 + 0.1 * (self.edges(graph)[2][:, 0] / r) ** 2)


class Chiral(ManyBody):
    """A triple product: unchanged by rotations, of opposite sign in the mirror."""

    def sums(self, near: Neighbors) -> tuple[Tensor, Tensor]:
        rho, V = super().sums(near)
        A, B = (near.sum((near.w**power)[:, None] * near.u) for power in (2, 3))
        return rho + 10 * torch.linalg.det(torch.stack([V, A, B], dim=1)), V


class OrderDependent(ManyBody):
    """Later atoms weigh more."""

    def total(self, energies: Tensor, graph: Graph) -> Tensor:
        return energies * (1 + 0.01 * torch.arange(len(energies)))


class OneSided(ManyBody):
    """Only the atom with the lower index sees the pair."""

    def edges(self, graph: Graph) -> tuple[Tensor, Tensor, Tensor]:
        i, j, vectors = super().edges(graph)
        kept = i <= j
        return i[kept], j[kept], vectors[kept]


class ImagesWeighLess(ManyBody):
    """Neighbors across a cell boundary count less, so wrapping matters."""

    def weight(self, r: Tensor, graph: Graph) -> Tensor:
        return super().weight(r, graph) * (1 - 0.01 * (graph.shifts != 0).any(1))


class CellVectorDependent(ManyBody):
    """Knows the length of the first cell vector."""

    def total(self, energies: Tensor, graph: Graph) -> Tensor:
        return energies + 0.01 * torch.sin(graph.cell[graph.batch, 0].norm(dim=1))


class BatchCentered(ManyBody):
    """Densities relative to their mean over the batch."""

    def sums(self, near: Neighbors) -> tuple[Tensor, Tensor]:
        rho, V = super().sums(near)
        return rho - 0.1 * rho.mean(), V


class ScaledByElementsPresent(ManyBody):
    """Divided by the number of elements in the batch, as the published HermNet does."""

    def total(self, energies: Tensor, graph: Graph) -> Tensor:
        return energies / len(graph.numbers.unique())


class FirstStructureOnly(ManyBody):
    """Uses the first cell of the batch for every structure."""

    def edges(self, graph: Graph) -> tuple[Tensor, Tensor, Tensor]:
        return super().edges(replace(graph, cell=graph.cell[:1].expand_as(graph.cell)))


class MeanPooled(ManyBody):
    """The mean, not the sum, over atoms."""

    def total(self, energies: Tensor, graph: Graph) -> Tensor:
        return energies / torch.bincount(graph.batch)[graph.batch]


class PooledThenNonlinear(ManyBody):
    """A non-linear readout of the pooled sum, as the published HermNet has."""

    def total(self, energies: Tensor, graph: Graph) -> Tensor:
        pooled = graph.sum_by_structure(energies)
        return energies * (torch.tanh(pooled / 10))[graph.batch]


class NoSelfImages(ManyBody):
    """Drops the pairs of an atom with its own images."""

    def edges(self, graph: Graph) -> tuple[Tensor, Tensor, Tensor]:
        i, j, vectors = super().edges(graph)
        return i[i != j], j[i != j], vectors[i != j]


class First32Neighbors(ManyBody):
    """Keeps the first 32 neighbors of each atom, silently."""

    def edges(self, graph: Graph) -> tuple[Tensor, Tensor, Tensor]:
        i, j, vectors = super().edges(graph)
        kept = torch.arange(len(i)) - torch.searchsorted(i.contiguous(), i.contiguous()) < 32
        return i[kept], j[kept], vectors[kept]


class ElementBlind(ManyBody):
    """Takes every atom for the same element."""

    def charges(self, numbers: Tensor) -> Tensor:
        return torch.ones(len(numbers), dtype=self.dtype)


# ---- twins that break a derivative


class HalfDetached(ManyBody):
    """Messages through which no force flows."""

    def local(self, rho: Tensor, V: Tensor, around: Tensor) -> Tensor:
        return super().local(rho, V, around.detach())


class FrozenCell(ManyBody):
    """Image shifts that the strain does not reach: right forces, wrong stress."""

    def edges(self, graph: Graph) -> tuple[Tensor, Tensor, Tensor]:
        return super().edges(replace(graph, cell=graph.cell.detach()))


class ForceOnNeighborOnly(ManyBody):
    """The central atom's position is detached: action without reaction."""

    def edges(self, graph: Graph) -> tuple[Tensor, Tensor, Tensor]:
        i, j, vectors = super().edges(graph)
        return i, j, vectors + graph.positions[i] - graph.positions[i].detach()


class _FrozenSlope(torch.autograd.Function):
    """x^2 with the right first derivative that autograd takes for a constant."""

    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        context.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(context: Any, grad: Tensor) -> Tensor:
        return grad * 2 * context.saved_tensors[0].detach()


class FrozenSlope(ManyBody):
    """Right forces, wrong Hessian."""

    def local(self, rho: Tensor, V: Tensor, around: Tensor) -> Tensor:
        return super().local(rho, V, around) + _FrozenSlope.apply(rho)


# ---- twins that are not smooth


class Truncated(ManyBody):
    """No cutoff function: the energy jumps."""

    def fade(self, r: Tensor) -> Tensor:
        return torch.ones_like(r)


class Shifted(ManyBody):
    """A linear cutoff function: the force jumps."""

    def fade(self, r: Tensor) -> Tensor:
        return 1 - r / self.cutoff


class Cosine(ManyBody):
    """The cosine cutoff: the force has a kink."""

    def fade(self, r: Tensor) -> Tensor:
        return 0.5 * (1 + torch.cos(torch.pi * r / self.cutoff))


class CountedNeighbors(ManyBody):
    """Densities divided by the number of neighbors, as a plain mean does."""

    def sums(self, near: Neighbors) -> tuple[Tensor, Tensor]:
        rho, V = super().sums(near)
        return 10 * rho / near.sum(torch.ones_like(near.w)).clamp(min=1), V


class SharpMean(ManyBody):
    """A weighted neighbor mean with a tiny regularization: a step where the last neighbor leaves."""

    def sums(self, near: Neighbors) -> tuple[Tensor, Tensor]:
        rho, V = super().sums(near)
        return rho / (rho + 1e-8), V


class Ungated(ManyBody):
    """Messages without the cutoff function, as published ViSNet's vector messages with a bias."""

    def sums(self, near: Neighbors) -> tuple[Tensor, Tensor]:
        rho, V = super().sums(near)
        return rho, V + near.sum(torch.nn.functional.silu(near.w + 0.1)[:, None] * near.u)


class NoInteraction(ManyBody):
    """Zero everywhere: as smooth as useless."""

    def local(self, rho: Tensor, V: Tensor, around: Tensor) -> Tensor:
        return 0 * (rho + V.sum(1))


class Kinked(ManyBody):
    """The norm of a vector sum, which has a kink where the sum vanishes."""

    def local(self, rho: Tensor, V: Tensor, around: Tensor) -> Tensor:
        return super().local(rho, V, around) + 0.1 * torch.linalg.vector_norm(V, dim=1)


class Stepped(ManyBody):
    """q / (q + eps) of a squared vector sum, as the published HermNet has."""

    def local(self, rho: Tensor, V: Tensor, around: Tensor) -> Tensor:
        squared = (V * V).sum(1)
        return super().local(rho, V, around) + 0.1 * squared / (squared + 1e-5)


class RootOfZero(ManyBody):
    """sqrt of a sum of squares: NaN gradients where the sum vanishes."""

    def local(self, rho: Tensor, V: Tensor, around: Tensor) -> Tensor:
        return super().local(rho, V, around) + 0.1 * (V * V).sum(1).sqrt()


class BentAngle(ManyBody):
    """The angle itself (arccos) between a pair and the vector sum: a kink at straight angles."""

    def sums(self, near: Neighbors) -> tuple[Tensor, Tensor]:
        rho, V = super().sums(near)
        a, b = torch.nonzero((near.i[:, None] == near.i).triu(1)).T  # pairs of edges around the same atom
        angle = torch.arccos((near.u[a] * near.u[b]).sum(1).clamp(-1 + 1e-12, 1 - 1e-12))
        return rho + torch.zeros_like(rho).index_add(0, near.i[a], 0.1 * near.w[a] * near.w[b] * angle), V


class MeanOverNobody(ManyBody):
    """A mean over neighbors that divides by zero without any."""

    def local(self, rho: Tensor, V: Tensor, around: Tensor) -> Tensor:
        return super().local(rho, V, around) + 0 * around / around


class PoleOnZ(ManyBody):
    """An azimuth, which is undefined for pairs along z."""

    def weight(self, r: Tensor, graph: Graph) -> Tensor:
        x, y, _ = self.edges(graph)[2].unbind(1)
        return super().weight(r, graph) + 0 * torch.sqrt(x * x + y * y)


# ---- twins of bookkeeping


class SinglePrecisionTotal(ManyBody):
    """Adds the energy shifts in float32."""

    def shifts(self, numbers: Tensor) -> Tensor:
        return super().shifts(numbers).to(self.dtype)

    def total(self, energies: Tensor, graph: Graph) -> Tensor:
        return energies.to(self.dtype)


class DoubledShift(ManyBody):
    """Counts the energy shifts twice."""

    def shifts(self, numbers: Tensor) -> Tensor:
        return 2 * super().shifts(numbers)


@dataclass(frozen=True, eq=False)
class WithMemory(ManyBody):
    """Answers depend on what was asked before."""

    calls: list[int] = field(default_factory=list)

    def total(self, energies: Tensor, graph: Graph) -> Tensor:
        self.calls.append(1)
        return energies * (1 + 1e-12 * len(self.calls))


class WritesIntoGraph(ManyBody):
    """Changes its input."""

    def total(self, energies: Tensor, graph: Graph) -> Tensor:
        graph.shifts.mul_(1 + 1e-12)
        return energies


class SinglePrecisionPositions(ManyBody):
    """Rounds positions before it takes their differences."""

    def edges(self, graph: Graph) -> tuple[Tensor, Tensor, Tensor]:
        return super().edges(replace(graph, positions=graph.positions.to(self.dtype).to(torch.float64)))
