"""Inner loops of ViSNet's edges: one edge, all channels (F), S components of vectors."""

# Rows are slices of larger arrays.  Every loop over channels touches few arrays: compilers vectorize it only if no more
# than eight comparisons are needed to see that what it writes overlaps with nothing else.

from __future__ import annotations

from mlcalc.kernels.blas import multiply
from mlcalc.kernels.compile import kernel
from mlcalc.kernels.elementwise import sigmoid


@kernel
def silu(x, y):
    """y = silu(x), for whole arrays."""
    plain, result = x.reshape(x.size), y.reshape(y.size)
    for c in range(plain.shape[0]):
        result[c] = plain[c] * sigmoid(plain[c])


@kernel
def silu_slopes(x, y, slope):
    """y = silu(x) and its derivative, for whole arrays."""
    one = x.dtype.type(1)
    plain, result, derivative = x.reshape(x.size), y.reshape(y.size), slope.reshape(slope.size)
    for c in range(plain.shape[0]):
        s = sigmoid(plain[c])
        t = plain[c] * s
        result[c] = t
        derivative[c] = s + t * (one - s)


@kernel
def weigh_rows(x, y, z, factor, out):
    for c in range(out.shape[0]):
        out[c] = x[c] * y[c] * z[c] * factor


@kernel
def multiply_rows(x, y, z, out):
    for c in range(out.shape[0]):
        out[c] = x[c] * y[c] * z[c]


@kernel
def add_row(x, out):
    for c in range(out.shape[0]):
        out[c] += x[c]


@kernel
def add_directions(direction, gate, V):
    """V_s += d_s s2."""
    for s in range(V.shape[0]):
        d = direction[s]
        for c in range(V.shape[1]):
            V[s, c] += d * gate[c]


@kernel
def add_vectors(vec, gate, direction, direction_gate, V):
    """V_s += vec_s s1 + d_s s2."""
    for s in range(V.shape[0]):
        d = direction[s]
        for c in range(V.shape[1]):
            V[s, c] += vec[s, c] * gate[c] + d * direction_gate[c]


@kernel
def add_directions_back(gV, direction, gate, g_gate, g_direction):
    for s in range(gV.shape[0]):
        d, total = direction[s], gV.dtype.type(0)
        for c in range(gV.shape[1]):
            g_gate[c] += gV[s, c] * d
            total += gV[s, c] * gate[c]
        g_direction[s] += total


@kernel
def add_vectors_back(gV, vec, gate, direction, direction_gate, g_gate, g_direction_gate, g_vec, g_direction):
    for s in range(gV.shape[0]):
        d, total, g, x, gx = direction[s], gV.dtype.type(0), gV[s], vec[s], g_vec[s]
        for c in range(g.shape[0]):
            g_gate[c] += g[c] * x[c]
            gx[c] += g[c] * gate[c]
        for c in range(g.shape[0]):
            g_direction_gate[c] += g[c] * d
            total += g[c] * direction_gate[c]
        g_direction[s] += total


@kernel
def inner_products(pq, qs, w):
    """w = sum_s p_s q_s, p being the first half of the channels of pq, q the second half of those of qs."""
    channels = w.shape[0]
    for c in range(channels):
        w[c] = 0
    for s in range(pq.shape[0]):
        p, q = pq[s, :channels], qs[s, channels:]
        for c in range(channels):
            w[c] += p[c] * q[c]


@kernel
def components_along(x, first, direction, out):
    """out = sum_s d_s x_s of the F channels from `first` on."""
    channels = out.shape[0]
    for c in range(channels):
        out[c] = 0
    for s in range(x.shape[0]):
        d, row = direction[s], x[s, first : first + channels]
        for c in range(channels):
            out[c] += d * row[c]


@kernel
def inner_products_back(gw, pq, qs, w, g_pq, g_qs):
    """Derivatives of w = sum_s p_s q_s, and w itself."""
    channels = gw.shape[0]
    for c in range(channels):
        w[c] = 0
    for s in range(pq.shape[0]):
        p, q = pq[s, :channels], qs[s, channels:]
        gp, gq = g_pq[s, :channels], g_qs[s]
        for c in range(channels):
            w[c] += p[c] * q[c]
            gp[c] += gw[c] * q[c]
        for c in range(channels):
            gq[c] += gw[c] * p[c]


@kernel
def rejections_back(gw, pq, qs, along_p, along_q, direction, g_pq, g_qs, g_direction):
    """The same of w = sum_s p_s q_s - (p d)(q d), with the derivative by d."""
    channels = gw.shape[0]
    for s in range(pq.shape[0]):
        d, total = direction[s], gw.dtype.type(0)
        p, q = pq[s, :channels], qs[s, channels:]
        gp, gq = g_pq[s, :channels], g_qs[s]
        for c in range(channels):
            gp[c] += gw[c] * (q[c] - along_q[c] * d)
        for c in range(channels):
            gq[c] += gw[c] * (p[c] - along_p[c] * d)
        for c in range(channels):
            total += gw[c] * (p[c] * along_q[c] + q[c] * along_p[c])
        g_direction[s] -= total


@kernel
def dot(x, y):
    total = x.dtype.type(0)
    for c in range(x.shape[0]):
        total += x[c] * y[c]
    return total


@kernel
def clear(x):
    for c in range(x.shape[0]):
        x[c] = 0


@kernel
def project(x, weight, bias, y):
    """y = x W + b."""
    for e in range(x.shape[0]):
        row = y[e]
        for c in range(row.shape[0]):
            row[c] = bias[c]
    multiply(x, weight, y, 1)


@kernel
def scale_slopes(slope, x):
    """x *= slope."""
    for c in range(x.shape[0]):
        x[c] *= slope[c]


@kernel
def copy_row(x, out):
    for c in range(out.shape[0]):
        out[c] = x[c]


@kernel
def scale_row(x, factor):
    for c in range(x.shape[0]):
        x[c] *= factor


@kernel
def copy_rows(x, out):
    """The first rows of out are those of x."""
    for e in range(x.shape[0]):
        for c in range(x.shape[1]):
            out[e, c] = x[e, c]


@kernel
def add_columns(x, out):
    """out += sum of the rows of x."""
    for e in range(x.shape[0]):
        row = x[e]
        for c in range(out.shape[0]):
            out[c] += row[c]
