"""HVNet with sub-networks of PaiNN: its updates, and the order of its kernels."""

# Sums of pairs reach later atoms, so that a block of atoms is complete once its own edges are done, and can go through
# its update and into the next layer at once.

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
from mlcalc.kernels.hvnet.rows import activate_back, copy_vectors
from mlcalc.kernels.hvnet.sums import start_sums, sum_messages, sum_messages_back


@kernel
def walk_painn(steps, share, stress, settings, weights, given, near, atoms, rooms, results):
    """Takes steps[0] up to steps[1] for one share of the atoms; between steps all shares wait for each other.

    Step 0 describes the edges; then every layer takes one step forward and, after the last, one back.
    """
    L = settings.layers
    if given.first_block[share] == given.first_block[share + 1]:
        return
    for step in range(steps[0], steps[1]):
        if step == 0:
            begin(settings, weights, given, near, atoms, rooms, results, share)
        elif step <= L:
            forward_layer(settings, weights, given, near, atoms, rooms, results, share, step - 1)
        else:
            _back(settings, weights, given, near, atoms, rooms, results, share, 2 * L - step, stress)


@kernel
def forward_layer(settings, weights, given, near, atoms, rooms, results, share, layer):
    start_sums(settings, given, atoms, share, layer)
    for b in range(given.first_block[share], given.first_block[share + 1]):
        block = given.blocks[b]
        sum_messages(settings, weights, near, atoms, rooms, share, layer, block)
        prepare_update(settings, weights, atoms, rooms, share, layer, block)
        _update(settings, atoms, layer, block)
        if layer + 1 < settings.layers:
            prepare_messages(settings, weights, atoms, rooms, share, layer + 1, block)
        else:
            read_out(settings, weights, given, atoms, rooms, results, share, block)
            if settings.back:
                _update_back(settings, weights, atoms, rooms, share, layer, block)


@kernel
def _back(settings, weights, given, near, atoms, rooms, results, share, layer, stress):
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
        sum_messages_back(settings, weights, near, atoms, rooms, share, layer, block)
        prepare_messages_back(settings, weights, atoms, rooms, share, layer, block)
        if layer == 0:
            spread(settings, given, near, results, share, b, stress)
            continue
        if again:
            prepare_update(settings, weights, atoms, rooms, share, layer - 1, block)
        _update_back(settings, weights, atoms, rooms, share, layer - 1, block)


@kernel
def prepare_update(settings, weights, atoms, rooms, share, layer, block):
    """UV, and from it t of the atom's own sub-network."""
    first, last, k, F = block[0], block[1], block[2], settings.channels
    slot, state = layer % settings.kept, layer % settings.states
    V, UV = atoms.V[state, first:last].reshape(-1, F), atoms.UV[slot, first:last].reshape(-1, 2 * F)
    multiply(V, weights.mix[layer, k], UV, 0)
    norms_beside(first, last, atoms.UV[slot], 1, atoms.S[state], rooms.x[share])
    update_network(settings, weights, atoms, rooms, share, layer, block, k - k, k)


@kernel
def _update(settings, atoms, layer, block):
    """s and v after the layer."""
    slot, old, new = layer % settings.kept, layer % settings.states, (layer + 1) % settings.states
    F, UV, t = settings.channels, atoms.UV[slot], atoms.t[slot, 0]
    S, V, s, v = atoms.S[old], atoms.V[old], atoms.s[new], atoms.v[new]
    for i in range(block[0], block[1]):
        for c in range(F):
            a, b, d = UV[i, 0, 0, c], UV[i, 1, 0, c], UV[i, 2, 0, c]
            product = a * UV[i, 0, 1, c] + b * UV[i, 1, 1, c] + d * UV[i, 2, 1, c]
            s[i, c] = S[i, c] + t[i, 1, c] * product + t[i, 2, c]
            v[i, 0, c] = V[i, 0, c] + t[i, 0, c] * a
            v[i, 1, c] = V[i, 1, c] + t[i, 0, c] * b
            v[i, 2, c] = V[i, 2, c] + t[i, 0, c] * d


@kernel
def _update_back(settings, weights, atoms, rooms, share, layer, block):
    """Derivatives by S and V from those by s and v after the layer."""
    first, last, k, F, slot = block[0], block[1], block[2], settings.channels, layer % settings.kept
    n = last - first
    UV, t, g_s, g_v = atoms.UV[slot], atoms.t[slot, 0], atoms.g_s, atoms.g_v
    g_t, G_UV, x, f = rooms.t[share, :n], rooms.UV[share, :n], rooms.x[share, :n], rooms.f[share, :n]
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
    multiply(g_t.reshape(n, -1), weights.update2_back[layer, k], f, 0)
    activate_back(True, atoms.h2[slot, 0, first:last], f)
    multiply(f, weights.update1_back[layer, k], x.reshape(n, -1), 0)
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
    multiply(G_UV.reshape(-1, 2 * F), weights.mix_back[layer, k], G_V[first:last].reshape(-1, F), 1)
