"""Derivatives by the weights of what happens to single atoms of HVNet, on the way back through it."""

from __future__ import annotations

from mlcalc.kernels.blas import multiply, multiply_transposed
from mlcalc.kernels.compile import kernel
from mlcalc.kernels.hvnet.rows import activate, activate_back, copy_rows, project


@kernel
def add_rows(x, total):
    """total (C,) += the sum of the rows of x (n, C)."""
    for i in range(x.shape[0]):
        for c in range(x.shape[1]):
            total[c] += x[i, c]


@kernel
def read_out_gradient(settings, weights, given, atoms, rooms, sums, seeds, share, block):
    """Derivatives of the sum of seeds (S,) times energies by the readout, and by the last s and v."""
    first, last = block[0], block[1]
    n, s = last - first, atoms.s[settings.layers % settings.states, first:last]
    h, f = rooms.h[share, :n], rooms.f[share, :n]
    project(s, weights.readout1, weights.readout1_bias, h)
    activate(True, h, f)
    for i in range(n):
        seed = f.dtype.type(settings.scale * seeds[given.batch[given.order[first + i]]])
        sums.readout2_bias[0] += seed
        for c in range(settings.channels):
            sums.readout2[c] += seed * f[i, c]
            f[i, c] = seed * weights.readout2[c]
    activate_back(True, h, f)
    multiply_transposed(s, f, sums.readout1, 1)
    add_rows(f, sums.readout1_bias)
    multiply(f, weights.readout1_back, atoms.g_s[first:last], 0)
    atoms.g_v[first:last] = 0


@kernel
def prepare_messages_gradient(settings, weights, atoms, rooms, sums, share, layer, block):
    """Derivatives by the networks of phi; adds to those by s, which start as those by S."""
    first, last, slot = block[0], block[1], layer % settings.kept
    n, s, g_s = last - first, atoms.s[layer % settings.states, first:last], atoms.g_s[first:last]
    f, active = rooms.f[share, :n], rooms.h[share, :n]
    copy_rows(atoms.G_S[layer % 2], first, last, atoms.g_s)
    for k in range(settings.elements):
        g_phi, h = atoms.g_phi[k, first:last].reshape(n, -1), atoms.h[slot, k, first:last]
        activate(settings.painn, h, active)
        multiply_transposed(active, g_phi, sums.message2[layer, k], 1)
        add_rows(g_phi, sums.message2_bias[layer, k])
        multiply(g_phi, weights.message2_back[layer, k], f, 0)
        activate_back(settings.painn, h, f)
        multiply_transposed(s, f, sums.message1[layer, k], 1)
        add_rows(f, sums.message1_bias[layer, k])
        multiply(f, weights.message1_back[layer, k], g_s, 1)
    if layer == 0:
        add_rows(g_s, sums.embed[block[2]])


@kernel
def update_network_gradient(settings, weights, rooms, sums, share, layer, k, g_t, h, beta):
    """Derivatives by the network of t of sub-network k, from those by t (n, 3F); h (n, F) is within that network.

    Its inputs are in rooms.inputs; the derivatives by them, and beta times what was there, go into rooms.x.
    """
    n = len(h)
    f, active = rooms.f[share, :n], rooms.h[share, :n]
    x, inputs = rooms.x[share, :n].reshape(n, -1), rooms.inputs[share, :n].reshape(n, -1)
    activate(settings.painn, h, active)
    multiply_transposed(active, g_t, sums.update2[layer, k], 1)
    add_rows(g_t, sums.update2_bias[layer, k])
    multiply(g_t, weights.update2_back[layer, k], f, 0)
    activate_back(settings.painn, h, f)
    multiply_transposed(inputs, f, sums.update1[layer, k], 1)
    add_rows(f, sums.update1_bias[layer, k])
    multiply(f, weights.update1_back[layer, k], x, beta)
