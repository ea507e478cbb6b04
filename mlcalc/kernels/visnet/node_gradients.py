"""The atoms between two blocks of ViSNet: derivatives by the weights."""

from __future__ import annotations

from mlcalc.kernels.blas import multiply, multiply_transposed
from mlcalc.kernels.compile import kernel
from mlcalc.kernels.visnet.nodes import TILE, moments, update_atoms_back
from mlcalc.kernels.visnet.rows import add_columns


@kernel
def update_atoms_weights(bounds, scale, weights, v, o, gx, g_vec, sums, tile, X, vec, by_weights):
    """`update_atoms_back`, and the derivatives by (W_o, b_o, W_v) of o_proj and vec_proj, added to by_weights.

    X (N, F): the scaled sums of messages; vec (N, S, F): the vectors before the update.
    """
    by_o, by_o_bias, by_v = by_weights
    F, S = gx.shape[1], g_vec.shape[1]
    for start in range(bounds[0], bounds[1], TILE):
        stop = min(start + TILE, bounds[1])
        first = o.shape[1] == F
        if first:  # what comes in is the derivative by o, and goes on to x as it is
            multiply_transposed(gx[start:stop], X[start:stop], by_o, 1)
            add_columns(gx[start:stop], by_o_bias)
        update_atoms_back((start, stop), scale, weights, v, o, gx, g_vec, sums, tile)
        if not first:
            n, rows = stop - start, (stop - start) * S
            multiply_transposed(tile[0][:n], X[start:stop], by_o, 1)
            add_columns(tile[0][:n], by_o_bias)
            multiply_transposed(tile[1][:rows], vec[start:stop].reshape(rows, F), by_v, 1)


@kernel
def project_atoms_weights(bounds, epsilon, weights, states, gradients, tiles, by_weights):
    """Derivatives by (norm, its bias, W_qkv, b_qkv, W_w, W_t), added to by_weights, after `project_atoms_back`.

    weights: (norm, its bias, W_qkv as it is); states: (x (N, F), vec (N, S, F)); gradients: by (qkv, pq, tt), whole;
    tiles: two of (TILE, F).
    """
    norm, norm_bias, W_qkv = weights
    x, vec = states
    g_qkv, g_pq, g_tt = gradients
    by_norm, by_norm_bias, by_qkv, by_qkv_bias, by_w, by_t = by_weights
    tile, g_tile = tiles
    F, S = x.shape[1], vec.shape[1]
    for start in range(bounds[0], bounds[1], TILE):
        stop = min(start + TILE, bounds[1])
        n, rows = stop - start, (stop - start) * S
        multiply(g_qkv[start:stop], W_qkv, g_tile[:n], 0)
        add_columns(g_tile[:n], by_norm_bias)
        for i in range(start, stop):
            norm_weights(x[i], epsilon, norm, norm_bias, g_tile[i - start], tile[i - start], by_norm)
        multiply_transposed(g_qkv[start:stop], tile[:n], by_qkv, 1)
        add_columns(g_qkv[start:stop], by_qkv_bias)
        if by_w.shape[0] > 0:
            multiply_transposed(g_pq[start:stop].reshape(rows, 2 * F), vec[start:stop].reshape(rows, F), by_w, 1)
        if by_t.shape[0] > 0:
            multiply_transposed(g_tt[start:stop].reshape(rows, 2 * F), vec[start:stop].reshape(rows, F), by_t, 1)


@kernel
def norm_weights(x, epsilon, norm, norm_bias, g, out, by_norm):
    """Adds the derivative by the weights of a LayerNorm, whose result is left in out, from that by its result."""
    mean, inverse = moments(x, epsilon)
    for c in range(x.shape[0]):
        plain = (x[c] - mean) * inverse
        by_norm[c] += g[c] * plain
        out[c] = plain * norm[c] + norm_bias[c]


@kernel
def update_atoms_back_kept(bounds, scale, weights, v, o, gx, g_vec, sums, derivatives):
    """`update_atoms_back` that keeps the derivatives by (o (N, 3F), v (N S, 3F)) of all atoms."""
    go, gv = derivatives
    S = g_vec.shape[1]
    for start in range(bounds[0], bounds[1], TILE):
        stop = min(start + TILE, bounds[1])
        tile = (go[start:stop], gv[start * S : stop * S])
        update_atoms_back((start, stop), scale, weights, v, o, gx, g_vec, sums, tile)
