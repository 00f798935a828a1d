"""The cells against torch: outputs, states and gradients for the same weights, from committed vectors."""

from pathlib import Path

import numpy as np
import pytest
from references import tape

from streamrnn.kernels import params, sequence
from streamrnn.learn.network import Network

HIDDEN = 12
VECTORS = Path(__file__).parent / "vectors"
CASES = [(cell, layers) for cell in ("rnn_tanh", "rnn_relu", "gru", "lstm") for layers in (1, 2)]
each_case = pytest.mark.parametrize(("cell", "layers"), CASES)
each_precision = pytest.mark.parametrize("kind", [np.float32, np.float64])


def load(cell, layers, kind):
    """The vectors of a cell, and a network of its weights whose head hands h through."""
    with np.load(VECTORS / f"{cell}_{layers}.npz") as file:
        vectors = dict(file)
    network = Network(cell, 5, HIDDEN, HIDDEN, layers, "linear", dtype=kind)
    for name, view in network.parameters.items():
        if name in vectors:
            view[:] = vectors[name]
    network.parameters["readout.weight"][:] = np.eye(HIDDEN)
    network.parameters["readout.bias"][:] = 0
    return vectors, network


def states_of(vectors, suffix):
    """A state in our layout, (layers, S): h, and behind it the c of an LSTM."""
    parts = [vectors[f"{kind}{suffix}"] for kind in ("state_h", "state_c") if f"{kind}{suffix}" in vectors]
    return np.concatenate(parts, axis=1)


def window_start(vectors):
    return np.concatenate([vectors[name] for name in ("g_h0", "g_c0") if name in vectors], axis=1)


@each_case
def test_a_thousand_steps_in_float32_stay_as_close_to_torch_as_rounding_allows(cell, layers):
    vectors, network = load(cell, layers, np.float32)
    # Outputs of rnn_relu are not bounded by 1: there the bound is relative to the largest of them.
    bound = 2e-6 * max(1.0, np.abs(vectors["y"]).max())

    outputs = [network.step(x) for x in vectors["x"]]

    np.testing.assert_allclose(outputs, vectors["y"], rtol=0, atol=bound)
    np.testing.assert_allclose(outputs, vectors["y64"], rtol=0, atol=bound)
    np.testing.assert_allclose(network.state[-1, :HIDDEN], outputs[-1], rtol=0, atol=0)
    np.testing.assert_allclose(network.state, states_of(vectors, ""), rtol=0, atol=bound)
    np.testing.assert_allclose(network.state, states_of(vectors, "64"), rtol=0, atol=bound)


@each_case
def test_a_thousand_steps_in_float64_are_those_of_torch(cell, layers):
    vectors, network = load(cell, layers, np.float64)

    outputs = [network.step(x) for x in vectors["x"]]

    np.testing.assert_allclose(outputs, vectors["y64"], rtol=0, atol=1e-13)
    np.testing.assert_allclose(network.state, states_of(vectors, "64"), rtol=0, atol=1e-13)


@each_case
@each_precision
def test_back_propagation_gives_the_gradients_of_torch(cell, layers, kind):
    vectors, network = load(cell, layers, kind)
    xs, d_ys = vectors["g_x"].astype(kind), vectors["g_dy"].astype(kind)
    states, gates, ys, _, d_state = tape(network, len(xs))
    states[0] = window_start(vectors)
    grad = np.zeros_like(network.theta)

    sequence.unroll(network.shape, network.theta, xs, states, gates, ys)
    sequence.bptt(network.shape, network.theta, grad, xs, states, gates, d_ys, d_state)

    largest = max(1.0, np.abs(vectors["g_y64"]).max())
    np.testing.assert_allclose(ys, vectors["g_y64"], rtol=0, atol=(2e-6 if kind is np.float32 else 1e-13) * largest)
    found = params.views(network.shape, grad)
    expected = {name.removeprefix("grad_"): value for name, value in vectors.items() if name.startswith("grad_")}
    assert expected.keys() == {name for name in found if not name.startswith("readout")}
    for name, value in expected.items():
        bound = (1e-5 if kind is np.float32 else 1e-12) * np.abs(value).max()
        np.testing.assert_allclose(found[name], value, rtol=0, atol=bound, err_msg=name)
