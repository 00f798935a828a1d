"""The linear recurrent unit and learning in real time: forward, gradient, guards, and that it remembers."""

import math

import numpy as np
import pytest
import references_lru as reference

from streamrnn.errors import UsageError
from streamrnn.kernels import params
from streamrnn.learn.learner import Learner
from streamrnn.learn.network import Network
from streamrnn.learn.realtime import RealTimeLearner
from streamrnn.learn.window import Window

INPUTS = 3
HIDDEN = 4
EVENTS = 14
RECURRENCE = ("input.imag", "input.real", "forget.weight", "nu", "gate.weight", "gate.bias", "phase")
DISTANCE = 1e-6

each_head = pytest.mark.parametrize("head", ["linear", "laplace", "softmax"])


def network_of(head="laplace", outputs=2, seed=0, kind=np.float64):
    network = Network("lru", INPUTS, HIDDEN, outputs, 1, head, dtype=kind)
    network.theta[:] += np.random.default_rng(seed).normal(0.0, 0.3, network.theta.size)
    return network


def problem(head, horizons, seed=1):
    """A network, inputs, and what events show, some of it missing."""
    rng = np.random.default_rng(seed)
    fields = 1 if head == "softmax" else 2
    network = network_of(head, 5 if head == "softmax" else fields * len(horizons))
    xs = rng.normal(0.0, 1.0, (EVENTS, INPUTS))
    ys = rng.integers(0, 5, (EVENTS, 1)) * 1.0 if head == "softmax" else rng.normal(0.0, 1.0, (EVENTS, fields))
    ys[rng.random(ys.shape) < 0.2] = np.nan
    return network, xs, ys


def gradient(network, xs, ys, horizons):
    """Loss and gradient of all events, by their names, while the weights stay."""
    learner = RealTimeLearner(network, ys.shape[1], horizons, every=10**9)
    trail = learner.open_trail()
    network.reset()
    for x, y in zip(xs, ys, strict=True):
        learner.observe(trail, x, y, network.state)
        network.step(x)
    return learner._losses, params.views(network.shape, learner._grad)


def differences(network, kind, xs, ys, horizons, counted=None):
    """Slopes of the reference's loss, by their names."""
    slopes = np.empty_like(network.theta)
    for i in range(network.theta.size):
        kept = network.theta[i]
        losses = []
        for distance in (DISTANCE, -DISTANCE):
            network.theta[i] = kept + distance
            losses.append(reference.total_loss(network.parameters, kind, xs, ys, horizons, counted))
        network.theta[i] = kept
        slopes[i] = (losses[0] - losses[1]) / (2.0 * DISTANCE)
    return params.views(network.shape, slopes)


def assert_close(actual, expected, names):
    for name in names:
        largest = np.abs(expected[name]).max()
        assert largest > 1e-4, f"{name} has nothing to compare"
        np.testing.assert_allclose(actual[name], expected[name], rtol=0, atol=1e-6 * largest, err_msg=name)


