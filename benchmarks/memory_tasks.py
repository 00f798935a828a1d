"""Tasks that cannot be done without memory, for every cell, by a pipeline's model fed one event at a time.

    python benchmarks/memory_tasks.py [--tasks delay-40 adding-40] [--cells gru lru] [--events 200000]

`delay-L`: fields x, y; x is -1 or +1 by chance, and y at event t is x at t - 1 - L. The one-step forecast of y made
at event t therefore has to be x at t - L. What y showed before is made of other x and tells nothing of it.

`adding-L`: fields value, marker, start, y; segments of L events, the first with start 1; two values of each are
marked, one in either half. y is their sum, shown once, an event after the segment's end, and missing everywhere
else: the forecast of y made at the last event of a segment has to be that sum. The y of a segment tells nothing of
the next one's.

Printed is the mean square of `error`, the published output, over the last quarter of the events that show y, in
variances of y: 1 is to know nothing. Events are a second apart.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from streamrnn.build import build_pipeline
from streamrnn.config import Config
from streamrnn.events import Event, NumericOutput
from streamrnn.specs import Forecast, Input, Learn, Model, Pipeline

Array = NDArray[np.float64]

FIELDS = {"delay": ["x", "y"], "adding": ["value", "marker", "start", "y"]}
LENGTHS = {"rnn_tanh": (32, 128), "gru": (32, 128), "lstm": (32, 128), "lru": (32,)}  # lru has no windows


def delay(events: int, length: int, seed: int = 1) -> Array:
    """Rows (events, 2) of x and y, which is x `length` + 1 events ago, NaN before."""
    rng = np.random.default_rng(seed)
    rows = np.full((events, 2), np.nan)
    rows[:, 0] = rng.integers(0, 2, events) * 2.0 - 1.0
    rows[length + 1 :, 1] = rows[: -length - 1, 0]
    return rows


def adding(events: int, length: int, seed: int = 1) -> Array:
    """Rows (events, 4) of value in -1..1, marker, start, and y, the sum of what the last segment marked."""
    rng = np.random.default_rng(seed)
    rows = np.zeros((events, 4))
    rows[:, 0] = rng.uniform(-1.0, 1.0, events)
    rows[:, 3] = np.nan
    for start in range(0, events - length, length):
        first = start + rng.integers(0, length // 2)
        second = start + rng.integers(length // 2, length)
        rows[[first, second], 1] = 1.0
        rows[start, 2] = 1.0
        rows[start + length, 3] = rows[first, 0] + rows[second, 0]
    return rows


def task(name: str, events: int) -> tuple[list[str], Array]:
    """Return the fields of a task such as delay-40, and its rows (events, fields)."""
    kind, length = name.split("-")
    make = {"delay": delay, "adding": adding}[kind]
    return FIELDS[kind], make(events, int(length))


def pipeline_spec(
    fields: list[str], cell: str, length: int, rate: float | None, every: int, hidden: int
) -> Pipeline:
    """Return a pipeline that forecasts one event ahead."""
    learn = Learn(length=length, every=every) if rate is None else Learn(length=length, every=every, rate=rate)
    return Pipeline(
        input=Input(topic=["task"], fields=fields),
        model=Model(cell=cell, hidden=hidden),
        forecast=Forecast(horizons=[1]),
        learn=learn,
    )


def judge(spec: Pipeline, rows: Array, seed: int) -> tuple[float, float]:
    """Return the error of the last field in its variances, over the last quarter, and microseconds per event."""
    pipeline = build_pipeline("task", spec, Config(pipelines={"task": spec}, seed=seed).seed)
    model = pipeline.model
    stream = model.open_stream("task")
    model.share([stream])
    field = spec.input.fields[-1]
    errors = np.full(len(rows), np.nan)
    began = time.perf_counter()
    for t, row in enumerate(rows):
        output = model.process_one(stream, Event("task", float(t), row), True)
        assert isinstance(output, NumericOutput)
        if (error := output.error[field]) is not None:
            errors[t] = error
    seconds = time.perf_counter() - began
    pipeline.close()
    late = slice(len(rows) * 3 // 4, None)
    known = ~np.isnan(errors[late])
    return float((errors[late][known] ** 2).mean() / rows[late, -1][known].var()), seconds / len(rows) * 1e6


def runs(cells: list[str]) -> Iterator[tuple[str, int]]:
    """Yield each cell with each length of its windows."""
    for cell in cells:
        for length in LENGTHS[cell]:
            yield cell, length


def main() -> None:
    """Print a table, line by line."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--tasks", nargs="+", default=["delay-40", "adding-40"])
    arguments.add_argument("--cells", nargs="+", default=list(LENGTHS), choices=list(LENGTHS))
    arguments.add_argument("--events", type=int, default=200_000)
    arguments.add_argument("--hidden", type=int, default=32)
    arguments.add_argument("--every", type=int, default=4)
    arguments.add_argument("--rate", type=float)
    arguments.add_argument("--seed", type=int, default=0)
    given = arguments.parse_args()
    print("| task | cell | learn.length | error / variance | us per event |\n|---|---|---|---|---|")
    for name in given.tasks:
        fields, rows = task(name, given.events)
        for cell, length in runs(given.cells):
            spec = pipeline_spec(fields, cell, length, given.rate, given.every, given.hidden)
            error, each_us = judge(spec, rows, given.seed)
            shown = "" if cell == "lru" else length
            print(f"| {name} | {cell} | {shown} | {error:.4f} | {each_us:.0f} |", flush=True)


if __name__ == "__main__":
    main()
