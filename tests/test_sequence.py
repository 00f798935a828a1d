"""One forward pass under every name: step, unroll, windows in parts; one-hot inputs; clip and Adam."""

import numpy as np
import pytest
import references
from references import tape

from streamrnn.errors import UsageError
from streamrnn.kernels import optim, params, sequence
from streamrnn.learn.network import Network

STEPS = 12
HEADS = ("linear", "laplace", "softmax")

each_cell = pytest.mark.parametrize("cell", ["rnn_tanh", "rnn_relu", "gru", "lstm"])
each_depth = pytest.mark.parametrize("layers", [1, 2, 3])
each_precision = pytest.mark.parametrize("kind", [np.float32, np.float64])
each_size = pytest.mark.parametrize("hidden", [1, 3, 16, 33, 128])


def network_and_inputs(cell, hidden, layers, kind, head="linear", one_hot=False, inputs=5):
    """A network with random parameters everywhere, a state to begin in, and what it is shown."""
    rng = np.random.default_rng([hidden, layers])
    network = Network(cell, inputs, hidden, 4, layers, head, one_hot, seed=3, dtype=kind)
    network.theta[:] += rng.normal(0.0, 0.1, network.theta.size)
    start = rng.normal(0.0, 0.5, network.state.shape).astype(kind)
    shown = rng.integers(0, inputs, (STEPS, 1)) if one_hot else rng.normal(0.0, 1.0, (STEPS, inputs))
    return network, start, shown.astype(kind)


def stepped(network, start, xs):
    """Outputs and states of a loop of `step`."""
    network.state[:] = start
    outputs, states = [], [network.state.copy()]
    for x in xs:
        outputs.append(network.step(x))
        states.append(network.state.copy())
    return np.array(outputs), np.array(states)


@each_cell
@each_depth
@each_precision
@each_size
def test_unroll_is_a_loop_of_step_to_the_last_bit(cell, layers, kind, hidden):
    for head, one_hot in (("linear", False), ("laplace", False), ("softmax", False), ("softmax", True)):
        network, start, xs = network_and_inputs(cell, hidden, layers, kind, head, one_hot)
        states, gates, ys, _, _ = tape(network, STEPS)
        states[0] = start

        sequence.unroll(network.shape, network.theta, xs, states, gates, ys)

        expected_ys, expected_states = stepped(network, start, xs)
        np.testing.assert_array_equal(states, expected_states)
        np.testing.assert_array_equal(ys, expected_ys)


@each_cell
@each_depth
@each_precision
def test_a_window_in_two_parts_is_the_window_in_one(cell, layers, kind):
    network, start, xs = network_and_inputs(cell, 7, layers, kind, "laplace")
    states, gates, ys, _, _ = tape(network, STEPS)
    states[0] = start
    sequence.unroll(network.shape, network.theta, xs, states, gates, ys)

    for cut in (0, 1, 5, STEPS):
        first, second = tape(network, cut), tape(network, STEPS - cut)
        first[0][0] = start
        sequence.unroll(network.shape, network.theta, xs[:cut], *first[:3])
        second[0][0] = first[0][cut]
        sequence.unroll(network.shape, network.theta, xs[cut:], *second[:3])

        np.testing.assert_array_equal(np.concatenate([first[0][:-1], second[0]]), states)
        np.testing.assert_array_equal(np.concatenate([first[1], second[1]]), gates)
        np.testing.assert_array_equal(np.concatenate([first[2], second[2]]), ys)


@each_cell
@each_depth
@each_precision
def test_a_state_may_be_written_over_itself(cell, layers, kind):
    network, start, xs = network_and_inputs(cell, 33, layers, kind)
    _, gates, _, _, _ = tape(network, 1)
    before, after, same = start.copy(), np.full_like(start, np.nan), start.copy()

    for x in xs:
        sequence.advance(network.shape, network.theta, x, before, after, gates[0])
        sequence.advance(network.shape, network.theta, x, same, same, gates[0])

        np.testing.assert_array_equal(same, after)
        before[:] = after


