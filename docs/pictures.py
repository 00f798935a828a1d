"""Draw the pictures of docs/how-it-learns.md from real runs over seeded simulators.

    python docs/pictures.py [--only NAME ...] [--figures]

They go to docs/pictures/NAME.png. With --figures the numbers that the page quotes are printed. It needs matplotlib,
the extra `plot`, and takes some three minutes of a processor.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator
from numpy.typing import NDArray
from PIL import Image

import pictured
from pictured import Array
from streamrnn.evaluation import plot
from streamrnn.evaluation.plot import BLUE, GREEN, GREY, GRID, INK, RED, SKY
from streamrnn.evaluation.trace import NumericTrace
from streamrnn.events import NumericOutput

FOLDER = Path(__file__).parent / "pictures"
WIDTH, DPI = 8.4, 150  # inches; a page shows some 830 dots of the 1,260
PURPLE = "#cc79a7"  # Okabe and Ito 2008, as the others
FAULT = "#e69f00"

CELLS = {  # with the rate each learns the delay by
    "rnn_tanh": (0.001, RED, "tanh"),
    "gru": (0.003, BLUE, "GRU"),
    "lstm": (0.003, PURPLE, "LSTM"),
    "lru": (0.003, GREEN, "LRU"),
}


def forecast() -> Figure:
    """Two days of a machine, as forecast 1 and 16 events before."""
    values = pictured.machine(6000, 0)
    outputs = [output for _, output in pictured.drive(["x"], values, pictured.MACHINE_STEP, 0)]
    shown = np.arange(5650, 5950)
    figure = canvas(4.6)
    panels = figure.subplots(2, 1, sharex=True, sharey=True)
    for panel, horizon in zip(panels, (1, 16), strict=True):
        middle, lower, upper = (_made(outputs, part, horizon) for part in ("forecast", "lower", "upper"))
        x = _dates(shown, pictured.MACHINE_STEP)
        panel.fill_between(x, lower[shown], upper[shown], color=SKY, alpha=0.3, linewidth=0, label="90 % interval")
        panel.plot(x, middle[shown], color=BLUE, linewidth=1.2, label="forecast")
        panel.plot(x, values[shown, 0], color=INK, linewidth=0.8, label="value")
        inside = ((values[:, 0] >= lower) & (values[:, 0] <= upper))[1000:].mean()
        tell(f"forecast: {100 * inside:.1f} % inside at horizon {horizon}, from event 1,000 on")
        title(panel, f"{horizon} event{'s' if horizon > 1 else ''} ahead ({horizon * 5} minutes)")
        panel.set_ylabel("temperature, °C")
        plain(panel)
    date_axis(panels[1])
    figure.legend(
        *panels[0].get_legend_handles_labels(),
        loc="upper right",
        ncols=3,
        fontsize=9,
        frameon=False,
        labelcolor=INK,
        borderaxespad=0.1,
    )
    return figure


def score() -> Figure:
    """A pump whose bearing fails, with the score before and over it."""
    values, span = pictured.pump(0)
    fields = ["vibration", "current"]
    trace = NumericTrace("pump", fields)
    for _, output in pictured.drive(fields, values, pictured.PUMP_STEP, 0):
        trace.add(output)
        if output.anomaly:
            tell(f"score: alert at event {output.seq}, {output.seq - span.first} after the fault began")
    figure = Figure(figsize=(WIDTH, 5.4), dpi=DPI)
    plot.draw(trace, "a pump, every half hour", figure)
    first, trip, end = _dates(np.array(span), pictured.PUMP_STEP).tolist()
    for axes in figure.axes:
        axes.axvspan(first, trip, color=FAULT, alpha=0.16, linewidth=0, zorder=0)
        axes.axvspan(trip, end, color=GREY, alpha=0.2, linewidth=0, zorder=0)
    last = figure.axes[len(fields) + 1]
    for x, words in ((first, "bearing fails"), (trip, "trip")):
        last.text(x, 0.98, f" {words}", transform=last.get_xaxis_transform(), va="top", fontsize=8, color=INK)
    return figure


def learning() -> Figure:
    """Errors against those of the last value, as events go by: one step ahead by expert, and 16 steps ahead."""
    events, seeds = 20_000, 4
    names = {"network": "network", "regression": "regression", "published": "mixture, published"}
    runs = [pictured.learning_errors(pictured.machine(events, seed), 16, seed) for seed in range(seeds)]
    sums = {name: np.mean([run[name] for run in runs], axis=0) for name in runs[0]}
    edges = np.unique(np.geomspace(30, events, 21).astype(int))
    middle = np.sqrt(edges[:-1] * edges[1:])
    figure = canvas(3.5)
    left, right = figure.subplots(1, 2, sharex=True)
    colours = {"network": GREEN, "regression": PURPLE, "published": BLUE}
    for name, shown in names.items():
        ratio = binned(sums[name], edges) / binned(sums["last"], edges)
        tell(f"learning: {name} " + ", ".join(f"{e}: {r:.2f}" for e, r in zip(edges[1:], ratio, strict=True)))
        wide = 2.0 if name == "published" else 1.1
        left.plot(middle, ratio, color=colours[name], linewidth=wide, label=shown)
    ratio = binned(sums["far"], edges) / binned(sums["far last"], edges)
    tell("learning: far " + ", ".join(f"{e}: {r:.2f}" for e, r in zip(edges[1:], ratio, strict=True)))
    right.plot(middle, ratio, color=BLUE, linewidth=2.0)
    left.legend(loc="upper right", fontsize=9, frameon=False, labelcolor=INK)
    for panel, words in ((left, "1 event ahead"), (right, "16 events ahead, network only")):
        title(panel, words)
        panel.axhline(1.0, color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
        panel.set(xscale="log", yscale="log", xlabel="events learned from")
        panel.set_xticks([100, 1000, 10_000])
        plain(panel)
        decimals(panel)
    left.set_yticks([0.5, 1, 2, 4])
    right.set_yticks([0.1, 0.2, 0.5, 1, 2, 4, 8])
    left.set_ylabel("squared error,\nthat of the last value = 1")
    return figure


def gradient() -> Figure:
    """What an input still does to the state k events later, before and after a delay of 20 is learned."""
    reach, delay = 40, 20
    figure = canvas(3.7)
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    marks: list[list[tuple[float, str, str]]] = [[], []]
    for cell, (rate, colour, name) in CELLS.items():
        before, after, error = pictured.delay_network(cell, delay, 120_000, rate, 0)
        for panel, network, ends, words in zip(
            panels, (before, after), marks, (name, f"{name} ({error:.2f})"), strict=True
        ):
            line = pictured.influence(network, reach)
            tell(f"gradient: {words} k = 0, 10, 20, 40: " + ", ".join(f"{v:.1e}" for v in line[[0, 10, 20, 40]]))
            panel.plot(np.arange(reach + 1), line, color=colour, linewidth=1.4)
            ends.append((float(line[-1]), words, colour))
    for panel, ends, words in zip(panels, marks, ("before learning", "after 120,000 events (error)"), strict=True):
        title(panel, words)
        panel.axvline(delay, color=GREY, linewidth=0.8, linestyle=(0, (4, 3)))
        panel.set(yscale="log", ylim=(3e-7, 6.0), xlim=(0, reach), xlabel="k, events since the input")
        plain(panel)
        panel.margins(x=0)
        label_ends(panel, reach, ends)
    panels[0].set_ylabel("influence of x[t - k] on the state")
    panels[0].text(delay - 0.7, 5e-7, "to be said again", ha="right", fontsize=8.5, color=GREY)
    return figure


def symbols() -> Figure:
    """Bits per character of a text made by a grammar."""
    count, texts = 40_000, [pictured.prose(40_000, seed) for seed in range(3)]
    runs = [pictured.symbol_bits(text[:count], seed) for seed, (text, _) in enumerate(texts)]
    costs = {name: np.mean([run[name] for run in runs], axis=0) for name in runs[0]}
    floor = float(np.mean([bits for _, bits in texts]))
    edges = np.unique(np.geomspace(100, count, 20).astype(int))
    middle = np.sqrt(edges[:-1] * edges[1:])
    figure = canvas(3.6)
    panel = figure.subplots()
    for name, shown, colour, wide in (
        ("network", "network alone", GREEN, 1.1),
        ("n-gram", "n-gram alone (order 7)", PURPLE, 1.1),
        ("published", "mixture, published", BLUE, 2.0),
    ):
        line = binned(costs[name], edges)
        tell(f"symbols: {name} {line[0]:.2f} at first, {costs[name][-10_000:].mean():.3f} at last")
        panel.plot(middle, line, color=colour, linewidth=wide, label=shown)
    tell(f"symbols: the grammar itself {floor:.3f}")
    panel.axhline(floor, color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
    panel.text(115, floor * 0.94, "what the grammar itself costs", va="top", fontsize=9, color=INK)
    panel.set(xscale="log", yscale="log", xlabel="characters read", ylabel="bits per character", ylim=(0.24, 6.0))
    panel.set_xticks([100, 1000, 10_000])
    panel.set_yticks([0.5, 1, 2, 4])
    plain(panel)
    decimals(panel)
    panel.legend(loc="upper right", fontsize=9, frameon=False, labelcolor=INK)
    return figure


PICTURES: dict[str, Callable[[], Figure]] = {
    "forecast": forecast,
    "score": score,
    "learning": learning,
    "gradient": gradient,
    "symbols": symbols,
}
figures: list[str] = []  # what was told


def tell(words: str) -> None:
    """Keep a number for --figures."""
    figures.append(words)


def canvas(height: float) -> Figure:
    """Return an empty figure of so many inches."""
    figure = Figure(figsize=(WIDTH, height), dpi=DPI, facecolor="white")
    figure.set_layout_engine("constrained", h_pad=0.06, w_pad=0.06, hspace=0.04, wspace=0.04)
    return figure


def title(panel: Axes, words: str) -> None:
    """Say above a panel, at the left, what it shows."""
    panel.set_title(words, loc="left", fontsize=9.5, color=INK)


def plain(panel: Axes) -> None:
    """Make a light grid and nothing else."""
    panel.grid(color=GRID, linewidth=0.7)
    panel.set_axisbelow(True)
    panel.margins(x=0.01)
    panel.spines[["top", "right"]].set_visible(False)
    panel.spines[["left", "bottom"]].set_color(GRID)
    panel.tick_params(which="both", colors=GREY, labelsize=9, length=0)
    panel.xaxis.label.set(color=GREY, fontsize=9)
    panel.yaxis.label.set(color=INK, fontsize=9.5)


def decimals(panel: Axes) -> None:
    """Write the numbers of logarithmic axes in full."""
    panel.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.yaxis.set_minor_locator(NullLocator())


def date_axis(panel: Axes) -> None:
    """Write days and hours along a panel."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(minticks=4, maxticks=9)
    panel.xaxis.set_major_locator(locator)
    panel.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    panel.xaxis.get_offset_text().set(color=GREY, fontsize=9)


