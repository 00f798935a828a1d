"""The tasks of benchmarks/memory_tasks.py: that they are what they say, and that no answer is known beforehand."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from measuring import fading, memory
from streamrnn.learn.network import Network

SMALL = {
    "rnn_tanh": memory.Setting("rnn_tanh", hidden=4, length=16, every=4),
    "lru": memory.Setting("lru", hidden=4, every=4),
}


def test_the_answer_of_delay_is_the_input_so_many_events_before():
    xs, answers = memory.task("delay-7", 100, seed=0)

    assert (100, 1) == xs.shape
    assert {-1.0, 1.0} == set(xs[:, 0].tolist())
    assert np.isnan(answers[:7]).all()
    np.testing.assert_array_equal(xs[:-7, 0], answers[7:])


def test_the_answer_of_adding_is_the_sum_of_what_its_segment_marks_one_in_either_half():
    xs, answers = memory.task("adding-10", 45, seed=0)

    assert [0, 10, 20, 30] == np.flatnonzero(xs[:, 2]).tolist()
    assert [9, 19, 29, 39] == np.flatnonzero(~np.isnan(answers)).tolist()
    for segment in range(4):
        rows = xs[10 * segment : 10 * segment + 10]
        marks = np.flatnonzero(rows[:, 1])
        assert 2 == len(marks)
        assert marks[0] < 5 <= marks[1]
        assert answers[10 * segment + 9] == pytest.approx(rows[marks, 0].astype(float).sum(), abs=1e-6)


def test_another_seed_is_another_draw():
    (xs, _), (again, _), (other, _) = (memory.task("adding-10", 50, seed) for seed in (1, 1, 2))

    np.testing.assert_array_equal(xs, again)
    assert (xs != other).any()


@pytest.mark.parametrize("setting", SMALL.values(), ids=SMALL)
def test_what_is_said_to_an_event_takes_nothing_from_its_answer_or_later_ones(setting):
    xs, answers = memory.task("delay-2", 120, seed=0)
    changed = answers.copy()
    changed[70:] *= -1.0

    said, other = (memory.Run(setting, 1, 0).answer(xs, each) for each in (answers, changed))

    np.testing.assert_array_equal(said[:71], other[:71])  # the answer of 70 is learned from at 71
    assert (said[71:] != other[71:]).any()


@pytest.mark.parametrize("setting", SMALL.values(), ids=SMALL)
def test_a_short_delay_is_learned(setting):
    xs, answers = memory.task("delay-2", 6000, seed=0)

    said = memory.Run(setting._replace(hidden=16, rate=0.01), 1, 0).answer(xs, answers)

    assert memory.late_error(said, answers) < 0.3


def test_the_error_is_0_of_what_is_right_and_1_of_the_mean_and_only_the_last_quarter_counts():
    answers = np.tile(np.array([1.0, np.nan, -1.0, np.nan], np.float32), 20)
    right = np.nan_to_num(answers)
    right[:60] = 9.0

    assert 0.0 == memory.late_error(right, answers)
    assert 1.0 == memory.late_error(np.zeros(80, np.float32), answers)
    assert 0.25 == memory.late_error(right / 2, answers)


def test_every_task_has_a_setting_for_every_cell():
    assert {name: list(memory.CELLS) for name in memory.SETTINGS} == {
        name: list(cells) for name, cells in memory.SETTINGS.items()
    }
    assert all(cell == setting.cell for cells in memory.SETTINGS.values() for cell, setting in cells.items())


def test_influence_is_the_product_of_the_steps_derivatives():
    network = Network("rnn_tanh", inputs=2, hidden=5, dtype=np.float64, seed=3)
    names = network.parameters
    w_ih, w_hh, w_o = names["weight_ih_l0"], names["weight_hh_l0"], names["readout.weight"]
    xs = np.random.default_rng(0).normal(size=(16, 2))
    reach = 6

    h, slopes = np.zeros(5), []
    for x in xs:
        h = np.tanh(w_ih @ x + w_hh @ h)
        slopes.append(np.diag(1.0 - h * h))
    expected = np.zeros(reach + 1)
    for s in range(reach, len(xs) - reach):
        d_h = slopes[s] @ w_ih
        for k in range(reach + 1):
            expected[k] += ((w_o @ d_h) ** 2).sum()
            d_h = slopes[(s + k + 1) % len(xs)] @ w_hh @ d_h
    expected = np.sqrt(expected / (len(xs) - 2 * reach))

    np.testing.assert_allclose(fading.influence(network, xs, reach), expected, rtol=1e-6)


def test_influence_of_delay_has_nothing_beyond_a_network_that_forgets_at_once():
    network = Network("rnn_tanh", inputs=1, hidden=3, dtype=np.float64)
    network.parameters["weight_hh_l0"][:] = 0.0
    xs = np.random.default_rng(0).normal(size=(20, 1))

    found = fading.influence(network, xs, reach=4)

    assert found[0] > 0.0
    assert [0.0] * 4 == found[1:].tolist()
