"""Tables for people: the measures of a replay, the cost of a pipeline."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import msgspec
from rich.table import Table

from streamrnn.budget import Budget, budget
from streamrnn.build import build_pipeline
from streamrnn.edges.checkpoint import GENERATIONS
from streamrnn.evaluation.summary import HorizonSummary, Summary
from streamrnn.settings.specs import Pipeline as PipelineSpec
from streamrnn.warm import sample_messages, warm


def measures_tables(summary: Summary) -> Iterator[Table]:
    """Yield the prequential measures of a replay: one table of all, one per field."""
    yield _summary_table(summary)
    if summary.numbers:
        tables = [_field_table(field, horizons) for field, horizons in summary.numbers.fields.items()]
        if tables:
            tables[-1].caption = "skill: 1 - MAE / MAE of persistence; vs day: of the value a day before"
        yield from tables


def _summary_table(summary: Summary) -> Table:
    table = Table("measure", "value", title=f"{summary.pipeline}: prequential measures", title_justify="left")
    rows: list[tuple[str, str]] = [
        ("rows", f"{summary.rows}"),
        ("events", f"{summary.events}"),
        ("of them in warm-up", f"{summary.warmup_events}"),
        ("keys", f"{summary.keys}"),
    ]
    if summary.numbers:
        numbers = summary.numbers
        rows.append(("alerts", f"{numbers.alerts}"))
        rows.append((f"inside their {numbers.interval:.4g} interval", shown(numbers.coverage, ".1%")))
    if summary.symbols:
        rows.append(("bits per symbol", shown(summary.symbols.bits_per_symbol, ".4f")))
        rows.append(("likeliest was right", shown(summary.symbols.top1, ".2%")))
        rows.append(("among the five likeliest", shown(summary.symbols.top5, ".2%")))
    if summary.learning:
        rows.append(("weight updates", f"{summary.learning.updates}"))
        rows.append(("updates dropped", f"{summary.learning.dropped}"))
        rows.append(("roll-backs", f"{summary.learning.rollbacks}"))
        rows.append(("updates waited for", f"{summary.learning.waits}"))
    rows.append(("microseconds per event", shown(summary.microseconds_per_event, ".1f")))
    rows += [(reason, f"{count}") for reason, count in summary.counts.items()]
    for row in rows:
        table.add_row(*row)
    table.caption = "measured on all events, warm-up too"
    return table


def _field_table(field: str, horizons: Sequence[HorizonSummary]) -> Table:
    table = Table(title=field, title_justify="left")
    for name in ("ahead", "judged", "MAE", "RMSE", "skill", "vs day", "coverage", "width"):
        table.add_column(name)
    for of in horizons:
        table.add_row(
            f"{of.horizon}",
            f"{of.forecasts}",
            shown(of.mae, ".5g"),
            shown(of.rmse, ".5g"),
            shown(of.skill, "+.3f"),
            shown(of.seasonal_skill, "+.3f"),
            shown(of.coverage, ".1%"),
            shown(of.mean_width, ".5g"),
        )
    return table


def shown(number: float | None, form: str) -> str:
    """Return a number in a form, a dash for none."""
    return "-" if number is None else format(number, form)


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


def budget_table(name: str, spec: PipelineSpec, speed: Speed, keeps: bool = False) -> Table:
    """Return the memory ceilings of a pipeline and its time per event; `keeps`: there is a state directory."""
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
    if keeps:
        words = f"beside the sum, while one is written; the disk has {GENERATIONS}, and that one"
        table.add_row("checkpoint copy", _mib(cost.saved), words)
        each = (cost.streams + cost.ranks) / spec.limits.keys
        words = f"on the disk, of {spec.limits.parked} keys let go, when all have seen much"
        table.add_row("parked streams", _mib(round(each * spec.limits.parked)), words)
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
