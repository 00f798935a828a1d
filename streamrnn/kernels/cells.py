"""The recurrences h_t = f(h_{t-1}, x_t), forward and backward side by side.

Gate order, both biases and the reset-after form of the GRU are those of torch.nn.RNN, GRU and LSTM. In every
function `weights` is the tuple of views that `params.layer_views` gives, H the hidden size and G the gates:

    rnn    h = act(W_ih x + b_ih + W_hh h' + b_hh)                      act: tanh or max(., 0)
    gru    r, z = sigmoid(...);  q = W_hn h' + b_hn;  n = tanh(W_in x + b_in + r q);  h = (1 - z) n + z h'
    lstm   i, f, o = sigmoid(...);  g = tanh(...);  c = f c' + i g;  h = o tanh(c)

`gates` (A,) is what a forward leaves for its backward: the activation of an Elman cell (H), r, z, q, n of a
GRU (4H), i, f, g, o of an LSTM (4H). Backward replaces it by the gradients by the pre-activations; of a GRU r, z, q
are what the state sees, r, z, n what the input sees.
"""

from __future__ import annotations

from streamrnn.kernels.jit import inlined, jit
from streamrnn.kernels.params import CELL, GRU, LSTM, ONE_HOT, RNN_RELU
from streamrnn.kernels.products import (
    START,
    add_affine_transposed,
    add_outers,
    add_part,
    add_product,
    add_sums,
    affine_transposed,
    sigmoid,
    tanh,
)
from streamrnn.kernels.types import Floats, Ints, Layer


@jit
def forward(
    cell: int, weights: Layer, x: Floats, one_hot: bool, before: Floats, after: Floats, gates: Floats
) -> None:
    """One timestep of one layer.

    x (I,), or the number of the symbol (1,) for one_hot; before (S,) is the state at t-1; writes after (S,)
    and gates (A,). `after` may be `before`: it is written when all of the state has been read.
    """
    weight_ih, weight_hh, bias_ih, bias_hh = weights
    hidden, rows = weight_hh.shape
    if one_hot:
        column = int(x[0])
        for i in range(rows):
            gates[i] = bias_ih[i] + weight_ih[column, i]
    else:
        affine_transposed(weight_ih, bias_ih, x, gates)
    if cell == GRU:
        for i in range(2 * hidden, rows):
            gates[hidden + i] = gates[i]
            gates[i] = 0
    add_affine_transposed(weight_hh, bias_hh, before[:hidden], gates)
    if cell == GRU:
        forward_gru(before, after, gates)
    elif cell == LSTM:
        forward_lstm(before, after, gates)
    else:
        zero = gates.dtype.type(0)
        if cell == RNN_RELU:
            for i in range(hidden):
                gates[i] = max(gates[i], zero)
        else:
            tanh(gates)
        for i in range(hidden):
            after[i] = gates[i]


@inlined
def forward_gru(before: Floats, after: Floats, gates: Floats) -> None:
    """Finish a GRU step: gates (4H,) holds the pre-activations r, z, q and what the input says of n."""
    hidden = before.size
    sigmoid(gates[: 2 * hidden])
    for i in range(hidden):
        gates[3 * hidden + i] += gates[i] * gates[2 * hidden + i]
    tanh(gates[3 * hidden :])
    for i in range(hidden):
        n = gates[3 * hidden + i]
        after[i] = n + gates[hidden + i] * (before[i] - n)


@inlined
def forward_lstm(before: Floats, after: Floats, gates: Floats) -> None:
    """Finish an LSTM step: gates (4H,) holds all pre-activations; before and after (2H,) are h and c."""
    hidden = gates.size // 4
    sigmoid(gates[: 2 * hidden])
    tanh(gates[2 * hidden : 3 * hidden])
    sigmoid(gates[3 * hidden :])
    for i in range(hidden):
        c = gates[hidden + i] * before[hidden + i] + gates[i] * gates[2 * hidden + i]
        after[hidden + i] = c
        after[i] = c
    tanh(after[:hidden])
    for i in range(hidden):
        after[i] *= gates[3 * hidden + i]


@jit
def backward(cell: int, weights: Layer, before: Floats, after: Floats, gates: Floats, d_state: Floats) -> None:
    """Backward of one timestep of one layer.

    d_state (S,): in, the loss gradient by `after`; out, by `before`. `gates` is replaced by the gradients by the
    pre-activations, of which `backward_input` makes that by x, and `backward_weights` those of a window.
    """
    _, weight_hh, _, _ = weights
    hidden = weight_hh.shape[0]
    if cell == GRU:
        backward_gru(before, gates, d_state)
    elif cell == LSTM:
        backward_lstm(before, after, gates, d_state)
    else:
        one = gates.dtype.type(1)
        for i in range(hidden):
            a = gates[i]
            slope = one - a * a if cell != RNN_RELU else one if a > 0 else one - one
            gates[i] = d_state[i] * slope
            d_state[i] = 0
    add_product(weight_hh, gates, d_state)


