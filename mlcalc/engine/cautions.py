"""What a user of a model has to know where it matters, said once and not at every step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray

from mlcalc.graphs.validation import AXES
from mlcalc.ground.errors import Use
from mlcalc.ground.warn import warn
from mlcalc.md_protocols.errors import PhysicsWarning
from mlcalc.models import Graph
from mlcalc.scope import Scope


@dataclass
class Cautions:
    """The cautions that a model still owes; of plain values, so that copies of a calculator know what was said."""

    cutoff: float  # Å
    nearest_image: bool = False  # each pair counts once, by its nearest image
    limit: int | None = None  # neighbors kept, the atom itself included
    trained_limit: int | None = None  # neighbors kept in training only
    energy_jumps: bool = False  # when an atom crosses the cutoff
    said: set[str] = field(default_factory=set)
    momenta: NDArray[np.float64] | None = field(default=None, compare=False)  # of the structure before

    @classmethod
    def of(cls, potential: Any) -> Cautions:
        """The cautions that belong to a network's settings; any other Potential needs none."""
        config = getattr(potential, "config", None)
        return cls(
            cutoff=float(potential.cutoff),
            nearest_image=bool(getattr(config, "legacy_mic", False)),
            limit=getattr(config, "max_num_neighbors", None),
            trained_limit=getattr(config, "trained_max_num_neighbors", None),
            energy_jumps=Scope.of(potential).energy_jumps,
        )

    def tell(self, atoms: Atoms, graph: Graph, *, dynamics: bool = True, where: str = "") -> None:
        """A PhysicsWarning for each caution that this structure is the first to call for.

        Without `dynamics` the structures do not follow one another in time, whatever momenta they have.
        """
        if not (self.nearest_image or self.limit or self.trained_limit or self.energy_jumps):
            return
        for name, warning in self._due(atoms, graph, dynamics):
            self.said.add(name)
            warn(warning.at(where) if where else warning)

    def _due(self, atoms: Atoms, graph: Graph, dynamics: bool) -> Iterator[tuple[str, PhysicsWarning]]:
        if self.nearest_image and "images" not in self.said and (warning := self._small_box(atoms)):
            yield "images", warning
        if (self.limit or self.trained_limit) and "neighbors" not in self.said and (warning := self._crowd(graph)):
            yield "neighbors", warning
        if self.energy_jumps and "jumps" not in self.said and dynamics and self._moves(atoms):
            yield "jumps", PhysicsWarning(_JUMPS, remedies=_AGAINST_JUMPS)

    def _moves(self, atoms: Atoms) -> bool:
        """Whether momenta have changed since the last call, as they do in dynamics and in nothing else."""
        before, now = self.momenta, atoms.arrays.get("momenta")
        self.momenta = None if now is None else now.copy()
        return before is not None and now is not None and before.shape == now.shape and not np.array_equal(before, now)

    def _small_box(self, atoms: Atoms) -> PhysicsWarning | None:
        periodic = np.flatnonzero(atoms.pbc)
        heights = periodic_heights(atoms.cell.array, atoms.pbc)
        small = [(axis, height) for axis, height in zip(periodic, heights, strict=True) if height < 2 * self.cutoff]
        if not small:
            return None
        named = " and ".join(f"{height:.4g} Å along {AXES[axis]}" for axis, height in small)
        return PhysicsWarning(
            f"the height of the cell is {named}, less than 2 x cutoff = {2 * self.cutoff:g} Å, and the model was "
            "imported with legacy_mic=True: of each pair of atoms only the nearest image counts, so that atoms lack "
            "neighbors, and energy and forces have kinks and ties where two images are equally near (phonons and "
            "elastic constants are wrong)",
            value=float(min(height for _, height in small)),
            limit=2 * self.cutoff,
            remedies=[
                f"repeat the structure until every height is at least {2 * self.cutoff:g} Å",
                Use("legacy_mic", False, "to count all images", python="import the checkpoint with legacy_mic=False"),
            ],
        )

    def _crowd(self, graph: Graph) -> PhysicsWarning | None:
        limit = self.limit or self.trained_limit or 0
        if graph.edges.shape[1] < limit:
            return None
        counts = torch.bincount(graph.edges[0], minlength=len(graph.numbers)) + 1
        over = (counts > limit).nonzero()[:, 0]
        if not len(over):
            return None
        first = int(over[0])
        found = (
            f"atom {first} has {int(counts[first]) - 1} neighbors within {self.cutoff:g} Å, with itself more than the "
            f"{limit} that this model {'keeps' if self.limit else 'was trained with'} (so have {len(over)} of "
            f"{len(counts)} atoms); "
        )
        known: dict[str, Any] = {"setting": "max_num_neighbors", "value": int(counts.max()) - 1, "limit": limit}
        other = "take a model trained without a limit"
        if self.limit:
            without = Use(
                "max_num_neighbors", None, "to keep all", python="import the checkpoint without max_num_neighbors"
            )
            return PhysicsWarning(
                f"{found}max_num_neighbors={limit} is applied: the {limit} of lowest index are kept, as in the "
                "original. The energy depends on the order of the atoms and jumps when a neighbor enters",
                **known,
                remedies=[without, other],
            )
        applied = Use(
            "max_num_neighbors",
            limit,
            "which applies the limit",
            python=f"compare with the checkpoint imported with max_num_neighbors={limit},",
        )
        return PhysicsWarning(
            f"{found}none is left out here, so these atoms see more than any did in its training",
            **known,
            remedies=[applied, other],
        )


_JUMPS = (
    "the energy of this model jumps when an atom crosses the cutoff: forces are right in between, but if this is a "
    "run at constant energy (NVE), it will drift"
)
_AGAINST_JUMPS = ["use a thermostat", "watch the drift of the conserved energy", "take a smooth model"]


def periodic_heights(cell: NDArray[np.float64], pbc: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Distance between opposite faces (Å) along each periodic direction, of the space that these vectors span."""
    heights: NDArray[np.float64] = 1 / np.linalg.norm(np.linalg.pinv(cell[pbc]), axis=0)
    return heights
