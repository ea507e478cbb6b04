"""Pieces that both networks are built from."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .elements import atomic_number
from .errors import ModelError


def shifted_softplus(x: Tensor) -> Tensor:
    """softplus(x) - ln 2 (SchNet, arXiv:1706.08566), infinitely smooth and zero at zero."""
    return functional.softplus(x) - math.log(2)


def rounded_shifted_softplus(x: Tensor) -> Tensor:
    """softplus(x) - ln 2 as the original ViSNet subtracts it: rounded to float32, in networks of float64 too."""
    return functional.softplus(x) - 0.6931471824645996


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": functional.silu,
    "swish": functional.silu,
    "ssp": shifted_softplus,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
}
ORIGINAL_ACTIVATIONS = ACTIVATIONS | {"ssp": rounded_shifted_softplus}


def plain_norm(squared: Tensor) -> Tensor:
    """|v| from |v|^2, with derivatives of zero where v is zero, as the originals have them."""
    zero = squared == 0
    return torch.sqrt(torch.where(zero, 1.0, squared)).masked_fill(zero, 0.0)


def smooth_norm(squared: Tensor) -> Tensor:
    """sqrt(1 + |v|^2) - 1 from |v|^2: linear far out, but analytic at v = 0, where |v| has a kink.

    Vectors vanish on every site of high symmetry; |v| there would give forces that jump.
    """
    return squared / (torch.sqrt(1 + squared) + 1)


class Activation(nn.Module):
    """An activation function as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def xavier_linear(inputs: int, outputs: int, *, bias: bool = True, parts: int = 1) -> nn.Linear:
    """Linear layer with Xavier-uniform weights and zero bias; drawn as several layers of equal size, joined."""
    linear = nn.Linear(inputs, outputs, bias=bias)
    for part in linear.weight.chunk(parts):
        nn.init.xavier_uniform_(part)
    if bias:
        nn.init.zeros_(linear.bias)
    return linear


class ElementIndex(nn.Module):
    """Position of each atom's element in the model's list of elements, (N,) int64."""

    def __init__(self, elements: Sequence[str]) -> None:
        super().__init__()
        table = torch.full((119,), -1)
        table[[atomic_number(element) for element in elements]] = torch.arange(len(elements))
        self.register_buffer("table", table, persistent=False)
        self.table: Tensor

    def forward(self, numbers: Tensor) -> Tensor:
        index = self.table[numbers]
        if numbers.device.type == "cpu" and bool((index < 0).any()):  # on a GPU the check would stall every step
            unknown = sorted(set(numbers[index < 0].tolist()))
            raise ModelError(f"atomic numbers {unknown} are not among the elements of this model")
        return index


class AtomicEnergies(nn.Module):
    """scale * y_i + shift[element], in float64 whatever the network's precision.

    Total energies reach 1e5 eV, where float32 resolves 0.01 eV, so that only y_i, the part the network learned,
    may be in float32.
    """

    def __init__(self, scale: float, shifts: Sequence[float]) -> None:
        super().__init__()
        self._scale = scale
        self._shifts = tuple(shifts)
        self.register_buffer("shifts", torch.tensor(self._shifts, dtype=torch.float64), persistent=False)
        self.shifts: Tensor

    def _apply(self, fn: Any, recurse: bool = True) -> AtomicEnergies:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # moves to the device, but also rounds to float32
        self.shifts = torch.tensor(self._shifts, dtype=torch.float64, device=self.shifts.device)
        return self

    def forward(self, y: Tensor, element: Tensor) -> Tensor:
        return self._scale * y.to(torch.float64) + self.shifts.index_select(0, element)


def check_energy_settings(scale: float, shifts: Sequence[float], elements: Sequence[str]) -> None:
    """Refuse an energy scale or shifts that do not fit the elements."""
    if len(shifts) != len(elements):
        raise ModelError(
            f"energy_shift has {len(shifts)} values for {len(elements)} elements ({', '.join(elements)}): "
            "give one energy in eV per element, in the order of atomic numbers"
        )
    if not all(math.isfinite(value) for value in (scale, *shifts)) or scale == 0:
        raise ModelError(f"energy_scale {scale} and energy_shift {tuple(shifts)} must be finite, the scale not zero")


def check_sizes(**sizes: int) -> None:
    """Refuse sizes below one."""
    for name, size in sizes.items():
        if not isinstance(size, int) or size < 1:
            raise ModelError(f"{name} is {size!r}: it must be a whole number of at least 1")


def check_choice(name: str, value: object, allowed: Iterable[str]) -> None:
    """Refuse a name that is not one of those allowed."""
    if value not in (known := tuple(allowed)):
        raise ModelError(f"unknown {name} {value!r}: allowed are {', '.join(map(repr, known))}")


def check_switch(name: str, value: object) -> None:
    """Refuse what is neither true nor false."""
    if not isinstance(value, bool):
        raise ModelError(f"{name} is {value!r}: it must be true or false")


def check_neighbor_norm(norm: float) -> None:
    """Refuse a divisor of neighbor sums that is not a positive number."""
    if not (math.isfinite(norm) and norm > 0):
        raise ModelError(f"neighbor_norm is {norm}: it must be a positive number, about sqrt(number of neighbors)")
