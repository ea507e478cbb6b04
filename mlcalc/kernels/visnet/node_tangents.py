"""The atoms between two blocks of ViSNet: tangents forward and backward, with the derivatives by the weights."""

from __future__ import annotations

from mlcalc.kernels.blas import multiply, multiply_transposed
from mlcalc.kernels.compile import kernel
from mlcalc.kernels.visnet.nodes import TILE, moments, move_row, sum_rows
from mlcalc.kernels.visnet.rows import add_columns, copy_row, scale_row


@kernel
def project_atoms_tangent(bounds, epsilon, weights, x, t_states, t_projections, tile):
    """Tangents of what `project_atoms` gives; t_states: of (x, vec); t_projections: of (qkv, v, pq, tt)."""
    norm, norm_bias, W_qkv, _, W_v, W_w, W_t = weights
    t_x, t_vec = t_states
    t_qkv, t_v, t_pq, t_tt = t_projections
    normed, t_normed, _ = tile
    F, S = t_vec.shape[2], t_vec.shape[1]
    for start in range(bounds[0], bounds[1], TILE):
        stop = min(start + TILE, bounds[1])
        n, rows = stop - start, (stop - start) * S
        for i in range(start, stop):
            norm_tangent(x[i], epsilon, norm, norm_bias, t_x[i], normed[i - start], t_normed[i - start])
        multiply(t_normed[:n], W_qkv, t_qkv[start:stop], 0)
        for weight, target in ((W_v, t_v), (W_w, t_pq), (W_t, t_tt)):
            if weight.shape[1] > 0:
                multiply(
                    t_vec[start:stop].reshape(rows, F), weight, target[start:stop].reshape(rows, weight.shape[1]), 0
                )


@kernel
def norm_tangent(x, epsilon, norm, norm_bias, t_x, out, t_out):
    """A LayerNorm of x and its tangent along t_x."""
    mean, inverse = moments(x, epsilon)
    F = x.shape[0]
    t_mean, t_spread = x.dtype.type(0), x.dtype.type(0)
    for c in range(F):
        t_mean += t_x[c]
        t_spread += t_x[c] * (x[c] - mean)
    t_mean, t_spread = x.dtype.type(t_mean / F), x.dtype.type(t_spread / F * inverse * inverse)
    for c in range(F):
        out[c] = (x[c] - mean) * inverse * norm[c] + norm_bias[c]
        t_out[c] = inverse * (t_x[c] - t_mean - (x[c] - mean) * t_spread) * norm[c]


@kernel
def norm_back_tangent(x, epsilon, norm, t_x, g, t_g, t_gx, by_norm, by_norm_bias, row):
    """Adds the tangent of the derivative through a LayerNorm to t_gx, and those by its weights to by_norm.

    With u = (x - mean) / deviation and h = g norm: gx = (h - <h> - u <h u>) / deviation.
    """
    mean, inverse = moments(x, epsilon)
    F, zero = x.shape[0], x.dtype.type(0)
    u, t_u = row[:F], row[F : 2 * F]
    t_mean, t_spread = zero, zero
    for c in range(F):
        u[c] = (x[c] - mean) * inverse
    for c in range(F):
        t_mean += t_x[c]
        t_spread += t_x[c] * u[c]
    t_mean, t_spread = x.dtype.type(t_mean / F), x.dtype.type(t_spread / F)
    for c in range(F):
        t_u[c] = inverse * (t_x[c] - t_mean - u[c] * t_spread)
    for c in range(F):
        by_norm[c] += t_g[c] * u[c] + g[c] * t_u[c]
    for c in range(F):
        by_norm_bias[c] += t_g[c]
    h, t_h, hu, t_hu = zero, zero, zero, zero
    for c in range(F):
        h += g[c] * norm[c]
        t_h += t_g[c] * norm[c]
        hu += g[c] * norm[c] * u[c]
        t_hu += (t_g[c] * u[c] + g[c] * t_u[c]) * norm[c]
    h, t_h, hu, t_hu = x.dtype.type(h / F), x.dtype.type(t_h / F), x.dtype.type(hu / F), x.dtype.type(t_hu / F)
    relative = -inverse * t_spread  # of the inverse deviation
    for c in range(F):
        plain = g[c] * norm[c] - h - u[c] * hu
        t_gx[c] += inverse * (relative * plain + t_g[c] * norm[c] - t_h - t_u[c] * hu - u[c] * t_hu)


