"""Settings of HVNet, HPNet and HTNet."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field, fields
from typing import Any

from .elements import element_symbols
from .errors import ModelError
from .hvnet_subnetworks import SUB_NETWORKS
from .layers import check_choice, check_energy_settings, check_neighbor_norm, check_sizes, check_switch
from .radial import check_radial_settings

_ALLOWED: dict[str, Collection[str]] = {
    "variant": ("smooth", "dgl", "pyg"),
    "sub_network": SUB_NETWORKS,
    "aggregation": ("mean", "sum"),
    "radial_basis": ("gaussian", "spherical_bessel", "bernstein"),
    "envelope": ("polynomial", "exponential"),
}
# settings that only some variants have; elsewhere they must keep their defaults
_ONLY_IN = {
    "neighbor_norm": ("smooth",),
    "sub_network": ("smooth",),
    "envelope_exponent": ("smooth", "pyg"),
    "structure_shift": ("dgl", "pyg"),
    "intensive": ("dgl", "pyg"),
    "legacy_mic": ("dgl",),
    "n_ref": ("dgl",),
    "n_relations": ("dgl",),
    "aggregation": ("dgl",),
    "radial_basis": ("pyg",),
    "envelope": ("pyg",),
}
_LARGEST_BERNSTEIN = 128  # beyond, the binomial coefficients exceed float32


@dataclass(frozen=True)
class HVNetConfig:
    """Settings of an HVNet, HPNet or HTNet; the last eight belong to the original networks only."""

    elements: tuple[str, ...]
    cutoff: float = 5.0  # Å
    hidden_channels: int = 128
    num_layers: int = 4
    num_rbf: int = 20
    envelope_exponent: int = 5
    neighbor_norm: float = 1.0  # radial sums are divided by this fixed number, about sqrt(mean number of neighbors)
    energy_scale: float = 1.0  # eV
    energy_shift: tuple[float, ...] = field(default=())  # eV per element, in the order of atomic numbers
    variant: str = "smooth"  # "dgl" and "pyg" are the published networks, for their checkpoints
    sub_network: str = "rmconv"  # or "painn"
    structure_shift: float = 0.0  # eV, added once per structure
    legacy_mic: bool = False  # dgl: of all images of a neighbor only the nearest counts
    n_ref: int | None = None  # dgl: atoms of the training structures, for an extensive pooled readout
    n_relations: int | None = None  # dgl: divisor of the updates; None: elements with neighbors, in each structure
    aggregation: str = "mean"  # dgl: over elements; "sum" for weights from before September 2021
    intensive: bool = False  # dgl, pyg: mean over atoms, not sum
    radial_basis: str = "gaussian"  # pyg
    envelope: str = "polynomial"  # pyg

    def __post_init__(self) -> None:
        elements = element_symbols(self.elements)
        object.__setattr__(self, "elements", elements)
        object.__setattr__(self, "energy_shift", tuple(self.energy_shift) or (0.0,) * len(elements))
        self._check_choices()
        # the published pyg networks may have any exponent from 1 on; the smooth ones need a flat top
        check_sizes(envelope_exponent=self.envelope_exponent)
        exponent = 3 if self.variant == "pyg" else self.envelope_exponent
        check_radial_settings(self.cutoff, self.num_rbf, exponent)
        check_sizes(hidden_channels=self.hidden_channels, num_layers=self.num_layers)
        check_energy_settings(self.energy_scale, self.energy_shift, elements)
        if not math.isfinite(self.structure_shift):
            raise ModelError(f"structure_shift is {self.structure_shift}: it must be a finite energy in eV")
        check_neighbor_norm(self.neighbor_norm)
        self._check_combinations()

    def _check_choices(self) -> None:
        for name, allowed in _ALLOWED.items():
            check_choice(f"HVNet {name}", getattr(self, name), allowed)
        for name in ("legacy_mic", "intensive"):
            check_switch(name, getattr(self, name))
        for name in ("n_ref", "n_relations"):
            if getattr(self, name) is not None:
                check_sizes(**{name: getattr(self, name)})

    def _check_combinations(self) -> None:
        for name, variants in _ONLY_IN.items():
            value, default = getattr(self, name), _DEFAULTS[name]
            if value != default and self.variant not in variants:
                raise ModelError(
                    f"{name} {value!r} means nothing for variant {self.variant!r}: it belongs to "
                    f"{' and '.join(map(repr, variants))}. Leave it at {default!r}, or choose another variant"
                )
        self._check_original()

    def _check_original(self) -> None:
        if self.n_ref is not None and self.intensive:
            raise ModelError("n_ref and intensive exclude each other: a mean over atoms has no reference size")
        if self.n_relations is not None and self.aggregation == "sum":
            raise ModelError("n_relations divides a mean over elements: leave it out with aggregation 'sum'")
        if self.variant == "pyg" and self.hidden_channels % 2:
            raise ModelError(f"hidden_channels is {self.hidden_channels}: variant 'pyg' needs an even number")
        if self.envelope == "exponential" and self.envelope_exponent != _DEFAULTS["envelope_exponent"]:
            raise ModelError(f"envelope_exponent {self.envelope_exponent} means nothing for the exponential envelope")
        if self.radial_basis == "bernstein" and self.num_rbf > _LARGEST_BERNSTEIN:
            raise ModelError(f"num_rbf is {self.num_rbf}: there are at most {_LARGEST_BERNSTEIN} Bernstein polynomials")


_DEFAULTS: dict[str, Any] = {field.name: field.default for field in fields(HVNetConfig)}
