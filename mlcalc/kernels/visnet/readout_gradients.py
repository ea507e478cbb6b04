"""ViSNet's readout of atomic energies, with derivatives by its weights."""

from __future__ import annotations

from mlcalc.kernels.blas import multiply_transposed
from mlcalc.kernels.compile import kernel
from mlcalc.kernels.visnet.node_gradients import norm_weights
from mlcalc.kernels.visnet.nodes import TILE
from mlcalc.kernels.visnet.readout import backward_readout, forward_readout
from mlcalc.kernels.visnet.rows import add_columns, add_row, copy_rows


@kernel
def read_out_weights(bounds, epsilon, smooth, weights, rows, states, seeds, y, gradients, tile, inputs, by_weights):
    """`read_out`, and the derivatives by its weights, in their order and shapes as in torch, added to by_weights.

    inputs: a tile each for what the layers U1, T1, U2, T2 and V2 are given, and one of seeds (TILE, 1).
    """
    x, vec = states
    S, F = vec.shape[1], vec.shape[2]
    by_norm, by_norm_bias, by_V1, by_U1, by_b1, by_T1, by_c1, by_G1, by_V2, by_U2, by_b2, by_T2, by_c2 = by_weights
    both, hidden, _, t1, _, both2, hidden2, _, _, _, _, A1, _, W1, A2 = tile
    in_U1, in_T1, in_U2, in_T2, in_V2, seed = inputs
    for start in range(bounds[0], bounds[1], TILE):
        stop = min(start + TILE, bounds[1])
        n, m = stop - start, (stop - start) * S
        forward_readout(start, stop, epsilon, smooth, weights, states, y, tile)
        copy_rows(both[:n], in_U1)
        copy_rows(hidden[:n], in_T1)
        copy_rows(both2[:n], in_U2)
        copy_rows(hidden2[:n], in_T2)
        copy_rows(W1[:m], in_V2)
        backward_readout(start, stop, epsilon, rows, weights[0], x, seeds, gradients, tile)
        vec_rows = vec[start:stop].reshape(m, F)
        for k in range(n):
            seed[k, 0] = seeds[start + k]
            add_row(both[k, :F], by_norm_bias)
            norm_weights(x[start + k], epsilon, weights[0], weights[1], both[k, :F], both[k, :F], by_norm)
        multiply_transposed(A1[:m], vec_rows, by_V1, 1)
        multiply_transposed(W1[:m], vec_rows, by_G1, 1)
        multiply_transposed(A2[:m], in_V2[:m], by_V2, 1)
        for g, given, by_matrix, by_bias in (
            (hidden, in_U1, by_U1, by_b1),
            (t1, in_T1, by_T1, by_c1),
            (hidden2, in_U2, by_U2, by_b2),
            (seed, in_T2, by_T2, by_c2),
        ):
            multiply_transposed(g[:n], given[:n], by_matrix, 1)
            add_columns(g[:n], by_bias)
