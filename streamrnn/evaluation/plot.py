"""Pictures of a replay. Drawn with matplotlib, which is an extra: it is imported where it is used and nowhere else.

`draw` takes any matplotlib Figure; nothing here goes through pyplot or its state.
"""

from __future__ import annotations

import importlib.util
import io
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from streamrnn.errors import UsageError
from streamrnn.evaluation.trace import NEWEST, NumericTrace, Points, SymbolTrace, Trace

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 10.0  # inches
DPI = 160
ALERT_SCORE = 0.5
FAR = 0.25  # of the span of the values: a forecast or interval farther out of it is cut off,
RARE = 0.01  # and the farthest of them, this share
CLOSE_UP = 3 * NEWEST  # with more events than that, the newest are drawn once more by themselves

# Told apart by colour-blind readers too: Okabe and Ito 2008, beside a dark grey.
INK, GREY, GRID = "#2b3440", "#77808a", "#e4e7ea"
BLUE, SKY, RED, GREEN = "#0072b2", "#56b4e9", "#d55e00", "#009e73"


def require() -> None:
    """Raise a UsageError when matplotlib is not installed."""
    if importlib.util.find_spec("matplotlib") is None:
        raise UsageError("--plot needs matplotlib: pip install 'streamrnn[plot]'")


def png(trace: Trace, title: str) -> bytes:
    """Draw a trace with at least one event; return the picture."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height(trace)), dpi=DPI)
    picture = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph", UserWarning)  # a key may have any character
        draw(trace, title, figure)
        FigureCanvasAgg(figure).print_png(picture)
    return picture.getvalue()


def height(trace: Trace) -> float:
    """Return the height a picture of a trace wants, in inches."""
    if isinstance(trace, SymbolTrace):
        return 4.6
    panel = 2.4 if len(trace.fields) == 1 else 1.7
    return 1.9 + panel * len(trace.fields)


def draw(trace: Trace, title: str, figure: Figure) -> None:
    """Draw a trace with at least one event into an empty figure."""
    figure.set_facecolor("white")
    figure.set_layout_engine("constrained", h_pad=0.06, w_pad=0.06, hspace=0.02, wspace=0.03)
    figure.suptitle(
        printable(title, 52), x=0.012, ha="left", fontsize=11, color=INK, weight="bold", parse_math=False
    )
    if isinstance(trace, SymbolTrace):
        _draw_symbols(trace, figure)
    else:
        _draw_numbers(trace, figure)


def printable(text: str, most: int) -> str:
    """Return a text in one line of at most so many characters, whatever is in it."""
    line = "".join(character if character.isprintable() else "?" for character in text)
    return line if len(line) <= most else line[: most - 1] + "…"


def _draw_numbers(trace: NumericTrace, figure: Figure) -> None:
    views: list[tuple[Points, str]] = [(trace.all.points(), f"all {trace.all.count:,} events")]
    if trace.all.count > CLOSE_UP:
        views.append((trace.newest_points(), f"the last {len(trace.newest)}"))
    heights = [2.4 if len(trace.fields) == 1 else 1.7] * len(trace.fields) + [1.0]
    grid = figure.add_gridspec(
        len(heights), len(views), height_ratios=heights, width_ratios=[2.1, 1.0][: len(views)]
    )
    for column, (points, name) in enumerate(views):
        crowded = column < len(views) - 1
        panels = [figure.add_subplot(grid[row, column]) for row in range(len(heights))]
        for field, panel in enumerate(panels[:-1]):
            panel.sharex(panels[-1])
            _field(panel, trace, field, points, crowded)
            panel.tick_params(labelbottom=False)
            if column == 0:
                panel.set_ylabel(printable(trace.fields[field], 24), parse_math=False)
        _score(panels[-1], trace, points, column == 0)
        panels[0].set_title(name, loc="left", fontsize=8.5, color=GREY)
        _time_axis(panels[-1], trace.dated)
        if column == len(views) - 1:
            _legend(figure, panels)
    if trace.left_out:
        figure.supxlabel(f"and {trace.left_out} more fields", fontsize=8, color=GREY)


def _field(panel: Axes, trace: NumericTrace, field: int, points: Points, crowded: bool) -> None:
    """Draw the values of a field over their forecasts and intervals."""
    value, forecast, lower, upper = (trace.column(field, part) for part in range(4))
    x = _x(points, trace.dated)
    band = panel.fill_between(x, points.low[:, lower], points.high[:, upper], color=SKY, alpha=0.28, linewidth=0)
    band.set_label("interval")
    thin = 0.6 if crowded else 1.0
    panel.plot(*_line(points, forecast, trace.dated), color=BLUE, linewidth=thin, label="forecast, one step before")
    panel.plot(*_line(points, value, trace.dated), color=INK, linewidth=thin, label="value")
    alerts = np.isfinite(points.high[:, trace.score_column + 1])
    for at in x[alerts]:
        panel.axvline(at, color=RED, linewidth=0.8, alpha=0.55, zorder=0)
    _limits(panel, points, (value, forecast, lower, upper))
    _plain(panel)


def _score(panel: Axes, trace: NumericTrace, points: Points, named: bool) -> None:
    """Draw the score, and where it made an alert."""
    score = trace.score_column
    panel.plot(*_line(points, score, trace.dated), color=GREY, linewidth=0.8)
    panel.axhline(ALERT_SCORE, color=RED, linewidth=0.7, linestyle=(0, (4, 3)), alpha=0.7)
    alerts = points.high[:, score + 1]
    panel.plot(
        _x(points, trace.dated),
        alerts,
        linestyle="none",
        marker="o",
        markersize=4.5,
        color=RED,
        label="alert",
        clip_on=False,
        zorder=5,
    )
    panel.set_ylim(0.0, 1.0)
    panel.set_yticks([0.0, 0.5, 1.0])
    if named:
        panel.set_ylabel("score")
    else:
        panel.tick_params(labelleft=False)
    _plain(panel)


def _draw_symbols(trace: SymbolTrace, figure: Figure) -> None:
    number, time, counts, means = trace.all.means()
    x = _dates(time) if trace.dated else number
    runs = max(len(counts) // 20, 1)
    recent = _recent(counts, means, runs)
    overall = _recent(counts, means, len(counts))
    upper, lower = (figure.add_subplot(2, 1, row) for row in (1, 2))
    upper.sharex(lower)
    bits, top1, top5 = trace.BITS, trace.TOP1, trace.TOP5
    upper.plot(x, recent[:, bits], color=BLUE, linewidth=1.0, label=f"of the last {runs * trace.all.stride:,}")
    upper.plot(x, overall[:, bits], color=INK, linewidth=1.4, label="since the beginning")
    upper.set_ylim(bottom=0.0)
    upper.set_ylabel("bits per symbol")
    upper.tick_params(labelbottom=False)
    upper.set_title(f"all {trace.all.count:,} events", loc="left", fontsize=8.5, color=GREY)
    for column, color, name in ((top5, GREEN, "among the five likeliest"), (top1, BLUE, "likeliest was right")):
        lower.plot(x, 100.0 * recent[:, column], color=color, linewidth=1.0, label=name)
    lower.set_ylim(0.0, 100.0)
    lower.set_ylabel("right, %")
    for panel in (upper, lower):
        _plain(panel)
        panel.legend(loc="best", fontsize=8, frameon=False, ncols=2, labelcolor=INK)
    _time_axis(lower, trace.dated)


def _recent(counts: Any, means: Any, runs: int) -> Any:
    """Return the means (n, C) of so many runs up to each, or of those there are."""
    sums, totals = np.cumsum(means * counts[:, None], 0), np.cumsum(counts)
    sums[runs:], totals[runs:] = sums[runs:] - sums[:-runs], totals[runs:] - totals[:-runs]
    return sums / totals[:, None]


def _legend(figure: Figure, panels: list[Axes]) -> None:
    """Name the lines once, above all panels at the right."""
    found = [panel.get_legend_handles_labels() for panel in (panels[0], panels[-1])]
    handles = [handle for each, _ in found for handle in each]
    names = [name for _, each in found for name in each]
    figure.legend(
        handles,
        names,
        loc="upper right",
        ncols=len(names),
        fontsize=8,
        frameon=False,
        labelcolor=INK,
        borderaxespad=0.2,
        handlelength=1.4,
        columnspacing=1.2,
    )


def _x(points: Points, dated: bool) -> Any:
    """Return where the places of points are on the axis: dates, or numbers of events."""
    return _dates(points.time) if dated else points.number


def _dates(time: Any) -> Any:
    return (time * 1e6).astype("int64").astype("datetime64[us]")


def _line(points: Points, column: int, dated: bool) -> tuple[Any, Any]:
    """Return the line of a column: through the lowest and the highest of each place, in the order they came."""
    x = points.time if dated else points.number
    low, high, rising = points.low[:, column], points.high[:, column], points.rising[:, column]
    if np.array_equal(low, high, equal_nan=True):
        return _x(points, dated), low
    y = np.stack([np.where(rising, low, high), np.where(rising, high, low)], 1).ravel()
    middle = x + 0.5 * np.diff(x, append=x[-1:])
    x = np.stack([x, middle], 1).ravel()
    return (_dates(x) if dated else x), y


def _limits(panel: Axes, points: Points, columns: Sequence[int]) -> None:
    """Fit the axis to the values (first of the columns), and to forecasts and interval unless they are far out."""
    value, *others = columns
    if not np.isfinite(points.low[:, value]).any():
        return
    lowest, highest = float(np.nanmin(points.low[:, value])), float(np.nanmax(points.high[:, value]))
    span = highest - lowest or max(abs(highest), 1.0)
    bottom, top = lowest, highest
    for column in others:
        if np.isfinite(points.low[:, column]).any():
            low, high = (
                np.nanquantile(points.low[:, column], RARE),
                np.nanquantile(points.high[:, column], 1 - RARE),
            )
            bottom = min(bottom, max(float(low), lowest - FAR * span))
            top = max(top, min(float(high), highest + FAR * span))
    margin = 0.04 * (top - bottom or span)
    panel.set_ylim(bottom - margin, top + margin)


def _plain(panel: Axes) -> None:
    """Take away what draws the eye for nothing."""
    panel.grid(color=GRID, linewidth=0.7)
    panel.set_axisbelow(True)
    panel.margins(x=0.01)
    panel.spines[["top", "right"]].set_visible(False)
    panel.spines[["left", "bottom"]].set_color(GRID)
    panel.tick_params(colors=GREY, labelsize=8, length=0)
    panel.yaxis.label.set(color=INK, fontsize=9)


def _time_axis(panel: Axes, dated: bool) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    if dated:
        locator = AutoDateLocator(minticks=3, maxticks=8)
        panel.xaxis.set_major_locator(locator)
        panel.xaxis.set_major_formatter(ConciseDateFormatter(locator))
        panel.xaxis.get_offset_text().set(color=GREY, fontsize=8)
    else:
        panel.locator_params(axis="x", nbins=6, integer=True)
        panel.xaxis.set_major_formatter("{x:,.0f}")
    panel.set_xlabel("time, UTC" if dated else "event", fontsize=8, color=GREY)
