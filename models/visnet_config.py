"""Settings of a ViSNet."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from .elements import element_symbols
from .errors import ModelError
from .layers import (
    ACTIVATIONS,
    ORIGINAL_ACTIVATIONS,
    check_choice,
    check_energy_settings,
    check_neighbor_norm,
    check_sizes,
    check_switch,
)
from .radial import check_radial_settings

HEADS = ("scalar", "dipole", "electronic_spatial_extent", "vector")
_WITH_MASSES = ("dipole", "electronic_spatial_extent")


@dataclass(frozen=True)
class ViSNetConfig:
    """Settings of a ViSNet, in the smooth definition of this package or in that of the original codes.

    The last group belongs to the original definition, that is, to checkpoints of the original codes.
    """

    elements: tuple[str, ...]
    cutoff: float = 5.0  # Å
    hidden_channels: int = 128
    num_layers: int = 6
    num_heads: int = 8
    num_rbf: int = 32
    lmax: int = 2  # highest order of the spherical harmonics of the directions, 1 or 2
    envelope_exponent: int = 5  # smooth variant only
    neighbor_norm: float = 1.0  # sums over neighbors are divided by this fixed number; smooth variant only
    energy_scale: float = 1.0  # eV, or the unit of the quantity
    energy_shift: tuple[float, ...] = field(default=())  # eV per element, in the order of atomic numbers
    variant: str = "smooth"  # or "original"
    vertex_type: str = "none"  # improper angles: "none", "edge" (in the edge update) or "node" (in the node update)
    rbf_type: str = "expnorm"  # or "gauss"
    trainable_rbf: bool = False
    activation: str = "silu"
    attn_activation: str = "silu"
    head: str = "scalar"  # or "dipole" (Eq. 21), "electronic_spatial_extent" (Eq. 22), "vector"
    quantity: str = "energy"  # what a scalar head predicts; for the other heads their own name
    unit: str = ""  # of a scalar other than the energy, for people to read; nothing is converted
    masses: tuple[float, ...] = field(default=())  # amu per element, for heads that refer to the center of mass

    vecnorm_type: str = "none"  # normalization of vectors: "none", "max_min" or "rms"
    trainable_vecnorm: bool = False
    reduce: str = "add"  # over the atoms of a structure; or "mean"
    structure_shift: float = 0.0  # eV (or the unit of the quantity), added once per structure
    max_num_neighbors: int | None = None  # keep that many sources of an atom, itself included, the first by index
    trained_max_num_neighbors: int | None = None  # the limit it was trained with, which is not applied

    def __post_init__(self) -> None:
        elements = element_symbols(self.elements)
        object.__setattr__(self, "elements", elements)
        object.__setattr__(self, "energy_shift", tuple(self.energy_shift) or (0.0,) * len(elements))
        object.__setattr__(self, "masses", tuple(self.masses))
        if self.head != "scalar" and self.quantity == "energy":
            object.__setattr__(self, "quantity", self.head)
        self._check_sizes()
        self._check_choices()
        self._check_head()
        if self.variant == "smooth":
            self._check_only_original()
        elif self.neighbor_norm != 1.0:
            raise ModelError(
                f"neighbor_norm is {self.neighbor_norm}: the original variant does not divide its sums. Leave it out"
            )

    @property
    def functions(self) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
        """The activation and that of the attention."""
        known = ORIGINAL_ACTIVATIONS if self.variant == "original" else ACTIVATIONS
        return known[self.activation], known[self.attn_activation]

    def _check_sizes(self) -> None:
        check_radial_settings(self.cutoff, self.num_rbf, self.envelope_exponent)
        check_sizes(hidden_channels=self.hidden_channels, num_layers=self.num_layers, num_heads=self.num_heads)
        check_energy_settings(self.energy_scale, self.energy_shift, self.elements)
        check_neighbor_norm(self.neighbor_norm)
        if self.lmax not in (1, 2):
            raise ModelError(f"lmax is {self.lmax}: ViSNet is defined for 1 and 2")
        if self.hidden_channels % self.num_heads or self.hidden_channels % 2:
            raise ModelError(
                f"hidden_channels {self.hidden_channels} does not divide into {self.num_heads} heads, or is odd: "
                "choose an even multiple of num_heads"
            )
        for name in ("max_num_neighbors", "trained_max_num_neighbors"):
            limit = getattr(self, name)
            if limit is not None:
                check_sizes(**{name: limit})

    def _check_choices(self) -> None:
        check_choice("ViSNet variant", self.variant, ("smooth", "original"))
        check_choice("vertex_type", self.vertex_type, ("none", "edge", "node"))
        check_choice("vecnorm_type", self.vecnorm_type, ("none", "max_min", "rms"))
        check_choice("rbf_type", self.rbf_type, ("expnorm", "gauss"))
        check_choice("activation", self.activation, tuple(ACTIVATIONS))
        check_choice("attn_activation", self.attn_activation, tuple(ACTIVATIONS))
        check_choice("reduce", self.reduce, ("add", "mean"))
        check_choice("head", self.head, HEADS)
        for name in ("trainable_rbf", "trainable_vecnorm"):
            check_switch(name, getattr(self, name))

    def _check_head(self) -> None:
        if not (isinstance(self.structure_shift, int | float) and math.isfinite(self.structure_shift)):
            raise ModelError(f"structure_shift is {self.structure_shift!r}: it must be a finite number")
        if self.head not in ("scalar", self.quantity):
            raise ModelError(f"a {self.head} head predicts {self.head}, not {self.quantity!r}: leave quantity out")
        if self.head == "scalar" and (self.quantity in HEADS or not self.quantity):
            raise ModelError(f"quantity is {self.quantity!r}: a scalar head predicts the energy or another scalar")
        if self.unit and (self.head != "scalar" or self.quantity == "energy"):
            raise ModelError(
                f"unit is {self.unit!r}: energies are in eV, dipoles in e Å, areas in Å^2; it names that of any other "
                "scalar. Leave it out"
            )
        if self.head != "scalar" and any(self.energy_shift):
            raise ModelError(f"energy_shift {self.energy_shift} has no meaning for a {self.head} head: leave it out")
        wanted = len(self.elements) if self.head in _WITH_MASSES else 0
        good = all(isinstance(mass, int | float) and 0 < mass < math.inf for mass in self.masses)
        if len(self.masses) != wanted or not good:
            needed = f"{wanted} positive masses (amu), one per element" if wanted else "no masses"
            raise ModelError(f"masses is {self.masses}: a {self.head} head needs {needed}")

    def _check_only_original(self) -> None:
        defaults: dict[str, Any] = {
            "vecnorm_type": "none",  # both norms divide by lengths that vanish at symmetric sites
            "trainable_vecnorm": False,
            "reduce": "add",
            "structure_shift": 0.0,
            "max_num_neighbors": None,
            "trained_max_num_neighbors": None,
        }
        for name, value in defaults.items():
            if getattr(self, name) != value:
                raise ModelError(
                    f'{name} is {getattr(self, name)!r}: only variant="original" has it, because no smooth, '
                    "size-extensive potential comes of it. Leave it out, or set the variant"
                )
