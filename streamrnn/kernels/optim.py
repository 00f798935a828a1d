"""Gradient clipping and Adam over the flat vector."""

from __future__ import annotations

import math

from streamrnn.kernels.jit import jit
from streamrnn.kernels.types import Floats


@jit
def clip(grad: Floats, limit: float) -> float:
    """Scale `grad` to a Euclidean norm of at most `limit`; return the norm it had (not finite if it was not).

    Pascanu, Mikolov & Bengio 2013.
    """
    total = 0.0
    for i in range(grad.size):
        total += grad[i] * grad[i]
    norm = math.sqrt(total)
    if norm > limit:
        factor = grad.dtype.type(limit / norm)
        for i in range(grad.size):
            grad[i] *= factor
    return norm


@jit
def adam(theta: Floats, grad: Floats, mean: Floats, square: Floats, count: int, rate: float, decay: float) -> None:
    """One Adam update of theta (P,) in place; mean, square (P,) are the moments, count the updates incl. this.

    Betas (0.9, 0.99), decoupled weight decay (Kingma & Ba 2015; Loshchilov & Hutter 2019).
    """
    kind = theta.dtype.type
    beta1, beta2, epsilon = kind(0.9), kind(0.99), kind(1e-8)
    one = kind(1)
    step = kind(rate / (1.0 - 0.9**count))
    unbias = kind(1.0 / (1.0 - 0.99**count))
    shrink = kind(rate * decay)
    for i in range(theta.size):
        g = grad[i]
        mean[i] = beta1 * mean[i] + (one - beta1) * g
        square[i] = beta2 * square[i] + (one - beta2) * g * g
        theta[i] -= step * mean[i] / (math.sqrt(square[i] * unbias) + epsilon) + shrink * theta[i]
