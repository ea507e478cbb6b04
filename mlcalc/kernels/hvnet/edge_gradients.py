"""The way back over HVNet's edges for derivatives by weights: those by filters instead of those by edge vectors."""

from __future__ import annotations

import numpy as np

from mlcalc.kernels.blas import multiply, multiply_transposed
from mlcalc.kernels.compile import kernel
from mlcalc.kernels.hvnet.arrays import TILE


@kernel
def _messages(i, first, last, pairs, neighbor, filters, phi, v, G_S, G_V, direction, g_phi, g_v, g_filters):
    """Adds the derivatives by phi and v of the messages from atom i, and over pairs of those to i.

    Fills those by the filters.  Two loops over channels: in one, too many arrays could overlap for it to be vectorized.
    """
    one = G_S.dtype.type(1)
    for e in range(first, last):
        w, j = e - first, np.int64(neighbor[e])
        for c in range(G_S.shape[1]):
            g_filters[w, 0, c] = 0
            g_filters[w, 1, c] = 0
            g_filters[w, 2, c] = 0
        for way in range(2 if e < pairs else 1):
            to, source = (i, j) if way else (j, i)
            sign = one if way else -one
            x, y, z = sign * direction[e, 0], sign * direction[e, 1], sign * direction[e, 2]
            for c in range(G_S.shape[1]):
                g0, g1, g2, g3 = G_S[to, c], G_V[to, 0, c], G_V[to, 1, c], G_V[to, 2, c]
                by_gate = g1 * v[source, 0, c] + g2 * v[source, 1, c] + g3 * v[source, 2, c]
                by_along = g1 * x + g2 * y + g3 * z
                g_filters[w, 0, c] += phi[source, 0, c] * by_gate
                g_filters[w, 1, c] += phi[source, 1, c] * g0
                g_filters[w, 2, c] += phi[source, 2, c] * by_along
                g_phi[source, 0, c] += by_gate * filters[w, 0, c]
                g_phi[source, 1, c] += g0 * filters[w, 1, c]
                g_phi[source, 2, c] += by_along * filters[w, 2, c]
            for c in range(G_S.shape[1]):
                gate = phi[source, 0, c] * filters[w, 0, c]
                g_v[source, 0, c] += gate * G_V[to, 0, c]
                g_v[source, 1, c] += gate * G_V[to, 1, c]
                g_v[source, 2, c] += gate * G_V[to, 2, c]


@kernel
def _first_messages(i, first, last, pairs, neighbor, filters, phi, G_S, G_V, direction, g_phi, g_filters):
    """The same for vectors that are still zero."""
    one = G_S.dtype.type(1)
    for e in range(first, last):
        w, j = e - first, np.int64(neighbor[e])
        for c in range(G_S.shape[1]):
            g_filters[w, 1, c] = 0
            g_filters[w, 2, c] = 0
        for way in range(2 if e < pairs else 1):
            to, source = (i, j) if way else (j, i)
            sign = one if way else -one
            x, y, z = sign * direction[e, 0], sign * direction[e, 1], sign * direction[e, 2]
            for c in range(G_S.shape[1]):
                g0, by_along = G_S[to, c], G_V[to, 0, c] * x + G_V[to, 1, c] * y + G_V[to, 2, c] * z
                g_filters[w, 1, c] += phi[source, 1, c] * g0
                g_filters[w, 2, c] += phi[source, 2, c] * by_along
                g_phi[source, 1, c] += g0 * filters[w, 1, c]
                g_phi[source, 2, c] += by_along * filters[w, 2, c]


@kernel
def sum_messages_gradient(settings, weights, near, atoms, rooms, sums, share, layer, block):
    """Derivatives by phi, v and the filters' weights of a block of atoms from those by S and V of all."""
    F, elements = settings.channels, settings.elements
    skipped = F if layer == 0 else 0  # columns of what multiplies vectors
    v, g_v, G_S, G_V = atoms.v[layer % settings.states], atoms.g_v, atoms.G_S[layer % 2], atoms.G_V[layer % 2]
    room, g_room, neighbor, u = rooms.filters[share], rooms.slopes[share], near.neighbor, near.direction
    filters, g_filters, values = room.reshape(TILE, 3, F), g_room.reshape(TILE, 3, F), near.basis[:, 0]
    for part in range(elements):  # the filters of an edge are those of the element of the atom that it points to
        kind = (block[2] + part) % elements
        phi, g_phi = atoms.phi[layer % settings.kept, kind].reshape(-1, 3, F), atoms.g_phi[kind]
        matrix, g_matrix = weights.filters[layer, kind][:, skipped:], sums.filters[layer, kind][:, skipped:]
        for i in range(block[0], block[1]):
            end, pairs = near.parts[i, part + 1], near.pairs[i]
            for first in range(near.parts[i, part], end, TILE):
                last = min(first + TILE, end)
                multiply(values[first:last], matrix, room[: last - first, skipped:], 0)
                if layer == 0:
                    _first_messages(i, first, last, pairs, neighbor, filters, phi, G_S, G_V, u, g_phi, g_filters)
                else:
                    _messages(i, first, last, pairs, neighbor, filters, phi, v, G_S, G_V, u, g_phi, g_v, g_filters)
                multiply_transposed(values[first:last], g_room[: last - first, skipped:], g_matrix, 1)


@kernel
def _add_values(i, first, last, pairs, neighbor, envelope, g_mean, G_V, g_t):
    """Adds the derivatives by the values of atom i, over pairs by those of its neighbors too."""
    for e in range(first, last):
        weight, j = envelope[e, 0], np.int64(neighbor[e])
        for way in range(2 if e < pairs else 1):
            to, source = (i, j) if way else (j, i)
            for a in range(3):
                for c in range(G_V.shape[2]):
                    G_V[source, a, c] += weight * g_mean[to, a, c]
                    g_t[source, a, c] += weight * g_mean[to, a + 3, c]


@kernel
def sum_values_gradient(settings, near, atoms, layer, block):
    """Derivatives by V and t of a block of atoms from those by the sums of all; pairs add to those of later atoms."""
    G_V, g_mean, neighbor, envelope = atoms.G_V[layer % 2], atoms.g_mean, near.neighbor, near.envelope
    for part in range(settings.elements):
        g_t = atoms.g_t[(block[2] + part) % settings.elements]
        for i in range(block[0], block[1]):
            first, last = near.parts[i, part], near.parts[i, part + 1]
            _add_values(i, first, last, near.pairs[i], neighbor, envelope, g_mean, G_V, g_t)
