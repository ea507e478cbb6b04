"""Functions of single numbers that compilers can vectorize, in float32 and float64."""

from __future__ import annotations

import numpy as np
from numba import types
from numba.extending import overload

from mlcalc.kernels.compile import kernel, kernel_in_order


def exponential(x):
    """exp(x) within two units in the last place, for |x| up to 87 (float32) or 708 (float64), and constant beyond.

    2^n times the Taylor polynomial of the rest |r| < ln(2)/2; NaN stays NaN.
    """
    raise NotImplementedError  # compiled code only


@overload(exponential)
def _exponential(x):
    def single(x):
        return _exp_single(x)

    def double(x):
        return _exp_double(x)

    return single if x == types.float32 else double


@kernel_in_order
def _exp_single(x):
    y = min(max(x, np.float32(-87.0)), np.float32(87.0))
    n = np.floor(y * np.float32(1.44269504) + np.float32(0.5))
    r = y - n * np.float32(0.693359375) + n * np.float32(2.12194440e-4)
    p = np.float32(1 / 5040)
    p = p * r + np.float32(1 / 720)
    p = p * r + np.float32(1 / 120)
    p = p * r + np.float32(1 / 24)
    p = p * r + np.float32(1 / 6)
    p = p * r + np.float32(0.5)
    p = p * r * r + r + np.float32(1)
    p *= np.int32((np.int32(n) + np.int32(127)) << np.int32(23)).view(np.float32)
    return p if x == x else x  # noqa: PLR0124 - not so for NaN


@kernel_in_order
def _exp_double(x):
    y = min(max(x, -708.0), 708.0)
    n = np.floor(y * 1.4426950408889634 + 0.5)
    r = y - n * 6.93145751953125e-1 - n * 1.42860682030941723212e-6
    p = 1 / 6227020800
    p = p * r + 1 / 479001600
    p = p * r + 1 / 39916800
    p = p * r + 1 / 3628800
    p = p * r + 1 / 362880
    p = p * r + 1 / 40320
    p = p * r + 1 / 5040
    p = p * r + 1 / 720
    p = p * r + 1 / 120
    p = p * r + 1 / 24
    p = p * r + 1 / 6
    p = p * r + 0.5
    p = p * r * r + r + 1.0
    p *= np.int64((np.int64(n) + np.int64(1023)) << np.int64(52)).view(np.float64)
    return p if x == x else x  # noqa: PLR0124 - not so for NaN


@kernel
def sigmoid(x):
    """1 / (1 + exp(-x))."""
    one = type(x)(1)
    return one / (one + exponential(-x))
