"""What a pipeline costs on this computer, measured, and with its ceilings as a table for people."""

from __future__ import annotations

import time

import msgspec
from rich.table import Table

from streamrnn.budget import Budget, budget
from streamrnn.build import build_pipeline
from streamrnn.edges.checkpoint import GENERATIONS
from streamrnn.settings.specs import Pipeline as PipelineSpec
from streamrnn.warm import sample_messages, warm

EVENTS, UPDATES = 200, 10  # timed to tell what one takes


class Speed(msgspec.Struct, frozen=True):
    """Microseconds per event of a pipeline on this computer."""

    answering: float
    learning: float  # answering and learning


def measure_speed(spec: PipelineSpec) -> Speed:
    """Time a pipeline over events of its own shape; the first time this compiles its kernels."""
    warm(spec)
    learn = spec.learn
    fixed = msgspec.structs.replace(spec, learn=msgspec.structs.replace(learn, enabled=False))
    answering = _time_per_event(fixed, EVENTS, EVENTS)
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
