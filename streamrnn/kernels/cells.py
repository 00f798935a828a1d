"""The recurrences h_t = f(h_{t-1}, x_t), forward and backward side by side.

Gate order, both biases and the reset-after form of the GRU are those of torch.nn.RNN, GRU and LSTM. In every
function `weights` is the tuple of views that `params.layer_views` gives, H the hidden size and G the gates:

    rnn    h = act(W_ih x + b_ih + W_hh h' + b_hh)                      act: tanh or max(., 0)
    gru    r, z = sigmoid(...);  q = W_hn h' + b_hn;  n = tanh(W_in x + b_in + r q);  h = (1 - z) n + z h'
    lstm   i, f, o = sigmoid(...);  g = tanh(...);  c = f c' + i g;  h = o tanh(c)

`gates` (A,) is what a forward leaves for its backward: the activation of an Elman cell (H), r, z, n, q of a
GRU (4H), i, f, g, o of an LSTM (4H). Backward replaces it by the gradients by the pre-activations: r, z, n as
the input sees them and, in the place of q, n as the state sees it.
"""

from __future__ import annotations

from streamrnn.kernels.jit import inlined, jit
from streamrnn.kernels.params import GRU, LSTM, RNN_RELU
from streamrnn.kernels.products import (
    add,
    add_affine,
    add_outer,
    add_outers,
    add_transposed,
    affine,
    affine_column,
    sigmoid,
    tanh,
)
from streamrnn.kernels.types import Floats, Layer


@jit
def forward(
    cell: int, weights: Layer, x: Floats, one_hot: bool, before: Floats, after: Floats, gates: Floats
) -> None:
    """One timestep of one layer.

    x (I,), or the number of the symbol (1,) for one_hot; before (S,) is the state at t-1; writes after (S,)
    and gates (A,). `after` may be `before`: it is written when all of the state has been read.
    """
    weight_ih, weight_hh, bias_ih, bias_hh = weights
    rows = weight_hh.shape[0]
    hidden = weight_hh.shape[1]
    h = before[:hidden]
    if one_hot:
        affine_column(weight_ih, bias_ih, int(x[0]), gates[:rows])
    else:
        affine(weight_ih, bias_ih, x, gates[:rows])
    if cell == GRU:
        forward_gru(weight_hh, bias_hh, before, after, gates)
        return
    add_affine(weight_hh, bias_hh, h, gates)
    if cell == LSTM:
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
def forward_gru(weight_hh: Floats, bias_hh: Floats, before: Floats, after: Floats, gates: Floats) -> None:
    """Finish a GRU step: gates (4H,) holds W_ih x + b_ih in its first 3H."""
    hidden = before.size
    two = 2 * hidden
    add_affine(weight_hh[:two], bias_hh[:two], before, gates)
    affine(weight_hh[two:], bias_hh[two:], before, gates[3 * hidden :])
    sigmoid(gates[:two])
    for i in range(hidden):
        gates[two + i] += gates[i] * gates[3 * hidden + i]
    tanh(gates[two : 3 * hidden])
    for i in range(hidden):
        n = gates[two + i]
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
def backward(
    cell: int,
    weights: Layer,
    grads: Layer,
    x: Floats,
    one_hot: bool,
    before: Floats,
    after: Floats,
    gates: Floats,
    d_state: Floats,
    d_x: Floats,
) -> None:
    """Backward of one timestep of one layer.

    d_state (S,): in, the loss gradient by `after`; out, by `before`. d_x (I,): out, by x; empty when nobody
    asks. Adds to `grads`, views laid out as `weights`, all but that of W_hh: `backward_recurrence` makes it of the
    gradients by the pre-activations, which replace `gates`.
    """
    weight_ih, weight_hh, _, _ = weights
    grad_weight_ih, _, grad_bias_ih, grad_bias_hh = grads
    rows = weight_hh.shape[0]
    hidden = weight_hh.shape[1]
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

    d_input = gates[:rows]
    add(d_input, grad_bias_ih)
    if one_hot:
        column = int(x[0])
        for i in range(rows):
            grad_weight_ih[i, column] += d_input[i]
    else:
        add_outer(d_input, x, grad_weight_ih)
    if d_x.size:
        d_x[:] = 0
        add_transposed(weight_ih, d_input, d_x)
    # The state sees the same gradients, but for the last block of a GRU, where the reset gate stands between.
    same = rows - hidden if cell == GRU else rows
    add(gates[:same], grad_bias_hh[:same])
    add_transposed(weight_hh[:same], gates[:same], d_state)
    if cell == GRU:
        add(gates[rows:], grad_bias_hh[same:])
        add_transposed(weight_hh[same:], gates[rows:], d_state)


@inlined
def backward_recurrence(
    cell: int, grad_weight_hh: Floats, states: Floats, gates: Floats, layer: int, steps: int
) -> None:
    """Add the gradient by W_hh of a window: states (T+1, L, S) and gates (T, L, A) after `backward`."""
    rows, hidden = grad_weight_hh.shape
    same = rows - hidden if cell == GRU else rows
    add_outers(gates, 0, states, layer, steps, grad_weight_hh[:same])
    if cell == GRU:
        add_outers(gates, rows, states, layer, steps, grad_weight_hh[same:])


@inlined
def backward_gru(before: Floats, gates: Floats, d_state: Floats) -> None:
    """Turn gates (4H,) into gradients by the pre-activations; d_state (H,) keeps what goes past them."""
    hidden = before.size
    one = gates.dtype.type(1)
    for i in range(hidden):
        r, z, n, q = gates[i], gates[hidden + i], gates[2 * hidden + i], gates[3 * hidden + i]
        d = d_state[i]
        d_n = d * (one - z) * (one - n * n)
        gates[i] = d_n * q * r * (one - r)
        gates[hidden + i] = d * (before[i] - n) * z * (one - z)
        gates[2 * hidden + i] = d_n
        gates[3 * hidden + i] = d_n * r
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
