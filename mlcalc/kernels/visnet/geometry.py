"""What ViSNet sees of an edge: envelope, radial functions and directions, and the way back from there to forces."""

from __future__ import annotations

import math

import numpy as np

from mlcalc.kernels.compile import kernel
from mlcalc.kernels.elementwise import exponential

_ROOT3 = math.sqrt(3)
NOTHING = 1e-30  # products with smaller numbers leave the normal range of float32, where arithmetic is slow


@kernel
def describe_edges(bounds, radial, is_loop, vectors, distance, envelope, harmonics, basis):
    """Fills distance (E,), envelope (E,), harmonics (E, S) and basis (E, K) of vectors (E, 3), in their precision.

    radial: (cutoff, exponent or 0 for the cosine cutoff, gaussian, folded, alpha, (a_k), (b_k)); the basis is
    exp(-b (exp(-alpha r) - a)^2), or exp(-b (r - a)^2) where gaussian, times the envelope where folded.
    """
    cutoff, exponent, gaussian, folded, alpha, centers, widths = radial
    for e in range(bounds[0], bounds[1]):
        x, y, z = vectors[e, 0], vectors[e, 1], vectors[e, 2]
        r = np.sqrt(x * x + y * y + z * z)
        distance[e] = r
        value, _ = fade(r, cutoff, exponent)
        envelope[e] = value
        t = r if gaussian else exponential(-alpha * r)
        factor = envelope[e] if folded else envelope.dtype.type(1)
        for k in range(centers.shape[0]):
            plain = exponential(-widths[k] * (t - centers[k]) ** 2)
            basis[e, k] = 0 if plain < NOTHING else factor * plain
        if is_loop[e]:
            for s in range(harmonics.shape[1]):
                harmonics[e, s] = 0
        else:
            x, y, z = x / r, y / r, z / r
            harmonics[e, 0], harmonics[e, 1], harmonics[e, 2] = x, y, z
            if harmonics.shape[1] == 8:
                harmonics[e, 3] = _ROOT3 * x * z
                harmonics[e, 4] = _ROOT3 * x * y
                harmonics[e, 5] = y * y - (x * x + z * z) / 2
                harmonics[e, 6] = _ROOT3 * y * z
                harmonics[e, 7] = _ROOT3 / 2 * (z * z - x * x)


@kernel
def describe_edges_back(
    bounds, radial, is_loop, vectors, distance, envelope, harmonics, basis, g_envelope, g_harmonics, g_basis, g_vectors
):
    """Derivatives by the vectors, (E, 3); zero for self loops, which have a direction of zero."""
    cutoff, exponent, gaussian, folded, alpha, centers, widths = radial
    two = envelope.dtype.type(2)
    for e in range(bounds[0], bounds[1]):
        if is_loop[e]:
            g_vectors[e, 0], g_vectors[e, 1], g_vectors[e, 2] = 0, 0, 0
            continue
        r = distance[e]
        _, slope = fade(r, cutoff, exponent)
        t = r if gaussian else exponential(-alpha * r)
        factor = envelope[e] if folded else envelope.dtype.type(1)
        inner, outer = envelope.dtype.type(0), envelope.dtype.type(0)
        for k in range(centers.shape[0]):
            plain = exponential(-widths[k] * (t - centers[k]) ** 2)
            inner -= g_basis[e, k] * plain * two * widths[k] * (t - centers[k])
            outer += g_basis[e, k] * plain
        if not gaussian:
            inner *= -alpha * t
        g_r = inner * factor + slope * (g_envelope[e] + (outer if folded else 0))
        x, y, z = harmonics[e, 0], harmonics[e, 1], harmonics[e, 2]
        gx, gy, gz = g_harmonics[e, 0], g_harmonics[e, 1], g_harmonics[e, 2]
        if harmonics.shape[1] == 8:
            g3, g4, g5, g6, g7 = (
                _ROOT3 * g_harmonics[e, 3],
                _ROOT3 * g_harmonics[e, 4],
                g_harmonics[e, 5],
                _ROOT3 * g_harmonics[e, 6],
                _ROOT3 * g_harmonics[e, 7],
            )
            gx += g3 * z + g4 * y - g5 * x - g7 * x
            gy += g4 * x + 2 * g5 * y + g6 * z
            gz += g3 * x - g5 * z + g6 * y + g7 * z
        along = gx * x + gy * y + gz * z
        g_vectors[e, 0] = (gx - along * x) / r + g_r * x
        g_vectors[e, 1] = (gy - along * y) / r + g_r * y
        g_vectors[e, 2] = (gz - along * z) / r + g_r * z


@kernel
def fade(r, cutoff, exponent):
    """Envelope and its derivative: the polynomial one, or for exponent 0 the cosine cutoff."""
    if not r < cutoff:
        return (r - r) * r, (r - r) * r  # zero; NaN for NaN
    x = r / cutoff
    if exponent == 0:
        return (1 + np.cos(np.pi * x)) / 2, -np.pi / (2 * cutoff) * np.sin(np.pi * x)
    series, slope = x * 0, x * 0
    for k in range(exponent - 1, -1, -1):
        slope = slope * x + series
        series = series * x + (k + 1) * (k + 2) / 2
    rest = 1 - x
    return rest**3 * series, (rest**3 * slope - 3 * rest**2 * series) / cutoff
