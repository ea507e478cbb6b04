"""ViSNet's initial scalars of atoms and edges, forward and backward."""

from __future__ import annotations

from mlcalc.kernels.blas import multiply
from mlcalc.kernels.compile import kernel
from mlcalc.kernels.visnet.edges import TILE
from mlcalc.kernels.visnet.rows import clear, copy_row, multiply_rows, project


@kernel
def embed_atoms(atoms, first_edges, edges, weights, element, scale, around, x, tile):
    """x (N, F) of the atoms atoms[0] to atoms[1], from their element and the elements around them.

    edges: (center, neighbor, envelope, basis (E, K), is_loop); weights: (W_d, b_d, table of neighbors (elements, F),
    table of the atoms themselves through `combine`, W_c of the surroundings), transposed; around (N, F) is kept.
    """
    center, neighbor, envelope, basis, is_loop = edges
    W_d, b_d, others, own, W_c = weights
    for i in range(atoms[0], atoms[1]):
        clear(around[i])
    last = first_edges[atoms[1]]
    for start in range(first_edges[atoms[0]], last, TILE):
        stop = min(start + TILE, last)
        project(basis[start:stop], W_d, b_d, tile)
        for e in range(start, stop):
            if not is_loop[e]:
                add_scaled(others[element[neighbor[e]]], tile[e - start], envelope[e] * scale, around[center[e]])
    for i in range(atoms[0], atoms[1]):
        copy_row(own[element[i]], x[i])
    multiply(around[atoms[0] : atoms[1]], W_c, x[atoms[0] : atoms[1]], 1)


@kernel
def embed_edges(bounds, edges, weights, x, f, tile):
    """f (E, F) = (x_i + x_j) (W_f e + b_f)."""
    center, neighbor, _, basis, _ = edges
    W_f, b_f = weights
    for start in range(bounds[0], bounds[1], TILE):
        stop = min(start + TILE, bounds[1])
        project(basis[start:stop], W_f, b_f, tile)
        for e in range(start, stop):
            multiply_sum(x[center[e]], x[neighbor[e]], tile[e - start], f[e])


@kernel
def embed_edges_back(bounds, edges, weights, x, gf, gx, any_x, g_basis, tile):
    """Derivatives by x of the center, by x of the neighbor (any_x, (N, 2F)) and by the basis, from that by f."""
    center, neighbor, _, basis, _ = edges
    W_f, b_f, W_rows = weights
    F = gf.shape[1]
    for start in range(bounds[0], bounds[1], TILE):
        stop = min(start + TILE, bounds[1])
        project(basis[start:stop], W_f, b_f, tile)
        for e in range(start, stop):
            i, j, k = center[e], neighbor[e], e - start
            add_product(gf[e], tile[k], gx[i])
            add_product(gf[e], tile[k], any_x[j, :F])
            multiply_sum(x[i], x[j], gf[e], tile[k])
        multiply(tile[: stop - start], W_rows, g_basis[start:stop], 0)


@kernel
def embed_atoms_back(
    atoms, first_edges, edges, weights, element, scale, any_x, gx, g_around, g_envelope, g_basis, tile, row
):
    """Derivatives by envelope and basis, added to them, from that by x, whose shares (T, N, 2F) are summed first."""
    center, neighbor, envelope, basis, is_loop = edges
    W_d, b_d, others, W_rows, W_around = weights
    F = gx.shape[1]
    for i in range(atoms[0], atoms[1]):
        for t in range(any_x.shape[0]):
            for c in range(F):
                gx[i, c] += any_x[t, i, c]
                any_x[t, i, c] = 0
    multiply(gx[atoms[0] : atoms[1]], W_around, g_around[atoms[0] : atoms[1]], 0)
    last = first_edges[atoms[1]]
    for start in range(first_edges[atoms[0]], last, TILE):
        stop = min(start + TILE, last)
        project(basis[start:stop], W_d, b_d, tile)
        for e in range(start, stop):
            filters = tile[e - start]
            if is_loop[e]:
                clear(filters)
                continue
            multiply_rows(g_around[center[e]], others[element[neighbor[e]]], filters, row)
            g_envelope[e] += scale * total(row)
            add_scaled_to(g_around[center[e]], others[element[neighbor[e]]], envelope[e] * scale, filters)
        multiply(tile[: stop - start], W_rows, g_basis[start:stop], 1)


@kernel
def add_scaled(x, y, factor, out):
    for c in range(out.shape[0]):
        out[c] += x[c] * y[c] * factor


@kernel
def add_scaled_to(x, y, factor, out):
    for c in range(out.shape[0]):
        out[c] = x[c] * y[c] * factor


@kernel
def add_product(x, y, out):
    for c in range(out.shape[0]):
        out[c] += x[c] * y[c]


@kernel
def multiply_sum(x, y, z, out):
    for c in range(out.shape[0]):
        out[c] = (x[c] + y[c]) * z[c]


@kernel
def total(x):
    sum_ = x.dtype.type(0)
    for c in range(x.shape[0]):
        sum_ += x[c]
    return sum_
