"""Matrix-vector products and element-wise functions, in place: what cells and heads are made of."""

from __future__ import annotations

import math
from typing import Any, Final, cast

import numpy as np

from streamrnn.kernels.jit import exact, jit
from streamrnn.kernels.lanes import load, muladd, plus, splat, store, totals
from streamrnn.kernels.types import Floats

F32 = np.float32
START: Final = cast(
    int, np.int64(0)
)  # as an argument: of a plain 0 Numba makes a type, and compiles the callee for it


@jit
def add(x: Floats, out: Floats) -> None:
    """Add x to out, both (N,)."""
    for i in range(out.size):
        out[i] += x[i]


@jit
def copy(x: Floats, out: Floats) -> None:
    """Write x to out, both (N,). Numba's `out[:] = x` compiles seconds' worth of error messages."""
    for i in range(out.size):
        out[i] = x[i]


@jit
def add_product(weight: Floats, x: Floats, out: Floats) -> None:
    """Add weight (G, I) x (I,) to the first G of out."""
    add_part(weight, START, weight.shape[1], x, START, out)


@jit
def add_part(weight: Floats, column: int, width: int, x: Floats, first: int, out: Floats) -> None:
    """`add_product` of `width` columns of the weight only, from `column` on, times x from `first` on.

    Eight rows at a time: each alone would wait for its sum, and for its lanes to be added up.
    """
    rows, stride = weight.shape
    whole = width // 8 * 8
    zero = splat(out.dtype.type(0))
    i = 0
    while i + 8 <= rows:
        a, b, c, d, e, f, g, h = zero, zero, zero, zero, zero, zero, zero, zero
        k = i * stride + column
        for j in range(first, first + whole, 8):
            v = load(x, j)
            a = muladd(load(weight, k), v, a)
            b = muladd(load(weight, k + stride), v, b)
            c = muladd(load(weight, k + 2 * stride), v, c)
            d = muladd(load(weight, k + 3 * stride), v, d)
            e = muladd(load(weight, k + 4 * stride), v, e)
            f = muladd(load(weight, k + 5 * stride), v, f)
            g = muladd(load(weight, k + 6 * stride), v, g)
            h = muladd(load(weight, k + 7 * stride), v, h)
            k += 8
        store(out, i, plus(load(out, i), totals(a, b, c, d, e, f, g, h)))
        i += 8
    for r in range(rows):
        total = out[r]
        for j in range(whole if r < i else 0, width):
            total += weight[r, column + j] * x[first + j]
        out[r] = total


@jit
def affine(weight: Floats, bias: Floats, x: Floats, out: Floats) -> None:
    """Write out (G,) = weight (G, I) x (I,) + bias (G,)."""
    for i in range(weight.shape[0]):
        out[i] = bias[i]
    add_product(weight, x, out)


@jit
def affine_transposed(weight: Floats, bias: Floats, x: Floats, out: Floats) -> None:
    """Write weight (I, G) transposed times x (I,) + bias (G,) to the first G of out."""
    for i in range(weight.shape[1]):
        out[i] = bias[i]
    add_transposed(weight, x, out)


@jit
def add_affine_transposed(weight: Floats, bias: Floats, x: Floats, out: Floats) -> None:
    """Add weight (I, G) transposed times x (I,) + bias (G,) to the first G of out."""
    for i in range(weight.shape[1]):
        out[i] += bias[i]
    add_transposed(weight, x, out)


@jit
def add_transposed(weight: Floats, d: Floats, out: Floats) -> None:
    """Add weight (G, I) transposed times d (G,) to the first I of out.

    Eight rows at a time, each read from end to end: where weights come from beyond the nearest cache, that is the
    order in which they are fetched ahead.
    """
    rows, columns = weight.shape
    whole = columns // 8 * 8
    i = 0
    while i + 8 <= rows:
        p, q, r, s = splat(d[i]), splat(d[i + 1]), splat(d[i + 2]), splat(d[i + 3])
        t, u, v, w = splat(d[i + 4]), splat(d[i + 5]), splat(d[i + 6]), splat(d[i + 7])
        k = i * columns
        for j in range(0, whole, 8):
            a = muladd(load(weight, k), p, load(out, j))
            a = muladd(load(weight, k + columns), q, a)
            a = muladd(load(weight, k + 2 * columns), r, a)
            a = muladd(load(weight, k + 3 * columns), s, a)
            a = muladd(load(weight, k + 4 * columns), t, a)
            a = muladd(load(weight, k + 5 * columns), u, a)
            a = muladd(load(weight, k + 6 * columns), v, a)
            a = muladd(load(weight, k + 7 * columns), w, a)
            store(out, j, a)
            k += 8
        i += 8
    if i + 4 <= rows:
        p, q, r, s = splat(d[i]), splat(d[i + 1]), splat(d[i + 2]), splat(d[i + 3])
        k = i * columns
        for j in range(0, whole, 8):
            a = muladd(load(weight, k), p, load(out, j))
            a = muladd(load(weight, k + columns), q, a)
            a = muladd(load(weight, k + 2 * columns), r, a)
            store(out, j, muladd(load(weight, k + 3 * columns), s, a))
            k += 8
        i += 4
    for n in range(i, rows):
        x = splat(d[n])
        for j in range(0, whole, 8):
            store(out, j, muladd(load(weight, n * columns + j), x, load(out, j)))
    for m in range(whole, columns):
        total = out[m]
        for n in range(rows):
            total += weight[n, m] * d[n]
        out[m] = total


