"""What a model predicts, and for which structures that is defined."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mlcalc.errors import StructureError, UnavailablePropertyError
from mlcalc.ground.errors import Use

if TYPE_CHECKING:
    from mlcalc.models import Graph

_TRAINED = "the unit of its training data"
_WORDS = {  # of the quantities whose meaning is fixed: name and unit
    "dipole": ("the dipole moment", "e Å"),
    "electronic_spatial_extent": ("the electronic spatial extent", "Å^2"),
    "vector": ("a vector", _TRAINED),
}
_ABOUT_CENTER_OF_MASS = ("dipole", "electronic_spatial_extent")
_SHOWN = 8  # elements named
_WHOLE_MOLECULE = Use(
    "pbc",
    False,
    "for a molecule whose atoms are whole, not wrapped into the cell one by one",
    python="set atoms.pbc = False",
    file='make the file say so (extended XYZ: pbc="F F F")',
)


@dataclass(frozen=True)
class Scope:
    """What may be asked of a model; the defaults are those of a well-behaved potential."""

    cutoff: float  # Å
    elements: tuple[str, ...] | None = None  # symbols; None: all
    quantity: str = "energy"
    unit: str = ""  # of a scalar that has none of its own; empty where it is not known
    periodic: bool = True  # whether periodic images are defined
    has_atomic_energies: bool = True
    energy_jumps: bool = False  # when an atom crosses the cutoff

    @classmethod
    def of(cls, potential: Any) -> Scope:
        """The scope that a network states; what another Potential does not say is as for a well-behaved one."""
        names = ("elements", "quantity", "unit", "periodic", "has_atomic_energies", "energy_jumps")
        said = {name: getattr(potential, name) for name in names if hasattr(potential, name)}
        if said.get("elements") is not None:
            said["elements"] = tuple(said["elements"])
        if said.get("quantity", "energy") != "energy":
            said["energy_jumps"] = False  # there is no energy
        return cls(cutoff=float(potential.cutoff), **said)

    @cached_property
    def is_potential(self) -> bool:
        return self.quantity == "energy"

    @property
    def field(self) -> str:
        """Where the quantity stands in a Prediction, an Evaluation and the calculator's results."""
        return self.quantity if self.quantity in ("energy", *_WORDS) else "scalar"

    @property
    def properties(self) -> list[str]:
        """The calculator's properties."""
        if not self.is_potential:
            number = ["scalar"] if self.quantity in _ABOUT_CENTER_OF_MASS else []  # what such a model was trained on
            return [self.field, *number]
        energies = ["energies"] if self.has_atomic_energies else []
        return ["energy", "free_energy", *energies, "forces", "stress"]

    @property
    def allows_any_cell(self) -> bool:
        """Whether every periodic structure has an answer."""
        return self.periodic and self.quantity not in _ABOUT_CENTER_OF_MASS

    def describe(self) -> str:
        """The quantity in words, with the name to ask for and its unit."""
        words, unit = (
            ("the energy", "eV") if self.is_potential else _WORDS.get(self.quantity, ("", self.unit or _TRAINED))
        )
        return f"{words or self.quantity} (property {self.field!r}, in {unit})"

    def range_text(self) -> str:
        """Elements and cutoff in a few words."""
        known = "any element" if self.elements is None else " ".join(self.elements[:_SHOWN])
        more = len(self.elements or ()) - _SHOWN
        return f"{known}{f' and {more} more elements' if more > 0 else ''}, cutoff {self.cutoff:g} Å"

    def unavailable(self, name: str) -> UnavailablePropertyError:
        """The error for a property that the model does not have."""
        remedies: list[str]
        if name == "energies" and self.is_potential:
            why = (
                "its energy is read out of the whole structure and is no sum over atoms, so there are no atomic "
                "energies"
            )
            remedies = ["ask for the energy", "take a model with a readout per atom"]
        elif self.is_potential:
            why, remedies = f"it has {', '.join(self.properties)}", []
        else:
            why = "it has neither energy nor forces nor stress"
            remedies = [f"ask it for {self.field!r}", "take a potential for energies, forces, dynamics and relaxation"]
        text = f"the model has no {name!r}: it predicts {self.describe()}; {why}"
        return UnavailablePropertyError(text, setting="properties", value=name, remedies=remedies)

    def require_potential(self, purpose: str) -> None:
        """UnavailablePropertyError for models of another quantity."""
        if not self.is_potential:
            raise UnavailablePropertyError(
                f"{purpose} needs a potential, but the model predicts {self.describe()}",
                setting="model",
                value=self.quantity,
                remedies=["choose a potential"],
            )

    def check_pbc(self, pbc: NDArray[np.bool_]) -> None:
        """StructureError for a periodic structure where positions are measured from the center of mass."""
        if self.quantity in _ABOUT_CENTER_OF_MASS and pbc.any():
            raise StructureError(
                f"the model predicts {self.describe()} from positions about the center of mass, which a periodic "
                f"structure (pbc = {pbc.tolist()}) does not have",
                setting="pbc",
                value=pbc.tolist(),
                remedies=[_WHOLE_MOLECULE],
            )

    def check_images(self, graph: Graph) -> None:
        """StructureError for a structure whose edges cross a boundary, where the network knows no images."""
        if self.periodic or not bool(graph.shifts.any()):
            return
        crossing = graph.shifts.any(dim=1).nonzero()[:, 0]
        i, j = graph.edges[:, int(crossing[0])].tolist()
        raise StructureError(
            f"the model is defined for molecules only, but {len(crossing)} of {len(graph.shifts)} edges cross the "
            f"boundary of the cell (first: atom {i} to atom {j})",
            setting="pbc",
            remedies=[_WHOLE_MOLECULE, "take another model for a crystal or a liquid"],
        )
