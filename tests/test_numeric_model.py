"""Numeric events in, forecasts and scores out: predict first, then learn."""

import math
from itertools import pairwise

import numpy as np
import pytest
from model_support import HORIZONS, Driver, as_seen, member_of, model_of, numbers_in, rows_of

from streamrnn.errors import UsageError
from streamrnn.events import Event
from streamrnn.learn.detector import Detector
from streamrnn.learn.member import Member
from streamrnn.learn.network import Network
from streamrnn.learn.numeric import NumericModel


def test_the_error_of_an_event_is_its_distance_from_the_forecast_published_before_it():
    outputs = Driver().show_all(rows_of(200, missing=0.1))

    for before, after in pairwise(outputs):
        for field in ("a", "b"):
            if after.value[field] is None or before.forecast[field] is None:
                assert after.error[field] is None
            else:
                assert after.value[field] - before.forecast[field][0] == after.error[field]


def test_the_first_event_is_forecast_to_persist_and_has_no_error():
    output = Driver().show([21.5, -3.0])

    assert {"a": [21.5] * 3, "b": [-3.0] * 3} == output.forecast
    assert {"a": None, "b": None} == output.error
    assert {"a": 21.5, "b": -3.0} == output.value


def test_before_anything_is_learned_the_forecast_is_persistence_damped_by_the_horizon():
    driver = Driver(learn=False, fields=("a",))
    rows = np.random.default_rng(2).normal(0.0, 1.0, (50, 1))
    outputs = driver.show_all(rows)

    for row, output in zip(rows[5:, 0].tolist(), outputs[5:], strict=True):
        near, middle, far = output.forecast["a"]
        assert row == pytest.approx(near, rel=1e-5, abs=1e-6)
        mean = driver.streams["k"].scaler.stats[0, 0]
        assert abs(far - mean) <= abs(middle - mean) + 0.2 <= abs(near - mean) + 0.4


@pytest.mark.parametrize("cell", ["rnn_tanh", "rnn_relu", "gru", "lstm", "lru"])
def test_a_sine_is_forecast_better_than_by_its_last_value(cell):
    rows = np.sin(2 * np.pi * np.arange(6000) / 25)[:, None] * 3.0 + 10.0
    outputs = Driver(cell=cell, fields=("a",), hidden=12).show_all(rows)

    # Far from the figures reached: the last bits of a product, and so what is learned, depend on the processor.
    errors = np.array([output.error["a"] for output in outputs[5500:]])
    persistence = np.diff(rows[5499:, 0])
    assert (errors**2).mean() < 0.05 * (persistence**2).mean()
    far = np.array([output.forecast["a"][2] for output in outputs[5492:5992]]) - rows[5500:, 0]
    assert (far**2).mean() < 0.25 * ((rows[5500:, 0] - rows[5492:5992, 0]) ** 2).mean()


def test_the_truth_lies_inside_the_interval_as_often_as_asked_for():
    rows = rows_of(3000, fields=1)
    outputs = Driver(fields=("a",), interval=0.8).show_all(rows)

    for k, h in enumerate(HORIZONS):
        inside = [
            made.lower["a"][k] <= row <= made.upper["a"][k]
            for made, row in zip(outputs[500:], rows[500 + h :, 0], strict=False)
        ]
        assert 0.77 <= np.mean(inside) <= 0.83, h


def test_a_forecast_lies_in_its_interval():
    for output in Driver().show_all(rows_of(300, missing=0.1)):
        for field, forecast in output.forecast.items():
            for low, middle, high in zip(
                output.lower[field] or (), forecast or (), output.upper[field] or (), strict=True
            ):
                assert low <= middle <= high


def test_a_missing_field_has_no_value_and_no_error_but_a_forecast():
    driver = Driver()
    driver.show_all(rows_of(50))

    output = driver.show([math.nan, 20.0])

    assert output.value == {"a": None, "b": 20.0}
    assert output.error["a"] is None
    assert math.isfinite(output.error["b"])
    assert all(map(math.isfinite, output.forecast["a"] + output.lower["a"] + output.upper["a"]))


def test_a_field_has_no_forecast_until_it_is_seen():
    driver = Driver()
    for _ in range(30):
        output = driver.show([1.0, math.nan])
        assert output.forecast["b"] is None
        assert output.lower["b"] is None
        assert output.upper["b"] is None
        assert output.forecast["a"] is not None

    output = driver.show([math.nan, 7.5])

    assert [7.5] * 3 == pytest.approx(output.forecast["b"])
    assert output.forecast["a"] is not None
    assert driver.show([math.nan, math.nan]).forecast["b"] is not None


