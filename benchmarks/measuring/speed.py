"""What an event costs in time. To be measured with nothing else at work."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from measuring.runs import NAME, Series, spec_of, text_spec
from measuring.texts import messages
from streamrnn.build import build_pipeline
from streamrnn.config import Pipeline as PipelineSpec
from streamrnn.events import Message

WARM = 2000  # events before the clock starts
TIMED = 20_000  # events


def numeric_cost(fields: int, seed: int) -> float:
    """Return the microseconds of an event of so many fields, each a random walk, learning with it."""
    walks = np.cumsum(np.random.default_rng(seed).standard_normal((WARM + TIMED, fields)), axis=0)
    series = Series.of("walks", walks)
    return _cost(spec_of(series.fields), series.messages(), seed)


def text_cost(text: str, seed: int) -> float:
    """Return the microseconds of a character, learning with it."""
    return _cost(text_spec(), messages(text[: WARM + TIMED]), seed)


def _cost(spec: PipelineSpec, messages: Iterator[Message], seed: int) -> float:
    pipeline = build_pipeline(NAME, spec, seed)
    events, began = 0, 0.0
    for message in messages:
        if not began and events >= WARM:
            events, began = 0, time.perf_counter()
        events += len(pipeline.process_all(message))
    taken = time.perf_counter() - began
    pipeline.close()
    return 1e6 * taken / events
