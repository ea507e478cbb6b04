"""ViSNet's readout of atomic energies, forward and backward at once."""

from __future__ import annotations

import numpy as np

from mlcalc.kernels.blas import multiply
from mlcalc.kernels.compile import kernel
from mlcalc.kernels.visnet_nodes import TILE, moments, norm_back
from mlcalc.kernels.visnet_rows import project, scale_slopes, silu_slopes


@kernel
def read_out(bounds, epsilon, smooth, weights, rows, states, seeds, y, gradients):  # type: ignore[no-untyped-def]
    """y (N,) of the atoms bounds[0] to bounds[1], and derivatives of sum_i seed_i y_i by their (x, vec).

    weights: of the norm (weight, bias), then of both gated blocks those of vec1, update 1 (W, b), update 2 (W, b), and
    of the first that of vec2, transposed; rows: the matrices as they are; gradients with no atoms: none wanted.
    """
    norm, norm_bias, V1, U1, b1, T1, c1, G1, V2, U2, b2, T2, c2 = weights
    x, vec = states
    gx, g_vec = gradients
    S, F, H = vec.shape[1], vec.shape[2], V2.shape[0]
    kind = x.dtype
    both, hidden, slope, t1 = (
        np.empty((TILE, 2 * F), kind),
        np.empty((TILE, F), kind),
        np.empty((TILE, F), kind),
        np.empty((TILE, F), kind),
    )
    A1, B1, W1 = np.empty((TILE * S, F), kind), np.empty((TILE * S, H), kind), np.empty((TILE * S, H), kind)
    d1 = np.empty((TILE, F), kind)
    both2, hidden2, slope2, x_slope = (
        np.empty((TILE, 2 * H), kind),
        np.empty((TILE, H), kind),
        np.empty((TILE, H), kind),
        np.empty((TILE, H), kind),
    )
    A2, d2, out = np.empty((TILE * S, H), kind), np.empty((TILE, H), kind), np.empty((TILE, 1), kind)
    for start in range(bounds[0], bounds[1], TILE):
        stop = min(start + TILE, bounds[1])
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
        y[start:stop] = out[:n, 0]
        if gx.shape[0] == 0:
            continue
        rV1, rU1, rT1, rG1, rV2, rU2, rT2 = rows
        for k in range(n):
            for c in range(H):
                hidden2[k, c] = seeds[start + k] * rT2[0, c] * slope2[k, c]
        multiply(hidden2[:n], rU2, both2[:n], 0)
        for k in range(n):
            scale_slopes(x_slope[k], both2[k, :H])
            for s in range(k * S, (k + 1) * S):
                for c in range(H):
                    A2[s, c] *= both2[k, H + c] * d2[k, c]
        multiply(A2[:m], rV2, W1[:m], 0)
        for k in range(n):
            gate = t1[k, H:]
            slope2[k] = 0
            for s in range(k * S, (k + 1) * S):
                for c in range(H):
                    slope2[k, c] += W1[s, c] * B1[s, c]
                for c in range(H):
                    W1[s, c] *= gate[c]
            for c in range(H):
                t1[k, c] = both2[k, c]
                t1[k, H + c] = slope2[k, c]
        multiply(t1[:n], rT1, hidden[:n], 0)
        for k in range(n):
            scale_slopes(slope[k], hidden[k])
        multiply(hidden[:n], rU1, both[:n], 0)
        for k in range(n):
            gx[start + k] = 0
            norm_back(x[start + k], epsilon, norm, both[k, :F], gx[start + k])
            for s in range(k * S, (k + 1) * S):
                for c in range(F):
                    A1[s, c] *= both[k, F + c] * d1[k, c]
        g_rows = g_vec[start:stop].reshape(m, F)
        multiply(A1[:m], rV1, g_rows, 0)
        multiply(W1[:m], rG1, g_rows, 1)


@kernel
def lengths(A, smooth, out, slope):  # type: ignore[no-untyped-def]
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
