"""The atoms between two blocks of ViSNet, forward and backward."""

from __future__ import annotations

import numpy as np

from mlcalc.kernels.blas import multiply
from mlcalc.kernels.compile import kernel
from mlcalc.kernels.visnet.rows import copy_row, project, scale_row

TILE = 16  # atoms; with their 8 components, 128 rows of a matrix


@kernel
def project_atoms(bounds, epsilon, weights, states, projections, tile):
    """What a block needs of the atoms bounds[0] to bounds[1].

    weights: (norm weight, norm bias, W_qkv, b_qkv, W_v, W_w, W_t), transposed; states: (x (N, F), vec (N, S, F));
    projections: (qkv (N, 3F), v (N, S, 3F), pq (N, S, 2F), tt (N, S, 2F)).
    """
    norm, norm_bias, W_qkv, b_qkv, W_v, W_w, W_t = weights
    x, vec = states
    qkv, v, pq, tt = projections
    F, S = vec.shape[2], vec.shape[1]
    for start in range(bounds[0], bounds[1], TILE):
        stop = min(start + TILE, bounds[1])
        for i in range(start, stop):
            mean, inverse = moments(x[i], epsilon)
            for c in range(F):
                tile[i - start, c] = (x[i, c] - mean) * inverse * norm[c] + norm_bias[c]
        project(tile[: stop - start], W_qkv, b_qkv, qkv[start:stop])
        rows = vec[start:stop].reshape((stop - start) * S, F)
        for weight, target in ((W_v, v), (W_w, pq), (W_t, tt)):
            if weight.shape[1] > 0:
                multiply(rows, weight, target[start:stop].reshape((stop - start) * S, weight.shape[1]), 0)


@kernel
def project_atoms_back(bounds, epsilon, weights, x, gradients, shared, tile):
    """Derivatives by x and vec, added to them; the shares of all threads (T, N, ...) are summed and cleared.

    weights: (norm weight, W_qkv, W_w, W_t) as they are; gradients: by (qkv, pq, tt) of the own thread, and, added to,
    by (x, vec); shared: by (k and v (T, N, 2F), vec, q (T, N, S, F)) of all threads.
    """
    norm, W_qkv, W_w, W_t = weights
    g_qkv, g_pq, g_tt, gx, g_vec = gradients
    any_kv, any_vec, any_q = shared
    F, S = x.shape[1], g_vec.shape[1]
    for start in range(bounds[0], bounds[1], TILE):
        stop = min(start + TILE, bounds[1])
        for i in range(start, stop):
            for t in range(any_kv.shape[0]):
                move_row(any_kv[t, i], g_qkv[i, F:])
        multiply(g_qkv[start:stop], W_qkv, tile[: stop - start], 0)
        for i in range(start, stop):
            norm_back(x[i], epsilon, norm, tile[i - start], gx[i])
            for t in range(any_vec.shape[0]):
                for s in range(S):
                    move_row(any_vec[t, i, s], g_vec[i, s])
        rows = (stop - start) * S
        vec_rows = g_vec[start:stop].reshape(rows, F)
        if W_w.shape[0] > 0:
            for i in range(start, stop):
                for t in range(any_q.shape[0]):
                    for s in range(S):
                        move_row(any_q[t, i, s], g_pq[i, s, F:])
            multiply(g_pq[start:stop].reshape(rows, 2 * F), W_w, vec_rows, 1)
        if W_t.shape[0] > 0:
            multiply(g_tt[start:stop].reshape(rows, 2 * F), W_t, vec_rows, 1)


@kernel
def update_atoms(bounds, scale, weights, states, sums, v, o, results):
    """The new (x, vec) of the atoms from the old ones, the sums (X, V) over neighbors and v = (v1, v2, v3).

    weights: (W_o, b_o), transposed; scale: 1 / neighbor_norm; o (N, 3F), or (N, F) in the first block, is kept.
    """
    W_o, b_o = weights
    x, vec = states
    X, V = sums
    new_x, new_vec = results
    F = x.shape[1]
    first = o.shape[1] == F
    for i in range(bounds[0], bounds[1]):
        scale_row(X[i], scale)
        for s in range(V.shape[1]):
            scale_row(V[i, s], scale)
    for start in range(bounds[0], bounds[1], TILE):
        stop = min(start + TILE, bounds[1])
        project(X[start:stop], W_o, b_o, o[start:stop])
    for i in range(bounds[0], bounds[1]):
        if first:
            sum_rows(x[i], o[i], new_x[i])
            for s in range(V.shape[1]):
                copy_row(V[i, s], new_vec[i, s])
        else:
            o1, o2, o3 = o[i, :F], o[i, F : 2 * F], o[i, 2 * F :]
            sum_rows(x[i], o3, new_x[i])
            for s in range(V.shape[1]):
                v1, v2, v3 = v[i, s, :F], v[i, s, F : 2 * F], v[i, s, 2 * F :]
                for c in range(F):
                    new_x[i, c] += v1[c] * v2[c] * o2[c]
                for c in range(F):
                    new_vec[i, s, c] = vec[i, s, c] + v3[c] * o1[c] + V[i, s, c]


