"""Waiting forecasts and intervals against a dictionary of forecasts by the event they are for."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from references import ReferenceCalibrator, squash, unsquash

from streamrnn.learn.calibrator import Calibrator
from streamrnn.learn.scaler import Scaler

FIELDS = 2


def assert_same(array, expected, horizons):
    """Array (F, K) against a dictionary by (field, horizon); absent is NaN."""
    for (f, k), number in np.ndenumerate(array):
        np.testing.assert_allclose(number, expected.get((f, horizons[k]), np.nan), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("horizons", [(1,), (1, 2, 3), (1, 4, 16), (1, 5, 7, 30)])
@pytest.mark.parametrize("interval", [0.5, 0.9])
@pytest.mark.parametrize("seed", [0, 1])
def test_forecasts_and_widths_are_those_of_the_definition(horizons, interval, seed):
    rng = np.random.default_rng(seed)
    scaler = Scaler(FIELDS)
    calibrator = Calibrator(FIELDS, horizons, interval)
    reference = ReferenceCalibrator(FIELDS, horizons, interval)
    ever_seen = np.zeros(FIELDS, bool)

    for count in range(200):
        values = rng.normal([5.0, -100.0], [1.0, 30.0]) * (50.0 if rng.random() < 0.05 else 1.0)
        values[rng.random(FIELDS) < 0.2] = np.nan
        if count < 20:
            values[1] = np.nan
        scaler.observe_one(values, float(count))
        calibrator.score_one(values, scaler.scaled, count)
        residual, log_scale, error = reference.settle(count, values, scaler.scaled)
        assert_same(calibrator.residual, residual, horizons)
        assert_same(calibrator.log_scale, log_scale, horizons)
        np.testing.assert_allclose(calibrator.error, [error.get(f, np.nan) for f in range(FIELDS)], rtol=1e-10)

        y = np.concatenate(
            [rng.normal(0.0, 1.0, FIELDS * len(horizons)), rng.uniform(-3, 1, FIELDS * len(horizons))]
        )
        if rng.random() < 0.05:
            y[rng.integers(y.size)] = rng.choice([np.nan, np.inf, -np.inf])
        y = y.astype(np.float32)
        finite = calibrator.forecast_one(y, scaler)
        calibrator.keep(count)
        ever_seen |= ~np.isnan(values)
        places = [(f, h) for f in range(FIELDS) for h in horizons]
        made = reference.issue(
            count,
            dict(zip(places, y.tolist(), strict=False)),
            dict(zip(places, y[len(places) :].tolist(), strict=True)),
            scaler.base,
            ever_seen,
        )
        counted = np.concatenate([np.repeat(ever_seen, len(horizons))] * 2)
        assert np.isfinite(y[counted]).all() == finite
        for column, name in enumerate(("location", "log_scale", "forecast", "lower", "upper")):
            assert_same(calibrator.made[:, :, column], {at: m[name] for at, m in made.items()}, horizons)
        assert_same(calibrator.q, reference.q, horizons)
        np.testing.assert_allclose(calibrator.reach, [reference.reach(f) for f in range(FIELDS)], rtol=1e-10)


def test_intervals_keep_their_share_of_events_at_every_horizon_while_the_noise_changes():
    rng = np.random.default_rng(4)
    horizons = (1, 4, 16, 64)
    events = 20_000
    noise = 1.0 + 0.8 * np.sin(2 * np.pi * np.arange(events) / 2500)
    noise[events // 2 :] *= 3.0
    series = 10.0 + noise * rng.normal(size=events)
    scaler, calibrator = Scaler(1), Calibrator(1, horizons, 0.9)
    y = np.array([0.0] * 4 + [-1.0] * 4, np.float32)
    made = np.empty((events, 4, 2))  # lower, upper

    for count, value in enumerate(series):
        values = np.array([value])
        scaler.observe_one(values, float(count))
        calibrator.score_one(values, scaler.scaled, count)
        calibrator.forecast_one(y, scaler)
        calibrator.keep(count)
        made[count] = calibrator.made[0, :, 3:]

    for k, h in enumerate(horizons):
        target, lower, upper = series[h:], made[:-h, k, 0], made[:-h, k, 1]
        share = ((lower <= target) & (target <= upper)).mean()
        assert 0.89 <= share <= 0.91, h


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.floats(-1e30, 1e30) | st.floats(-3.0, 3.0) | st.just(math.nan), min_size=1, max_size=60),
    st.lists(st.floats(-20.0, 20.0), min_size=1, max_size=7),
    st.floats(-5.0, 2.0),
    st.floats(0.01, 100.0),
)
def test_no_bound_is_farther_out_than_events_and_forecast_have_been(values, locations, log_scale, q):
    scaler, calibrator = Scaler(1), Calibrator(1, (1, 4), 0.9)
    calibrator.q[:] = q
    farthest = 0.0
    for count, value in enumerate(values):
        event = np.array([value])
        scaler.observe_one(event, float(count))
        calibrator.score_one(event, scaler.scaled, count)
        location = locations[count % len(locations)]
        calibrator.forecast_one(np.array([location] * 2 + [log_scale] * 2, np.float32), scaler)
        calibrator.keep(count)
        if not math.isnan(value):
            farthest = max(farthest, abs(scaler.scaled[0]))
        assert calibrator.reach[0] <= farthest
        if scaler.stats[0, 2] == 0.0:
            continue
        mean, deviation = scaler.base[0]
        end = deviation * unsquash(max(farthest, abs(calibrator.made[0, 0, 0])) + 0.1)
        for lower, upper in calibrator.made[0, :, 3:]:
            assert lower >= mean - end - 1e-9 * (abs(mean) + end)
            assert upper <= mean + end + 1e-9 * (abs(mean) + end)


def test_a_quiet_stretch_after_a_wild_one_has_intervals_no_wider_than_the_wild_one():
    """A head that expects much and a q that has grown together would give e^15 deviations."""
    rng = np.random.default_rng(0)
    series = np.concatenate([rng.normal(size=1000), 30.0 * rng.normal(size=300), rng.normal(size=500)])
    scaler, calibrator = Scaler(1), Calibrator(1, (1, 4), 0.9)
    y = np.array([0.0, 0.0, 2.0, 2.0], np.float32)
    calibrator.q[:] = 5.0
    bounds = []
    for count, value in enumerate(series):
        values = np.array([value])
        scaler.observe_one(values, float(count))
        calibrator.score_one(values, scaler.scaled, count)
        calibrator.forecast_one(y, scaler)
        calibrator.keep(count)
        bounds.append(np.abs(calibrator.made[0, :, 3:]).max())

    # The deviation grows for a while: by then a scaled unit is wider than when the events were seen.
    assert max(bounds[1000:]) < 20.0 * np.abs(series).max()


@pytest.mark.parametrize("interval", [0.5, 0.8, 0.99])
def test_the_first_interval_is_exact_for_the_errors_the_head_expects(interval):
    """P(|e| > w) = exp(-w / scale) of a Laplace distribution."""
    scaler, calibrator = Scaler(1), Calibrator(1, (1,), interval)
    scaler.observe_one(np.array([3.0]), 0.0)
    calibrator.forecast_one(np.array([0.0, -1.0], np.float32), scaler)
    calibrator.keep(0)

    np.testing.assert_allclose(np.exp(-calibrator.q), 1.0 - interval)


def test_width_shrinks_no_further_than_its_floor():
    scaler, calibrator = Scaler(1), Calibrator(1, (1,), 0.9)
    for count in range(1000):
        values = np.ones(1)
        scaler.observe_one(values, float(count))
        calibrator.score_one(values, scaler.scaled, count)
        calibrator.forecast_one(np.zeros(2, np.float32), scaler)
        calibrator.keep(count)

    assert [[0.01]] == calibrator.q.tolist()


def test_an_event_not_learned_from_leaves_no_trace():
    rng = np.random.default_rng(0)
    scaler, calibrator = Scaler(1), Calibrator(1, (1, 3), 0.9)

    def event(count, value, learn):
        values = np.array([value])
        scaler.observe_one(values, float(count), learn)
        calibrator.score_one(values, scaler.scaled, count, learn)
        calibrator.forecast_one(rng.normal(size=4).astype(np.float32), scaler)
        if learn:
            calibrator.keep(count)

    for count in range(20):
        event(count, rng.normal(), True)
    before = [calibrator.q.copy(), calibrator.waiting.copy(), calibrator.reach.copy()]

    for value in (0.0, 1e9, np.nan):
        event(20, value, False)

    np.testing.assert_array_equal(calibrator.q, before[0])
    np.testing.assert_array_equal(calibrator.waiting, before[1])
    np.testing.assert_array_equal(calibrator.reach, before[2])


def test_an_event_not_learned_from_is_still_held_against_its_forecast():
    scaler, calibrator = Scaler(1), Calibrator(1, (1,), 0.9)
    scaler.observe_one(np.array([3.0]), 0.0)
    calibrator.score_one(np.array([3.0]), scaler.scaled, 0)
    calibrator.forecast_one(np.zeros(2, np.float32), scaler)
    calibrator.keep(0)

    scaler.observe_one(np.array([5.0]), 1.0, learn=False)
    calibrator.score_one(np.array([5.0]), scaler.scaled, 1, learn=False)

    assert [2.0] == calibrator.error.tolist()


def test_a_forecast_is_finite_whatever_the_head_says():
    scaler, calibrator = Scaler(1), Calibrator(1, (1,), 0.9)
    for i in range(3):
        scaler.observe_one(np.array([float(i)]), float(i))

    for y in ([np.nan, 0.0], [np.inf, 0.0], [0.0, -np.inf], [0.0, np.nan]):
        assert not calibrator.forecast_one(np.array(y, np.float32), scaler)
        assert np.isfinite(calibrator.made).all()
    assert calibrator.forecast_one(np.array([3e38, 2.0], np.float32), scaler)
    assert np.isfinite(calibrator.made).all()


def calm(values=(1.0, 2.0, 4.0, 3.0), horizons=(1, 3), log_scale=-1.0):
    """A scaler and a calibrator of one field after some values, network forecasts made."""
    scaler, calibrator = Scaler(1), Calibrator(1, horizons, 0.9)
    for count, value in enumerate(values):
        scaler.observe_one(np.array([value]), float(count))
        calibrator.score_one(np.array([value]), scaler.scaled, count)
    count = len(horizons)
    calibrator.forecast_one(np.array([0.5] * count + [log_scale] * count, np.float32), scaler)
    return scaler, calibrator


@pytest.mark.parametrize("ahead", [-1e30, -1e6, -3.0, 0.0, 2.5, 2.6, 100.0, 1e6, 1e30])
@pytest.mark.parametrize("log_scale", [-5.0, -1.0, 2.0])
@pytest.mark.parametrize("unit", [1e-3, 1.0])
def test_a_forecast_put_in_place_has_its_interval_around_it(ahead, log_scale, unit):
    scaler, calibrator = calm(unit * np.array([1.0, 2.0, 4.0, 3.0]), log_scale=log_scale)
    before = calibrator.made.copy()

    calibrator.centre_one(np.array([ahead]), scaler)

    _, _, forecast, lower, upper = calibrator.made[0, 0]
    mean, deviation = scaler.base[0]
    place, width = squash((ahead - mean) / deviation), calibrator.q[0, 0] * math.exp(log_scale)
    assert ahead == forecast
    end = max(calibrator.reach[0], abs(place)) + 0.1
    assert min(mean + deviation * unsquash(max(place - width, -end)), ahead) == pytest.approx(lower)
    assert max(mean + deviation * unsquash(min(place + width, end)), ahead) == pytest.approx(upper)
    assert lower <= ahead <= upper
    assert lower < upper
    assert np.isfinite(calibrator.made).all()
    # Location and scale stay the network's, whose surprise the detector ranks, and so do the other horizons.
    np.testing.assert_array_equal(calibrator.made[0, 0, :2], before[0, 0, :2])
    np.testing.assert_array_equal(calibrator.made[0, 1:], before[0, 1:])


def test_a_forecast_put_in_place_of_one_like_it_changes_no_interval():
    scaler, calibrator = calm()
    before = calibrator.made.copy()

    calibrator.centre_one(before[:, 0, 2].copy(), scaler)

    np.testing.assert_allclose(calibrator.made, before, rtol=1e-12)


def test_a_field_that_never_changed_can_be_forecast_elsewhere():
    scaler, calibrator = calm([0.0])
    assert [0.0, 0.0] == scaler.base[0].tolist()
    for ahead, bounds in ((0.0, [0.0, 0.0]), (5.0, [0.0, 5.0]), (-2.0, [-2.0, 0.0])):
        calibrator.centre_one(np.array([ahead]), scaler)

        assert [ahead, *bounds] == calibrator.made[0, 0, 2:].tolist()


def test_a_field_never_seen_keeps_having_no_forecast():
    scaler, calibrator = Scaler(2), Calibrator(2, (1, 3))
    scaler.observe_one(np.array([1.0, np.nan]), 0.0)
    calibrator.forecast_one(np.zeros(8, np.float32), scaler)

    calibrator.centre_one(np.array([1.5, np.nan]), scaler)

    assert calibrator.made[0, 0, 2] == 1.5
    assert np.isnan(calibrator.made[1]).all()


def test_an_event_is_held_against_the_forecast_that_was_put_in_place():
    scaler, calibrator = calm(horizons=(1,))
    calibrator.centre_one(np.array([50.0]), scaler)
    calibrator.keep(3)
    location = calibrator.made[0, 0, 0]
    q = calibrator.q.copy()

    scaler.observe_one(np.array([50.5]), 4.0)
    calibrator.score_one(np.array([50.5]), scaler.scaled, 4)

    assert [0.5] == calibrator.error.tolist()
    assert calibrator.q[0, 0] < q[0, 0]  # inside its interval
    assert scaler.scaled[0] - location == calibrator.residual[0, 0]


def test_forecasts_that_are_not_kept_are_never_held_against_an_event():
    scaler, calibrator = calm(horizons=(1, 2))
    calibrator.keep(3)
    kept = calibrator.waiting.copy()
    calibrator.forecast_one(np.full(4, -1.0, np.float32), scaler)
    calibrator.centre_one(np.array([7.0]), scaler)

    np.testing.assert_array_equal(calibrator.waiting, kept)
