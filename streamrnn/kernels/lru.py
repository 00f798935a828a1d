"""The linear recurrent unit: a diagonal complex recurrence, forward and its exact gradient in real time.

    h_j = lambda_j h_j' + gamma_j (B x)_j,    lambda_j = exp(-exp(nu_j) - FORGET + i exp(phase_j)),
    gamma_j = sqrt(1 - |lambda_j|^2),         units = tanh(W [Re h, Im h, x] + b)

(Orvieto et al. 2023). As no unit reads another, the derivative of h_j by its own parameters is carried along with
it (Zucchet et al. 2023): a loss is back-propagated to h only, and multiplied by these traces,

    dh_j / dlambda_j = lambda_j (dh_j / dlambda_j)' + h_j',    e_jd = lambda_j e_jd' + x_d = dh_j / dB_jd / gamma_j.

They are part of the state, see `params.trace_views`, and exact as long as the weights do not change.
"""

from __future__ import annotations

import math
from typing import Final

from streamrnn.kernels import heads
from streamrnn.kernels.jit import jit
from streamrnn.kernels.params import HIDDEN, feature_width, lru_views, trace_views
from streamrnn.kernels.products import add, add_outer, add_transposed, affine, copy, tanh
from streamrnn.kernels.types import Floats, Ints, Notes

FORGET: Final = 1e-6  # of h, at the least, per step: in float32 too |lambda| stays below 1


@jit
def eigenvalue(nu: Floats, phase: Floats, j: int) -> tuple[float, float, float]:
    """Modulus and angle of lambda_j, and gamma_j."""
    decay = math.exp(nu[j]) + nu.dtype.type(FORGET)
    return math.exp(-decay), math.exp(phase[j]), math.sqrt(-math.expm1(-(decay + decay)))


@jit
def forward(shape: Ints, theta: Floats, x: Floats, before: Floats, after: Floats) -> None:
    """One timestep: x (I,); before and after (S,), the state with its traces. `after` may be `before`.

    A state that has left the numbers has units that are none, so that whoever looks at outputs sees it.
    """
    hidden, inputs = shape[HIDDEN], x.size
    nu, phase, b_real, b_imag, weight, bias = lru_views(shape, theta)
    _, h, by_lambda, by_real, by_imag = trace_views(shape, before)
    units, features, new_by_lambda, new_by_real, new_by_imag = trace_views(shape, after)
    kind = theta.dtype.type
    health = kind(0)
    for j in range(hidden):
        modulus, angle, gamma = eigenvalue(nu, phase, j)
        real, imag = modulus * math.cos(angle), modulus * math.sin(angle)
        u_real, u_imag = kind(0), kind(0)
        for d in range(inputs):
            e_real, e_imag = by_real[j, d], by_imag[j, d]
            new_by_real[j, d] = real * e_real - imag * e_imag + x[d]
            new_by_imag[j, d] = real * e_imag + imag * e_real
            health += new_by_real[j, d] + new_by_imag[j, d]
            u_real += b_real[j, d] * x[d]
            u_imag += b_imag[j, d] * x[d]
        h_real, h_imag = h[j], h[hidden + j]
        l_real, l_imag = by_lambda[0, j], by_lambda[1, j]
        new_by_lambda[0, j] = real * l_real - imag * l_imag + h_real
        new_by_lambda[1, j] = real * l_imag + imag * l_real + h_imag
        features[j] = real * h_real - imag * h_imag + gamma * u_real
        features[hidden + j] = real * h_imag + imag * h_real + gamma * u_imag
        health += new_by_lambda[0, j] + new_by_lambda[1, j] + features[j] + features[hidden + j]
    copy(x, features[2 * hidden :])
    affine(weight, bias, features, units)
    tanh(units)
    if not math.isfinite(health):
        units[:] = math.nan


