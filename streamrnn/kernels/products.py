"""Matrix-vector products and element-wise functions, in place: what cells and heads are made of."""

from __future__ import annotations

import math

from streamrnn.kernels.jit import jit
from streamrnn.kernels.types import Floats


@jit
def affine(weight: Floats, bias: Floats, x: Floats, out: Floats) -> None:
    """Write out (G,) = weight (G, I) x (I,) + bias (G,)."""
    for i in range(weight.shape[0]):
        total = bias[i]
        for j in range(weight.shape[1]):
            total += weight[i, j] * x[j]
        out[i] = total


@jit
def add_product(weight: Floats, x: Floats, out: Floats) -> None:
    """Add weight (G, I) x (I,) to the first G of out."""
    for i in range(weight.shape[0]):
        total = out[i]
        for j in range(weight.shape[1]):
            total += weight[i, j] * x[j]
        out[i] = total


@jit
def add_affine(weight: Floats, bias: Floats, x: Floats, out: Floats) -> None:
    """Add weight (G, I) x (I,) + bias (G,) to the first G of out."""
    for i in range(weight.shape[0]):
        total = out[i] + bias[i]
        for j in range(weight.shape[1]):
            total += weight[i, j] * x[j]
        out[i] = total


@jit
def affine_column(weight: Floats, bias: Floats, column: int, out: Floats) -> None:
    """`affine` of a one-hot x: the look-up of a column."""
    for i in range(weight.shape[0]):
        out[i] = bias[i] + weight[i, column]


@jit
def add_transposed(weight: Floats, d: Floats, out: Floats) -> None:
    """Add weight (G, I) transposed times d (G,) to out (I,), four rows at a time, to pass over `out` less."""
    whole = weight.shape[0] // 4 * 4
    for i in range(0, whole, 4):
        a, b, c, e = d[i], d[i + 1], d[i + 2], d[i + 3]
        for j in range(weight.shape[1]):
            out[j] += (weight[i, j] * a + weight[i + 1, j] * b) + (weight[i + 2, j] * c + weight[i + 3, j] * e)
    for i in range(whole, weight.shape[0]):
        factor = d[i]
        for j in range(weight.shape[1]):
            out[j] += weight[i, j] * factor


@jit
def add_outer(d: Floats, x: Floats, out: Floats) -> None:
    """Add d (G,) times x (I,) transposed to out (G, I)."""
    for i in range(out.shape[0]):
        factor = d[i]
        for j in range(out.shape[1]):
            out[i, j] += factor * x[j]


@jit
def add_outers(ds: Floats, first: int, xs: Floats, layer: int, steps: int, out: Floats) -> None:
    """Add the sum over t < steps of ds[t, layer, first : first + G] times xs[t, layer, : I] to out (G, I).

    A row of `out` stays in the cache while four steps at a time are added to it: `add_outer` at each step would go
    through all of it each time. Whole arrays are given, since of a slice the compiler does not know the strides.
    """
    whole = steps // 4 * 4
    for i in range(out.shape[0]):
        k = first + i
        for t in range(0, whole, 4):
            a, b, c, d = ds[t, layer, k], ds[t + 1, layer, k], ds[t + 2, layer, k], ds[t + 3, layer, k]
            for j in range(out.shape[1]):
                out[i, j] += (a * xs[t, layer, j] + b * xs[t + 1, layer, j]) + (
                    c * xs[t + 2, layer, j] + d * xs[t + 3, layer, j]
                )
        for t in range(whole, steps):
            factor = ds[t, layer, k]
            for j in range(out.shape[1]):
                out[i, j] += factor * xs[t, layer, j]


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
def tanh(x: Floats) -> None:
    """Hyperbolic tangent of every element, in place.

    float32: a rational function the compiler can vectorise, x P(x^2) / Q(x^2) on +-7.9, beyond which tanh is
    within 2.4e-7 of 1 (the minimax coefficients of Eigen's generic_fast_tanh_float). float64: the exact function,
    since gradient checks differentiate it.
    """
    if x.itemsize != 4:
        for i in range(x.size):
            x[i] = math.tanh(x[i])
        return
    kind = x.dtype.type
    bound = kind(7.90531110763549805)
    for i in range(x.size):
        v = min(max(x[i], -bound), bound)
        u = v * v
        p = kind(-2.76076847742355e-16)
        p = p * u + kind(2.00018790482477e-13)
        p = p * u + kind(-8.60467152213735e-11)
        p = p * u + kind(5.12229709037114e-08)
        p = p * u + kind(1.48572235717979e-05)
        p = p * u + kind(6.37261928875436e-04)
        p = p * u + kind(4.89352455891786e-03)
        q = kind(1.19825839466702e-06)
        q = q * u + kind(1.18534705686654e-04)
        q = q * u + kind(2.26843463243900e-03)
        q = q * u + kind(4.89352518554385e-03)
        x[i] = v * p / q


@jit
def sigmoid(x: Floats) -> None:
    """Logistic function of every element, in place, by way of tanh: it cannot overflow."""
    half = x.dtype.type(0.5)
    for i in range(x.size):
        x[i] *= half
    tanh(x)
    for i in range(x.size):
        x[i] = half * x[i] + half
