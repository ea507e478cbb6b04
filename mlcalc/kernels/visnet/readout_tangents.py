"""ViSNet's readout of atomic energies: tangents of its derivatives, with those by its weights."""

# Names as in `readout`: both = [x, lengths of A1], u1 -> h1 -> t1 = [x, gate], both2 = [x, lengths of A2], u2 -> h2.

from __future__ import annotations

import numpy as np

from mlcalc.kernels.blas import multiply, multiply_transposed
from mlcalc.kernels.compile import kernel
from mlcalc.kernels.visnet.edge_tangents import multiply_all, silu_curvatures
from mlcalc.kernels.visnet.node_tangents import add_products, norm_back_tangent, norm_tangent
from mlcalc.kernels.visnet.nodes import TILE
from mlcalc.kernels.visnet.rows import add_columns, clear, project


@kernel
def read_out_tangent(bounds, epsilon, smooth, weights, rows, states, t_states, seeds, t_gradients, tiles, by_weights):
    """Tangents of what `read_out_weights` gives; t_gradients: by (x, vec), set.

    seeds: (dE/dy (N,), its tangent); tiles: (values, their tangents, derivatives, their tangents) of one tile of atoms.
    """
    x, vec = states
    t_x, t_vec = t_states
    t_gx, t_g_vec = t_gradients
    values, t_values, g, t_g = tiles
    S, F = vec.shape[1], vec.shape[2]
    for start in range(bounds[0], bounds[1], TILE):
        stop = min(start + TILE, bounds[1])
        n, m = stop - start, (stop - start) * S
        vectors, t_vectors = vec[start:stop].reshape(m, F), t_vec[start:stop].reshape(m, F)
        for k in range(n):
            i = start + k
            norm_tangent(x[i], epsilon, weights[0], weights[1], t_x[i], values[0][k, :F], t_values[0][k, :F])
        _forward(n, m, smooth, weights, vectors, t_vectors, values, t_values)
        _backward(n, m, rows, (seeds[0][start:stop], seeds[1][start:stop]), tiles)
        for k in range(n):
            i = start + k
            clear(t_gx[i])
            norm_back_tangent(
                x[i], epsilon, weights[0], t_x[i], g[7][k, :F], t_g[7][k, :F], t_gx[i], by_weights[0], by_weights[1],
                values[19],
            )  # fmt: skip
        target = t_g_vec[start:stop].reshape(m, F)
        multiply(t_g[8][:m], rows[0], target, 0)
        multiply(t_g[4][:m], rows[3], target, 1)
        _add(n, m, vectors, t_vectors, tiles, by_weights)


@kernel
def _forward(n, m, smooth, weights, vectors, t_vectors, values, t_values):
    _, _, V1, U1, b1, T1, c1, G1, V2, U2, b2, _, _ = weights
    both, u1, h1, s1, k1, t1, both2, sa, ka, u2, h2, s2, k2, A1, B1, W1, A2, root1, root2, _ = values
    t_both, t_u1, t_h1, t_t1, t_both2, t_u2, t_h2, t_A1, t_B1, t_W1, t_A2, t_root1, t_root2 = t_values
    S, F, H = m // n, V1.shape[0], V2.shape[0]
    multiply(vectors, V1, A1[:m], 0)
    multiply(t_vectors, V1, t_A1[:m], 0)
    for k in range(n):
        vectors_of = slice(k * S, (k + 1) * S)
        lengths_tangent(A1[vectors_of], t_A1[vectors_of], smooth, both[k, F:], t_both[k, F:], root1[k], t_root1[k])
    project(both[:n], U1, b1, u1[:n])
    multiply(t_both[:n], U1, t_u1[:n], 0)
    silu_curvatures(u1[:n], h1[:n], s1[:n], k1[:n])
    multiply_all(s1[:n], t_u1[:n], t_h1[:n])
    project(h1[:n], T1, c1, t1[:n])
    multiply(t_h1[:n], T1, t_t1[:n], 0)
    multiply(vectors, G1, B1[:m], 0)
    multiply(t_vectors, G1, t_B1[:m], 0)
    for k in range(n):
        silu_curvatures(t1[k, :H], both2[k, :H], sa[k], ka[k])
        for c in range(H):
            t_both2[k, c] = sa[k, c] * t_t1[k, c]
        gate, t_gate = t1[k, H:], t_t1[k, H:]
        for s in range(k * S, (k + 1) * S):
            for c in range(H):
                W1[s, c] = B1[s, c] * gate[c]
                t_W1[s, c] = t_B1[s, c] * gate[c] + B1[s, c] * t_gate[c]
    multiply(W1[:m], V2, A2[:m], 0)
    multiply(t_W1[:m], V2, t_A2[:m], 0)
    for k in range(n):
        vectors_of = slice(k * S, (k + 1) * S)
        lengths_tangent(A2[vectors_of], t_A2[vectors_of], smooth, both2[k, H:], t_both2[k, H:], root2[k], t_root2[k])
    project(both2[:n], U2, b2, u2[:n])
    multiply(t_both2[:n], U2, t_u2[:n], 0)
    silu_curvatures(u2[:n], h2[:n], s2[:n], k2[:n])
    multiply_all(s2[:n], t_u2[:n], t_h2[:n])


