"""Gradients against central differences of the loss, in float64, for every cell, head and parameter group."""

import numpy as np
import pytest
from references import tape

from streamrnn.kernels import heads, params, sequence
from streamrnn.learn.network import Network

INPUTS = 3
HIDDEN = 4
OUTPUTS = 2
SYMBOLS = 5
LENGTHS = (6, 1, 4)  # of windows with room for 6 steps
DISTANCE = 1e-6  # of the two points of a difference

each_cell = pytest.mark.parametrize("cell", ["rnn_tanh", "rnn_relu", "gru", "lstm"])
each_depth = pytest.mark.parametrize("layers", [1, 2])
each_head = pytest.mark.parametrize(
    ("head", "one_hot"), [("linear", False), ("laplace", False), ("softmax", False), ("softmax", True)]
)


def problem(cell, layers, head, one_hot, seed=1):
    """A network away from every kink, and a batch in which weights are masked and windows end early.

    What does not count is NaN: steps behind the end of a window, and targets of weight 0.
    """
    rng = np.random.default_rng(seed)
    inputs = SYMBOLS if one_hot else INPUTS
    outputs = SYMBOLS if head == "softmax" else OUTPUTS
    network = Network(cell, inputs, HIDDEN, outputs, layers, head, one_hot, dtype=np.float64)
    network.theta[:] = rng.normal(0.0, 0.5, network.theta.size)
    windows, length = len(LENGTHS), max(LENGTHS)
    if one_hot:
        xs = rng.integers(0, SYMBOLS, (windows, length, 1)).astype(np.float64)
    else:
        xs = rng.normal(0.0, 1.0, (windows, length, inputs))
    starts = rng.normal(0.0, 0.5, (windows, *network.state.shape))
    if head == "softmax":
        targets = rng.integers(0, SYMBOLS, (windows, length, 1)).astype(np.float64)
    else:
        targets = rng.normal(0.0, 1.0, (windows, length, OUTPUTS))
    weights = rng.uniform(0.5, 1.5, targets.shape) / sum(LENGTHS)
    weights[rng.random(targets.shape) < 0.25] = 0.0
    targets[weights == 0.0] = np.nan
    for r, n in enumerate(LENGTHS):
        xs[r, n:] = np.nan
        targets[r, n:] = np.nan
    return network, (xs, starts, targets, weights, np.array(LENGTHS))


def loss_and_gradient(network, batch, theta=None, width=None):
    grad = np.full_like(network.theta, np.nan)
    theta = network.theta if theta is None else theta
    loss = sequence.gradient(network.shape, theta, grad, batch, tape(network, max(LENGTHS), width))
    return loss, grad


def differences(network, batch, width=None):
    slopes = np.empty_like(network.theta)
    for i in range(network.theta.size):
        theta = network.theta.copy()
        theta[i] = network.theta[i] + DISTANCE
        above, _ = loss_and_gradient(network, batch, theta, width)
        theta[i] = network.theta[i] - DISTANCE
        below, _ = loss_and_gradient(network, batch, theta, width)
        slopes[i] = (above - below) / (2.0 * DISTANCE)
    return slopes


def assert_groups_close(network, actual, expected, bound=1e-6):
    groups = params.views(network.shape, actual)
    for name, slopes in params.views(network.shape, expected).items():
        largest = np.abs(slopes).max()
        assert largest > 1e-4, f"{name} has nothing to compare"
        np.testing.assert_allclose(groups[name], slopes, rtol=0, atol=bound * largest, err_msg=name)


@each_cell
@each_depth
@each_head
def test_gradient_of_every_group_is_the_slope_of_the_loss(cell, layers, head, one_hot):
    network, batch = problem(cell, layers, head, one_hot)

    loss, grad = loss_and_gradient(network, batch)

    assert np.isfinite(loss)
    assert_groups_close(network, grad, differences(network, batch))


@each_cell
def test_gradient_over_the_symbols_in_use_leaves_the_other_rows_of_the_head_alone(cell):
    network, batch = problem(cell, 1, "softmax", one_hot=True)
    batch[0][:] = np.minimum(batch[0], 2)
    batch[2][:] = np.minimum(batch[2], 2)

    _, grad = loss_and_gradient(network, batch, width=3)

    np.testing.assert_allclose(grad, differences(network, batch, width=3), rtol=0, atol=1e-8)
    readout = params.views(network.shape, grad)
    assert readout["readout.weight"][:3].any(axis=1).all()
    assert not readout["readout.weight"][3:].any()
    assert not readout["readout.bias"][3:].any()


@each_cell
@each_head
def test_gradient_of_a_batch_is_the_sum_over_its_windows(cell, head, one_hot):
    network, batch = problem(cell, 2, head, one_hot)

    loss, grad = loss_and_gradient(network, batch)
    parts = [loss_and_gradient(network, tuple(a[r : r + 1] for a in batch)) for r in range(len(LENGTHS))]

    np.testing.assert_allclose(loss, sum(part[0] for part in parts), rtol=1e-14)
    np.testing.assert_allclose(grad, sum(part[1] for part in parts), rtol=0, atol=1e-14)


