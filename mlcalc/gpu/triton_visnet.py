"""Triton kernels of ViSNet's message passing: per atom, without any (edges, components, channels) array.

Real edges come first, sorted by center; the self loop of atom i is edge `loops` + i.
"""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators
# ruff: noqa: PLR0917  # kernels take their arrays by position

from __future__ import annotations

import triton  # type: ignore[import-not-found,unused-ignore]
import triton.language as tl  # type: ignore[import-not-found,unused-ignore]

from mlcalc.gpu.triton_rows import edge_index, silu, silu_slope


@triton.jit
def attend(
    qkv, pre, envelope, neighbor, rows, message, sums, loops,
    H: tl.constexpr, D: tl.constexpr, E: tl.constexpr,
):  # fmt: skip
    """m_ij = silu(<q_i, k_j dk_ij>) C_ij v_j dv_ij of one atom and head, and its sum over j."""
    i, c = tl.program_id(0).to(tl.int64), tl.program_id(1) * D + tl.arange(0, D)
    start = tl.load(rows + i)
    degree = tl.load(rows + i + 1) - start
    q = tl.load(qkv + i * 3 * H + c)
    total = tl.zeros_like(q)
    for base in range(0, degree + 1, E):
        t = base + tl.arange(0, E)
        live = t <= degree
        e = edge_index(t, start, degree, loops + i)
        j = tl.load(neighbor + e, mask=live, other=0)[:, None]
        mask, e2 = live[:, None], e[:, None]
        k = tl.load(qkv + j * 3 * H + H + c[None, :], mask=mask, other=0.0)
        v = tl.load(qkv + j * 3 * H + 2 * H + c[None, :], mask=mask, other=0.0)
        dk = silu(tl.load(pre + e2 * 2 * H + c[None, :], mask=mask, other=0.0))
        dv = silu(tl.load(pre + e2 * 2 * H + H + c[None, :], mask=mask, other=0.0))
        weight = silu(tl.sum(q[None, :] * k * dk, axis=1)) * tl.load(envelope + e, mask=live, other=0.0)
        m = v * dv * weight[:, None]
        tl.store(message + e2 * H + c[None, :], m, mask=mask)
        total += tl.sum(m, axis=0)
    tl.store(sums + i * H + c, total)


@triton.jit
def attend_backward(
    qkv, pre, envelope, neighbor, rows, d_message, d_sums, d_qkv, d_pre, d_envelope, loops,
    H: tl.constexpr, D: tl.constexpr, E: tl.constexpr,
):  # fmt: skip
    i, c = tl.program_id(0).to(tl.int64), tl.program_id(1) * D + tl.arange(0, D)
    start = tl.load(rows + i)
    degree = tl.load(rows + i + 1) - start
    q = tl.load(qkv + i * 3 * H + c)
    d_sum = tl.load(d_sums + i * H + c)
    d_q = tl.zeros_like(q)
    for base in range(0, degree + 1, E):
        t = base + tl.arange(0, E)
        live = t <= degree
        e = edge_index(t, start, degree, loops + i)
        j = tl.load(neighbor + e, mask=live, other=0)[:, None]
        mask, e2 = live[:, None], e[:, None]
        k = tl.load(qkv + j * 3 * H + H + c[None, :], mask=mask, other=0.0)
        v = tl.load(qkv + j * 3 * H + 2 * H + c[None, :], mask=mask, other=0.0)
        pre_k = tl.load(pre + e2 * 2 * H + c[None, :], mask=mask, other=0.0)
        pre_v = tl.load(pre + e2 * 2 * H + H + c[None, :], mask=mask, other=0.0)
        dk, dv = silu(pre_k), silu(pre_v)
        logit = tl.sum(q[None, :] * k * dk, axis=1)
        cut = tl.load(envelope + e, mask=live, other=0.0)
        weight = silu(logit) * cut
        d_m = tl.load(d_message + e2 * H + c[None, :], mask=mask, other=0.0) + d_sum[None, :]
        d_weight = tl.sum(d_m * v * dv, axis=1)
        d_logit = (d_weight * cut * silu_slope(logit))[:, None]
        tl.atomic_add(d_envelope + e, d_weight * silu(logit), mask=live)  # over the heads
        d_q += tl.sum(d_logit * k * dk, axis=0)
        tl.atomic_add(d_qkv + j * 3 * H + H + c[None, :], d_logit * q[None, :] * dk, mask=mask)
        tl.atomic_add(d_qkv + j * 3 * H + 2 * H + c[None, :], d_m * dv * weight[:, None], mask=mask)
        tl.store(d_pre + e2 * 2 * H + c[None, :], d_logit * q[None, :] * k * silu_slope(pre_k), mask=mask)
        tl.store(d_pre + e2 * 2 * H + H + c[None, :], d_m * v * weight[:, None] * silu_slope(pre_v), mask=mask)
    tl.store(d_qkv + i * 3 * H + c, d_q)


