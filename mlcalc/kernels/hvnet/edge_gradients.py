"""The way back over HVNet's edges for derivatives by weights: those by filters instead of those by edge vectors."""

from __future__ import annotations

import numpy as np

from mlcalc.kernels.blas import multiply, multiply_transposed
from mlcalc.kernels.compile import kernel
from mlcalc.kernels.hvnet.arrays import TILE


@kernel
def _pairs(i, first, last, neighbor, filters, phi, v, G_S, G_V, direction, g_phi, g_v, g_filters):
    """Adds the derivatives by phi and v of both messages of these pairs, and fills those by their filters."""
    for e in range(first, last):
        w, j = e - first, np.int64(neighbor[e])
        x, y, z = direction[e, 0], direction[e, 1], direction[e, 2]
        for c in range(G_S.shape[1]):
            f0, f1, f2 = filters[w, 0, c], filters[w, 1, c], filters[w, 2, c]
            i0, i1, i2, i3 = G_S[i, c], G_V[i, 0, c], G_V[i, 1, c], G_V[i, 2, c]
            j0, j1, j2, j3 = G_S[j, c], G_V[j, 0, c], G_V[j, 1, c], G_V[j, 2, c]
            gate_i = i1 * v[j, 0, c] + i2 * v[j, 1, c] + i3 * v[j, 2, c]
            gate_j = j1 * v[i, 0, c] + j2 * v[i, 1, c] + j3 * v[i, 2, c]
            along_i, along_j = i1 * x + i2 * y + i3 * z, -(j1 * x + j2 * y + j3 * z)
            by_i, by_j = phi[i, 0, c], phi[j, 0, c]
            g_filters[w, 0, c] = by_j * gate_i + by_i * gate_j
            g_filters[w, 1, c] = phi[j, 1, c] * i0 + phi[i, 1, c] * j0
            g_filters[w, 2, c] = phi[j, 2, c] * along_i + phi[i, 2, c] * along_j
            g_phi[j, 0, c] += gate_i * f0
            g_phi[j, 1, c] += i0 * f1
            g_phi[j, 2, c] += along_i * f2
            g_phi[i, 0, c] += gate_j * f0
            g_phi[i, 1, c] += j0 * f1
            g_phi[i, 2, c] += along_j * f2
            by_i *= f0
            by_j *= f0
            g_v[j, 0, c] += by_j * i1
            g_v[j, 1, c] += by_j * i2
            g_v[j, 2, c] += by_j * i3
            g_v[i, 0, c] += by_i * j1
            g_v[i, 1, c] += by_i * j2
            g_v[i, 2, c] += by_i * j3


@kernel
def _edges(i, start, first, last, neighbor, filters, phi, v, G_S, G_V, direction, g_phi, g_v, g_filters):
    """The same for edges that stand for the message from i alone; `start` is the first edge of the tile."""
    for e in range(first, last):
        w, j = e - start, np.int64(neighbor[e])
        x, y, z = -direction[e, 0], -direction[e, 1], -direction[e, 2]
        for c in range(G_S.shape[1]):
            f0, f1, f2 = filters[w, 0, c], filters[w, 1, c], filters[w, 2, c]
            j0, j1, j2, j3 = G_S[j, c], G_V[j, 0, c], G_V[j, 1, c], G_V[j, 2, c]
            gate, along = j1 * v[i, 0, c] + j2 * v[i, 1, c] + j3 * v[i, 2, c], j1 * x + j2 * y + j3 * z
            by = phi[i, 0, c]
            g_filters[w, 0, c] = by * gate
            g_filters[w, 1, c] = phi[i, 1, c] * j0
            g_filters[w, 2, c] = phi[i, 2, c] * along
            g_phi[i, 0, c] += gate * f0
            g_phi[i, 1, c] += j0 * f1
            g_phi[i, 2, c] += along * f2
            by *= f0
            g_v[i, 0, c] += by * j1
            g_v[i, 1, c] += by * j2
            g_v[i, 2, c] += by * j3


@kernel
def _first_pairs(i, first, last, neighbor, filters, phi, G_S, G_V, direction, g_phi, g_filters):
    """The same for vectors that are still zero."""
    for e in range(first, last):
        w, j = e - first, np.int64(neighbor[e])
        x, y, z = direction[e, 0], direction[e, 1], direction[e, 2]
        for c in range(G_S.shape[1]):
            f1, f2 = filters[w, 1, c], filters[w, 2, c]
            i0, j0 = G_S[i, c], G_S[j, c]
            along_i = G_V[i, 0, c] * x + G_V[i, 1, c] * y + G_V[i, 2, c] * z
            along_j = -(G_V[j, 0, c] * x + G_V[j, 1, c] * y + G_V[j, 2, c] * z)
            g_filters[w, 1, c] = phi[j, 1, c] * i0 + phi[i, 1, c] * j0
            g_filters[w, 2, c] = phi[j, 2, c] * along_i + phi[i, 2, c] * along_j
            g_phi[j, 1, c] += i0 * f1
            g_phi[j, 2, c] += along_i * f2
            g_phi[i, 1, c] += j0 * f1
            g_phi[i, 2, c] += along_j * f2


@kernel
def _first_edges(i, start, first, last, neighbor, filters, phi, G_S, G_V, direction, g_phi, g_filters):
    for e in range(first, last):
        w, j = e - start, np.int64(neighbor[e])
        x, y, z = direction[e, 0], direction[e, 1], direction[e, 2]
        for c in range(G_S.shape[1]):
            j0, along = G_S[j, c], -(G_V[j, 0, c] * x + G_V[j, 1, c] * y + G_V[j, 2, c] * z)
            g_filters[w, 1, c] = phi[i, 1, c] * j0
            g_filters[w, 2, c] = phi[i, 2, c] * along
            g_phi[i, 1, c] += j0 * filters[w, 1, c]
            g_phi[i, 2, c] += along * filters[w, 2, c]


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
            end = near.parts[i, part + 1]
            for first in range(near.parts[i, part], end, TILE):
                last = min(first + TILE, end)
                turn = min(max(near.pairs[i], first), last) if part == 0 else first
                multiply(values[first:last], matrix, room[: last - first, skipped:], 0)
                if layer == 0:
                    _first_pairs(i, first, turn, neighbor, filters, phi, G_S, G_V, u, g_phi, g_filters)
                    _first_edges(i, first, turn, last, neighbor, filters, phi, G_S, G_V, u, g_phi, g_filters)
                else:
                    _pairs(i, first, turn, neighbor, filters, phi, v, G_S, G_V, u, g_phi, g_v, g_filters)
                    _edges(i, first, turn, last, neighbor, filters, phi, v, G_S, G_V, u, g_phi, g_v, g_filters)
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
