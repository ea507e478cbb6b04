"""What all registered networks have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from .errors import ModelError
from .graph import Graph


@dataclass(frozen=True, eq=False)
class NodeFeatures:
    """State of the atoms after the last layer, what the readout sees."""

    scalars: Tensor  # (N, F)
    vectors: Tensor | None  # (N, S, F), S = 3 or 8 components; None for a network without directions


class Network(nn.Module):
    """A torch module that is a Potential, or a model of another property.

    The class attributes describe a well-behaved potential; a network that is not one says so on itself.
    """

    config: Any  # frozen dataclass of JSON values
    cutoff: float  # Å
    elements: tuple[str, ...]  # symbols, by atomic number
    info: Any  # what its file says of it, once it was loaded from one

    quantity: str = "energy"  # what it predicts; for anything else, `properties` gives it
    unit: str = ""  # of a quantity without a unit of its own; empty where nobody has said it
    structure_shift: float = 0.0  # eV added once per structure, by `predict` and not by `forward`
    has_atomic_energies: bool = True  # False: the energy is no sum over atoms, `forward` gives equal shares of it
    energy_jumps: bool = False  # when an atom crosses the cutoff
    periodic: bool = True  # whether structures with periodic images are defined

    @property
    def receptive_layers(self) -> int | str:
        """Through how many layers of neighbors atoms act on an atomic energy, or why there is no such number."""
        return f"{type(self).__name__} does not say how far its atomic energies reach (receptive_layers)"

    def properties(self, graph: Graph) -> dict[str, Tensor]:
        """Fields of a Prediction by name, for a network whose quantity is not an energy."""
        raise ModelError(f"{type(self).__name__} predicts the energy: it has no other properties")

    def node_features(self, graph: Graph) -> NodeFeatures:
        """State of the atoms after the last layer."""
        raise ModelError(f"{type(self).__name__} does not show the state of its atoms")

    def neighbor_rule(self) -> str:
        """Which of the edges of the full list it uses; empty for all of them."""
        return ""

    def conventions(self) -> tuple[str, ...]:
        """How this network differs from a smooth, size-extensive potential on the full neighbor list, in sentences."""
        return ()

    def caveats(self) -> tuple[str, ...]:
        """What is unphysical about its numbers, in sentences."""
        return ()
