"""Random smooth HVNets with biases, and graphs of every kind of structure that their kernels have to know."""

from __future__ import annotations

import numpy as np
import torch
from ase import Atoms
from ase.build import bulk, molecule
from structures import graph_of

from mlcalc.models import Graph, HVNet, HVNetConfig

CUTOFF = 4.2
SUB_NETWORKS = ("rmconv", "painn")
ELEMENTS: tuple[tuple[str, ...], ...] = (("Cu",), ("O", "Cu"), ("H", "C", "O"))


def network(sub_network: str, elements: tuple[str, ...], *, channels: int = 9, layers: int = 3) -> HVNet:
    """A random network, biases included, with forces of the order of 1 eV/Å."""
    torch.manual_seed(3)
    config = HVNetConfig(
        elements=elements, cutoff=CUTOFF, hidden_channels=channels, num_layers=layers, num_rbf=6, neighbor_norm=5.0,
        sub_network=sub_network, energy_scale=2.5, energy_shift=tuple(-7.0 * k for k in range(1, len(elements) + 1)),
    )  # fmt: skip
    made = HVNet(config).to(torch.float64)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return made.requires_grad_(False)


def crystal(elements: tuple[str, ...], repeats: int = 2, seed: int = 5) -> Atoms:
    atoms = bulk("Cu", "fcc", a=3.6, cubic=True).repeat(repeats)
    atoms.symbols[:] = np.random.default_rng(seed).choice(elements, len(atoms))
    atoms.rattle(0.1, seed=seed)
    return atoms


def structures(elements: tuple[str, ...]) -> dict[str, Graph]:
    """Graphs with and without a volume (the latter's names in lower case)."""
    solid = crystal(elements)
    cluster = crystal(elements, seed=6)
    cluster.pbc, cluster.cell = False, np.zeros((3, 3))
    small = bulk(elements[-1], "hcp", a=2.5, c=4.1)  # every atom sees images of itself
    small.rattle(0.1, seed=1)
    far = Atoms([elements[0]] * 3, [[0, 0, 0], [1.1, 0.3, 0], [40.0, 0, 0]])
    found = {
        "Solid": solid, "Small": small, "Batch": [solid, small, crystal(elements, 1)], "cluster": cluster,
        "isolated": far, "single": far[:1], "no edges": far[1:], "batch": [far, cluster, far[2:]],
    }  # fmt: skip
    if elements == ELEMENTS[2]:
        found["molecule"] = molecule("CH3CH2OH")
    return {name: graph_of(atoms, CUTOFF) for name, atoms in found.items()}
