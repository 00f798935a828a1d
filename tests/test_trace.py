"""Traces: what a picture is drawn from keeps every extreme and every alert, in a memory that does not grow."""

from __future__ import annotations

import math

import numpy as np
import pytest

from streamrnn.evaluation.trace import BUCKETS, MEANS, NEWEST, Extremes, Means, NumericTrace, Recorder, SymbolTrace
from streamrnn.events import NumericOutput, SymbolOutput

START = 1_700_000_000.0


def numeric(
    i: int, key: str = "a", time: float | None = None, fields: int = 2, anomaly: bool = False
) -> NumericOutput:
    names = [f"f{n}" for n in range(fields)]
    gone = i % 7 == 3
    return NumericOutput(
        pipeline="p",
        key=key,
        seq=i,
        time=START + 60.0 * i if time is None else time,
        value={name: None if gone else float(i) for name in names},
        forecast={name: [i + 0.25, -1.0] for name in names},
        lower={name: [i - 5.0, -2.0] for name in names},
        upper={name: [i + 5.0, 0.0] for name in names},
        horizons=(1, 4),
        error=dict.fromkeys(names),
        score=0.75 if anomaly else 0.1,
        anomaly=anomaly,
        loudest="f0",
        updates=0,
        warmup=False,
    )


def symbol(i: int, seen: str, following: str, key: str = "a") -> SymbolOutput:
    following_ones = [(each, 0.1) for each in following]
    return SymbolOutput("p", key, i, START + i, seen, float(i), following_ones, 0, False)


@pytest.mark.parametrize("count", [1, 7, 8, 9, 16, 17, 100, 1000])
def test_extremes_are_those_of_every_run(count: int) -> None:
    rng = np.random.default_rng(count)
    rows = np.where(rng.random((count, 3)) < 0.3, math.nan, rng.normal(size=(count, 3)))
    of = Extremes(3, buckets=8)
    for i, row in enumerate(rows):
        of.add(START + i, row.tolist())
    stride = 1
    while 8 * stride < count:
        stride *= 2
    assert stride == of.stride
    points = of.points()
    assert len(points.number) == -(-count // stride)
    for b, first in enumerate(range(0, count, stride)):
        assert (points.number[b], points.time[b]) == (first, START + first)
        for column in range(3):
            run = rows[first : first + stride, column]
            if np.isnan(run).all():
                assert np.isnan([points.low[b, column], points.high[b, column]]).all()
                continue
            expected = np.nanmin(run), np.nanmax(run), np.nanargmin(run) <= np.nanargmax(run)
            assert (points.low[b, column], points.high[b, column], points.rising[b, column]) == expected


@pytest.mark.parametrize("count", [1, 8, 9, 33, 1000])
def test_means_are_those_of_every_run(count: int) -> None:
    rows = np.random.default_rng(count).normal(size=(count, 2))
    of = Means(2, buckets=8)
    for i, row in enumerate(rows):
        of.add(START + i, row.tolist())
    number, time, counts, means = of.means()
    runs = [range(first, min(first + of.stride, count)) for first in range(0, count, of.stride)]
    assert len(runs) <= 8
    assert counts.tolist() == [len(run) for run in runs]
    assert number.tolist() == [run[-1] for run in runs]
    assert time.tolist() == [START + run[-1] for run in runs]
    np.testing.assert_allclose(means, [rows[run].mean(0) for run in runs], rtol=1e-12)


def test_event_is_beside_what_was_forecast_of_it() -> None:
    trace = NumericTrace("a", ["f0", "f1"])
    for i in range(10):
        trace.add(numeric(i, anomaly=i == 6))
    points = trace.all.points()
    assert points.low.shape == (10, 10)
    column = [trace.column(1, part) for part in (trace.VALUE, trace.FORECAST, trace.LOWER, trace.UPPER)]
    assert points.low[6, column].tolist() == [6.0, 5.25, 0.0, 10.0]
    assert np.isnan(points.low[3, column]).tolist() == [True, False, False, False]  # the value was missing
    assert np.isnan(points.low[0, column]).tolist() == [False, True, True, True]  # nothing had been forecast
    assert points.low[6, trace.score_column :].tolist() == [0.75, 0.75]
    assert np.isnan(points.high[:, trace.score_column + 1]).sum() == 9


def test_alerts_survive_many_events_in_little_memory() -> None:
    trace = NumericTrace("a", ["f0"])
    outputs = [numeric(i, fields=1) for i in range(7)]
    for i in range(20_000):
        trace.add(numeric(i, fields=1, anomaly=True) if i in (4321, 15_000) else outputs[i % 7])
    points = trace.all.points()
    assert len(points.number) <= BUCKETS
    alerts = points.number[np.isfinite(points.high[:, trace.score_column + 1])]
    assert [4321 // trace.all.stride, 15_000 // trace.all.stride] == (alerts / trace.all.stride).tolist()
    assert np.nanmax(points.high[:, 0]) == 15_000.0
    newest = trace.newest_points()
    assert newest.number.tolist() == list(range(20_000 - NEWEST, 20_000))
    assert len(Means(3).means()[0]) <= MEANS


def test_fields_beyond_the_most_are_counted() -> None:
    trace = NumericTrace("a", [f"f{i}" for i in range(9)])
    trace.add(numeric(0, fields=9))
    assert (len(trace.fields), trace.left_out) == (6, 3)


@pytest.mark.parametrize(
    ("times", "dated"),
    [([START, START, START + 1], True), ([START, START - 1], False), ([0.0, 1.0], False), ([START, 5.0], False)],
)
def test_times_are_an_axis_when_they_are_dates_in_order(times: list[float], dated: bool) -> None:
    trace = NumericTrace("a", ["f0", "f1"])
    for i, time in enumerate(times):
        trace.add(numeric(i, time=time))
    assert dated == trace.dated


def test_symbols_are_hits_when_they_had_been_expected() -> None:
    trace = SymbolTrace("a")
    for i, (seen, following) in enumerate([("x", "yz"), ("y", "zx"), ("x", "ab"), ("q", "xy")]):
        trace.add(symbol(i, seen, following))
    _, _, counts, means = trace.all.means()
    assert counts.tolist() == [1.0] * 4
    assert means.tolist() == [[0.0, 0.0, 0.0], [1.0, 1.0, 1.0], [2.0, 0.0, 1.0], [3.0, 0.0, 0.0]]


@pytest.mark.parametrize(("wanted", "events"), [(None, 3), ("b", 3), ("a", 2), ("c", 0)])
def test_recorder_takes_one_key(wanted: str | None, events: int) -> None:
    recorder = Recorder(wanted)
    for i, key in enumerate("babab"):
        recorder.add(numeric(i, key))
    assert events == (recorder.trace.all.count if recorder.trace else 0)
    recorder = Recorder(wanted)
    for i, key in enumerate("babab"):
        recorder.add(symbol(i, "x", "x", key))
    assert events == (recorder.trace.all.count if recorder.trace else 0)