@each_cell
def test_gradient_in_float32_is_that_in_float64_rounded(cell):
    network, batch = problem(cell, 2, "laplace", one_hot=False)
    single = Network(cell, INPUTS, HIDDEN, OUTPUTS, 2, "laplace", dtype=np.float32)
    single.theta[:] = network.theta

    rounded = tuple(a if a.dtype == np.int64 else a.astype(np.float32) for a in batch)
    loss, grad = loss_and_gradient(single, rounded)
    expected_loss, expected = loss_and_gradient(network, batch)

    assert grad.dtype == np.float32
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-5)
    assert_groups_close(network, grad.astype(np.float64), expected, bound=2e-5)


@each_head
def test_a_batch_in_which_nothing_is_known_has_no_loss_and_no_gradient(head, one_hot):
    network, batch = problem("gru", 2, head, one_hot)
    batch[2][:] = np.nan
    batch[3][:] = 0.0

    loss, grad = loss_and_gradient(network, batch)

    assert loss == 0.0
    assert not grad.any()


def laplace_loss(location, log_scale, target, weight=1.0):
    shape = params.describe("gru", 1, 1, 1, "laplace", 1)
    d_y = np.full(2, np.nan)
    loss = heads.loss(shape, np.array([location, log_scale]), np.array([target]), np.array([weight]), d_y)
    return loss, d_y[0], d_y[1]


@pytest.mark.parametrize(
    ("log_scale", "target", "way"),
    [
        (-5.0, 0.0, "in"),  # even without an error, as that is rounded to 0.01 > e^-5
        (-5.0, 3.0, "in"),
        (2.0, 30.0, "out"),  # error 30 e^-2 > 1: the scale wants to be larger still
        (2.0, 3.0, "in"),
    ],
)
def test_at_a_bound_of_the_log_scale_only_the_way_back_in_counts(log_scale, target, way):
    loss, _, slope = laplace_loss(0.0, log_scale, target)

    distance = np.sqrt(target**2 + 1e-4)
    np.testing.assert_allclose(loss, distance * np.exp(-log_scale) + log_scale, rtol=1e-14)
    expected = 0.0 if way == "out" else 1.0 - distance * np.exp(-log_scale)
    np.testing.assert_allclose(slope, expected, rtol=1e-14)


@pytest.mark.parametrize("log_scale", [-4.999, -1.0, 0.0, 1.999])
@pytest.mark.parametrize("target", [0.0, 1e-3, 0.5, -40.0])
def test_slopes_of_the_laplace_loss_between_the_bounds_are_its_differences(log_scale, target):
    _, by_location, by_log_scale = laplace_loss(0.0, log_scale, target, 0.7)

    def difference(i):
        up, down = np.zeros(2), np.zeros(2)
        up[i], down[i] = 1e-6, -1e-6
        above, _, _ = laplace_loss(up[0], log_scale + up[1], target, 0.7)
        below, _, _ = laplace_loss(down[0], log_scale + down[1], target, 0.7)
        return (above - below) / 2e-6

    np.testing.assert_allclose(by_location, difference(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(by_log_scale, difference(1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("bias", "expected"), [(-9.0, -5.0), (-5.0, -5.0), (0.25, 0.25), (2.0, 2.0), (7.0, 2.0)])
def test_the_log_scale_is_held_between_its_bounds(bias, expected):
    network = Network("gru", 1, 1, 1, 1, "laplace")
    network.parameters["readout.bias"][1] = bias

    assert expected == network.step([0.0])[1]


def test_the_location_is_held_by_no_bound():
    network = Network("gru", 1, 1, 1, 1, "laplace")
    network.parameters["readout.bias"][0] = -9.0

    assert network.step([0.0])[0] == -9.0


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_softmax_of_large_logits_does_not_overflow(kind):
    network = Network("gru", 1, 1, 3, 1, "softmax", dtype=kind)
    network.parameters["readout.bias"][:] = [1e4, 1e4, -1e4]

    np.testing.assert_allclose(network.step([0.0]), [0.5, 0.5, 0.0], rtol=1e-6, atol=0)


def test_the_loss_of_an_impossible_symbol_is_finite():
    shape = params.describe("gru", 1, 1, 1, "softmax", 2)
    d_y = np.zeros(2, np.float32)

    loss = heads.loss(shape, np.array([1, 0], np.float32), np.array([1.0]), np.array([1.0]), d_y)

    np.testing.assert_allclose(loss, -np.log(1e-30), rtol=1e-6)
    np.testing.assert_array_equal(d_y, [1.0, -1.0])
