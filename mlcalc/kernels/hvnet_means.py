"""Means over HVNet's neighbors, weighted by the envelope, and the way back."""

from __future__ import annotations

import numpy as np

from mlcalc.kernels.compile import kernel


@kernel
def _add(i, j, weight, V, t, mean):  # type: ignore[no-untyped-def]
    """Adds the values of j to the mean of i."""
    for a in range(3):
        for c in range(V.shape[2]):
            mean[i, a, c] += weight * V[j, a, c]
            mean[i, a + 3, c] += weight * t[j, a, c]


@kernel
def _add_back(i, j, weight, V, t, gmean, gV, gt):  # type: ignore[no-untyped-def]
    """Adds the derivatives by the values of j to theirs; what comes back is that by the weight."""
    g = weight - weight
    for a in range(3):
        for c in range(V.shape[2]):
            gV[j, a, c] += weight * gmean[i, a, c]
            gt[j, a, c] += weight * gmean[i, a + 3, c]
            g += gmean[i, a, c] * V[j, a, c] + gmean[i, a + 3, c] * t[j, a, c]
    return g


@kernel
def sum_values(settings, near, atoms, layer, block):  # type: ignore[no-untyped-def]
    """The means of a block of atoms; pairs add to the sums of later atoms."""
    slot = layer % settings.states
    V, mean = atoms.V[slot], atoms.mean[slot]
    t = atoms.t[layer % settings.kept, block[2]]
    for i in range(block[0], block[1]):
        for e in range(near.parts[i, 0], near.parts[i, settings.elements]):
            j, weight = np.int64(near.neighbor[e]), near.envelope[e, 0]
            _add(i, j, weight, V, t, mean)
            if e < near.pairs[i]:
                _add(j, i, weight, V, t, mean)
        for a in range(6):
            for c in range(settings.channels):
                mean[i, a, c] *= near.norm[i]


@kernel
def sum_values_back(settings, near, atoms, layer, block):  # type: ignore[no-untyped-def]
    """Derivatives by V and t of a block of atoms from those by the sums of all; pairs add to those of later atoms."""
    V, gV, gmean = atoms.V[layer % settings.states], atoms.gV[layer % 2], atoms.gmean
    for i in range(block[0], block[1]):
        for part in range(settings.elements):
            kind = (block[2] + part) % settings.elements
            t, gt = atoms.t[layer % settings.kept, kind], atoms.gt[kind]
            for e in range(near.parts[i, part], near.parts[i, part + 1]):
                j, weight = np.int64(near.neighbor[e]), near.envelope[e, 0]
                g = _add_back(j, i, weight, V, t, gmean, gV, gt) + atoms.gnorm[j]
                if e < near.pairs[i]:
                    g += _add_back(i, j, weight, V, t, gmean, gV, gt) + atoms.gnorm[i]
                near.gradient[e, 0] += g * near.envelope[e, 1]
