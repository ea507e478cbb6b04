"""What HVNet's kernels do with rows of atoms: activations, norms of vectors, linear layers."""

from __future__ import annotations

import math

import numpy as np
from numba import types
from numba.extending import overload

from mlcalc.kernels.blas import multiply
from mlcalc.kernels.compile import kernel
from mlcalc.kernels.elementwise import exponential, sigmoid

_LINEAR = 20.0  # beyond, torch's softplus is the identity
_LN2 = math.log(2)


def log1p_series(y):
    """log(1 + y) for y from 0 to 1, by the series of 2 artanh(y / (2 + y))."""
    raise NotImplementedError  # compiled code only


@overload(log1p_series)
def _log1p_series(y):
    return _log1p_single if y == types.float32 else _log1p_double


def _log1p_single(y):
    z = y / (np.float32(2) + y)
    w = z * z
    p = np.float32(2 / 15)
    p = p * w + np.float32(2 / 13)
    p = p * w + np.float32(2 / 11)
    p = p * w + np.float32(2 / 9)
    p = p * w + np.float32(2 / 7)
    p = p * w + np.float32(2 / 5)
    p = p * w + np.float32(2 / 3)
    p = p * w + np.float32(2)
    return p * z


def _log1p_double(y):
    z = y / (2.0 + y)
    w = z * z
    p = 2 / 33
    p = p * w + 2 / 31
    p = p * w + 2 / 29
    p = p * w + 2 / 27
    p = p * w + 2 / 25
    p = p * w + 2 / 23
    p = p * w + 2 / 21
    p = p * w + 2 / 19
    p = p * w + 2 / 17
    p = p * w + 2 / 15
    p = p * w + 2 / 13
    p = p * w + 2 / 11
    p = p * w + 2 / 9
    p = p * w + 2 / 7
    p = p * w + 2 / 5
    p = p * w + 2 / 3
    p = p * w + 2.0
    return p * z


@kernel
def activate(painn, x, y):
    """y = silu(x) for painn, softplus(x) - ln 2 else."""
    number = x.dtype.type
    half, shift, linear = number(0.5), number(_LN2), number(_LINEAR)
    for i in range(x.shape[0]):
        if painn:
            for c in range(x.shape[1]):
                y[i, c] = x[i, c] * sigmoid(x[i, c])
        else:
            for c in range(x.shape[1]):
                size = abs(x[i, c])
                rest = log1p_series(exponential(-size))
                rest = number(0) if x[i, c] > linear else rest
                y[i, c] = (x[i, c] + size) * half + rest - shift


@kernel
def activate_back(painn, x, y):
    """y *= the derivative of the activation at x."""
    number = x.dtype.type
    one, linear = number(1), number(_LINEAR)
    for i in range(x.shape[0]):
        if painn:
            for c in range(x.shape[1]):
                s = sigmoid(x[i, c])
                y[i, c] *= s + x[i, c] * s * (one - s)
        else:
            for c in range(x.shape[1]):
                s = sigmoid(x[i, c])
                y[i, c] *= one if x[i, c] > linear else s


@kernel
def smooth_norm(squared):
    """sqrt(1 + squared) - 1."""
    one = type(squared)(1)
    return squared / (np.sqrt(one + squared) + one)


@kernel
def copy_rows(x, first, last, y):
    """y = x of these rows (N, F); assignment between slices would take numba seconds to compile."""
    for i in range(first, last):
        for c in range(y.shape[1]):
            y[i, c] = x[i, c]


@kernel
def copy_vectors(x, first, last, y):
    """y = x of these rows (N, 3, F)."""
    for i in range(first, last):
        for a in range(3):
            for c in range(y.shape[2]):
                y[i, a, c] = x[i, a, c]


@kernel
def project(x, weight, bias, y):
    """y = x weight + bias."""
    for i in range(y.shape[0]):
        for c in range(y.shape[1]):
            y[i, c] = bias[c]
    multiply(x, weight, y, 1)
