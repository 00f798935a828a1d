"""The readout of a key and the mixture of its experts, against whole matrices and sums over all the past."""

import copy
import math

import numpy as np
import pytest
from references_readout import ReferenceReadout

from streamrnn.kernels import hedge, regression
from streamrnn.learn.readout import LAST, NETWORK, REGRESSION, Readout

HIDDEN, INPUTS = 3, 4
SCRATCH = ("ahead", "gain")  # written before they are read, by every call


def series(kind, count, fields, rng):
    """Rows (count, fields) of one kind."""
    rows = rng.normal(20.0, 1.0, (count, fields)) + np.sin(np.arange(count) / 3.0)[:, None] * 4.0
    if kind == "missing":
        rows[rng.random(rows.shape) < 0.3] = np.nan
        rows[: count // 4, -1] = np.nan
    elif kind == "constant, then jumps":
        rows[: count // 2] = 5.0
        rows[count // 2 :] = 5.0 + 100.0 * rng.integers(0, 3, (count - count // 2, fields))
    elif kind == "now and then a change":
        rows[:] = np.cumsum(rng.random(rows.shape) < 0.1, axis=0)
    elif kind == "spikes":
        rows[rng.random(rows.shape) < 0.05] *= 100.0
    elif kind == "huge":
        rows[rng.random(rows.shape) < 0.05] = 1e30
    elif kind == "tiny, then news":
        rows *= 1e-9
        rows[count // 2 :] *= 1e12
    return rows


KINDS = [
    "waves", "missing", "constant, then jumps", "now and then a change", "spikes", "huge", "tiny, then news"
]  # fmt: skip


def surroundings(rng, row, hidden=HIDDEN, inputs=INPUTS):
    """Return what a network would say after a row, its state and its inputs: forecast (F,), (H,), (I,)."""
    network = row + rng.normal(size=row.size)
    return network, np.tanh(rng.normal(size=hidden)).astype(np.float32), rng.normal(size=inputs).astype(np.float32)


def full(triangle):
    """The symmetric matrix whose lower triangle is given row by row."""
    n = math.isqrt(2 * triangle.size)
    matrix = np.zeros((n, n))
    matrix[np.tril_indices(n)] = triangle
    return matrix + np.tril(matrix, -1).T


def parts(readout, but=SCRATCH):
    """Copies of all arrays of a readout, by name."""
    return {
        name: value.copy()
        for name, value in vars(readout).items()
        if isinstance(value, np.ndarray) and name not in but
    }


def assert_unchanged(before, readout):
    after = parts(readout)
    for name, array in before.items():
        assert array.tobytes() == after[name].tobytes(), name


def assert_like_reference(readout, reference, answer, expected, event):
    def same(actual, desired, rtol=1e-7, scale=1.0):
        atol = 1e-12 * scale
        np.testing.assert_allclose(actual, desired, rtol=rtol, atol=atol, err_msg=f"event {event}")

    told = reference.regression
    same(full(readout.covariance), told.P)
    same(readout.features, told.features)
    same(readout.weights, told.weights, scale=1e3)
    same(readout.guess, told.guess, scale=1e3)
    same([regression.change_unit(readout.changes, f) for f in range(len(reference.fields))],
         [field.unit() for field in reference.fields])  # fmt: skip
    same(readout.experts, reference.experts)
    same(readout.losses, reference.losses())
    same(readout.level[:, 0], [reference.level(f) for f in range(len(reference.fields))])
    same(answer, expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("fields", "seed"), [(1, 0), (3, 1)])
def test_every_number_is_that_of_the_definition(kind, fields, seed):
    rng = np.random.default_rng(seed)
    readout, reference = Readout(fields, HIDDEN, INPUTS), ReferenceReadout(fields, HIDDEN, INPUTS)
    for n, row in enumerate(series(kind, 110, fields, rng)):
        network, hidden, phi = surroundings(rng, np.where(np.isnan(row), 20.0, row))
        network[np.isnan(row) & np.isnan(readout.last)] = np.nan  # a field never seen is not forecast
        readout.learn_one(row)
        reference.learn(row)
        answer = readout.forecast_one(row, network, hidden, phi, n)
        expected = reference.forecast(row, network, hidden, phi, n)
        assert_like_reference(readout, reference, answer, expected, n)


def test_of_a_wide_network_the_first_64_units_are_read():
    rng = np.random.default_rng(0)
    readout, reference = Readout(1, 70, 2), ReferenceReadout(1, 70, 2)
    for n, row in enumerate(series("waves", 20, 1, rng)):
        network, hidden, phi = surroundings(rng, row, 70, 2)
        readout.learn_one(row)
        reference.learn(row)
        answer = readout.forecast_one(row, network, hidden, phi, n)
        expected = reference.forecast(row, network, hidden, phi, n)
        assert_like_reference(readout, reference, answer, expected, n)
    assert readout.features.size == 64 + 2 + 3 + 1


def shown(rows, network=None, inputs=None):
    """A readout that saw rows (N, F), and its answers (N, F); network (N, F) and inputs (N, INPUTS), or rubbish."""
    rng = np.random.default_rng(0)
    readout = Readout(rows.shape[1], HIDDEN, INPUTS)
    answers = np.empty_like(rows)
    for n, row in enumerate(rows):
        said, state, phi = surroundings(rng, np.where(np.isnan(row), 0.0, row))
        said = said if network is None else network[n]
        phi = phi if inputs is None else inputs[n].astype(np.float32)
        readout.learn_one(row)
        answers[n] = readout.forecast_one(row, said, state, phi, n)
    return readout, answers


@pytest.mark.parametrize("seen", [0, 1, 2, 40, 300])
def test_an_event_not_learned_from_is_answered_and_leaves_everything_as_it_was(seen):
    rng = np.random.default_rng(1)
    readout, _ = shown(series("missing", seen, 2, rng))
    before = parts(readout)

    for row in ([1e30, -1e30], [math.nan, 3.0], [math.nan, math.nan], [20.0, 21.0]):
        values = np.array(row)
        network, hidden, phi = surroundings(rng, values)
        twin = copy.deepcopy(readout)
        answer = readout.forecast_one(values, network, hidden, phi, seen, learn=False)

        np.testing.assert_array_equal(answer, readout.ahead)
        assert_unchanged(before, readout)
        twin.last[~np.isnan(values)] = values[~np.isnan(values)]
        np.testing.assert_array_equal(answer, twin.forecast_one(values, network, hidden, phi, seen))


def test_weights_that_are_fixed_stay_as_they_are_while_the_experts_are_judged():
    rng = np.random.default_rng(3)
    rows = series("waves", 120, 2, rng)
    readout, _ = shown(rows[:100])
    reference = copy.deepcopy(readout)
    before = parts(readout)

    for n, row in enumerate(rows[100:], start=100):
        network, hidden, phi = surroundings(rng, row)
        for each, fixed in ((readout, True), (reference, False)):
            each.learn_one(row, fixed=fixed)
            each.forecast_one(row, network, hidden, phi, n)

    after = parts(readout)
    for name in ("weights", "covariance"):
        assert before[name].tobytes() == after[name].tobytes(), name
    for name in ("last", "changes", "recent", "averages"):  # as of one that learns
        np.testing.assert_array_equal(after[name], parts(reference)[name], err_msg=name)
        assert (after[name] != before[name]).any(), name
    decay = 0.998**20
    assert (readout.losses > decay * before["losses"]).all()
    assert (readout.level[:, 1] > before["level"][:, 1]).all()


def test_the_first_event_is_forecast_to_stay_unless_the_network_says_otherwise():
    readout = Readout(2, HIDDEN, INPUTS)
    row, state = np.array([7.0, math.nan]), np.ones(HIDDEN, np.float32)
    readout.learn_one(row)
    answer = readout.forecast_one(row, np.array([7.0, math.nan]), state, np.ones(INPUTS, np.float32), 0)

    np.testing.assert_array_equal(answer, row)
    answer = readout.forecast_one(row, np.array([10.0, math.nan]), state, np.ones(INPUTS, np.float32), 0)
    np.testing.assert_allclose(answer, [8.0, math.nan])  # nobody was judged yet: the mean of all three


def test_where_all_experts_agree_the_answer_is_that_to_the_last_bit():
    rng = np.random.default_rng(0)
    answer = np.empty(1)
    for _ in range(1000):
        value = rng.normal() * 10.0 ** rng.integers(-30, 30)
        losses, level = rng.random((3, 1)) * 100, rng.random((1, 2))

        hedge.mix(np.full((3, 1), value), losses, level, answer)

        assert [value] == answer.tolist()


@pytest.mark.parametrize("size", [1e-162, 1e-155, 1e-100, 1.0, 1e30])
def test_the_better_expert_is_followed_whatever_the_size_of_errors(size):
    experts = np.array([[2.0], [0.1], [3.0]]) * size
    losses, level, answer = np.zeros((3, 1)), np.zeros((1, 2)), np.empty(1)
    for _ in range(300):
        hedge.judge(np.zeros(1), experts, losses, level)
        hedge.mix(experts, losses, level, answer)

        assert np.isfinite(answer).all()
    assert 0.0 < answer[0] <= 0.5 * size or size < 1e-150  # whose squares are no numbers: all weigh the same


def features_of(kind, count, width, rng):
    """Features (count, width) that leave a covariance no way to keep its rank."""
    if kind == "constant":
        return np.ones((count, width))
    if kind == "collinear":
        return rng.normal(size=(count, 1)) * np.arange(1.0, width + 1)
    if kind == "nothing":
        return np.zeros((count, width))
    if kind == "silence after noise":
        return np.where(np.arange(count)[:, None] < count // 4, rng.normal(size=(count, width)), 0.0)
    return rng.normal(size=(count, width)) * 10.0 ** np.linspace(-6, 6, width)


@pytest.mark.parametrize("kind", ["constant", "collinear", "nothing", "silence after noise", "of all sizes"])
def test_covariance_stays_positive_definite_and_below_its_ceiling(kind):
    width = 12
    readout = Readout(1, width - 1 - 3 - 1, 1)
    covariance, gain = readout.covariance, readout.gain
    assert gain.size == width

    for n, features in enumerate(features_of(kind, 20_000, width, np.random.default_rng(0))):
        regression.shrink(covariance, features, gain)
        if n % 1000 == 999:
            assert np.linalg.eigvalsh(full(covariance)).min() > 0.0
            assert np.trace(full(covariance)) <= 0.3 * width * (1 + 1e-9)
            assert np.isfinite(gain).all()


def test_once_much_was_seen_the_weights_are_those_of_least_squares():
    """Without bounds, of the last thousands of events: the regression finds what made the changes."""
    rng = np.random.default_rng(5)
    truth = rng.normal(size=8) / 4.0
    readout = Readout(1, 3, 1)
    changes = np.empty((1, 2))
    last, guess, ahead = np.zeros(1), np.zeros(1), np.zeros(1)
    for _ in range(5000):
        changes[0] = 1.0, 100.0  # the unit stays 1
        features = rng.normal(size=8)
        regression.forecast(readout.weights, features, last, changes, guess, ahead)
        values = last + features @ truth + 0.1 * rng.normal()
        regression.shrink(readout.covariance, features, readout.gain)
        regression.learn(values, last, changes, guess, readout.gain, readout.weights, False)

    np.testing.assert_allclose(readout.weights[0], truth, atol=0.02)


EXTREMES = {
    "largest values": np.array([[1e30, -1e30], [-1e30, 1e30]] * 100),
    "a largest value among small ones": np.r_[np.ones((50, 2)), [[1e30, -1e30]], np.zeros((100, 2))],
    "smallest values": np.array([[5e-324, -5e-324], [0.0, 1e-155], [1e-300, 1e-162]] * 70),
    "constants": np.tile([[0.0, 1e6]], (300, 1)),
    "nothing at all": np.full((50, 2), np.nan),
    "steps": np.repeat([[0.0, 0.0], [1e6, 1e-6], [-1e12, 0.0]], 40, axis=0),
    "a new magnitude each time": np.array([[10.0**n, -(10.0**-n)] for n in range(30)]),
    "there and gone": np.array([[1.0, np.nan], [np.nan, 1e30], [np.nan, np.nan], [-1e30, 2.0]] * 40),
}


@pytest.mark.parametrize("name", EXTREMES)
@pytest.mark.parametrize("rubbish", [0.0, 1e30])
def test_whatever_the_values_nothing_is_infinite_and_nothing_is_lost(name, rubbish):
    rows = EXTREMES[name]
    seen = np.logical_or.accumulate(~np.isnan(rows))
    readout, answers = shown(rows, network=np.where(seen, rubbish, np.nan))

    np.testing.assert_array_equal(np.isfinite(answers), seen)
    for part, array in parts(readout, but=()).items():
        assert not np.isinf(array).any(), part
        if part not in ("last", "averages", "experts", "ahead"):
            assert np.isfinite(array).all(), part


def test_units_without_bounds_do_not_break_the_covariance():
    """Of a network with rectifiers, whose states may be huge and alike."""
    rng = np.random.default_rng(0)
    readout = Readout(1, 4, 2)
    for n in range(3000):
        row = rng.normal(size=1)
        state = (rng.random() * 10.0 ** rng.integers(0, 12) * np.array([1.0, 1.0, 2.0, 0.0])).astype(np.float32)
        readout.learn_one(row)
        answer = readout.forecast_one(row, row, state, np.ones(2, np.float32), n)

        assert np.isfinite(answer).all()
    assert np.linalg.eigvalsh(full(readout.covariance)).min() > 0.0
    assert np.isfinite(readout.weights).all()


def mse(answers, rows, first):
    return ((answers[first:-1] - rows[first + 1 :]) ** 2).mean()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_on_a_random_walk_the_answer_is_hardly_worse_than_persistence(seed):
    rows = np.cumsum(np.random.default_rng(seed).normal(size=(6000, 1)), axis=0)
    _, answers = shown(rows)

    assert mse(answers, rows, 2000) <= 1.02 * mse(rows, rows, 2000)


@pytest.mark.parametrize("kind", ["sine", "AR(2)"])
def test_a_linear_stream_is_forecast_while_the_network_talks_rubbish(kind):
    count = 3000
    rng = np.random.default_rng(0)
    rows = np.sin(2 * np.pi * np.arange(count) / 25)[:, None] * 3.0 + 10.0
    if kind == "AR(2)":
        for n in range(2, count):
            rows[n] = 10.0 + 1.8 * (rows[n - 1] - 10.0) - 0.9 * (rows[n - 2] - 10.0) + 0.1 * rng.normal()
    # Two numbers tell the next of such a stream: the value and its step, which a network's inputs have.
    inputs = np.c_[rows / 5.0, np.diff(rows, axis=0, prepend=rows[:1]), np.zeros((count, INPUTS - 2))]
    _, answers = shown(rows, network=np.full_like(rows, 13.0), inputs=inputs)

    assert mse(answers, rows, 1000) < 0.5 * mse(rows, rows, 1000)


def test_each_field_follows_the_expert_that_is_best_for_it():
    rng = np.random.default_rng(0)
    rows = np.c_[rng.normal(size=2000), np.cumsum(rng.normal(size=2000))]
    network = np.c_[np.r_[rows[1:, 0], 0.0], rng.normal(size=2000) * 1000.0]
    readout, answers = shown(rows, network=network)

    assert [NETWORK, LAST] == readout.losses.argmin(axis=0).tolist()
    assert mse(answers[:, :1], rows[:, :1], 500) < 0.05
    assert mse(answers[:, 1:], rows[:, 1:], 500) <= 1.05 * mse(rows[:, 1:], rows[:, 1:], 500)


def test_what_regression_says_is_among_the_experts():
    readout, _ = shown(series("waves", 50, 2, np.random.default_rng(0)))
    units = [regression.change_unit(readout.changes, f) for f in range(2)]

    np.testing.assert_allclose(readout.experts[REGRESSION], readout.last + readout.guess * units)
    np.testing.assert_array_equal(readout.experts[LAST], readout.last)
