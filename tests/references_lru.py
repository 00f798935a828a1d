"""The linear recurrent unit once more, in complex numbers and unit by unit; sharing no line with the kernel."""

from __future__ import annotations

import cmath
import math

import numpy as np


def sigmoid(v):
    return 1.0 / (1.0 + math.exp(-v))


def forward(names, xs):
    """Return h (complex), units and features after each of xs (T, I), from an empty state."""
    hidden, _ = names["input.real"].shape
    h = [0j] * hidden
    steps = []
    for x in xs:
        for j in range(hidden):
            decay = math.exp(min(names["nu"][j] + names["forget.weight"][j] @ x, 3.0)) + 1e-6
            eigenvalue = cmath.exp(complex(-decay, math.exp(names["phase"][j])))
            u = complex(names["input.real"][j] @ x, names["input.imag"][j] @ x)
            gate = sigmoid(names["gate.weight"][j] @ x + names["gate.bias"][j])
            h[j] = eigenvalue * h[j] + math.sqrt(1.0 - abs(eigenvalue) ** 2) * gate * u
        features = np.array([z.real for z in h] + [z.imag for z in h] + list(x))
        units = np.tanh(names["mix.weight"] @ features + names["mix.bias"])
        steps.append((list(h), units, features))
    return steps


def head(names, kind, units, x):
    """Return the outputs of the head `kind`, all as a vector; for Laplace location and log-scale."""
    y = names["readout.weight"] @ units + names["readout.bias"]
    if kind == "laplace":
        outputs = len(y) // 2
        y[:outputs] += names["skip.weight"] @ x
        y[outputs:] = np.clip(y[outputs:], -5.0, 2.0)
    elif kind == "softmax":
        y = np.exp(y - y.max())
        y /= y.sum()
    return y


def loss(kind, y, place, target):
    """Of output number `place` alone; for softmax of the symbol `target`."""
    if kind == "softmax":
        return -math.log(y[int(target)])
    if kind == "linear":
        return 0.5 * (y[place] - target) ** 2
    log_scale = y[len(y) // 2 + place]
    return math.sqrt((y[place] - target) ** 2 + 1e-4) * math.exp(-log_scale) + log_scale


def total_loss(names, kind, xs, ys, horizons, counted=None):
    """Sum over events t of what the forecasts made for ys[t] (F,) cost, those of horizon h made after xs[t - h].

    counted: the places of the horizons that count; None for all.
    """
    steps = forward(names, xs)
    fields, count = ys.shape[1], len(horizons)
    total = 0.0
    for t in range(len(ys)):
        for k, horizon in enumerate(horizons):
            for f in range(fields):
                if t < horizon or math.isnan(ys[t, f]) or (counted is not None and k not in counted):
                    continue
                _, units, _ = steps[t - horizon]
                y = head(names, kind, units, xs[t - horizon])
                total += loss(kind, y, f * count + k, ys[t, f]) / fields
    return total
