"""The online normaliser against the definition of an exponentially weighted mean and variance."""

import math

import numpy as np
import pytest
from references import ReferenceClock, ReferenceField, squash, unsquash

from streamrnn.kernels import scaling
from streamrnn.learn.scaler import Scaler

EVENTS = 240


def series(kind, rng):
    """(EVENTS, 3) values: what sensors show, and what they should not."""
    values = rng.normal([20.0, -3.0, 1e4], [2.0, 0.1, 500.0], (EVENTS, 3))
    if kind == "missing":
        values[rng.random(values.shape) < 0.3] = np.nan
        values[:50, 1] = np.nan
    elif kind == "constant":
        values[:] = [0.0, 7.25, -1e6]
    elif kind == "jump":
        values[100:] += [1000.0, -1e-3, 1e7]
    elif kind == "spikes":
        values[rng.random(values.shape) < 0.03] *= 1e5
    elif kind == "huge":
        values *= [1e28, 1e-28, 1e20]
    elif kind == "walk":
        values = values.cumsum(axis=0)
    return values


@pytest.mark.parametrize("kind", ["calm", "missing", "constant", "jump", "spikes", "huge", "walk"])
def test_inputs_and_statistics_are_those_of_the_definition(kind):
    rng = np.random.default_rng(7)
    values = series(kind, rng)
    times = 1.7e9 + np.cumsum(rng.exponential(30.0, EVENTS))
    scaler = Scaler(3)
    fields, clock = [ReferenceField() for _ in range(3)], ReferenceClock()

    for x, time in zip(values, times, strict=True):
        phi = scaler.observe_one(x, time)

        seen = [field.observe(number) for field, number in zip(fields, x, strict=True)]
        expected = [number for _, _, inputs in seen for number in inputs] + clock.observe(time)
        np.testing.assert_allclose(phi, expected, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(scaler.scaled, [s for s, _, _ in seen], rtol=1e-8, atol=1e-8)
        np.testing.assert_allclose(scaler.base, [base for _, base, _ in seen], rtol=1e-8)
        for field, stats in zip(fields, scaler.stats, strict=True):
            mean, variance, count = field.statistics()
            np.testing.assert_allclose(stats[0], mean, rtol=1e-10)
            np.testing.assert_allclose(stats[1], variance, rtol=1e-7, atol=1e-20 * mean * mean)
            np.testing.assert_allclose(stats[2], count, rtol=1e-12)


@pytest.mark.parametrize("kind", ["calm", "jump", "spikes", "huge", "walk"])
def test_a_value_comes_back_from_its_scaled_value_and_base(kind):
    scaler = Scaler(3)
    for x in series(kind, np.random.default_rng(3)):
        scaler.observe_one(x, 0.0)
        back = [
            mean + deviation * unsquash(s) for (mean, deviation), s in zip(scaler.base, scaler.scaled, strict=True)
        ]

        np.testing.assert_allclose(back, x, rtol=1e-6, atol=1e-6 * np.abs(x).max())


@pytest.mark.parametrize("z", [0.0, 1e-12, -0.5, 3.0, -1000.0, 9_999.0])
def test_squash_and_unsquash_undo_each_other(z):
    assert squash(z) == pytest.approx(scaling.squash(z), rel=1e-14, abs=1e-15)
    assert z == pytest.approx(scaling.unsquash(scaling.squash(z)), rel=1e-9, abs=1e-15)


def test_unsquash_is_held_a_little_beyond_what_a_z_can_be():
    held = math.expm1(12.0)

    assert [held, -held, held] == [scaling.unsquash(s) for s in (14.0, -700.0, float("inf"))]
    assert 1e4 < held < 1e6


def test_after_a_long_silence_a_new_level_is_news_and_a_glitch_is_not():
    def spread_after(*rows):
        scaler = Scaler(1)
        for i, x in enumerate([0.0] * 200 + list(rows)):
            scaler.observe_one(np.array([x]), float(i))
        return math.sqrt(scaler.stats[0, 1])

    assert 0.0 == spread_after(1500.0)
    assert 0.0 == spread_after(1500.0, 0.0, 1500.0, 0.0)
    assert spread_after(1500.0, 1500.0, 1500.0) > 50.0


def test_the_input_of_a_regular_event_has_no_gap_and_of_a_pause_a_long_one():
    scaler = Scaler(1)
    gaps = [scaler.observe_one(np.zeros(1), time)[-1] for time in (50.0, 60.0, 70.0, 80.0, 380.0, 390.0)]

    np.testing.assert_allclose(gaps[:4], 0.0, atol=1e-7)
    np.testing.assert_allclose(gaps[4], np.log(31.0 / 2.0), rtol=1e-6)
    assert gaps[5] < 0.0


CLOCKS = {
    "at once": [5.0, 5.0, 5.0, 6.0, 7.0],
    "backwards": [0.0, 10.0, 20.0, 5.0, 15.0, 25.0],
    "backwards only": [9.0, 3.0, 1.0, 4.0],
    "a pause of months": [0.0, 1.0, 2.0, 3.0, 1e7, 1e7 + 1.0, 1e7 + 2.0],
    "beyond all calendars": [0.0, 1e300, 2e300],
    "before the epoch": [-1e6, 0.0, 5.0],
}


@pytest.mark.parametrize("name", CLOCKS)
def test_inputs_of_strange_clocks_are_finite_and_those_of_the_definition(name):
    scaler, clock = Scaler(1), ReferenceClock()
    for time in CLOCKS[name]:
        phi = scaler.observe_one(np.ones(1), time)

        assert np.isfinite(phi).all()
        np.testing.assert_allclose(phi[3:], clock.observe(time), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("seen", [0, 1, 2, 29, 30, 31, 100])
def test_an_outlier_moves_the_mean_at_will_before_it_is_known_what_is_usual_and_little_after(seen):
    scaler = Scaler(1)
    for i in range(seen):
        scaler.observe_one(np.array([float(i % 2)]), float(i))
    scaler.observe_one(np.array([1e6]), float(seen))

    assert (seen > 30) == (scaler.stats[0, 0] < 2.0)


def test_an_event_not_learned_from_leaves_no_trace():
    rng = np.random.default_rng(1)
    scaler = Scaler(2)
    for i, x in enumerate(rng.normal(size=(40, 2))):
        scaler.observe_one(x, float(i))
    before = [a.copy() for a in (scaler.stats, scaler.previous, scaler.clock)]

    for x in ([5.0, np.nan], [np.nan, -1e9], [0.0, 0.0]):
        scaler.observe_one(np.array(x), 99.0, learn=False)

    for kept, now in zip(before, (scaler.stats, scaler.previous, scaler.clock), strict=True):
        np.testing.assert_array_equal(now, kept)


def test_an_event_not_learned_from_is_scaled_like_one_that_is():
    learner, reader = Scaler(2), Scaler(2)
    for i, x in enumerate(np.random.default_rng(1).normal(size=(40, 2))):
        peeked = reader.observe_one(x, float(i), learn=False).copy()
        reader.observe_one(x, float(i))

        np.testing.assert_array_equal(peeked, learner.observe_one(x, float(i)))