STRANGE = {
    "largest values": [[1e30, -1e30], [-1e30, 1e30]] * 20,
    "a largest value among small ones": [[1.0, 1.0]] * 3 + [[1e30, -1e30]] + [[2.0, 0.0]] * 40,
    "a largest value after many": rows_of(60).tolist() + [[1e30, -1e30]] * 3 + rows_of(60).tolist(),
    "smallest values": [[5e-324, -5e-324], [0.0, 1e-300]] * 20,
    "constants": [[0.0, 1e6]] * 60,
    "nothing at all": [[math.nan, math.nan]] * 40,
    "steps": [[0.0, 0.0]] * 40 + [[1e6, 1e-6]] * 40 + [[-1e12, 0.0]] * 40,
    "a new magnitude each time": [[10.0**n, -(10.0**-n)] for n in range(30)],
}


@pytest.mark.parametrize("name", STRANGE)
@pytest.mark.parametrize("cell", ["rnn_relu", "gru", "lru"])
def test_whatever_the_values_every_number_is_finite(name, cell):
    driver = Driver(cell=cell, every=1)

    for output in driver.show_all(STRANGE[name]):
        assert all(map(math.isfinite, numbers_in(output)))
        assert 0.0 <= output.score <= 1.0
    assert np.isfinite(driver.network.theta).all()
    assert not driver.model.counts


@pytest.mark.parametrize("times", [(0.0,) * 40, (1e12, -1e12) * 20, tuple(float(n % 3) for n in range(40))])
def test_whatever_the_times_every_number_is_finite(times):
    model = model_of()
    stream = model.open_stream("k")
    for time in times:
        output = model.process_one(stream, Event("k", time, np.array([1.0, 2.0])), True)
        assert all(map(math.isfinite, numbers_in(output)))
    model.close()


def test_two_runs_are_the_same_to_the_last_bit():
    rows = rows_of(400, missing=0.1)
    first, second = Driver(), Driver()

    assert first.show_all(rows) == second.show_all(rows)
    for name, array in first.memory().items():
        np.testing.assert_array_equal(array, second.memory()[name], err_msg=name)


def test_another_seed_gives_other_forecasts_once_something_is_learned():
    rows = rows_of(100)

    assert Driver(seeds=(1,)).show_all(rows)[-1] != Driver(seeds=(2,)).show_all(rows)[-1]


@pytest.mark.parametrize("cell", ["gru", "lru"])
@pytest.mark.parametrize("seen", [0, 1, 10, 70, 200])
def test_an_event_not_learned_from_changes_nothing_but_seq(seen, cell):
    driver = Driver(cell=cell)
    driver.show([1.0, 2.0])
    for row in rows_of(seen):
        driver.show(row)
    before = driver.memory()

    outputs = [driver.show(row, learn=False) for row in ([1e3, -1e3], [math.nan, 5.0], [20.0, 20.0])]

    assert [seen + 1, seen + 2, seen + 3] == [output.seq for output in outputs]
    after = driver.memory()
    driver.model.close()
    for name, array in before.items():
        np.testing.assert_array_equal(after[name], array, err_msg=name)


@pytest.mark.parametrize("place", [0, 1, 63, 64, 65, 100])
def test_outputs_are_those_of_a_run_without_the_events_not_learned_from(place):
    rows = rows_of(200, missing=0.05)
    plain, disturbed = Driver(), Driver()
    expected = plain.show_all(rows)

    outputs = []
    for n, row in enumerate(rows):
        if n == place:
            for stray in ([1e3, -1e3], [math.nan, 5.0], [20.0, 20.0]):
                disturbed.show(stray, learn=False)
            disturbed.now -= 30.0
        outputs.append(disturbed.show(row))
    disturbed.model.close()

    for output, other in zip(outputs, expected, strict=True):
        assert as_seen(other, "seq", "warmup") == as_seen(output, "seq", "warmup")


def test_an_event_not_learned_from_is_answered_like_one_that_is():
    driver = Driver(every=1000)
    for row in rows_of(100):
        peeked = driver.show(row, learn=False)
        driver.now -= 10.0
        output = driver.show(row)

        assert as_seen(output, "seq", "warmup", "forecast", "lower", "upper") == as_seen(
            peeked, "seq", "warmup", "forecast", "lower", "upper"
        )


def test_an_event_not_learned_from_leaves_the_state_even_when_the_outputs_are_not_finite():
    driver = Driver(learn=False)
    driver.show_all(rows_of(10))
    driver.network.parameters["readout.bias"][0] = np.nan
    state = driver.streams["k"].parts[0].state.copy()

    driver.show([1.0, 1.0], learn=False)

    np.testing.assert_array_equal(driver.streams["k"].parts[0].state, state)


