"""The edges of one block of ViSNet, forward and backward, in tiles that stay in the processor's cache."""

# Shapes: N atoms, E edges sorted by center, F channels, S components, H heads, parts = blocks of F rows of edge_proj.

from __future__ import annotations

from mlcalc.kernels.blas import multiply
from mlcalc.kernels.compile import kernel
from mlcalc.kernels.visnet.rows import (
    add_directions,
    add_directions_back,
    add_row,
    add_vectors,
    add_vectors_back,
    components_along,
    dot,
    inner_products,
    inner_products_back,
    multiply_rows,
    project,
    rejections_back,
    scale_row,
    silu,
    silu_slopes,
    weigh_rows,
)

TILE = 64  # edges
ROWS = 4  # of work space, with F channels each


@kernel
def forward_edges(shape, bounds, edges, weights, states, kept, sums, tile):
    """Messages and updates of the edges bounds[0] to bounds[1].

    shape: (heads, first, smooth, rejects, keeps), heads being matrices (F, H) and (H, F) of ones where a channel is of
    a head; edges: (center, neighbor, envelope, harmonics); weights: (We, be, Ws, bs), transposed; states: (qkv (N, 3F),
    vec (N, S, F), pq (N, S, 2F), tt (N, S, 2F), f (E, F), f' (E, F)); kept: (P (E, parts F), Z (E, 2F)) or tiles of
    them; sums: (X (N, F), V (N, S, F)); tile: work space.
    """
    heads, first, smooth, rejects, keeps = shape
    center, neighbor, envelope, harmonics = edges
    edge_weight, edge_bias, gate_weight, gate_bias = weights
    qkv, vec, pq, tt, f, f_next = states
    all_P, all_Z = kept
    X, V = sums
    messages, all_act, all_gates, _, _, row = tile
    F, width = f.shape[1], edge_bias.shape[0]
    w, along = row[:F], row[F : 3 * F]
    for start in range(bounds[0], bounds[1], TILE):
        stop = min(start + TILE, bounds[1])
        size, offset = stop - start, start if keeps else 0
        P, Z = all_P[offset : offset + size], all_Z[offset : offset + size]
        act, gates = all_act[:size], all_gates[:size]
        project(f[start:stop], edge_weight, edge_bias, P)
        silu(P, act)
        messages_of(heads, (start, stop), edges, qkv, act, tile)
        for e in range(start, stop):
            i, j, k = center[e], neighbor[e], e - start
            add_row(messages[k], X[i])
            if width > 2 * F:
                products(pq[i], pq[j], harmonics[e], rejects, along, w)
                update(f[e], act[k, 2 * F : 3 * F], w, f_next[e])
            if width > 3 * F:
                products(tt[i], tt[i], harmonics[e], rejects, along, w)
                update(f_next[e], act[k, 3 * F :], w, f_next[e])
        project(messages[:size], gate_weight, gate_bias, Z)
        silu(Z, gates)
        for e in range(start, stop):
            i, j, gate = center[e], neighbor[e], gates[e - start]
            if smooth:
                scale_row(gate, envelope[e])
            if first:
                add_directions(harmonics[e], gate, V[i])
            else:
                add_vectors(vec[j], gate[:F], harmonics[e], gate[F:], V[i])


@kernel
def messages_of(heads, bounds, edges, qkv, act, tile):
    """v_j dv a with a = silu(<q_i, k_j dk>) C per head, of the edges of one tile, in its messages."""
    center, neighbor, envelope, _ = edges
    messages, _, _, t, all_logits, _ = tile
    gather, spread = heads
    F, size = messages.shape[1], bounds[1] - bounds[0]
    logits = all_logits[0, :size]
    for k in range(size):
        i, j = center[bounds[0] + k], neighbor[bounds[0] + k]
        multiply_rows(qkv[i, :F], qkv[j, F : 2 * F], act[k, :F], t[k])
    multiply(t[:size], gather, logits, 0)
    silu(logits, logits)
    multiply(logits, spread, t, 0)
    for k in range(size):
        e = bounds[0] + k
        weigh_rows(qkv[neighbor[e], 2 * F :], act[k, F : 2 * F], t[k], envelope[e], messages[k])


