"""The ASE calculator."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from numpy.typing import NDArray

from mlcalc.engine.batches import Batches
from mlcalc.engine.cautions import Cautions
from mlcalc.engine.engine import Engine, check_distance
from mlcalc.errors import EmptyStructureError, UnavailablePropertyError
from mlcalc.evaluation import Evaluation, evaluate_batches
from mlcalc.gpu.calculator_steps import DeviceSteps
from mlcalc.graphs.graphs import GraphSeries
from mlcalc.graphs.neighbors import DEFAULT_MAX_EDGES, NeighborList
from mlcalc.graphs.snapshot import Snapshot
from mlcalc.graphs.validation import MIN_DISTANCE, validate_structure
from mlcalc.ground.remedies import SET_PBC
from mlcalc.hessians import engine_hessian
from mlcalc.model_file.model_file import load_model
from mlcalc.models import Potential, Prediction


class MLCalculator(Calculator):
    """ASE calculator of a potential: energy, free_energy, energies, forces, stress in ASE's units.

    Models of another quantity give that one only: get_dipole_moment(atoms), (3,) e Å, and get_property(name, atoms)
    with the names "electronic_spatial_extent" (Å^2), "vector" and "scalar" (in the unit of the training data).

    model: name of a bundled model, path of a model file, or any Potential; the caller's object is not changed.
    device: "cpu", "cuda", "cuda:1" or "auto".
    dtype: precision of the network, "float64" or the faster "float32"; geometry and sums are float64 in any case.
    kernels: "auto" for the fastest way to compute there is; "fused", "torch" or "compile" to choose it (see Engine).
    All give the same within 1e-4 eV/Å in float32 and 1e-8 in float64 (up to forces of 10 eV/Å; beyond, in proportion);
    `calc.engine.path` tells which one runs.
    skin: neighbor lists are searched within cutoff + skin (Å) and reused until atoms or cell have moved too far;
    results do not depend on it.
    min_distance: closer atoms (Å) are an error.

    Stress is that of a structure periodic in all three directions; elsewhere asking for it, or for what the model does
    not predict, raises UnavailablePropertyError, a PropertyNotImplementedError.  Errors leave no results behind.
    A PhysicsWarning says, once per calculator, where a model of an original code is not what it seems.
    """

    implemented_properties = ["energy", "free_energy", "energies", "forces", "stress"]  # noqa: RUF012 - as in ASE; of most models

    def __init__(
        self,
        model: str | os.PathLike[str] | Potential,
        *,
        device: str | torch.device = "cpu",
        dtype: str = "float64",
        kernels: str = "auto",
        skin: float = 1.0,
        neighbor_backend: str = "matscipy",
        min_distance: float = MIN_DISTANCE,
        max_edges: int = DEFAULT_MAX_EDGES,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # no **kwargs: ASE would take a mistyped one for a parameter
        potential: Potential = load_model(model) if isinstance(model, str | os.PathLike) else model
        check_distance(min_distance)
        self._structure: Snapshot | None = None
        self._edges = 0
        self.engine = Engine(potential, device=device, dtype=dtype, kernels=kernels)
        self.implemented_properties = self.engine.scope.properties
        self.cautions = Cautions.of(self.engine.potential)
        self.info = getattr(potential, "info", None)
        self.model_name = str(getattr(self.info, "name", "") or type(potential).__name__)
        cutoff = self.engine.scope.cutoff
        neighbors = NeighborList(cutoff, skin=skin, backend=neighbor_backend, max_edges=max_edges)
        self._graphs = GraphSeries(self.engine.scope, neighbors, min_distance=min_distance)
        self._steps = DeviceSteps.of(self.engine, neighbors, min_distance=min_distance)
        self._batches = Batches(self.engine, None, neighbor_backend, min_distance, max_edges)
        self._lock = threading.RLock()

    @property
    def atoms(self) -> Atoms | None:
        """A copy of the structure that the results belong to, made when asked for."""
        return None if self._structure is None else self._structure.atoms()

    @atoms.setter
    def atoms(self, atoms: Atoms | None) -> None:
        self._structure = None if atoms is None else Snapshot(atoms)

    @property
    def neighbors(self) -> NeighborList:
        """The neighbor list, with the number of its rebuilds."""
        return self._graphs.neighbors

    @property
    def edges(self) -> int:
        """Edges of the graph of the last structure; 0 before the first."""
        return self._edges

    @property
    def min_distance(self) -> float:
        """Closer atoms (Å) are an error."""
        return self._graphs.min_distance

    @property
    def energy_jumps(self) -> bool:
        """Whether the energy jumps when an atom crosses the cutoff, for which `run_nve` looks."""
        return self.engine.scope.energy_jumps

    @property
    def dtype(self) -> str:
        """Precision of the network, "float32" or "float64"; protocols look for it where rounding matters."""
        return str(self.engine.dtype).removeprefix("torch.")

    def evaluate(
        self, structures: Sequence[Atoms], *, forces: bool = True, stress: bool = False, progress: bool = False
    ) -> list[Evaluation]:
        """One Evaluation per structure, in order, computed in batches as by `mlcalc.evaluate`; leaves `results` alone.

        Protocols of mlcalc.md_protocols look for this method and hand over all structures that they have at once.
        """
        return evaluate_batches(self.engine, self._batches, structures, forces=forces, stress=stress, progress=progress)

    def hessian(
        self,
        atoms: Atoms,
        indices: Sequence[int] | None = None,
        *,
        chunk: int | None = None,
        constraints: bool = False,
        progress: bool | None = False,
    ) -> NDArray[np.float64]:
        """Second derivatives of the energy, (M, 3, N, 3) eV/Å^2 for the M atoms chosen, as by `mlcalc.hessian`.

        Protocols of mlcalc.md_protocols look for this method.
        """
        return engine_hessian(
            self.engine,
            atoms,
            indices=indices,
            chunk=chunk,
            constraints=constraints,
            progress=progress,
            min_distance=self.min_distance,
        )

    def describe(self) -> dict[str, Any]:
        """What the numbers depend on: a run in a folder is continued only with the same.

        Not the path of the engine: another one, on another machine, gives the same within rounding.
        """
        return {
            "model": self.model_name,
            "contents_sha256": getattr(self.info, "sha256", None),
            "cutoff": self.engine.scope.cutoff,
            "dtype": self.dtype,
        }

    def __repr__(self) -> str:
        engine = self.engine
        return f"<MLCalculator {self.model_name}: {engine.scope.range_text()}; {engine.running_text()}>"

    __str__ = __repr__

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
                "there is no structure to calculate", remedies=["pass Atoms", "attach the calculator to some"]
            )
        try:
            self._structure = Snapshot(atoms)
            results = self._evaluate(atoms, properties)
        except BaseException:
            self.reset()  # type: ignore[no-untyped-call]  # or ASE would take the failed structure for an already calculated one
            raise
        self.results = results

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """ASE's check_state, exact and without its copies: what has changed since the results were computed."""
        if self._structure is None:
            return list(all_changes)
        if tol > 1e-15 or self.ignored_changes:
            return list(super().check_state(atoms, tol))  # type: ignore[no-untyped-call]
        return self._structure.changes(atoms)

    def get_property(self, name: str, atoms: Atoms | None = None, allow_calculation: bool = True) -> Any:
        """ASE's get_property, one thread at a time; UnavailablePropertyError for what the model does not predict."""
        if name not in self.implemented_properties:
            raise self.engine.scope.unavailable(name)
        with self._lock:
            return super().get_property(name, atoms, allow_calculation)  # type: ignore[no-untyped-call]

    def _evaluate(self, atoms: Atoms, properties: Sequence[str]) -> dict[str, Any]:
        scope = self.engine.scope
        stress = scope.is_potential and bool(np.logical_and.reduce(atoms.pbc))
        if "stress" in properties and not stress:
            validate_structure(atoms, elements=scope.elements, min_distance=self.min_distance)
            raise _no_stress(atoms) if scope.is_potential else scope.unavailable("stress")
        if self._steps is not None and (prediction := self._steps.prediction(atoms, stress=stress)) is not None:
            self._edges = self._steps.edges
            return self._results(prediction)
        graph = self._graphs.graph(atoms)
        self._edges = graph.edges.shape[1]
        self.cautions.tell(atoms, graph)
        # all of it at once: scripts ask for the energy first and for the forces of the same structure next
        return self._results(self.engine.evaluate(graph, forces=True, stress=stress))

    def _results(self, prediction: Prediction) -> dict[str, Any]:
        """ASE's results of the one structure: floats, and arrays without the axis of structures."""
        results: dict[str, Any] = {}
        for name in self.implemented_properties:
            value = getattr(prediction, "energy" if name == "free_energy" else name)
            if value is None:
                continue
            array = value.numpy() if name in ("energies", "forces") else value[0].numpy()
            results[name] = array if array.ndim else float(array)
        return results

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_lock", "_steps")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.RLock()
        self._steps = DeviceSteps.of(self.engine, self.neighbors, min_distance=self.min_distance)


def _no_stress(atoms: Atoms) -> UnavailablePropertyError:
    return UnavailablePropertyError(
        f"stress needs a volume, but the structure is periodic along {int(atoms.pbc.sum())} of 3 directions "
        f"(pbc = {atoms.pbc.tolist()})",
        setting="pbc",
        value=atoms.pbc.tolist(),
        remedies=[replace(SET_PBC, python="set all of atoms.pbc to True, with a cell,", why="if that is meant")],
    )
