"""Network: cell layers and a head over one flat parameter vector, with a state carried from call to call."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from streamrnn.errors import UsageError
from streamrnn.kernels import params, sequence
from streamrnn.kernels.params import CELLS, GRU, HEADS, LAPLACE, LINEAR, LRU, LSTM, RNN_RELU
from streamrnn.kernels.types import Floats


class Network:
    """A recurrent network that is stepped one event at a time.

    Parameters
    ----------
    cell
        ``rnn_tanh``, ``rnn_relu``, ``gru`` or ``lstm``; gates, names and layouts are those of torch. Or ``lru``,
        one layer of `hidden` complex linear units read by as many tanh units, see `streamrnn.kernels.lru`.
    inputs, hidden, outputs, layers
        Sizes. A Laplace head gives a location and a log-scale for each of `outputs`.
    head
        ``linear``, ``laplace`` or ``softmax``.
    one_hot
        An input is the number of a symbol (1,) instead of a vector (inputs,).
    seed
        Of the initial weights: the same seed gives the same network.
    dtype
        float32 to run; float64 to check gradients.

    Examples
    --------
    >>> net = Network(cell="rnn_tanh", inputs=3, hidden=16, outputs=1)
    >>> y = net.step([0.1, -0.2, 0.3])
    >>> y.shape, net.state.shape
    ((1,), (1, 16))
    >>> net.reset()
    >>> float(net.state.sum())
    0.0
    """

    SAVED: ClassVar[tuple[str, ...]] = ("theta",)

    def __init__(
        self,
        cell: str = "gru",
        inputs: int = 1,
        hidden: int = 32,
        outputs: int = 1,
        layers: int = 1,
        head: str = "linear",
        one_hot: bool = False,
        seed: int = 0,
        dtype: DTypeLike = np.float32,
    ) -> None:
        if cell not in CELLS:
            raise UsageError(f"cell: expected one of {', '.join(CELLS)}, got {cell!r}")
        if head not in HEADS:
            raise UsageError(f"head: expected one of {', '.join(HEADS)}, got {head!r}")
        if one_hot and head == "laplace":
            raise UsageError("head: a Laplace head needs vectors as inputs, not symbols")
        for name, size in (("inputs", inputs), ("hidden", hidden), ("outputs", outputs), ("layers", layers)):
            if size < 1:
                raise UsageError(f"{name}: expected a whole number >= 1, got {size!r}")
        if cell == "lru" and layers > 1:
            raise UsageError(f"layers: an lru has one layer, got {layers!r}")
        if cell == "lru" and one_hot:
            raise UsageError("cell: an lru needs vectors as inputs, not symbols")
        self.shape = params.describe(cell, inputs, hidden, layers, head, outputs, one_hot)
        self.theta: Floats = np.zeros(int(params.size(self.shape)), dtype)
        self.state = self.blank_state()
        self._x: Floats = np.zeros(1 if one_hot else inputs, dtype)
        self._gates: Floats = np.zeros((layers, int(params.gates_width(self.shape))), dtype)
        self._initialise(np.random.default_rng(seed))

    @property
    def parameters(self) -> dict[str, Floats]:
        """Named views of theta, see `streamrnn.kernels.params.views`: writing to them changes the network."""
        return params.views(self.shape, self.theta)

    @property
    def width(self) -> int:
        """Numbers a step gives: outputs, or twice as many with a Laplace head."""
        return int(params.output_width(self.shape))

    @property
    def hidden(self) -> int:
        """Units that the head reads: the first of the last layer's state."""
        return int(self.shape[params.HIDDEN])

    def blank_state(self) -> Floats:
        """Return a state before the first event: (layers, S) zeros, S = hidden, for lstm 2 hidden (h, then c).

        The state of an lru has its traces as well, `streamrnn.kernels.params.state_views`.
        """
        layers = int(self.shape[params.LAYERS])
        return np.zeros((layers, int(params.state_width(self.shape))), self.theta.dtype)

    def reset(self) -> None:
        """Forget what was seen: the state goes back to zeros, the weights stay."""
        self.state[:] = 0

    def step(self, x: ArrayLike) -> NDArray[np.floating]:
        """Take one event x (inputs,), or (1,) a symbol's number; return the outputs (width,) for it."""
        given = np.asarray(x, self.theta.dtype)
        if given.shape != self._x.shape:
            raise UsageError(f"x: expected shape {self._x.shape}, got {given.shape}")
        inputs = int(self.shape[params.INPUTS])
        if self.shape[params.ONE_HOT] and not 0 <= given[0] < inputs:  # it is a place in memory
            raise UsageError(f"x: expected the number of a symbol, 0 to {inputs - 1}, got {given[0]:g}")
        self._x[:] = given
        y: Floats = np.empty(self.width, self.theta.dtype)
        self.advance(self.state, self._x, y)
        return y

    def advance(self, state: Floats, x: Floats, y: Floats) -> None:
        """Step a state that is kept elsewhere: state (layers, S) and y (at most width,) are written in place.

        A softmax head answers over the first ``y.size`` symbols.
        """
        sequence.step(self.shape, self.theta, state, x, self._gates, y)

    def _initialise(self, rng: np.random.Generator) -> None:
        """Orthogonal recurrences (Saxe et al. 2014), a keep gate that starts open (Jozefowicz et al. 2015)."""
        cell, inputs, hidden, layers, head, _, one_hot = (int(number) for number in self.shape)
        shrink = 0.9 if cell == RNN_RELU else 0.7 if one_hot else 1.0
        names = self.parameters
        if cell == LRU:
            self._initialise_lru(rng)
            layers = 0
        for layer in range(layers):
            weight_ih, weight_hh = names[f"weight_ih_l{layer}"], names[f"weight_hh_l{layer}"]
            fan_in = inputs if layer == 0 else hidden
            spread = 0.3 if one_hot and layer == 0 else 1.0 / np.sqrt(fan_in)
            weight_ih[:] = rng.normal(0.0, spread, weight_ih.shape)
            for gate in range(0, weight_hh.shape[0], hidden):
                square, _ = np.linalg.qr(rng.normal(size=(hidden, hidden)))
                weight_hh[gate : gate + hidden] = shrink * square
            if cell in (GRU, LSTM):  # z of the GRU, f of the LSTM: the gate that keeps the state
                names[f"bias_ih_l{layer}"][hidden : 2 * hidden] = 1.0
        if head == LINEAR:
            names["readout.weight"][:] = rng.normal(0.0, 1.0 / np.sqrt(hidden), names["readout.weight"].shape)
        elif head == LAPLACE:
            names["readout.bias"][self.width // 2 :] = -1.0

    def _initialise_lru(self, rng: np.random.Generator) -> None:
        """|lambda| even over the area of the ring 0.9 to 0.999, angles of either kind, Orvieto et al. 2023."""
        names = self.parameters
        hidden, inputs = names["input.real"].shape
        modulus = np.sqrt(rng.uniform(0.9**2, 0.999**2, hidden))
        names["nu"][:] = np.log(-np.log(modulus))
        names["phase"][:] = np.log(rng.uniform(1e-4, np.pi, hidden))
        for name, variance in (("input.real", 0.5), ("input.imag", 0.5)):
            names[name][:] = rng.normal(0.0, np.sqrt(variance / inputs), names[name].shape)
        names["gate.bias"][:] = 1.0
        mix = names["mix.weight"]
        mix[:] = rng.normal(0.0, 1.0 / np.sqrt(mix.shape[1]), mix.shape)
