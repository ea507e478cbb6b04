"""The edges of one block of ViSNet: tangents forward and backward, with the derivatives by the weights."""

# A prefix t_ marks the tangent of what has the rest of the name, along a displacement of all atoms.

from __future__ import annotations

from mlcalc.kernels.blas import multiply, multiply_transposed
from mlcalc.kernels.compile import kernel
from mlcalc.kernels.elementwise import sigmoid
from mlcalc.kernels.visnet.edges import TILE
from mlcalc.kernels.visnet.embedding import add_product
from mlcalc.kernels.visnet.node_tangents import add_products, gate_tangent
from mlcalc.kernels.visnet.rows import (
    add_columns,
    add_directions,
    add_row,
    add_vectors,
    clear,
    components_along,
    inner_products,
    multiply_rows,
    silu_slopes,
)


@kernel
def forward_edges_tangent(shape, bounds, edges, t_edges, weights, states, t_states, kept, t_kept, t_sums, tile):
    """Tangents of what `forward_edges` gives.

    edges: (center, neighbor, envelope, harmonics); t_edges: of the last two; weights: (We, Ws), transposed; states,
    t_states: (qkv, vec, pq, tt, f, f'); kept: (P, Z, messages, logits (E, H)), the logits being set here, and t_kept
    their tangents, all set; t_sums: of (X, V), added to.
    """
    heads, first, smooth, rejects, _ = shape
    center, neighbor, envelope, harmonics = edges
    t_envelope, t_harmonics = t_edges
    edge_weight, gate_weight = weights
    qkv, vec, pq, tt, _, _ = states
    t_qkv, t_vec, t_pq, t_tt, t_f, t_f_next = t_states
    P, Z, _, _ = kept
    t_P, t_Z, t_messages, _ = t_kept
    t_X, t_V = t_sums
    all_act, all_t_act, _, _, _, all_gates, all_t_gates, _, _, _, _, _, _, row = tile
    F, width = t_f.shape[1], P.shape[1]
    w, t_w, rest = row[:F], row[F : 2 * F], row[2 * F :]
    for start in range(bounds[0], bounds[1], TILE):
        stop = min(start + TILE, bounds[1])
        size = stop - start
        act, t_act, gates, t_gates = all_act[:size], all_t_act[:size], all_gates[:size], all_t_gates[:size]
        multiply(t_f[start:stop], edge_weight, t_P[start:stop], 0)
        silu_slopes(P[start:stop], act, t_act)
        scale_all(t_P[start:stop], t_act)
        messages_tangent(heads, (start, stop), edges, t_envelope, (qkv, t_qkv), (act, t_act), kept, t_kept, tile)
        for e in range(start, stop):
            i, j, k = center[e], neighbor[e], e - start
            add_row(t_messages[e], t_X[i])
            if width > 2 * F:
                products_tangent(
                    (pq[i], pq[j]), (t_pq[i], t_pq[j]), harmonics[e], t_harmonics[e], rejects, rest, w, t_w
                )
                set_update(t_f[e], t_act[k, 2 * F : 3 * F], w, act[k, 2 * F : 3 * F], t_w, t_f_next[e])
            if width > 3 * F:
                products_tangent(
                    (tt[i], tt[i]), (t_tt[i], t_tt[i]), harmonics[e], t_harmonics[e], rejects, rest, w, t_w
                )
                add_products(t_act[k, 3 * F :], w, act[k, 3 * F :], t_w, t_f_next[e])
        multiply(t_messages[start:stop], gate_weight, t_Z[start:stop], 0)
        silu_slopes(Z[start:stop], gates, t_gates)
        scale_all(t_Z[start:stop], t_gates)
        for e in range(start, stop):
            i, j, gate, t_gate = center[e], neighbor[e], gates[e - start], t_gates[e - start]
            if smooth:
                fade_tangent(gate, t_gate, envelope[e], t_envelope[e])
            if first:
                add_directions(t_harmonics[e], gate, t_V[i])
                add_directions(harmonics[e], t_gate, t_V[i])
            else:
                add_vectors(t_vec[j], gate[:F], t_harmonics[e], gate[F:], t_V[i])
                add_vectors(vec[j], t_gate[:F], harmonics[e], t_gate[F:], t_V[i])


