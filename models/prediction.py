"""Energies and their derivatives: the only place with autograd."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Protocol, cast, runtime_checkable

import torch
from torch import Tensor

from .errors import ModelError
from .fork_guard import forks
from .graph import Graph
from .network import Network


@runtime_checkable
class Potential(Protocol):
    """Anything that gives atomic energies on a graph whose edges reach out to `cutoff`.

    Where it has an attribute `structure_shift` (eV), `predict` adds that once to the energy of every structure.
    """

    cutoff: float  # Å

    def __call__(self, graph: Graph, /) -> Tensor:
        """Atomic energies, (N,) eV."""
        ...


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a model says of the structures of a graph; float64.

    Potentials fill the first four fields, models of another quantity some of the others.
    """

    energy: Tensor | None = None  # (S,) eV
    energies: Tensor | None = None  # (N,) eV; equal shares where the network has no atomic energies
    forces: Tensor | None = None  # (N, 3) eV/Å
    stress: Tensor | None = None  # (S, 6) eV/Å^3, ASE sign, Voigt order xx, yy, zz, yz, xz, xy
    dipole: Tensor | None = None  # (S, 3) e Å
    electronic_spatial_extent: Tensor | None = None  # (S,) Å^2
    vector: Tensor | None = None  # (S, 3) in the unit the model was trained in
    scalar: Tensor | None = None  # (S,) the one number per structure a property model was trained on, in its unit


def predict(
    potential: Potential, graph: Graph, *, forces: bool = True, stress: bool = False, create_graph: bool = False
) -> Prediction:
    """Energies, forces -dE/dx and stress dE/d(strain) / |det cell| of every structure of the graph.

    The strain is symmetric and acts on positions and cell alike, x -> x (1 + strain).  With `create_graph` the
    results can be differentiated again, in the parameters (training) or the positions (Hessians).  A network of
    another quantity than the energy gives that quantity, and neither forces nor stress.  Raises ModelError, and
    ForkedProcessError where it would wait for ever.
    """
    forks.refuse(graph.positions.device)
    if getattr(potential, "quantity", "energy") != "energy":
        return _property_prediction(cast("Network", potential), graph, stress=stress, create_graph=create_graph)
    with torch.inference_mode(False), torch.enable_grad():
        graph = _recordable(graph)
        positions = graph.positions.detach().requires_grad_(bool(forces))
        strain = graph.cell.new_zeros((graph.n_structures, 3, 3)).requires_grad_(bool(stress))
        energies = _checked(potential(_strained(graph, positions, strain) if stress else _at(graph, positions)), graph)
        energy, energies = _totals(potential, energies, graph)
        wanted = [x for x, asked in ((positions, forces), (strain, stress)) if asked]
        gradients = _gradients(energy.sum(), wanted, create_graph)
    if not create_graph:
        energy, energies = energy.detach(), energies.detach()
    return Prediction(
        energy=energy,
        energies=energies.to(torch.float64),
        forces=-gradients[0] if forces else None,
        stress=_voigt(gradients[-1], graph.cell) if stress else None,
    )


def assembled(
    potential: Potential, graph: Graph, energies: Tensor, *, gradient: Tensor | None, strain_gradient: Tensor | None
) -> Prediction:
    """The prediction from atomic energies (N,) eV as the potential returns them and derivatives found elsewhere.

    gradient: dE/dx (N, 3) eV/Å; strain_gradient: dE/d(symmetric strain) (S, 3, 3) eV; None for what is not wanted.
    """
    energy, energies = _totals(potential, _checked(energies, graph), graph)
    return Prediction(
        energy=energy,
        energies=energies.to(torch.float64),
        forces=None if gradient is None else -gradient,
        stress=None if strain_gradient is None else _voigt(strain_gradient, graph.cell),
    )


def _property_prediction(network: Network, graph: Graph, *, stress: bool, create_graph: bool) -> Prediction:
    if stress:
        raise ModelError(f"this model predicts {network.quantity}, not an energy: it has no stress. Ask without it")
    with torch.enable_grad() if create_graph else torch.no_grad():
        return Prediction(**network.properties(graph))