@pytest.mark.parametrize("cell", ["gru", "lru"])
def test_a_state_that_is_not_finite_begins_anew(cell):
    driver = Driver(cell=cell)
    driver.show_all(rows_of(60))
    driver.streams["k"].parts[0].state[:] = np.nan

    outputs = [driver.show(row) for row in rows_of(60)]
    driver.model.close()

    for output in outputs:
        assert all(map(math.isfinite, numbers_in(output)))
    assert driver.model.counts["state_resets"] >= 1
    assert np.isfinite(driver.streams["k"].parts[0].state).all()
    assert np.isfinite(driver.network.theta).all()


def test_keys_share_weights_and_nothing_else():
    driver, alone = Driver(learn=False), Driver(learn=False)
    mixed = []
    for row, other in zip(rows_of(150, missing=0.1), rows_of(150, seed=9) * 1000.0, strict=True):
        mixed.append(driver.show(row, key="first"))
        driver.show(other, key="second")
        driver.now -= 10.0

    expected = alone.show_all(rows_of(150, missing=0.1), key="first")

    assert expected == mixed


def test_what_one_key_shows_is_learned_for_all():
    driver, alone = Driver(), Driver()
    for row in rows_of(200):
        driver.show(row, key="first")
    alone.now = driver.now

    for row in ([20.0, 20.0], [21.0, 19.0], [20.0, 20.0]):
        taught, untaught = driver.show(row, key="second"), alone.show(row, key="second")
    driver.model.close()

    assert taught.updates == 46
    assert untaught.updates == 0
    assert taught.seq == untaught.seq == 2
    for field in ("a", "b"):
        # Not one step ahead, where what the network says is mixed with what a key has learned for itself.
        for k in (1, 2):
            assert abs(taught.forecast[field][k] - untaught.forecast[field][k]) > 0.01


def test_outputs_count_events_and_updates():
    outputs = Driver().show_all(rows_of(41))

    assert list(range(41)) == [output.seq for output in outputs]
    assert ["pump"] * 41 == [output.pipeline for output in outputs]
    assert {("k", HORIZONS)} == {(output.key, output.horizons) for output in outputs}
    # Updates are begun after events 16, 20, 24, ... and taken over four events later.
    assert [max(0, n // 4 - 4) for n in range(1, 42)] == [output.updates for output in outputs]


def test_a_stream_is_warm_after_the_longest_horizon_and_a_window():
    outputs = Driver().show_all(rows_of(30))

    assert [True] * 20 + [False] * 10 == [output.warmup for output in outputs]


def test_a_spike_is_an_anomaly_and_its_field_the_loudest():
    driver = Driver()
    outputs = driver.show_all(rows_of(600))

    spike = driver.show([20.0, 500.0])
    driver.model.close()

    assert spike.anomaly
    assert spike.score > 0.5
    assert spike.loudest == "b"
    assert sum(output.anomaly for output in outputs) <= 6


def test_a_field_that_is_missing_is_never_the_loudest():
    driver = Driver()
    outputs = driver.show_all(rows_of(100, missing=0.4))

    for output in outputs:
        if any(value is not None for value in output.value.values()):
            assert output.value[output.loudest] is not None


def test_histories_of_many_keys_stay_within_the_memory():
    memory = 40 * 64 * Detector.bytes_per_event(2)
    driver = Driver(memory=memory, learn=False)
    for row in rows_of(200):
        for key in range(20):
            driver.show(row, key=key)

    detectors = [part.detector for stream in driver.streams.values() for part in stream.parts]
    used = sum(each.rings.nbytes + each.ordered.nbytes for each in detectors)
    assert memory / 2 <= used <= memory


@pytest.mark.parametrize("shape", [(1,), (3,), (2, 1), ()])
def test_an_event_of_another_number_of_fields_is_refused_and_changes_nothing(shape):
    driver = Driver()
    driver.show([1.0, 2.0])
    before = {name: array.copy() for name, array in driver.memory().items()}
    with pytest.raises(UsageError, match=r"^values: expected shape \(2,\), got"):
        driver.show(np.ones(shape))
    for name, array in driver.memory().items():
        assert before[name].tobytes() == array.tobytes(), name


@pytest.mark.parametrize(
    ("network", "got"),
    [
        (Network("gru", 15, 8, 6, head="laplace", dtype=np.float64), "float64, 15 inputs and 12 numbers"),
        (Network("gru", 15, 8, 5, head="laplace"), "float32, 15 inputs and 10 numbers"),
        (Network("gru", 12, 8, 6, head="laplace"), "float32, 12 inputs and 12 numbers"),
        (Network("gru", 15, 8, 6), "float32, 15 inputs and 6 numbers"),
    ],
)
def test_a_network_that_is_not_of_these_fields_and_horizons_is_refused(network, got):
    with pytest.raises(UsageError, match=f"^members: expected .* got {got}"):
        NumericModel("pump", ("a", "b"), [member_of(2), Member(network, None)], HORIZONS, 0.9, 10**9)
