"""HVNet with the sub-networks of its paper: its updates, and the order of its kernels."""

# Sums of pairs reach later atoms, so that a block of atoms is complete once its own edges are done, and can go on at
# once.  Here that is twice in every layer: means need the neighbors' V and t.

from __future__ import annotations

import numpy as np

from mlcalc.kernels.blas import multiply
from mlcalc.kernels.compile import kernel
from mlcalc.kernels.hvnet.atoms import (
    begin,
    norms_beside,
    prepare_messages,
    prepare_messages_back,
    read_out,
    update_network,
)
from mlcalc.kernels.hvnet.geometry import spread
from mlcalc.kernels.hvnet.means import sum_values, sum_values_back
from mlcalc.kernels.hvnet.rows import activate_back, copy_vectors, smooth_norm
from mlcalc.kernels.hvnet.sums import start_sums, sum_messages, sum_messages_back


@kernel
def walk_rmconv(steps, share, stress, settings, weights, given, near, atoms, rooms, results):
    """Takes steps[0] up to steps[1] for one share of the atoms; between steps all shares wait for each other.

    Step 0 describes the edges; then every layer takes two steps forward and, after the last, two back.
    """
    L = settings.layers
    if given.first_block[share] == given.first_block[share + 1]:
        return
    for step in range(steps[0], steps[1]):
        done, second = divmod(step - 1, 2)
        if step == 0:
            begin(settings, weights, given, near, atoms, rooms, results, share)
        elif done < L:
            if second == 0:
                radial_layer(settings, weights, given, near, atoms, rooms, share, done)
            else:
                angular_layer(settings, weights, given, near, atoms, rooms, results, share, done)
        elif second == 0:
            _angular_back(settings, weights, given, near, atoms, rooms, share, 2 * L - 1 - done)
        else:
            _radial_back(settings, weights, given, near, atoms, rooms, results, share, 2 * L - 1 - done, stress)


@kernel
def radial_layer(settings, weights, given, near, atoms, rooms, share, layer):
    start_sums(settings, given, atoms, share, layer)
    for b in range(given.first_block[share], given.first_block[share + 1]):
        sum_messages(settings, weights, near, atoms, rooms, share, layer, given.blocks[b])
        prepare_update(settings, weights, atoms, rooms, share, layer, given.blocks[b])


@kernel
def angular_layer(settings, weights, given, near, atoms, rooms, results, share, layer):
    first, last = given.first_block[share], given.first_block[share + 1]
    for b in range(first, last):
        _start_means(settings, atoms, layer, given.blocks[b])
    for b in range(first, last):
        block = given.blocks[b]
        sum_values(settings, near, atoms, layer, block)
        update(settings, atoms, layer, block)
        if layer + 1 < settings.layers:
            prepare_messages(settings, weights, atoms, rooms, share, layer + 1, block)
        else:
            read_out(settings, weights, given, atoms, rooms, results, share, block)
            if settings.back:
                update_back(settings, near, atoms, layer, block)


@kernel
def _angular_back(settings, weights, given, near, atoms, rooms, share, layer):
    first, last = given.first_block[share], given.first_block[share + 1]
    for b in range(first, last):
        if settings.kept < settings.layers:
            prepare_update(settings, weights, atoms, rooms, share, layer, given.blocks[b])
        start_means_back(settings, atoms, layer, given.blocks[b])
    for b in range(first, last):
        sum_values_back(settings, near, atoms, layer, given.blocks[b])
        _prepare_back(settings, weights, atoms, rooms, share, layer, given.blocks[b])


@kernel
def _radial_back(settings, weights, given, near, atoms, rooms, results, share, layer, stress):
    first, last = given.first_block[share], given.first_block[share + 1]
    start, stop = given.blocks[first, 0], given.blocks[last - 1, 1]
    if settings.kept < settings.layers:
        for b in range(first, last):
            prepare_messages(settings, weights, atoms, rooms, share, layer, given.blocks[b])
    atoms.g_phi[:, start:stop] = 0
    copy_vectors(atoms.G_V[layer % 2], start, stop, atoms.g_v)
    for b in range(first, last):
        block = given.blocks[b]
        sum_messages_back(settings, weights, near, atoms, rooms, share, layer, block)
        prepare_messages_back(settings, weights, atoms, rooms, share, layer, block)
        if layer == 0:
            spread(settings, given, near, results, share, b, stress)
        else:
            update_back(settings, near, atoms, layer - 1, block)


@kernel
def prepare_update(settings, weights, atoms, rooms, share, layer, block):
    """t of every sub-network."""
    state = layer % settings.states
    vectors = atoms.V[state].reshape(-1, 3, 1, settings.channels)
    norms_beside(block[0], block[1], vectors, 0, atoms.S[state], rooms.x[share])
    for k in range(settings.elements):
        update_network(settings, weights, atoms, rooms, share, layer, block, k, k)