@kernel
def _backward(n, m, rows, seeds, tiles):
    _, rU1, rT1, _, rV2, rU2, rT2 = rows
    (both, _, _, s1, k1, t1, both2, sa, ka, _, _, s2, k2, A1, B1, _, A2, root1, root2, _), t_values, g, t_g = tiles
    _, t_u1, _, t_t1, _, t_u2, _, t_A1, t_B1, _, t_A2, t_root1, t_root2 = t_values
    g_u2, g_both2, g_A2, g_W1, g_B1, g_t1, g_u1, g_both, g_A1, seed = g
    t_g_u2, t_g_both2, t_g_A2, t_g_W1, t_g_B1, t_g_t1, t_g_u1, t_g_both, t_g_A1, t_seed = t_g
    S, F, H = m // n, both.shape[1] // 2, both2.shape[1] // 2
    for k in range(n):
        seed[k, 0], t_seed[k, 0] = seeds[0][k], seeds[1][k]
        for c in range(H):
            g_u2[k, c] = seeds[0][k] * rT2[0, c]
            t_g_u2[k, c] = seeds[1][k] * rT2[0, c]
        through_silu(s2[k], k2[k], t_u2[k], g_u2[k], t_g_u2[k])
    multiply(g_u2[:n], rU2, g_both2[:n], 0)
    multiply(t_g_u2[:n], rU2, t_g_both2[:n], 0)
    for k in range(n):
        of = slice(k * S, (k + 1) * S)
        through_lengths(A2[of], t_A2[of], root2[k], t_root2[k], g_both2[k, H:], t_g_both2[k, H:], g_A2[of], t_g_A2[of])
    multiply(g_A2[:m], rV2, g_W1[:m], 0)
    multiply(t_g_A2[:m], rV2, t_g_W1[:m], 0)
    for k in range(n):
        clear(g_t1[k])
        clear(t_g_t1[k])
        for s in range(k * S, (k + 1) * S):
            through_gate(
                (g_W1[s], t_g_W1[s]), (B1[s], t_B1[s]), (t1[k, H:], t_t1[k, H:]), (g_t1[k, H:], t_g_t1[k, H:]),
                (g_B1[s], t_g_B1[s]),
            )  # fmt: skip
        for c in range(H):
            g_t1[k, c] = g_both2[k, c]
            t_g_t1[k, c] = t_g_both2[k, c]
        through_silu(sa[k], ka[k], t_t1[k, :H], g_t1[k, :H], t_g_t1[k, :H])
    multiply(g_t1[:n], rT1, g_u1[:n], 0)
    multiply(t_g_t1[:n], rT1, t_g_u1[:n], 0)
    for k in range(n):
        through_silu(s1[k], k1[k], t_u1[k], g_u1[k], t_g_u1[k])
    multiply(g_u1[:n], rU1, g_both[:n], 0)
    multiply(t_g_u1[:n], rU1, t_g_both[:n], 0)
    for k in range(n):
        of = slice(k * S, (k + 1) * S)
        through_lengths(A1[of], t_A1[of], root1[k], t_root1[k], g_both[k, F:], t_g_both[k, F:], g_A1[of], t_g_A1[of])