@kernel
def messages_tangent(heads, bounds, edges, t_envelope, qkvs, acts, kept, t_kept, tile):
    """Tangents of the messages of one tile, and the logits of its attention with their tangents."""
    center, neighbor, envelope, _ = edges
    qkv, t_qkv = qkvs
    act, t_act = acts
    logits, t_logits, t_messages = kept[3][bounds[0] : bounds[1]], t_kept[3][bounds[0] : bounds[1]], t_kept[2]
    rows, per_head = tile[11], tile[12]
    gather, spread = heads
    F, size = gather.shape[0], bounds[1] - bounds[0]
    a, t_a, w, t_w = rows[0, :size], rows[1, :size], per_head[0, :size], per_head[1, :size]
    for k in range(size):
        i, j = center[bounds[0] + k], neighbor[bounds[0] + k]
        q, key, dk, t_q, t_key, t_dk = (
            qkv[i, :F], qkv[j, F : 2 * F], act[k, :F], t_qkv[i, :F], t_qkv[j, F : 2 * F], t_act[k, :F],
        )  # fmt: skip
        multiply_rows(q, key, dk, a[k])
        gate_tangent(q, t_q, key, t_key, dk, t_dk, t_a[k])
    multiply(a, gather, logits, 0)
    multiply(t_a, gather, t_logits, 0)
    silu_slopes(logits, w, t_w)
    scale_all(t_logits, t_w)
    for k in range(size):
        fade_tangent(w[k], t_w[k], envelope[bounds[0] + k], t_envelope[bounds[0] + k])
    multiply(w, spread, a, 0)
    multiply(t_w, spread, t_a, 0)
    for k in range(size):
        j = neighbor[bounds[0] + k]
        v, t_v, dv, t_dv = qkv[j, 2 * F :], t_qkv[j, 2 * F :], act[k, F : 2 * F], t_act[k, F : 2 * F]
        gate_tangent(a[k], t_a[k], v, t_v, dv, t_dv, t_messages[bounds[0] + k])


@kernel
def products_tangent(sources, t_sources, d, t_d, rejects, row, w, t_w):
    """Inner products w of p and q, or of their rejections from d, and the tangents of w."""
    ps, qs = sources
    t_ps, t_qs = t_sources
    F = w.shape[0]
    inner_products(ps, qs, w)
    inner_products(t_ps, qs, t_w)
    add_inner_products(ps, t_qs, t_w)
    if rejects:
        along_rows(sources, t_sources, d, t_d, row[: 4 * F])
        along_p, along_q, t_along_p, t_along_q = row[:F], row[F : 2 * F], row[2 * F : 3 * F], row[3 * F : 4 * F]
        for c in range(F):
            w[c] -= along_p[c] * along_q[c]
        for c in range(F):
            t_w[c] -= t_along_p[c] * along_q[c] + along_p[c] * t_along_q[c]


@kernel
def along_rows(sources, t_sources, d, t_d, row):
    """Components of p and q along d, and their tangents, in four rows of F."""
    ps, qs = sources
    t_ps, t_qs = t_sources
    F = row.shape[0] // 4
    components_along(ps, 0, d, row[:F])
    components_along(qs, F, d, row[F : 2 * F])
    components_along(t_ps, 0, d, row[2 * F : 3 * F])
    components_along(t_qs, F, d, row[3 * F :])
    add_along(ps, 0, t_d, row[2 * F : 3 * F])
    add_along(qs, F, t_d, row[3 * F :])


@kernel
def add_along(x, first, direction, out):
    channels = out.shape[0]
    for s in range(x.shape[0]):
        d, row = direction[s], x[s, first : first + channels]
        for c in range(channels):
            out[c] += d * row[c]


