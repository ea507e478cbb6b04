"""InstaDeep's mlip (JAX): a ViSNet of equal size.  Runs in an interpreter of its own, without torch and mlcalc.

Its definition differs in details (envelope, scale of the attention) and its weights are its own random ones: times and
memory are comparable, energies are not.
"""

from __future__ import annotations

import os
import re

import numpy as np
from ase import Atoms

from benchmarks.calls import Call
from benchmarks.cases import Case


class JaxViSNet:
    """One compiled function per structure, without padding: the shapes of the timed calls do not change."""

    def __init__(self, case: Case, structures: list[Atoms]) -> None:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: case.threads])  # XLA starts a thread per core
        import jax

        jax.config.update("jax_enable_x64", case.dtype == "float64")
        from mlip.data import DatasetInfo
        from mlip.models import ForceField, Visnet
        from mlip.models.visnet.config import VisnetConfig

        size = re.fullmatch(r"visnet-(\d+)x(\d+)-l(\d)", case.network)
        if size is None:
            raise ValueError(f"there is no ViSNet of mlip that corresponds to {case.network}")
        channels, layers, lmax = map(int, size.groups())
        config = VisnetConfig(num_channels=channels, num_layers=layers, l_max=lmax, use_legacy_visnet=True)
        numbers = sorted({int(z) for atoms in structures for z in atoms.numbers})
        info = DatasetInfo(atomic_energies_map=dict.fromkeys(numbers, 0.0), graph_cutoff_angstrom=5.0)
        self.field = ForceField.from_mlip_network(Visnet(config, info))
        self.dtype, self.path = case.dtype, f"XLA, {jax.default_backend()}"

    def prepare(self, structures: list[Atoms]) -> tuple[Call, int]:
        import jax
        from mlip.data.chemical_system import ChemicalSystem
        from mlip.graph import Graph
        from mlip.graph.batching_helpers import batch_graphs

        graphs = []
        for atoms in structures:
            periodic = {"cell": np.array(atoms.cell), "pbc": (True, True, True)} if atoms.pbc.all() else {}
            chemical = ChemicalSystem(atomic_numbers=atoms.numbers, positions=atoms.positions, **periodic)
            graphs.append(Graph.from_chemical_system(chemical, 5.0))
        graph = graphs[0] if len(graphs) == 1 else batch_graphs(graphs)
        graph = jax.tree.map(self._rounded, graph)
        compiled = jax.jit(self.field.predict if hasattr(self.field, "predict") else self.field).lower(graph).compile()

        def call() -> tuple[np.ndarray, np.ndarray]:
            prediction = compiled(graph)
            return np.asarray(prediction.energy, dtype=np.float64), np.asarray(prediction.forces, dtype=np.float64)

        return call, len(graph.senders)

    def _rounded(self, value: np.ndarray) -> np.ndarray:
        value = np.asarray(value)
        return value.astype(self.dtype) if value.dtype.kind == "f" else value