@jit
def backward_input(cell: int, weights: Layer, gates: Floats, d_x: Floats) -> None:
    """Write d_x (I,), the loss gradient by the input of a step, after `backward`."""
    weight_ih, weight_hh, _, _ = weights
    hidden, rows = weight_hh.shape
    same = rows - hidden if cell == GRU else rows
    d_x[:] = 0
    add_part(weight_ih, START, same, gates, START, d_x)
    if cell == GRU:
        add_part(weight_ih, same, hidden, gates, rows, d_x)


@jit
def backward_weights(
    shape: Ints, grads: Layer, layer: int, xs: Floats, states: Floats, gates: Floats, steps: int
) -> None:
    """Add the gradient of one layer over a window to `grads`, views laid out as weights.

    xs (T, I), states (T+1, L, S) and gates (T, L, A), as `backward` left them.
    """
    grad_weight_ih, grad_weight_hh, grad_bias_ih, grad_bias_hh = grads
    hidden, rows = grad_weight_hh.shape
    _, layers, width = states.shape
    hs, h, step = states.ravel(), layer * width, layers * width
    ds, d, d_step = gates.ravel(), layer * gates.shape[2], layers * gates.shape[2]
    add_outers(hs, h, step, ds, d, d_step, steps, grad_weight_hh, START, rows)
    add_sums(ds, d, d_step, steps, grad_bias_hh)
    # The input sees the same gradients, but for the last block of a GRU, where the reset gate stands between.
    same = rows - hidden if shape[CELL] == GRU else rows
    add_sums(ds, d, d_step, steps, grad_bias_ih[:same])
    if shape[CELL] == GRU:
        add_sums(ds, d + rows, d_step, steps, grad_bias_ih[same:])
    if layer == 0 and shape[ONE_HOT] == 1:
        for t in range(steps):
            column = int(xs[t, 0])
            for i in range(rows):
                grad_weight_ih[column, i] += gates[t, 0, i if i < same else hidden + i]
        return
    if layer == 0:
        inputs, x, x_step = xs.ravel(), 0, xs.shape[1]
    else:
        inputs, x, x_step = hs, h - width + step, step
    add_outers(inputs, x, x_step, ds, d, d_step, steps, grad_weight_ih, START, same)
    if shape[CELL] == GRU:
        add_outers(inputs, x, x_step, ds, d + rows, d_step, steps, grad_weight_ih, same, hidden)


@inlined
def backward_gru(before: Floats, gates: Floats, d_state: Floats) -> None:
    """Turn gates (4H,) into gradients by the pre-activations; d_state (H,) keeps what goes past them."""
    hidden = before.size
    one = gates.dtype.type(1)
    for i in range(hidden):
        r, z, q, n = gates[i], gates[hidden + i], gates[2 * hidden + i], gates[3 * hidden + i]
        d = d_state[i]
        d_n = d * (one - z) * (one - n * n)
        gates[i] = d_n * q * r * (one - r)
        gates[hidden + i] = d * (before[i] - n) * z * (one - z)
        gates[2 * hidden + i] = d_n * r
        gates[3 * hidden + i] = d_n
        d_state[i] = d * z


@inlined
def backward_lstm(before: Floats, after: Floats, gates: Floats, d_state: Floats) -> None:
    """Turn gates (4H,) into gradients by the pre-activations; d_state (2H,) keeps what goes past them."""
    hidden = gates.size // 4
    one = gates.dtype.type(1)
    tanh_c = after[hidden:].copy()
    tanh(tanh_c)
    for i in range(hidden):
        i_gate, f, g, o = gates[i], gates[hidden + i], gates[2 * hidden + i], gates[3 * hidden + i]
        d = d_state[i]
        d_c = d_state[hidden + i] + d * o * (one - tanh_c[i] * tanh_c[i])
        gates[i] = d_c * g * i_gate * (one - i_gate)
        gates[hidden + i] = d_c * before[hidden + i] * f * (one - f)
        gates[2 * hidden + i] = d_c * i_gate * (one - g * g)
        gates[3 * hidden + i] = d * tanh_c[i] * o * (one - o)
        d_state[i] = 0
        d_state[hidden + i] = d_c * f