@triton.jit
def vector_sums(
    gates, vec, envelope, harmonics, neighbor, rows, sums, loops,
    H: tl.constexpr, S: tl.constexpr, SP: tl.constexpr, C: tl.constexpr, E: tl.constexpr,
    HAS_VEC: tl.constexpr, SMOOTH: tl.constexpr,
):  # fmt: skip
    """sum_j vec_j s1_ij + d_ij s2_ij of one atom and some channels; the gates come before their activation."""
    i, c = tl.program_id(0).to(tl.int64), tl.program_id(1) * C + tl.arange(0, C)
    W: tl.constexpr = 2 * H if HAS_VEC else H
    start = tl.load(rows + i)
    degree = tl.load(rows + i + 1) - start
    s = tl.arange(0, SP)
    total = tl.zeros((SP, C), dtype=gates.dtype.element_ty)
    for base in range(0, degree + 1, E):
        t = base + tl.arange(0, E)
        live = t <= degree
        e = edge_index(t, start, degree, loops + i)
        mask, e2, held = live[:, None], e[:, None], live[:, None] & (s < S)[None, :]
        d = tl.load(harmonics + e2 * S + s[None, :], mask=held, other=0.0)
        last = silu(tl.load(gates + e2 * W + (W - H) + c[None, :], mask=mask, other=0.0))
        if SMOOTH:
            cut = tl.load(envelope + e, mask=live, other=0.0)[:, None]
            last = last * cut
        part = d[:, :, None] * last[:, None, :]
        if HAS_VEC:
            first = silu(tl.load(gates + e2 * W + c[None, :], mask=mask, other=0.0))
            if SMOOTH:
                first = first * cut
            j = tl.load(neighbor + e, mask=live, other=0)
            place = j[:, None, None] * S * H + s[None, :, None] * H + c[None, None, :]
            part += tl.load(vec + place, mask=held[:, :, None], other=0.0) * first[:, None, :]
        total += tl.sum(part, axis=0)
    tl.store(sums + i * S * H + s[:, None] * H + c[None, :], total, mask=(s < S)[:, None])


@triton.jit
def vector_sums_backward(
    gates, vec, envelope, harmonics, neighbor, rows, d_sums, d_gates, d_vec, d_envelope, d_harmonics, loops,
    H: tl.constexpr, S: tl.constexpr, SP: tl.constexpr, C: tl.constexpr, E: tl.constexpr,
    HAS_VEC: tl.constexpr, SMOOTH: tl.constexpr,
):  # fmt: skip
    i, c = tl.program_id(0).to(tl.int64), tl.program_id(1) * C + tl.arange(0, C)
    W: tl.constexpr = 2 * H if HAS_VEC else H
    start = tl.load(rows + i)
    degree = tl.load(rows + i + 1) - start
    s = tl.arange(0, SP)
    d_sum = tl.load(d_sums + i * S * H + s[:, None] * H + c[None, :], mask=(s < S)[:, None], other=0.0)[None, :, :]
    for base in range(0, degree + 1, E):
        t = base + tl.arange(0, E)
        live = t <= degree
        e = edge_index(t, start, degree, loops + i)
        mask, e2, held = live[:, None], e[:, None], live[:, None] & (s < S)[None, :]
        d = tl.load(harmonics + e2 * S + s[None, :], mask=held, other=0.0)
        gate2 = tl.load(gates + e2 * W + (W - H) + c[None, :], mask=mask, other=0.0)
        s2, d_s2 = silu(gate2), tl.sum(d[:, :, None] * d_sum, axis=1)
        cut = tl.load(envelope + e, mask=live, other=0.0)[:, None]
        d_cut = tl.sum(d_s2 * s2, axis=1)
        if SMOOTH:
            s2, d_s2 = s2 * cut, d_s2 * cut
        tl.store(d_gates + e2 * W + (W - H) + c[None, :], d_s2 * silu_slope(gate2), mask=mask)
        tl.atomic_add(d_harmonics + e2 * S + s[None, :], tl.sum(s2[:, None, :] * d_sum, axis=2), mask=held)
        if HAS_VEC:
            gate1 = tl.load(gates + e2 * W + c[None, :], mask=mask, other=0.0)
            j = tl.load(neighbor + e, mask=live, other=0)
            place = j[:, None, None] * S * H + s[None, :, None] * H + c[None, None, :]
            there = tl.load(vec + place, mask=held[:, :, None], other=0.0)
            s1, d_s1 = silu(gate1), tl.sum(there * d_sum, axis=1)
            d_cut += tl.sum(d_s1 * s1, axis=1)
            if SMOOTH:
                s1, d_s1 = s1 * cut, d_s1 * cut
            tl.store(d_gates + e2 * W + c[None, :], d_s1 * silu_slope(gate1), mask=mask)
            tl.atomic_add(d_vec + place, s1[:, None, :] * d_sum, mask=held[:, :, None])
        if SMOOTH:
            tl.atomic_add(d_envelope + e, d_cut, mask=live)  # over the channels' programs


