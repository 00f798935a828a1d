"""The gated linear recurrent unit: a diagonal complex recurrence, forward and its exact gradient in real time.

    h_j = lambda_j h_j' + gamma_j g_j (B x)_j,          g = sigmoid(G x + c)
    lambda_j = exp(-exp(nu_j + (F x)_j) + i exp(phase_j)),  gamma_j = sqrt(1 - |lambda_j|^2)
    units = tanh(W [Re h, Im h, x] + b)

(Orvieto et al. 2023; gates by the input as De et al. 2024). As no unit reads another, the derivative of h_j by each
of its own parameters p is a number that can be carried along (Zucchet et al. 2023): the trace

    dh_j/dp = lambda_j (dh_j/dp)' + (what p does to h_j in this step).

A loss is back-propagated to h only, and multiplied by the traces. They are part of the state, see
`params.state_views`, and exact as long as the weights do not change.
"""

from __future__ import annotations

import math
from typing import Final

from streamrnn.kernels import heads
from streamrnn.kernels.jit import jit
from streamrnn.kernels.params import HIDDEN, INPUTS, feature_width, mix_views, recurrence_views, state_views
from streamrnn.kernels.products import add, add_outer, add_transposed, affine, copy, tanh
from streamrnn.kernels.types import Floats, Ints, Notes

NU_MAX: Final = 3.0  # |lambda| is 2e-9 there: all is forgotten
FORGET: Final = 1e-6  # of h, at the least, per step: in float32 too |lambda| stays below 1


@jit
def forward(shape: Ints, theta: Floats, x: Floats, before: Floats, after: Floats) -> None:
    """One timestep: x (I,); before and after (S,), the state with its traces. `after` may be `before`.

    A state that has left the numbers has units that are none, so that whoever looks at outputs sees it.
    """
    hidden, inputs = shape[HIDDEN], x.size
    b_imag, own, phase = recurrence_views(shape, theta)
    weight, bias = mix_views(shape, theta)
    _, h, old_real, old_imag = state_views(shape, before)
    units, features, new_real, new_imag = state_views(shape, after)
    kind = theta.dtype.type
    one, health = kind(1), kind(0)
    for j in range(hidden):
        row, e_real, e_imag = own[j], new_real[j], new_imag[j]
        nu, gate = row[2 * inputs], row[3 * inputs + 1]
        u_real, u_imag = kind(0), kind(0)
        for d in range(inputs):
            u_real += row[d] * x[d]
            u_imag += b_imag[j, d] * x[d]
            nu += row[inputs + d] * x[d]
            gate += row[2 * inputs + 1 + d] * x[d]
        gate = one / (one + math.exp(-gate))
        nu_slope = one if nu < kind(NU_MAX) else one - one
        speed = math.exp(min(nu, kind(NU_MAX)))
        decay = speed + kind(FORGET)
        angle, modulus = math.exp(phase[j]), math.exp(-decay)
        gamma = math.sqrt(-math.expm1(-(decay + decay)))
        real, imag = modulus * math.cos(angle), modulus * math.sin(angle)
        h_real, h_imag = h[j], h[hidden + j]
        turned_real = real * h_real - imag * h_imag
        turned_imag = real * h_imag + imag * h_real
        features[j] = turned_real + gamma * gate * u_real
        features[hidden + j] = turned_imag + gamma * gate * u_imag
        # What the parameters do in this step: B by `open` x, F and nu by `by_nu`, G and c by `by_gate`.
        open_ = gamma * gate
        widening = gate * modulus * modulus / gamma
        by_nu_real = nu_slope * speed * (widening * u_real - turned_real)
        by_nu_imag = nu_slope * speed * (widening * u_imag - turned_imag)
        slope = open_ * (one - gate)
        by_gate_real, by_gate_imag = slope * u_real, slope * u_imag
        for p in range(3 * inputs + 3):
            t_real, t_imag = old_real[j, p], old_imag[j, p]
            e_real[p] = real * t_real - imag * t_imag
            e_imag[p] = real * t_imag + imag * t_real
        for d in range(inputs):
            e_real[d] += open_ * x[d]
            e_real[inputs + d] += by_nu_real * x[d]
            e_imag[inputs + d] += by_nu_imag * x[d]
            e_real[2 * inputs + 1 + d] += by_gate_real * x[d]
            e_imag[2 * inputs + 1 + d] += by_gate_imag * x[d]
        e_real[2 * inputs] += by_nu_real
        e_imag[2 * inputs] += by_nu_imag
        e_real[3 * inputs + 1] += by_gate_real
        e_imag[3 * inputs + 1] += by_gate_imag
        e_real[3 * inputs + 2] -= angle * turned_imag
        e_imag[3 * inputs + 2] += angle * turned_real
        for p in range(3 * inputs + 3):
            health += e_real[p] + e_imag[p]
        health += features[j] + features[hidden + j]
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
    hidden, inputs = shape[HIDDEN], shape[INPUTS]
    weight, _ = mix_views(shape, theta)
    grad_b_imag, grad_own, grad_phase = recurrence_views(shape, grad)
    units, features, e_real, e_imag = state_views(shape, state)
    backward_units(shape, grad, units, features, d_units)
    d_features[:] = 0
    add_transposed(weight, d_units, d_features)
    last = 3 * inputs + 2
    for j in range(hidden):
        d_real, d_imag = d_features[j], d_features[hidden + j]
        for p in range(last):
            grad_own[j, p] += d_real * e_real[j, p] + d_imag * e_imag[j, p]
        grad_phase[j] += d_real * e_real[j, last] + d_imag * e_imag[j, last]
        for d in range(inputs):  # Im B does what Re B does, times i
            grad_b_imag[j, d] += d_imag * e_real[j, d] - d_real * e_imag[j, d]


@jit
def backward_units(shape: Ints, grad: Floats, units: Floats, features: Floats, d_units: Floats) -> None:
    """Turn d_units (H,) into the gradient by what the tanh is of, and add the part of W and b to `grad`."""
    grad_weight, grad_bias = mix_views(shape, grad)
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
        heads.backward(shape, theta, d_y, d_units)
        heads.backward_weights(shape, grad, row, 0, 0, x.reshape(1, x.size), d_y.reshape(1, d_y.size), 1)
        if k == 0:
            backward(shape, theta, grad, state, d_units, d_features)
        else:
            backward_units(shape, grad, units, features, d_units)
    return total, known