@kernel
def _start_means(settings, atoms, layer, block):
    """The atom itself counts like a neighbor at distance zero."""
    state, F = layer % settings.states, settings.channels
    V, mean, t = atoms.V[state], atoms.mean[state], atoms.t[layer % settings.kept, block[2]]
    for i in range(block[0], block[1]):
        for a in range(3):
            for c in range(F):
                mean[i, a, c] = V[i, a, c]
                mean[i, a + 3, c] = t[i, a, c]


@kernel
def update(settings, atoms, layer, block):
    """s and v after the layer."""
    old, new = layer % settings.states, (layer + 1) % settings.states
    mean, S, V, s, v = atoms.mean[old], atoms.S[old], atoms.V[old], atoms.s[new], atoms.v[new]
    for i in range(block[0], block[1]):
        for c in range(settings.channels):
            a, b, d = mean[i, 0, c], mean[i, 1, c], mean[i, 2, c]
            s[i, c] = S[i, c] + mean[i, 4, c] * smooth_norm(a * a + b * b + d * d) + mean[i, 5, c]
            v[i, 0, c] = V[i, 0, c] + mean[i, 3, c] * a
            v[i, 1, c] = V[i, 1, c] + mean[i, 3, c] * b
            v[i, 2, c] = V[i, 2, c] + mean[i, 3, c] * d


@kernel
def update_back(settings, near, atoms, layer, block):
    """Derivatives by the sums that became means, and by the envelopes in their norm."""
    mean, g_mean, g_s, g_v = atoms.mean[layer % settings.states], atoms.g_mean, atoms.g_s, atoms.g_v
    one = g_s.dtype.type(1)
    for i in range(block[0], block[1]):
        norm, total = near.norm[i], one - one
        for c in range(settings.channels):
            a, b, d = mean[i, 0, c], mean[i, 1, c], mean[i, 2, c]
            squared = a * a + b * b + d * d
            bent = g_s[i, c] * mean[i, 4, c] / np.sqrt(one + squared)
            gate = g_v[i, 0, c] * a + g_v[i, 1, c] * b + g_v[i, 2, c] * d
            size = smooth_norm(squared)
            total += mean[i, 3, c] * gate * (one + one) + bent * squared
            total += g_s[i, c] * (size * mean[i, 4, c] + mean[i, 5, c])
            g_mean[i, 0, c] = norm * (g_v[i, 0, c] * mean[i, 3, c] + bent * a)
            g_mean[i, 1, c] = norm * (g_v[i, 1, c] * mean[i, 3, c] + bent * b)
            g_mean[i, 2, c] = norm * (g_v[i, 2, c] * mean[i, 3, c] + bent * d)
            g_mean[i, 3, c] = norm * gate
            g_mean[i, 4, c] = norm * g_s[i, c] * size
            g_mean[i, 5, c] = norm * g_s[i, c]
        atoms.g_norm[i] = -norm * total


@kernel
def start_means_back(settings, atoms, layer, block):
    G_V, g_v, g_mean, g_t = atoms.G_V[layer % 2], atoms.g_v, atoms.g_mean, atoms.g_t[block[2]]
    for i in range(block[0], block[1]):
        for a in range(3):
            for c in range(settings.channels):
                G_V[i, a, c] = g_v[i, a, c] + g_mean[i, a, c]
                g_t[i, a, c] = g_mean[i, a + 3, c]
    for k in range(settings.elements):
        if k != block[2]:
            atoms.g_t[k, block[0] : block[1]] = 0


@kernel
def _prepare_back(settings, weights, atoms, rooms, share, layer, block):
    """Derivatives by S and V from those by t."""
    first, last, slot, F = block[0], block[1], layer % settings.kept, settings.channels
    x, f = rooms.x[share, : last - first], rooms.f[share, : last - first]
    for k in range(settings.elements):
        g_t = atoms.g_t[k, first:last].reshape(last - first, -1)
        multiply(g_t, weights.update2_back[layer, k], f, 0)
        activate_back(False, atoms.h2[slot, k, first:last], f)
        multiply(f, weights.update1_back[layer, k], x.reshape(last - first, -1), 0 if k == 0 else 1)
    V, G_V, G_S = atoms.V[layer % settings.states], atoms.G_V[layer % 2], atoms.G_S[layer % 2]
    one = x.dtype.type(1)
    for i in range(first, last):
        w = i - first
        for c in range(F):
            a, b, d = V[i, 0, c], V[i, 1, c], V[i, 2, c]
            slope = x[w, 0, c] / np.sqrt(one + (a * a + b * b + d * d))
            G_V[i, 0, c] += slope * a
            G_V[i, 1, c] += slope * b
            G_V[i, 2, c] += slope * d
            G_S[i, c] = atoms.g_s[i, c] + x[w, 1, c]
