"""From a Graph to sorted arrays of edges, and from derivatives by edge vectors to forces and virials."""

from __future__ import annotations

from mlcalc.kernels.compile import kernel


@kernel
def arrange(edges, shifts, positions, cell, batch, looped, first_edges, center, neighbor, is_loop, vectors):
    """Fills edges by center, the self loop of each looped atom last, and vectors r_ij = x_j + s h - x_i in float64.

    edges (2, E) are sorted by center; False where they are not, and nothing is to be used.
    """
    place, e, count = 0, 0, edges.shape[1]
    for i in range(len(positions)):
        first_edges[i] = place
        while e < count and edges[0, e] == i:
            j, h = edges[1, e], cell[batch[i]]
            center[place], neighbor[place], is_loop[place] = i, j, False
            for a in range(3):
                offset = shifts[e, 0] * h[0, a] + shifts[e, 1] * h[1, a] + shifts[e, 2] * h[2, a]
                vectors[place, a] = positions[j, a] - positions[i, a] + offset
            place += 1
            e += 1
        if looped[i]:
            center[place], neighbor[place], is_loop[place] = i, i, True
            vectors[place, 0], vectors[place, 1], vectors[place, 2] = 0, 0, 0
            place += 1
    first_edges[len(positions)] = place
    return e == count


@kernel
def spread(edges, center, neighbor, vectors, g_vectors, batch, gradient, strain_gradient):
    """Derivatives by positions (N, 3) and symmetric strains (S, 3, 3), added to them, of those by the edge vectors."""
    for e in range(edges):
        i, j = center[e], neighbor[e]
        for a in range(3):
            gradient[i, a] -= g_vectors[e, a]
            gradient[j, a] += g_vectors[e, a]
    if strain_gradient.shape[0] > 0:
        for e in range(edges):
            s = batch[center[e]]
            for a in range(3):
                for b in range(3):
                    value = g_vectors[e, a] * vectors[e, b] / 2
                    strain_gradient[s, a, b] += value
                    strain_gradient[s, b, a] += value
