"""ViSNet's embeddings and radial functions: derivatives by the weights."""

from __future__ import annotations

from mlcalc.kernels.blas import multiply_transposed
from mlcalc.kernels.compile import kernel
from mlcalc.kernels.elementwise import exponential
from mlcalc.kernels.visnet.edges import TILE
from mlcalc.kernels.visnet.embedding import add_scaled, add_scaled_to, embed_edges_back
from mlcalc.kernels.visnet.rows import add_columns, add_row, clear, project


@kernel
def embed_edges_weights(bounds, edges, weights, x, gf, gx, any_x, g_basis, tile, by_weights):
    """`embed_edges_back`, and the derivatives by (W_f, b_f), added to by_weights."""
    basis = edges[3]
    for start in range(bounds[0], bounds[1], TILE):
        stop = min(start + TILE, bounds[1])
        embed_edges_back((start, stop), edges, weights, x, gf, gx, any_x, g_basis, tile)
        multiply_transposed(tile[: stop - start], basis[start:stop], by_weights[0], 1)
        add_columns(tile[: stop - start], by_weights[1])


@kernel
def embed_atoms_weights(atoms, first_edges, edges, weights, element, scale, states, tiles, by_weights):
    """Derivatives by what makes x, added to by_weights, after `embed_atoms_back`.

    weights: (W_d, b_d) transposed and the table of neighbors; states: (around, derivative by it, derivative by x);
    by_weights: (table of the atoms through `combine`, W_c of the surroundings, table of neighbors, W_d, b_d).
    """
    center, neighbor, envelope, basis, is_loop = edges
    W_d, b_d, others = weights
    around, g_around, gx = states
    by_own, by_around, by_others, by_distance, by_distance_bias = by_weights
    filters, g_filters = tiles
    for i in range(atoms[0], atoms[1]):
        add_row(gx[i], by_own[element[i]])
    multiply_transposed(gx[atoms[0] : atoms[1]], around[atoms[0] : atoms[1]], by_around, 1)
    last = first_edges[atoms[1]]
    for start in range(first_edges[atoms[0]], last, TILE):
        stop = min(start + TILE, last)
        project(basis[start:stop], W_d, b_d, filters)
        for e in range(start, stop):
            i, kind, k = center[e], element[neighbor[e]], e - start
            if is_loop[e]:
                clear(g_filters[k])
            else:
                add_scaled(g_around[i], filters[k], envelope[e] * scale, by_others[kind])
                add_scaled_to(g_around[i], others[kind], envelope[e] * scale, g_filters[k])
        multiply_transposed(g_filters[: stop - start], basis[start:stop], by_distance, 1)
        add_columns(g_filters[: stop - start], by_distance_bias)


@kernel
def describe_edges_weights(bounds, radial, distance, envelope, g_basis, by_weights):
    """Derivatives by the centers a_k and widths b_k of `describe_edges`, added to by_weights."""
    by_centers, by_widths = by_weights
    _, _, gaussian, folded, alpha, centers, widths = radial
    two = envelope.dtype.type(2)
    for e in range(bounds[0], bounds[1]):
        t = distance[e] if gaussian else exponential(-alpha * distance[e])
        factor = envelope[e] if folded else envelope.dtype.type(1)
        for k in range(centers.shape[0]):
            offset = t - centers[k]
            g = g_basis[e, k] * factor * exponential(-widths[k] * offset**2)
            by_centers[k] += g * two * widths[k] * offset
            by_widths[k] -= g * offset**2
