"""ViSNet's embeddings: tangents forward and backward, with the derivatives by the weights."""

from __future__ import annotations

from mlcalc.kernels.blas import multiply, multiply_transposed
from mlcalc.kernels.compile import kernel
from mlcalc.kernels.visnet.edges import TILE
from mlcalc.kernels.visnet.embedding import add_product, add_scaled, multiply_sum
from mlcalc.kernels.visnet.rows import add_columns, add_row, clear, project


@kernel
def embed_atoms_tangent(atoms, first_edges, edges, t_edges, weights, element, scale, t_around, t_x, tiles):
    """Tangents of around and x (N, F); edges: as for `embed_atoms`; t_edges: tangents of (envelope, basis)."""
    center, neighbor, envelope, basis, is_loop = edges
    t_envelope, t_basis = t_edges
    W_d, b_d, others, _, W_c = weights
    filters, t_filters = tiles
    for i in range(atoms[0], atoms[1]):
        clear(t_around[i])
    last = first_edges[atoms[1]]
    for start in range(first_edges[atoms[0]], last, TILE):
        stop = min(start + TILE, last)
        project(basis[start:stop], W_d, b_d, filters)
        multiply(t_basis[start:stop], W_d, t_filters, 0)
        for e in range(start, stop):
            if not is_loop[e]:
                other, k = others[element[neighbor[e]]], e - start
                add_scaled(other, filters[k], t_envelope[e] * scale, t_around[center[e]])
                add_scaled(other, t_filters[k], envelope[e] * scale, t_around[center[e]])
    multiply(t_around[atoms[0] : atoms[1]], W_c, t_x[atoms[0] : atoms[1]], 0)


@kernel
def embed_edges_tangent(bounds, edges, t_basis, weights, x, t_x, t_f, tiles):
    """Tangent of f (E, F) = (x_i + x_j) (W_f e + b_f)."""
    center, neighbor, _, basis, _ = edges
    W_f, b_f = weights
    filters, t_filters = tiles
    for start in range(bounds[0], bounds[1], TILE):
        stop = min(start + TILE, bounds[1])
        project(basis[start:stop], W_f, b_f, filters)
        multiply(t_basis[start:stop], W_f, t_filters, 0)
        for e in range(start, stop):
            i, j, k = center[e], neighbor[e], e - start
            multiply_sum(x[i], x[j], t_filters[k], t_f[e])
            add_sum_product(t_x[i], t_x[j], filters[k], t_f[e])


@kernel
def embed_edges_back_tangent(
    bounds, edges, t_basis, weights, states, adjoints, t_gx, t_any_x, g_basis, tiles, by_weights
):
    """Tangents of what `embed_edges_weights` gives; states: (x, its tangent); adjoints: (gf, its tangent).

    g_basis: tangents of the derivatives by the basis, set.
    """
    center, neighbor, _, basis, _ = edges
    W_f, b_f, W_rows = weights
    x, t_x = states
    gf, t_gf = adjoints
    filters, t_filters = tiles
    F = gf.shape[1]
    for start in range(bounds[0], bounds[1], TILE):
        stop = min(start + TILE, bounds[1])
        project(basis[start:stop], W_f, b_f, filters)
        multiply(t_basis[start:stop], W_f, t_filters, 0)
        for e in range(start, stop):
            i, j, k = center[e], neighbor[e], e - start
            add_product(t_gf[e], filters[k], t_gx[i])
            add_product(gf[e], t_filters[k], t_gx[i])
            add_product(t_gf[e], filters[k], t_any_x[j, :F])
            add_product(gf[e], t_filters[k], t_any_x[j, :F])
            multiply_sum(x[i], x[j], gf[e], filters[k])
            multiply_sum(x[i], x[j], t_gf[e], t_filters[k])
            add_sum_product(t_x[i], t_x[j], gf[e], t_filters[k])
        size = stop - start
        multiply(t_filters[:size], W_rows, g_basis[start:stop], 0)
        multiply_transposed(t_filters[:size], basis[start:stop], by_weights[0], 1)
        multiply_transposed(filters[:size], t_basis[start:stop], by_weights[0], 1)
        add_columns(t_filters[:size], by_weights[1])


@kernel
def embed_atoms_back_tangent(
    atoms,
    first_edges,
    edges,
    t_edges,
    weights,
    element,
    scale,
    states,
    t_any_x,
    adjoints,
    t_adjoints,
    tiles,
    by_weights,
):
    """Tangents of what `embed_atoms_weights` gives, after those of gx have been completed.

    weights: (W_d, b_d, table of neighbors, W_d as it is, W_c of the surroundings as it is); states: (around, its
    tangent); adjoints: by (x, around); t_adjoints: tangents by (x, around, basis), the last two set and added to.
    """
    center, neighbor, envelope, basis, is_loop = edges
    t_envelope, t_basis = t_edges
    W_d, b_d, others, W_rows, W_around = weights
    around, t_around = states
    gx, g_around = adjoints
    t_gx, t_g_around, t_g_basis = t_adjoints
    by_own, by_around, by_others, by_distance, by_distance_bias = by_weights
    filters, t_filters, g_filters, t_g_filters = tiles
    for i in range(atoms[0], atoms[1]):
        for c in range(gx.shape[1]):
            t_gx[i, c] += t_any_x[i, c]
            t_any_x[i, c] = 0
        add_row(t_gx[i], by_own[element[i]])
    own = slice(atoms[0], atoms[1])
    multiply(t_gx[own], W_around, t_g_around[own], 0)
    multiply_transposed(t_gx[own], around[own], by_around, 1)
    multiply_transposed(gx[own], t_around[own], by_around, 1)
    last = first_edges[atoms[1]]
    for start in range(first_edges[atoms[0]], last, TILE):
        stop = min(start + TILE, last)
        size = stop - start
        project(basis[start:stop], W_d, b_d, filters)
        multiply(t_basis[start:stop], W_d, t_filters, 0)
        for e in range(start, stop):
            i, kind, k = center[e], element[neighbor[e]], e - start
            clear(g_filters[k])
            clear(t_g_filters[k])
            if is_loop[e]:
                continue
            fade, t_fade = envelope[e] * scale, t_envelope[e] * scale
            add_scaled(t_g_around[i], filters[k], fade, by_others[kind])
            add_scaled(g_around[i], t_filters[k], fade, by_others[kind])
            add_scaled(g_around[i], filters[k], t_fade, by_others[kind])
            add_scaled(g_around[i], others[kind], fade, g_filters[k])
            add_scaled(t_g_around[i], others[kind], fade, t_g_filters[k])
            add_scaled(g_around[i], others[kind], t_fade, t_g_filters[k])
        multiply(t_g_filters[:size], W_rows, t_g_basis[start:stop], 1)
        multiply_transposed(t_g_filters[:size], basis[start:stop], by_distance, 1)
        multiply_transposed(g_filters[:size], t_basis[start:stop], by_distance, 1)
        add_columns(t_g_filters[:size], by_distance_bias)


@kernel
def add_sum_product(x, y, z, out):
    for c in range(out.shape[0]):
        out[c] += (x[c] + y[c]) * z[c]
