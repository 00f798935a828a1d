"""Compile what a pipeline will run before its first event comes, with the real shapes."""

from __future__ import annotations

from typing import Any

import msgspec

from streamrnn.build import build_pipeline
from streamrnn.events import Message, Record
from streamrnn.kernels.jit import seal
from streamrnn.pipeline import Pipeline
from streamrnn.specs import Pipeline as PipelineSpec


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


def warm(spec: PipelineSpec) -> None:
    """Drive a twin of the pipeline through its first updates, and seal the machine code for the next start."""
    # Whatever the configuration says of learn.every: an update at every event, so that one comes soon.
    spec = msgspec.structs.replace(spec, learn=msgspec.structs.replace(spec.learn, every=1))
    twin: Pipeline[Any] = build_pipeline("warm", spec, 0)
    for message in sample_messages(spec, spec.learn.length + 3):
        twin.process_all(message)
    twin.close()
    seal()
