"""Compile what a pipeline will run before its first event comes, with the real shapes."""

from __future__ import annotations

import logging
from typing import Any

import msgspec

from streamrnn.budget import budget
from streamrnn.build import build_pipeline
from streamrnn.events import Message, Record
from streamrnn.kernels.jit import seal
from streamrnn.pipeline import Pipeline
from streamrnn.settings.specs import Pipeline as PipelineSpec

log = logging.getLogger(__name__)


def sample_messages(spec: PipelineSpec, count: int) -> list[Message]:
    """Return messages such a pipeline takes: a saw-tooth for numbers, a short alphabet for symbols."""
    messages = []
    for i in range(count):
        record: Record
        if spec.input.symbol:
            record = {spec.input.symbol: "abcd"[i % 4]}
        elif spec.input.symbols:
            record = {"text": "abcd"[i % 4]}
        else:
            record = {field: float(i % 7) for field in spec.input.fields}
        messages.append(Message("warm", record, key="warm", arrival=float(i)))
    return messages


def warm_aloud(name: str, spec: PipelineSpec) -> None:
    """`warm`, and say so: it may take a minute. Say, too, when the pipeline may need more memory than it should."""
    ceiling = budget(spec).total
    if ceiling > spec.limits.memory_mb * 2**20:
        log.warning("%s: may need %d MiB with all its keys, above limits.memory_mb", name, ceiling >> 20)
    log.info("%s: compiling kernels, or loading them from the cache", name)
    warm(spec)


def warm(spec: PipelineSpec) -> None:
    """Drive a twin of the pipeline through its first updates, and seal the machine code for the next start."""
    # Whatever the configuration says of learn.every: an update at every event, so that one comes soon.
    spec = msgspec.structs.replace(spec, learn=msgspec.structs.replace(spec.learn, every=1))
    twin: Pipeline[Any] = build_pipeline("warm", spec, 0)
    for message in sample_messages(spec, spec.learn.length + 3):
        twin.process_all(message)
    twin.close()
    seal()