@kernel
def add_inner_products(pq, qs, w):
    channels = w.shape[0]
    for s in range(pq.shape[0]):
        p, q = pq[s, :channels], qs[s, channels:]
        for c in range(channels):
            w[c] += p[c] * q[c]


@kernel
def set_update(x, a, b, c, d, out):
    """out = x + a b + c d."""
    for k in range(out.shape[0]):
        out[k] = x[k] + a[k] * b[k] + c[k] * d[k]


@kernel
def scale_all(x, y):
    """y *= x, for whole arrays."""
    factor, result = x.reshape(x.size), y.reshape(y.size)
    for c in range(factor.shape[0]):
        result[c] *= factor[c]


@kernel
def fade_tangent(x, t_x, envelope, t_envelope):
    """x C and its tangent, in the place of x and its tangent."""
    for c in range(x.shape[0]):
        t_x[c] = t_x[c] * envelope + x[c] * t_envelope
        x[c] *= envelope


@kernel
def silu_curvatures(x, y, slope, curvature):
    """y = silu(x) and its first and second derivative, for whole arrays."""
    one, two = x.dtype.type(1), x.dtype.type(2)
    plain, result, first, second = (
        x.reshape(x.size),
        y.reshape(y.size),
        slope.reshape(x.size),
        curvature.reshape(x.size),
    )
    for c in range(plain.shape[0]):
        s = sigmoid(plain[c])
        t = plain[c] * s
        result[c] = t
        first[c] = s + t * (one - s)
        second[c] = s * (one - s) * (two + plain[c] - two * t)


@kernel
def backward_edges_tangent(
    shape, bounds, edges, t_edges, weights, states, t_states, kept, t_kept, adjoints, t_adjoints, tile, by_weights
):
    """Tangents of what `backward_edges_weights` gives, added to t_adjoints and by_weights.

    weights: (We, Ws) as they are; adjoints: by (V (N, S, F), f' (E, F), P, Z, messages), kept; t_adjoints: tangents by
    (X, V) and f', and, added to, by own rows of (qkv, pq, tt) and any rows of (k and v (N, 2F), vec, q (N, S, F)).
    """
    heads, _, _, rejects, _ = shape
    center, neighbor, _, harmonics = edges
    edge_rows, gate_rows = weights
    qkv, _, pq, tt, f, _ = states
    t_qkv, _, t_pq, t_tt, t_f, _ = t_states
    P, _, messages, _ = kept
    t_P, _, t_messages, _ = t_kept
    _, gf, gP, gZ, gm = adjoints
    t_gX, _, t_gf, own_qkv, own_pq, own_tt, any_kv, _, any_q = t_adjoints
    by_edge, by_edge_bias, by_gate, by_gate_bias = by_weights
    all_act, all_t_act, all_slope, all_t_slope, all_t_gP, _, _, _, _, all_t_gZ, all_t_gm, _, _, row = tile
    F, width = f.shape[1], P.shape[1]
    for start in range(bounds[0], bounds[1], TILE):
        stop = min(start + TILE, bounds[1])
        size = stop - start
        t_gZ, t_gP, t_gm = all_t_gZ[:size], all_t_gP[:size], all_t_gm[:size]
        act, t_act, slope, t_slope = all_act[:size], all_t_act[:size], all_slope[:size], all_t_slope[:size]
        gates_back_tangent(
            shape, (start, stop), edges, t_edges, states, t_states, kept, t_kept, adjoints, t_adjoints, tile
        )
        multiply(t_gZ, gate_rows, t_gm, 0)
        for e in range(start, stop):
            add_row(t_gX[center[e]], t_gm[e - start])
        silu_curvatures(P[start:stop], act, slope, t_slope)
        multiply_all(slope, t_P[start:stop], t_act)
        scale_all(t_P[start:stop], t_slope)
        messages_back_tangent(
            heads,
            (start, stop),
            edges,
            t_edges[0],
            (qkv, t_qkv),
            (kept[3], t_kept[3]),
            (gm, t_gm),
            (own_qkv, any_kv),
            tile,
        )
        for e in range(start, stop):
            i, j, k = center[e], neighbor[e], e - start
            if width > 2 * F:
                product_back_tangent(
                    rejects, (harmonics[e], t_edges[1][e]), (pq[i], pq[j]), (t_pq[i], t_pq[j]), (own_pq[i], any_q[j]),
                    (gf[e], t_gf[e]), (act[k, 2 * F : 3 * F], t_act[k, 2 * F : 3 * F], slope[k, 2 * F : 3 * F],
                    t_slope[k, 2 * F : 3 * F]), t_gP[k, 2 * F : 3 * F], row,
                )  # fmt: skip
            if width > 3 * F:
                product_back_tangent(
                    rejects, (harmonics[e], t_edges[1][e]), (tt[i], tt[i]), (t_tt[i], t_tt[i]),
                    (own_tt[i], own_tt[i, :, F:]), (gf[e], t_gf[e]), (act[k, 3 * F :], t_act[k, 3 * F :],
                    slope[k, 3 * F :], t_slope[k, 3 * F :]), t_gP[k, 3 * F :], row,
                )  # fmt: skip
        multiply(t_gP, edge_rows, t_gf[start:stop], 1)
        multiply_transposed(t_gP, f[start:stop], by_edge, 1)
        multiply_transposed(gP[start:stop], t_f[start:stop], by_edge, 1)
        add_columns(t_gP, by_edge_bias)
        multiply_transposed(t_gZ, messages[start:stop], by_gate, 1)
        multiply_transposed(gZ[start:stop], t_messages[start:stop], by_gate, 1)
        add_columns(t_gZ, by_gate_bias)


