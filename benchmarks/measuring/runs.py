"""A pipeline over recorded values, in this process, and its outputs as arrays."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamrnn.build import build_pipeline
from streamrnn.config import Pipeline as PipelineSpec
from streamrnn.config import loads
from streamrnn.events import Message, NumericOutput
from streamrnn.pipeline import Pipeline

Array = NDArray[np.float64]
NAME = "quality"  # of every pipeline here; the seeds of the weights come of it


@dataclass(frozen=True)
class Series:
    """N events of F fields, in order of time."""

    name: str
    fields: tuple[str, ...]
    times: Array  # (N,) epoch seconds
    values: Array  # (N, F), NaN where missing

    @classmethod
    def of(cls, name: str, values: NDArray[np.floating[Any]], step: float = 60.0) -> Series:
        """A series of values (N,) or (N, F), an event every `step` seconds."""
        columns = values.astype(np.float64).reshape(len(values), -1)
        fields = tuple(f"value{f}" for f in range(columns.shape[1]))
        return cls(name, fields, np.arange(len(values), dtype=np.float64) * step, columns)

    def messages(self, key: str = "series") -> Iterator[Message]:
        """The events as messages of one key; a row of which nothing is known is none."""
        for time, row in zip(self.times.tolist(), self.values.tolist(), strict=True):
            payload = {field: value for field, value in zip(self.fields, row, strict=True) if value == value}
            if payload:
                yield Message("", payload, key=key, arrival=time)


@dataclass(frozen=True)
class Outputs:
    """What was published for N events of F fields over K horizons."""

    horizons: tuple[int, ...]
    values: Array  # (N, F), NaN where missing
    forecast: Array  # (N, F, K)
    lower: Array  # (N, F, K)
    upper: Array  # (N, F, K)
    scores: Array  # (N,) 0..1
    anomalies: NDArray[np.bool_]  # (N,)


def spec_of(fields: Sequence[str], **sections: dict[str, Any]) -> PipelineSpec:
    """Return the specification of a numeric pipeline: the defaults, but for what `sections` say."""
    return _spec({"topic": "+", "fields": list(fields)}, sections)


def text_spec(**sections: dict[str, Any]) -> PipelineSpec:
    """Return the specification of a pipeline of characters: the defaults, but for what `sections` say."""
    return _spec({"topic": "+", "payload": "text"}, sections)


def _spec(source: dict[str, Any], sections: dict[str, dict[str, Any]]) -> PipelineSpec:
    return loads(json.dumps({"pipelines": {NAME: {"input": source, **sections}}})).pipelines[NAME]


def run(spec: PipelineSpec, messages: Iterable[Message], seed: int) -> Outputs:
    """Drive a new pipeline through the messages of one key and return what it published."""
    return collect(published(spec, messages, seed))


def run_keys(spec: PipelineSpec, messages: Iterable[Message], seed: int) -> dict[str, Outputs]:
    """Drive a new pipeline through messages of many keys and return what it published for each."""
    kept: dict[str, list[NumericOutput]] = {}
    for output in published(spec, messages, seed):
        kept.setdefault(output.key, []).append(output)
    return {key: collect(outputs) for key, outputs in kept.items()}


def published(spec: PipelineSpec, messages: Iterable[Message], seed: int) -> Iterator[NumericOutput]:
    """Yield the answers of a new pipeline to the messages."""
    pipeline = build_pipeline(NAME, spec, seed)
    try:
        for message in messages:
            yield from answers(pipeline, message)
    finally:
        pipeline.close()


def answers(pipeline: Pipeline[Any], message: Message) -> list[NumericOutput]:
    """Return the answers of a numeric pipeline to a message."""
    return [output for output in pipeline.process_all(message) if isinstance(output, NumericOutput)]


def collect(outputs: Iterable[NumericOutput]) -> Outputs:
    """Put the outputs of events together as arrays."""
    kept = list(outputs)
    horizons, fields = kept[0].horizons, list(kept[0].value)
    nothing = [np.nan] * len(horizons)

    def lists(name: str) -> Array:
        rows = [[getattr(output, name)[field] or nothing for field in fields] for output in kept]
        return np.array(rows, dtype=np.float64)

    return Outputs(
        horizons=horizons,
        values=np.array([[output.value[field] for field in fields] for output in kept], dtype=np.float64),
        forecast=lists("forecast"),
        lower=lists("lower"),
        upper=lists("upper"),
        scores=np.array([output.score for output in kept]),
        anomalies=np.array([output.anomaly for output in kept]),
    )
