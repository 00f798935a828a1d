"""Readout and loss: from the top layer's h to the outputs, and back.

    linear   y = W h + b                                        loss 1/2 (y - target)^2
    laplace  mu = W_o h + W_s x + b, l = W_l h + b_l in [-5, 2]  loss sqrt(e^2 + 1e-4) exp(-l) + l, e = mu - target
    softmax  p = softmax(W h + b) over the first y.size symbols  loss -log p[target]

Every loss is weighted; weight 0 masks a target that is not known.
"""

from __future__ import annotations

import math
from typing import Final

from streamrnn.kernels.jit import jit, spliced
from streamrnn.kernels.params import HEAD, LAPLACE, SOFTMAX, head_views
from streamrnn.kernels.products import START, add_outers, add_product, add_sums, add_transposed, affine
from streamrnn.kernels.types import Floats, Ints

LOG_SCALE_MIN: Final = -5.0
LOG_SCALE_MAX: Final = 2.0
ROUNDING: Final = 1e-4  # where |e| turns into a parabola, in squared target units


@spliced
def forward(shape: Ints, theta: Floats, h: Floats, x: Floats, y: Floats) -> None:
    """Write the outputs y (Y,) of the top layer's h (H,) and the network's input x (I,)."""
    answer(shape[HEAD], head_views(shape, theta), h, x, y)


@jit
def answer(kind: int, views: tuple[Floats, Floats, Floats], h: Floats, x: Floats, y: Floats) -> None:
    """`forward` of a head whose weight (Y, H), bias (Y,) and skip (N, I) have been looked up."""
    weight, bias, skip = views
    affine(weight[: y.size], bias, h, y)
    if kind == LAPLACE:
        outputs = skip.shape[0]
        add_product(skip, x, y)
        for i in range(outputs, y.size):
            y[i] = min(max(y[i], y.dtype.type(LOG_SCALE_MIN)), y.dtype.type(LOG_SCALE_MAX))
    elif kind == SOFTMAX:
        top = y[0]
        for i in range(1, y.size):
            top = max(top, y[i])
        total = y.dtype.type(0)
        for i in range(y.size):
            y[i] = math.exp(y[i] - top)
            total += y[i]
        for i in range(y.size):
            y[i] /= total


@jit
def loss(shape: Ints, y: Floats, target: Floats, weight: Floats, d_y: Floats) -> float:
    """Return the weighted loss of outputs y (Y,) and write its gradient by the pre-activations to d_y (Y,).

    target and weight: (N,) for linear and Laplace; (1,) for softmax, the target being a symbol's number.
    """
    kind = shape[HEAD]
    one = y.dtype.type(1)
    total = 0.0
    if kind == SOFTMAX:
        for i in range(y.size):
            d_y[i] = weight[0] * y[i]
        if weight[0] > 0:
            symbol = int(target[0])
            d_y[symbol] -= weight[0]
            total = -weight[0] * math.log(max(y[symbol], y.dtype.type(1e-30)))
    elif kind == LAPLACE:
        outputs = target.size
        for i in range(outputs):
            d_y[i] = one - one
            d_y[outputs + i] = one - one
            if weight[i] > 0:
                log_scale = y[outputs + i]
                error = y[i] - target[i]
                distance = math.sqrt(error * error + y.dtype.type(ROUNDING))
                precision = math.exp(-log_scale)
                total += weight[i] * (distance * precision + log_scale)
                d_y[i] = weight[i] * error / distance * precision
                slope = one - distance * precision
                # At the upper bound only the way back counts. At the lower one there is no other: the rounding
                # keeps distance * precision above 1 there.
                if slope > 0 or log_scale < y.dtype.type(LOG_SCALE_MAX):
                    d_y[outputs + i] = weight[i] * slope
    else:
        for i in range(y.size):
            d_y[i] = one - one
            if weight[i] > 0:
                error = y[i] - target[i]
                total += 0.5 * weight[i] * error * error
                d_y[i] = weight[i] * error
    return total


@jit
def backward(shape: Ints, theta: Floats, d_y: Floats, d_h: Floats) -> None:
    """Add to d_h (H,) the gradient that d_y (Y,) sends down."""
    weight, _, _ = head_views(shape, theta)
    add_transposed(weight[: d_y.size], d_y, d_h)


@jit
def backward_weights(
    shape: Ints, grad: Floats, hs: Floats, first: int, stride: int, xs: Floats, d_ys: Floats, steps: int
) -> None:
    """Add the head's part to `grad`: flat hs has h_t (H,) from first + t stride on; xs (T, I), d_ys (T, Y)."""
    grad_weight, grad_bias, grad_skip = head_views(shape, grad)
    width = d_ys.shape[1]
    ds = d_ys.ravel()
    hidden = grad_weight.shape[1]
    add_outers(ds, START, width, hs, first, stride, steps, grad_weight[:width], START, hidden)
    add_sums(ds, START, width, steps, grad_bias[:width])
    if grad_skip.size:
        inputs = xs.shape[1]
        add_outers(ds, START, width, xs.ravel(), START, inputs, steps, grad_skip, START, inputs)
