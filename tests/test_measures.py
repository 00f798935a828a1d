"""Measures against a slow reading of their definition: random streams of several keys, with gaps and by the day."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from streamrnn.evaluation import season
from streamrnn.evaluation.measures import FieldMeasures, Measures
from streamrnn.evaluation.season import DAY, GAPS, Season
from streamrnn.events import NumericOutput

FIELDS = ("x", "y")
START = 1_700_000_000.0


def output(key: str, time: float, horizons: tuple[int, ...], rng: np.random.Generator) -> NumericOutput:
    """An event with a random value (or none), random forecasts (or none) and intervals."""

    def maybe(made: Any, share: float) -> Any:
        return None if rng.random() < share else made

    value = {field: maybe(float(rng.normal()), 0.1) for field in FIELDS}
    forecast = {field: maybe(rng.normal(size=len(horizons)).tolist(), 0.05) for field in FIELDS}
    bands = [
        {field: None if made is None else [each + side for each in made] for field, made in forecast.items()}
        for side in (-0.7, 1.3)
    ]
    return NumericOutput(
        pipeline="p",
        key=key,
        seq=0,
        time=time,
        value=value,
        forecast=forecast,
        lower=bands[0],
        upper=bands[1],
        horizons=horizons,
        error=dict.fromkeys(FIELDS),
        score=0.0,
        anomaly=bool(rng.random() < 0.1),
        loudest="x",
        updates=7,
        warmup=bool(rng.random() < 0.2),
    )


def stream(seed: int, gap: float, horizons: tuple[int, ...], events: int = 260) -> list[NumericOutput]:
    """Two keys in turn; after the first hours events jitter by a fifth of the gap, and one in ten is not there."""
    rng = np.random.default_rng(seed)
    outputs = []
    for i in range(events):
        for key in ("a", "b"):
            time = START + i * gap
            if i > GAPS + 1:
                time += rng.uniform(-0.2, 0.2) * gap
                if rng.random() < 0.1:
                    continue
            outputs.append(output(key, time, horizons, rng))
    return outputs


def seasonal(mine: list[NumericOutput], i: int, horizon: int, field: str, gap: float) -> float | None:
    """The value whole days before event i that was known `horizon` events before it, by looking at every event."""
    time, made = mine[i].time, mine[i - horizon].time
    days = 1
    while time - days * DAY > made:
        days += 1
    kept = [each for each in mine[GAPS + 1 : i] if each.time <= made]
    near = [each for each in kept if abs(each.time - (time - days * DAY)) <= gap / 2]
    nearest = min(near, key=lambda each: abs(each.time - (time - days * DAY)), default=None)
    return None if nearest is None else nearest.value[field]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("gap", "horizons"), [(1800.0, (1, 5)), (3600.0, (1, 24, 30)), (21_600.0, (1, 4, 9))])
def test_measures_are_those_of_the_definition(seed: int, gap: float, horizons: tuple[int, ...]) -> None:
    outputs = stream(seed, gap, horizons)
    measures = Measures()
    for each in outputs:
        measures.add(each)
    inside_all: list[bool] = []
    for field in FIELDS:
        for k, horizon in enumerate(horizons):
            ours, persistence, day, ours_that_day, inside, width = [], [], [], [], [], []
            for key in ("a", "b"):
                mine = [each for each in outputs if each.key == key]
                for i in range(horizon, len(mine)):
                    now, then = mine[i], mine[i - horizon]
                    value, before, made = now.value[field], then.value[field], then.forecast[field]
                    # An event whose own forecast is missing is one of a field never seen: it is not judged.
                    if value is None or before is None or made is None or now.forecast[field] is None:
                        continue
                    lower, upper = then.lower[field], then.upper[field]
                    assert lower is not None
                    assert upper is not None
                    ours.append(value - made[k])
                    persistence.append(value - before)
                    inside.append(lower[k] <= value <= upper[k])
                    width.append(upper[k] - lower[k])
                    said = seasonal(mine, i, horizon, field, gap)
                    if said is not None:
                        day.append(value - said)
                        ours_that_day.append(value - made[k])
            inside_all += inside
            of = measures.fields[field]
            assert (len(ours), len(day)) == (of.judged[k], of.seasonal_judged[k])
            assert len(day) > 30
            mae, mse = np.abs(ours).mean(), np.square(ours).mean()
            expected = {
                "mae": mae,
                "mse": mse,
                "rmse": np.sqrt(mse),
                "skill": 1 - mae / np.abs(persistence).mean(),
                "mse_ratio": mse / np.square(persistence).mean(),
                "seasonal_skill": 1 - np.abs(ours_that_day).mean() / np.abs(day).mean(),
                "coverage": np.mean(inside),
                "mean_width": np.mean(width),
            }
            assert {name: getattr(of, name)(k) for name in expected} == pytest.approx(expected, rel=1e-9)
    assert measures.coverage() == pytest.approx(np.mean(inside_all), rel=1e-12)
    assert measures.events == len(outputs)
    assert measures.warmup == sum(each.warmup for each in outputs)
    assert measures.alerts == sum(each.anomaly for each in outputs)


def filled(gap: float, events: int, longest: int = 1, start: float = START, room: int = season.ROOM) -> Season:
    """A season of one field after so many regular events, whose values are their numbers."""
    of = Season(1, longest)
    for i in range(events):
        of.learn_one(start + i * gap, [float(i)], room)
    return of


@pytest.mark.parametrize("gap", [60.0, 300.0, 3600.0, 43_200.0, 7.0 * 3600.0 / 5.0])
def test_regular_stream_has_the_value_of_a_day_before(gap: float) -> None:
    events = GAPS + 2 + math.ceil(DAY / gap)
    of = filled(gap, events)
    assert of.gap == gap
    time = START + events * gap
    found = of.find(time, time - gap)
    assert found is not None
    assert abs((events - found[0]) * gap - DAY) <= gap / 2


@pytest.mark.parametrize("gap", [1.0, 8.5, 43_300.0, 200_000.0])
def test_stream_whose_day_is_too_long_or_too_short_has_no_season(gap: float) -> None:
    of = filled(gap, 12_000)
    time = START + 12_000 * gap
    assert (of.find(time, time - gap), of.size) == (None, 0)


def test_row_numbers_are_no_times() -> None:
    of = filled(1800.0, 500, start=0.0)
    assert (of.find(500 * 1800.0, 499 * 1800.0), of.size) == (None, 0)


def test_value_that_was_not_known_yet_is_not_used() -> None:
    of = filled(3600.0, 200, longest=30)
    time = START + 200 * 3600.0
    for horizon, days in [(1, 1), (24, 1), (25, 2), (30, 2)]:
        found = of.find(time, time - horizon * 3600.0)
        assert found is not None
        assert found[0] == 200 - 24 * days


def test_event_that_came_early_or_late_is_found_if_it_was_known() -> None:
    of = filled(3600.0, 100)
    missed = START + 100 * 3600.0
    of.learn_one(missed + 0.4 * 3600.0, [7.0], season.ROOM)
    for late, made, expected in [
        (0.6, 0.5, 7.0),  # of its two neighbours' slots, one has it
        (0.0, 0.5, 7.0),
        (0.0, 0.0, None),  # it came after the forecast was made
        (0.95, 0.5, None),  # more than half a gap away
    ]:
        found = of.find(missed + DAY + late * 3600.0, missed + made * 3600.0 + max(late - 0.5, 0) * 3600.0)
        assert expected == (None if found is None else found[0])


def test_season_is_learned_only_from_when_the_gap_is_known() -> None:
    of = filled(3600.0, 40)
    first = GAPS + 1  # the event after the one that makes the gap known
    for i, known in [(first - 1, False), (first, True)]:
        time = START + i * 3600.0 + DAY
        assert (of.find(time, time - 3600.0) is not None) == known


def test_missing_hours_have_nothing_to_say() -> None:
    of = filled(3600.0, 50)
    time = START + 50 * 3600.0 + 10 * DAY  # after a pause of ten days
    assert of.find(time, time - 3600.0) is None


def test_memory_of_all_keys_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    per_key = 2 * (48 + 3)  # two fields, hours of two days
    monkeypatch.setattr("streamrnn.evaluation.measures.ROOM", 3 * per_key + 1)
    measures = Measures(keys_max=5)
    rng = np.random.default_rng(0)

    def feed(keys: range) -> int:
        for i in range(60):
            for key in keys:
                measures.add(output(f"k{key}", START + i * 3600.0, (1,), rng))
        return sum(each.season.size for each in measures._waiting.values())

    assert 3 * per_key == feed(range(5))
    assert 3 * per_key == feed(range(5, 10))  # the first five are let go, and their room with them
    assert len(measures._waiting) == 5


def test_measures_of_nothing_are_not_a_number() -> None:
    of = FieldMeasures((1,))
    names = ["mae", "mse", "rmse", "mse_ratio", "skill", "seasonal_skill", "coverage", "mean_width"]
    assert all(math.isnan(getattr(of, name)(0)) for name in names)
    assert math.isnan(Measures().coverage())
