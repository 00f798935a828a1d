"""One flat parameter vector theta, and the names in it.

A network is described to the kernels by `shape`, seven whole numbers; its parameters are one vector. Gradient,
Adam moments and checkpoint have the same layout, and the names are views by one function, `views`.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from streamrnn.kernels.jit import jit
from streamrnn.kernels.types import Floats, Ints, Layer

# Places in `shape`.
CELL: Final = 0
INPUTS: Final = 1
HIDDEN: Final = 2
LAYERS: Final = 3
HEAD: Final = 4
OUTPUTS: Final = 5
ONE_HOT: Final = 6  # 1: an input is the number of a symbol, standing for a one-hot vector

RNN_TANH: Final = 0
RNN_RELU: Final = 1
GRU: Final = 2
LSTM: Final = 3
LRU: Final = 4
CELLS: Final = {"rnn_tanh": RNN_TANH, "rnn_relu": RNN_RELU, "gru": GRU, "lstm": LSTM, "lru": LRU}

LINEAR: Final = 0
LAPLACE: Final = 1
SOFTMAX: Final = 2
HEADS: Final = {"linear": LINEAR, "laplace": LAPLACE, "softmax": SOFTMAX}


@jit
def gate_count(shape: Ints) -> int:
    """Blocks of H rows in a layer's weights: 1 Elman, 3 GRU (r, z, n), 4 LSTM (i, f, g, o), as torch."""
    return 4 if shape[CELL] == LSTM else 3 if shape[CELL] == GRU else 1


@jit
def feature_width(shape: Ints) -> int:
    """Numbers at the head of an LRU's state that its readout is made of: units and features."""
    return 3 * int(shape[HIDDEN]) + int(shape[INPUTS])


@jit
def state_width(shape: Ints) -> int:
    """Numbers of state in one layer: H; h and c for LSTM; for LRU see `state_views`."""
    hidden = int(shape[HIDDEN])
    if shape[CELL] == LRU:
        return feature_width(shape) + 6 * hidden * (int(shape[INPUTS]) + 1)
    return 2 * hidden if shape[CELL] == LSTM else hidden


@jit
def gates_width(shape: Ints) -> int:
    """Numbers a step leaves in one layer for its backward: gates, and for GRU the recurrent part of n."""
    hidden = int(shape[HIDDEN])
    if shape[CELL] == LRU:  # what its backward needs is in its state
        return 0
    return 4 * hidden if shape[CELL] >= GRU else hidden


@jit
def output_width(shape: Ints) -> int:
    """Numbers the head gives: a Laplace head has a location and a log-scale for each output."""
    outputs = int(shape[OUTPUTS])
    return 2 * outputs if shape[HEAD] == LAPLACE else outputs


@jit
def layer_offset(shape: Ints, layer: int) -> int:
    """Where the parameters of `layer` begin in theta; `layer` = number of layers is where the head begins."""
    hidden = int(shape[HIDDEN])
    if shape[CELL] == LRU:
        return layer * (recurrence_size(shape) + hidden * (2 * hidden + int(shape[INPUTS]) + 1))
    rows = gate_count(shape) * hidden
    first = rows * (int(shape[INPUTS]) + hidden + 2)
    later = rows * (2 * hidden + 2)
    return 0 if layer == 0 else first + (layer - 1) * later


@jit
def layer_views(shape: Ints, theta: Floats, layer: int) -> Layer:
    """Views of one layer in theta: W_ih (I, G*H) and W_hh (H, G*H), both transposed, b_ih (G*H), b_hh (G*H).

    A number of the input, or the symbol it stands for, has its weights side by side; so has one of the state.
    """
    hidden = shape[HIDDEN]
    inputs = shape[INPUTS] if layer == 0 else hidden
    rows = gate_count(shape) * hidden
    a = layer_offset(shape, layer)
    b = a + rows * inputs
    c = b + rows * hidden
    d = c + rows
    return (
        theta[a:b].reshape(inputs, rows),
        theta[b:c].reshape(hidden, rows),
        theta[c:d],
        theta[d : d + rows],
    )


@jit
def recurrence_size(shape: Ints) -> int:
    """Numbers at the head of an LRU's theta that make its h: all of `recurrence_views`."""
    return int(shape[HIDDEN]) * (4 * int(shape[INPUTS]) + 3)


@jit
def recurrence_views(shape: Ints, theta: Floats) -> tuple[Floats, Floats, Floats]:
    """Views Im B (H, I), own (H, 3 I + 2) and phase (H) of an LRU in theta.

    A row of `own` is what a unit has as the traces have it: Re B (I), the forget gate's weights (I) and bias nu,
    the input gate's weights (I) and bias.
    """
    hidden = shape[HIDDEN]
    inputs = shape[INPUTS]
    width = 3 * inputs + 2
    a = hidden * inputs
    b = a + hidden * width
    return theta[:a].reshape(hidden, inputs), theta[a:b].reshape(hidden, width), theta[b : b + hidden]


