"""The arrays that HVNet's kernels share, and the network's weights among them."""

from __future__ import annotations

from typing import Any, NamedTuple

from numpy.typing import NDArray

Array = NDArray[Any]
TILE = 64  # edges whose filters are computed at once
BLOCK = 32  # atoms that go through the products of a layer at once


class Weights(NamedTuple):
    """Matrices that rows are multiplied by, and for the way back their transposes; L layers, K elements."""

    embed: Array  # (K, F)
    message1: Array  # (L, K, F, F)
    message1_bias: Array  # (L, K, F)
    message1_back: Array
    message2: Array  # (L, K, F, 3F)
    message2_bias: Array  # (L, K, 3F)
    message2_back: Array
    filters: Array  # (L, K, R, 3F), over the neighbor norm
    mix: Array  # (L, K, F, 2F); empty without one
    mix_back: Array
    update1: Array  # (L, K, 2F, F)
    update1_bias: Array  # (L, K, F)
    update1_back: Array
    update2: Array  # (L, K, F, 3F)
    update2_bias: Array  # (L, K, 3F)
    update2_back: Array
    readout1: Array  # (F, F)
    readout1_bias: Array  # (F,)
    readout1_back: Array
    readout2: Array  # (F,)
    readout2_bias: Array  # (1,)


class WeightSums(NamedTuple):
    """Derivatives by the weights, summed over atoms and edges, in the places of Weights."""

    embed: Array  # (K, F)
    message1: Array  # (L, K, F, F)
    message1_bias: Array  # (L, K, F)
    message2: Array  # (L, K, F, 3F)
    message2_bias: Array  # (L, K, 3F)
    filters: Array  # (L, K, R, 3F)
    mix: Array  # (L, K, F, 2F)
    update1: Array  # (L, K, 2F, F)
    update1_bias: Array  # (L, K, F)
    update2: Array  # (L, K, F, 3F)
    update2_bias: Array  # (L, K, 3F)
    readout1: Array  # (F, F)
    readout1_bias: Array  # (F,)
    readout2: Array  # (F,)
    readout2_bias: Array  # (1,)


class Settings(NamedTuple):
    """Numbers that a call does not change but for the last three."""

    painn: bool
    layers: int
    elements: int
    channels: int
    cutoff: float
    exponent: int
    scale: float
    states: int  # slots of what the way back needs of each layer; two where there is no way back
    kept: int  # slots of what can be computed again; two where it is
    back: bool


class Given(NamedTuple):
    """The graph, and the order in which kernels take its atoms: by share, then by element."""

    positions: Array  # (N, 3)
    cell: Array  # (S, 3, 3)
    batch: Array  # (N,)
    shifts: Array  # (E, 3)
    edges: Array  # (2, E)
    first: Array  # (N + 1,) the first edge of each atom
    order: Array  # (N,) the atom at each place
    place: Array  # (N,) the place of each atom
    element: Array  # (N,) by place
    blocks: Array  # (B, 3) first place, place after the last, element
    first_block: Array  # (shares + 1,)


class Edges(NamedTuple):
    """Edges by place of their center.

    Of two mirrored edges within one share and element only that with the later neighbor is there, a pair; all other
    edges stand for themselves.
    """

    neighbor: Array  # (E,) place
    parts: Array  # (N, K + 1) bounds of the edges to each element: the atom's own first, then the next ones in turn
    pairs: Array  # (N,) end of the pairs, which are the first edges to the own element
    basis: Array  # (E, 2, R) c_ij [e_ij, 1] and its derivative by r
    direction: Array  # (E, 3)
    distance: Array  # (E,)
    envelope: Array  # (E, 2) and its derivative
    gradient: Array  # (E, 4) by r and by the direction
    norm: Array  # (N,) 1 / (1 + sum_j c_ij)


class Atoms(NamedTuple):
    """States of the atoms by place, and the derivatives by them; the first index is a slot of layers."""

    s: Array  # (states, N, F) before the radial update
    v: Array  # (states, N, 3, F)
    S: Array  # (states, N, F) after it
    V: Array  # (states, N, 3, F)
    h: Array  # (kept, K, N, F) within the network of phi
    phi: Array  # (kept, K, N, 3, F)
    h2: Array  # (kept, 1 or K, N, F) within the network of t
    t: Array  # (kept, 1 or K, N, 3, F)
    UV: Array  # (kept, N, 3, 2, F) mixed vectors; painn only
    mean: Array  # (states, N, 6, F) neighbor means of V and t; rmconv only
    g_s: Array  # (N, F)
    g_v: Array  # (N, 3, F)
    G_S: Array  # (2, N, F)
    G_V: Array  # (2, N, 3, F)
    g_phi: Array  # (K, N, 3, F)
    g_t: Array  # (K, N, 3, F) rmconv only
    g_mean: Array  # (N, 6, F) by the sums, that is, times the norm; rmconv only
    g_norm: Array  # (N,) by each envelope through the norm; rmconv only


class Results(NamedTuple):
    """By atom, not by place; one row per share of what shares add up."""

    y: Array  # (N,)
    forces: Array  # (shares, N, 3)
    virial: Array  # (shares, S, 3, 3) sums of r_a dE/dr_b
    mirrored: Array  # (shares,) uint64; their sum is zero for a full list


class Rooms(NamedTuple):
    """Working memory of each share, with its number as the first index."""

    filters: Array  # (shares, TILE, 3F)
    slopes: Array  # (shares, TILE, 3F)
    x: Array  # (shares, BLOCK, 2, F)
    f: Array  # (shares, BLOCK, F)
    h: Array  # (shares, BLOCK, F)
    t: Array  # (shares, BLOCK, 3, F)
    UV: Array  # (shares, BLOCK, 3, 2, F)
    inputs: Array  # (shares, BLOCK, 2, F) of the network of t, for the derivatives by its weights
