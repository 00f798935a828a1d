"""A row of the table: what was measured, the goal, and peers measured in the same run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Goal:
    """At most (or, of a rate, at least) a number; with a peer, that many times as good as the peer."""

    text: str
    limit: float
    peer: str = ""


@dataclass
class Row:
    """Numbers of ours, one for each repeat, and of each peer; None for a peer that is not installed."""

    name: str
    unit: str
    values: Sequence[float]
    goals: Sequence[Goal] = ()
    peers: Mapping[str, Sequence[float] | None] = field(default_factory=dict)
    more_is_better: bool = False
    error: str = ""
    note: str = ""

    def times(self, peer: str) -> float | None:
        """How many times as good as a peer, in the median over repeats that were measured side by side."""
        others = self.peers.get(peer)
        if not others or not self.values:
            return None
        ours, theirs = np.array(self.values), np.array(others)
        if len(ours) != len(theirs):
            ours, theirs = np.median(ours, keepdims=True), np.median(theirs, keepdims=True)
        return float(np.median(ours / theirs if self.more_is_better else theirs / ours))

    def met(self, goal: Goal) -> bool | None:
        """Whether a goal is met; None when its peer is absent."""
        if goal.peer:
            times = self.times(goal.peer)
            return None if times is None else times >= goal.limit
        middle = median(self.values)
        return middle >= goal.limit if self.more_is_better else middle <= goal.limit

    def as_dict(self) -> dict[str, Any]:
        """The row for a JSON document."""
        return {
            "name": self.name,
            "unit": self.unit,
            **summary(self.values),
            "peers": {
                name: None if values is None else summary(values) | {"times": self.times(name)}
                for name, values in self.peers.items()
            },
            "goals": [{"goal": goal.text, "met": self.met(goal)} for goal in self.goals if self.values],
            "error": self.error or None,
            "note": self.note or None,
        }


def median(values: Sequence[float]) -> float:
    """Median of the repeats."""
    return float(np.median(values))


def summary(values: Sequence[float]) -> dict[str, Any]:
    """Median, quartiles and the numbers themselves."""
    if not values:
        return {"median": None, "low": None, "high": None, "values": []}
    low, middle, high = np.percentile(values, (25, 50, 75)).tolist()
    return {"median": middle, "low": low, "high": high, "values": list(values)}
