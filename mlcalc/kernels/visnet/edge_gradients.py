"""The edges of one block of ViSNet, with what derivatives by its weights need."""

from __future__ import annotations

from mlcalc.kernels.blas import multiply_transposed
from mlcalc.kernels.compile import kernel
from mlcalc.kernels.visnet.edges import TILE, backward_edges, forward_edges
from mlcalc.kernels.visnet.rows import add_columns


@kernel
def forward_edges_kept(shape, bounds, edges, weights, states, kept, sums, messages, tile):
    """`forward_edges` that keeps the messages (E, F) as well; kept: (P (E, parts F), Z (E, 2F))."""
    for start in range(bounds[0], bounds[1], TILE):
        stop = min(start + TILE, bounds[1])
        forward_edges(shape, (start, stop), edges, weights, states, kept, sums, (messages[start:stop], *tile))


@kernel
def backward_edges_weights(
    shape, bounds, edges, weights, states, kept, gradients, edge_gradients, tile, messages, by_weights
):
    """`backward_edges`, and the derivatives by (We, be, Ws, bs) of edge_proj and s_proj, added to by_weights."""
    f, gP, gZ = states[4], tile[6], tile[7]
    by_edge, by_edge_bias, by_gate, by_gate_bias = by_weights
    for start in range(bounds[0], bounds[1], TILE):
        stop = min(start + TILE, bounds[1])
        backward_edges(shape, (start, stop), edges, weights, states, kept, gradients, edge_gradients, tile)
        multiply_transposed(gP[: stop - start], f[start:stop], by_edge, 1)
        add_columns(gP[: stop - start], by_edge_bias)
        multiply_transposed(gZ[: stop - start], messages[start:stop], by_gate, 1)
        add_columns(gZ[: stop - start], by_gate_bias)


@kernel
def backward_edges_kept(bounds, shape, edges, weights, states, kept, gradients, edge_gradients, scratch, derivatives):
    """`backward_edges` that keeps the derivatives by (P, Z, messages) of all edges."""
    gP, gZ, gm = derivatives
    for start in range(bounds[0], bounds[1], TILE):
        stop = min(start + TILE, bounds[1])
        tile = (*scratch, gP[start:stop], gZ[start:stop], gm[start:stop])
        backward_edges(shape, (start, stop), edges, weights, states, kept, gradients, edge_gradients, tile)
