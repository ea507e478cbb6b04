"""Gradients by the weights as first-order autograd gives them, in place of kernels, and what a loss needs of labels."""

from __future__ import annotations

import copy

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from mlcalc.kernels.gradients import EnergyGradient
from mlcalc.models import Graph, Network, Prediction, parameter_gradient, predict
from mlcalc.training.data import Frame
from mlcalc.training.samples import Sample, join_samples, make_sample


class PlainGradients:
    """GradientKernels that any network has."""

    name = "first-order autograd"

    def __init__(self, network: Network) -> None:
        self.network = copy.deepcopy(network)

    def refresh(self, network: Network) -> None:
        self.network.load_state_dict(network.state_dict())

    def forces(self, graph: Graph, *, stress: bool) -> Prediction:
        return predict(self.network, graph, stress=stress)

    def gradient(self, graph: Graph, seeds: Tensor) -> EnergyGradient:
        return EnergyGradient(*parameter_gradient(self.network, graph, seeds))


def labeled(structures: list[Atoms], cutoff: float, *, seed: int = 0) -> Sample:
    """The structures with random labels; a stress where there are three cell vectors, but for every third of those."""
    rng = np.random.default_rng(seed)
    samples = []
    for k, atoms in enumerate(structures):
        stress = rng.normal(size=6) / 50 if atoms.pbc.all() and k % 3 != 2 else None
        samples.append(make_sample(Frame(atoms, rng.normal(), rng.normal(size=(len(atoms), 3)), stress), cutoff))
    return join_samples(samples)


def relative_error(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """Norm of the difference of two gradients over the norm of the second."""
    assert found.keys() == expected.keys()
    assert all(found[name].shape == value.shape for name, value in expected.items())
    pair = [torch.cat([g[name].double().flatten() for name in expected]) for g in (found, expected)]
    return float((pair[0] - pair[1]).norm() / pair[1].norm())
