"""What happens to single atoms of HVNet: embedding, networks of phi and t, updates, readout, and the way back."""

# A block is (first place, place after the last, element).

from __future__ import annotations

import numpy as np

from mlcalc.kernels.blas import multiply
from mlcalc.kernels.compile import kernel
from mlcalc.kernels.hvnet_rows import activate, activate_back, project, smooth_norm


@kernel
def embed(settings, weights, atoms, block):  # type: ignore[no-untyped-def]
    for i in range(block[0], block[1]):
        for c in range(settings.channels):
            atoms.s[0, i, c] = weights.embed[block[2], c]


@kernel
def prepare_messages(settings, weights, atoms, rooms, share, layer, block):  # type: ignore[no-untyped-def]
    """phi of every sub-network."""
    first, last, slot = block[0], block[1], layer % settings.kept
    s, f = atoms.s[layer % settings.states, first:last], rooms.f[share, : last - first]
    for k in range(settings.elements):
        h = atoms.h[slot, k, first:last]
        phi = atoms.phi[slot, k, first:last].reshape(last - first, -1)
        project(s, weights.message1[layer, k], weights.message1_bias[layer, k], h)
        activate(settings.painn, h, f)
        project(f, weights.message2[layer, k], weights.message2_bias[layer, k], phi)


@kernel
def prepare_messages_back(settings, weights, atoms, rooms, share, layer, block):  # type: ignore[no-untyped-def]
    """Adds to the derivatives by s, which start as those by S."""
    first, last, slot = block[0], block[1], layer % settings.kept
    gs, f = atoms.gs[first:last], rooms.f[share, : last - first]
    gs[:] = atoms.gS[layer % 2, first:last]
    for k in range(settings.elements):
        gphi = atoms.gphi[k, first:last].reshape(last - first, -1)
        multiply(gphi, weights.message2_back[layer, k], f, 0)
        activate_back(settings.painn, atoms.h[slot, k, first:last], f)
        multiply(f, weights.message1_back[layer, k], gs, 1)


@kernel
def norms_beside(first, last, vectors, half, S, x):  # type: ignore[no-untyped-def]
    """x (n, 2, F) = [norms of one half of the vectors (N, 3, 1 or 2, F), S] of these atoms."""
    for i in range(first, last):
        w = i - first
        for c in range(S.shape[1]):
            a, b, d = vectors[i, 0, half, c], vectors[i, 1, half, c], vectors[i, 2, half, c]
            x[w, 0, c] = smooth_norm(a * a + b * b + d * d)
            x[w, 1, c] = S[i, c]


@kernel
def read_out(settings, weights, given, atoms, rooms, results, share, block):  # type: ignore[no-untyped-def]
    """y, and where wanted its derivatives by the last s and v."""
    first, last = block[0], block[1]
    s, h, f = (
        atoms.s[settings.layers % settings.states, first:last],
        rooms.h[share, : last - first],
        rooms.f[share, : last - first],
    )
    project(s, weights.readout1, weights.readout1_bias, h)
    activate(True, h, f)
    for i in range(last - first):
        y = weights.readout2_bias[0]
        for c in range(settings.channels):
            y += f[i, c] * weights.readout2[c]
        results.y[given.order[first + i]] = y
    if settings.back:
        scale = f.dtype.type(settings.scale)
        for i in range(last - first):
            for c in range(settings.channels):
                f[i, c] = scale * weights.readout2[c]
        activate_back(True, h, f)
        multiply(f, weights.readout1_back, atoms.gs[first:last], 0)
        atoms.gv[first:last] = 0


@kernel
def prepare_painn(settings, weights, atoms, rooms, share, layer, block):  # type: ignore[no-untyped-def]
    """UV, and from it t of the atom's own sub-network."""
    first, last, k, F = block[0], block[1], block[2], settings.channels
    slot, state = layer % settings.kept, layer % settings.states
    V, UV = atoms.V[state, first:last].reshape(-1, F), atoms.UV[slot, first:last].reshape(-1, 2 * F)
    multiply(V, weights.mix[layer, k], UV, 0)
    norms_beside(first, last, atoms.UV[slot], 1, atoms.S[state], rooms.x[share])
    _update_network(settings, weights, atoms, rooms, share, layer, block, 0, k)


