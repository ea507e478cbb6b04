"""Energies and gradients of a graph without ever asking the device for a number, so that it can be captured."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mlcalc.models import Graph, ModelError, Potential


@dataclass(frozen=True, eq=False)
class Gradients:
    """Sums over atoms and their derivatives, float64."""

    energy: Tensor  # (S,) eV, without structure_shift
    energies: Tensor  # (N,) eV
    forces: Tensor  # (N, 3) eV/Å
    strain: Tensor | None  # (S, 3, 3) eV, dE/d(strain), symmetric


def energy_gradients(potential: Potential, graph: Graph, *, strain: bool) -> Gradients:
    """What `predict` gives, but for structure_shift and the division by volumes, which look at numbers.

    Positions x and cell h are independent variables here: strain moves both, so that
    dE/d(strain_ab) = sum_i x_ia dE/dx_ib + sum_k h_ka dE/dh_kb.
    """
    with torch.enable_grad():
        positions = graph.positions.detach().requires_grad_(True)
        cell = graph.cell.detach().requires_grad_(strain)
        energies = potential(replace(graph, positions=positions, cell=cell))
        energy = graph.sum_by_structure(energies)
        wanted = [positions, cell] if strain else [positions]
        gradients = torch.autograd.grad(energy.sum(), wanted, materialize_grads=True)
    return Gradients(
        energy=energy.detach(),
        energies=energies.detach().to(torch.float64),
        forces=-gradients[0],
        strain=_strain_gradient(graph, *gradients) if strain else None,
    )


def _strain_gradient(graph: Graph, by_position: Tensor, by_cell: Tensor) -> Tensor:
    moved = graph.sum_by_structure(graph.positions[:, :, None] * by_position[:, None, :])
    gradient = moved + graph.cell.transpose(1, 2) @ by_cell
    return (gradient + gradient.transpose(1, 2)) / 2


def stress_of(strain_gradient: Tensor, cell: Tensor) -> Tensor:
    """(S, 6) eV/Å^3 of dE/d(strain) (S, 3, 3), ASE sign and order; ModelError where a cell has no volume."""
    volume = (cell[:, 0] * torch.linalg.cross(cell[:, 1], cell[:, 2])).sum(1).abs()
    if bool((volume == 0).any()):
        raise ModelError("stress was asked for a structure without a volume: give it three cell vectors")
    stress = strain_gradient / volume.to(strain_gradient.device)[:, None, None]
    return torch.stack([stress[:, a, b] for a, b in ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))], dim=1)