@kernel
def backward_edges(shape, bounds, edges, weights, states, kept, gradients, edge_gradients, tile):
    """Derivatives by what `forward_edges` was given, added to them.

    weights: (We, be, Ws, bs) transposed, then We and Ws as they are; gradients: by (X, V) and, added to, by own rows of
    (qkv, pq, tt), by any rows of (k and v (N, 2F), vec, q (N, S, F)); edge_gradients: by (envelope (E,), harmonics
    (E, S), f (E, F)), the last one being that by f' when it comes in.
    """
    heads, _, _, rejects, keeps = shape
    center, neighbor, _, harmonics = edges
    edge_weight, edge_bias, gate_weight, gate_bias, edge_rows, gate_rows = weights
    qkv, _, pq, tt, f = states
    all_P, all_Z = kept
    gX, gV, own_qkv, own_pq, own_tt, any_kv, any_vec, any_q = gradients
    g_envelope, g_harmonics, gf = edge_gradients
    messages, all_act, all_gates, t, logits, row, all_gP, all_gZ, all_gm = tile
    F, width = f.shape[1], edge_bias.shape[0]
    for start in range(bounds[0], bounds[1], TILE):
        stop = min(start + TILE, bounds[1])
        size, offset = stop - start, start if keeps else 0
        P, Z = all_P[offset : offset + size], all_Z[offset : offset + size]
        act, gates, gP, gZ, gm = all_act[:size], all_gates[:size], all_gP[:size], all_gZ[:size], all_gm[:size]
        if not keeps:
            project(f[start:stop], edge_weight, edge_bias, P)
            silu(P, act)
            messages_of(heads, (start, stop), edges, qkv, act, (messages, act, gates, t, logits, row))
            project(messages[:size], gate_weight, gate_bias, Z)
        silu_slopes(Z, gates, gZ)
        for e in range(start, stop):
            gates_back(
                shape, e, edges, states, (gV, any_vec), gates[e - start], gZ[e - start], (g_envelope, g_harmonics), row
            )
        multiply(gZ, gate_rows, gm, 0)
        silu_slopes(P, act, gP)
        for e in range(start, stop):
            add_row(gX[center[e]], gm[e - start])
        messages_back(
            heads, (start, stop), edges, qkv, act, gm, gP, (own_qkv, any_kv, g_envelope), (messages, t, logits)
        )
        for e in range(start, stop):
            i, j, k = center[e], neighbor[e], e - start
            if width > 2 * F:
                product_back(
                    rejects, harmonics[e], g_harmonics[e], pq[i], pq[j], own_pq[i], any_q[j],
                    act[k, 2 * F : 3 * F], gf[e], gP[k, 2 * F : 3 * F], row,
                )  # fmt: skip
            if width > 3 * F:
                product_back(
                    rejects, harmonics[e], g_harmonics[e], tt[i], tt[i], own_tt[i], own_tt[i, :, F:],
                    act[k, 3 * F :], gf[e], gP[k, 3 * F :], row,
                )  # fmt: skip
        multiply(gP, edge_rows, gf[start:stop], 1)


@kernel
def gates_back(shape, e, edges, states, vectors, plain, gZ, edge_gradients, row):
    """Derivatives of the vector message of edge e by Z, by the envelope, by the harmonics and by vec_j.

    plain: silu(Z); gZ comes in as the slope of that.
    """
    _, first, smooth, _, _ = shape
    center, neighbor, envelope, harmonics = edges
    gV, any_vec = vectors
    g_envelope, g_harmonics = edge_gradients
    i, j, width, F = center[e], neighbor[e], plain.shape[0], gV.shape[2]
    gate, g_gate = row[:width], row[width:][:width]
    factor = envelope[e] if smooth else plain.dtype.type(1)
    for c in range(width):
        gate[c] = plain[c] * factor
        g_gate[c] = 0
    if first:
        add_directions_back(gV[i], harmonics[e], gate, g_gate, g_harmonics[e])
    else:
        vec = states[1]
        add_vectors_back(
            gV[i], vec[j], gate[:F], harmonics[e], gate[F:], g_gate[:F], g_gate[F:], any_vec[j], g_harmonics[e]
        )
    if smooth:
        g_envelope[e] += dot(g_gate, plain)
    for c in range(width):
        gZ[c] *= g_gate[c] * factor


