"""The protocols of benchmarks/quality.py against cases worked out by hand."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from scoring import forecast, nab, verification

STANDARD = nab.PROFILES["standard"]


def sigmoid(x: float) -> float:
    return 2.0 / (1.0 + math.exp(5.0 * x)) - 1.0


@pytest.fixture
def truths() -> dict[str, nab.Truth]:
    """100 rows, the first 15 not scored, and two windows of ten rows."""
    return {"file": nab.truth(100, [(30, 39), (70, 79)])}


def at(*rows: int, score: float = 1.0) -> dict[str, np.ndarray]:
    scores = np.zeros(100)
    scores[list(rows)] = score
    return {"file": scores}


def test_probation_is_15_per_cent_and_750_rows_at_most() -> None:
    assert [0, 15, 150, 750, 750] == [nab.probation(rows) for rows in (6, 100, 1005, 5000, 22_000)]


def test_silence_is_0_and_the_first_row_of_every_window_100(truths: dict[str, nab.Truth]) -> None:
    assert nab.evaluate(truths, at(), STANDARD, 0.5) == 0.0
    assert nab.evaluate(truths, at(30, 70), STANDARD, 0.5) == pytest.approx(100.0)


def test_a_late_detection_is_worth_less_and_a_second_one_in_the_window_nothing(
    truths: dict[str, nab.Truth],
) -> None:
    middle = sigmoid(-0.5) / sigmoid(-1.0)  # row 35: five of ten rows are left
    assert nab.evaluate(truths, at(35), STANDARD, 0.5) == pytest.approx(100.0 * (middle + 1.0) / 4.0)
    assert nab.evaluate(truths, at(35, 36, 39), STANDARD, 0.5) == nab.evaluate(truths, at(35), STANDARD, 0.5)


@pytest.mark.parametrize(
    ("row", "weight"),
    [(20, -1.0), (40, sigmoid(1 / 9)), (45, sigmoid(6 / 9)), (69, -1.0), (81, sigmoid(2 / 9))],
)
def test_a_false_alarm_costs_by_its_distance_to_the_window_before(
    truths: dict[str, nab.Truth], row: int, weight: float
) -> None:
    lost = nab.evaluate(truths, at(30, 70), STANDARD, 0.5) - nab.evaluate(truths, at(30, 70, row), STANDARD, 0.5)
    assert lost == pytest.approx(-100.0 * 0.11 * weight / 4.0)


def test_rows_of_the_probation_period_do_not_count(truths: dict[str, nab.Truth]) -> None:
    assert nab.evaluate(truths, at(3, 14), STANDARD, 0.5) == 0.0
    assert nab.evaluate(truths, at(15), STANDARD, 0.5) < 0.0


def test_false_alarms_weigh_double_and_misses_double_in_the_other_profiles(truths: dict[str, nab.Truth]) -> None:
    late = sigmoid(-0.5) / sigmoid(-1.0)
    assert nab.evaluate(truths, at(20), nab.PROFILES["low FP"], 0.5) == pytest.approx(-100 * 0.22 / 4)
    assert nab.evaluate(truths, at(35), nab.PROFILES["low FN"], 0.5) == pytest.approx(100 * (late + 2) / (2 + 4))


def test_a_window_of_the_probation_period_cannot_be_missed_but_is_wanted_for_100() -> None:
    truths = {"file": nab.truth(100, [(3, 9), (60, 89)])}
    assert nab.evaluate(truths, at(), STANDARD, 0.5) == 0.0
    assert nab.evaluate(truths, at(5, 60), STANDARD, 0.5) == pytest.approx(100 * (1 + 1) / (2 + 1))


def test_the_best_threshold_is_the_best_of_all_that_differ() -> None:
    rng = np.random.default_rng(0)
    truths = {"a": nab.truth(200, [(50, 69)]), "b": nab.truth(100, [(5, 9), (60, 89)]), "c": nab.truth(80, [])}
    scores = {name: rng.integers(0, 40, rows) / 40 for name, rows in (("a", 200), ("b", 100), ("c", 80))}
    scores["a"][50] = scores["b"][62] = scores["c"][20] = 0.99
    for profile in nab.PROFILES.values():
        each = {t: nab.evaluate(truths, scores, profile, t) for t in np.unique(np.concatenate([*scores.values()]))}
        threshold, best = nab.optimise(truths, scores, profile)
        assert best == pytest.approx(max(each.values()))
        assert each[threshold] == pytest.approx(best)
        assert best > 0.0


def test_nothing_is_detected_when_that_is_best(truths: dict[str, nab.Truth]) -> None:
    assert nab.optimise(truths, at(*range(15, 30), *range(90, 100)), STANDARD) == (math.inf, 0.0)


def test_a_window_of_one_row_has_no_soft_edge() -> None:
    assert nab.truth(10, [(5, 5)]).weight.tolist() == [-1.0] * 4 + [1.0] + [-1.0] * 4


def test_persistence_of_a_series_with_gaps_says_the_last_value_known() -> None:
    values = np.array([np.nan, 1.0, np.nan, 3.0, 2.0])
    assert [None, 1.0, 1.0, 3.0, 2.0] == [None if x != x else x for x in forecast.last_known(values).tolist()]
    late_by_half = np.array([np.nan, 2.0, 2.0, 2.5, np.nan])  # errors 1 and .5 where persistence has 2 and 1
    assert forecast.against_persistence(values, late_by_half) == pytest.approx(0.25)


def test_a_constant_that_is_hit_is_no_worse_than_persistence() -> None:
    constant = np.full(50, 20.0)
    assert forecast.against_persistence(constant, constant) == 1.0
    assert forecast.against_persistence(constant, constant + 0.01) > 2.0


def test_ett_counts_months_six_to_twenty_in_deviations_of_the_first_four() -> None:
    values = np.zeros((forecast.ETT_ROWS + 100, 2))
    values[: 4 * forecast.MONTH : 2] = [4.0, 8.0]  # deviations 2 and 4
    wrong = np.full_like(values, 1e6)
    wrong[5 * forecast.MONTH - 1 : forecast.ETT_ROWS - 1] = [1.0, 4.0]
    assert forecast.ett_mse(values, wrong) == pytest.approx((0.5**2 + 1.0**2) / 2)


def test_coverage_looks_at_the_interval_stated_so_many_events_before() -> None:
    values = np.array([0.0, 1.0, 2.0, np.nan, 4.0])
    assert forecast.coverage(values, values - 0.5, values + 2.5, 2) == 1.0
    assert forecast.coverage(values, values - 0.5, values + 1.5, 2) == 0.0
    assert forecast.coverage(values, np.array([0.5, 1.5, 9.0, 3.5, 9.0]), np.full(5, 9.0), 1) == 1.0


def test_equal_error_rate_of_what_is_apart_mixed_and_the_wrong_way_round() -> None:
    low, high = np.array([1.0, 2.0, 3.0, 4.0]), np.array([5.0, 6.0])
    assert verification.equal_error_rate(low, high) == 0.0
    assert verification.equal_error_rate(high, low) == 1.0
    assert verification.equal_error_rate(low, low) == 0.5
    # Above 2 refuses half of the genuine and admits half of the impostors.
    assert verification.equal_error_rate(low, np.array([1.5, 3.5])) == 0.5


def test_equal_error_rate_lies_on_the_line_between_two_thresholds() -> None:
    # At 1 three of four genuine are refused and no impostor admitted, at 2 a quarter and all.
    genuine, impostor = np.array([1.0, 2.0, 2.0, 3.0]), np.array([2.0, 2.0])
    assert verification.equal_error_rate(genuine, impostor) == pytest.approx(0.75 - 0.5 * 0.5)


def test_impostors_are_the_first_five_of_every_other_subject() -> None:
    vectors = {name: np.full((8, 1), float(i)) + np.arange(8)[:, None] / 10 for i, name in enumerate("abc")}
    shown = {name: (genuine, impostor) for name, genuine, impostor in verification.probes(vectors, 6)}
    assert [1.6, 1.7] == shown["b"][0].ravel().round(3).tolist()
    assert [0.0, 0.1, 0.2, 0.3, 0.4, 2.0, 2.1, 2.2, 2.3, 2.4] == shown["b"][1].ravel().round(3).tolist()


def test_manhattan_distance_is_in_mean_absolute_deviations_of_each_field() -> None:
    learned = np.array([[0.0, 10.0], [2.0, 30.0]])  # means 1 and 20, deviations 1 and 10
    distance = verification.manhattan_scaled(learned, np.array([[3.0, 0.0], [1.0, 20.0]]))
    assert distance.tolist() == [4.0, 0.0]
