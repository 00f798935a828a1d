"""Replay: a pipeline over recorded files, as fast as it goes, with exactly the outputs the daemon would give."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from streamrnn.edges import files
from streamrnn.errors import InputFileError
from streamrnn.events import Message, Output
from streamrnn.measures import Measures
from streamrnn.pipeline import Pipeline
from streamrnn.specs import Pipeline as PipelineSpec


def messages(path: str, spec: PipelineSpec, pipeline: Pipeline[Any], key: str | None) -> Iterator[Message]:
    """Return the rows of a file as messages to `pipeline`.

    A row with a `topic` is keyed as live; any other has `key`, or the file's name without suffix in place of what
    wildcards match. When the configuration names no time, a column called so by custom is it.
    """
    records = files.read(path)
    first = next(records, None)
    if first is None:
        raise InputFileError(f"{path}: no rows")
    time_column = None if spec.input.time else files.find_time_column(first)
    name = "stdin" if path == "-" else Path(path.removesuffix(".gz")).stem
    key = pipeline.keys.key_for(name) if key is None else key
    raw = "payload" not in spec.input.fields and spec.input.symbol != "payload"
    return files.messages(itertools.chain([first], records), key, raw=raw, time_column=time_column)


class Replay:
    """What came of a replay.

    Attributes
    ----------
    measures
        Of all outputs.
    rows, seconds
        Rows read, and the time it took.
    """

    def __init__(self, pipeline: Pipeline[Any]) -> None:
        self.pipeline = pipeline
        self.measures = Measures(pipeline.keys_max)
        self.rows = 0
        self.seconds = 0.0

    def run(self, rows: Iterable[Message], output: files.Writer | None = None) -> None:
        """Process all rows; outputs go to `output` and into the measures."""
        began = time.perf_counter()
        process, add = self.pipeline.process_all, self.measures.add
        outputs: list[Output]
        for message in rows:
            self.rows += 1
            outputs = process(message)
            for each in outputs:
                add(each)
                if output is not None:
                    output.write(each)
        self.seconds += time.perf_counter() - began


def open_output(path: Path | None, spec: PipelineSpec, stack: ExitStack) -> files.Writer | None:
    """Open the file for the outputs, closed and named with the stack; None for none."""
    if path is None:
        return None
    fields = None if spec.input.symbols else spec.input.fields
    return stack.enter_context(files.open_writer(path, fields, spec.forecast.horizons))
