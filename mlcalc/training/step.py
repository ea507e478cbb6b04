"""The gradient of the loss by the weights, from first derivatives of energies alone.

A loss L of energies E, forces F = -dE/dx and stress has the gradient

    dL/dw = sum_s dL/dE_s dE_s/dw + d/dt dE/dw(x + t d),    d = -dL/dF, and likewise along a strain,

a directional derivative of dE/dw, which some kernels give exactly.  By central differences it takes dE/dw at two
displaced copies of each structure, whose mean is the part of the energies up to the square of the displacement, and no
second derivative.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from mlcalc.kernels.gradients import GradientKernels, TangentKernels
from mlcalc.models import Graph, Network, Prediction, join_graphs
from mlcalc.training.config import LossConfig
from mlcalc.training.samples import Sample, loss_of, prediction_loss, stress_counts

# Å, largest change of an edge vector: the truncation error is of second order, that of rounding grows as it shrinks
STEPS = {torch.float32: 4e-3, torch.float64: 1e-4}


def loss_gradient(
    network: Network, batch: Sample, weights: LossConfig, kernels: GradientKernels | None
) -> tuple[float, dict[str, Tensor]]:
    """Loss of the batch, and its derivatives by the parameters, by their names.

    By kernels, which take over the network's weights first, or by autograd where there are none.
    """
    if kernels is None:
        return _by_autograd(network, batch, weights)
    kernels.refresh(network)
    loss, slopes = _loss_slopes(kernels.forces(batch.graph, stress=stress_counts(batch, weights)), batch, weights)
    if isinstance(kernels, TangentKernels):
        seeds = batch.energy.new_zeros(batch.graph.n_structures) if slopes.energy is None else slopes.energy
        return loss, kernels.tangent(batch.graph, seeds, *_direction(batch.graph, slopes)).parameters
    step = STEPS[next(network.parameters()).dtype]
    moved, seeds = _displaced_copies(batch.graph, slopes, step)
    return loss, kernels.gradient(moved, seeds).parameters


def _by_autograd(network: Network, batch: Sample, weights: LossConfig) -> tuple[float, dict[str, Tensor]]:
    loss = loss_of(network, batch, weights)
    parameters = dict(network.named_parameters())
    gradients = torch.autograd.grad(loss, list(parameters.values()), materialize_grads=True)
    return loss.item(), dict(zip(parameters, gradients, strict=True))


def _loss_slopes(result: Prediction, batch: Sample, weights: LossConfig) -> tuple[float, Prediction]:
    """The loss, and its derivatives by what the prediction holds, in the places of that."""
    names = [name for name in ("energy", "forces", "stress") if getattr(result, name) is not None]
    with torch.enable_grad():
        leaves = {name: getattr(result, name).detach().requires_grad_(True) for name in names}
        loss = prediction_loss(Prediction(**leaves), batch, weights)
        slopes = torch.autograd.grad(loss, list(leaves.values()), materialize_grads=True)
    return loss.item(), Prediction(**dict(zip(names, slopes, strict=True)))


def _displaced_copies(graph: Graph, slopes: Prediction, step: float) -> tuple[Graph, Tensor]:
    """The structures displaced to either side, and what the energies of these copies count in the gradient."""
    direction, strain = _direction(graph, slopes)
    largest = _largest_edge_change(graph, direction, strain)
    moves = largest > 0
    scale = torch.where(moves, step / largest, 0.0)  # the t of each structure
    direction, strain = direction * scale.index_select(0, graph.batch)[:, None], strain * scale[:, None, None]
    half = torch.zeros_like(largest) if slopes.energy is None else slopes.energy / 2
    difference = torch.where(moves, largest / (2 * step), 0.0)
    copies = join_graphs([_displaced(graph, direction, strain), _displaced(graph, -direction, -strain)])
    return copies, torch.cat([half + difference, half - difference])


def _direction(graph: Graph, slopes: Prediction) -> tuple[Tensor, Tensor]:
    """What positions (N, 3) and the symmetric strains (S, 3, 3) change by in a unit of t."""
    strain = graph.cell.new_zeros(graph.n_structures, 3, 3)
    if slopes.stress is not None:
        by_component = slopes.stress / torch.linalg.det(graph.cell).abs()[:, None]
        for k, (a, b) in enumerate(((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))):
            strain[:, a, b] += by_component[:, k] / 2  # a shear stands in two places, with half of it in each
            strain[:, b, a] += by_component[:, k] / 2
    return torch.zeros_like(graph.positions) if slopes.forces is None else -slopes.forces, strain


def _largest_edge_change(graph: Graph, direction: Tensor, strain: Tensor) -> Tensor:
    """Largest change of an edge vector of each structure in a unit of t, (S,) Å."""
    i, j = graph.edges
    structure = graph.batch.index_select(0, i)
    change = direction.index_select(0, j) - direction.index_select(0, i)
    if bool(strain.any()):
        change = change + torch.einsum("ex,exy->ey", graph.edge_vectors(), strain.index_select(0, structure))
    largest = strain.new_zeros(graph.n_structures)
    return largest.scatter_reduce(0, structure, torch.linalg.vector_norm(change, dim=1), "amax")


def _displaced(graph: Graph, direction: Tensor, strain: Tensor) -> Graph:
    """The same edges between other places."""
    positions = graph.positions + direction
    if bool(strain.any()):
        positions = positions + torch.einsum("nx,nxy->ny", graph.positions, strain.index_select(0, graph.batch))
    return replace(graph, positions=positions, cell=graph.cell + graph.cell @ strain)
