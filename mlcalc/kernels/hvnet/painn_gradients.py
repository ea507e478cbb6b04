"""Derivatives by the weights of HVNet with sub-networks of PaiNN: its updates, and the order of its kernels."""

from __future__ import annotations

import numpy as np

from mlcalc.kernels.blas import multiply, multiply_transposed
from mlcalc.kernels.compile import kernel
from mlcalc.kernels.hvnet.atom_gradients import (
    prepare_messages_gradient,
    read_out_gradient,
    update_network_gradient,
)
from mlcalc.kernels.hvnet.atoms import begin, norms_beside, prepare_messages
from mlcalc.kernels.hvnet.edge_gradients import sum_messages_gradient
from mlcalc.kernels.hvnet.painn import forward_layer, prepare_update
from mlcalc.kernels.hvnet.rows import copy_vectors


@kernel
def walk_painn_gradient(
    steps, share, forward, settings, weights, given, near, atoms, rooms, results, seeds, sums, matrix
):
    """Takes steps[0] up to steps[1] for one share of the atoms; between steps all shares wait for each other.

    Step 0 describes the edges; then every layer takes one step forward, the readout one, and every layer one back.
    forward: the settings without a way back.  matrix: there are no means here.
    """
    L = settings.layers
    if given.first_block[share] == given.first_block[share + 1]:
        return
    for step in range(steps[0], steps[1]):
        if step == 0:
            begin(forward, weights, given, near, atoms, rooms, results, share)
        elif step <= L:
            forward_layer(forward, weights, given, near, atoms, rooms, results, share, step - 1)
        elif step == L + 1:
            for b in range(given.first_block[share], given.first_block[share + 1]):
                read_out_gradient(settings, weights, given, atoms, rooms, sums, seeds, share, given.blocks[b])
                _update_gradient(settings, weights, atoms, rooms, sums, share, L - 1, given.blocks[b])
        else:
            _gradient(settings, weights, given, near, atoms, rooms, sums, share, 2 * L + 1 - step)


@kernel
def _gradient(settings, weights, given, near, atoms, rooms, sums, share, layer):
    first, last = given.first_block[share], given.first_block[share + 1]
    start, stop = given.blocks[first, 0], given.blocks[last - 1, 1]
    again = settings.kept < settings.layers
    if again:
        for b in range(first, last):
            prepare_messages(settings, weights, atoms, rooms, share, layer, given.blocks[b])
    atoms.g_phi[:, start:stop] = 0
    copy_vectors(atoms.G_V[layer % 2], start, stop, atoms.g_v)
    for b in range(first, last):
        block = given.blocks[b]
        sum_messages_gradient(settings, weights, near, atoms, rooms, sums, share, layer, block)
        prepare_messages_gradient(settings, weights, atoms, rooms, sums, share, layer, block)
        if layer > 0:
            if again:
                prepare_update(settings, weights, atoms, rooms, share, layer - 1, block)
            _update_gradient(settings, weights, atoms, rooms, sums, share, layer - 1, block)


@kernel
def _update_gradient(settings, weights, atoms, rooms, sums, share, layer, block):
    """Derivatives by the weights of the update, and by S and V, from those by s and v after the layer."""
    first, last, k, F, slot = block[0], block[1], block[2], settings.channels, layer % settings.kept
    n = last - first
    UV, t, g_s, g_v = atoms.UV[slot], atoms.t[slot, 0], atoms.g_s, atoms.g_v
    g_t, G_UV, x = rooms.t[share, :n], rooms.UV[share, :n], rooms.x[share, :n]
    S, V = atoms.S[layer % settings.states], atoms.V[layer % settings.states, first:last].reshape(-1, F)
    for i in range(first, last):
        w = i - first
        for c in range(F):
            product, gate = UV[i, 0, 0, c] - UV[i, 0, 0, c], UV[i, 0, 0, c] - UV[i, 0, 0, c]
            for a in range(3):
                product += UV[i, a, 0, c] * UV[i, a, 1, c]
                gate += UV[i, a, 0, c] * g_v[i, a, c]
                G_UV[w, a, 0, c] = g_v[i, a, c] * t[i, 0, c] + g_s[i, c] * t[i, 1, c] * UV[i, a, 1, c]
                G_UV[w, a, 1, c] = g_s[i, c] * t[i, 1, c] * UV[i, a, 0, c]
            g_t[w, 0, c], g_t[w, 1, c], g_t[w, 2, c] = gate, g_s[i, c] * product, g_s[i, c]
    norms_beside(first, last, UV, 1, S, rooms.inputs[share])
    h = atoms.h2[slot, 0, first:last]
    update_network_gradient(settings, weights, rooms, sums, share, layer, k, g_t.reshape(n, -1), h, 0)
    one, G_S, G_V = x.dtype.type(1), atoms.G_S[layer % 2], atoms.G_V[layer % 2]
    for i in range(first, last):
        w = i - first
        for c in range(F):
            a, b, d = UV[i, 0, 1, c], UV[i, 1, 1, c], UV[i, 2, 1, c]
            slope = x[w, 0, c] / np.sqrt(one + (a * a + b * b + d * d))
            G_UV[w, 0, 1, c] += slope * a
            G_UV[w, 1, 1, c] += slope * b
            G_UV[w, 2, 1, c] += slope * d
            G_S[i, c] = g_s[i, c] + x[w, 1, c]
    copy_vectors(g_v, first, last, G_V)
    g_mixed = G_UV.reshape(-1, 2 * F)
    multiply(g_mixed, weights.mix_back[layer, k], G_V[first:last].reshape(-1, F), 1)
    multiply_transposed(V, g_mixed, sums.mix[layer, k], 1)
