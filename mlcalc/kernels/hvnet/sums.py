"""Sums over HVNet's neighbors, with their filters, and the way back."""

# The functions with loops over channels take whole arrays and all edges of a tile: slices of rows, or a call for each
# edge, would cost as much as the arithmetic.  Pairs carry a message in both directions.

from __future__ import annotations

import numpy as np

from mlcalc.kernels.blas import multiply
from mlcalc.kernels.compile import kernel
from mlcalc.kernels.hvnet.arrays import TILE
from mlcalc.kernels.hvnet.rows import copy_rows, copy_vectors


@kernel
def _messages(i, first, last, pairs, neighbor, filters, phi, v, direction, S, V):
    """Adds the messages to atom i over these edges, and over the pairs among them those from i."""
    for e in range(first, last):
        w = e - first
        for way in range(2 if e < pairs else 1):
            j = np.int64(neighbor[e])
            to, source = (j, i) if way else (i, j)
            x, y, z = direction[e, 0], direction[e, 1], direction[e, 2]
            if way:
                x, y, z = -x, -y, -z
            for c in range(S.shape[1]):
                gate, along = phi[source, 0, c] * filters[w, 0, c], phi[source, 2, c] * filters[w, 2, c]
                S[to, c] += phi[source, 1, c] * filters[w, 1, c]
                V[to, 0, c] += gate * v[source, 0, c] + along * x
                V[to, 1, c] += gate * v[source, 1, c] + along * y
                V[to, 2, c] += gate * v[source, 2, c] + along * z


@kernel
def _first_messages(i, first, last, pairs, neighbor, filters, phi, direction, S, V):
    """The same for vectors that are still zero."""
    for e in range(first, last):
        w = e - first
        for way in range(2 if e < pairs else 1):
            j = np.int64(neighbor[e])
            to, source = (j, i) if way else (i, j)
            x, y, z = direction[e, 0], direction[e, 1], direction[e, 2]
            if way:
                x, y, z = -x, -y, -z
            for c in range(S.shape[1]):
                along = phi[source, 2, c] * filters[w, 2, c]
                S[to, c] += phi[source, 1, c] * filters[w, 1, c]
                V[to, 0, c] += along * x
                V[to, 1, c] += along * y
                V[to, 2, c] += along * z


@kernel
def _messages_back(i, first, last, pairs, neighbor, filters, slopes, phi, v, G_S, G_V, direction, g_phi, g_v, gradient):
    """Adds the derivatives by phi, v and the edges of the messages from atom i, and over pairs of those to i."""
    zero = G_S.dtype.type(0)
    for e in range(first, last):
        w = e - first
        for way in range(2 if e < pairs else 1):
            j = np.int64(neighbor[e])
            to, source = (i, j) if way else (j, i)
            sign = G_S.dtype.type(1 if way else -1)
            x, y, z = sign * direction[e, 0], sign * direction[e, 1], sign * direction[e, 2]
            gr, gx, gy, gz = zero, zero, zero, zero
            for c in range(G_S.shape[1]):
                g0, g1, g2, g3 = G_S[to, c], G_V[to, 0, c], G_V[to, 1, c], G_V[to, 2, c]
                by_gate = g1 * v[source, 0, c] + g2 * v[source, 1, c] + g3 * v[source, 2, c]
                by_along = g1 * x + g2 * y + g3 * z
                gate, along = phi[source, 0, c] * filters[w, 0, c], phi[source, 2, c] * filters[w, 2, c]
                g_v[source, 0, c] += gate * g1
                g_v[source, 1, c] += gate * g2
                g_v[source, 2, c] += gate * g3
                g_phi[source, 0, c] += by_gate * filters[w, 0, c]
                g_phi[source, 1, c] += g0 * filters[w, 1, c]
                g_phi[source, 2, c] += by_along * filters[w, 2, c]
                gr += (
                    phi[source, 0, c] * by_gate * slopes[w, 0, c]
                    + phi[source, 1, c] * g0 * slopes[w, 1, c]
                    + phi[source, 2, c] * by_along * slopes[w, 2, c]
                )
                gx += along * g1
                gy += along * g2
                gz += along * g3
            gradient[e, 0] += gr
            gradient[e, 1] += sign * gx
            gradient[e, 2] += sign * gy
            gradient[e, 3] += sign * gz


