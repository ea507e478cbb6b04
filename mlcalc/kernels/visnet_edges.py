"""The edges of one block of ViSNet, forward and backward, in tiles that stay in the processor's cache."""

# Shapes: N atoms, E edges sorted by center, F channels, S components, H heads, parts = blocks of F rows of edge_proj.

from __future__ import annotations

from mlcalc.kernels.blas import multiply
from mlcalc.kernels.compile import kernel
from mlcalc.kernels.visnet_rows import (
    add_directions,
    add_directions_back,
    add_row,
    add_vectors,
    add_vectors_back,
    attention,
    attention_slopes,
    clear,
    components_along,
    dot,
    inner_products,
    inner_products_back,
    multiply_rows,
    project,
    rejections_back,
    silu_rows,
    silu_slopes,
)

TILE = 64  # edges


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
    messages, rows = tile
    F, parts = f.shape[1], edge_bias.shape[0] // f.shape[1]
    one = f.dtype.type(1)
    a, dk, dv, w = rows[0], rows[1], rows[2], rows[3]
    for start in range(bounds[0], bounds[1], TILE):
        stop = min(start + TILE, bounds[1])
        offset = start if keeps else 0
        P, Z = all_P[offset : offset + stop - start], all_Z[offset : offset + stop - start]
        project(f[start:stop], edge_weight, edge_bias, P)
        for e in range(start, stop):
            i, j, k = center[e], neighbor[e], e - start
            silu_rows(P[k, :F], dk)
            silu_rows(P[k, F : 2 * F], dv)
            attention(qkv[i, :F], qkv[j, F : 2 * F], dk, heads, envelope[e], a)
            multiply_rows(qkv[j, 2 * F :], dv, a, messages[k])
            add_row(messages[k], X[i])
        project(messages[: stop - start], gate_weight, gate_bias, Z)
        for e in range(start, stop):
            i, j, k = center[e], neighbor[e], e - start
            gates(Z[k], envelope[e] if smooth else one, rows[4:6])
            if first:
                add_directions(harmonics[e], rows[4], V[i])
            else:
                add_vectors(vec[j], rows[4], harmonics[e], rows[5], V[i])
            if parts > 2:
                products(pq[i], pq[j], harmonics[e], rejects, rows[6:8], w)
                silu_rows(P[k, 2 * F : 3 * F], dk)
                update(f[e], dk, w, f_next[e])
            if parts > 3:
                products(tt[i], tt[i], harmonics[e], rejects, rows[6:8], w)
                silu_rows(P[k, 3 * F :], dk)
                update(f_next[e], dk, w, f_next[e])


