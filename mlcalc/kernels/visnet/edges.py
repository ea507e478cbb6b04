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
    attention,
    attention_slopes,
    components_along,
    dot,
    inner_products,
    inner_products_back,
    multiply_rows,
    project,
    rejections_back,
    scale_row,
    silu_rows,
    silu_slopes,
)

TILE = 64  # edges
ROWS = 12  # of work space, with F channels each


@kernel
def forward_edges(shape, bounds, edges, weights, states, kept, sums, tile):
    """Messages and updates of the edges bounds[0] to bounds[1].

    shape: (heads, first, smooth, rejects, keeps); edges: (center, neighbor, envelope, harmonics); weights: (We, be,
    Ws, bs), transposed; states: (qkv (N, 3F), vec (N, S, F), pq (N, S, 2F), tt (N, S, 2F), f (E, F), f' (E, F));
    kept: (P (E, parts F), Z (E, 2F)) or tiles of them; sums: (X (N, F), V (N, S, F)); tile: work space.
    """
    heads, first, smooth, rejects, keeps = shape
    center, neighbor, envelope, harmonics = edges
    edge_weight, edge_bias, gate_weight, gate_bias = weights
    qkv, vec, pq, tt, f, f_next = states
    all_P, all_Z = kept
    X, V = sums
    messages, row = tile
    F, width, gates = f.shape[1], edge_bias.shape[0], gate_bias.shape[0]
    act, gate = row[:width], row[width : width + gates]
    a, w, along = row[width + gates :][:F], row[width + gates + F :][:F], row[width + gates + 2 * F :][: 2 * F]
    for start in range(bounds[0], bounds[1], TILE):
        stop = min(start + TILE, bounds[1])
        offset = start if keeps else 0
        P, Z = all_P[offset : offset + stop - start], all_Z[offset : offset + stop - start]
        project(f[start:stop], edge_weight, edge_bias, P)
        for e in range(start, stop):
            i, j, k = center[e], neighbor[e], e - start
            silu_rows(P[k], act)
            message(heads, envelope[e], qkv[i], qkv[j], act, a, messages[k])
            add_row(messages[k], X[i])
            if width > 2 * F:
                products(pq[i], pq[j], harmonics[e], rejects, along, w)
                update(f[e], act[2 * F : 3 * F], w, f_next[e])
            if width > 3 * F:
                products(tt[i], tt[i], harmonics[e], rejects, along, w)
                update(f_next[e], act[3 * F :], w, f_next[e])
        project(messages[: stop - start], gate_weight, gate_bias, Z)
        for e in range(start, stop):
            i, j, k = center[e], neighbor[e], e - start
            silu_rows(Z[k], gate)
            if smooth:
                scale_row(gate, envelope[e])
            if first:
                add_directions(harmonics[e], gate, V[i])
            else:
                add_vectors(vec[j], gate[:F], harmonics[e], gate[F:], V[i])


@kernel
def backward_edges(shape, bounds, edges, weights, states, kept, gradients, edge_gradients, tile):
    """Derivatives by what `forward_edges` was given, added to them.

    weights: (We, be, Ws, bs) transposed, then We and Ws as they are; gradients: by (X, V) and, added to, by own rows of
    (qkv, pq, tt), by any rows of (k and v (N, 2F), vec, q (N, S, F)); edge_gradients: by (envelope (E,), harmonics
    (E, S), f (E, F)), the last one being that by f' when it comes in.
    """
    heads, _, _, rejects, keeps = shape
    center, neighbor, envelope, harmonics = edges
    edge_weight, edge_bias, gate_weight, gate_bias, edge_rows, gate_rows = weights
    qkv, _, pq, tt, f = states
    all_P, all_Z = kept
    gX, gV, own_qkv, own_pq, own_tt, any_kv, any_vec, any_q = gradients
    g_envelope, g_harmonics, gf = edge_gradients
    messages, all_gP, all_gZ, gm, row, per_head = tile
    F, width = f.shape[1], edge_bias.shape[0]
    act, slope, rest = row[:width], row[width : 2 * width], row[2 * width :]
    for start in range(bounds[0], bounds[1], TILE):
        stop = min(start + TILE, bounds[1])
        size, offset = stop - start, start if keeps else 0
        P, Z = all_P[offset : offset + size], all_Z[offset : offset + size]
        gP, gZ = all_gP[:size], all_gZ[:size]
        if not keeps:
            project(f[start:stop], edge_weight, edge_bias, P)
            for e in range(start, stop):
                silu_rows(P[e - start], act)
                message(heads, envelope[e], qkv[center[e]], qkv[neighbor[e]], act, rest[:F], messages[e - start])
            project(messages[:size], gate_weight, gate_bias, Z)
        for e in range(start, stop):
            gates_back(
                shape, e, edges, states, (gV, any_vec), Z[e - start], gZ[e - start], (g_envelope, g_harmonics), row
            )
        multiply(gZ, gate_rows, gm[:size], 0)
        for e in range(start, stop):
            i, j, k = center[e], neighbor[e], e - start
            add_row(gX[i], gm[k])
            silu_slopes(P[k], act, slope)
            g_envelope[e] += message_back(
                heads, envelope[e], qkv[i], qkv[j], act, slope, gm[k], gP[k], own_qkv[i], any_kv[j], rest, per_head
            )
            if width > 2 * F:
                product_back(
                    rejects, harmonics[e], g_harmonics[e], pq[i], pq[j], own_pq[i], any_q[j],
                    act[2 * F : 3 * F], slope[2 * F : 3 * F], gf[e], gP[k, 2 * F : 3 * F], rest,
                )  # fmt: skip
            if width > 3 * F:
                product_back(
                    rejects, harmonics[e], g_harmonics[e], tt[i], tt[i], own_tt[i], own_tt[i, :, F:],
                    act[3 * F :], slope[3 * F :], gf[e], gP[k, 3 * F :], rest,
                )  # fmt: skip
        multiply(gP, edge_rows, gf[start:stop], 1)


