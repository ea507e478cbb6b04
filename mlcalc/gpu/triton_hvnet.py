"""Triton kernels of HVNet's messages and neighbor means: per atom, without any (edges, components, channels) array.

A list is symmetric if with every edge it holds the reverse one, with the same filters and weight and the opposite
direction.  What an atom gives to its neighbors' gradients can then be gathered from its own edges, without atomics.
"""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators
# ruff: noqa: PLR0917  # kernels take their arrays by position

from __future__ import annotations

import triton  # type: ignore[import-not-found,unused-ignore]
import triton.language as tl  # type: ignore[import-not-found,unused-ignore]


@triton.jit
def message_sums(
    phi, filters, v, direction, neighbor, rows, ds, dv,
    H: tl.constexpr, C: tl.constexpr, E: tl.constexpr, HAS_V: tl.constexpr,
):  # fmt: skip
    """Sums over the neighbors of b and of a v_j + g u_ij, with [a, b, g] = phi_j times the edge's filters."""
    i, c = tl.program_id(0).to(tl.int64), tl.program_id(1) * C + tl.arange(0, C)
    start, stop = tl.load(rows + i), tl.load(rows + i + 1)
    s = tl.arange(0, 4)
    scalars = tl.zeros((C,), dtype=phi.dtype.element_ty)
    vectors = tl.zeros((4, C), dtype=phi.dtype.element_ty)
    for base in range(start, stop, E):
        e = base + tl.arange(0, E)
        live = e < stop
        mask, held = live[:, None], live[:, None] & (s < 3)[None, :]
        j = tl.load(neighbor + e, mask=live, other=0)
        at, to = e[:, None] * 3 * H + c[None, :], j[:, None] * 3 * H + c[None, :]
        b = tl.load(phi + to + H, mask=mask, other=0.0) * tl.load(filters + at + H, mask=mask, other=0.0)
        g = tl.load(phi + to + 2 * H, mask=mask, other=0.0) * tl.load(filters + at + 2 * H, mask=mask, other=0.0)
        u = tl.load(direction + e[:, None] * 3 + s[None, :], mask=held, other=0.0)
        scalars += tl.sum(b, axis=0)
        part = g[:, None, :] * u[:, :, None]
        if HAS_V:
            a = tl.load(phi + to, mask=mask, other=0.0) * tl.load(filters + at, mask=mask, other=0.0)
            place = j[:, None, None] * 3 * H + s[None, :, None] * H + c[None, None, :]
            part += a[:, None, :] * tl.load(v + place, mask=held[:, :, None], other=0.0)
        vectors += tl.sum(part, axis=0)
    tl.store(ds + i * H + c, scalars)
    tl.store(dv + i * 3 * H + s[:, None] * H + c[None, :], vectors, mask=(s < 3)[:, None])