@kernel
def backward_edges(shape, bounds, edges, weights, states, kept, gradients, edge_gradients, tile):
    """Derivatives by what `forward_edges` was given, added to them.

    weights: (We, be, Ws, bs) transposed, then We and Ws as they are; gradients: by (X, V) and, added to, by own rows of
    (qkv, pq, tt), by any rows of (k and v (N, 2F), vec, q (N, S, F)); edge_gradients: by (envelope (E,), harmonics
    (E, S), f (E, F)), the last one being that by f' when it comes in.
    """
    heads, first, smooth, rejects, keeps = shape
    center, neighbor, envelope, harmonics = edges
    edge_weight, edge_bias, gate_weight, gate_bias, edge_rows, gate_rows = weights
    qkv, vec, pq, tt, f = states
    all_P, all_Z = kept
    gX, gV, own_qkv, own_pq, own_tt, any_kv, any_vec, any_q = gradients
    g_envelope, g_harmonics, gf = edge_gradients
    messages, all_gP, all_gZ, gm, rows, per_head = tile
    F, parts = f.shape[1], edge_bias.shape[0] // f.shape[1]
    one = f.dtype.type(1)
    for start in range(bounds[0], bounds[1], TILE):
        stop = min(start + TILE, bounds[1])
        size, offset = stop - start, start if keeps else 0
        P, Z = all_P[offset : offset + size], all_Z[offset : offset + size]
        gP, gZ = all_gP[:size], all_gZ[:size]
        if not keeps:
            project(f[start:stop], edge_weight, edge_bias, P)
            for e in range(start, stop):
                silu_rows(P[e - start, :F], rows[0])
                silu_rows(P[e - start, F : 2 * F], rows[1])
                i, j = center[e], neighbor[e]
                attention(qkv[i, :F], qkv[j, F : 2 * F], rows[0], heads, envelope[e], rows[2])
                multiply_rows(qkv[j, 2 * F :], rows[1], rows[2], messages[e - start])
            project(messages[:size], gate_weight, gate_bias, Z)
        for e in range(start, stop):
            i, j, k = center[e], neighbor[e], e - start
            factor = envelope[e] if smooth else one
            gates_slopes(Z[k], factor, rows[0:2], gZ[k], rows[2:4])  # gZ: the slopes for now
            clear(rows[4])
            clear(rows[5])
            if first:
                add_directions_back(gV[i], harmonics[e], rows[0], rows[4], g_harmonics[e])
            else:
                add_vectors_back(
                    gV[i], vec[j], rows[0], harmonics[e], rows[1], rows[4], rows[5], any_vec[j], g_harmonics[e]
                )
            for part in range(gZ.shape[1] // F):
                if smooth:
                    g_envelope[e] += dot(rows[4 + part], rows[2 + part])
                scale(rows[4 + part], factor, gZ[k, part * F : (part + 1) * F])
        multiply(gZ, gate_rows, gm[:size], 0)
        for e in range(start, stop):
            i, j, k = center[e], neighbor[e], e - start
            add_row(gX[i], gm[k])
            g_envelope[e] += message_back(
                heads, envelope[e], qkv[i], qkv[j], P[k], gm[k], gP[k], own_qkv[i], any_kv[j], rows, per_head
            )
            if parts > 2:
                product_back(
                    rejects, harmonics[e], g_harmonics[e], pq[i], pq[j], own_pq[i], any_q[j],
                    P[k, 2 * F : 3 * F], gf[e], gP[k, 2 * F : 3 * F], rows,
                )  # fmt: skip
            if parts > 3:
                product_back(
                    rejects, harmonics[e], g_harmonics[e], tt[i], tt[i], own_tt[i], own_tt[i, :, F:],
                    P[k, 3 * F :], gf[e], gP[k, 3 * F :], rows,
                )  # fmt: skip
        multiply(gP, edge_rows, gf[start:stop], 1)


@kernel
def gates(z, factor, out):
    F = out.shape[1]
    for part in range(z.shape[0] // F):
        silu_rows(z[part * F : (part + 1) * F], out[part])
        scale_own(out[part], factor)


@kernel
def gates_slopes(z, factor, out, slopes, plain):
    """Gates, their slopes without the factor, and the gates without it."""
    F = out.shape[1]
    for part in range(z.shape[0] // F):
        silu_slopes(z[part * F : (part + 1) * F], plain[part], slopes[part * F : (part + 1) * F])
        for c in range(F):
            out[part, c] = plain[part, c] * factor


@kernel
def scale(x, factor, out):
    """out *= factor x."""
    for c in range(out.shape[0]):
        out[c] *= x[c] * factor


@kernel
def scale_own(x, factor):
    for c in range(x.shape[0]):
        x[c] *= factor


@kernel
def update(f, gate, w, out):
    for c in range(out.shape[0]):
        out[c] = f[c] + gate[c] * w[c]


@kernel
def products(ps, qs, direction, rejects, rows, w):
    """Inner products of the rejections from the direction, of projections p and q."""
    inner_products(ps, qs, w)
    if rejects:
        components_along(ps, 0, direction, rows[0])
        components_along(qs, w.shape[0], direction, rows[1])
        for c in range(w.shape[0]):
            w[c] -= rows[0, c] * rows[1, c]


@kernel
def message_back(heads, envelope, own, other, P, gm, gP, g_own, g_other, rows, per_head):
    """Derivatives of a message by P and by the projections of both atoms; returned is that by the envelope."""
    F, width = gm.shape[0], gm.shape[0] // heads
    q, k, v = own[:F], other[F : 2 * F], other[2 * F :]
    dk, dk_slope, dv, dv_slope, a, a_slope, t = rows[0], rows[1], rows[2], rows[3], rows[4], rows[5], rows[6]
    silu_slopes(P[:F], dk, dk_slope)
    silu_slopes(P[F : 2 * F], dv, dv_slope)
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
    values_back(gm, a, v, dv, dv_slope, gP[F : 2 * F], g_other[F:])
    logits_back(a_slope, q, k, dk, g_own[:F], g_other[:F])
    multiply_rows(q, k, dk_slope, t)
    for c in range(F):
        gP[c] = a_slope[c] * t[c]
    return total


@kernel
def values_back(gm, a, v, dv, slope, gP, gv):
    for c in range(gP.shape[0]):
        t = gm[c] * a[c]
        gP[c] = t * v[c] * slope[c]
        gv[c] += t * dv[c]


@kernel
def logits_back(gl, q, k, dk, gq, gk):
    for c in range(gq.shape[0]):
        t = gl[c] * dk[c]
        gq[c] += t * k[c]
        gk[c] += t * q[c]


@kernel
def product_back(rejects, direction, g_direction, ps, qs, g_ps, g_qs, P, gf, gP, rows):
    """Derivatives of silu(P) w by P and, through w, by the projections p and q of two atoms."""
    gate, slope, w, gw = rows[0], rows[1], rows[2], rows[3]
    silu_slopes(P, gate, slope)
    for c in range(gP.shape[0]):
        gw[c] = gf[c] * gate[c]
    if rejects:
        products(ps, qs, direction, rejects, rows[4:6], w)
        rejections_back(gw, ps, qs, rows[4], rows[5], direction, g_ps, g_qs, g_direction)
    else:
        inner_products_back(gw, ps, qs, w, g_ps, g_qs)
    for c in range(gP.shape[0]):
        gP[c] = gf[c] * w[c] * slope[c]