@jit
def mix_views(shape: Ints, theta: Floats) -> tuple[Floats, Floats]:
    """Views W (H, 2H + I) and b (H) of an LRU in theta."""
    hidden = shape[HIDDEN]
    width = 2 * hidden + shape[INPUTS]
    a = recurrence_size(shape)
    b = a + hidden * width
    return theta[a:b].reshape(hidden, width), theta[b : b + hidden]


@jit
def state_views(shape: Ints, state: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Views of the state (S,) of an LRU: what the readout is made of, and the traces.

    units (H); features [Re h, Im h, x] (2H + I); real and imaginary part (H, 3 I + 3) of the derivative of h by
    the rows of `own` and, last, by phase.
    """
    hidden = shape[HIDDEN]
    width = 3 * shape[INPUTS] + 3
    a = feature_width(shape)
    b = a + hidden * width
    c = b + hidden * width
    return state[:hidden], state[hidden:a], state[a:b].reshape(hidden, width), state[b:c].reshape(hidden, width)


@jit
def head_views(shape: Ints, theta: Floats) -> tuple[Floats, Floats, Floats]:
    """Views weight (Y, H), bias (Y), skip (N, I) of the head; skip has no rows but for a Laplace head."""
    hidden = shape[HIDDEN]
    width = output_width(shape)
    skips = shape[OUTPUTS] if shape[HEAD] == LAPLACE else 0
    a = layer_offset(shape, shape[LAYERS])
    b = a + width * hidden
    c = b + width
    d = c + skips * shape[INPUTS]
    return theta[a:b].reshape(width, hidden), theta[b:c], theta[c:d].reshape(skips, shape[INPUTS])


@jit
def size(shape: Ints) -> int:
    """Length of theta."""
    width = output_width(shape)
    skips = shape[OUTPUTS] if shape[HEAD] == LAPLACE else 0
    return layer_offset(shape, shape[LAYERS]) + width * (int(shape[HIDDEN]) + 1) + int(skips * shape[INPUTS])


def describe(
    cell: str, inputs: int, hidden: int, layers: int, head: str, outputs: int, one_hot: bool = False
) -> Ints:
    """Return `shape`, the description of a network that kernels take: (7,) int64."""
    return np.array([CELLS[cell], inputs, hidden, layers, HEADS[head], outputs, int(one_hot)], dtype=np.int64)


def views(shape: Ints, theta: Floats) -> dict[str, Floats]:
    """Name the parts of `theta` (or of anything laid out like it), torch's names for the recurrent layers.

    Returns
    -------
    dict
        ``weight_ih_l0`` (G*H, I), ``weight_hh_l0`` (G*H, H), ``bias_ih_l0`` (G*H), ``bias_hh_l0`` (G*H), the
        same for every further layer; of an LRU ``nu`` (H), ``phase`` (H), ``input.real``, ``input.imag``,
        ``forget.weight``, ``gate.weight`` (H, I), ``gate.bias`` (H), ``mix.weight`` (H, 2H + I), ``mix.bias`` (H).
        ``readout.weight`` (Y, H), ``readout.bias`` (Y) and,
        for a Laplace head, ``skip.weight`` (N, I). They are views: writing to them writes to `theta`.
    """
    names: dict[str, Floats] = {}
    if shape[CELL] == LRU:
        inputs = int(shape[INPUTS])
        names["input.imag"], own, names["phase"] = recurrence_views(shape, theta)
        names["input.real"] = own[:, :inputs]
        names["forget.weight"], names["nu"] = own[:, inputs : 2 * inputs], own[:, 2 * inputs]
        names["gate.weight"], names["gate.bias"] = own[:, 2 * inputs + 1 : -1], own[:, -1]
        names["mix.weight"], names["mix.bias"] = mix_views(shape, theta)
    for layer in range(0 if shape[CELL] == LRU else int(shape[LAYERS])):
        weight_ih, weight_hh, bias_ih, bias_hh = layer_views(shape, theta, layer)
        names |= {f"weight_ih_l{layer}": weight_ih.T, f"weight_hh_l{layer}": weight_hh.T}
        names |= {f"bias_ih_l{layer}": bias_ih, f"bias_hh_l{layer}": bias_hh}
    weight, bias, skip = head_views(shape, theta)
    names |= {"readout.weight": weight, "readout.bias": bias}
    if skip.size:
        names["skip.weight"] = skip
    return names
