"""What commands print with `--json`: as for people, but for programs. Keys are added, and keep their meaning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from streamrnn.budget import budget
from streamrnn.config import Config
from streamrnn.cost import Speed


def encoded(document: Any) -> str:
    """Return a document as JSON for people to read as well."""
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode()


def check_document(config: Config, speeds: Mapping[str, Speed]) -> dict[str, Any]:
    """Return what `check` tells of a configuration: all its values, and what each pipeline may cost."""
    return {
        "config": msgspec.to_builtins(config),
        "pipelines": {name: _pipeline(config, name, speeds[name]) for name in config.pipelines},
    }


def _pipeline(config: Config, name: str, speed: Speed) -> dict[str, Any]:
    spec = config.pipelines[name]
    cost = budget(spec)
    limit = spec.limits.memory_mb * 2**20
    return {
        "parameters": cost.parameters,
        "memory_bytes": {
            "weights": cost.weights,
            "replay_window": cost.window,
            "ngram": cost.counts,
            "streams": cost.streams,
            "detectors": cost.ranks,
            "sum": cost.total,
            "limit": limit,
        },
        "within_limit": cost.total <= limit,
        "checkpoint_copy_bytes": cost.saved if config.state is not None else 0,
        "history_events": cost.history,
        "microseconds_per_event": {"answering": speed.answering, "with_learning": speed.learning},
    }