@kernel
def _update_network(settings, weights, atoms, rooms, share, layer, block, q, k):  # type: ignore[no-untyped-def]
    """t of sub-network k, kept at index q, from the rows in rooms.x."""
    first, last, slot = block[0], block[1], layer % settings.kept
    x, f = rooms.x[share, : last - first].reshape(last - first, -1), rooms.f[share, : last - first]
    h, t = atoms.h2[slot, q, first:last], atoms.t[slot, q, first:last].reshape(last - first, -1)
    project(x, weights.update1[layer, k], weights.update1_bias[layer, k], h)
    activate(settings.painn, h, f)
    project(f, weights.update2[layer, k], weights.update2_bias[layer, k], t)


@kernel
def update_painn(settings, atoms, layer, block):  # type: ignore[no-untyped-def]
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
def update_painn_back(settings, weights, atoms, rooms, share, layer, block):  # type: ignore[no-untyped-def]
    """Derivatives by S and V from those by s and v after the layer."""
    first, last, k, F, slot = block[0], block[1], block[2], settings.channels, layer % settings.kept
    n = last - first
    UV, t, gs, gv = atoms.UV[slot], atoms.t[slot, 0], atoms.gs, atoms.gv
    gt, gUV, x, f = rooms.t[share, :n], rooms.UV[share, :n], rooms.x[share, :n], rooms.f[share, :n]
    for i in range(first, last):
        w = i - first
        for c in range(F):
            product, gate = UV[i, 0, 0, c] - UV[i, 0, 0, c], UV[i, 0, 0, c] - UV[i, 0, 0, c]
            for a in range(3):
                product += UV[i, a, 0, c] * UV[i, a, 1, c]
                gate += UV[i, a, 0, c] * gv[i, a, c]
                gUV[w, a, 0, c] = gv[i, a, c] * t[i, 0, c] + gs[i, c] * t[i, 1, c] * UV[i, a, 1, c]
                gUV[w, a, 1, c] = gs[i, c] * t[i, 1, c] * UV[i, a, 0, c]
            gt[w, 0, c], gt[w, 1, c], gt[w, 2, c] = gate, gs[i, c] * product, gs[i, c]
    multiply(gt.reshape(n, -1), weights.update2_back[layer, k], f, 0)
    activate_back(True, atoms.h2[slot, 0, first:last], f)
    multiply(f, weights.update1_back[layer, k], x.reshape(n, -1), 0)
    one, gS, gV = x.dtype.type(1), atoms.gS[layer % 2], atoms.gV[layer % 2]
    for i in range(first, last):
        w = i - first
        for c in range(F):
            a, b, d = UV[i, 0, 1, c], UV[i, 1, 1, c], UV[i, 2, 1, c]
            slope = x[w, 0, c] / np.sqrt(one + (a * a + b * b + d * d))
            gUV[w, 0, 1, c] += slope * a
            gUV[w, 1, 1, c] += slope * b
            gUV[w, 2, 1, c] += slope * d
            gS[i, c] = gs[i, c] + x[w, 1, c]
    gV[first:last] = gv[first:last]
    multiply(gUV.reshape(-1, 2 * F), weights.mix_back[layer, k], gV[first:last].reshape(-1, F), 1)


@kernel
def prepare_rmconv(settings, weights, atoms, rooms, share, layer, block):  # type: ignore[no-untyped-def]
    """t of every sub-network."""
    state = layer % settings.states
    vectors = atoms.V[state].reshape(-1, 3, 1, settings.channels)
    norms_beside(block[0], block[1], vectors, 0, atoms.S[state], rooms.x[share])
    for k in range(settings.elements):
        _update_network(settings, weights, atoms, rooms, share, layer, block, k, k)


