"""How things are timed: on one core, ours and the peers by turns, so that what disturbs one disturbs all."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

Contestant = Callable[[], float]
"""Runs once, and returns the number that it is measured by."""

Peers = dict[str, Contestant | None]
"""By name; None for what is not installed."""


@dataclass(frozen=True)
class Effort:
    """How long to measure."""

    repeats: int  # of what is short ...
    few: int  # ... and of what takes seconds
    loop_s: float  # of a loop over something short
    events: int  # of a replay
    symbols: int
    slow_events: int  # of a replay by a peer that takes long
    messages: int  # through a broker, in a repeat
    pace_s: float  # of messages at a given rate, in a repeat
    cold: bool  # whether to start with an empty cache


FULL = Effort(15, 3, 0.05, 50_000, 15_000, 2000, 10_000, 5.0, True)
QUICK = Effort(2, 2, 0.02, 6000, 4000, 200, 2000, 1.0, False)


@contextmanager
def one_core() -> Iterator[int]:
    """Keep this thread, and those it starts, on one core."""
    before = os.sched_getaffinity(0)
    core = max(before)
    os.sched_setaffinity(0, {core})
    try:
        yield core
    finally:
        os.sched_setaffinity(0, before)


def loop(function: Callable[[], object], effort: Effort) -> Contestant:
    """Return what measures the microseconds of a call: the processor's, whoever else may use it meanwhile."""
    function()
    began = time.process_time()
    function()
    count = max(3, int(effort.loop_s / max(time.process_time() - began, 1e-6)))

    def measure() -> float:
        started = time.process_time()
        for _ in range(count):
            function()
        return 1e6 * (time.process_time() - started) / count

    return measure


def counted(function: Callable[[int], object], effort: Effort) -> Contestant:
    """`loop` for a function that is told how many turns to make, of one turn."""
    count = 16
    while True:
        began = time.process_time()
        function(count)
        taken = time.process_time() - began
        if taken > effort.loop_s / 4:
            break
        count *= 2

    def measure() -> float:
        started = time.process_time()
        function(count)
        return 1e6 * (time.process_time() - started) / count

    return measure


def by_turns(
    ours: Contestant, peers: Mapping[str, Contestant | None], repeats: int
) -> tuple[list[float], dict[str, Sequence[float] | None]]:
    """Measure ours and each peer, then all again."""
    own: list[float] = []
    others: dict[str, list[float]] = {name: [] for name, peer in peers.items() if peer is not None}
    for _ in range(repeats):
        own.append(ours())
        for name, values in others.items():
            peer = peers[name]
            assert peer is not None
            values.append(peer())
    return own, {name: others.get(name) for name in peers}
