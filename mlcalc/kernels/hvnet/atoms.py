"""What happens to single atoms of HVNet: embedding, networks of phi and t, readout, and the way back."""

# A block is (first place, place after the last, element).

from __future__ import annotations

from mlcalc.kernels.blas import multiply
from mlcalc.kernels.compile import kernel
from mlcalc.kernels.hvnet.geometry import describe
from mlcalc.kernels.hvnet.rows import activate, activate_back, copy_rows, project, smooth_norm


@kernel
def embed(settings, weights, atoms, block):
    for i in range(block[0], block[1]):
        for c in range(settings.channels):
            atoms.s[0, i, c] = weights.embed[block[2], c]


@kernel
def prepare_messages(settings, weights, atoms, rooms, share, layer, block):
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
def prepare_messages_back(settings, weights, atoms, rooms, share, layer, block):
    """Adds to the derivatives by s, which start as those by S."""
    first, last, slot = block[0], block[1], layer % settings.kept
    g_s, f = atoms.g_s[first:last], rooms.f[share, : last - first]
    copy_rows(atoms.G_S[layer % 2], first, last, atoms.g_s)
    for k in range(settings.elements):
        g_phi = atoms.g_phi[k, first:last].reshape(last - first, -1)
        multiply(g_phi, weights.message2_back[layer, k], f, 0)
        activate_back(settings.painn, atoms.h[slot, k, first:last], f)
        multiply(f, weights.message1_back[layer, k], g_s, 1)


@kernel
def norms_beside(first, last, vectors, half, S, x):
    """x (n, 2, F) = [norms of one half of the vectors (N, 3, 1 or 2, F), S] of these atoms."""
    for i in range(first, last):
        w = i - first
        for c in range(S.shape[1]):
            a, b, d = vectors[i, 0, half, c], vectors[i, 1, half, c], vectors[i, 2, half, c]
            x[w, 0, c] = smooth_norm(a * a + b * b + d * d)
            x[w, 1, c] = S[i, c]


@kernel
def update_network(settings, weights, atoms, rooms, share, layer, block, q, k):
    """t of sub-network k, kept at index q, from the rows in rooms.x."""
    first, last, slot = block[0], block[1], layer % settings.kept
    x, f = rooms.x[share, : last - first].reshape(last - first, -1), rooms.f[share, : last - first]
    h, t = atoms.h2[slot, q, first:last], atoms.t[slot, q, first:last].reshape(last - first, -1)
    project(x, weights.update1[layer, k], weights.update1_bias[layer, k], h)
    activate(settings.painn, h, f)
    project(f, weights.update2[layer, k], weights.update2_bias[layer, k], t)


@kernel
def read_out(settings, weights, given, atoms, rooms, results, share, block):
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
        multiply(f, weights.readout1_back, atoms.g_s[first:last], 0)
        atoms.g_v[first:last] = 0


@kernel
def begin(settings, weights, given, near, atoms, rooms, results, share):
    """Edges, embedding and the first phi of one share of the atoms."""
    first, last = given.first_block[share], given.first_block[share + 1]
    start, layer = first - first, share - share  # not 0: a constant's type would compile callees once more
    for place in range(given.blocks[first, 0]):
        start += given.first[given.order[place] + 1] - given.first[given.order[place]]
    for b in range(first, last):
        start = describe(settings, given, near, results, share, b, start)
        embed(settings, weights, atoms, given.blocks[b])
        prepare_messages(settings, weights, atoms, rooms, share, layer, given.blocks[b])
