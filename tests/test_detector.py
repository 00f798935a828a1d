"""The anomaly score against lists in which ranks are counted."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from references import ReferenceDetector

from streamrnn.learn.detector import Alarm, Detector


class Judge(Detector):
    """A detector with an alarm behind it."""

    def __init__(self, fields):
        super().__init__(fields)
        self.alarm = Alarm()

    def score_one(self, values, scaled, residual, log_scale, error, age, history, learn=True):
        strange = self.strangeness_one(values, scaled, residual, log_scale, error, age, history, learn)
        return self.alarm.decide_one(strange, age, learn)


def events(kind, count, fields, rng):
    """For every event: values and scaled (F,), residual and log_scale (F, K = 2), error (F,)."""
    values = rng.normal(10.0, 2.0, (count, fields))
    if kind == "missing":
        values[rng.random(values.shape) < 0.3] = np.nan
    elif kind == "constant":
        values[count // 3 : 2 * count // 3] = 4.0
    elif kind == "jump":
        values[count // 2 :] += 50.0
    elif kind == "huge":
        values[rng.random(values.shape) < 0.05] *= 1e29
    elif kind == "grid":
        values = values.round()
    scaled = np.sign(values) * np.log1p(np.abs(values - 10.0))
    residual = rng.laplace(0.0, 0.5, (count, fields, 2))
    residual[:2, :, 0] = residual[:40, :, 1] = np.nan
    if kind == "one field dead":
        values[:, 0] = np.nan
    residual[np.isnan(values)] = np.nan
    log_scale = rng.uniform(-2.0, 1.0, (count, fields, 2))
    log_scale[np.isnan(residual)] = np.nan
    error = rng.normal(0.0, 3.0, (count, fields))
    error[:1] = error[np.isnan(values)] = np.nan
    error[1:4] = 0.0
    return zip(values, scaled, residual, log_scale, error, strict=True)


def assert_like_reference(kind, count, histories, fields=2, seed=0):
    detector, reference = Judge(fields), ReferenceDetector(fields)
    alerts = 0
    for age, event in enumerate(events(kind, count, fields, np.random.default_rng(seed))):
        history = histories[age * len(histories) // count]

        score, anomaly = detector.score_one(*event, age, history)

        expected_score, expected_anomaly, expected_loudness = reference.score(*event, age, history)
        np.testing.assert_allclose(detector.loudness, expected_loudness, rtol=1e-9, err_msg=f"event {age}")
        np.testing.assert_allclose(score, expected_score, rtol=1e-9, err_msg=f"event {age}")
        assert anomaly == expected_anomaly, f"event {age}"
        alerts += anomaly
    return alerts


@pytest.mark.parametrize("kind", ["calm", "missing", "one field dead", "constant", "jump", "huge", "grid"])
@pytest.mark.parametrize("history", [64, 100, 8192])
def test_scores_and_alerts_are_those_of_counted_ranks(kind, history):
    alerts = assert_like_reference(kind, 400, [history])

    assert kind != "jump" or alerts > 0


@pytest.mark.parametrize(
    "histories",
    [
        [64, 128, 256],
        [300, 70],
        [300, 64, 300],
        [64, 300],
        [128, 64, 128, 64, 500],
        [70, 71, 72, 200, 199, 64],
    ],
)
@pytest.mark.parametrize("kind", ["calm", "missing", "grid"])
def test_a_history_that_grows_and_shrinks_keeps_the_newest_and_nothing_else(kind, histories):
    assert_like_reference(kind, 480, histories)


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.integers(64, 200), min_size=1, max_size=6),
    st.integers(100, 300),
    st.sampled_from(["calm", "missing", "constant", "jump"]),
    st.integers(0, 2**16),
)
def test_whatever_the_histories_scores_are_those_of_counted_ranks(histories, count, kind, seed):
    assert_like_reference(kind, count, histories, fields=1, seed=seed)


@pytest.mark.parametrize("history", [64, 100])
@pytest.mark.parametrize("fields", [1, 2])
def test_ordered_holds_what_the_ring_holds(history, fields):
    rng = np.random.default_rng(3)
    detector = Judge(fields)
    for age, event in enumerate(events("grid", 300, fields, rng)):
        detector.score_one(*event, age, history)

        for k in range(detector.view_count(fields)):
            n = min(detector.shown[k], detector.rings.shape[1])
            np.testing.assert_array_equal(detector.ordered[k, :n], np.sort(detector.rings[k, :n]))


def scores_of(series):
    """Score and anomaly of each value of a series whose forecast is always its mean."""
    detector = Judge(1)
    for age, value in enumerate(series):
        scaled = np.array([np.sign(value) * np.log1p(abs(value))])
        value = np.array([value])
        yield detector.score_one(value, scaled, scaled[None], np.zeros((1, 1)), value, age, 8192)


def test_a_spike_in_a_calm_stream_is_an_anomaly_and_the_calm_before_is_not():
    series = np.random.default_rng(0).normal(size=1000)
    series[900] = 40.0

    scored = list(scores_of(series))

    assert scored[900][1]
    assert scored[900][0] > 0.5
    assert sum(anomaly for _, anomaly in scored[:900]) <= 9
    assert all(0.0 <= score <= 1.0 for score, _ in scored)


def test_there_is_silence_after_an_alert():
    series = np.random.default_rng(0).normal(size=1000)
    series[900:920] += 40.0 * np.arange(1, 21)

    scored = list(scores_of(series))

    assert [True] + 19 * [False] == [anomaly for _, anomaly in scored[900:920]]
    assert max(score for score, _ in scored[901:920]) == 0.49


@pytest.mark.parametrize(
    ("alert", "last_silent"),
    [(100, 20), (640, 20), (970, 30), (4850, 150), (9700, 300), (1_000_000, 300)],
)
def test_silence_lasts_longer_the_older_a_stream_is_but_not_for_ever(alert, last_silent):
    """3 % of the events so far, between 20 and 300."""
    detector = Judge(1)
    for age, event in enumerate(events("calm", 100, 1, np.random.default_rng(0))):
        detector.score_one(*event, age, 100)
    detector.alarm.alert[0] = alert
    spike = [np.full(shape, 1e9) for shape in (1, 1, (1, 2))] + [np.zeros((1, 2)), np.full(1, 1e9)]

    anomalies = [detector.score_one(*spike, alert + gap, 100, learn=False)[1] for gap in range(1, 350)]

    assert [False] * last_silent + [True] * (349 - last_silent) == anomalies


def test_the_first_twenty_events_are_never_anomalies():
    series = np.r_[np.zeros(10), 1e30, np.zeros(9)]

    assert not any(anomaly for _, anomaly in scores_of(series))


@pytest.mark.parametrize("seen", [0, 10, 70, 300])
def test_an_event_not_learned_from_leaves_no_trace(seen):
    rng = np.random.default_rng(5)
    detector = Judge(2)
    for age, event in enumerate(events("missing", seen, 2, rng)):
        detector.score_one(*event, age, 100)
    names = ("recent", "kept", "errors", "shown", "rings", "ordered")
    before = {name: getattr(detector, name).copy() for name in names}
    alert = detector.alarm.alert.copy()

    for event in events("huge", 50, 2, rng):
        detector.score_one(*event, seen, 100, learn=False)

    for name in names:
        np.testing.assert_array_equal(getattr(detector, name), before[name], err_msg=name)
    np.testing.assert_array_equal(detector.alarm.alert, alert)


def test_an_event_not_learned_from_is_scored_like_one_that_is():
    reader, learner = Judge(2), Judge(2)
    for age, event in enumerate(events("missing", 300, 2, np.random.default_rng(2))):
        peeked = reader.score_one(*event, age, 100, learn=False)
        loudness = reader.loudness.copy()
        reader.score_one(*event, age, 100)

        assert learner.score_one(*event, age, 100) == peeked
        np.testing.assert_array_equal(learner.loudness, loudness)


@pytest.mark.parametrize("fields", [1, 3])
def test_an_event_of_history_costs_what_is_said(fields):
    detector = Detector(fields)
    room = detector.rings.shape[1]

    assert detector.bytes_per_event(fields) * room == detector.rings.nbytes + detector.ordered.nbytes


def shift_together(fields, deviations, away, count=1000):
    """The last of `count` events of noise, `away` fields of it shifted: score, anomaly, largest |value|, alerts."""
    values = np.random.default_rng(1).normal(size=(count, fields))
    values[-1] = 0.3
    values[-1, :away] = deviations
    detector = Judge(fields)
    alerts = 0
    for age, row in enumerate(values):
        residual = np.repeat(row[:, None], 2, axis=1)  # of a forecast that is always the mean
        score, anomaly = detector.score_one(row, row, residual, np.zeros((fields, 2)), row, age, 8192)
        alerts += anomaly
    return score, anomaly, alerts - anomaly


def test_fields_that_all_shift_at_once_are_an_anomaly_while_none_is_far():
    """1.5 deviations: 13 % of a field's values are farther away, and 7 fields do not meet there by chance."""
    score, anomaly, before = shift_together(fields=7, deviations=1.5, away=7)

    assert anomaly
    assert score > 0.5
    assert before <= 9  # of 999 quiet events, the rate allowed to one field alone