@kernel
def _add(n, m, vectors, t_vectors, tiles, by_weights):
    """Adds the derivatives by the matrices and biases."""
    _, _, by_V1, by_U1, by_b1, by_T1, by_c1, by_G1, by_V2, by_U2, by_b2, by_T2, by_c2 = by_weights
    (both, _, h1, _, _, _, both2, _, _, _, h2, _, _, _, _, W1, _, _, _, _), t_values, g, t_g = tiles
    t_both, _, t_h1, _, t_both2, _, t_h2, _, _, t_W1, _, _, _ = t_values
    g_u2, _, g_A2, _, g_B1, g_t1, g_u1, _, g_A1, seed = g
    t_g_u2, _, t_g_A2, _, t_g_B1, t_g_t1, t_g_u1, _, t_g_A1, t_seed = t_g
    for by, a, t_a, b, t_b in (
        (by_V1, g_A1[:m], t_g_A1[:m], vectors, t_vectors),
        (by_G1, g_B1[:m], t_g_B1[:m], vectors, t_vectors),
        (by_V2, g_A2[:m], t_g_A2[:m], W1[:m], t_W1[:m]),
        (by_U1, g_u1[:n], t_g_u1[:n], both[:n], t_both[:n]),
        (by_T1, g_t1[:n], t_g_t1[:n], h1[:n], t_h1[:n]),
        (by_U2, g_u2[:n], t_g_u2[:n], both2[:n], t_both2[:n]),
        (by_T2, seed[:n], t_seed[:n], h2[:n], t_h2[:n]),
    ):
        multiply_transposed(t_a, b, by, 1)
        multiply_transposed(a, t_b, by, 1)
    for by, t_a in ((by_b1, t_g_u1), (by_c1, t_g_t1), (by_b2, t_g_u2), (by_c2, t_seed)):
        add_columns(t_a[:n], by)


@kernel
def lengths_tangent(A, t_A, smooth, out, t_out, root, t_root):
    """What `lengths` gives and its tangent; root: what the derivatives are divided by, and its tangent."""
    one = out.dtype.type(1)
    clear(out)
    clear(t_root)
    for s in range(A.shape[0]):
        for c in range(out.shape[0]):
            out[c] += A[s, c] * A[s, c]
        for c in range(out.shape[0]):
            t_root[c] += A[s, c] * t_A[s, c]
    for c in range(out.shape[0]):
        squares = out[c]
        root[c] = np.sqrt(one + squares) if smooth else np.sqrt(squares)
        t_root[c] = 0 if root[c] == 0 else t_root[c] / root[c]
        out[c] = squares / (root[c] + one) if smooth else root[c]
        t_out[c] = t_root[c]


@kernel
def through_lengths(A, t_A, root, t_root, g, t_g, g_A, t_g_A):
    """g A / root and its tangent."""
    zero, one = root.dtype.type(0), root.dtype.type(1)
    for s in range(A.shape[0]):
        for c in range(root.shape[0]):
            inverse = zero if root[c] == 0 else one / root[c]
            unit = A[s, c] * inverse
            g_A[s, c] = g[c] * unit
            t_g_A[s, c] = t_g[c] * unit + g[c] * (t_A[s, c] - unit * t_root[c]) * inverse


@kernel
def through_silu(slope, curvature, t_x, g, t_g):
    """g slope and its tangent, in the place of g and its tangent."""
    for c in range(g.shape[0]):
        t_g[c] = t_g[c] * slope[c] + g[c] * curvature[c] * t_x[c]
        g[c] *= slope[c]


@kernel
def through_gate(g_W, B, gate, g_gate, g_B):
    """Derivatives of W = B gate by both, with tangents, those by the gate added."""
    for c in range(B[0].shape[0]):
        g_gate[0][c] += g_W[0][c] * B[0][c]
        g_B[0][c] = g_W[0][c] * gate[0][c]
    add_products(g_W[1], B[0], g_W[0], B[1], g_gate[1])
    for c in range(B[0].shape[0]):
        g_B[1][c] = g_W[1][c] * gate[0][c] + g_W[0][c] * gate[1][c]
