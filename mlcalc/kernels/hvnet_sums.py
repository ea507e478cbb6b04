"""Sums over HVNet's neighbors, with their filters, and the way back."""

# Each loop over channels reads and writes whole arrays by plain numbers: slices of single rows would cost more than
# the arithmetic.  Pairs carry a message in both directions.

from __future__ import annotations

import numpy as np

from mlcalc.kernels.blas import multiply
from mlcalc.kernels.compile import kernel
from mlcalc.kernels.hvnet_arrays import TILE


@kernel
def _message(w, e, i, j, sign, filters, phi, v, direction, S, V):  # type: ignore[no-untyped-def]
    """Adds the message from j to i, over edge e whose filter is in row w; sign is -1 where e points from j to i."""
    x, y, z = sign * direction[e, 0], sign * direction[e, 1], sign * direction[e, 2]
    for c in range(S.shape[1]):
        gate, along = phi[j, 0, c] * filters[w, 0, c], phi[j, 2, c] * filters[w, 2, c]
        S[i, c] += phi[j, 1, c] * filters[w, 1, c]
        V[i, 0, c] += gate * v[j, 0, c] + along * x
        V[i, 1, c] += gate * v[j, 1, c] + along * y
        V[i, 2, c] += gate * v[j, 2, c] + along * z


@kernel
def _first_message(w, e, i, j, sign, filters, phi, direction, S, V):  # type: ignore[no-untyped-def]
    """The same for vectors that are still zero."""
    x, y, z = sign * direction[e, 0], sign * direction[e, 1], sign * direction[e, 2]
    for c in range(S.shape[1]):
        along = phi[j, 2, c] * filters[w, 2, c]
        S[i, c] += phi[j, 1, c] * filters[w, 1, c]
        V[i, 0, c] += along * x
        V[i, 1, c] += along * y
        V[i, 2, c] += along * z


@kernel
def _message_back(w, e, i, j, sign, filters, slopes, phi, v, gS, gV, direction, gphi, gv, gradient):  # type: ignore[no-untyped-def]
    """Adds the derivatives by phi_j, v_j and the edge of the message from j to i."""
    x, y, z = sign * direction[e, 0], sign * direction[e, 1], sign * direction[e, 2]
    zero = x - x
    gr, gx, gy, gz = zero, zero, zero, zero
    for c in range(gS.shape[1]):
        g0, g1, g2, g3 = gS[i, c], gV[i, 0, c], gV[i, 1, c], gV[i, 2, c]
        by_gate = g1 * v[j, 0, c] + g2 * v[j, 1, c] + g3 * v[j, 2, c]
        by_along = g1 * x + g2 * y + g3 * z
        gate, along = phi[j, 0, c] * filters[w, 0, c], phi[j, 2, c] * filters[w, 2, c]
        gv[j, 0, c] += gate * g1
        gv[j, 1, c] += gate * g2
        gv[j, 2, c] += gate * g3
        gphi[j, 0, c] += by_gate * filters[w, 0, c]
        gphi[j, 1, c] += g0 * filters[w, 1, c]
        gphi[j, 2, c] += by_along * filters[w, 2, c]
        gr += (
            phi[j, 0, c] * by_gate * slopes[w, 0, c]
            + phi[j, 1, c] * g0 * slopes[w, 1, c]
            + phi[j, 2, c] * by_along * slopes[w, 2, c]
        )
        gx += along * g1
        gy += along * g2
        gz += along * g3
    gradient[e, 0] += gr
    gradient[e, 1] += sign * gx
    gradient[e, 2] += sign * gy
    gradient[e, 3] += sign * gz


@kernel
def _first_message_back(w, e, i, j, sign, filters, slopes, phi, gS, gV, direction, gphi, gradient):  # type: ignore[no-untyped-def]
    x, y, z = sign * direction[e, 0], sign * direction[e, 1], sign * direction[e, 2]
    zero = x - x
    gr, gx, gy, gz = zero, zero, zero, zero
    for c in range(gS.shape[1]):
        g0, g1, g2, g3 = gS[i, c], gV[i, 0, c], gV[i, 1, c], gV[i, 2, c]
        by_along = g1 * x + g2 * y + g3 * z
        along = phi[j, 2, c] * filters[w, 2, c]
        gphi[j, 1, c] += g0 * filters[w, 1, c]
        gphi[j, 2, c] += by_along * filters[w, 2, c]
        gr += phi[j, 1, c] * g0 * slopes[w, 1, c] + phi[j, 2, c] * by_along * slopes[w, 2, c]
        gx += along * g1
        gy += along * g2
        gz += along * g3
    gradient[e, 0] += gr
    gradient[e, 1] += sign * gx
    gradient[e, 2] += sign * gy
    gradient[e, 3] += sign * gz


