"""Health: whether the service lives, and whether it does its work, for those who ask over HTTP.

Asked on threads of the HTTP server: everything here only reads what the event loop writes.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from streamrnn.config import Config
from streamrnn.edges.http import Answer
from streamrnn.edges.mqtt import Connection
from streamrnn.edges.store import Store
from streamrnn.serving.lane import Lane
from streamrnn.versions import versions

PATIENCE_S = 5.0  # until a loop that does not answer is said to be stuck


class Watched(Protocol):
    """What is looked at of a service."""

    @property
    def config(self) -> Config: ...
    @property
    def lanes(self) -> Sequence[Lane]: ...
    @property
    def connection(self) -> Connection | None: ...
    @property
    def store(self) -> Store | None: ...
    @property
    def ready(self) -> asyncio.Event: ...
    @property
    def connected(self) -> asyncio.Event: ...
    @property
    def stopping(self) -> asyncio.Event: ...


class Health:
    """Answers `/live`, `/ready` and `/version`.

    Parameters
    ----------
    watched
        The service.
    loop
        That it runs on.
    """

    def __init__(self, watched: Watched, loop: asyncio.AbstractEventLoop) -> None:
        self.watched = watched
        self.loop = loop

    def live(self, _accept: str) -> Answer:
        """200 when the event loop answers, which it does while kernels are compiled too; else 503."""
        answered = threading.Event()
        try:
            self.loop.call_soon_threadsafe(answered.set)
        except RuntimeError:  # closed
            return _json(503, {"status": "stopped"})
        if not answered.wait(PATIENCE_S):
            return _json(503, {"status": "stuck", "why": [f"the event loop has not answered for {PATIENCE_S:g} s"]})
        return _json(200, {"status": "alive"})

    def ready(self, _accept: str) -> Answer:
        """200 while events are taken, answered and kept; else 503 with the reasons why not."""
        why = obstacles(self.watched)
        return _json(503, {"status": "not ready", "why": why}) if why else _json(200, {"status": "ready"})

    def version(self, _accept: str) -> Answer:
        """Tell the versions."""
        return _json(200, versions())


def obstacles(watched: Watched) -> list[str]:
    """Return why events are not taken, answered or kept at present; empty when they are."""
    if watched.stopping.is_set():
        return ["stopping"]
    if watched.connection is None:
        return ["starting: kernels are compiled, or what was kept is recovered"]
    why = []
    if not watched.connected.is_set():
        why.append("not connected to the broker")
    elif not watched.ready.is_set():
        why.append("subscriptions are not granted yet")
    if watched.store is not None and watched.store.fault is not None:
        why.append(f"not keeping: {watched.store.fault}")
    return why


def _json(status: int, told: dict[str, Any]) -> Answer:
    return Answer(status, "application/json", msgspec.json.encode(told) + b"\n")
