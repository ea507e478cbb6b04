"""Means over HVNet's neighbors, weighted by the envelope, and the way back."""

from __future__ import annotations

import numpy as np

from mlcalc.kernels.compile import kernel


@kernel
def _add(i, first, last, pairs, neighbor, envelope, V, t, mean):
    """Adds the values of its neighbors to the mean of atom i, and over pairs those of i to theirs."""
    for e in range(first, last):
        weight, j = envelope[e, 0], np.int64(neighbor[e])
        for way in range(2 if e < pairs else 1):
            to, source = (j, i) if way else (i, j)
            for a in range(3):
                for c in range(V.shape[2]):
                    mean[to, a, c] += weight * V[source, a, c]
                    mean[to, a + 3, c] += weight * t[source, a, c]


@kernel
def _add_back(i, first, last, pairs, neighbor, envelope, V, t, g_mean, g_norm, G_V, g_t, gradient):
    """Adds the derivatives by the values of atom i, over pairs by those of its neighbors too, and by the distances."""
    for e in range(first, last):
        weight, j = envelope[e, 0], np.int64(neighbor[e])
        for way in range(2 if e < pairs else 1):
            to, source = (i, j) if way else (j, i)
            g = g_norm[to]
            for a in range(3):
                for c in range(V.shape[2]):
                    G_V[source, a, c] += weight * g_mean[to, a, c]
                    g_t[source, a, c] += weight * g_mean[to, a + 3, c]
                    g += g_mean[to, a, c] * V[source, a, c] + g_mean[to, a + 3, c] * t[source, a, c]
            gradient[e, 0] += g * envelope[e, 1]


@kernel
def sum_values(settings, near, atoms, layer, block):
    """The means of a block of atoms; pairs add to the sums of later atoms."""
    slot = layer % settings.states
    V, mean, neighbor, envelope = atoms.V[slot], atoms.mean[slot], near.neighbor, near.envelope
    t = atoms.t[layer % settings.kept, block[2]]
    for i in range(block[0], block[1]):
        _add(i, near.parts[i, 0], near.parts[i, settings.elements], near.pairs[i], neighbor, envelope, V, t, mean)
        norm = near.norm[i]
        for a in range(6):
            for c in range(settings.channels):
                mean[i, a, c] *= norm


@kernel
def sum_values_back(settings, near, atoms, layer, block):
    """Derivatives by V and t of a block of atoms from those by the sums of all; pairs add to those of later atoms."""
    V, G_V, g_mean, g_norm = atoms.V[layer % settings.states], atoms.G_V[layer % 2], atoms.g_mean, atoms.g_norm
    neighbor, envelope, gradient = near.neighbor, near.envelope, near.gradient
    for part in range(settings.elements):
        kind = (block[2] + part) % settings.elements
        t, g_t = atoms.t[layer % settings.kept, kind], atoms.g_t[kind]
        for i in range(block[0], block[1]):
            first, last = near.parts[i, part], near.parts[i, part + 1]
            _add_back(i, first, last, near.pairs[i], neighbor, envelope, V, t, g_mean, g_norm, G_V, g_t, gradient)
