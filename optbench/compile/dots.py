"""Products of few runs with few rows of data in compiled loops, which are too small for calls of BLAS.

Four rows are processed at once, so that the arrays of the runs are read and written once for four. Sums may be reordered.
"""

from __future__ import annotations

import numba

_fast = numba.njit(error_model="numpy", fastmath={"contract", "reassoc", "nsz"})


@_fast
def dots(w, a, b, c, d, out):  # type: ignore[no-untyped-def]
    """out[r, :] = products of w[r] with the rows a, b, c, d; w of shape (R, n), out of shape (R, 4)."""
    runs = w.shape[0]
    for r in range(0, runs - runs % 2, 2):  # two runs per read of a row
        p0 = p1 = p2 = p3 = q0 = q1 = q2 = q3 = 0.0
        for k in range(w.shape[1]):
            u, v = w[r, k], w[r + 1, k]
            p0 += u * a[k]
            p1 += u * b[k]
            p2 += u * c[k]
            p3 += u * d[k]
            q0 += v * a[k]
            q1 += v * b[k]
            q2 += v * c[k]
            q3 += v * d[k]
        out[r, 0], out[r, 1], out[r, 2], out[r, 3] = p0, p1, p2, p3
        out[r + 1, 0], out[r + 1, 1], out[r + 1, 2], out[r + 1, 3] = q0, q1, q2, q3
    if runs % 2:
        r = runs - 1
        out[r, 0], out[r, 1], out[r, 2], out[r, 3] = dot(w[r], a), dot(w[r], b), dot(w[r], c), dot(w[r], d)


@_fast
def dot(a, b):  # type: ignore[no-untyped-def]
    """Scalar product of two rows."""
    s = 0.0
    for k in range(a.shape[0]):
        s += a[k] * b[k]
    return s


@_fast
def add(g, weights, a, b, c, d):  # type: ignore[no-untyped-def]
    """g[r] += weighted sum of the rows a, b, c, d; g of shape (R, n), weights of shape (R, 4)."""
    for r in range(g.shape[0]):
        p, q, s, t = weights[r, 0], weights[r, 1], weights[r, 2], weights[r, 3]
        for k in range(g.shape[1]):
            g[r, k] += p * a[k] + q * b[k] + s * c[k] + t * d[k]
