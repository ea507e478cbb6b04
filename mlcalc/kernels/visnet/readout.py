"""ViSNet's readout of atomic energies, forward and backward at once."""

from __future__ import annotations

import numpy as np

from mlcalc.kernels.blas import multiply
from mlcalc.kernels.compile import kernel
from mlcalc.kernels.visnet.nodes import TILE, moments, norm_back
from mlcalc.kernels.visnet.rows import clear, project, scale_slopes, silu_slopes


@kernel
def read_out(bounds, epsilon, smooth, weights, rows, states, seeds, y, gradients, tile):
    """y (N,) of the atoms bounds[0] to bounds[1], and derivatives of sum_i seed_i y_i by their (x, vec).

    weights: of the norm (weight, bias), then of both gated blocks those of vec1, update 1 (W, b), update 2 (W, b), and
    of the first that of vec2, transposed; rows: the matrices as they are; gradients with no atoms: none wanted.
    """
    for start in range(bounds[0], bounds[1], TILE):
        stop = min(start + TILE, bounds[1])
        forward_readout(start, stop, epsilon, smooth, weights, states, y, tile)
        if gradients[0].shape[0] > 0:
            backward_readout(start, stop, epsilon, rows, weights[0], states[0], seeds, gradients, tile)


@kernel
def forward_readout(start, stop, epsilon, smooth, weights, states, y, tile):
    norm, norm_bias, V1, U1, b1, T1, c1, G1, V2, U2, b2, T2, c2 = weights
    x, vec = states
    both, hidden, slope, t1, d1, both2, hidden2, slope2, x_slope, d2, out, A1, B1, W1, A2 = tile
    S, F, H = vec.shape[1], vec.shape[2], V2.shape[0]
    n = stop - start
    m = n * S
    vec_rows = vec[start:stop].reshape(m, F)
    for k in range(n):
        mean, inverse = moments(x[start + k], epsilon)
        for c in range(F):
            both[k, c] = (x[start + k, c] - mean) * inverse * norm[c] + norm_bias[c]
    multiply(vec_rows, V1, A1[:m], 0)
    for k in range(n):
        lengths(A1[k * S : (k + 1) * S], smooth, both[k, F:], d1[k])
    project(both[:n], U1, b1, t1[:n])
    for k in range(n):
        silu_slopes(t1[k], hidden[k], slope[k])
    project(hidden[:n], T1, c1, t1[:n])
    multiply(vec_rows, G1, B1[:m], 0)
    for k in range(n):
        silu_slopes(t1[k, :H], both2[k, :H], x_slope[k])
        for s in range(k * S, (k + 1) * S):
            for c in range(H):
                W1[s, c] = B1[s, c] * t1[k, H + c]
    multiply(W1[:m], V2, A2[:m], 0)
    for k in range(n):
        lengths(A2[k * S : (k + 1) * S], smooth, both2[k, H:], d2[k])
    project(both2[:n], U2, b2, hidden2[:n])
    for k in range(n):
        silu_slopes(hidden2[k], hidden2[k], slope2[k])
    project(hidden2[:n], T2, c2, out[:n])
    for k in range(n):
        y[start + k] = out[k, 0]


@kernel
def backward_readout(start, stop, epsilon, rows, norm, x, seeds, gradients, tile):
    """From what `forward_readout` left in the tile."""
    rV1, rU1, rT1, rG1, rV2, rU2, rT2 = rows
    gx, g_vec = gradients
    both, hidden, slope, t1, d1, both2, hidden2, slope2, x_slope, d2, _, A1, B1, W1, A2 = tile
    S, F, H = g_vec.shape[1], g_vec.shape[2], rV2.shape[0]
    n = stop - start
    m = n * S
    for k in range(n):
        for c in range(H):
            hidden2[k, c] = seeds[start + k] * rT2[0, c] * slope2[k, c]
    multiply(hidden2[:n], rU2, both2[:n], 0)
    for k in range(n):
        scale_slopes(x_slope[k], both2[k, :H])
        scale_vectors(A2[k * S : (k + 1) * S], both2[k, H:], d2[k])
    multiply(A2[:m], rV2, W1[:m], 0)
    for k in range(n):
        gate_back(W1[k * S : (k + 1) * S], B1[k * S : (k + 1) * S], t1[k, H:], slope2[k])
        for c in range(H):
            t1[k, c] = both2[k, c]
            t1[k, H + c] = slope2[k, c]
    multiply(t1[:n], rT1, hidden[:n], 0)
    for k in range(n):
        scale_slopes(slope[k], hidden[k])
    multiply(hidden[:n], rU1, both[:n], 0)
    for k in range(n):
        clear(gx[start + k])
        norm_back(x[start + k], epsilon, norm, both[k, :F], gx[start + k])
        scale_vectors(A1[k * S : (k + 1) * S], both[k, F:], d1[k])
    g_rows = g_vec[start:stop].reshape(m, F)
    multiply(A1[:m], rV1, g_rows, 0)
    multiply(W1[:m], rG1, g_rows, 1)


@kernel
def scale_vectors(A, g, slope):
    """Derivatives by A (S, F) in its place, from those by its lengths."""
    for s in range(A.shape[0]):
        for c in range(A.shape[1]):
            A[s, c] *= g[c] * slope[c]


@kernel
def gate_back(g, ungated, gate, g_gate):
    """Derivatives by the gate, and in the place of those by gated vectors (S, F) those by the ungated ones."""
    for c in range(g.shape[1]):
        g_gate[c] = 0
    for s in range(g.shape[0]):
        for c in range(g.shape[1]):
            g_gate[c] += g[s, c] * ungated[s, c]
        for c in range(g.shape[1]):
            g[s, c] *= gate[c]


@kernel
def lengths(A, smooth, out, slope):
    """Norms of the channels over the components of A (S, F), and their derivatives divided by A."""
    one = out.dtype.type(1)
    for c in range(out.shape[0]):
        out[c] = 0
    for s in range(A.shape[0]):
        for c in range(out.shape[0]):
            out[c] += A[s, c] * A[s, c]
    if smooth:
        for c in range(out.shape[0]):
            root = np.sqrt(one + out[c])
            out[c] = out[c] / (root + one)
            slope[c] = one / root
    else:
        for c in range(out.shape[0]):
            root = np.sqrt(out[c])
            slope[c] = 0 if root == 0 else one / root
            out[c] = root