@kernel
def gates_back_tangent(shape, bounds, edges, t_edges, states, t_states, kept, t_kept, adjoints, t_adjoints, tile):
    """Tangents of the derivatives by Z, left in the tile, and by vec_j, added to those of any atoms."""
    _, first, smooth, _, _ = shape
    center, neighbor, envelope, harmonics = edges
    t_envelope, t_harmonics = t_edges
    vec, t_vec, gV, t_gV, any_vec = states[1], t_states[1], adjoints[0], t_adjoints[1], t_adjoints[7]
    Z, t_Z = kept[1], t_kept[1]
    gates, slopes, curvatures, t_gZ, row = tile[5], tile[7], tile[8], tile[9], tile[13]
    size, width, F = bounds[1] - bounds[0], Z.shape[1], gV.shape[2]
    silu_curvatures(Z[bounds[0] : bounds[1]], gates[:size], slopes[:size], curvatures[:size])
    g, t_g, gate, t_gate = row[:width], row[2 * F :][:width], row[4 * F : 5 * F], row[5 * F : 6 * F]
    for k in range(size):
        e = bounds[0] + k
        i, j = center[e], neighbor[e]
        factor = envelope[e] if smooth else gV.dtype.type(1)
        t_factor = t_envelope[e] if smooth else gV.dtype.type(0)
        components_along(gV[i], 0, harmonics[e], g[width - F :])
        components_along(t_gV[i], 0, harmonics[e], t_g[width - F :])
        add_along(gV[i], 0, t_harmonics[e], t_g[width - F :])
        if not first:
            clear(g[:F])
            clear(t_g[:F])
            gate_row(gates[k, :F], slopes[k, :F], t_Z[e, :F], factor, t_factor, gate, t_gate)
            for s in range(gV.shape[1]):
                add_product(gV[i, s], vec[j, s], g[:F])
                add_products(t_gV[i, s], vec[j, s], gV[i, s], t_vec[j, s], t_g[:F])
                add_products(t_gV[i, s], gate, gV[i, s], t_gate, any_vec[j, s])
        gate_back_row(g, t_g, factor, t_factor, slopes[k], curvatures[k], t_Z[e], t_gZ[k])


@kernel
def gate_row(plain, slope, t_Z, factor, t_factor, gate, t_gate):
    for c in range(gate.shape[0]):
        gate[c] = plain[c] * factor
        t_gate[c] = slope[c] * t_Z[c] * factor + plain[c] * t_factor


