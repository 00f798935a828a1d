"""Tables for people: the measures of a replay, the cost of a pipeline."""

from __future__ import annotations

import time
from collections.abc import Iterator

import msgspec
from rich.table import Table

from streamrnn.build import Budget, budget, build_pipeline
from streamrnn.measures import FieldMeasures
from streamrnn.replay import Replay
from streamrnn.specs import Pipeline as PipelineSpec
from streamrnn.warm import sample_messages, warm


def measures_tables(replayed: Replay, name: str) -> Iterator[Table]:
    """Yield the prequential measures of a replay: one table of all, one per field."""
    measures, pipeline = replayed.measures, replayed.pipeline
    learner = pipeline.model.learner
    summary = Table("measure", "value", title=f"{name}: prequential measures", title_justify="left")
    rows: list[tuple[str, str]] = [("rows", f"{replayed.rows}"), ("events", f"{measures.events}")]
    rows.append(("keys", f"{len(pipeline.streams)}"))
    if measures.fields:
        rows.append(("alerts", f"{measures.alerts}"))
    elif measures.events:
        rows.append(("bits per symbol", f"{measures.bits / measures.events:.4f}"))
        rows.append(("likeliest was right", f"{measures.top1 / measures.events:.2%}"))
        rows.append(("among the five likeliest", f"{measures.top5 / measures.events:.2%}"))
    if learner:
        rows.append(("weight updates", f"{learner.updates}"))
        rows.append(("updates dropped", f"{learner.dropped}"))
        rows.append(("roll-backs", f"{learner.rollbacks}"))
        rows.append(("updates waited for", f"{learner.waits}"))
    if measures.events:
        rows.append(("microseconds per event", f"{replayed.seconds / measures.events * 1e6:.1f}"))
    rows += [(reason, f"{count}") for reason, count in pipeline.counts.items() if reason != "events"]
    rows += [(reason, f"{count}") for reason, count in pipeline.model.counts.items()]
    for row in rows:
        summary.add_row(*row)
    yield summary
    for field, judged in measures.fields.items():
        yield _field_table(field, judged)


def _field_table(field: str, judged: FieldMeasures) -> Table:
    table = Table(
        "horizon",
        "forecasts",
        "MAE",
        "RMSE",
        "skill",
        "coverage",
        "mean width",
        title=field,
        title_justify="left",
    )
    for k, horizon in enumerate(judged.horizons):
        table.add_row(
            f"{horizon}",
            f"{judged.judged[k]}",
            f"{judged.mae(k):.6g}",
            f"{judged.rmse(k):.6g}",
            f"{judged.skill(k):+.3f}",
            f"{judged.coverage(k):.1%}",
            f"{judged.mean_width(k):.6g}",
        )
    table.caption = "skill: 1 - MAE / MAE of persistence"
    return table


UPDATES = 10  # timed to tell what one takes


class Speed(msgspec.Struct, frozen=True):
    """Microseconds per event of a pipeline on this computer."""

    answering: float
    learning: float  # answering and learning


def measure_speed(spec: PipelineSpec, events: int = 200) -> Speed:
    """Time a pipeline over events of its own shape; the first time this compiles its kernels."""
    warm(spec)
    learn = spec.learn
    fixed = msgspec.structs.replace(spec, learn=msgspec.structs.replace(learn, enabled=False))
    answering = _time_per_event(fixed, events, events)
    if not learn.enabled:
        return Speed(answering, answering)
    # With an update at every event its own time shows; in service it is shared by `every` events.
    busy = msgspec.structs.replace(spec, learn=msgspec.structs.replace(learn, every=1))
    update = max(_time_per_event(busy, learn.length + 1, UPDATES) - answering, 0.0)
    return Speed(answering, answering + update / learn.every)


def _time_per_event(spec: PipelineSpec, before: int, events: int) -> float:
    """Time `events` events after those `before`, in microseconds each."""
    pipeline = build_pipeline("speed", spec, 0)
    messages = sample_messages(spec, before + events)
    for message in messages[:before]:
        pipeline.process_all(message)
    began = time.perf_counter()
    for message in messages[before:]:
        pipeline.process_all(message)
    elapsed = time.perf_counter() - began
    pipeline.close()
    return elapsed / events * 1e6


def budget_table(name: str, spec: PipelineSpec, speed: Speed) -> Table:
    """Return the memory ceilings of a pipeline and its time per event."""
    cost = budget(spec)
    table = Table("budget", "ceiling", "of what", title=name, title_justify="left")
    table.add_row("weights", _mib(cost.weights), f"{cost.parameters} parameters, with what learning needs")
    if cost.window:
        table.add_row("replay window", _mib(cost.window), _window_words(spec, cost))
    if cost.counts:
        table.add_row("n-gram", _mib(cost.counts), "counts of what followed each context")
    table.add_row("streams", _mib(cost.streams), f"{spec.limits.keys} keys")
    if cost.ranks:
        table.add_row(
            "detectors", _mib(cost.ranks), f"{cost.ranks_each} events each when all keys are there, else more"
        )
    table.add_row("sum", _mib(cost.total), f"limits.memory_mb: {spec.limits.memory_mb}")
    table.add_row("answering", f"{speed.answering:.0f} us", "per event, on this computer")
    table.add_row("with learning", f"{speed.learning:.0f} us", f"about {1e6 / speed.learning:.0f} events a second")
    if cost.total > spec.limits.memory_mb * 2**20:
        table.caption = "the sum is above limits.memory_mb: lower limits.keys, or raise it"
    return table


def _window_words(spec: PipelineSpec, cost: Budget) -> str:
    words = f"{cost.history} events"
    return words if cost.history == spec.learn.history else f"{words}, shortened from {spec.learn.history}"


def _mib(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"
