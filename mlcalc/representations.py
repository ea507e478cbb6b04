"""What a network knows of each atom's surroundings, in numbers that do not depend on how the structure is turned."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray

from mlcalc.engine.batches import Batches
from mlcalc.engine.engine import Engine
from mlcalc.graphs.neighbors import DEFAULT_MAX_EDGES
from mlcalc.graphs.validation import MIN_DISTANCE
from mlcalc.md_protocols.errors import ConfigError
from mlcalc.model_file.model_file import load_model
from mlcalc.models import Graph, Network, Potential, join_graphs


def atom_representations(
    model: str | os.PathLike[str] | Potential,
    structures: Sequence[Atoms],
    *,
    device: str | torch.device = "cpu",
    dtype: str = "float64",
    edges_per_batch: int | None = None,
    neighbor_backend: str = "matscipy",
    min_distance: float = MIN_DISTANCE,
    max_edges: int = DEFAULT_MAX_EDGES,
    names: Sequence[str] | None = None,
    progress: bool = False,
) -> list[NDArray[np.float64]]:
    """Inner products <v_i, v_i> of the atoms' direction units after the last layer, (N, F) per structure.

    One number per atom and channel, in the network's own units, summed over the components of all orders.  Direction
    units are sums over neighbors, so these are sums over pairs of them and hold lengths, angles and what the layers
    made of them: the quantity that ViSNet (Wang et al., Nat. Commun. 15, 313 (2024), runtime geometry calculation and
    Fig. 4) shows to tell functional groups apart.  They do not change when the structure is moved or turned, and
    follow the order of the atoms.  Settings, errors and warnings are those of `evaluate`; ConfigError for a model
    without direction units.
    """
    potential: Potential = load_model(model) if isinstance(model, str | os.PathLike) else model
    engine = Engine(potential, device=device, dtype=dtype, kernels="torch")  # the only path that shows states
    if not isinstance(engine.potential, Network):
        raise ConfigError(
            f"{type(engine.potential).__name__} is no Network of mlcalc.models, and so has no direction units to show",
            setting="model",
            remedies=["give a bundled model, a model file or such a network"],
        )
    batches = Batches(engine, edges_per_batch, neighbor_backend, min_distance, max_edges)

    def compute(graphs: Sequence[Graph]) -> list[NDArray[np.float64]]:
        return _inner_products(engine, graphs)

    return batches.map(compute, structures, names=names, progress=progress)


def _inner_products(engine: Engine, graphs: Sequence[Graph]) -> list[NDArray[np.float64]]:
    vectors = engine.node_features(join_graphs(graphs)).vectors
    if vectors is None:
        raise ConfigError(
            f"{type(engine.potential).__name__} has scalars only and no direction units",
            setting="model",
            remedies=["take a network that has, such as ViSNet or HVNet"],
        )
    products = vectors.square().sum(dim=1).numpy()
    ends = np.cumsum([len(graph.numbers) for graph in graphs])
    return [part.copy() for part in np.split(products, ends[:-1])]