@triton.jit
def edge_update(
    f, pre, projected, harmonics, neighbor, rows, updated, loops,
    H: tl.constexpr, S: tl.constexpr, SP: tl.constexpr, C: tl.constexpr, E: tl.constexpr, REJECT: tl.constexpr,
):  # fmt: skip
    """f_ij + silu(pre_ij) w_ij with w_ij = <p_i, q_j> - <p_i, d_ij><q_j, d_ij>, the second term for lmax 1 only.

    `projected` (N, S, 2H) holds p, then q.
    """
    i, c = tl.program_id(0).to(tl.int64), tl.program_id(1) * C + tl.arange(0, C)
    start = tl.load(rows + i)
    degree = tl.load(rows + i + 1) - start
    s = tl.arange(0, SP)
    own = i * 2 * S * H + s[:, None] * 2 * H + c[None, :]
    p = tl.load(projected + own, mask=(s < S)[:, None], other=0.0)[None, :, :]
    for base in range(0, degree + 1, E):
        t = base + tl.arange(0, E)
        live = t <= degree
        e = edge_index(t, start, degree, loops + i)
        mask, e2, held = live[:, None], e[:, None], live[:, None] & (s < S)[None, :]
        j = tl.load(neighbor + e, mask=live, other=0)
        place = j[:, None, None] * 2 * S * H + s[None, :, None] * 2 * H + H + c[None, None, :]
        q = tl.load(projected + place, mask=held[:, :, None], other=0.0)
        w = tl.sum(p * q, axis=1)
        if REJECT:
            d = tl.load(harmonics + e2 * S + s[None, :], mask=held, other=0.0)[:, :, None]
            w -= tl.sum(p * d, axis=1) * tl.sum(q * d, axis=1)
        old = tl.load(f + e2 * H + c[None, :], mask=mask, other=0.0)
        gate = silu(tl.load(pre + e2 * H + c[None, :], mask=mask, other=0.0))
        tl.store(updated + e2 * H + c[None, :], old + gate * w, mask=mask)


@triton.jit
def edge_update_backward(
    pre, projected, harmonics, neighbor, rows, d_updated, d_pre, d_projected, d_harmonics, loops,
    H: tl.constexpr, S: tl.constexpr, SP: tl.constexpr, C: tl.constexpr, E: tl.constexpr, REJECT: tl.constexpr,
):  # fmt: skip
    i, c = tl.program_id(0).to(tl.int64), tl.program_id(1) * C + tl.arange(0, C)
    start = tl.load(rows + i)
    degree = tl.load(rows + i + 1) - start
    s = tl.arange(0, SP)
    own = i * 2 * S * H + s[:, None] * 2 * H + c[None, :]
    p = tl.load(projected + own, mask=(s < S)[:, None], other=0.0)[None, :, :]
    d_p = tl.zeros((SP, C), dtype=pre.dtype.element_ty)
    for base in range(0, degree + 1, E):
        t = base + tl.arange(0, E)
        live = t <= degree
        e = edge_index(t, start, degree, loops + i)
        mask, e2, held = live[:, None], e[:, None], live[:, None] & (s < S)[None, :]
        j = tl.load(neighbor + e, mask=live, other=0)
        place = j[:, None, None] * 2 * S * H + s[None, :, None] * 2 * H + H + c[None, None, :]
        q = tl.load(projected + place, mask=held[:, :, None], other=0.0)
        gate = tl.load(pre + e2 * H + c[None, :], mask=mask, other=0.0)
        d_f = tl.load(d_updated + e2 * H + c[None, :], mask=mask, other=0.0)
        d_w = (d_f * silu(gate))[:, None, :]
        w, by_p, by_q = tl.sum(p * q, axis=1), q, p + tl.zeros_like(q)
        if REJECT:
            d = tl.load(harmonics + e2 * S + s[None, :], mask=held, other=0.0)[:, :, None]
            pd, qd = tl.sum(p * d, axis=1), tl.sum(q * d, axis=1)
            w -= pd * qd
            by_p -= d * qd[:, None, :]
            by_q -= d * pd[:, None, :]
            d_d = tl.sum(-d_w * (p * qd[:, None, :] + q * pd[:, None, :]), axis=2)
            tl.atomic_add(d_harmonics + e2 * S + s[None, :], d_d, mask=held)
        tl.store(d_pre + e2 * H + c[None, :], d_f * w * silu_slope(gate), mask=mask)
        d_p += tl.sum(d_w * by_p, axis=0)
        tl.atomic_add(d_projected + place, d_w * by_q, mask=held[:, :, None])
    tl.store(d_projected + own, d_p, mask=(s < S)[:, None])