def label_ends(panel: Axes, x: float, ends: Sequence[tuple[float, str, str]]) -> None:
    """Write the name of each line where it ends, moved apart where they would meet; the axis is logarithmic."""
    place = -np.inf
    for y, words, colour in sorted(ends):
        place = max(np.log10(y), place + 0.42)
        panel.annotate(
            words, (x, 10.0**place), (4, 0), "data", "offset points", va="center", fontsize=9, color=colour
        )


def binned(errors: Array, edges: NDArray[np.integer[Any]]) -> Array:
    """Return the means (n - 1,) of errors (N,) between edges (n,), NaN not counted."""
    means: Array = np.array([np.nanmean(errors[a:b]) for a, b in pairwise(edges.tolist())])
    return means


def _made(outputs: Sequence[NumericOutput], part: str, horizon: int) -> Array:
    """Return what outputs (N,) say of field x, (N,), each at the event it was said of."""
    column = outputs[0].horizons.index(horizon)
    made: Array = np.full(len(outputs), np.nan)
    made[horizon:] = [getattr(output, part)["x"][column] for output in outputs[:-horizon]]
    return made


def _dates(numbers: NDArray[np.integer[Any]], step: float) -> NDArray[np.floating[Any]]:
    """Return the times of events by their numbers (n,), `step` seconds apart, in days, as matplotlib has them."""
    return (pictured.START + numbers * step) / 86_400.0  # since 1970, its epoch


def main() -> None:
    """Draw what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(PICTURES), default=list(PICTURES))
    parser.add_argument("--figures", action="store_true", help="print the numbers that the page quotes")
    given = parser.parse_args()
    FOLDER.mkdir(exist_ok=True)
    for name in given.only:
        picture = io.BytesIO()
        FigureCanvasAgg(PICTURES[name]()).print_png(picture)
        drawn = Image.open(picture).convert("RGB")
        few = drawn.quantize(128, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)  # a third of the bytes
        few.save(FOLDER / f"{name}.png", optimize=True)
    if given.figures:
        print("\n".join([*figures, *pictured.beside()]))


if __name__ == "__main__":
    main()