@kernel
def start_means(settings, atoms, layer, block):  # type: ignore[no-untyped-def]
    """The atom itself counts like a neighbor at distance zero."""
    state, F = layer % settings.states, settings.channels
    V, mean, t = atoms.V[state], atoms.mean[state], atoms.t[layer % settings.kept, block[2]]
    for i in range(block[0], block[1]):
        for a in range(3):
            for c in range(F):
                mean[i, a, c] = V[i, a, c]
                mean[i, a + 3, c] = t[i, a, c]


@kernel
def update_rmconv(settings, atoms, layer, block):  # type: ignore[no-untyped-def]
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
def update_rmconv_back(settings, near, atoms, layer, block):  # type: ignore[no-untyped-def]
    """Derivatives by the sums that became means, and by the envelopes in their norm."""
    mean, gmean, gs, gv = atoms.mean[layer % settings.states], atoms.gmean, atoms.gs, atoms.gv
    one = gs.dtype.type(1)
    for i in range(block[0], block[1]):
        norm, total = near.norm[i], one - one
        for c in range(settings.channels):
            a, b, d = mean[i, 0, c], mean[i, 1, c], mean[i, 2, c]
            squared = a * a + b * b + d * d
            bent = gs[i, c] * mean[i, 4, c] / np.sqrt(one + squared)
            gate = gv[i, 0, c] * a + gv[i, 1, c] * b + gv[i, 2, c] * d
            size = smooth_norm(squared)
            total += mean[i, 3, c] * gate * (one + one) + bent * squared
            total += gs[i, c] * (size * mean[i, 4, c] + mean[i, 5, c])
            gmean[i, 0, c] = norm * (gv[i, 0, c] * mean[i, 3, c] + bent * a)
            gmean[i, 1, c] = norm * (gv[i, 1, c] * mean[i, 3, c] + bent * b)
            gmean[i, 2, c] = norm * (gv[i, 2, c] * mean[i, 3, c] + bent * d)
            gmean[i, 3, c] = norm * gate
            gmean[i, 4, c] = norm * gs[i, c] * size
            gmean[i, 5, c] = norm * gs[i, c]
        atoms.gnorm[i] = -norm * total


@kernel
def start_means_back(settings, atoms, layer, block):  # type: ignore[no-untyped-def]
    gV, gv, gmean = atoms.gV[layer % 2], atoms.gv, atoms.gmean
    for i in range(block[0], block[1]):
        for a in range(3):
            for c in range(settings.channels):
                gV[i, a, c] = gv[i, a, c] + gmean[i, a, c]
    for k in range(settings.elements):
        if k != block[2]:
            atoms.gt[k, block[0] : block[1]] = 0
    atoms.gt[block[2], block[0] : block[1]] = gmean[block[0] : block[1], 3:]


@kernel
def prepare_rmconv_back(settings, weights, atoms, rooms, share, layer, block):  # type: ignore[no-untyped-def]
    """Derivatives by S and V from those by t."""
    first, last, slot, F = block[0], block[1], layer % settings.kept, settings.channels
    x, f = rooms.x[share, : last - first], rooms.f[share, : last - first]
    for k in range(settings.elements):
        gt = atoms.gt[k, first:last].reshape(last - first, -1)
        multiply(gt, weights.update2_back[layer, k], f, 0)
        activate_back(False, atoms.h2[slot, k, first:last], f)
        multiply(f, weights.update1_back[layer, k], x.reshape(last - first, -1), 0 if k == 0 else 1)
    V, gV, gS = atoms.V[layer % settings.states], atoms.gV[layer % 2], atoms.gS[layer % 2]
    one = x.dtype.type(1)
    for i in range(first, last):
        w = i - first
        for c in range(F):
            a, b, d = V[i, 0, c], V[i, 1, c], V[i, 2, c]
            slope = x[w, 0, c] / np.sqrt(one + (a * a + b * b + d * d))
            gV[i, 0, c] += slope * a
            gV[i, 1, c] += slope * b
            gV[i, 2, c] += slope * d
            gS[i, c] = atoms.gs[i, c] + x[w, 1, c]