@jit
def add_outer(d: Floats, x: Floats, out: Floats) -> None:
    """Add d (G,) times x (I,) transposed to out (G, I)."""
    for i in range(out.shape[0]):
        factor = d[i]
        for j in range(out.shape[1]):
            out[i, j] += factor * x[j]


@jit
def add_outers(
    xs: Floats,
    x_first: int,
    x_stride: int,
    ds: Floats,
    first: int,
    stride: int,
    steps: int,
    out: Floats,
    column: int,
    width: int,
) -> None:
    """Add the sum over t < steps of x_t (I,) times d_t (width,) transposed to columns of out (I, G), from `column`.

    x_t lies in xs from x_first + t x_stride on, d_t in ds likewise; flat arrays are given, since of a slice the
    compiler does not know the strides. A block of `out` stays in registers over all steps.
    """
    rows, columns = out.shape
    blocks = width // 32 * 32
    for i in range(0, rows // 2 * 2, 2):
        for j in range(0, blocks, 32):
            k = i * columns + column + j
            n = k + columns
            a, b, c, d = load(out, k), load(out, k + 8), load(out, k + 16), load(out, k + 24)
            e, f, g, h = load(out, n), load(out, n + 8), load(out, n + 16), load(out, n + 24)
            m = x_first + i
            o = first + j
            for _ in range(steps):
                x, y = splat(xs[m]), splat(xs[m + 1])
                p, q, r, s = load(ds, o), load(ds, o + 8), load(ds, o + 16), load(ds, o + 24)
                a, b, c, d = muladd(p, x, a), muladd(q, x, b), muladd(r, x, c), muladd(s, x, d)
                e, f, g, h = muladd(p, y, e), muladd(q, y, f), muladd(r, y, g), muladd(s, y, h)
                m += x_stride
                o += stride
            store(out, k, a)
            store(out, k + 8, b)
            store(out, k + 16, c)
            store(out, k + 24, d)
            store(out, n, e)
            store(out, n + 8, f)
            store(out, n + 16, g)
            store(out, n + 24, h)
    for i in range(rows):
        j = blocks if i < rows // 2 * 2 else 0
        while j + 8 <= width:
            k = i * columns + column + j
            a = load(out, k)
            for t in range(steps):
                a = muladd(load(ds, first + j + t * stride), splat(xs[x_first + i + t * x_stride]), a)
            store(out, k, a)
            j += 8
        for m in range(j, width):
            total = out[i, column + m]
            for t in range(steps):
                total += ds[first + m + t * stride] * xs[x_first + i + t * x_stride]
            out[i, column + m] = total


@jit
def add_sums(ds: Floats, first: int, stride: int, steps: int, out: Floats) -> None:
    """Add the sum over t < steps of d_t (G,), as `add_outers` takes them, to out (G,)."""
    for t in range(steps):
        k = first + t * stride
        for i in range(out.size):
            out[i] += ds[k + i]


@exact
def tanh_of(x: Any) -> Any:
    """Hyperbolic tangent of one number, right to four units in the last place of a float32, without a branch.

    With t = tanh(x / 2) = p / q, a minimax fit on +-9 of x (1/2 + ..) / (1 + ..), tanh x = 2 t / (1 + t^2). Where
    that is near 1 the errors of t hardly count; where x is small, what p and q differ from x / 2 and 1 by is small.
    """
    v = min(max(x, -F32(9)), F32(9))
    u = v * v
    g = ((F32(1.2278168e-06) * u + F32(0.0012061929)) * u + F32(0.11310357)) * u  # q - 1
    r = v * ((F32(1.141867e-04) * u + F32(0.029770281)) * u) + v  # 2 p
    below = (g * g + (F32(0.25) * r) * r) + (g + g)  # q^2 + p^2 - 1
    return min(max((r * g + r) / (below + F32(1)), -F32(1)), F32(1))


@jit
def tanh(x: Floats) -> None:
    """Hyperbolic tangent of every element, in place.

    float32: `tanh_of`, which the compiler can vectorise. float64: the exact function, since gradient checks
    differentiate it.
    """
    if x.itemsize != 4:
        for i in range(x.size):
            x[i] = math.tanh(x[i])
        return
    for i in range(x.size):
        x[i] = tanh_of(x[i])


@jit
def sigmoid(x: Floats) -> None:
    """Logistic function of every element, in place, by way of tanh: it cannot overflow."""
    half = x.dtype.type(0.5)
    if x.itemsize != 4:
        for i in range(x.size):
            x[i] = half * math.tanh(half * x[i]) + half
        return
    for i in range(x.size):
        x[i] = half * tanh_of(half * x[i]) + half
