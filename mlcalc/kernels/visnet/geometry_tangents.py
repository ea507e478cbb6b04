"""How what ViSNet sees of an edge changes when the edges' vectors do."""

from __future__ import annotations

import math

from mlcalc.kernels.compile import kernel
from mlcalc.kernels.elementwise import exponential
from mlcalc.kernels.visnet.geometry import NOTHING, fade

_ROOT3 = math.sqrt(3)


@kernel
def describe_edges_tangent(bounds, radial, is_loop, described, t_vectors, t_described):
    """Fills the tangents of (envelope, harmonics, basis), and of the distance, along t_vectors (E, 3).

    described: (distance, harmonics); t_described: (distance, envelope, harmonics, basis).
    """
    cutoff, exponent, gaussian, folded, alpha, centers, widths = radial
    distance, harmonics = described
    t_distance, t_envelope, t_harmonics, t_basis = t_described
    two = distance.dtype.type(2)
    for e in range(bounds[0], bounds[1]):
        if is_loop[e]:
            t_distance[e], t_envelope[e], t_harmonics[e], t_basis[e] = 0, 0, 0, 0
            continue
        r = distance[e]
        x, y, z = harmonics[e, 0], harmonics[e, 1], harmonics[e, 2]
        t_r = x * t_vectors[e, 0] + y * t_vectors[e, 1] + z * t_vectors[e, 2]
        value, change = fade(r, cutoff, exponent)
        t_distance[e], t_envelope[e] = t_r, change * t_r
        t = r if gaussian else exponential(-alpha * r)
        t_t = t_r if gaussian else -alpha * t * t_r
        factor, t_factor = (value, change * t_r) if folded else (r / r, r - r)
        for k in range(centers.shape[0]):
            plain = exponential(-widths[k] * (t - centers[k]) ** 2)
            slope = t_factor - two * widths[k] * (t - centers[k]) * t_t * factor
            t_basis[e, k] = 0 if plain < NOTHING else plain * slope
        a = (t_vectors[e, 0] - x * t_r) / r
        b = (t_vectors[e, 1] - y * t_r) / r
        c = (t_vectors[e, 2] - z * t_r) / r
        t_harmonics[e, 0], t_harmonics[e, 1], t_harmonics[e, 2] = a, b, c
        if harmonics.shape[1] == 8:
            t_harmonics[e, 3] = _ROOT3 * (a * z + x * c)
            t_harmonics[e, 4] = _ROOT3 * (a * y + x * b)
            t_harmonics[e, 5] = two * y * b - x * a - z * c
            t_harmonics[e, 6] = _ROOT3 * (b * z + y * c)
            t_harmonics[e, 7] = _ROOT3 * (z * c - x * a)


@kernel
def describe_edges_weights_tangent(bounds, radial, described, t_described, g_basis, t_g_basis, by_weights):
    """Tangents of the derivatives by the centers a_k and widths b_k, added to by_weights.

    described: (distance, envelope); t_described: their tangents.
    """
    by_centers, by_widths = by_weights
    _, _, gaussian, folded, alpha, centers, widths = radial
    distance, envelope = described
    t_distance, t_envelope = t_described
    two = distance.dtype.type(2)
    for e in range(bounds[0], bounds[1]):
        t = distance[e] if gaussian else exponential(-alpha * distance[e])
        t_t = t_distance[e] if gaussian else -alpha * t * t_distance[e]
        factor = envelope[e] if folded else envelope.dtype.type(1)
        t_factor = t_envelope[e] if folded else envelope.dtype.type(0)
        for k in range(centers.shape[0]):
            offset = t - centers[k]
            plain = exponential(-widths[k] * offset**2)
            if plain < NOTHING:
                continue
            g = g_basis[e, k] * factor * plain
            t_g = (t_g_basis[e, k] * factor + g_basis[e, k] * t_factor) * plain - g * two * widths[k] * offset * t_t
            by_centers[k] += two * widths[k] * (t_g * offset + g * t_t)
            by_widths[k] -= t_g * offset**2 + two * g * offset * t_t


@kernel
def displace_edges(edges, center, neighbor, vectors, directions, strain, batch, t_vectors):
    """Tangents (E, 3) of the edge vectors along directions (N, 3) of the atoms and strains (S, 3, 3)."""
    for e in range(edges):
        i, j = center[e], neighbor[e]
        s = batch[i]
        for a in range(3):
            value = directions[j, a] - directions[i, a]
            for b in range(3):
                value += vectors[e, b] * strain[s, b, a]
            t_vectors[e, a] = value
