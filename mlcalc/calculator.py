"""The ASE calculator."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes

from mlcalc.engine import Engine, check_distance
from mlcalc.errors import EmptyStructureError
from mlcalc.graphs import graph_from_pairs
from mlcalc.model_file import load_model
from mlcalc.models import Potential
from mlcalc.neighbors import DEFAULT_MAX_EDGES, NeighborList
from mlcalc.validation import MIN_DISTANCE, check_overlap, resolve_cell, validate_structure


class MLCalculator(Calculator):
    """ASE calculator of a potential: energy, free_energy, energies, forces, stress in ASE's units.

    model: name of a bundled model, path of a model file, or any Potential; the caller's object is not changed.
    device: "cpu", "cuda", "cuda:1" or "auto".
    dtype: precision of the network, "float64" or the faster "float32"; geometry and sums are float64 in any case.
    skin: neighbor lists are searched within cutoff + skin (Å) and reused until atoms or cell have moved too far;
    results do not depend on it.
    min_distance: closer atoms (Å) are an error.

    Stress is that of a structure periodic in all three directions; elsewhere asking for it raises
    PropertyNotImplementedError.  Errors leave no results behind.
    """

    implemented_properties = ["energy", "free_energy", "energies", "forces", "stress"]  # noqa: RUF012 - as in ASE

    def __init__(
        self,
        model: str | os.PathLike[str] | Potential,
        *,
        device: str | torch.device = "cpu",
        dtype: str = "float64",
        skin: float = 1.0,
        neighbor_backend: str = "matscipy",
        min_distance: float = MIN_DISTANCE,
        max_edges: int = DEFAULT_MAX_EDGES,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # no **kwargs: ASE would take a mistyped one for a parameter
        potential: Potential = load_model(model) if isinstance(model, str | os.PathLike) else model
        check_distance(min_distance)
        self.engine = Engine(potential, device=device, dtype=dtype)
        self.info = getattr(potential, "info", None)
        self.model_name = str(getattr(self.info, "name", "") or type(potential).__name__)
        self.neighbors = NeighborList(self.engine.cutoff, skin=skin, backend=neighbor_backend, max_edges=max_edges)
        self.min_distance = min_distance
        self._lock = threading.RLock()

    def describe(self) -> dict[str, Any]:
        """What the numbers depend on: a run in a folder is continued only with the same."""
        return {
            "model": self.model_name,
            "sha256": getattr(self.info, "sha256", None),
            "cutoff": self.engine.cutoff,
            "dtype": str(self.engine.dtype).removeprefix("torch."),
        }

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Fill `results` for the structure; nothing is in them before all of it is known to be finite."""
        self.results = {}
        atoms = self.atoms if atoms is None else atoms
        if atoms is None:
            raise EmptyStructureError(
                "there is no structure to calculate: pass Atoms, or attach the calculator to some"
            )
        try:
            super().calculate(atoms, properties, system_changes)  # type: ignore[no-untyped-call]
            results = self._evaluate(atoms, properties)
        except BaseException:
            self.reset()  # type: ignore[no-untyped-call]  # or ASE would take the failed structure for an already calculated one
            raise
        self.results = results

    def get_property(self, name: str, atoms: Atoms | None = None, allow_calculation: bool = True) -> Any:
        """ASE's get_property, one thread at a time."""
        with self._lock:
            return super().get_property(name, atoms, allow_calculation)  # type: ignore[no-untyped-call]

    def _evaluate(self, atoms: Atoms, properties: Sequence[str]) -> dict[str, Any]:
        validate_structure(atoms, elements=self.engine.elements, min_distance=self.min_distance)
        stress = bool(atoms.pbc.all())
        if "stress" in properties and not stress:
            raise PropertyNotImplementedError(
                f"stress needs a volume, but the structure is periodic along {int(atoms.pbc.sum())} of 3 directions "
                f"(pbc = {atoms.pbc.tolist()}): set all of atoms.pbc to True, with a cell, if that is meant"
            )
        cell, pbc = resolve_cell(atoms)
        positions = np.asarray(atoms.positions, dtype=np.float64)
        pairs = self.neighbors.pairs(positions, cell, pbc, atoms.numbers)
        check_overlap(pairs, positions, cell, min_distance=self.min_distance)
        graph = graph_from_pairs(atoms.numbers, positions, cell, pairs)
        # all of it at once: scripts ask for the energy first and for the forces of the same structure next
        result = self.engine.evaluate(graph, forces=True, stress=stress)
        energy = float(result.energy[0])
        results: dict[str, Any] = {"energy": energy, "free_energy": energy, "energies": result.energies.numpy()}
        if result.forces is not None:
            results["forces"] = result.forces.numpy()
        if result.stress is not None:
            results["stress"] = result.stress[0].numpy()
        return results

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.RLock()
