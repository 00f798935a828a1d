"""Pictures: what is drawn is what was traced. Nobody compares pixels here; the lines are asked for their points."""

from __future__ import annotations

import importlib.util
import io
import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imread

from streamrnn.errors import UsageError
from streamrnn.evaluation import plot
from streamrnn.evaluation.trace import NumericTrace, SymbolTrace, Trace
from streamrnn.events import NumericOutput, SymbolOutput

START = 1_700_000_000.0


def numbers(
    count: int, fields: int = 1, key: str = "k", start: float = START, spike: float = 50.0, field: str = "f"
) -> NumericTrace:
    """Waves with one spike, which is an alert, at the fifth event from the beginning of the second half."""
    names = [f"{field}{n}" for n in range(fields)]
    trace = NumericTrace(key, names)
    for i in range(count):
        strange = i == count // 2 + 5
        value = spike if strange else math.sin(i / 9)
        made = math.sin((i + 1) / 9)
        trace.add(
            NumericOutput(
                pipeline="p",
                key=key,
                seq=i,
                time=start + 300.0 * i,
                value=dict.fromkeys(names, None if i % 50 == 7 else value),
                forecast={name: [made] for name in names},
                lower={name: [made - 0.5] for name in names},
                upper={name: [made + 0.5] for name in names},
                horizons=(1,),
                error=dict.fromkeys(names),
                score=0.9 if strange else 0.1,
                anomaly=strange,
                loudest="f0",
                updates=0,
                warmup=False,
            )
        )
    return trace


def symbols(count: int) -> SymbolTrace:
    trace = SymbolTrace("k")
    for i in range(count):
        trace.add(SymbolOutput("p", "k", i, float(i), "ab"[i % 2], 2.0, [("a", 0.6), ("b", 0.4)], 0, False))
    return trace


def drawn(trace: Trace, title: str = "title") -> Figure:
    figure = Figure()
    plot.draw(trace, title, figure)
    return figure


def line(panel: Axes, name: str) -> Any:
    return next(each for each in panel.get_lines() if each.get_label() == name)


@pytest.mark.parametrize(
    "trace",
    [
        numbers(1),
        numbers(2),
        numbers(300),
        numbers(5000),
        numbers(700, fields=8),
        numbers(60, start=0.0),
        numbers(60, key="50 $ a$b_{ \n 湿度 " + "long " * 100, field="a$b_{$ % \n"),
        numbers(60, spike=1e30),
        symbols(1),
        symbols(3000),
    ],
    ids=["one", "two", "short", "long", "fields", "undated", "odd", "huge", "symbol", "symbols"],
)
def test_any_trace_makes_a_picture(trace: Trace) -> None:
    picture = plot.png(trace, f"pipe · {trace.key}")
    shape = imread(io.BytesIO(picture)).shape
    assert shape[1] == plot.WIDTH * plot.DPI
    assert 400 < shape[0] < 2500


def test_same_trace_makes_the_same_bytes() -> None:
    assert plot.png(numbers(900), "t") == plot.png(numbers(900), "t")


def test_short_trace_is_drawn_as_it_is() -> None:
    panel, score = drawn(numbers(300)).axes
    value, forecast = line(panel, "value"), line(panel, "forecast, one step before")
    y = value.get_ydata()
    assert len(y) == 300
    assert np.isnan(y[7])
    assert y[155] == 50.0
    assert y[20] == pytest.approx(forecast.get_ydata()[20])
    assert np.nonzero(np.isfinite(line(score, "alert").get_ydata()))[0].tolist() == [155]
    assert np.datetime64(int(START + 155 * 300), "s") == line(score, "alert").get_xdata()[155]


def test_long_trace_keeps_its_spike_and_its_alert_and_shows_the_newest() -> None:
    figure = drawn(numbers(20_000))
    panel, score, close_up, _ = figure.axes
    y = line(panel, "value").get_ydata()
    assert len(y) < 5000
    assert np.nanmax(y) == 50.0
    assert np.isfinite(line(score, "alert").get_ydata()).sum() == 1
    assert len(line(close_up, "value").get_ydata()) == 160
    assert [panel.get_title(loc="left"), close_up.get_title(loc="left")] == ["all 20,000 events", "the last 160"]
    lowest, highest = panel.get_ylim()
    assert lowest < -1.0
    assert highest > 50.0


def test_six_fields_have_panels_and_the_others_are_counted() -> None:
    figure = drawn(numbers(100, fields=8))
    assert [panel.get_ylabel() for panel in figure.axes] == [*(f"f{i}" for i in range(6)), "score"]
    assert figure.get_supxlabel() == "and 2 more fields"


@pytest.mark.parametrize(("start", "label"), [(START, "time, UTC"), (0.0, "event")])
def test_axis_is_of_dates_when_there_are_any(start: float, label: str) -> None:
    assert label == drawn(numbers(50, start=start)).axes[-1].get_xlabel()


def test_symbols_have_bits_and_shares() -> None:
    upper, lower = drawn(symbols(400)).axes
    np.testing.assert_allclose(line(upper, "since the beginning").get_ydata(), 2.0)
    # The likeliest is always a, which is every other symbol; both are always among the five.
    np.testing.assert_allclose(line(lower, "likeliest was right").get_ydata()[-100:], 50.0)
    np.testing.assert_allclose(line(lower, "among the five likeliest").get_ydata()[-100:], 100.0)


def test_interval_that_explodes_does_not_flatten_the_values() -> None:
    trace = numbers(300, spike=1.0)
    column = trace.column(0, trace.UPPER)
    trace.all.points().high[100:200, column] = 1e9
    assert drawn(trace).axes[0].get_ylim()[1] < 2.0
    points, value = trace.all.points(), trace.column(0, trace.VALUE)
    points.low[:, trace.column(0, trace.LOWER)] = points.low[:, value] - 0.1
    points.high[:, column] = points.high[:, value] + 0.1
    points.low[100, trace.column(0, trace.LOWER)] = -1e9
    points.high[100, column] = 1e9  # one alone does not even take its share
    bottom, top = drawn(trace).axes[0].get_ylim()
    assert -1.3 < bottom < top < 1.3


def test_without_matplotlib_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    plot.require()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"^--plot needs matplotlib: pip install 'streamrnn\[plot\]'$"):
        plot.require()


def test_matplotlib_is_loaded_for_a_picture_only_and_pyplot_never() -> None:
    program = """if True:
        import sys
        from streamrnn import cli
        from streamrnn.evaluation import plot
        from streamrnn.events import SymbolOutput
        from streamrnn.evaluation.trace import SymbolTrace
        trace = SymbolTrace("k")
        trace.add(SymbolOutput("p", "k", 0, 0.0, "a", 1.0, [], 0, False))
        plot.require()
        assert "matplotlib" not in sys.modules
        plot.png(trace, "title")
        assert "matplotlib" in sys.modules
        assert "matplotlib.pyplot" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