def hessian_vector_product(potential: Potential, graph: Graph, vectors: Tensor) -> Tensor:
    """Products of the Hessian d2E/dx2 (eV/Å^2) with vectors (..., N, 3), in eV/Å^2 times their unit.

    One forward pass and one backward pass per vector, without ever forming the (3N, 3N) matrix.
    """
    with torch.inference_mode(False), torch.enable_grad():
        graph = _recordable(graph)
        positions = graph.positions.detach().requires_grad_(True)
        energy = graph.sum_by_structure(_checked(potential(_at(graph, positions)), graph)).sum()
        (gradient,) = _gradients(energy, [positions], create_graph=True)
        rows = vectors.to(gradient).reshape(-1, *gradient.shape)
        if not gradient.requires_grad:  # an energy that is linear in the positions, or constant
            return torch.zeros_like(vectors)
        products = [
            torch.autograd.grad(gradient, positions, row, retain_graph=True, materialize_grads=True)[0] for row in rows
        ]
    return torch.stack(products).reshape(vectors.shape).detach()


def parameter_gradient(network: Network, graph: Graph, seeds: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Energies E (S,) eV of the structures, and d(sum_s seeds_s E_s)/d(parameter) by the names of the parameters.

    Of all parameters, whether they ask for gradients or not; zeros for those that do not matter.
    """
    with torch.inference_mode(False), torch.enable_grad():
        graph = _recordable(graph)
        parameters = {name: x.detach().requires_grad_(True) for name, x in network.named_parameters()}
        energies = _checked(torch.func.functional_call(network, parameters, (graph,)), graph)
        energy, _ = _totals(network, energies, graph)
        gradients = _gradients((energy * seeds).sum(), list(parameters.values()), create_graph=False)
    return energy.detach(), dict(zip(parameters, gradients, strict=True))


def _recordable(graph: Graph) -> Graph:
    """The graph with copies of tensors made under torch.inference_mode, of which autograd would take no notice."""
    values = {field.name: getattr(graph, field.name) for field in fields(graph)}
    if not any(value.is_inference() for value in values.values()):
        return graph
    return Graph(**{name: value.clone() for name, value in values.items()})


def _at(graph: Graph, positions: Tensor) -> Graph:
    return replace(graph, positions=positions)


def _strained(graph: Graph, positions: Tensor, strain: Tensor) -> Graph:
    symmetric = (strain + strain.transpose(1, 2)) / 2
    moved = positions + torch.einsum("nx,nxy->ny", positions, symmetric.index_select(0, graph.batch))
    return replace(graph, positions=moved, cell=graph.cell + graph.cell @ symmetric)


def _totals(potential: Potential, energies: Tensor, graph: Graph) -> tuple[Tensor, Tensor]:
    """Energy of each structure and atomic energies, with what the potential adds once per structure.

    That constant can be 1e5 eV: in the sum over atoms, or in equal shares of it, small differences would be rounded.
    """
    energy = graph.sum_by_structure(energies)
    shift = float(getattr(potential, "structure_shift", 0.0))
    if not shift:
        return energy, energies
    return energy + shift, energies + graph.equal_shares(torch.full_like(energy, shift))


def _checked(energies: Tensor, graph: Graph) -> Tensor:
    if energies.shape != graph.numbers.shape:
        raise ModelError(
            f"the potential returned energies of shape {tuple(energies.shape)} for {len(graph.numbers)} atoms: "
            "it must return one energy per atom, shape (N,)"
        )
    return energies


def _gradients(energy: Tensor, inputs: list[Tensor], create_graph: bool) -> list[Tensor]:
    if not inputs:
        return []
    if not energy.requires_grad:  # no edges at all: nothing depends on the geometry
        return [torch.zeros_like(x) for x in inputs]
    return list(torch.autograd.grad(energy, inputs, create_graph=create_graph, materialize_grads=True))


def _voigt(strain_gradient: Tensor, cell: Tensor) -> Tensor:
    volume = torch.linalg.det(cell).abs()
    if bool((volume == 0).any()):
        raise ModelError("stress was asked for a structure without a volume: give it three cell vectors")
    stress = strain_gradient / volume[:, None, None]
    return torch.stack([stress[:, a, b] for a, b in ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))], dim=1)
