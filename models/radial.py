"""Radial functions: cutoffs and bases, each with its source."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .errors import ModelError


def polynomial_envelope(distance: Tensor, cutoff: float, exponent: int) -> Tensor:
    """Envelope that falls from 1 to 0 at the cutoff with two continuous derivatives, and is 0 beyond.

    u(x) = 1 - (p+1)(p+2)/2 x^p + p(p+2) x^(p+1) - p(p+1)/2 x^(p+2), x = r/rc, p = exponent
    (Gasteiger et al., arXiv:2003.03123, Eq. 8), computed as (1-x)^3 sum_k<p (k+1)(k+2)/2 x^k: the same polynomial,
    but without the cancellation that makes the first form noisy, even negative, near the cutoff in float32.
    """
    x = distance / cutoff
    series = torch.zeros_like(x)
    for k in reversed(range(exponent)):
        series = series * x + (k + 1) * (k + 2) / 2
    return torch.clamp(1 - x, min=0) ** 3 * series


class BesselBasis(nn.Module):
    """Radial Bessel functions sqrt(2/rc) sin(n pi r / rc) / r, n = 1..num_rbf (arXiv:2003.03123, Eq. 7)."""

    def __init__(self, num_rbf: int, cutoff: float) -> None:
        super().__init__()
        self.cutoff = cutoff
        self.register_buffer("orders", torch.arange(1.0, num_rbf + 1), persistent=False)  # exact in any precision
        self.orders: Tensor

    def forward(self, distance: Tensor) -> Tensor:
        """(E,) Å to (E, num_rbf)."""
        r = distance[:, None]
        return math.sqrt(2 / self.cutoff) * torch.sin(r * self.orders * (math.pi / self.cutoff)) / r


class ExpNormBasis(nn.Module):
    """Gaussians in exp(-r): exp(-beta (exp(-alpha r) - mu_k)^2), alpha = 5 Å / rc (ViSNet paper, after PhysNet)."""

    def __init__(self, num_rbf: int, cutoff: float, *, trainable: bool = False) -> None:
        super().__init__()
        self.alpha = 5.0 / cutoff
        start = math.exp(-cutoff)
        _set(self, trainable, "means", torch.linspace(start, 1.0, num_rbf))
        _set(self, trainable, "betas", torch.full((num_rbf,), (2 / num_rbf * (1 - start)) ** -2))
        self.means: Tensor
        self.betas: Tensor

    def forward(self, distance: Tensor) -> Tensor:
        """(E,) Å to (E, num_rbf), without any cutoff factor."""
        return torch.exp(-self.betas * (torch.exp(-self.alpha * distance[:, None]) - self.means) ** 2)


class GaussianBasis(nn.Module):
    """Gaussians exp(coeff (r - offset_k)^2) on an even grid from 0 to the cutoff (SchNet, arXiv:1706.08566)."""

    def __init__(self, num_rbf: int, cutoff: float, *, trainable: bool = False) -> None:
        super().__init__()
        offset = torch.linspace(0.0, cutoff, num_rbf)
        _set(self, trainable, "coeff", -0.5 / (offset[1] - offset[0]) ** 2)
        _set(self, trainable, "offset", offset)
        self.coeff: Tensor
        self.offset: Tensor

    def forward(self, distance: Tensor) -> Tensor:
        """(E,) Å to (E, num_rbf), without any cutoff factor."""
        return torch.exp(self.coeff * (distance[:, None] - self.offset) ** 2)


def cosine_cutoff(distance: Tensor, cutoff: float) -> Tensor:
    """(1 + cos(pi r / rc)) / 2 within the cutoff, 0 beyond (Behler and Parrinello 2007); its curvature has a step."""
    return torch.where(distance < cutoff, 0.5 * (1 + torch.cos(distance * (math.pi / cutoff))), 0.0)


def _set(module: nn.Module, trainable: bool, name: str, value: Tensor) -> None:
    if trainable:
        module.register_parameter(name, nn.Parameter(value))
    else:
        module.register_buffer(name, value)


def check_radial_settings(cutoff: float, num_rbf: int, envelope_exponent: int) -> None:
    """Refuse settings no radial basis can be built from."""
    if not (math.isfinite(cutoff) and cutoff > 0):
        raise ModelError(f"cutoff is {cutoff}: it must be a positive length in Å, for example 5.0")
    if not isinstance(num_rbf, int) or num_rbf < 2:
        raise ModelError(f"num_rbf is {num_rbf!r}: a whole number of at least 2 radial functions is needed")
    if not isinstance(envelope_exponent, int) or envelope_exponent < 3:  # below, the curvature at r = 0 is not zero
        raise ModelError(f"envelope_exponent is {envelope_exponent!r}: it must be a whole number of at least 3")
