"""Means over HVNet's neighbors as matrix products, for so few atoms that most of them are neighbors."""

# Where a tenth of all pairs of atoms are neighbors, products with a full matrix take less time than sums over edges,
# which go through memory and not through arithmetic.

from __future__ import annotations

from mlcalc.kernels.blas import multiply, multiply_transposed
from mlcalc.kernels.compile import kernel
from mlcalc.kernels.hvnet.rows import copy_vectors


@kernel
def fill_matrix(settings, near, matrix):
    """matrix (N, N): the sums of the envelopes of each atom (row) over the images of each other, and one for itself."""
    for i in range(len(matrix)):
        for j in range(len(matrix)):
            matrix[i, j] = 0
    for i in range(len(matrix)):
        matrix[i, i] += 1
        for e in range(near.parts[i, 0], near.parts[i, settings.elements]):
            j = near.neighbor[e]
            matrix[i, j] += near.envelope[e, 0]
            if e < near.pairs[i]:
                matrix[j, i] += near.envelope[e, 0]


@kernel
def mean_values(settings, near, atoms, matrix, layer, block):
    """The means of V and t of a block of atoms."""
    slot, first, last, F, n = layer % settings.states, block[0], block[1], settings.channels, len(matrix)
    V, t = atoms.V[slot, :n].reshape(n, -1), atoms.t[layer % settings.kept, block[2], :n].reshape(n, -1)
    mean = atoms.mean[slot].reshape(-1, 6 * F)
    multiply(matrix[first:last], V, mean[first:last, : 3 * F], 0)
    multiply(matrix[first:last], t, mean[first:last, 3 * F :], 0)
    for i in range(first, last):
        norm = near.norm[i]
        for c in range(6 * F):
            mean[i, c] *= norm


@kernel
def mean_values_back(settings, atoms, matrix, layer, blocks):
    """Derivatives by V and t of all atoms from those by the sums."""
    F, n = settings.channels, len(matrix)
    g_mean, G_V = atoms.g_mean.reshape(-1, 6 * F), atoms.G_V[layer % 2, :n].reshape(n, -1)
    copy_vectors(atoms.g_v, 0, n, atoms.G_V[layer % 2])
    atoms.g_t[:, :n] = 0
    for b in range(len(blocks)):
        first, last = blocks[b, 0], blocks[b, 1]
        g_t = atoms.g_t[blocks[b, 2], :n].reshape(n, -1)
        multiply_transposed(matrix[first:last], g_mean[first:last, : 3 * F], G_V, 1)
        multiply_transposed(matrix[first:last], g_mean[first:last, 3 * F :], g_t, 1)
