"""From a Graph to the edges of HVNet's kernels, and from derivatives by them to forces and virials."""

from __future__ import annotations

import math

import numpy as np

from mlcalc.kernels.compile import kernel

_WITHIN = 1 - 1e-12  # of the cutoff: lists may disagree about edges beyond, whose envelope is nothing
_MIX = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F), np.uint64(0xFF51AFD7ED558CCD))
_SHIFT = np.uint64(32)


@kernel
def number_edges(edges, first):  # type: ignore[no-untyped-def]
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
def describe(settings, given, near, results, share, block, start):  # type: ignore[no-untyped-def]
    """Fills the edges of a block of atoms from number `start` on, and gives the number to go on with.

    Adds a mark of each edge to results.mirrored that its mirror image has with the opposite sign.
    """
    own = given.blocks[given.first_block[share], 0], given.blocks[given.first_block[share + 1] - 1, 1]
    for place in range(given.blocks[block, 0], given.blocks[block, 1]):
        i = given.order[place]
        total, end = 1.0, start
        for e in range(given.first[i], given.first[i + 1]):
            x, y, z = _vector(given, e)
            r = np.sqrt(x * x + y * y + z * z)
            total += _envelope(r / settings.cutoff, settings.exponent)[0]
            if r < settings.cutoff * _WITHIN:
                along = 0.8414709848 * x + 0.9092974268 * y + 0.1411200081 * z
                j = given.edges[1, e]
                results.mirrored[share] += _mark(i, j, along) - _mark(j, i, -along)
        near.norm[place] = 1 / total
        near.parts[place, 0] = start
        for part in range(settings.elements + 1):
            for e in range(given.first[i], given.first[i + 1]):
                if _part(settings, given, own, place, e) == part:
                    _fill(settings, given, near, e, end)
                    end += 1
            if part == 0:
                near.pairs[place] = end
            else:
                near.parts[place, part] = end
        start += given.first[i + 1] - given.first[i]
    return start


@kernel
def _part(settings, given, own, place, e):  # type: ignore[no-untyped-def]
    """0 for a pair, 1 + steps from the atom's element to the neighbor's for an edge for itself, -1 for neither."""
    other = given.place[given.edges[1, e]]
    steps = (given.element[other] - given.element[place] + settings.elements) % settings.elements
    if steps > 0 or other == place or other < own[0] or other >= own[1]:
        return 1 + steps
    return 0 if other > place else -1


@kernel
def _vector(given, e):  # type: ignore[no-untyped-def]
    i, j = given.edges[0, e], given.edges[1, e]
    s, a, b, c = given.batch[i], given.shifts[e, 0], given.shifts[e, 1], given.shifts[e, 2]
    x, cell = given.positions, given.cell
    return (
        x[j, 0] - x[i, 0] + (a * cell[s, 0, 0] + b * cell[s, 1, 0] + c * cell[s, 2, 0]),
        x[j, 1] - x[i, 1] + (a * cell[s, 0, 1] + b * cell[s, 1, 1] + c * cell[s, 2, 1]),
        x[j, 2] - x[i, 2] + (a * cell[s, 0, 2] + b * cell[s, 1, 2] + c * cell[s, 2, 2]),
    )


@kernel
def _mark(i, j, along):  # type: ignore[no-untyped-def]
    mark = np.uint64(i) * _MIX[0] + np.uint64(j) * _MIX[1] + np.float64(along).view(np.uint64)
    mark = (mark ^ (mark >> _SHIFT)) * _MIX[2]
    return mark ^ (mark >> _SHIFT)


@kernel
def _envelope(x, exponent):  # type: ignore[no-untyped-def]
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
def _fill(settings, given, near, e, slot):  # type: ignore[no-untyped-def]
    x, y, z = _vector(given, e)
    r = np.sqrt(x * x + y * y + z * z)
    c, slope = _envelope(r / settings.cutoff, settings.exponent)
    slope /= settings.cutoff
    near.neighbor[slot] = given.place[given.edges[1, e]]
    near.distance[slot] = r
    near.direction[slot, 0], near.direction[slot, 1], near.direction[slot, 2] = x / r, y / r, z / r
    near.envelope[slot, 0], near.envelope[slot, 1] = c, slope
    last = near.basis.shape[2] - 1
    near.basis[slot, 0, last], near.basis[slot, 1, last] = c, slope
    wave, factor = math.pi / settings.cutoff, math.sqrt(2 / settings.cutoff) / r
    sine, cosine = np.sin(wave * r), np.cos(wave * r)
    s, t = sine, cosine  # of n times the angle, by the addition theorems
    for n in range(last):
        value, derivative = factor * s, factor * ((n + 1) * wave * t - s / r)
        near.basis[slot, 0, n] = c * value
        near.basis[slot, 1, n] = slope * value + c * derivative
        s, t = s * cosine + t * sine, t * cosine - s * sine
    for k in range(4):
        near.gradient[slot, k] = 0


@kernel
def spread(settings, given, near, results, share, block, stress):  # type: ignore[no-untyped-def]
    """Forces and virial from the derivatives by the edges of a block of atoms."""
    for place in range(given.blocks[block, 0], given.blocks[block, 1]):
        i = given.order[place]
        s = given.batch[i]
        for e in range(near.parts[place, 0], near.parts[place, settings.elements]):
            j, r = given.order[near.neighbor[e]], np.float64(near.distance[e])
            x, y, z = np.float64(near.direction[e, 0]), np.float64(near.direction[e, 1]), np.float64(near.direction[e, 2])
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
