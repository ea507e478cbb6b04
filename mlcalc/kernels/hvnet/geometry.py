"""From a Graph to the edges of HVNet's kernels, and from derivatives by them to forces and virials."""

from __future__ import annotations

import math

import numba
import numpy as np

from mlcalc.kernels.compile import kernel

_WITHIN = 1 - 1e-12  # of the cutoff: lists may disagree about edges beyond, whose envelope is nothing
_MIX = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F), np.uint64(0xFF51AFD7ED558CCD))
_SHIFT = np.uint64(32)
# Reordered sums could put one of two mirror images within the cutoff, the other not.
_as_written = numba.njit(nogil=True, error_model="numpy")


@kernel
def number_edges(edges, first):
    """Fills the first edge of each atom, (N + 1,); False where edges (2, E) are not sorted by center."""
    first[:] = 0
    for e in range(edges.shape[1]):
        if e > 0 and edges[0, e] < edges[0, e - 1]:
            return False
        first[edges[0, e] + 1] += 1
    for i in range(len(first) - 1):
        first[i + 1] += first[i]
    return True


@kernel
def describe(settings, given, near, results, share, block, start):
    """Fills the edges of a block of atoms from number `start` on, and gives the number to go on with.

    Adds a mark of each edge to results.mirrored that its mirror image has with the opposite sign.
    """
    own = given.blocks[given.first_block[share], 0], given.blocks[given.first_block[share + 1] - 1, 1]
    cutoff, exponent, elements, parts = settings.cutoff, settings.exponent, settings.elements, near.parts
    positions, cell, batch, shifts, edges = given.positions, given.cell, given.batch, given.shifts, given.edges
    for at in range(given.blocks[block, 0], given.blocks[block, 1]):
        i = given.order[at]
        first, last = given.first[i], given.first[i + 1]
        total, marks = _survey(first, last, edges, shifts, positions, cell[batch[i]], cutoff, exponent)
        near.norm[at] = 1 / total
        results.mirrored[share] += marks
        parts[at, 0] = start
        near.pairs[at] = _fill(
            start, at, first, last, own, elements, edges, shifts, positions, cell[batch[i]], given.place, given.element,
            cutoff, exponent, parts[at], near.neighbor, near.basis, near.direction, near.distance, near.envelope,
            near.gradient,
        )  # fmt: skip
        start += last - first
    return start


@_as_written
def _component(x_i, x_j, a, b, c, cell_a, cell_b, cell_c):
    """Of r_ij; that of the mirror image is the same to the last digit, but for the sign."""
    return (x_j - x_i) + ((a * cell_a + b * cell_b) + c * cell_c)


@kernel
def _survey(first, last, edges, shifts, positions, h, cutoff, exponent):
    """1 + sum_j c_ij and the sum of the marks of all edges of an atom."""
    total, marks = 1.0, np.uint64(0)
    for e in range(first, last):
        i, j, a, b, c = edges[0, e], edges[1, e], shifts[e, 0], shifts[e, 1], shifts[e, 2]
        x = _component(positions[i, 0], positions[j, 0], a, b, c, h[0, 0], h[1, 0], h[2, 0])
        y = _component(positions[i, 1], positions[j, 1], a, b, c, h[0, 1], h[1, 1], h[2, 1])
        z = _component(positions[i, 2], positions[j, 2], a, b, c, h[0, 2], h[1, 2], h[2, 2])
        r = np.sqrt(x * x + y * y + z * z)
        total += _envelope(r / cutoff, exponent)[0]
        if r < cutoff * _WITHIN:
            u, v, w = np.int64(a), np.int64(b), np.int64(c)
            marks += _mark(i, j, u, v, w) - _mark(j, i, -u, -v, -w)
    return total, marks


