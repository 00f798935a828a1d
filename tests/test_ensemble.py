"""Several networks that answer as one: their mean is published, and none of them depends on another."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from model_support import HORIZONS, Driver, as_seen, numbers_in, rows_of
from references import squash, unsquash

from streamrnn import config
from streamrnn.budget import budget
from streamrnn.build import build_pipeline
from streamrnn.events import Message
from streamrnn.learn.detector import Alarm, Detector

SEEDS = (3, 14, 15)
FIELDS = ("a", "b")


def location_of(driver):
    """What the networks of a driver say of its stream, in scaled units, (members, F, K), and their log-scales."""
    made = np.array([part.calibrator.made for part in driver.streams["k"].parts])
    return made[:, :, :, 0], made[:, :, :, 1]


def test_two_runs_are_the_same_to_the_last_bit():
    rows = rows_of(300, missing=0.1)
    first, second = Driver(seeds=SEEDS), Driver(seeds=SEEDS)

    assert first.show_all(rows) == second.show_all(rows)
    memory = second.memory()
    for name, array in first.memory().items():
        np.testing.assert_array_equal(array, memory[name], err_msg=name)


@pytest.mark.parametrize("cell", ["gru", "lru"])
def test_every_network_says_what_it_would_say_alone(cell):
    rows = rows_of(250, missing=0.1)
    together, alone = Driver(seeds=SEEDS, cell=cell), [Driver(seeds=(seed,), cell=cell) for seed in SEEDS]

    for row in rows:
        together.show(row)
        for n, driver in enumerate(alone):
            driver.show(row)
            for said, expected in zip(location_of(together), location_of(driver), strict=True):
                np.testing.assert_array_equal(said[n], expected[0])
    together.model.close()
    memory = together.memory()
    for n, driver in enumerate(alone):
        driver.model.close()
        for name, array in driver.memory().items():
            if name.startswith(("0.", "k.0.")) and not name.startswith(("k.0.calibrator", "k.0.detector")):
                np.testing.assert_array_equal(memory[name.replace("0.", f"{n}.", 1)], array, err_msg=name)
    assert driver.model.learners[0].updates > 40


def test_far_forecasts_are_the_mean_of_what_the_networks_say():
    together, alone = Driver(seeds=SEEDS), [Driver(seeds=(seed,)) for seed in SEEDS]

    for row in rows_of(250):
        output = together.show(row)
        for driver in alone:
            driver.show(row)
        said = np.mean([location_of(driver)[0][0] for driver in alone], axis=0)  # (F, K)
        base = together.streams["k"].scaler.base
        for f, field in enumerate(FIELDS):
            mean, deviation = base[f]
            expected = [mean + deviation * unsquash(each) for each in said[f, 1:]]
            # The mean of float32 numbers.
            np.testing.assert_allclose(output.forecast[field][1:], expected, rtol=1e-5, atol=1e-5 * deviation)
    for driver in (together, *alone):
        driver.model.close()
    # They differ, or their mean would say nothing.
    assert np.ptp([location_of(driver)[0][0] for driver in alone], axis=0).min() > 1e-4


def test_the_score_is_that_of_the_mean_strangeness():
    together, alone = Driver(seeds=SEEDS), [Driver(seeds=(seed,)) for seed in SEEDS]
    detectors, alarm, history = [Detector(2) for _ in SEEDS], Alarm(), together.model.history
    rows = rows_of(300)
    rows[250] = [50.0, 20.0]

    for age, row in enumerate(rows):
        output = together.show(row)
        strange, loudness = [], np.zeros(2)
        error = np.array([math.nan if each is None else each for each in output.error.values()])
        for driver, detector in zip(alone, detectors, strict=True):
            driver.show(row)
            scaler, own = driver.streams["k"].scaler, driver.streams["k"].calibrator
            strange.append(
                detector.strangeness_one(row, scaler.scaled, own.residual, own.log_scale, error, age, history)
            )
            loudness += detector.loudness
        score, anomaly = alarm.decide_one(sum(strange) / 3, age)
        assert score == pytest.approx(output.score, rel=1e-9)
        assert anomaly == output.anomaly
        assert FIELDS[int(loudness.argmax())] == output.loudest
        assert anomaly or age != 250
    for driver in (together, *alone):
        driver.model.close()


def test_the_one_step_forecast_published_is_the_one_its_error_is_of():
    outputs = Driver(seeds=SEEDS).show_all(rows_of(150))

    for before, after in pairwise(outputs):
        for field in FIELDS:
            assert after.value[field] - before.forecast[field][0] == after.error[field]


def test_intervals_keep_their_share_of_events():
    rows = rows_of(4000, fields=1)
    outputs = Driver(fields=("a",), seeds=SEEDS, interval=0.9).show_all(rows)

    for k, h in enumerate(HORIZONS):
        inside = [
            made.lower["a"][k] <= row <= made.upper["a"][k]
            for made, row in zip(outputs[500:], rows[500 + h :, 0], strict=False)
        ]
        assert 0.87 <= np.mean(inside) <= 0.93, h


@pytest.mark.parametrize("wild", [0, 1, 2])
def test_a_network_that_is_not_finite_does_not_speak_for_the_others(wild):
    others = [seed for n, seed in enumerate(SEEDS) if n != wild]
    driver, rest = Driver(seeds=SEEDS, learn=False), [Driver(seeds=(seed,), learn=False) for seed in others]
    for each in (driver, *rest):
        each.show_all(rows_of(60))
        for member in each.model.members:  # or all would say the same: heads start alike
            weight = member.network.parameters["readout.weight"]
            weight[:] = np.random.default_rng(weight.size).normal(0.0, 0.1, weight.shape)
    driver.model.members[wild].network.theta[:] = np.nan

    for row in rows_of(60, seed=1):
        output = driver.show(row)
        assert all(map(math.isfinite, numbers_in(output)))
        said = np.array([each.show(row) and location_of(each)[0][0] for each in rest])
        for f, field in enumerate(FIELDS):
            mean, deviation = driver.streams["k"].scaler.base[f]
            expected = [mean + deviation * unsquash(each) for each in said.mean(axis=0)[f, 1:]]
            np.testing.assert_allclose(output.forecast[field][1:], expected, rtol=1e-5, atol=1e-5 * deviation)
    assert driver.model.counts["state_resets"] == 60


@pytest.mark.parametrize("wild", [(0,), (1,), (0, 1, 2)])
@pytest.mark.parametrize("cell", ["gru", "lru"])
def test_a_state_that_is_not_finite_begins_anew_and_the_others_go_on(cell, wild):
    broken, whole = Driver(seeds=SEEDS, cell=cell), Driver(seeds=SEEDS, cell=cell)
    for driver in (broken, whole):
        for row in rows_of(60):
            driver.show(row)
    for n in wild:
        broken.streams["k"].parts[n].state[:] = np.nan

    for row in rows_of(60):
        whole.show(row)
        assert all(map(math.isfinite, numbers_in(broken.show(row))))
        for n in {0, 1, 2} - set(wild):
            np.testing.assert_array_equal(location_of(broken)[0][n], location_of(whole)[0][n])
    for driver in (broken, whole):
        driver.model.close()
    assert broken.model.counts["state_resets"] >= len(wild)
    for part, member in zip(broken.streams["k"].parts, broken.model.members, strict=True):
        assert np.isfinite(part.state).all()
        assert np.isfinite(member.network.theta).all()


@pytest.mark.parametrize("cell", ["gru", "lru"])
@pytest.mark.parametrize("seen", [0, 10, 200])
def test_an_event_not_learned_from_leaves_no_trace(seen, cell):
    driver = Driver(seeds=SEEDS, cell=cell)
    driver.show([1.0, 2.0])
    for row in rows_of(seen):
        driver.show(row)
    before = driver.memory()

    for row in ([1e3, -1e3], [math.nan, 5.0], [20.0, 20.0]):
        driver.show(row, learn=False)

    after = driver.memory()
    driver.model.close()
    for name, array in before.items():
        np.testing.assert_array_equal(after[name], array, err_msg=name)


def test_outputs_are_those_of_a_run_without_the_events_not_learned_from():
    rows = rows_of(150, missing=0.05)
    plain, disturbed = Driver(seeds=SEEDS), Driver(seeds=SEEDS)
    outputs = []
    for n, row in enumerate(rows):
        if n in (0, 64, 100):
            disturbed.show([1e3, -1e3], learn=False)
            disturbed.now -= 10.0
        outputs.append(disturbed.show(row))
    disturbed.model.close()

    for output, other in zip(outputs, plain.show_all(rows), strict=True):
        assert as_seen(other, "seq", "warmup") == as_seen(output, "seq", "warmup")


# As configured


def spec_of(ensemble, more=""):
    text = (
        "pipelines: {line: {input: {topic: plant/+/t, fields: [x, y]},"
        f"model: {{hidden: 6, ensemble: {ensemble}}}, {more or 'limits: {keys: 4}'}}}}}"
    )
    return config.loads(text).pipelines["line"]


def test_networks_start_apart_and_the_first_as_if_it_were_alone():
    one, three = (build_pipeline("line", spec_of(size), 7) for size in (1, 3))
    thetas = [member.network.theta for member in three.model.members]

    np.testing.assert_array_equal(thetas[0], one.model.members[0].network.theta)
    for first, second in ((0, 1), (0, 2), (1, 2)):
        assert not np.array_equal(thetas[first], thetas[second])
    randoms = [member.learner.window.random.tolist() for member in three.model.members]
    assert randoms[0] != randoms[1] != randoms[2] != randoms[0]


def test_every_network_has_its_share_of_the_budget():
    one, three = budget(spec_of(1)), budget(spec_of(3))

    for name in ("parameters", "weights", "window", "ranks"):
        assert 3 * getattr(one, name) == getattr(three, name), name
    assert one.history == three.history == 8192
    assert one.ranks_each == three.ranks_each
    # A calibrator more, for what is published; scaler, readout and Python's objects once.
    assert one.streams < three.streams < 4 * one.streams


def test_memory_shortens_the_windows_of_all_networks():
    more = "learn: {history: 1000000}, limits: {keys: 4, memory_mb: 16}"
    one, three = spec_of(1, more), spec_of(3, more)
    pipeline = build_pipeline("line", three, 0)
    steps = [member.learner.window.capacity for member in pipeline.model.members]

    assert steps == [budget(three).history] * 3
    assert 3 * steps[0] <= budget(one).history < 3 * steps[0] + 3
    assert budget(three).window <= 8 * 2**20
    assert budget(three).total <= 16 * 2**20


def test_histories_of_the_detectors_share_what_is_left():
    more = "limits: {keys: 40, memory_mb: 16}, learn: {history: 64}"
    spec = spec_of(3, more)
    pipeline = build_pipeline("line", spec, 0)
    for i in range(40 * 150):
        record = {"x": math.sin(i / 3), "y": float(i % 7)}
        pipeline.process(Message(f"plant/{i % 40}/t", record, arrival=float(i)))
    pipeline.close()

    detectors = [part.detector for stream in pipeline.streams.values() for part in stream.parts]
    assert len(detectors) == 120
    assert sum(each.rings.nbytes + each.ordered.nbytes for each in detectors) <= budget(spec).ranks
    assert max(each.rings.shape[1] for each in detectors) <= budget(spec).ranks_each


def test_a_forecast_lies_in_its_interval_and_the_interval_around_what_was_seen():
    driver = Driver(seeds=SEEDS)
    for output in driver.show_all(rows_of(200, missing=0.1)):
        calibrator = driver.streams["k"].calibrator
        for field in FIELDS:
            bands = (output.lower[field] or (), output.forecast[field] or (), output.upper[field] or ())
            assert all(low <= middle <= high for low, middle, high in zip(*bands, strict=True))
    assert (calibrator.reach > 0.5).all()
    assert (calibrator.reach <= squash(30.0)).all()
