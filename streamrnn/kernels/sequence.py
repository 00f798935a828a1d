"""Step, unroll and back-propagation through time. All three go through the one cell forward of `advance`.

An LRU is stepped and unrolled here; its gradient is not back-propagated through time, see `lru`.
"""

from __future__ import annotations

import numpy as np

from streamrnn.kernels import cells, heads, lru
from streamrnn.kernels.jit import jit, spliced
from streamrnn.kernels.params import CELL, HEAD, HIDDEN, LAYERS, LRU, ONE_HOT, head_views, layer_views
from streamrnn.kernels.products import add, add_transposed, copy
from streamrnn.kernels.types import Batch, Floats, Ints, Tape


@spliced
def advance(shape: Ints, theta: Floats, x: Floats, before: Floats, after: Floats, gates: Floats) -> None:
    """One timestep through all layers: x (I,), before and after (L, S), gates (L, A)."""
    hidden = shape[HIDDEN]
    if shape[CELL] == LRU:
        lru.forward(shape, theta, x, before[0], after[0])
        return
    for layer in range(shape[LAYERS]):
        below = x if layer == 0 else after[layer - 1, :hidden]
        one_hot = layer == 0 and shape[ONE_HOT] == 1
        weights = layer_views(shape, theta, layer)
        cells.forward(shape[CELL], weights, below, one_hot, before[layer], after[layer], gates[layer])


@jit
def step(shape: Ints, theta: Floats, state: Floats, x: Floats, gates: Floats, y: Floats) -> None:
    """The stateful timestep: state (L, S) goes from h_{t-1} to h_t, y (Y,) is what the head makes of it."""
    advance(shape, theta, x, state, state, gates)
    heads.forward(shape, theta, state[-1, : shape[HIDDEN]], x, y)


@jit
def unroll(shape: Ints, theta: Floats, xs: Floats, states: Floats, gates: Floats, ys: Floats) -> None:
    """`step` over xs (T, I) from states[0], keeping every state (T+1, L, S) and gate (T, L, A) for `bptt`.

    A layer goes through the whole window before the next one does, so that its weights are looked up once.
    """
    hidden = shape[HIDDEN]
    for layer in range(shape[LAYERS]):
        if shape[CELL] == LRU:
            for t in range(xs.shape[0]):
                lru.forward(shape, theta, xs[t], states[t, 0], states[t + 1, 0])
            continue
        weights = layer_views(shape, theta, layer)
        one_hot = layer == 0 and shape[ONE_HOT] == 1
        for t in range(xs.shape[0]):
            below = xs[t] if layer == 0 else states[t + 1, layer - 1, :hidden]
            cells.forward(
                shape[CELL], weights, below, one_hot, states[t, layer], states[t + 1, layer], gates[t, layer]
            )
    head = head_views(shape, theta)
    for t in range(xs.shape[0]):
        heads.answer(shape[HEAD], head, states[t + 1, -1, :hidden], xs[t], ys[t])


@jit
def bptt(
    shape: Ints,
    theta: Floats,
    grad: Floats,
    xs: Floats,
    states: Floats,
    gates: Floats,
    d_ys: Floats,
    d_state: Floats,
) -> None:
    """Back-propagate through an unrolled window, adding to `grad`; the error of every step counts.

    d_ys (T, Y): the loss gradient by each step's outputs. d_state (L+1, S): scratch; on return its first L
    rows hold the loss gradient by states[0]. `gates` is used up. Truncation is where the window begins
    (Williams & Peng 1990).
    """
    hidden = shape[HIDDEN]
    layers = shape[LAYERS]
    steps = xs.shape[0]
    d_state[:] = 0
    weight, _, _ = head_views(shape, theta)
    weight = weight[: d_ys.shape[1]]
    above = np.empty((steps if layers > 1 else 0, hidden), theta.dtype)  # what the layer above sends down
    for layer in range(layers - 1, -1, -1):
        weights = layer_views(shape, theta, layer)
        for t in range(steps - 1, -1, -1):
            if layer == layers - 1:
                add_transposed(weight, d_ys[t], d_state[layer])
            else:
                add(above[t], d_state[layer, :hidden])
            cells.backward(
                shape[CELL], weights, states[t, layer], states[t + 1, layer], gates[t, layer], d_state[layer]
            )
        if layer > 0:
            for t in range(steps):
                cells.backward_input(shape[CELL], weights, gates[t, layer], above[t])
        cells.backward_weights(shape, layer_views(shape, grad, layer), layer, xs, states, gates, steps)
    width = states.shape[2]
    last = (2 * layers - 1) * width  # where the top layer's h after step 0 is
    heads.backward_weights(shape, grad, states.ravel(), last, layers * width, xs, d_ys, steps)


@spliced
def gradient(shape: Ints, theta: Floats, grad: Floats, batch: Batch, tape: Tape) -> float:
    """Gradient of the mean loss over a batch of windows, each started from its stored state.

    batch: xs (R, T, I), starts (R, L, S), targets (R, T, N), weights (R, T, N), lengths (R,), the steps
    each window really has. tape: states (T+1, L, S), gates (T, L, A), ys (T, Y), d_ys (T, Y), d_state
    (L+1, S), scratch of one window. Writes `grad`, returns the loss.
    """
    xs, starts, targets, weights, lengths = batch
    states, gates, ys, d_ys, d_state = tape
    grad[:] = 0
    total = 0.0
    for r in range(xs.shape[0]):
        n = lengths[r]
        for layer in range(shape[LAYERS]):
            copy(starts[r, layer], states[0, layer])
        unroll(shape, theta, xs[r, :n], states, gates, ys)
        for t in range(n):
            total += heads.loss(shape, ys[t], targets[r, t], weights[r, t], d_ys[t])
        bptt(shape, theta, grad, xs[r, :n], states, gates, d_ys, d_state)
    return total