@kernel
def gate_back_row(g, t_g, factor, t_factor, slope, curvature, t_Z, out):
    for c in range(out.shape[0]):
        out[c] = (t_g[c] * factor + g[c] * t_factor) * slope[c] + g[c] * factor * curvature[c] * t_Z[c]


@kernel
def messages_back_tangent(heads, bounds, edges, t_envelope, qkvs, all_logits, g_messages, gradients, tile):
    """Tangents of the derivatives of the messages of one tile by P, left in the tile, and by both atoms, added."""
    center, neighbor, envelope, _ = edges
    qkv, t_qkv = qkvs
    gm, t_gm = g_messages
    own_qkv, any_kv = gradients
    act, t_act, slope, t_slope, t_gP, rows, per_head, row = (
        tile[0], tile[1], tile[2], tile[3], tile[4], tile[11], tile[12], tile[13],
    )  # fmt: skip
    F, size = heads[0].shape[0], bounds[1] - bounds[0]
    a, t_a, gl, t_gl = rows[0, :size], rows[1, :size], rows[2, :size], rows[3, :size]
    for k in range(size):
        e = bounds[0] + k
        v, t_v, dv, t_dv = (
            qkv[neighbor[e], 2 * F :],
            t_qkv[neighbor[e], 2 * F :],
            act[k, F : 2 * F],
            t_act[k, F : 2 * F],
        )
        multiply_rows(gm[e], v, dv, a[k])
        gate_tangent(gm[e], t_gm[k], v, t_v, dv, t_dv, t_a[k])
    attention_back_tangent(heads, bounds, envelope, t_envelope, all_logits, (a, t_a, gl, t_gl), per_head)
    for k in range(size):
        e = bounds[0] + k
        i, j = center[e], neighbor[e]
        values_back_tangent(
            (gm[e], t_gm[k], a[k], t_a[k]), (qkv[j, 2 * F :], t_qkv[j, 2 * F :]),
            (act[k, F : 2 * F], t_act[k, F : 2 * F], slope[k, F : 2 * F], t_slope[k, F : 2 * F]), t_gP[k, F : 2 * F],
            any_kv[j, F:], row[:F],
        )  # fmt: skip
        logits_back_tangent(
            (gl[k], t_gl[k]), (qkv[i, :F], t_qkv[i, :F]), (qkv[j, F : 2 * F], t_qkv[j, F : 2 * F]),
            (act[k, :F], t_act[k, :F], slope[k, :F], t_slope[k, :F]), t_gP[k, :F], own_qkv[i, :F], any_kv[j, :F],
            row[:F],
        )  # fmt: skip


@kernel
def attention_back_tangent(heads, bounds, envelope, t_envelope, all_logits, rows, per_head):
    """From the derivatives by the attention in each channel to attention and derivatives by logits, with tangents.

    rows: (a, t_a, gl, t_gl), each (tile, F), of which the first two come in as gm v dv and its tangent.
    """
    gather, spread = heads
    a, t_a, gl, t_gl = rows
    size, first = bounds[1] - bounds[0], bounds[0]
    w, s, curvature = per_head[0, :size], per_head[1, :size], per_head[2, :size]
    g, t_g, t_w = per_head[3, :size], per_head[4, :size], per_head[5, :size]
    logits, t_logits = all_logits[0][first : bounds[1]], all_logits[1][first : bounds[1]]
    multiply(a, gather, g, 0)
    multiply(t_a, gather, t_g, 0)
    silu_curvatures(logits, w, s, curvature)
    for k in range(size):
        C, t_C = envelope[first + k], t_envelope[first + k]
        for h in range(gather.shape[1]):
            t_w[k, h] = s[k, h] * t_logits[k, h] * C + w[k, h] * t_C
            w[k, h] *= C
            t_slope = curvature[k, h] * t_logits[k, h] * C + s[k, h] * t_C
            t_g[k, h] = t_g[k, h] * s[k, h] * C + g[k, h] * t_slope
            g[k, h] *= s[k, h] * C
    multiply(w, spread, a, 0)
    multiply(t_w, spread, t_a, 0)
    multiply(g, spread, gl, 0)
    multiply(t_g, spread, t_gl, 0)