@each_cell
@each_depth
@each_precision
def test_the_number_of_a_symbol_stands_for_its_one_hot_vector(cell, layers, kind):
    network, start, numbers = network_and_inputs(cell, 9, layers, kind, "softmax", one_hot=True)
    dense = Network(cell, 5, 9, 4, layers, "softmax", dtype=kind)
    dense.theta[:] = network.theta

    ys, states = stepped(network, start, numbers)
    expected_ys, expected_states = stepped(dense, start, np.eye(5)[numbers[:, 0].astype(int)])

    bound = 2e-6 if kind is np.float32 else 1e-14
    np.testing.assert_allclose(states, expected_states, rtol=0, atol=bound)
    np.testing.assert_allclose(ys, expected_ys, rtol=0, atol=bound)


@each_cell
@each_depth
def test_the_gradient_by_the_first_state_is_left_in_d_state(cell, layers):
    network, start, xs = network_and_inputs(cell, 3, layers, np.float64)
    d_ys = np.random.default_rng(1).normal(size=(STEPS, 4))

    def loss(begin):
        states, gates, ys, _, _ = tape(network, STEPS)
        states[0] = begin
        sequence.unroll(network.shape, network.theta, xs, states, gates, ys)
        return (d_ys * ys).sum(), states, gates

    _, states, gates = loss(start)
    _, _, _, _, d_state = tape(network, STEPS)
    sequence.bptt(network.shape, network.theta, np.zeros_like(network.theta), xs, states, gates, d_ys, d_state)

    for place in np.ndindex(*start.shape):
        nudge = np.zeros_like(start)
        nudge[place] = 1e-6
        slope = (loss(start + nudge)[0] - loss(start - nudge)[0]) / 2e-6
        np.testing.assert_allclose(d_state[place], slope, rtol=1e-6, atol=1e-8)


@each_cell
def test_a_window_without_steps_gives_no_gradient(cell):
    network, start, _ = network_and_inputs(cell, 3, 2, np.float64)
    states, gates, ys, d_ys, d_state = tape(network, 4)
    grad = np.full_like(network.theta, np.nan)
    batch = (np.zeros((1, 4, 5)), start[None], np.zeros((1, 4, 4)), np.ones((1, 4, 4)), np.zeros(1, np.int64))

    loss = sequence.gradient(network.shape, network.theta, grad, batch, (states, gates, ys, d_ys, d_state))

    assert loss == 0.0
    assert not grad.any()


@each_cell
def test_a_short_answer_is_over_the_first_symbols_only(cell):
    network, start, xs = network_and_inputs(cell, 6, 1, np.float64, "softmax")
    network.state[:] = start
    logits = Network(cell, 5, 6, 4, 1, "linear", dtype=np.float64)
    logits.theta[:] = network.theta
    logits.state[:] = start

    y = np.empty(3)
    network.advance(network.state, xs[0], y)

    powers = np.exp(logits.step(xs[0])[:3])
    np.testing.assert_allclose(y, powers / powers.sum(), rtol=1e-13)


@each_cell
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("layers", [1, 2])
def test_every_number_of_theta_has_exactly_one_name(cell, head, layers):
    network = Network(cell, 5, 3, 4, layers, head)
    network.theta[:] = np.arange(network.theta.size)

    named = np.concatenate([view.ravel("K") for view in network.parameters.values()])

    np.testing.assert_array_equal(named, network.theta)
    gates = {"rnn_tanh": 1, "rnn_relu": 1, "gru": 3, "lstm": 4}[cell]
    expected = {}
    for layer, inputs in enumerate([5, 3][:layers]):
        expected |= {
            f"weight_ih_l{layer}": (gates * 3, inputs),
            f"weight_hh_l{layer}": (gates * 3, 3),
            f"bias_ih_l{layer}": (gates * 3,),
            f"bias_hh_l{layer}": (gates * 3,),
        }
    width = 8 if head == "laplace" else 4
    expected |= {"readout.weight": (width, 3), "readout.bias": (width,)}
    if head == "laplace":
        expected["skip.weight"] = (4, 5)
    assert expected == {name: view.shape for name, view in network.parameters.items()}


def test_writing_to_a_named_view_changes_the_network():
    network = Network("gru", 2, 3, 1)
    before = network.step([1.0, 1.0])
    network.reset()

    network.parameters["readout.bias"][:] += 1.0

    np.testing.assert_allclose(network.step([1.0, 1.0]), before + 1.0, rtol=1e-6)