@kernel
def gates_back(shape, e, edges, states, vectors, Z, gZ, edge_gradients, row):
    """Derivatives of the vector message of edge e by Z, by the envelope, by the harmonics and by vec_j."""
    _, first, smooth, _, _ = shape
    center, neighbor, envelope, harmonics = edges
    gV, any_vec = vectors
    g_envelope, g_harmonics = edge_gradients
    i, j, width, F = center[e], neighbor[e], Z.shape[0], gV.shape[2]
    plain, slope, gate, g_gate = row[:width], row[width:][:width], row[2 * width :][:width], row[3 * width :][:width]
    factor = envelope[e] if smooth else Z.dtype.type(1)
    silu_slopes(Z, plain, slope)
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
        gZ[c] = g_gate[c] * slope[c] * factor


@kernel
def message(heads, envelope, own, other, act, a, out):
    """v_j dv a, with the attention a left in the row of that name."""
    F = out.shape[0]
    attention(own[:F], other[F : 2 * F], act[:F], heads, envelope, a)
    multiply_rows(other[2 * F :], act[F : 2 * F], a, out)


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
def message_back(heads, envelope, own, other, act, slope, gm, gP, g_own, g_other, row, per_head):
    """Derivatives of a message by P and by the projections of both atoms; returned is that by the envelope."""
    F, width = gm.shape[0], gm.shape[0] // heads
    q, k, v = own[:F], other[F : 2 * F], other[2 * F :]
    dk, dv = act[:F], act[F : 2 * F]
    a, a_slope, t = row[:F], row[F : 2 * F], row[2 * F : 3 * F]
    attention_slopes(q, k, dk, heads, envelope, a, a_slope, per_head)
    multiply_rows(gm, v, dv, t)
    total = gm.dtype.type(0)
    for h in range(heads):
        ga = gm.dtype.type(0)
        for c in range(h * width, (h + 1) * width):
            ga += t[c]
        total += ga * per_head[h]
        for c in range(h * width, (h + 1) * width):
            a_slope[c] *= ga
    values_back(gm, a, v, dv, slope[F : 2 * F], gP[F : 2 * F], g_other[F:])
    logits_back(a_slope, q, k, dk, slope[:F], gP[:F], g_own[:F], g_other[:F])
    return total


@kernel
def values_back(gm, a, v, dv, slope, gP, gv):
    for c in range(gP.shape[0]):
        t = gm[c] * a[c]
        gP[c] = t * v[c] * slope[c]
        gv[c] += t * dv[c]


@kernel
def logits_back(gl, q, k, dk, slope, gP, gq, gk):
    for c in range(gP.shape[0]):
        gP[c] = gl[c] * q[c] * k[c] * slope[c]
    for c in range(gq.shape[0]):
        t = gl[c] * dk[c]
        gq[c] += t * k[c]
        gk[c] += t * q[c]


@kernel
def product_back(rejects, direction, g_direction, ps, qs, g_ps, g_qs, gate, slope, gf, gP, row):
    """Derivatives of silu(P) w by P and, through w, by the projections p and q of two atoms."""
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
        gP[c] = gf[c] * w[c] * slope[c]
