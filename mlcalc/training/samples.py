"""Labeled structures as tensors, and what is computed on batches of them: loss and errors."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from mlcalc.errors import OverlapError
from mlcalc.graphs.graphs import atoms_to_graph
from mlcalc.graphs.validation import MIN_DISTANCE
from mlcalc.md_protocols.errors import ConfigError
from mlcalc.models import Graph, Network, Prediction, join_graphs, predict
from mlcalc.training.config import LossConfig
from mlcalc.training.data import Frame


@dataclass(frozen=True, eq=False)
class Sample:
    """A graph with its labels; one structure, or a batch of them."""

    graph: Graph
    energy: Tensor  # (S,) eV
    forces: Tensor  # (N, 3) eV/Å
    stress: Tensor  # (S, 6) eV/Å^3; NaN where there is no label
    atoms: Tensor  # (S,) number of atoms


@dataclass(frozen=True)
class Errors:
    """Mean absolute and root mean square errors over a set of frames."""

    energy_mae: float  # eV per atom
    forces_mae: float  # eV/Å, per component
    forces_rmse: float  # eV/Å, per component
    stress_mae: float  # eV/Å^3, per component; NaN without labels


def make_sample(frame: Frame, cutoff: float) -> Sample:
    """A frame as tensors, with its neighbor list."""
    stress = frame.stress if frame.stress is not None else np.full(6, np.nan)
    graph = atoms_to_graph(frame.atoms, cutoff)
    _check_distances(graph)
    if frame.stress is None:  # a batch may mix it with others: a box without meaning where there may be no volume
        graph = replace(graph, cell=torch.where(graph.cell.det().abs() < 1e-6, torch.eye(3), graph.cell))
    return Sample(
        graph=graph,
        energy=torch.tensor([frame.energy], dtype=torch.float64),
        forces=torch.tensor(frame.forces, dtype=torch.float64),
        stress=torch.tensor(stress, dtype=torch.float64)[None],
        atoms=torch.tensor([len(frame.atoms)]),
    )


def _check_distances(graph: Graph) -> None:
    distances = graph.edge_vectors().norm(dim=1)
    if len(distances) and float(distances.min()) < MIN_DISTANCE:
        i, j = graph.edges[:, int(distances.argmin())].tolist()
        raise OverlapError(
            f"atoms {i} and {j} are {float(distances.min()):.4g} Å apart, closer than {MIN_DISTANCE} Å: "
            "remove the frame, or check its units (Å)"
        )


def fingerprint(samples: Sequence[Sample]) -> str:
    """A hash of structures and labels, so that a run is not continued on other data."""
    digest = hashlib.sha256()
    for sample in samples:
        graph = sample.graph
        for tensor in (graph.numbers, graph.positions, graph.cell, sample.energy, sample.forces, sample.stress):
            digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def join_samples(samples: Sequence[Sample]) -> Sample:
    """One batch of all samples."""
    return Sample(
        graph=join_graphs([sample.graph for sample in samples]),
        energy=torch.cat([sample.energy for sample in samples]),
        forces=torch.cat([sample.forces for sample in samples]),
        stress=torch.cat([sample.stress for sample in samples]),
        atoms=torch.cat([sample.atoms for sample in samples]),
    )


def loss_of(network: Network, sample: Sample, weights: LossConfig) -> Tensor:
    """The loss of the network's prediction, for autograd by its weights."""
    result = predict(network, sample.graph, stress=stress_counts(sample, weights), create_graph=True)
    return prediction_loss(result, sample, weights)


def stress_counts(sample: Sample, weights: LossConfig) -> bool:
    """Whether the loss of the sample holds a stress."""
    return weights.stress > 0 and not bool(sample.stress.isnan().any(dim=1).all())


def prediction_loss(result: Prediction, sample: Sample, weights: LossConfig) -> Tensor:
    """Weighted sum of the mean squared errors of energy per atom, forces and stress times volume per atom."""
    per_atom = (_energy(result) - sample.energy) / sample.atoms
    loss = weights.energy * (per_atom**2).mean()
    if result.forces is not None:
        loss = loss + weights.forces * ((result.forces - sample.forces) ** 2).mean()
    if result.stress is not None:
        labeled = ~sample.stress.isnan().any(dim=1)
        volume = torch.linalg.det(sample.graph.cell).abs() / sample.atoms
        error = (result.stress - sample.stress)[labeled] * volume[labeled, None]
        loss = loss + weights.stress * (error**2).mean()
    return loss


def errors_of(network: Network, samples: Sequence[Sample], batch_size: int) -> Errors:
    """Errors of the network over all samples."""
    energy, forces, stress = [], [], []
    for start in range(0, len(samples), batch_size):
        batch = join_samples(samples[start : start + batch_size])
        labeled = ~batch.stress.isnan().any(dim=1)
        result = predict(network, batch.graph, stress=bool(labeled.all()))
        energy.append((_energy(result) - batch.energy) / batch.atoms)
        if result.forces is not None:
            forces.append((result.forces - batch.forces).ravel())
        if result.stress is not None:
            stress.append((result.stress - batch.stress).ravel())
    force_errors = torch.cat(forces)
    return Errors(
        energy_mae=float(torch.cat(energy).abs().mean()),
        forces_mae=float(force_errors.abs().mean()),
        forces_rmse=float((force_errors**2).mean().sqrt()),
        stress_mae=float(torch.cat(stress).abs().mean()) if stress else math.nan,
    )


def _energy(result: Prediction) -> Tensor:
    if result.energy is None:
        raise ConfigError("training fits energies and forces, but this network predicts another quantity: set its head")
    return result.energy