@kernel
def messages_back(heads, bounds, edges, qkv, act, gm, gP, gradients, tile):
    """Derivatives of the messages of one tile by P, by the projections of both atoms and by the envelope.

    gP comes in as the slopes of act = silu(P).
    """
    center, neighbor, envelope, _ = edges
    own_qkv, any_kv, g_envelope = gradients
    all_t, all_a, logits = tile
    gather, spread = heads
    F, size = gm.shape[1], bounds[1] - bounds[0]
    t, a = all_t[:size], all_a[:size]
    weight, slope, g_weight = logits[0, :size], logits[1, :size], logits[2, :size]
    for k in range(size):
        i, j = center[bounds[0] + k], neighbor[bounds[0] + k]
        multiply_rows(qkv[i, :F], qkv[j, F : 2 * F], act[k, :F], t[k])
        multiply_rows(gm[k], qkv[j, 2 * F :], act[k, F : 2 * F], a[k])
    multiply(t, gather, weight, 0)
    multiply(a, gather, g_weight, 0)
    silu_slopes(weight, weight, slope)
    multiply(weight, spread, a, 0)
    for k in range(size):
        e = bounds[0] + k
        g_envelope[e] += dot(g_weight[k], weight[k])
        for h in range(gather.shape[1]):
            g_weight[k, h] *= slope[k, h] * envelope[e]
    multiply(g_weight, spread, t, 0)
    for k in range(size):
        e = bounds[0] + k
        i, j = center[e], neighbor[e]
        q, key, v = qkv[i, :F], qkv[j, F : 2 * F], qkv[j, 2 * F :]
        values_back(gm[k], a[k], envelope[e], v, act[k, F : 2 * F], gP[k, F : 2 * F], any_kv[j, F:])
        logits_back(t[k], q, key, act[k, :F], gP[k, :F], own_qkv[i, :F], any_kv[j, :F])


@kernel
def values_back(gm, a, envelope, v, dv, gP, gv):
    """By P (through dv) and by v_j; the attention a is overwritten."""
    for c in range(gP.shape[0]):
        a[c] *= gm[c] * envelope
        gP[c] *= a[c] * v[c]
    for c in range(gP.shape[0]):
        gv[c] += a[c] * dv[c]


@kernel
def logits_back(gl, q, k, dk, gP, gq, gk):
    """By P (through dk), q_i and k_j; the derivative by the logits is overwritten."""
    for c in range(gP.shape[0]):
        gP[c] *= gl[c] * q[c] * k[c]
        gl[c] *= dk[c]
    for c in range(gq.shape[0]):
        gq[c] += gl[c] * k[c]
        gk[c] += gl[c] * q[c]


@kernel
def update(f, gate, w, out):
    for c in range(out.shape[0]):
        out[c] = f[c] + gate[c] * w[c]


@kernel
def products(ps, qs, direction, rejects, along, w):
    """Inner products of the rejections from the direction, of projections p and q."""
    F = w.shape[0]
    inner_products(ps, qs, w)
    if rejects:
        components_along(ps, 0, direction, along[:F])
        components_along(qs, F, direction, along[F:])
        for c in range(F):
            w[c] -= along[c] * along[F + c]


@kernel
def product_back(rejects, direction, g_direction, ps, qs, g_ps, g_qs, gate, gf, gP, row):
    """Derivatives of silu(P) w by P and, through w, by the projections p and q of two atoms.

    gate: silu(P); gP comes in as the slope of that.
    """
    F = gP.shape[0]
    w, gw, along = row[:F], row[F : 2 * F], row[2 * F : 4 * F]
    for c in range(F):
        gw[c] = gf[c] * gate[c]
    if rejects:
        products(ps, qs, direction, rejects, along, w)
        rejections_back(gw, ps, qs, along[:F], along[F:], direction, g_ps, g_qs, g_direction)
    else:
        inner_products_back(gw, ps, qs, w, g_ps, g_qs)
    for c in range(F):
        gP[c] *= gf[c] * w[c]