@pytest.mark.parametrize("away", [1, 2, 3])
def test_a_few_fields_of_many_that_shift_by_as_much_are_no_anomaly(away):
    score, anomaly, _ = shift_together(fields=7, deviations=1.5, away=away)

    assert not anomaly
    assert score < 0.5


def test_one_field_has_no_view_of_several():
    assert [6, 14, 44] == [Detector.view_count(fields) for fields in (1, 2, 7)]


def joint(residual, log_scale=0.0):
    """What a detector keeps of one event of fields with these one-step residuals, for all of them together."""
    residual = np.array([[each, np.nan] for each in residual])
    detector, fields = Detector(len(residual)), len(residual)
    scaled = residual[:, 0]
    detector.strangeness_one(scaled, scaled, residual, np.full((fields, 2), log_scale), scaled, 0, 64)
    return detector.rings[-2:, 0].tolist(), detector.shown[-2:].tolist()


def test_what_several_fields_say_together_is_the_mean_of_those_that_are_there():
    surprise = (np.log(1.0 + 2.0) + np.log(1.0 + 6.0)) / 2

    for residual, log_scale, distance in (
        ([2.0, -6.0], 0.0, 4.0),
        ([2.0, np.nan, -6.0], 0.0, 4.0),
        ([4.0, np.nan, -12.0], np.log(2.0), 8.0),
    ):
        kept, shown = joint(residual, log_scale)
        assert [surprise, distance] == pytest.approx(kept)
        assert [1, 1] == shown
    assert ([0.0, 0.0], [0, 0]) == joint([np.nan, np.nan])


def test_one_opinion_alone_says_less_than_both():
    """A drift that only the errors of the nearest forecast show, against one that both kinds of errors show."""
    scores = {}
    for seen_far in (False, True):
        detector, rng = Judge(1), np.random.default_rng(4)
        for age in range(400):
            value = rng.normal(size=1)
            drift = 3.0 if age >= 390 else 0.0
            residual = np.repeat(rng.normal(size=(1, 1)) + (drift if seen_far else 0.0), 2, axis=1)
            error = rng.normal(size=1) + drift
            scores[seen_far] = detector.score_one(value, value, residual, np.zeros((1, 2)), error, age, 8192)[0]
    assert scores[False] < scores[True]
