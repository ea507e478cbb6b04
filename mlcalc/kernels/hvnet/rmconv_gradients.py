"""Derivatives by the weights of HVNet with the sub-networks of its paper, and the order of its kernels."""

from __future__ import annotations

import numpy as np

from mlcalc.kernels.compile import kernel
from mlcalc.kernels.hvnet.atom_gradients import (
    prepare_messages_gradient,
    read_out_gradient,
    update_network_gradient,
)
from mlcalc.kernels.hvnet.atoms import begin, norms_beside, prepare_messages, read_out
from mlcalc.kernels.hvnet.dense_means import fill_matrix, mean_values, mean_values_back
from mlcalc.kernels.hvnet.edge_gradients import sum_messages_gradient, sum_values_gradient
from mlcalc.kernels.hvnet.rmconv import (
    angular_layer,
    prepare_update,
    radial_layer,
    start_means_back,
    update,
    update_back,
)
from mlcalc.kernels.hvnet.rows import copy_vectors


@kernel
def walk_rmconv_gradient(
    steps, share, forward, settings, weights, given, near, atoms, rooms, results, seeds, sums, matrix
):
    """Takes steps[0] up to steps[1] for one share of the atoms; between steps all shares wait for each other.

    Step 0 describes the edges; then every layer takes two steps forward, the readout one, and every layer two back.
    forward: the settings without a way back.  matrix (N, N): room for that of means, or (0, 0) for sums over edges.
    """
    L = settings.layers
    if given.first_block[share] == given.first_block[share + 1]:
        return
    for step in range(steps[0], steps[1]):
        done, second = divmod(step - 1, 2)
        left, radial = divmod(step - 2, 2)
        if step == 0:
            begin(forward, weights, given, near, atoms, rooms, results, share)
            fill_matrix(settings, near, matrix)
        elif done < L:
            if second == 0:
                radial_layer(forward, weights, given, near, atoms, rooms, share, done)
            elif len(matrix) > 0:
                _angular(forward, weights, given, near, atoms, rooms, results, matrix, share, done)
            else:
                angular_layer(forward, weights, given, near, atoms, rooms, results, share, done)
        elif step == 2 * L + 1:
            for b in range(given.first_block[share], given.first_block[share + 1]):
                read_out_gradient(settings, weights, given, atoms, rooms, sums, seeds, share, given.blocks[b])
                update_back(settings, near, atoms, L - 1, given.blocks[b])
        elif radial == 0:
            _angular_gradient(settings, weights, given, near, atoms, rooms, sums, matrix, share, 2 * L - 1 - left)
        else:
            _radial_gradient(settings, weights, given, near, atoms, rooms, sums, share, 2 * L - 1 - left)


@kernel
def _angular(settings, weights, given, near, atoms, rooms, results, matrix, share, layer):
    for b in range(given.first_block[share], given.first_block[share + 1]):
        block = given.blocks[b]
        mean_values(settings, near, atoms, matrix, layer, block)
        update(settings, atoms, layer, block)
        if layer + 1 < settings.layers:
            prepare_messages(settings, weights, atoms, rooms, share, layer + 1, block)
        else:
            read_out(settings, weights, given, atoms, rooms, results, share, block)


@kernel
def _angular_gradient(settings, weights, given, near, atoms, rooms, sums, matrix, share, layer):
    first, last, dense = given.first_block[share], given.first_block[share + 1], len(matrix) > 0
    for b in range(first, last):
        if settings.kept < settings.layers:
            prepare_update(settings, weights, atoms, rooms, share, layer, given.blocks[b])
        if not dense:
            start_means_back(settings, atoms, layer, given.blocks[b])
    if dense:
        mean_values_back(settings, atoms, matrix, layer, given.blocks)
    for b in range(first, last):
        if not dense:
            sum_values_gradient(settings, near, atoms, layer, given.blocks[b])
        _prepare_gradient(settings, weights, atoms, rooms, sums, share, layer, given.blocks[b])


@kernel
def _radial_gradient(settings, weights, given, near, atoms, rooms, sums, share, layer):
    first, last = given.first_block[share], given.first_block[share + 1]
    start, stop = given.blocks[first, 0], given.blocks[last - 1, 1]
    if settings.kept < settings.layers:
        for b in range(first, last):
            prepare_messages(settings, weights, atoms, rooms, share, layer, given.blocks[b])
    atoms.g_phi[:, start:stop] = 0
    copy_vectors(atoms.G_V[layer % 2], start, stop, atoms.g_v)
    for b in range(first, last):
        block = given.blocks[b]
        sum_messages_gradient(settings, weights, near, atoms, rooms, sums, share, layer, block)
        prepare_messages_gradient(settings, weights, atoms, rooms, sums, share, layer, block)
        if layer > 0:
            update_back(settings, near, atoms, layer - 1, block)


@kernel
def _prepare_gradient(settings, weights, atoms, rooms, sums, share, layer, block):
    """Derivatives by the networks of t, and by S and V from those by t."""
    first, last, slot, state = block[0], block[1], layer % settings.kept, layer % settings.states
    vectors = atoms.V[state].reshape(-1, 3, 1, settings.channels)
    norms_beside(first, last, vectors, 0, atoms.S[state], rooms.inputs[share])
    for k in range(settings.elements):
        g_t, h = atoms.g_t[k, first:last].reshape(last - first, -1), atoms.h2[slot, k, first:last]
        update_network_gradient(settings, weights, rooms, sums, share, layer, k, g_t, h, 0 if k == 0 else 1)
    V, G_V, G_S, x = atoms.V[state], atoms.G_V[layer % 2], atoms.G_S[layer % 2], rooms.x[share]
    one = x.dtype.type(1)
    for i in range(first, last):
        w = i - first
        for c in range(settings.channels):
            a, b, d = V[i, 0, c], V[i, 1, c], V[i, 2, c]
            slope = x[w, 0, c] / np.sqrt(one + (a * a + b * b + d * d))
            G_V[i, 0, c] += slope * a
            G_V[i, 1, c] += slope * b
            G_V[i, 2, c] += slope * d
            G_S[i, c] = atoms.g_s[i, c] + x[w, 1, c]