@triton.jit
def message_sums_backward(
    phi, filters, v, direction, neighbor, rows, d_ds, d_dv, d_phi, d_filters, d_v, d_direction,
    H: tl.constexpr, C: tl.constexpr, E: tl.constexpr, HAS_V: tl.constexpr, SYMMETRIC: tl.constexpr,
):  # fmt: skip
    i, c = tl.program_id(0).to(tl.int64), tl.program_id(1) * C + tl.arange(0, C)
    start, stop = tl.load(rows + i), tl.load(rows + i + 1)
    s = tl.arange(0, 4)
    three = (s < 3)[:, None]
    own = i * 3 * H + s[:, None] * H + c[None, :]
    d_b = tl.load(d_ds + i * H + c)[None, :]
    d_vector = tl.load(d_dv + own, mask=three, other=0.0)[None, :, :]
    from_b = tl.zeros((C,), dtype=phi.dtype.element_ty)
    from_g = tl.zeros((C,), dtype=phi.dtype.element_ty)
    from_v = tl.zeros((4, C), dtype=phi.dtype.element_ty)
    for base in range(start, stop, E):
        e = base + tl.arange(0, E)
        live = e < stop
        mask, held = live[:, None], live[:, None] & (s < 3)[None, :]
        j = tl.load(neighbor + e, mask=live, other=0)
        at, to = e[:, None] * 3 * H + c[None, :], j[:, None] * 3 * H + c[None, :]
        place = j[:, None, None] * 3 * H + s[None, :, None] * H + c[None, None, :]
        phi_b = tl.load(phi + to + H, mask=mask, other=0.0)
        phi_g = tl.load(phi + to + 2 * H, mask=mask, other=0.0)
        filter_b = tl.load(filters + at + H, mask=mask, other=0.0)
        filter_g = tl.load(filters + at + 2 * H, mask=mask, other=0.0)
        u = tl.load(direction + e[:, None] * 3 + s[None, :], mask=held, other=0.0)
        d_g = tl.sum(d_vector * u[:, :, None], axis=1)
        tl.store(d_filters + at + H, d_b * phi_b, mask=mask)
        tl.store(d_filters + at + 2 * H, d_g * phi_g, mask=mask)
        d_u = tl.sum((phi_g * filter_g)[:, None, :] * d_vector, axis=2)
        tl.atomic_add(d_direction + e[:, None] * 3 + s[None, :], d_u, mask=held)  # over the channels' programs
        if SYMMETRIC:
            d_there = tl.load(d_dv + place, mask=held[:, :, None], other=0.0)
            from_b += tl.sum(filter_b * tl.load(d_ds + j[:, None] * H + c[None, :], mask=mask, other=0.0), axis=0)
            from_g -= tl.sum(filter_g * tl.sum(d_there * u[:, :, None], axis=1), axis=0)
        else:
            tl.atomic_add(d_phi + to + H, d_b * filter_b, mask=mask)
            tl.atomic_add(d_phi + to + 2 * H, d_g * filter_g, mask=mask)
        if HAS_V:
            phi_a = tl.load(phi + to, mask=mask, other=0.0)
            filter_a = tl.load(filters + at, mask=mask, other=0.0)
            d_a = tl.sum(d_vector * tl.load(v + place, mask=held[:, :, None], other=0.0), axis=1)
            tl.store(d_filters + at, d_a * phi_a, mask=mask)
            if SYMMETRIC:
                from_v += tl.sum(filter_a[:, None, :] * d_there, axis=0)
            else:
                tl.atomic_add(d_phi + to, d_a * filter_a, mask=mask)
                tl.atomic_add(d_v + place, (phi_a * filter_a)[:, None, :] * d_vector, mask=held[:, :, None])
    if SYMMETRIC:
        tl.store(d_phi + i * 3 * H + H + c, from_b)
        tl.store(d_phi + i * 3 * H + 2 * H + c, from_g)
        if HAS_V:
            tl.store(d_phi + i * 3 * H + c, tl.sum(from_v * tl.load(v + own, mask=three, other=0.0), axis=0))
            tl.store(d_v + own, from_v * tl.load(phi + i * 3 * H + c)[None, :], mask=three)


@triton.jit
def weighted_sum(weight, values, neighbor, rows, sums, H: tl.constexpr, C: tl.constexpr, E: tl.constexpr):
    """sum_j c_ij X_j of one atom and some channels."""
    i, c = tl.program_id(0).to(tl.int64), tl.program_id(1) * C + tl.arange(0, C)
    start, stop = tl.load(rows + i), tl.load(rows + i + 1)
    total = tl.zeros((C,), dtype=values.dtype.element_ty)
    for base in range(start, stop, E):
        e = base + tl.arange(0, E)
        live = e < stop
        j = tl.load(neighbor + e, mask=live, other=0)
        w = tl.load(weight + e, mask=live, other=0.0)
        total += tl.sum(
            w[:, None] * tl.load(values + j[:, None] * H + c[None, :], mask=live[:, None], other=0.0), axis=0
        )
    tl.store(sums + i * H + c, total)


@triton.jit
def weighted_sum_backward(
    weight, values, neighbor, rows, d_sums, d_weight, d_values,
    H: tl.constexpr, C: tl.constexpr, E: tl.constexpr, SYMMETRIC: tl.constexpr,
):  # fmt: skip
    """Gradients of the weights, and of the values unless the list is symmetric: then `weighted_sum` gives these."""
    i = tl.program_id(0).to(tl.int64)
    start, stop = tl.load(rows + i), tl.load(rows + i + 1)
    for base in range(start, stop, E):
        e = base + tl.arange(0, E)
        live = e < stop
        mask = live[:, None]
        j = tl.load(neighbor + e, mask=live, other=0)[:, None]
        w = tl.load(weight + e, mask=live, other=0.0)
        product = tl.zeros_like(w)
        for first in range(0, H, C):
            c = first + tl.arange(0, C)
            d_sum = tl.load(d_sums + i * H + c)[None, :]
            there = tl.load(values + j * H + c[None, :], mask=mask, other=0.0)
            product += tl.sum(there * d_sum, axis=1)
            if not SYMMETRIC:
                tl.atomic_add(d_values + j * H + c[None, :], w[:, None] * d_sum, mask=mask)
        tl.store(d_weight + e, product, mask=live)
