"""What a replay came to, as one document: what `replay --report` writes, and what its tables show."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib.metadata import version

import msgspec

from streamrnn import __version__
from streamrnn.evaluation.measures import FieldMeasures, Measures, ratio
from streamrnn.evaluation.replay import Replay
from streamrnn.events import finite
from streamrnn.learn.descent import Descent
from streamrnn.settings.specs import Pipeline as PipelineSpec

FORMAT = 1  # of the document; another number when a key goes or changes its meaning


class Versions(msgspec.Struct, frozen=True):
    """Of what computed the outputs."""

    streamrnn: str
    python: str
    numpy: str
    numba: str


class HorizonSummary(msgspec.Struct, frozen=True):
    """Of one field over one horizon; None where there was nothing to measure."""

    horizon: int  # events ahead
    forecasts: int  # that were judged
    mae: float | None
    mse: float | None
    rmse: float | None
    persistence_mae: float | None
    persistence_mse: float | None
    skill: float | None  # 1 - mae / persistence_mae
    mse_ratio: float | None  # mse / persistence_mse
    seasonal_forecasts: int  # judged that had a value whole days before
    seasonal_mae: float | None  # of the seasonal naive forecast
    seasonal_skill: float | None  # 1 - our MAE over the same events / seasonal_mae
    coverage: float | None  # share of values inside the interval
    mean_width: float | None


class NumericSummary(msgspec.Struct, frozen=True):
    """Of numeric events."""

    alerts: int
    interval: float  # the share that should be inside
    coverage: float | None  # the share that was, over all fields and horizons
    fields: dict[str, list[HorizonSummary]]


class SymbolSummary(msgspec.Struct, frozen=True):
    """Of symbol events."""

    bits_per_symbol: float | None
    top1: float | None  # share of events whose symbol had been given the highest probability
    top5: float | None  # or one of the five highest


class LearningSummary(msgspec.Struct, frozen=True):
    """Of the weight updates."""

    updates: int
    dropped: int  # by the guard
    rollbacks: int
    waits: int  # updates the pipeline waited for; depends on the computer


class Summary(msgspec.Struct, frozen=True):
    """The document. Everything but `seconds`, `microseconds_per_event` and `learning.waits` is reproducible."""

    format: int
    pipeline: str
    seed: int
    versions: Versions
    inputs: list[str]
    rows: int
    events: int
    warmup_events: int  # of the events; they are in the measures
    keys: int  # live at the end
    seconds: float
    microseconds_per_event: float | None
    numbers: NumericSummary | None
    symbols: SymbolSummary | None
    learning: LearningSummary | None  # None: not enabled
    counts: dict[str, int]  # what was let go or mended, by reason
    configuration: PipelineSpec  # with all its defaults


def summarise(replayed: Replay, name: str, spec: PipelineSpec, seed: int, inputs: Sequence[str]) -> Summary:
    """Return what came of the replay of a pipeline of that name, spec and seed."""
    measures, pipeline = replayed.measures, replayed.pipeline
    learners = pipeline.model.learners
    counts = pipeline.counts + pipeline.model.counts
    symbols = spec.input.symbols
    return Summary(
        format=FORMAT,
        pipeline=name,
        seed=seed,
        versions=Versions(__version__, platform.python_version(), version("numpy"), version("numba")),
        inputs=list(inputs),
        rows=replayed.rows,
        events=measures.events,
        warmup_events=measures.warmup,
        keys=len(pipeline.streams),
        seconds=replayed.seconds,
        microseconds_per_event=finite(ratio(replayed.seconds * 1e6, measures.events)),
        numbers=None if symbols else _numbers(measures, spec.forecast.interval),
        symbols=_symbols(measures) if symbols else None,
        learning=_learning(learners) if learners else None,
        counts={reason: counts[reason] for reason in sorted(counts) if reason != "events"},
        configuration=spec,
    )


def _learning(learners: Sequence[Descent]) -> LearningSummary:
    """Updates of the first network, and what went wrong in any."""
    return LearningSummary(
        updates=learners[0].updates,
        dropped=sum(learner.dropped for learner in learners),
        rollbacks=sum(learner.rollbacks for learner in learners),
        waits=sum(learner.waits for learner in learners),
    )


def encode(summary: Summary) -> bytes:
    """Return the document as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(summary), indent=2) + b"\n"


def _numbers(measures: Measures, interval: float) -> NumericSummary:
    fields = {field: [_horizon(of, k) for k in range(len(of.horizons))] for field, of in measures.fields.items()}
    return NumericSummary(measures.alerts, interval, finite(measures.coverage()), fields)


def _horizon(of: FieldMeasures, k: int) -> HorizonSummary:
    return HorizonSummary(
        horizon=of.horizons[k],
        forecasts=of.judged[k],
        mae=finite(of.mae(k)),
        mse=finite(of.mse(k)),
        rmse=finite(of.rmse(k)),
        persistence_mae=finite(ratio(of.naive[k], of.judged[k])),
        persistence_mse=finite(ratio(of.naive_squared[k], of.judged[k])),
        skill=finite(of.skill(k)),
        mse_ratio=finite(of.mse_ratio(k)),
        seasonal_forecasts=of.seasonal_judged[k],
        seasonal_mae=finite(ratio(of.seasonal_naive[k], of.seasonal_judged[k])),
        seasonal_skill=finite(of.seasonal_skill(k)),
        coverage=finite(of.coverage(k)),
        mean_width=finite(of.mean_width(k)),
    )


def _symbols(measures: Measures) -> SymbolSummary:
    parts = (measures.bits, measures.top1, measures.top5)
    return SymbolSummary(*(finite(ratio(part, measures.events)) for part in parts))