def test_the_same_seed_gives_the_same_network_and_another_seed_another():
    first, second, other = (Network("lstm", 2, 5, 1, 2, seed=seed) for seed in (4, 4, 5))

    np.testing.assert_array_equal(first.theta, second.theta)
    assert not np.array_equal(first.theta, other.theta)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"cell": "grue"}, "cell: expected one of rnn_tanh, rnn_relu, gru, lstm, lru, got 'grue'"),
        ({"head": "none"}, "head: expected one of linear, laplace, softmax, got 'none'"),
        ({"hidden": 0}, "hidden: expected a whole number >= 1, got 0"),
        ({"layers": -1}, "layers: expected a whole number >= 1, got -1"),
    ],
)
def test_a_network_that_cannot_be_is_refused_with_the_reason(wrong, message):
    with pytest.raises(UsageError, match=f"^{message}$"):
        Network(**wrong)


@pytest.mark.parametrize("x", [[1.0], [[1.0, 2.0]], 1.0, [1.0, 2.0, 3.0]])
def test_an_input_of_another_shape_is_refused(x):
    with pytest.raises(UsageError, match=r"x: expected shape \(2,\), got"):
        Network("gru", 2, 3, 1).step(x)


@pytest.mark.parametrize("number", [-1, 5, 1000, float("nan")])
def test_a_symbol_beyond_the_inputs_is_refused(number):
    with pytest.raises(UsageError):
        Network("gru", 5, 3, 5, 1, "softmax", one_hot=True).step([number])


def test_a_laplace_head_over_symbols_is_refused_as_it_has_no_vector_to_skip_from():
    with pytest.raises(UsageError):
        Network("gru", 5, 3, 1, 1, "laplace", one_hot=True)


@each_precision
@pytest.mark.parametrize("size", [0, 1, 7, 1000])
def test_a_gradient_beyond_the_limit_is_scaled_to_it(kind, size):
    grad = np.random.default_rng(size).normal(0.0, 3.0, size).astype(kind)
    norm = np.linalg.norm(grad.astype(np.float64))
    expected = grad * min(1.0, 0.5 / norm) if size else grad

    found = grad.copy()
    given = optim.clip(found, 0.5)

    np.testing.assert_allclose(given, norm, rtol=1e-5)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@each_precision
def test_a_gradient_within_the_limit_stays_as_it_is(kind):
    grad = np.random.default_rng(0).normal(size=50).astype(kind)
    found = grad.copy()

    optim.clip(found, 100.0)

    np.testing.assert_array_equal(found, grad)


@each_precision
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_the_norm_of_a_gradient_that_is_not_finite_is_not_finite(kind, value):
    grad = np.ones(40, kind)
    grad[17] = value

    assert not np.isfinite(optim.clip(grad, 1.0))


@each_precision
@pytest.mark.parametrize("decay", [0.0, 0.02])
def test_adam_goes_where_the_formula_goes(kind, decay):
    rng = np.random.default_rng(2)
    theta = rng.normal(size=37).astype(kind)
    grads = (rng.normal(size=(60, 37)) * 10.0 ** rng.integers(-4, 3, 37)).astype(kind)
    expected = references.adam(theta.astype(np.float64), grads.astype(np.float64), 0.01, decay)

    mean, square = np.zeros_like(theta), np.zeros_like(theta)
    for count, grad in enumerate(grads, start=1):
        kept = grad.copy()
        optim.adam(theta, grad, mean, square, count, 0.01, decay)
        np.testing.assert_array_equal(grad, kept)

    assert theta.dtype == kind
    np.testing.assert_allclose(theta, expected, rtol=0, atol=2e-6 if kind is np.float32 else 1e-13)


def test_a_description_names_every_size():
    shape = params.describe("lstm", 2, 3, 4, "laplace", 5, one_hot=True)

    assert [3, 2, 3, 4, 1, 5, 1] == shape.tolist()
    assert 6 == params.state_width(shape)
    assert 12 == params.gates_width(shape)
    assert 10 == params.output_width(shape)