@kernel
def project_atoms_back_tangent(
    bounds, epsilon, weights, states, t_states, adjoints, t_adjoints, shared, tile, by_weights
):
    """Tangents of what `project_atoms_back` and `project_atoms_weights` give, added to t_adjoints and by_weights.

    weights: (norm, its bias, W_qkv, W_w, W_t as they are); states: (x, vec); adjoints: by (qkv, pq, tt), whole;
    t_adjoints: tangents by (qkv, pq, tt) of the own atoms, and by (x, vec); shared: by (k and v (N, 2F), vec, q
    (N, S, F)) of any atoms, cleared.
    """
    norm, norm_bias, W_qkv, W_w, W_t = weights
    x, vec = states
    t_x, t_vec = t_states
    g_qkv, g_pq, g_tt = adjoints
    t_g_qkv, t_g_pq, t_g_tt, t_gx, t_g_vec = t_adjoints
    any_kv, any_vec, any_q = shared
    by_norm, by_norm_bias, by_qkv, by_qkv_bias, by_w, by_t = by_weights
    normed, t_normed, g_normed, t_g_normed, row = tile
    F, S = x.shape[1], vec.shape[1]
    for start in range(bounds[0], bounds[1], TILE):
        stop = min(start + TILE, bounds[1])
        n, rows = stop - start, (stop - start) * S
        for i in range(start, stop):
            move_row(any_kv[i], t_g_qkv[i, F:])
            norm_tangent(x[i], epsilon, norm, norm_bias, t_x[i], normed[i - start], t_normed[i - start])
            for s in range(S):
                move_row(any_vec[i, s], t_g_vec[i, s])
        multiply(g_qkv[start:stop], W_qkv, g_normed[:n], 0)
        multiply(t_g_qkv[start:stop], W_qkv, t_g_normed[:n], 0)
        for i in range(start, stop):
            k = i - start
            norm_back_tangent(
                x[i], epsilon, norm, t_x[i], g_normed[k], t_g_normed[k], t_gx[i], by_norm, by_norm_bias, row
            )
        multiply_transposed(t_g_qkv[start:stop], normed[:n], by_qkv, 1)
        multiply_transposed(g_qkv[start:stop], t_normed[:n], by_qkv, 1)
        add_columns(t_g_qkv[start:stop], by_qkv_bias)
        vec_rows, t_vec_rows = vec[start:stop].reshape(rows, F), t_vec[start:stop].reshape(rows, F)
        target = t_g_vec[start:stop].reshape(rows, F)
        if W_w.shape[0] > 0:
            for i in range(start, stop):
                for s in range(S):
                    move_row(any_q[i, s], t_g_pq[i, s, F:])
            multiply_transposed(t_g_pq[start:stop].reshape(rows, 2 * F), vec_rows, by_w, 1)
            multiply_transposed(g_pq[start:stop].reshape(rows, 2 * F), t_vec_rows, by_w, 1)
            multiply(t_g_pq[start:stop].reshape(rows, 2 * F), W_w, target, 1)
        if W_t.shape[0] > 0:
            multiply_transposed(t_g_tt[start:stop].reshape(rows, 2 * F), vec_rows, by_t, 1)
            multiply_transposed(g_tt[start:stop].reshape(rows, 2 * F), t_vec_rows, by_t, 1)
            multiply(t_g_tt[start:stop].reshape(rows, 2 * F), W_t, target, 1)


@kernel
def update_atoms_tangent(bounds, scale, W_o, t_states, t_sums, v, t_v, o, t_o, t_results):
    """Tangents of what `update_atoms` gives; t_states: of (x, vec); t_sums: of (X, V), which are scaled."""
    t_x, t_vec = t_states
    t_X, t_V = t_sums
    new_x, new_vec = t_results
    F = t_x.shape[1]
    for i in range(bounds[0], bounds[1]):
        scale_row(t_X[i], scale)
        for s in range(t_V.shape[1]):
            scale_row(t_V[i, s], scale)
    multiply(t_X[bounds[0] : bounds[1]], W_o, t_o[bounds[0] : bounds[1]], 0)
    for i in range(bounds[0], bounds[1]):
        if o.shape[1] == F:
            sum_rows(t_x[i], t_o[i], new_x[i])
            for s in range(t_V.shape[1]):
                copy_row(t_V[i, s], new_vec[i, s])
        else:
            sum_rows(t_x[i], t_o[i, 2 * F :], new_x[i])
            for s in range(t_V.shape[1]):
                update_tangent(v[i, s], t_v[i, s], o[i], t_o[i], new_x[i])
                sum_rows(t_vec[i, s], t_V[i, s], new_vec[i, s])
                add_products(v[i, s, 2 * F :], t_o[i, :F], t_v[i, s, 2 * F :], o[i, :F], new_vec[i, s])


@kernel
def update_tangent(v, t_v, o, t_o, out):
    """Adds the tangent of v1 v2 o2."""
    F = out.shape[0]
    v1, v2, t_v1, t_v2, o2, t_o2 = v[:F], v[F : 2 * F], t_v[:F], t_v[F : 2 * F], o[F : 2 * F], t_o[F : 2 * F]
    for c in range(F):
        out[c] += (t_v1[c] * v2[c] + v1[c] * t_v2[c]) * o2[c] + v1[c] * v2[c] * t_o2[c]