@each_head
def test_steps_are_those_of_complex_numbers(head):
    network = network_of(head)
    xs = np.random.default_rng(2).normal(0.0, 1.0, (20, INPUTS))

    for x, (h, units, features) in zip(xs, reference.forward(network.parameters, xs), strict=True):
        y = network.step(x)

        expected = reference.head(network.parameters, head, units, x)
        np.testing.assert_allclose(y, expected, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(network.state[0, :HIDDEN], units, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(network.state[0, HIDDEN : 3 * HIDDEN + INPUTS], features, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(network.state[0, HIDDEN : 2 * HIDDEN], np.real(h), rtol=1e-10, atol=1e-12)


def test_in_float32_steps_are_those_in_float64_rounded():
    double, single = network_of(), network_of(kind=np.float32)
    single.theta[:] = double.theta

    for x in np.random.default_rng(3).normal(0.0, 1.0, (200, INPUTS)):
        expected = double.step(x)
        np.testing.assert_allclose(single.step(x), expected, rtol=0, atol=1e-4)
    np.testing.assert_allclose(single.state, double.state, rtol=1e-3, atol=1e-3)


def test_a_step_is_a_function_of_weights_state_and_input_alone():
    network = network_of()
    rng = np.random.default_rng(4)
    for x in rng.normal(0.0, 1.0, (10, INPUTS)):
        network.step(x)
    kept = network.state.copy()
    following = rng.normal(0.0, 1.0, (10, INPUTS))
    first = [network.step(x) for x in following]
    after = network.state.copy()

    other = network_of()
    other.state[:] = kept

    np.testing.assert_array_equal(first, [other.step(x) for x in following])
    np.testing.assert_array_equal(after, other.state)


@each_head
def test_gradient_of_every_group_is_the_slope_of_the_loss(head):
    network, xs, ys = problem(head, (1,))

    loss, actual = gradient(network, xs, ys, (1,))

    expected = reference.total_loss(network.parameters, head, xs, ys, (1,))
    np.testing.assert_allclose(loss, expected, rtol=1e-10)
    assert_close(actual, differences(network, head, xs, ys, (1,)), actual)
    assert set(RECURRENCE) < set(actual)


@pytest.mark.parametrize("head", ["linear", "laplace"])
def test_what_reads_the_state_learns_from_all_horizons_what_makes_it_from_the_nearest(head):
    horizons = (1, 2, 5)
    network, xs, ys = problem(head, horizons)

    _, actual = gradient(network, xs, ys, horizons)

    every = differences(network, head, xs, ys, horizons)
    assert_close(actual, every, set(actual) - set(RECURRENCE))
    nearest = differences(network, head, xs, ys, horizons, counted=(0,))
    assert_close(actual, nearest, RECURRENCE)
    for name in RECURRENCE:
        assert np.abs(nearest[name] - every[name]).max() > 1e-3


def test_events_that_show_nothing_teach_nothing():
    network, xs, ys = problem("laplace", (1, 3))

    loss, actual = gradient(network, xs, np.full_like(ys, np.nan), (1, 3))

    assert loss == 0.0
    assert not any(part.any() for part in actual.values())


def test_a_forget_gate_wide_open_forgets_and_has_no_slope():
    network = network_of()
    network.parameters["forget.weight"][:] = [100.0, 0.0, 0.0]
    network.parameters["input.real"][:] = 0.0
    network.parameters["input.imag"][:] = 0.0
    network.state[0, HIDDEN : 3 * HIDDEN] = 1.0

    network.step([1.0, 0.0, 0.0])

    _, features, real, _ = params.state_views(network.shape, network.state[0])
    assert np.abs(features[: 2 * HIDDEN]).max() < 1e-8
    assert np.isfinite(network.state).all()
    assert not real[:, INPUTS : 2 * INPUTS + 1].any()


def test_a_state_that_forgets_nothing_stays_within_bounds():
    network = network_of(kind=np.float32)
    network.parameters["nu"][:] = -60.0
    network.parameters["forget.weight"][:] = 0.0
    for _ in range(5000):
        network.step([1.0, 1.0, 1.0])

    assert np.isfinite(network.state).all()
    assert np.abs(network.state[0, HIDDEN : 3 * HIDDEN]).max() < 100.0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [HIDDEN, 3 * HIDDEN + INPUTS, -1])
def test_a_state_that_left_the_numbers_shows_in_the_outputs(place, value):
    network = network_of(kind=np.float32)
    network.step([1.0, 1.0, 1.0])
    network.state[0, place] = value

    assert not np.isfinite(network.step([1.0, 1.0, 1.0])).all()


class Run:
    """A network that forecasts what the next event shows."""

    def __init__(self, horizons=(1,), hidden=8, seed=0, **settings):
        self.network = Network("lru", 1, hidden, len(horizons), 1, "linear", seed=seed)
        self.learner = RealTimeLearner(self.network, 1, horizons, **settings)
        self.trail = self.learner.open_trail()
        self.outputs = []

    def event(self, x, shown):
        self.learner.before_step()
        self.learner.observe(self.trail, np.array([x], np.float32), np.array([shown]), self.network.state)
        self.outputs.append(self.network.step([x])[0])
        self.learner.after_step()

    def noise(self, count, seed=1):
        for x in np.random.default_rng(seed).normal(0.0, 1.0, count).tolist():
            self.event(x, x)
        return self


def test_weights_change_every_so_many_events_by_the_mean_gradient():
    run = Run(every=5)
    start = run.network.theta.copy()
    run.noise(4)
    np.testing.assert_array_equal(start, run.network.theta)

    run.noise(1)

    assert run.learner.updates == 1
    moved = np.abs(run.network.theta - start)
    split = int(params.recurrence_size(run.network.shape))
    # The first step of Adam is one rate for every weight; what makes the recurrence has half the rate.
    assert moved[:split].max() == pytest.approx(0.0015, rel=1e-2)
    assert moved[split:].max() == pytest.approx(0.003, rel=1e-2)


def test_decay_is_not_for_the_recurrence():
    plain, decayed = Run(every=1), Run(every=1, decay=0.5)
    plain.noise(2)
    decayed.noise(2)

    split = int(params.recurrence_size(plain.network.shape))
    np.testing.assert_array_equal(plain.network.theta[:split], decayed.network.theta[:split])
    assert (plain.network.theta[split:] != decayed.network.theta[split:]).any()


def test_nothing_is_updated_while_nothing_is_shown():
    run = Run(every=2)
    start = run.network.theta.copy()
    for _ in range(20):
        run.event(0.5, np.nan)

    assert run.learner.updates == 0
    np.testing.assert_array_equal(start, run.network.theta)


def test_two_runs_are_the_same_to_the_last_bit():
    first, second = Run(horizons=(1, 7)).noise(300), Run(horizons=(1, 7)).noise(300)

    assert first.outputs == second.outputs
    np.testing.assert_array_equal(first.network.theta, second.network.theta)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_hit_come_back(value):
    run = Run(every=1).noise(60)
    size = run.network.theta.size
    for place in (0, size // 2, size - 1):
        before = run.learner.rollbacks
        run.learner.shadow[place] = value
        run.noise(1, seed=place)
        run.noise(20, seed=place)

        assert np.isfinite(run.network.theta).all()
        assert run.learner.rollbacks == before + 1


@pytest.mark.parametrize("value", [np.inf, -np.inf, 3e38])
def test_values_that_are_not_finite_do_not_reach_the_weights(value):
    run = Run(every=1).noise(60)
    run.event(0.0, value)
    run.noise(100)

    assert np.isfinite(run.network.theta).all()
    assert run.learner.dropped > 0


def test_a_rate_a_million_times_too_high_does_not_leave_the_numbers():
    run = Run(every=1, rate=3000.0).noise(600)

    assert np.isfinite(run.network.theta).all()


def test_what_was_shown_twenty_events_ago_is_learned_to_be_said():
    """Targets are the x of 20 events before, far beyond what one update looks at."""
    run = Run(hidden=24, every=4, rate=0.005)
    rows = np.random.default_rng(5).choice([-1.0, 1.0], 16000)
    for t in range(21, len(rows)):
        run.event(rows[t], rows[t - 21])

    errors = np.array(run.outputs[:-1]) - rows[1:-20][: len(run.outputs) - 1]
    assert (errors[:50] ** 2).mean() > 0.5
    assert (errors[-2000:] ** 2).mean() < 0.4


def test_what_cannot_be_is_refused():
    with pytest.raises(UsageError, match="one layer, got 2"):
        Network("lru", layers=2)
    with pytest.raises(UsageError, match="not symbols"):
        Network("lru", inputs=5, head="softmax", one_hot=True)
    gru, lru = Network("gru"), Network("lru")
    with pytest.raises(UsageError, match="expected lru"):
        RealTimeLearner(gru, 1)
    with pytest.raises(UsageError, match="expected 1 first, got 2"):
        RealTimeLearner(lru, 1, (2, 3))
    with pytest.raises(UsageError, match="RealTimeLearner"):
        Learner(lru, Window(10, 1, 1, lru.state, (1,)))


def test_a_new_network_remembers_over_ten_to_a_thousand_events():
    names = Network("lru", inputs=2, hidden=200).parameters
    modulus = np.exp(-np.exp(names["nu"]))

    assert 0.9 <= modulus.min() < 0.92
    assert 0.99 < modulus.max() <= 0.999
    assert np.exp(names["phase"]).max() < math.pi
    assert not names["forget.weight"].any()