@kernel
def _filter(near, which, first, last, matrix, skipped, room):  # type: ignore[no-untyped-def]
    """Filters (or their slopes) of a tile of edges, without the columns that are skipped."""
    multiply(near.basis[first:last, which], matrix[:, skipped:], room[: last - first, skipped:], 0)


@kernel
def sum_messages(settings, weights, near, atoms, rooms, share, layer, block):  # type: ignore[no-untyped-def]
    """S and V of a block of atoms, (first place, place after the last, element); pairs add to those of later atoms."""
    F, first_layer = settings.channels, layer == 0
    skipped = F if first_layer else 0  # what multiplies vectors
    phi = atoms.phi[layer % settings.kept, block[2]].reshape(-1, 3, F)
    slot = layer % settings.states
    v, S, V = atoms.v[slot], atoms.S[slot], atoms.V[slot]
    matrix, room = weights.filters[layer, block[2]], rooms.filters[share]
    filters = room.reshape(TILE, 3, F)
    one = S.dtype.type(1)
    for i in range(block[0], block[1]):
        end, pairs = near.parts[i, settings.elements], near.pairs[i]
        for first in range(near.parts[i, 0], end, TILE):
            last = min(first + TILE, end)
            _filter(near, 0, first, last, matrix, skipped, room)
            for e in range(first, last):
                j, w = np.int64(near.neighbor[e]), e - first
                if first_layer:
                    _first_message(w, e, i, j, one, filters, phi, near.direction, S, V)
                    if e < pairs:
                        _first_message(w, e, j, i, -one, filters, phi, near.direction, S, V)
                else:
                    _message(w, e, i, j, one, filters, phi, v, near.direction, S, V)
                    if e < pairs:
                        _message(w, e, j, i, -one, filters, phi, v, near.direction, S, V)


@kernel
def sum_messages_back(settings, weights, near, atoms, rooms, share, layer, block):  # type: ignore[no-untyped-def]
    """Derivatives by phi and v of a block of atoms from those by S and V of all; pairs add to those of later atoms."""
    for i in range(block[0], block[1]):
        for part in range(settings.elements):
            kind = (block[2] + part) % settings.elements
            _part_back(settings, weights, near, atoms, rooms, share, layer, i, part, kind)


@kernel
def _part_back(settings, weights, near, atoms, rooms, share, layer, i, part, kind):  # type: ignore[no-untyped-def]
    """The same of the edges of one atom to one element, whose filters are those of the neighbor."""
    F, first_layer = settings.channels, layer == 0
    skipped = F if first_layer else 0
    phi, gphi = atoms.phi[layer % settings.kept, kind].reshape(-1, 3, F), atoms.gphi[kind]
    v, gv, gS, gV = atoms.v[layer % settings.states], atoms.gv, atoms.gS[layer % 2], atoms.gV[layer % 2]
    matrix, room, slope_room = weights.filters[layer, kind], rooms.filters[share], rooms.slopes[share]
    filters, slopes = room.reshape(TILE, 3, F), slope_room.reshape(TILE, 3, F)
    one, u, g = gS.dtype.type(1), near.direction, near.gradient
    end, pairs = near.parts[i, part + 1], near.pairs[i]
    for first in range(near.parts[i, part], end, TILE):
        last = min(first + TILE, end)
        _filter(near, 0, first, last, matrix, skipped, room)
        _filter(near, 1, first, last, matrix, skipped, slope_room)
        for e in range(first, last):
            j, w = np.int64(near.neighbor[e]), e - first
            if first_layer:
                _first_message_back(w, e, j, i, -one, filters, slopes, phi, gS, gV, u, gphi, g)
                if e < pairs:
                    _first_message_back(w, e, i, j, one, filters, slopes, phi, gS, gV, u, gphi, g)
            else:
                _message_back(w, e, j, i, -one, filters, slopes, phi, v, gS, gV, u, gphi, gv, g)
                if e < pairs:
                    _message_back(w, e, i, j, one, filters, slopes, phi, v, gS, gV, u, gphi, gv, g)