@kernel
def _first_messages_back(i, first, last, pairs, neighbor, filters, slopes, phi, G_S, G_V, direction, g_phi, gradient):
    zero = G_S.dtype.type(0)
    for e in range(first, last):
        w = e - first
        for way in range(2 if e < pairs else 1):
            j = np.int64(neighbor[e])
            to, source = (i, j) if way else (j, i)
            sign = G_S.dtype.type(1 if way else -1)
            x, y, z = sign * direction[e, 0], sign * direction[e, 1], sign * direction[e, 2]
            gr, gx, gy, gz = zero, zero, zero, zero
            for c in range(G_S.shape[1]):
                g0, g1, g2, g3 = G_S[to, c], G_V[to, 0, c], G_V[to, 1, c], G_V[to, 2, c]
                by_along = g1 * x + g2 * y + g3 * z
                along = phi[source, 2, c] * filters[w, 2, c]
                g_phi[source, 1, c] += g0 * filters[w, 1, c]
                g_phi[source, 2, c] += by_along * filters[w, 2, c]
                gr += phi[source, 1, c] * g0 * slopes[w, 1, c] + phi[source, 2, c] * by_along * slopes[w, 2, c]
                gx += along * g1
                gy += along * g2
                gz += along * g3
            gradient[e, 0] += gr
            gradient[e, 1] += sign * gx
            gradient[e, 2] += sign * gy
            gradient[e, 3] += sign * gz


@kernel
def start_sums(settings, given, atoms, share, layer):
    """S and V of the atoms of a share as they were before the layer."""
    first, last = given.first_block[share], given.first_block[share + 1]
    slot, start, stop = layer % settings.states, given.blocks[first, 0], given.blocks[last - 1, 1]
    copy_rows(atoms.s[slot], start, stop, atoms.S[slot])
    if layer == 0:
        atoms.V[slot, start:stop] = 0
    else:
        copy_vectors(atoms.v[slot], start, stop, atoms.V[slot])


@kernel
def sum_messages(settings, weights, near, atoms, rooms, share, layer, block):
    """S and V of a block of atoms, (first place, place after the last, element); pairs add to those of later atoms."""
    F, slot = settings.channels, layer % settings.states
    skipped = F if layer == 0 else 0  # columns of what multiplies vectors
    phi = atoms.phi[layer % settings.kept, block[2]].reshape(-1, 3, F)
    v, S, V, neighbor, u = atoms.v[slot], atoms.S[slot], atoms.V[slot], near.neighbor, near.direction
    matrix, room = weights.filters[layer, block[2]][:, skipped:], rooms.filters[share]
    filters, values = room.reshape(TILE, 3, F), near.basis[:, 0]
    for i in range(block[0], block[1]):
        end, pairs = near.parts[i, settings.elements], near.pairs[i]
        for first in range(near.parts[i, 0], end, TILE):
            last = min(first + TILE, end)
            multiply(values[first:last], matrix, room[: last - first, skipped:], 0)
            if layer == 0:
                _first_messages(i, first, last, pairs, neighbor, filters, phi, u, S, V)
            else:
                _messages(i, first, last, pairs, neighbor, filters, phi, v, u, S, V)


@kernel
def sum_messages_back(settings, weights, near, atoms, rooms, share, layer, block):
    """Derivatives by phi and v of a block of atoms from those by S and V of all; pairs add to those of later atoms."""
    F, elements = settings.channels, settings.elements
    skipped = F if layer == 0 else 0
    v, g_v, G_S, G_V = atoms.v[layer % settings.states], atoms.g_v, atoms.G_S[layer % 2], atoms.G_V[layer % 2]
    room, slope_room, neighbor, u, g = (
        rooms.filters[share], rooms.slopes[share], near.neighbor, near.direction, near.gradient
    )  # fmt: skip
    filters, slopes = room.reshape(TILE, 3, F), slope_room.reshape(TILE, 3, F)
    values, derivatives = near.basis[:, 0], near.basis[:, 1]
    for part in range(elements):  # the filters of an edge are those of the element of the atom that it points to
        kind = (block[2] + part) % elements
        phi, g_phi = atoms.phi[layer % settings.kept, kind].reshape(-1, 3, F), atoms.g_phi[kind]
        matrix = weights.filters[layer, kind][:, skipped:]
        for i in range(block[0], block[1]):
            end, pairs = near.parts[i, part + 1], near.pairs[i]
            for first in range(near.parts[i, part], end, TILE):
                last = min(first + TILE, end)
                multiply(values[first:last], matrix, room[: last - first, skipped:], 0)
                multiply(derivatives[first:last], matrix, slope_room[: last - first, skipped:], 0)
                if layer == 0:
                    _first_messages_back(
                        i, first, last, pairs, neighbor, filters, slopes, phi, G_S, G_V, u, g_phi, g
                    )  # fmt: skip
                else:
                    _messages_back(
                        i, first, last, pairs, neighbor, filters, slopes, phi, v, G_S, G_V, u, g_phi, g_v, g
                    )  # fmt: skip