@kernel
def values_back_tangent(messages, values, acts, t_gP, t_gv, row):
    gm, t_gm, a, t_a = messages
    v, t_v = values
    dv, t_dv, slope, t_slope = acts
    for c in range(row.shape[0]):
        row[c] = t_gm[c] * a[c] + gm[c] * t_a[c]
    for c in range(row.shape[0]):
        a[c] *= gm[c]
    set_back(row, a, v, t_v, slope, t_slope, t_gP)
    add_products(row, dv, a, t_dv, t_gv)


@kernel
def logits_back_tangent(logits, own, other, acts, t_gP, t_gq, t_gk, row):
    gl, t_gl = logits
    q, t_q = own
    k, t_k = other
    dk, t_dk, slope, t_slope = acts
    for c in range(row.shape[0]):
        t_gP[c] = (t_gl[c] * q[c] * k[c] + gl[c] * (t_q[c] * k[c] + q[c] * t_k[c])) * slope[c]
    for c in range(row.shape[0]):
        t_gP[c] += gl[c] * q[c] * k[c] * t_slope[c]
    for c in range(row.shape[0]):
        row[c] = t_gl[c] * dk[c] + gl[c] * t_dk[c]
    for c in range(row.shape[0]):
        gl[c] *= dk[c]
    add_products(row, k, gl, t_k, t_gq)
    add_products(row, q, gl, t_q, t_gk)


@kernel
def set_back(t_a, a, b, t_b, slope, t_slope, out):
    """The tangent of a b slope."""
    for c in range(out.shape[0]):
        out[c] = (t_a[c] * b[c] + a[c] * t_b[c]) * slope[c] + a[c] * b[c] * t_slope[c]


@kernel
def product_back_tangent(rejects, directions, sources, t_sources, gradients, g_f, acts, t_gP, row):
    """Tangents of the derivatives of silu(P) w by P and, through w, by p and q."""
    d, t_d = directions
    ps, qs = sources
    t_ps, t_qs = t_sources
    t_g_ps, t_g_qs = gradients
    gf, t_gf = g_f
    act, t_act, slope, t_slope = acts
    F = t_gP.shape[0]
    w, t_w, gw, t_gw, rest = row[:F], row[F : 2 * F], row[2 * F : 3 * F], row[3 * F : 4 * F], row[4 * F : 8 * F]
    products_tangent(sources, t_sources, d, t_d, rejects, rest, w, t_w)
    for c in range(F):
        gw[c] = gf[c] * act[c]
        t_gw[c] = t_gf[c] * act[c] + gf[c] * t_act[c]
    set_back(t_gf, gf, w, t_w, slope, t_slope, t_gP)
    for s in range(ps.shape[0]):
        add_products(t_gw, qs[s, F:], gw, t_qs[s, F:], t_g_ps[s, :F])
        add_products(t_gw, ps[s, :F], gw, t_ps[s, :F], t_g_qs[s, :F])
    if rejects:
        along_p, along_q, t_along_p, t_along_q = rest[:F], rest[F : 2 * F], rest[2 * F : 3 * F], rest[3 * F :]
        for s in range(ps.shape[0]):
            subtract_along(t_gw, gw, along_q, t_along_q, d[s], t_d[s], t_g_ps[s, :F])
            subtract_along(t_gw, gw, along_p, t_along_p, d[s], t_d[s], t_g_qs[s, :F])


@kernel
def subtract_along(t_g, g, along, t_along, d, t_d, out):
    for c in range(out.shape[0]):
        out[c] -= (t_g[c] * d + g[c] * t_d) * along[c] + g[c] * d * t_along[c]


@kernel
def multiply_all(x, y, out):
    """out = x y, for whole arrays."""
    a, b, result = x.reshape(x.size), y.reshape(y.size), out.reshape(out.size)
    for c in range(a.shape[0]):
        result[c] = a[c] * b[c]