@kernel
def _fill(
    slot, at, first, last, own, elements, edges, shifts, positions, h, place, element, cutoff, exponent, parts,
    neighbor, basis, direction, distance, envelope, gradient,
):  # fmt: skip
    """Fills the edges of one atom and the ends of their parts; the end of the pairs is returned."""
    pairs, N = slot, basis.shape[2] - 1
    wave, factor = math.pi / cutoff, math.sqrt(2 / cutoff)
    for part in range(elements + 1):
        for e in range(first, last):
            i, j = edges[0, e], edges[1, e]
            steps = (element[place[j]] - element[at] + elements) % elements
            if _part(steps, at, place[j], own) != part:
                continue
            a, b, c = shifts[e, 0], shifts[e, 1], shifts[e, 2]
            x = _component(positions[i, 0], positions[j, 0], a, b, c, h[0, 0], h[1, 0], h[2, 0])
            y = _component(positions[i, 1], positions[j, 1], a, b, c, h[0, 1], h[1, 1], h[2, 1])
            z = _component(positions[i, 2], positions[j, 2], a, b, c, h[0, 2], h[1, 2], h[2, 2])
            r = np.sqrt(x * x + y * y + z * z)
            value, slope = _envelope(r / cutoff, exponent)
            slope /= cutoff
            neighbor[slot], distance[slot] = place[j], r
            direction[slot, 0], direction[slot, 1], direction[slot, 2] = x / r, y / r, z / r
            envelope[slot, 0], envelope[slot, 1] = value, slope
            basis[slot, 0, N], basis[slot, 1, N] = value, slope
            sine, cosine = np.sin(wave * r), np.cos(wave * r)
            s, t = sine * factor / r, cosine * factor / r  # of n times the angle, by the addition theorems
            for n in range(N):
                basis[slot, 0, n] = value * s
                basis[slot, 1, n] = slope * s + value * ((n + 1) * wave * t - s / r)
                s, t = s * cosine + t * sine, t * cosine - s * sine
            for k in range(4):
                gradient[slot, k] = 0
            slot += 1
        if part == 0:
            pairs = slot
        else:
            parts[part] = slot
    return pairs


@kernel
def _part(steps, at, other, own):
    """0 for a pair, 1 + steps from the atom's element to the neighbor's for an edge for itself, -1 for neither."""
    if steps > 0 or other == at or other < own[0] or other >= own[1]:
        return 1 + steps
    return 0 if other > at else -1


@kernel
def _mark(i, j, a, b, c):
    """A number that hardly any other edge has."""
    mark = np.uint64(i) * _MIX[0] + np.uint64(j) * _MIX[1] + np.uint64(a + 512 * b + 512 * 512 * c) * _MIX[2]
    mark = (mark ^ (mark >> _SHIFT)) * _MIX[2]
    return (mark ^ (mark >> _SHIFT)) * _MIX[0]


@kernel
def _envelope(x, exponent):
    """polynomial_envelope and its derivative by x = r / rc; NaN for NaN."""
    rest = 0.0 if x > 1 else 1 - x
    series, power = 0.0, 1.0
    for k in range(exponent - 1, -1, -1):
        series = series * x + (k + 1) * (k + 2) / 2
    for _ in range(exponent - 1):
        power *= x
    slope = -exponent * (exponent + 1) * (exponent + 2) / 2 * power * rest * rest
    return rest * rest * rest * series, slope


@kernel
def spread(settings, given, near, results, share, block, stress):
    """Forces and virial from the derivatives by the edges of a block of atoms."""
    for place in range(given.blocks[block, 0], given.blocks[block, 1]):
        i = given.order[place]
        s = given.batch[i]
        for e in range(near.parts[place, 0], near.parts[place, settings.elements]):
            j, r = given.order[near.neighbor[e]], np.float64(near.distance[e])
            x, y, z = (
                np.float64(near.direction[e, 0]),
                np.float64(near.direction[e, 1]),
                np.float64(near.direction[e, 2]),
            )
            gx, gy, gz = near.gradient[e, 1] / r, near.gradient[e, 2] / r, near.gradient[e, 3] / r
            along = near.gradient[e, 0] - (gx * x + gy * y + gz * z)
            g, d = (gx + along * x, gy + along * y, gz + along * z), (r * x, r * y, r * z)
            for a in range(3):
                results.forces[share, i, a] += g[a]
                results.forces[share, j, a] -= g[a]
            if stress:
                for a in range(3):
                    for b in range(3):
                        results.virial[share, s, a, b] += d[a] * g[b]
