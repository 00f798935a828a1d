"""Replay: a pipeline over recorded files, as fast as it goes, with exactly the outputs the daemon would give."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from streamrnn.edges import files
from streamrnn.edges.newfile import NewFile, new_file
from streamrnn.errors import InputFileError, UsageError
from streamrnn.evaluation.measures import Measures
from streamrnn.evaluation.trace import Recorder, Trace
from streamrnn.events import Message, Output
from streamrnn.pipeline import Pipeline
from streamrnn.settings.specs import Pipeline as PipelineSpec

TARGET_BYTES = 1 << 18  # more than most reports and pictures take
KEYS_TOLD = 8  # in an error


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

    Parameters
    ----------
    pipeline
        Fresh; whoever made it closes it.
    recorder
        Traces the outputs for a picture.

    Attributes
    ----------
    measures
        Of all outputs.
    rows, seconds
        Rows read, and the time it took.
    """

    def __init__(self, pipeline: Pipeline[Any], recorder: Recorder | None = None) -> None:
        self.pipeline = pipeline
        self.recorder = recorder
        self.measures = Measures(pipeline.keys_max)
        self.rows = 0
        self.seconds = 0.0

    def run(self, rows: Iterable[Message], output: files.Writer | None = None) -> None:
        """Process all rows; outputs go to `output` and into the measures."""
        began = time.perf_counter()
        process, add, recorder = self.pipeline.process_all, self.measures.add, self.recorder
        outputs: list[Output]
        for message in rows:
            self.rows += 1
            outputs = process(message)
            for each in outputs:
                add(each)
                if recorder is not None:
                    recorder.add(each)
                if output is not None:
                    output.write(each)
        self.seconds += time.perf_counter() - began

    def recorded(self) -> Trace:
        """Return what was traced, or raise a UsageError when the key wanted had no event."""
        assert self.recorder is not None  # noqa: S101
        if self.recorder.trace is not None:
            return self.recorder.trace
        keys = list(self.pipeline.streams)
        some = ", ".join(keys[:KEYS_TOLD]) + (", ..." if len(keys) > KEYS_TOLD else "")
        raise UsageError(f"--plot-key: no event has the key {self.recorder.key!r}; there are {some}")


def check_targets(targets: Mapping[str, Path | None], inputs: Sequence[str]) -> None:
    """Raise a UsageError when two options, by their names, would write to one file, or one to an input."""
    taken = {Path(each).resolve(): "an input" for each in inputs}
    for option, path in targets.items():
        if path is None:
            continue
        if path.resolve() in taken:
            raise UsageError(f"{option}: {path} is also {taken[path.resolve()]}")
        taken[path.resolve()] = option


def open_target(path: Path | None, stack: ExitStack) -> NewFile | None:
    """Open a file to be written at the end, named with the stack; a full disk shows now. None for none."""
    return None if path is None else stack.enter_context(new_file(path, reserve=TARGET_BYTES))


def open_output(path: Path | None, spec: PipelineSpec, stack: ExitStack) -> files.Writer | None:
    """Open the file for the outputs, closed and named with the stack; None for none."""
    if path is None:
        return None
    fields = None if spec.input.symbols else spec.input.fields
    return stack.enter_context(files.open_writer(path, fields, spec.forecast.horizons))