@jit
def backward(shape: Ints, theta: Floats, grad: Floats, state: Floats, d_units: Floats, d_features: Floats) -> None:
    """Add to `grad` what d_units (H,), the loss gradient by the units of `state` (S,), is by all below the head.

    d_features (2 H + I,): scratch. Uses d_units up.
    """
    hidden = shape[HIDDEN]
    nu, phase, b_real, b_imag, weight, _ = lru_views(shape, theta)
    grad_nu, grad_phase, grad_b_real, grad_b_imag, _, _ = lru_views(shape, grad)
    units, features, by_lambda, by_real, by_imag = trace_views(shape, state)
    backward_units(shape, grad, units, features, d_units)
    d_features[:] = 0
    add_transposed(weight, d_units, d_features)
    kind = theta.dtype.type
    for j in range(hidden):
        d_real, d_imag = d_features[j], d_features[hidden + j]
        modulus, angle, gamma = eigenvalue(nu, phase, j)
        by_gamma = kind(0)
        for d in range(by_real.shape[1]):
            # Real part of the conjugate of d times the trace, by Re B; and times i times the trace, by Im B.
            by_b_real = d_real * by_real[j, d] + d_imag * by_imag[j, d]
            by_b_imag = d_imag * by_real[j, d] - d_real * by_imag[j, d]
            grad_b_real[j, d] += gamma * by_b_real
            grad_b_imag[j, d] += gamma * by_b_imag
            by_gamma += b_real[j, d] * by_b_real + b_imag[j, d] * by_b_imag
        along = d_real * by_lambda[0, j] + d_imag * by_lambda[1, j]  # by Re lambda
        across = d_imag * by_lambda[0, j] - d_real * by_lambda[1, j]  # by Im lambda
        cosine, sine = math.cos(angle), math.sin(angle)
        by_modulus = along * cosine + across * sine - by_gamma * modulus / gamma
        grad_nu[j] -= by_modulus * modulus * math.exp(nu[j])
        grad_phase[j] += (across * cosine - along * sine) * modulus * angle


@jit
def backward_units(shape: Ints, grad: Floats, units: Floats, features: Floats, d_units: Floats) -> None:
    """Turn d_units (H,) into the gradient by what the tanh is of, and add the part of W and b to `grad`."""
    _, _, _, _, grad_weight, grad_bias = lru_views(shape, grad)
    one = units.dtype.type(1)
    for i in range(units.size):
        d_units[i] *= one - units[i] * units[i]
    add(d_units, grad_bias)
    add_outer(d_units, features, grad_weight)


@jit
def observe(
    shape: Ints,
    theta: Floats,
    grad: Floats,
    state: Floats,
    ring: Floats,
    count: int,
    horizons: Ints,
    seen: Floats,
    notes: Notes,
) -> tuple[float, bool]:
    """Add to `grad` the gradient of the loss of the forecasts made for event number `count` of a stream.

    state (S,) is the one its last step left, the one-step forecast was made from it. ring (max horizon, 3 H + I):
    the units and features of the last steps, the newest is put there. seen (F,): what the event shows, NaN where
    missing. horizons (K,) ascend from 1. notes: y, d_y (Y,), target, weight (F K,), d_units (H,), d_features
    (2 H + I,), scratch. Returns the loss, and whether there was anything to have one.

    All that reads h (head, W and b) learns from every horizon, what makes h from the nearest: traces of a state
    that is gone are gone with it.
    """
    y, d_y, target, weight, d_units, d_features = notes
    hidden = shape[HIDDEN]
    kept = feature_width(shape)
    if count > 0:
        copy(state[:kept], ring[(count - 1) % ring.shape[0]])
    total = 0.0
    known = False
    for k in range(horizons.size):
        if count < horizons[k]:
            break
        weight[:] = 0
        for f in range(seen.size):
            if not math.isnan(seen[f]):
                target[f * horizons.size + k] = seen[f]
                weight[f * horizons.size + k] = 1.0 / seen.size
                known = True
        if not known:
            break
        row = ring[(count - horizons[k]) % ring.shape[0]]
        units, features = row[:hidden], row[hidden:]
        x = features[2 * hidden :]
        heads.forward(shape, theta, units, x, y)
        total += heads.loss(shape, y, target, weight, d_y)
        d_units[:] = 0
        heads.backward(shape, theta, grad, units, x, d_y, d_units)
        if k == 0:
            backward(shape, theta, grad, state, d_units, d_features)
        else:
            backward_units(shape, grad, units, features, d_units)
    return total, known
