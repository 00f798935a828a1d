"""Ten million events, and what they leave in memory."""

from __future__ import annotations

import time

import numpy as np
import psutil

from soaking import plant
from soaking.rows import Options, Row, scaled
from streamrnn import config
from streamrnn.build import build_pipeline
from streamrnn.codecs import encode
from streamrnn.events import Message

EVENTS = 10_000_000
SAMPLES = 100
SETTLED = 0.1  # of all events, until histories have their length


def memory(options: Options) -> Row:
    """The default pipeline with learning on; resident memory a hundred times, and a line through it."""
    loaded = config.loads(plant.text("mqtt://127.0.0.1", None))
    pipeline = build_pipeline("plant", loaded.pipelines["plant"], loaded.seed)
    count, process = scaled(EVENTS, options, 20_000), psutil.Process()
    points, began = [], time.perf_counter()
    for i in range(count):
        for output in pipeline.process_all(Message(plant.topic(i), plant.payload(i))):
            encode(output)
        if i % (count // SAMPLES) == 0 and i >= SETTLED * count:
            points.append((i, process.memory_info().rss / 2**20))
    seconds = time.perf_counter() - began
    pipeline.close()
    numbers, mebibytes = np.array(points).T
    slope = float(np.polyfit(numbers, mebibytes, 1)[0]) * count
    seen = (
        f"{count} events in {seconds:.0f} s: resident {mebibytes[0]:.1f} -> {mebibytes[-1]:.1f} MiB, "
        f"slope {slope:+.2f} MiB over all of them"
    )
    return Row("10,000,000 events", "slope of resident memory < 1 MB", seen, slope < 1.0)