@kernel
def add_products(a, b, c, d, out):
    """out += a b + c d."""
    for k in range(out.shape[0]):
        out[k] += a[k] * b[k] + c[k] * d[k]


@kernel
def update_atoms_back_tangent(
    bounds, scale, weights, states, t_states, adjoints, t_adjoints, t_g_sums, tile, by_weights
):
    """Tangents of what `update_atoms_weights` gives: t_g_sums set, those by (x, vec) becoming those by the old ones.

    weights: (W_o, W_v) as they are; states: (X, vec, v, o); adjoints: by the new (x, vec) and by (o, v), kept;
    t_adjoints: by the new (x, vec); tile: for tangents by (o, v).
    """
    W_o, W_v = weights
    X, vec, v, o = states
    t_X, t_vec, t_v, t_o = t_states
    gx, g_vec, all_go, all_gv = adjoints
    t_gx, t_g_vec = t_adjoints
    t_gX, t_gV = t_g_sums
    by_o, by_o_bias, by_v = by_weights
    F, S = gx.shape[1], g_vec.shape[1]
    first = o.shape[1] == F
    for start in range(bounds[0], bounds[1], TILE):
        stop = min(start + TILE, bounds[1])
        n, rows = stop - start, (stop - start) * S
        t_go, t_gv = tile[0][:n], tile[1][:rows]
        for i in range(start, stop):
            for s in range(S):
                copy_row(t_g_vec[i, s], t_gV[i, s])
                scale_row(t_gV[i, s], scale)
            if not first:
                k = i - start
                update_back_tangent(
                    v[i], t_v[i], o[i], t_o[i], gx[i], t_gx[i], g_vec[i], t_g_vec[i], t_go[k], t_gv[k * S : (k + 1) * S]
                )
        if first:
            multiply_transposed(t_gx[start:stop], X[start:stop], by_o, 1)
            multiply_transposed(gx[start:stop], t_X[start:stop], by_o, 1)
            add_columns(t_gx[start:stop], by_o_bias)
            multiply(t_gx[start:stop], W_o, t_gX[start:stop], 0)
        else:
            multiply_transposed(t_go, X[start:stop], by_o, 1)
            multiply_transposed(all_go[start:stop], t_X[start:stop], by_o, 1)
            add_columns(t_go, by_o_bias)
            multiply(t_go, W_o, t_gX[start:stop], 0)
            multiply_transposed(t_gv, vec[start:stop].reshape(rows, F), by_v, 1)
            multiply_transposed(all_gv[start * S : stop * S], t_vec[start:stop].reshape(rows, F), by_v, 1)
            multiply(t_gv, W_v, t_g_vec[start:stop].reshape(rows, F), 1)
        for i in range(start, stop):
            scale_row(t_gX[i], scale)


@kernel
def update_back_tangent(v, t_v, o, t_o, gx, t_gx, g_vec, t_g_vec, t_go, t_gv):
    """Tangents of the derivatives by o and v of one atom."""
    F = gx.shape[0]
    o1, o2, t_o1, t_o2 = o[:F], o[F : 2 * F], t_o[:F], t_o[F : 2 * F]
    go1, go2, go3 = t_go[:F], t_go[F : 2 * F], t_go[2 * F :]
    for c in range(F):
        go1[c] = 0
        go2[c] = 0
        go3[c] = t_gx[c]
    for s in range(v.shape[0]):
        v1, v2, v3 = v[s, :F], v[s, F : 2 * F], v[s, 2 * F :]
        u1, u2, u3 = t_v[s, :F], t_v[s, F : 2 * F], t_v[s, 2 * F :]
        g, t_g, gv = g_vec[s], t_g_vec[s], t_gv[s]
        add_products(t_g, v3, g, u3, go1)
        for c in range(F):
            go2[c] += t_gx[c] * v1[c] * v2[c] + gx[c] * (u1[c] * v2[c] + v1[c] * u2[c])
        gate_tangent(gx, t_gx, o2, t_o2, v2, u2, gv[:F])
        gate_tangent(gx, t_gx, o2, t_o2, v1, u1, gv[F : 2 * F])
        gv3 = gv[2 * F :]
        for c in range(F):
            gv3[c] = t_g[c] * o1[c] + g[c] * t_o1[c]


@kernel
def gate_tangent(a, t_a, b, t_b, c, t_c, out):
    """The tangent of a b c."""
    for k in range(out.shape[0]):
        out[k] = t_a[k] * b[k] * c[k] + a[k] * (t_b[k] * c[k] + b[k] * t_c[k])
