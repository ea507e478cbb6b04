"""The structure on which faster ways to evaluate a network have to agree with the plain one before they are used."""

from __future__ import annotations

from itertools import product

import numpy as np
import torch

from mlcalc.graphs.graphs import graph_from_pairs
from mlcalc.graphs.neighbors import neighbor_pairs
from mlcalc.models import Graph, Potential
from mlcalc.models.elements import atomic_number


def trial_graph(potential: Potential) -> Graph:
    """A small distorted crystal of all elements of the network, with some twenty neighbors per atom."""
    spacing = potential.cutoff / 1.9
    wave = np.sin(np.arange(24.0)).reshape(8, 3)  # no two atoms have the same surroundings
    positions = spacing * (np.array(list(product(range(2), repeat=3))) + 0.15 * wave)
    cell = 2 * spacing * np.eye(3)
    kinds = [atomic_number(element) for element in getattr(potential, "elements", ("H",))]
    numbers = np.array([kinds[k % len(kinds)] for k in range(8)])
    return graph_from_pairs(numbers, positions, cell, neighbor_pairs(positions, cell, True, potential.cutoff))


def largest_error(pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> float:
    """Of found and expected results, relative to the largest number of each or to one; NaN if any is NaN."""
    return float(torch.stack([(a - b).abs().max() / b.abs().max().clamp(min=1) for a, b in pairs]).max())