@kernel
def update_atoms_back(bounds, scale, weights, v, o, gx, g_vec, sums, tile):
    """Derivatives by the sums (X, V) from those by the new (x, vec), which become derivatives by the old ones.

    weights: (W_o, W_v) as they are; tile: (rows of o (TILE, 3F), rows of v (TILE S, 3F)).
    """
    W_o, W_v = weights
    gX, gV = sums
    go, gv = tile
    F, S = gx.shape[1], g_vec.shape[1]
    first = o.shape[1] == F
    for start in range(bounds[0], bounds[1], TILE):
        stop = min(start + TILE, bounds[1])
        for i in range(start, stop):
            for s in range(S):
                copy_row(g_vec[i, s], gV[i, s])
                scale_row(gV[i, s], scale)
            if not first:
                gate_back(v[i], o[i], gx[i], g_vec[i], go[i - start], gv[(i - start) * S : (i - start + 1) * S])
        if first:
            multiply(gx[start:stop], W_o, gX[start:stop], 0)
        else:
            multiply(go[: stop - start], W_o, gX[start:stop], 0)
            rows = (stop - start) * S
            multiply(gv[:rows], W_v, g_vec[start:stop].reshape(rows, F), 1)
        for i in range(start, stop):
            scale_row(gX[i], scale)


@kernel
def gate_back(v, o, gx, g_vec, go, gv):
    F = gx.shape[0]
    o1, o2 = o[:F], o[F : 2 * F]
    go1, go2, go3 = go[:F], go[F : 2 * F], go[2 * F :]
    for c in range(F):
        go1[c] = 0
        go2[c] = 0
        go3[c] = gx[c]
    for s in range(v.shape[0]):
        v1, v2, v3 = v[s, :F], v[s, F : 2 * F], v[s, 2 * F :]
        g, gv1, gv2, gv3 = g_vec[s], gv[s, :F], gv[s, F : 2 * F], gv[s, 2 * F :]
        for c in range(F):
            go1[c] += g[c] * v3[c]
            gv3[c] = g[c] * o1[c]
        for c in range(F):
            go2[c] += gx[c] * v1[c] * v2[c]
        for c in range(F):
            gv1[c] = gx[c] * o2[c] * v2[c]
            gv2[c] = gx[c] * o2[c] * v1[c]


@kernel
def moments(x, epsilon):
    """Mean and inverse deviation of the channels, as in torch's LayerNorm."""
    total = x.dtype.type(0)
    for c in range(x.shape[0]):
        total += x[c]
    mean, squares = total / x.shape[0], x.dtype.type(0)
    for c in range(x.shape[0]):
        squares += (x[c] - mean) ** 2
    return x.dtype.type(mean), x.dtype.type(1 / np.sqrt(squares / x.shape[0] + epsilon))


@kernel
def norm_back(x, epsilon, norm, g, gx):
    """Adds the derivative through the LayerNorm to gx."""
    mean, inverse = moments(x, epsilon)
    F = x.shape[0]
    total, product = x.dtype.type(0), x.dtype.type(0)
    for c in range(F):
        total += g[c] * norm[c]
        product += g[c] * norm[c] * (x[c] - mean) * inverse
    total, product = x.dtype.type(total / F), x.dtype.type(product / F)
    for c in range(F):
        gx[c] += inverse * (g[c] * norm[c] - total - (x[c] - mean) * inverse * product)


@kernel
def move_row(x, out):
    """out += x, x = 0."""
    for c in range(out.shape[0]):
        out[c] += x[c]
        x[c] = 0


@kernel
def sum_rows(x, y, out):
    for c in range(out.shape[0]):
        out[c] = x[c] + y[c]
